"""From documents to a tally: windows, exclusion, filter, deduplication, weights, sums.

The order of the rules is the law's: exclusion and filter first, then deduplication.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from radscore._reference.schemes import PADDING, Scheme, Score, Window

__all__ = [
    "Combine",
    "Dedup",
    "Entry",
    "Position",
    "Scorer",
    "Tally",
    "count_kgrams",
    "curve",
    "per_document",
    "positions",
    "top_kgrams",
    "windows_of",
]

Tokens = Sequence[int]
Dedup = Literal["unit", "window", "context", "none"]
Combine = Literal["one", "sum"]
Fate = Literal["excluded", "filtered", "duplicate", "scored"]


def windows_of(
    document: Tokens, scheme: Scheme, start: int | None = None
) -> Iterator[tuple[int, Window]]:
    """Every window of a document with the position of its target.

    `start` is the first position scored, by default the first with a full window; only schemes
    that pad take an earlier one, and put `PADDING` left of the document.
    """
    width = scheme.window_width
    first = width - 1 if start is None else start
    if first < width - 1 and not scheme.pads:
        raise ValueError(f"start must be at least {width - 1}, not {first}")
    for target in range(first, len(document)):
        left = target - (width - 1)
        padding = (PADDING,) * -min(left, 0)
        yield target, (*padding, *document[max(left, 0) : target + 1])


def occurs_in(context: Window, prompt: Tokens) -> bool:
    """Whether a context is a contiguous run of a prompt. An empty context is none."""
    k = len(context)
    return k > 0 and any(tuple(prompt[i : i + k]) == context for i in range(len(prompt) - k + 1))


@dataclass
class Entry:
    """One piece of evidence: what is scored once, and the weight it carries."""

    window: Window
    weight: float


@dataclass(frozen=True)
class Tally:
    """What the tests need of everything added.

    `n_windows = n_excluded + n_filtered + n_duplicates + n_scored`. Sums over depths are tuples,
    one entry a depth.
    """

    n_documents: int
    n_tokens: int
    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    n_scored: int
    #: Sum of scores without weights: greens, Gumbel scores, or counts a depth.
    score_sum: Score
    sum_w: float
    sum_w2: float
    max_abs_w: float
    #: Sum of weight times score.
    sum_ws: float | tuple[float, ...]


@dataclass(frozen=True)
class Position:
    """What became of one position of a document."""

    position: int
    fate: Fate
    score: Score | None


class Scorer:
    """Scores each piece of evidence once.

    Parameters
    ----------
    scheme : Scheme
        The keyed scheme.
    dedup : {"unit", "window", "context", "none"}
        Which windows are the same evidence (section 7).
    combine : {"one", "sum"}
        Whether evidence seen again keeps its first weight or adds the new one. Under `context`
        the window of the first occurrence stays, whatever the later ones' targets are.
    filter : collection of contexts, optional
        Only windows whose context is among them are scored.
    start : int, optional
        First position scored in a document, see `windows_of`.

    Examples
    --------
    >>> from radscore._reference.schemes import HFKGW
    >>> scorer = Scorer(HFKGW(vocab_size=10, context_width=1, gamma=0.5))
    >>> scorer.add([[1, 2, 1, 2, 3]])
    >>> tally = scorer.tally()
    >>> tally.n_windows, tally.n_duplicates, tally.n_scored
    (4, 1, 3)
    """

    def __init__(
        self,
        scheme: Scheme,
        dedup: Dedup = "unit",
        combine: Combine = "one",
        filter: Collection[Window] | None = None,  # noqa: A002
        start: int | None = None,
    ) -> None:
        self.scheme = scheme
        self.dedup = dedup
        self.combine = combine
        self.filter = filter
        self.start = start
        self.n_documents = 0
        self.n_tokens = 0
        self.n_windows = 0
        self.fates: Counter[Fate] = Counter()
        self.entries: dict[Hashable, Entry] = {}

    def add(
        self,
        documents: Iterable[Tokens],
        prompts: Iterable[Tokens | None] | None = None,
        weights: Iterable[Sequence[float]] | None = None,
    ) -> None:
        """Adds documents; `weights` has one weight a token, that of the window it is target of."""
        documents = [list(document) for document in documents]
        n = len(documents)
        prompts = [None] * n if prompts is None else list(prompts)
        weighting = [None] * n if weights is None else list(weights)
        for document, prompt, weight in zip(documents, prompts, weighting, strict=True):
            self.n_documents += 1
            self.n_tokens += len(document)
            for target, window in windows_of(document, self.scheme, self.start):
                self.add_window(window, 1.0 if weight is None else weight[target], prompt)

    def add_pairs(
        self,
        contexts: Iterable[Window],
        targets: Iterable[int],
        weights: Iterable[float] | None = None,
    ) -> None:
        """Adds (context, target, weight) without a document: no exclusion, but the filter."""
        windows = [(*c, t) for c, t in zip(contexts, targets, strict=True)]
        weighting = [1.0] * len(windows) if weights is None else list(weights)
        for window, weight in zip(windows, weighting, strict=True):
            self.add_window(window, weight, None)

    def add_window(self, window: Window, weight: float, prompt: Tokens | None) -> Fate:
        """Adds one window and tells what became of it."""
        self.n_windows += 1
        fate = self._fate(window, weight, prompt)
        self.fates[fate] += 1
        return fate

    def _fate(self, window: Window, weight: float, prompt: Tokens | None) -> Fate:
        context = window[:-1]
        if prompt is not None and occurs_in(context, prompt):
            return "excluded"
        if self.filter is not None and context not in self.filter:
            return "filtered"
        key = self._key(window)
        if key not in self.entries:
            self.entries[key] = Entry(window, weight)
            return "scored"
        if self.combine == "sum":
            self.entries[key].weight += weight
        return "duplicate"

    def _key(self, window: Window) -> Hashable:
        if self.dedup == "unit":
            return self.scheme.unit(window)
        if self.dedup == "window":
            return window
        if self.dedup == "context":
            return window[:-1]
        return len(self.entries)

    def tally(self) -> Tally:
        """The sums over everything added so far."""
        weights = [entry.weight for entry in self.entries.values()]
        scores = [self.scheme.score(entry.window) for entry in self.entries.values()]
        return Tally(
            n_documents=self.n_documents,
            n_tokens=self.n_tokens,
            n_windows=self.n_windows,
            n_excluded=self.fates["excluded"],
            n_filtered=self.fates["filtered"],
            n_duplicates=self.fates["duplicate"],
            n_scored=len(self.entries),
            score_sum=self._weighted(None, scores),
            sum_w=math.fsum(weights),
            sum_w2=math.fsum(w * w for w in weights),
            max_abs_w=max(map(abs, weights), default=0.0),
            sum_ws=self._weighted(weights, scores),
        )

    def _weighted(self, weights: list[float] | None, scores: list[Score]) -> Score:
        """Sum of scores, a sum for each depth where a score has depths."""
        if self.scheme.kind != "depths":
            return _sum(weights, cast("list[float]", scores))
        n_depths = len(cast("tuple[int, ...]", self.scheme.score((0,) * self.scheme.window_width)))
        rows = cast("list[tuple[int, ...]]", scores)
        return tuple(_sum(weights, [row[d] for row in rows]) for d in range(n_depths))


def _sum(weights: list[float] | None, scores: Sequence[float]) -> float:
    """Exact for integers without weights; correctly rounded otherwise."""
    if weights is not None:
        return math.fsum(w * s for w, s in zip(weights, scores, strict=True))
    return sum(scores) if all(isinstance(s, int) for s in scores) else math.fsum(scores)


def per_document(
    documents: Sequence[Tokens],
    scheme: Scheme,
    prompts: Sequence[Tokens | None] | None = None,
    *,
    dedup: Dedup = "unit",
    filter: Collection[Window] | None = None,  # noqa: A002
    start: int | None = None,
) -> list[Tally]:
    """One tally a document: each is a test of its own, with deduplication within it."""
    tallies = []
    for document, prompt in zip(documents, prompts or [None] * len(documents), strict=True):
        scorer = Scorer(scheme, dedup, filter=filter, start=start)
        scorer.add([document], [prompt])
        tallies.append(scorer.tally())
    return tallies


def positions(
    document: Tokens,
    scheme: Scheme,
    prompt: Tokens | None = None,
    *,
    dedup: Dedup = "unit",
    filter: Collection[Window] | None = None,  # noqa: A002
    start: int | None = None,
) -> list[Position]:
    """What became of each window of one document, and the score of those that count."""
    scorer = Scorer(scheme, dedup, filter=filter, start=start)
    found = []
    for target, window in windows_of(document, scheme, start):
        fate = scorer.add_window(window, 1.0, prompt)
        score = scheme.score(window) if fate == "scored" else None
        found.append(Position(target, fate, score))
    return found


def curve(
    documents: Sequence[Tokens],
    scheme: Scheme,
    steps: Sequence[int],
    dedup: Dedup = "unit",
    start: int | None = None,
) -> list[tuple[int, int, Score]]:
    """(tokens seen, n_scored, score sum) after each number of tokens, documents in order."""
    points = []
    for step in steps:
        scorer = Scorer(scheme, dedup, start=start)
        left = step
        for document in documents:
            scorer.add([document[: max(left, 0)]])
            left -= len(document)
        tally = scorer.tally()
        points.append((step, tally.n_scored, tally.score_sum))
    return points


def count_kgrams(documents: Iterable[Tokens], k: int) -> Counter[Window]:
    """How often each run of k tokens occurs, never across documents.

    Examples
    --------
    >>> count_kgrams([[1, 2, 1, 2], [1, 2]], 2)[1, 2]
    3
    """
    return Counter(
        tuple(document[i : i + k]) for document in documents for i in range(len(document) - k + 1)
    )


def top_kgrams(counts: Counter[Window], n: int) -> list[tuple[Window, int]]:
    """The n most frequent k-grams; of equal counts, the smaller token ids (from the left) first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]
