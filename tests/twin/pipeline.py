"""From documents to a tally: windows, exclusion, filter, deduplication, weights, sums.

The order of the rules is the law's: exclusion and filter first, then deduplication.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from tests.twin.schemes import PADDING, Scheme, Score, Window

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

    Tokens = Sequence[int]

__all__ = [
    "Combine",
    "Dedup",
    "DocumentTally",
    "Position",
    "Record",
    "Role",
    "Rules",
    "Scorer",
    "Shown",
    "Tally",
    "count_kgrams",
    "curve",
    "padding_of",
    "per_document",
    "positions",
    "top_kgrams",
    "windows_of",
]

Dedup = Literal["unit", "window", "context", "none"]
Combine = Literal["one", "sum", "first"]
Role = Literal["exclude", "context"]
Fate = Literal["excluded", "filtered", "duplicate", "keyless", "scored"]


@dataclass(frozen=True)
class Rules:
    """Which windows are evidence.

    Parameters
    ----------
    dedup : {"unit", "window", "context", "none"}
        Which windows are the same evidence (section 7).
    combine : {"one", "sum", "first"}
        Whether evidence seen again keeps the weight of its first place or adds the others.
        Windows of one residue add up besides, unless under `first`.
    filter : collection of contexts, optional
        Only windows whose context is among them are scored.
    start : int, optional
        First position scored in a document: by default the first with a whole context, or 0 where
        the scheme's padding, and never the prompt, stands left of a text. Only schemes that pad
        take an earlier one.
    prompt_role : {"exclude", "context"}
        A prompt either excludes the windows whose draw may have been met in it, or stands before
        its document so that the first contexts reach into it (never where padding always does).
    saturation : float
        Evidence whose weights sum to w counts `w / (1 + |w| / saturation)`.
    frequency : float
        Windows whose context has records at n places count `n / (n + frequency)` of their weight.
    """

    dedup: Dedup = "unit"
    combine: Combine = "one"
    filter: Collection[Window] | None = None
    start: int | None = None
    prompt_role: Role = "exclude"
    saturation: float = math.inf
    frequency: float = 0.0


def windows_of(
    document: Tokens, scheme: Scheme, rules: Rules | None = None, prompt: Tokens = ()
) -> Iterator[tuple[int, Window]]:
    """Every window of a document with the position of its target in it."""
    rules = rules or Rules()
    k = scheme.window_width - 1
    if rules.prompt_role == "context" and not scheme.reaches_prompt:
        raise ValueError("contexts of this scheme never reach into the prompt")
    reach = list(prompt)[-k:] if rules.prompt_role == "context" and k else []
    first_whole = k - len(reach)
    default = first_whole if scheme.reaches_prompt else 0
    start = default if rules.start is None else rules.start
    if start < k and scheme.padding is None:
        if rules.prompt_role == "exclude":
            raise ValueError(f"start must be at least {k}, not {start}")
        start = max(start, first_whole)
    left = PADDING if scheme.padding is None else scheme.padding
    tokens = [left] * first_whole + reach + list(document)  # target t stands at k + t
    for target in range(start, len(document)):
        yield target, tuple(tokens[target : target + k + 1])


@dataclass(frozen=True)
class Shown:
    """What a prompt has shown of the random function: seeds, or units where there are none."""

    scheme: Scheme
    values: frozenset[Hashable] = frozenset()

    @classmethod
    def by(cls, prompt: Tokens, scheme: Scheme, rules: Rules) -> Shown:
        """By a prompt. Where contexts are padded, marked text may begin anywhere in it."""
        k = scheme.window_width - 1
        with_target = scheme.context_seed((0,) * (k + 1)) is None
        if rules.prompt_role != "exclude" or not len(prompt) or (k == 0 and not with_target):
            return cls(scheme)
        padding = padding_of(scheme, rules)
        windows = []
        for own in range(k if padding is None else 0, k + 1):
            for i in range(len(prompt) - (own + with_target) + 1):
                run = [*[0 if padding is None else padding] * (k - own), *prompt[i : i + own]]
                windows.append((*run, prompt[i + own] if with_target else 0))
        for own in range(scheme.least_own, k):  # marked text may begin after an unseen context
            for i in range(len(prompt) - max(own + with_target, 1) + 1):
                tail = tuple(prompt[i : i + own + with_target])
                windows.append(tail if with_target else (*tail, 0))
        if with_target:
            return cls(scheme, frozenset(scheme.unit(window) for window in windows))
        return cls(scheme, frozenset(scheme.context_seed(window) for window in windows))

    def __contains__(self, window: Window) -> bool:
        """Whether the window's draw may be among what was shown."""
        seed = self.scheme.context_seed(window)
        if seed is None:
            return self.scheme.unit(window) in self.values
        return any(self.scheme.shares_draws(seed, shown) for shown in self.values)


