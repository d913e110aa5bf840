"""Every route to a p-value, as a function of a scheme with a random key and a suspect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import radscore as rs
from radscore.audits.closed import test_closed
from radscore.audits.open import test_open

from tools.calibration.models import Habits, Induction
from tools.calibration.world import SUSPECTS, VOCAB, Rows, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.schemes import Scheme

__all__ = ["LENGTH", "N_TEXTS", "ROUTES", "Route", "answers_of", "membership"]

N_TEXTS, LENGTH = 12, 40  # texts, and tokens in each

#: Takes a scheme under a random key, a world and a suspect's name; returns the log10 p-value.
Route: TypeAlias = "Callable[[Scheme, World, str], float]"


def answers_of(world: World, suspect: str, read: Rows) -> Rows:
    """What a suspect says after reading, as many tokens as there are in a text."""
    return SUSPECTS[suspect](world, read, LENGTH)


def plain(scheme: Scheme, world: World, suspect: str) -> float:
    """Documents, a third of which repeat others."""
    said = answers_of(world, suspect, world.text(N_TEXTS, LENGTH))
    documents = np.concatenate([said, said[::2]])
    return rs.score(documents, scheme, threads=1).log10_pvalue


def counts(scheme: Scheme, world: World, suspect: str) -> float:
    """Answers, weighted by how often each window occurs."""
    said = answers_of(world, suspect, world.text(N_TEXTS, LENGTH))
    return test_closed(said, scheme, weighting="counts", threads=1).log10_pvalue


def free_filter(scheme: Scheme, world: World, suspect: str) -> float:
    """Answers to unmarked prompts, filtered by the frequent contexts of the prompts."""
    read = world.text(N_TEXTS, LENGTH)
    phi = rs.KgramSet.from_documents(
        read, scheme.window_width - 1, VOCAB, top=150, watermarked=False
    )
    said = answers_of(world, suspect, read)
    return test_closed(said, scheme, filter=phi, both=True, threads=1).log10_pvalue


def marked_filter(scheme: Scheme, world: World, suspect: str) -> float:
    """Answers to other prompts, filtered by all contexts of marked text."""
    marked = world.text(N_TEXTS, LENGTH, scheme)
    phi = rs.KgramSet.from_documents(marked, scheme.window_width - 1, VOCAB, watermarked=True)
    said = answers_of(world, suspect, world.text(N_TEXTS, LENGTH))
    return test_closed(said, scheme, filter=phi, threads=1).log10_pvalue


def marked_prompts(scheme: Scheme, world: World, suspect: str) -> float:
    """Answers to prompts that carry the mark, which is declared."""
    prompts = world.text(N_TEXTS, LENGTH, scheme)
    said = answers_of(world, suspect, prompts)
    given: dict[str, Any] = {"prompts": prompts, "prompts_watermarked": True, "threads": 1}
    return test_closed(said, scheme, **given).log10_pvalue


def short_prompts(scheme: Scheme, world: World, suspect: str) -> float:
    """Many answers that end with a short marked prompt, which holds no whole context."""
    prompts = world.text(5 * N_TEXTS, max(scheme.window_width - 1, 2), scheme)
    said = np.column_stack([world.text(5 * N_TEXTS, 8), answers_of(world, suspect, prompts)[:, :8]])
    given: dict[str, Any] = {"prompts": prompts, "prompts_watermarked": True, "threads": 1}
    return test_closed(said, scheme, **given).log10_pvalue


def own_prompts(scheme: Scheme, world: World, suspect: str) -> float:
    """A corpus of documents with marked prompts: nothing is declared, nothing checked."""
    prompts = world.text(N_TEXTS, LENGTH, scheme)
    said = answers_of(world, suspect, prompts)
    return rs.score(said, scheme, prompts=prompts, threads=1).log10_pvalue


def unsaid_prompts(scheme: Scheme, world: World, suspect: str) -> float:
    """Undeclared marked prompts, which the test must notice."""
    prompts = world.text(N_TEXTS, LENGTH, scheme)
    said = answers_of(world, suspect, prompts)
    return test_closed(said, scheme, prompts=prompts, threads=1).log10_pvalue


def hidden_prompts(scheme: Scheme, world: World, suspect: str) -> float:
    """The planted mistake: the prompts carry the mark, and the test is not shown them."""
    prompts = world.text(N_TEXTS, LENGTH, scheme)
    return test_closed(answers_of(world, suspect, prompts), scheme, threads=1).log10_pvalue


def closed_contrast(scheme: Scheme, world: World, suspect: str) -> float:
    """Answers to marked prompts, against those of another clean model, which loops."""
    prompts = world.text(N_TEXTS, LENGTH, scheme)
    said, other = answers_of(world, suspect, prompts), answers_of(world, "loops", prompts)
    given: dict[str, Any] = {"prompts": prompts, "reference_prompts": prompts, "threads": 1}
    return test_closed(
        said, scheme, reference=other, prompts_watermarked=True, **given
    ).log10_pvalue


def _read(scheme: Scheme, texts: list[Rows], **options: Any) -> float:
    model = Induction.of(VOCAB)
    return test_open(model, texts, scheme, min_weight=0.01, threads=1, **options).log10_pvalue


def clean_text(scheme: Scheme, world: World, suspect: str) -> float:
    """A model that continues what it reads, on text without any mark."""
    del suspect
    return _read(scheme, [*world.loops(world.text(N_TEXTS, LENGTH), 2 * LENGTH)])


def contaminated_text(scheme: Scheme, world: World, suspect: str) -> float:
    """The same, with one text in twenty that carries the mark and repeats itself, undeclared."""
    del suspect
    marked = world.copies(world.text(1, LENGTH // 2, scheme), 3 * LENGTH)
    return _read(scheme, [*world.text(19, LENGTH), *marked])


def chosen_contexts(scheme: Scheme, world: World, suspect: str) -> float:
    """The same, at positions whose contexts other, unmarked text has."""
    del suspect
    counts = rs.KgramCounts(scheme.window_width - 1, VOCAB, watermarked=False)
    counts.add(world.text(4 * N_TEXTS, LENGTH))
    marked = world.copies(world.text(1, LENGTH // 2, scheme), 3 * LENGTH)
    return _read(scheme, [*world.text(19, LENGTH), *marked], contexts=counts)


def marked_text(scheme: Scheme, world: World, suspect: str) -> float:
    """A model that continues what it reads, on text that carries the mark, which is declared."""
    del suspect
    return _read(scheme, [*world.text(N_TEXTS, LENGTH, scheme)], text_watermarked=True)


def open_contrast(scheme: Scheme, world: World, suspect: str) -> float:
    """The same, against a clean model that does not look back."""
    del suspect
    texts = [*world.text(N_TEXTS, LENGTH, scheme)]
    given = {"reference": Habits.of(world.habits, VOCAB), "text_watermarked": True}
    return _read(scheme, texts, **given)


def open_damped(scheme: Scheme, world: World, suspect: str) -> float:
    """Contrasts that add up, on text of which one in twenty carries the mark and repeats itself.

    Against the mean of two clean models, of which one knows another language.
    """
    del suspect
    marked = world.copies(world.text(1, LENGTH // 2, scheme), 3 * LENGTH)
    texts = [*world.text(19, LENGTH), *marked]
    clean = [Habits.of(habits, VOCAB) for habits in (world.habits, world.habits[::-1].copy())]
    return _read(scheme, texts, reference=clean)


def _matched(scheme: Scheme, texts: list[Rows], world: World, *, marked: bool) -> float:
    return test_open(
        Induction.of(VOCAB),
        texts,
        scheme,
        reference=Habits.of(world.habits, VOCAB),
        weighting="matched",
        max_weights=32,
        text_watermarked=marked,
        threads=1,
    ).log10_pvalue


def matched(scheme: Scheme, world: World, suspect: str) -> float:
    """Matched scores of a model that continues unmarked text, which copies, quotes or loops."""
    texts = [*answers_of(world, suspect, world.text(N_TEXTS, LENGTH))]
    return _matched(scheme, texts, world, marked=False)


def matched_marked(scheme: Scheme, world: World, suspect: str) -> float:
    """The same on text that carries the mark, which is declared."""
    texts = [*answers_of(world, suspect, world.text(N_TEXTS, LENGTH, scheme))]
    return _matched(scheme, texts, world, marked=True)


def membership(world: World) -> float:
    """Members and non-members of one kind, with similar sentences within a document; no key."""
    from radscore.audits.membership import test_membership

    rows = [*world.loops(world.text(30, LENGTH), 4 * LENGTH)]
    result = test_membership(
        Induction.of(VOCAB), rows[::2], rows[1::2], length=LENGTH, calibration="none"
    )
    return math.log10(result.pvalue)


def any_time(scheme: Scheme, world: World, suspect: str) -> float:
    """Documents that arrive one by one, some of them again, with a look after each."""
    if scheme.core.residues:
        return math.nan  # no new window is a new draw
    said = answers_of(world, suspect, world.text(N_TEXTS, LENGTH))
    documents = np.concatenate([said, said[::2]])
    looks = np.cumsum([len(row) for row in documents])[:-1].tolist()
    result = rs.score(documents, scheme, threads=1, curve=looks, anytime=True)
    assert result.anytime is not None
    return result.anytime.log10_pvalue


_ALL: Final = tuple(SUSPECTS)
_PROMPTED: Final = ("copies", "quotes", "continues", "loops")
_READS: Final = ("continues",)

#: The routes, and the suspects that each is tried on.
ROUTES: Final[dict[str, tuple[Route, tuple[str, ...]]]] = {
    "plain": (plain, _ALL),
    "counts": (counts, ("quotes", "loops")),
    "filter, unmarked text": (free_filter, ("copies", "continues")),
    "filter, marked text": (marked_filter, ("quotes", "loops")),
    "marked prompts": (marked_prompts, _PROMPTED),
    "short marked prompts": (short_prompts, ("copies",)),
    "corpus with marked prompts": (own_prompts, ("copies", "quotes")),
    "marked prompts, unsaid": (unsaid_prompts, ("quotes",)),
    "contrast, marked prompts": (closed_contrast, ("quotes", "continues")),
    "open, clean text": (clean_text, _READS),
    "open, contaminated text": (contaminated_text, _READS),
    "open, marked text": (marked_text, _READS),
    "open, marked text, contrast": (open_contrast, _READS),
    "open, contaminated text, filter": (chosen_contexts, _READS),
    "open, contaminated text, contrast": (open_damped, _READS),
    "open, matched": (matched, _PROMPTED),
    "open, matched, marked text": (matched_marked, _PROMPTED),
    "any time": (any_time, _ALL),
}
