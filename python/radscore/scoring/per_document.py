"""Each document as a test of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore import _core
from radscore.checks import (
    Dedup,
    PromptRole,
    check_reach,
    check_rules,
    check_start,
    check_threads,
    one_scheme,
)
from radscore.documents import Documents, DocumentsLike, check_width
from radscore.provenance import provenance
from radscore.results import DocumentScores, Positions
from radscore.scoring.evidence import depth_weights
from radscore.scoring.notes import filter_notes, notes_of, prompt_notes, why_no_pvalue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme

__all__ = [
    "MAX_SHARING",
    "check_sharing",
    "score_batch",
    "score_batches",
    "score_documents",
    "score_positions",
]

#: Number of documents in which a unit is evidence, by default.
MAX_SHARING = 8

_EACH = (
    "max_sharing=None counts a unit in every document that holds it: each p-value is valid for its "
    "document alone, but an unlucky key finds all documents with one header at once"
)


def score_documents(
    documents: DocumentsLike,
    scheme: Scheme,
    *,
    dedup: Dedup = "unit",
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    max_contexts: int | None = None,
    max_sharing: int | None = MAX_SHARING,
) -> DocumentScores:
    """Tests each document on its own: repetitions count once within a document.

    Under one key a unit has the same score wherever it occurs, so documents that share text are not
    independent. What they share is evidence in the first `max_sharing` of them only, and documents
    with exactly the same units are one test, whose result they all have (`copy_of`).

    Parameters
    ----------
    documents, scheme, dedup, prompts, filter, start, threads, prompt_role
        As in `score`.
    max_contexts : int, optional
        Score only this many distinct contexts of a document, the first ones (SGLang marks at most
        the first 4,096 of one generation).
    max_sharing : int or None, default 8
        In how many documents, in reading order, a unit is evidence: from 1 (no two documents have
        evidence in common, so their p-values are independent) to 255; None for all.

    Returns
    -------
    DocumentScores

    Raises
    ------
    ArgumentError, TokenError
        If an argument is not allowed, or an id is outside the vocabulary.

    Notes
    -----
    Which units a document keeps depends on the text and on which units are equal (where a seeding
    takes the minimum of hashes, say, that depends on the key), never on a score; so its law is that
    of the units it keeps. Units are compared by 56 bits of a fingerprint: of n distinct units two
    are taken for one with probability n^2 / 2^57, which drops evidence and invents none. The
    comparison takes about 10 bytes per distinct unit.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> rs.score_documents([[1, 2, 3, 1, 2], [7]], scheme).n_scored.tolist()
    [3, 0]
    >>> scores = rs.score_documents([[1, 2, 3], [1, 2, 4], [1, 2, 4]], scheme, max_sharing=1)
    >>> scores.n_scored.tolist(), scores.n_shared.tolist(), scores.copy_of.tolist()
    ([2, 1, 1], [0, 1, 1], [-1, -1, 1])
    """
    own = Documents.of(documents)
    return score_batches(
        [(own, None if prompts is None else Documents.of(prompts, "prompts"))],
        scheme,
        dedup=dedup,
        filter=filter,
        start=start,
        threads=threads,
        prompt_role=prompt_role,
        max_contexts=max_contexts,
        max_sharing=max_sharing,
    )


def score_batches(
    batches: Iterable[tuple[Documents, Documents | None]],
    scheme: Scheme,
    *,
    max_sharing: int | None,
    **options: Any,
) -> DocumentScores:
    """`score_documents` of batches of documents and prompts, with the result of a single one."""
    most = check_sharing(max_sharing)
    sharing = None if most is None else _core.Sharing(most)
    parts = [
        score_batch(
            documents, scheme, prompts=prompts, max_sharing=most, sharing=sharing, **options
        )
        for documents, prompts in batches
    ]
    found = parts[0] if len(parts) == 1 else _together(parts)
    copies = found.copy_of >= 0
    first = found.copy_of[copies]
    for name in ("n_shared", "n_scored", "n_common", "statistic", "zscore", "log10_pvalue"):
        column = getattr(found, name)
        column[copies] = column[first]
    return found


def _together(parts: list[DocumentScores]) -> DocumentScores:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, np.ndarray)
    }
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return parts[0].replace(**columns | {"index": np.empty(0, np.int64)}, notes=tuple(notes))


def check_sharing(max_sharing: int | None) -> int | None:
    """`max_sharing`, if it is a number of documents or None for all."""
    return None if max_sharing is None else check_width("max_sharing", max_sharing, 1, 255)


def score_batch(
    documents: DocumentsLike,
    scheme: Scheme,
    *,
    dedup: Dedup,
    prompts: DocumentsLike | None,
    filter: KgramSet | None,
    start: int | None,
    threads: int | None,
    prompt_role: PromptRole,
    max_contexts: int | None,
    max_sharing: int | None,
    sharing: _core.Sharing | None,
) -> DocumentScores:
    """Scores some documents of a corpus, after those that `sharing` has seen.

    `copy_of` counts from the first document that `sharing` saw. Copies have no units here: the
    caller fills in the numbers of the document that they copy.
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
        sharing=sharing,
    )
    n_scored = columns["n_scored"]
    statistic = columns["statistic"]
    law = scheme.null_law
    depths = columns.pop("depth_counts", None)
    if depths is not None:
        weights = depth_weights(scheme)
        # Not a product of matrices, whose rounding goes by how many documents there are.
        statistic = (depths.reshape(len(n_scored), len(weights)) * weights).sum(axis=1)
    log10_pvalue = np.zeros(len(n_scored))
    some = n_scored > 0
    zscore = np.full(len(n_scored), math.nan)
    if dedup != "none":
        n = n_scored[some].astype(np.float64)
        zscore[some] = (statistic[some] - law.mean * n) / np.sqrt(law.variance * n)
    why = why_no_pvalue(dedup, filter)
    if why is not None:
        log10_pvalue[:] = math.nan
    elif some.any():
        log10_pvalue[some] = law.log10_sf(statistic[some], n_scored[some])
    method = scheme.null_law.method
    if why is not None:
        method = f"none: {why}"
    elif notes_of(scheme, dedup, key=False):
        method = f"approximate: {method}"
    assumed = prompt_notes(scheme, prompt_role, int(columns["n_excluded"].sum()))
    notes = (*notes_of(scheme, dedup), *filter_notes(filter), *assumed)
    if max_sharing is None and dedup != "none" and len(n_scored) > 1:
        notes += (_EACH,)
    return DocumentScores(
        n_windows=columns["n_windows"],
        n_excluded=columns["n_excluded"],
        n_filtered=columns["n_filtered"],
        n_duplicates=columns["n_duplicates"],
        n_keyless=columns["n_keyless"],
        n_shared=columns["n_shared"],
        n_scored=n_scored,
        n_common=columns["n_common"],
        copy_of=columns["copy_of"],
        statistic=statistic,
        zscore=zscore,
        log10_pvalue=log10_pvalue,
        method=method,
        notes=notes,
        scheme=scheme.name,
        fingerprint=scheme.fingerprint,
        dedup=dedup,
        start=start,
        prompt_role=prompt_role,
        filter=None if filter is None else filter.fingerprint,
        max_contexts=max_contexts,
        max_sharing=max_sharing,
        provenance=provenance(scheme=scheme),
    )


def score_positions(
    documents: DocumentsLike,
    scheme: Scheme,
    *,
    dedup: Dedup = "unit",
    prompts: DocumentsLike | None = None,
    filter: KgramSet | None = None,
    start: int | None = None,
    threads: int | None = None,
    prompt_role: PromptRole = "exclude",
    max_contexts: int | None = None,
) -> Positions:
    """Why each token is scored or not, and its score, in each document on its own.

    Parameters are those of `score_documents`; other documents make no difference. The arrays of the
    result follow the tokens of the documents, one after the other.

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
    """`max_contexts`, if it is a number of contexts or None for all."""
    return None if max_contexts is None else check_width("max_contexts", max_contexts, 1, 2**62)