def padding_of(scheme: Scheme, rules: Rules) -> int | None:
    """What stands left of documents, if any window reaches beyond their first token."""
    k = scheme.window_width - 1
    default = k if scheme.reaches_prompt else 0
    return scheme.padding if (default if rules.start is None else rules.start) < k else None


@dataclass(frozen=True)
class Record:
    """A window that passed exclusion and filter, with its place in reading order."""

    place: int
    window: Window
    weight: float = 1.0


@dataclass(frozen=True)
class Tally:
    """What the tests need of everything added.

    `n_windows = n_excluded + n_filtered + n_duplicates + n_keyless + n_zero_weight + n_scored`.
    Sums over depths are tuples, one entry a depth.
    """

    n_documents: int
    n_short_documents: int
    n_tokens: int
    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    #: Distinct windows that the rule `unit` leaves out: their draw does not depend on the key.
    n_keyless: int
    #: Evidence whose weight is or cancelled to 0: it says nothing, and is not scored.
    n_zero_weight: int
    n_scored: int
    #: Sum of scores without weights: greens, Gumbel scores, or counts a depth.
    score_sum: Score
    sum_w: float
    sum_w2: float
    max_abs_w: float
    #: Sum of weight times score.
    sum_ws: Score


@dataclass(frozen=True)
class Position:
    """What became of one position of a document."""

    position: int
    fate: Fate
    score: Score | None


