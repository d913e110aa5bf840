"""Each document as a test of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore import _core
from radscore.arguments import (
    Dedup,
    PromptRole,
    check_reach,
    check_rules,
    check_start,
    check_threads,
    one_scheme,
)
from radscore.documents import Documents, DocumentsLike, check_width
from radscore.results import DocumentScores, Positions
from radscore.scoring import depth_weights, notes_of

if TYPE_CHECKING:
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme

__all__ = ["score_documents", "score_positions"]


def score_documents(
    documents: DocumentsLike,
    scheme: Scheme,
    dedup: Dedup = "unit",
    *,
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    max_contexts: int | None = None,
) -> DocumentScores:
    """Tests each document on its own: repetitions count once within a document.

    Parameters
    ----------
    max_contexts : int, optional
        Score only the first so many distinct contexts of a document (SGLang forces at most the
        first 4,096 of one generation).
    documents, scheme, dedup, prompts, filter, start, threads, prompt_role
        As in `score`.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score_documents([[1, 2, 3, 1, 2], [7]], scheme).n_scored.tolist()
    [3, 0]
    """
    scheme = one_scheme(scheme)
    check_rules(dedup, prompt_role, filter)
    check_reach([scheme], prompt_role)
    columns = _core.score_documents(
        *_arguments(documents, scheme, prompts, filter),
        dedup=dedup,
        start=check_start(start),
        prompt_role=prompt_role,
        threads=check_threads(threads),
        max_contexts=_most(max_contexts),
    )
    n_scored = columns["n_scored"]
    statistic = columns["statistic"]
    law = scheme.null_law
    depths = columns.pop("depth_counts", None)
    if depths is not None:
        weights = depth_weights(scheme)
        statistic = depths.reshape(len(n_scored), len(weights)) @ weights
    log10_pvalue = np.zeros(len(n_scored))
    some = n_scored > 0
    if dedup == "none":
        log10_pvalue[:] = math.nan
    elif some.any():
        log10_pvalue[some] = law.log10_sf(statistic[some], n_scored[some])
    return DocumentScores(
        n_windows=columns["n_windows"],
        n_excluded=columns["n_excluded"],
        n_filtered=columns["n_filtered"],
        n_duplicates=columns["n_duplicates"],
        n_keyless=columns["n_keyless"],
        n_scored=n_scored,
        statistic=statistic,
        pvalue=10.0**log10_pvalue,
        log10_pvalue=log10_pvalue,
        method=scheme.null_law.method,
        notes=notes_of(scheme, dedup),
        scheme=scheme.name,
        fingerprint=scheme.fingerprint,
        dedup=dedup,
        start=start,
        prompt_role=prompt_role,
        filter=None if filter is None else filter.fingerprint,
        max_contexts=max_contexts,
    )


def score_positions(
    documents: DocumentsLike,
    scheme: Scheme,
    dedup: Dedup = "unit",
    *,
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    max_contexts: int | None = None,
) -> Positions:
    """Why each token is scored or not, and its score; each document on its own.

    Parameters are those of `score_documents`; the arrays of the result follow the tokens of the
    documents, one after the other.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score_positions([1, 2, 1, 2], scheme).status.tolist()
    [1, 0, 0, 4]
    """
    scheme = one_scheme(scheme)
    check_rules(dedup, prompt_role, filter)
    check_reach([scheme], prompt_role)
    status, scores = _core.score_positions(
        *_arguments(documents, scheme, prompts, filter),
        dedup=dedup,
        start=check_start(start),
        prompt_role=prompt_role,
        threads=check_threads(threads),
        max_contexts=_most(max_contexts),
    )
    return Positions(status, scores)


def _arguments(
    documents: DocumentsLike,
    scheme: Scheme,
    prompts: DocumentsLike | None,
    phi: KgramSet | None,
) -> tuple[Any, Any, Any, Any]:
    """Scheme, documents, prompts and filter as the core takes them."""
    ragged = Documents.of(documents)
    before = None if prompts is None else Documents.of(prompts)
    return (
        scheme.core,
        (ragged.values, ragged.offsets),
        None if before is None else (before.values, before.offsets),
        None if phi is None else phi.core,
    )


def _most(max_contexts: int | None) -> int | None:
    return None if max_contexts is None else check_width("max_contexts", max_contexts, 1, 2**62)