class Scorer:
    """Scores each piece of evidence once.

    Examples
    --------
    >>> from tests.twin.schemes import HFKGW
    >>> scorer = Scorer(HFKGW(vocab_size=10, context_width=1, gamma=0.5))
    >>> scorer.add([[1, 2, 1, 2, 3]])
    >>> tally = scorer.tally()
    >>> tally.n_windows, tally.n_duplicates, tally.n_scored
    (4, 1, 3)
    """

    def __init__(
        self, scheme: Scheme, rules: Rules | None = None, *, count_residues: bool = True
    ) -> None:
        self.scheme = scheme
        #: Whether windows count once each, by their residue, where the scheme allows it.
        self.by_residue = (
            count_residues
            and scheme.counts_residues
            and (rules or Rules()).combine != "first"
            and (rules or Rules()).dedup != "none"
        )
        self.rules = rules or Rules()
        self.n_documents = self.n_short_documents = self.n_tokens = 0
        self.n_windows = self.n_excluded = self.n_filtered = 0
        self.records: list[Record] = []
        self.next_place = 0

    def add(
        self,
        documents: Iterable[Tokens],
        prompts: Iterable[Tokens] | None = None,
        weights: Iterable[Sequence[float]] | None = None,
    ) -> None:
        """Adds documents; `weights` has one weight a token, that of the window it is target of."""
        documents = [list(document) for document in documents]
        prompting = [()] * len(documents) if prompts is None else list(prompts)
        weighting = [[1.0] * len(d) for d in documents] if weights is None else list(weights)
        for document, prompt, weight in zip(documents, prompting, weighting, strict=True):
            windows = list(windows_of(document, self.scheme, self.rules, prompt))
            self.n_documents += 1
            self.n_short_documents += not windows
            self.n_tokens += len(document)
            shown = Shown.by(prompt, self.scheme, self.rules)
            for target, window in windows:
                self._take(Record(self.next_place + target, window, weight[target]), shown)
            self.next_place += len(document)

    def add_pairs(
        self,
        contexts: Iterable[Window],
        targets: Iterable[int],
        weights: Iterable[float] | None = None,
        occurrences: Iterable[int] | None = None,
    ) -> None:
        """Adds (context, target, weight) without a document; the filter applies.

        `occurrences` are places in reading order, from 0; pairs of one place share theirs.
        """
        windows = [(*c, t) for c, t in zip(contexts, targets, strict=True)]
        weighting = [1.0] * len(windows) if weights is None else list(weights)
        places = list(range(len(windows)) if occurrences is None else occurrences)
        for place, window, weight in zip(places, windows, weighting, strict=True):
            self._take(Record(self.next_place + place, window, weight), Shown(self.scheme))
        self.next_place += max(places, default=-1) + 1

    def _take(self, record: Record, shown: Shown) -> None:
        self.n_windows += 1
        if record.window in shown:
            self.n_excluded += 1
        elif self.rules.filter is not None and record.window[:-1] not in self.rules.filter:
            self.n_filtered += 1
        else:
            self.records.append(record)

    def evidence(self) -> list[Record]:
        """The records that are left after deduplication, with their final weights."""
        half = self.rules.saturation
        return [replace(r, weight=r.weight / (1 + abs(r.weight) / half)) for r in self._kept()]

    def _kept(self) -> list[Record]:
        """The records that are left after deduplication, with their combined weights."""
        records = sorted(self.records, key=lambda record: record.place)
        factors = self._factors()
        if self.rules.dedup == "none":
            return [replace(r, weight=r.weight * factors[r.window[:-1]]) for r in records]
        groups: dict[Hashable, list[Record]] = defaultdict(list)
        first_place: dict[Window, int] = {}
        for record in records:
            context = record.window[:-1]
            if self.rules.dedup == "unit" and self.scheme.keyless(record.window):
                continue
            if self.rules.dedup == "unit" and not self.by_residue:
                groups[self.scheme.unit(record.window)].append(record)
            elif (
                self.rules.dedup in ("unit", "window")
                or first_place.setdefault(context, record.place) == record.place
            ):  # rule `context`: what comes at a later place does not count at all
                groups[record.window].append(record)
        return [self._combined(group, factors) for group in groups.values()]

    def _combined(self, group: list[Record], factors: dict[Window, float]) -> Record:
        if self.rules.combine != "sum":
            return group[0]
        windows: dict[Window, list[float]] = defaultdict(list)
        for record in group:
            windows[record.window].append(record.weight)
        sums = [math.fsum(own) * factors[window[:-1]] for window, own in windows.items()]
        return Record(group[0].place, group[0].window, math.fsum(sums))

    def _factors(self) -> dict[Window, float]:
        """How much of their weights the windows of each context count, by its places."""
        places: dict[Window, set[int]] = defaultdict(set)
        for record in self.records:
            places[record.window[:-1]].add(record.place)
        half = self.rules.frequency
        return {context: len(own) / (len(own) + half) for context, own in places.items()}

    def units(self) -> list[tuple[Record, int]]:
        """The evidence with its weights, and how many windows are behind each piece.

        Windows of one residue have one score under every key: their weights add.
        """
        evidence = self.evidence()
        if not self.by_residue:
            return [(record, 1) for record in evidence]
        groups: dict[Hashable, list[Record]] = defaultdict(list)
        for record in evidence:
            groups[self.scheme.unit(record.window)].append(record)
        return [
            (Record(g[0].place, g[0].window, math.fsum(r.weight for r in g)), len(g))
            for g in groups.values()
        ]

    def tally(self) -> Tally:
        """The sums over everything added so far."""
        evidence = self.evidence()
        keyless = set[Window]()
        if self.rules.dedup == "unit":
            keyless.update(r.window for r in self.records if self.scheme.keyless(r.window))
        units = self.units()
        counted = [(record, n) for record, n in units if record.weight != 0]
        n_scored = sum(n for _, n in counted)
        weights = [record.weight for record, _ in counted]
        scores = [self.scheme.score(record.window) for record, _ in counted]
        alone = [self.scheme.score(record.window) for record in evidence if record.weight != 0]
        return Tally(
            n_documents=self.n_documents,
            n_short_documents=self.n_short_documents,
            n_tokens=self.n_tokens,
            n_windows=self.n_windows,
            n_excluded=self.n_excluded,
            n_filtered=self.n_filtered,
            n_duplicates=len(self.records) - len(evidence) - len(keyless),
            n_keyless=len(keyless),
            n_zero_weight=len(evidence) - n_scored,
            n_scored=n_scored,
            score_sum=self.sums(None, alone),
            sum_w=math.fsum(weights),
            sum_w2=math.fsum(w * w for w in weights),
            max_abs_w=max(map(abs, weights), default=0.0),
            sum_ws=self.sums(weights, scores),
        )

    def sums(self, weights: list[float] | None, scores: list[Score]) -> Score:
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


def positions(
    document: Tokens,
    scheme: Scheme,
    rules: Rules | None = None,
    prompt: Tokens = (),
    max_contexts: int | None = None,
) -> list[Position]:
    """What became of each window of one document, and the score of those that count.

    Of a generation only the first `max_contexts` distinct contexts are watermarked (SGLang);
    windows with later ones are filtered.
    """
    rules = rules or Rules()
    contexts: set[Window] = set()
    seen: set[Hashable] = set()
    keyless: set[Window] = set()
    found = []
    shown = Shown.by(prompt, scheme, rules)
    for target, window in windows_of(document, scheme, rules, prompt):
        context = window[:-1]
        if max_contexts is None or len(contexts) < max_contexts:
            contexts.add(context)
        fate: Fate = "scored"
        if window in shown:
            fate = "excluded"
        elif (rules.filter is not None and context not in rules.filter) or context not in contexts:
            fate = "filtered"
        else:
            keys: dict[Dedup, Hashable] = {"window": window, "context": context, "none": target}
            key = scheme.unit(window) if rules.dedup == "unit" else keys[rules.dedup]
            if rules.dedup == "unit" and scheme.keyless(window):
                fate = "duplicate" if window in keyless else "keyless"
                keyless.add(window)
            else:
                fate = "duplicate" if key in seen else "scored"
                seen.add(key)
        found.append(Position(target, fate, scheme.score(window) if fate == "scored" else None))
    return found


@dataclass(frozen=True)
class DocumentTally:
    """One document as a test of its own.

    `n_windows = n_excluded + n_filtered + n_duplicates + n_keyless + n_shared + n_scored`.
    """

    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    n_keyless: int
    #: Evidence that `max_sharing` earlier documents hold.
    n_shared: int
    n_scored: int
    #: Of what is scored, evidence that earlier documents hold too.
    n_common: int
    score_sum: Score
    #: The first document with the same evidence; -1 where there is none.
    copy_of: int = -1


def per_document(
    documents: Sequence[Tokens],
    scheme: Scheme,
    rules: Rules | None = None,
    prompts: Sequence[Tokens] | None = None,
    max_sharing: int | None = 8,
) -> list[DocumentTally]:
    """One tally a document: each is a test of its own, with deduplication within it.

    A piece of evidence counts in the first `max_sharing` documents that hold it, and documents with
    the same evidence are one test: copies have the sums of the first. Evidence is compared as the
    rule `unit` does, or else by windows.
    """
    rules = rules or Rules()
    uses: Counter[Hashable] = Counter()
    firsts: dict[frozenset[Hashable], int] = {}
    found: list[DocumentTally] = []
    for i, (document, prompt) in enumerate(
        zip(documents, prompts or [()] * len(documents), strict=True)
    ):
        scorer = Scorer(scheme, rules, count_residues=False)
        scorer.add([document], [prompt])
        tally, kept, n_common, first = scorer.tally(), scorer.evidence(), 0, -1
        units = [scheme.unit(r.window) if rules.dedup == "unit" else r.window for r in kept]
        if max_sharing is not None and rules.dedup != "none":
            first = firsts.setdefault(frozenset(units), i) if units else i
            if first == i:
                first = -1
                used = [uses[unit] for unit in units]
                kept = [r for r, n in zip(kept, used, strict=True) if n < max_sharing]
                n_common = sum(0 < n < max_sharing for n in used)
                uses.update(u for u, n in zip(units, used, strict=True) if n < max_sharing)
        scores = [scheme.score(record.window) for record in kept]
        found.append(
            DocumentTally(
                n_windows=tally.n_windows,
                n_excluded=tally.n_excluded,
                n_filtered=tally.n_filtered,
                n_duplicates=tally.n_duplicates,
                n_keyless=tally.n_keyless,
                n_shared=found[first].n_shared if first >= 0 else len(units) - len(kept),
                n_scored=found[first].n_scored if first >= 0 else len(kept),
                n_common=found[first].n_common if first >= 0 else n_common,
                score_sum=found[first].score_sum if first >= 0 else scorer.sums(None, scores),
                copy_of=first,
            )
        )
    return found


def curve(
    documents: Sequence[Tokens], scheme: Scheme, steps: Sequence[int], rules: Rules | None = None
) -> list[tuple[int, int, Score]]:
    """(tokens seen, n_scored, score sum) after each number of tokens, documents in order."""
    points = []
    for step in steps:
        scorer = Scorer(scheme, rules)
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
