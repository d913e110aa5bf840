"""`plan_corpus`: what scoring a corpus will cost, estimated from a sample."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.documents import MAX_VOCAB, check_width, padded_left
from radscore.doubts import IdDoubt
from radscore.errors import ArgumentError, TokenError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.corpus import Corpus
    from radscore.corpus.sampling import Sample
    from radscore.documents import Documents
    from radscore.schemes import Scheme

__all__ = ["DistinctEstimate", "Plan", "estimate_distinct", "plan_corpus", "window_keys"]

SAMPLE_TOKENS = 1 << 22
#: Bytes of a window, in memory, in files and in a saved state, by how many bits it packs into: 64,
#: 128, 384 or more (tests/runs/test_planning.py holds these numbers against the core).
WINDOW_BYTES = (8, 16, 48, 176)
#: Repeated windows wait in memory beside the distinct ones, until all fill so many bytes and are
#: so many times the distinct ones.
_WAITING_BYTES, _REPEATED = 1 << 30, 2.2
#: Memory relative to the windows' own: tables, and blocks larger than what they hold.
_SLACK = 1.1
#: Memory of the process beside its windows: libraries, waiting batches, buffers of readers.
BASE_BYTES = 300 << 20
# Growth is fitted over this factor of tokens, at two points per doubling.
_FITTED = 64
_FEWEST = 64


@dataclass(frozen=True)
class DistinctEstimate:
    """How many of all windows are distinct.

    Attributes
    ----------
    value : int
        The estimate.
    low, high : int
        Chao and Lin's lower bound, which counts what the sample has not seen, and Good and
        Turing's upper bound: at first a share (windows seen once) / (windows) of what follows is
        new, then less and less. Both hold in expectation, for windows sampled one by one; here
        they come in stretches, so the bounds are approximate.
    """

    value: int
    low: int
    high: int


def estimate_distinct(
    keys: npt.NDArray[np.uint64], n_windows: int, support: float = math.inf
) -> DistinctEstimate:
    """Distinct windows among `n_windows`, from those of a sample.

    Distinct windows are counted along the sample. The logarithm of their number is fitted by a
    quadratic function of the logarithm of the number of windows, which may only bend down and goes
    through the last point, and extrapolated to `n_windows`. The result is kept between the bounds
    in `DistinctEstimate`. Copies too rare to show in the sample make it too high.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n,)
        The windows of the sample, whose pieces are in random order.
    n_windows : int
        Number of all windows.
    support : float
        Number of windows that are possible at all.

    References
    ----------
    Good, Biometrika 40 (1953); Chao and Lin, Biometrics 68 (2012).

    Examples
    --------
    >>> keys = np.arange(100, dtype=np.uint64) % 10
    >>> estimate_distinct(keys, 1000)
    DistinctEstimate(value=10, low=10, high=10)
    """
    return _estimate(_seen(keys), n_windows, support)


@dataclass(frozen=True)
class _Seen:
    """The distinct windows of a sample."""

    #: Number of all windows.
    n: int
    #: The index at which each distinct one first appears, sorted.
    first: npt.NDArray[np.int64]
    #: How many appear once, and twice.
    once: int
    twice: int


def _seen(keys: npt.NDArray[np.uint64]) -> _Seen:
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return _Seen(len(keys), np.sort(first), once, twice)


def _estimate(sample: _Seen, n_windows: int, support: float) -> DistinctEstimate:
    n, once, twice, seen = sample.n, sample.once, sample.twice, len(sample.first)
    if n >= n_windows or not seen:
        return DistinctEstimate(seen, seen, seen)
    more = n_windows - n
    high = min(seen + more * once / n, support, float(n_windows))
    # Chao and Lin, for samples without replacement: windows that the sample has missed.
    hidden = once**2 / (2 * twice * n / max(n - 1, 1) + once * n / more) if once else 0.0
    low = min(seen + hidden, high)
    value = seen * math.exp(_growth(sample.first, n, math.log(n_windows / n)))
    return DistinctEstimate(round(min(max(value, low), high)), round(low), round(high))


def _growth(first: npt.NDArray[np.int64], n: int, step: float) -> float:
    """How much the log number of distinct windows grows while that of all windows grows by `step`.

    `first` holds the index at which each distinct window first appears, sorted.
    """
    sizes = n * 2.0 ** (-np.arange(1, 2 * math.log2(_FITTED) + 1) / 2)
    sizes = np.floor(sizes[sizes >= _FEWEST])
    if len(sizes) < 2:
        return step
    x = np.log(sizes / n)
    y = np.log(np.searchsorted(first, sizes, side="left") / len(first))
    slope, bend = np.linalg.lstsq(np.stack([x, x * x], axis=1), y, rcond=None)[0]
    if bend > 0:
        slope, bend = (x @ y) / (x @ x), 0.0
    slope = min(max(float(slope), 0.0), 1.0)
    if bend < 0:
        step = min(step, -slope / (2 * bend))  # flat beyond its maximum
    return float(slope * step + bend * step * step)


def window_keys(
    documents: Sequence[Documents], width: int, vocab_size: int
) -> npt.NDArray[np.uint64]:
    """A number for each window of some documents, equal for equal windows.

    Windows that do not pack into 64 bits are hashed: among a million distinct ones, any two collide
    with probability 3e-8.
    """
    packs = width * math.log2(vocab_size) <= 64
    found = [_keys(one, width, vocab_size, packs=packs) for one in documents]
    return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)


def _keys(
    documents: Documents, width: int, vocab_size: int, *, packs: bool
) -> npt.NDArray[np.uint64]:
    first, last = int(documents.offsets[0]), int(documents.offsets[-1])
    ids = documents.values[first:last].astype(np.uint64)
    count = len(ids) - width + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    keys = np.zeros(count, dtype=np.uint64)
    for offset in range(width):
        keys *= np.uint64(vocab_size if packs else 0x9E3779B97F4A7C15)
        keys += ids[offset : offset + count]
        if not packs:  # the finaliser of SplitMix64
            keys ^= keys >> np.uint64(30)
            keys *= np.uint64(0xBF58476D1CE4E5B9)
            keys ^= keys >> np.uint64(27)
            keys *= np.uint64(0x94D049BB133111EB)
            keys ^= keys >> np.uint64(31)
    offsets = documents.offsets - first
    lengths = np.diff(offsets)
    # A window counts if it ends in the document in which it begins.
    left = np.repeat(offsets[1:], lengths) - np.arange(len(ids))
    return keys[left[:count] >= width]


@dataclass(frozen=True)
class Plan:
    """What scoring a corpus will cost.

    Attributes
    ----------
    n_files, total_bytes, formats, dtype, boundaries
        The files, and what tells where documents end.
    n_tokens, n_documents : int
        Tokens and documents: exact if `exact_tokens` and `exact_documents` are set, else estimated.
    window_width, vocab_size : int
        Of the windows.
    n_windows : int
        Windows of that width, estimated.
    distinct : DistinctEstimate
        Distinct windows among them.
    memory_bytes : int
        Most memory that scoring in memory takes.
    spill_bytes : int
        Disk space for windows in files, with a memory limit.
    state_bytes : int
        Disk space for a saved state, without one.
    read_tokens_per_second, score_tokens_per_second : float
        Measured on the sample, on this machine.
    seconds : float
        For reading and then scoring everything; in fact the two overlap.
    sample_tokens : int
        Tokens that were read to find out.
    notes : tuple of str
        What the caller should know.
    """

    n_files: int
    total_bytes: int
    formats: tuple[str, ...]
    dtype: str
    boundaries: str | None
    n_tokens: int
    exact_tokens: bool
    n_documents: int
    exact_documents: bool
    window_width: int
    vocab_size: int
    n_windows: int
    distinct: DistinctEstimate
    memory_bytes: int
    spill_bytes: int
    state_bytes: int
    read_tokens_per_second: float
    score_tokens_per_second: float
    seconds: float
    sample_tokens: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return asdict(self)


def plan_corpus(
    corpus: Corpus,
    scheme: Scheme | None = None,
    *,
    context_width: int = 1,
    vocab_size: int | None = None,
    sample_tokens: int = SAMPLE_TOKENS,
    threads: int | None = None,
) -> Plan:
    r"""Reads and scores a sample of a corpus, and estimates what scoring all of it will cost.

    Parameters
    ----------
    corpus : Corpus
        What `open_corpus` returns.
    scheme : Scheme, optional
        What to plan for; by default a keyed scheme with a made-up key.
    context_width, vocab_size : int, optional
        Of that scheme; the vocabulary is by default as large as the ids of the sample require.
    sample_tokens : int
        About how many tokens to read; a corpus that is no larger is read completely.
    threads : int, optional
        Worker threads, as for `Scorer`.

    Raises
    ------
    ArgumentError
        If `corpus` is not a `Corpus`.
    TokenError
        If the sample holds no window.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from radscore.corpus import open_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "x.jsonl")
    ...     _ = file.write_text('{"input_ids": [5, 6, 7, 5, 6]}\n')
    ...     plan = plan_corpus(open_corpus(file))
    >>> plan.n_tokens, plan.n_windows, plan.distinct.value
    (5, 4, 3)
    """
    from radscore.corpus import Corpus
    from radscore.corpus.sampling import sample_corpus
    from radscore.runs.shards import SHARD_BYTES

    if not isinstance(corpus, Corpus):
        raise ArgumentError(
            f"corpus must be a Corpus, which radscore.open_corpus(paths) gives, not {shown(corpus)}"
        )
    check_width("sample_tokens", sample_tokens, 1, 2**32)
    sample = sample_corpus(corpus, sample_tokens)
    documents = [piece.documents for piece in sample.pieces]
    notes = list(corpus.notes)
    doubt = IdDoubt(None, corpus.options.eod)
    doubt.add(-1, sample.n_tokens, any(piece.ended for piece in sample.pieces))
    if doubt.note_of_eod is not None:
        notes.append(f"{'' if sample.whole else 'in the sample, '}{doubt.note_of_eod}")
    if scheme is None:
        largest = max((one.id_range[1] for one in documents), default=0)
        if vocab_size is None:
            if largest >= MAX_VOCAB:
                raise TokenError(
                    f"{corpus.sources[0].path}: the largest id of the sample, {largest}, is too "
                    "large for any vocabulary; is the dtype right?"
                )
            vocab_size = max(largest + 1, 2)
            notes.append(f"assuming a vocabulary of {vocab_size} ids, from those of the sample")
        scheme = _any_scheme(vocab_size, context_width)
    adding, scoring = _score(documents, scheme, threads)
    width, size = scheme.window_width, scheme.vocab_size
    # Growth is measured on pieces in random order.
    order = np.random.default_rng(0).permutation(len(documents))
    pieces = [documents[int(i)] for i in order]
    padding = None if scheme.reaches_prompt else scheme.padding
    if padding is not None:  # with padding every token ends a window; -1 is one more id
        size += padding < 0
        pieces = [padded_left(one, width - 1, padding % size) for one in pieces]
    keys = window_keys(pieces, width, size)
    if len(keys) == 0:
        raise TokenError(
            f"{corpus.sources[0].path}: no document of the sample is as long as a window "
            f"({width} tokens)"
        )
    n_tokens, exact_tokens, n_documents, exact_documents = _totals(corpus, sample)
    n_windows = max(round(n_tokens * len(keys) / sample.n_tokens), len(keys))
    seen, support = _seen(keys), float(size) ** width
    distinct = _estimate(seen, n_windows, support)
    size_of_window = WINDOW_BYTES[_kind(width, size)]
    held = min(n_windows, max(round(_REPEATED * distinct.value), _WAITING_BYTES // size_of_window))
    by_unit = 0 if scheme.core.has_distinct_units else distinct.value
    # A shard's file holds each of its windows once.
    n_shards = max(round(corpus.total_bytes / SHARD_BYTES), 1)
    per_shard = _estimate(seen, max(n_windows // n_shards, 1), support).value
    reading = sample.n_tokens / max(sample.seconds, 1e-9)
    # Repeated windows are added, but not scored again.
    more = distinct.value / len(seen.first)
    work = adding * n_tokens / sample.n_tokens + scoring * max(more, 1.0)
    return Plan(
        n_files=len(corpus.sources),
        total_bytes=corpus.total_bytes,
        formats=corpus.formats,
        dtype=", ".join(dict.fromkeys(one.values.dtype.name for one in documents)),
        boundaries=corpus.boundaries,
        n_tokens=n_tokens,
        exact_tokens=exact_tokens,
        n_documents=n_documents,
        exact_documents=exact_documents,
        window_width=width,
        vocab_size=scheme.vocab_size,
        n_windows=n_windows,
        distinct=distinct,
        memory_bytes=BASE_BYTES + round(_SLACK * size_of_window * (held + by_unit)),
        spill_bytes=size_of_window * (n_shards * per_shard + by_unit),
        state_bytes=size_of_window * distinct.value,
        read_tokens_per_second=reading,
        score_tokens_per_second=n_tokens / max(work, 1e-9),
        seconds=n_tokens / reading + work,
        sample_tokens=sample.n_tokens,
        notes=tuple(notes),
    )


def _any_scheme(vocab_size: int, context_width: int) -> Scheme:
    from radscore.schemes import Key, Keyed

    return Keyed(key=Key.generate(), vocab_size=vocab_size, gamma=0.25, context_width=context_width)


def _kind(width: int, vocab_size: int) -> int:
    """Index into `WINDOW_BYTES`: whether a window packs into 64, 128 or 384 bits, or none."""
    bits = width * max((vocab_size - 1).bit_length(), 1)
    return sum(bits > most for most in (64, 128, 384))


def _score(
    documents: Sequence[Documents], scheme: Scheme, threads: int | None
) -> tuple[float, float]:
    """Seconds it takes to add the sample to a scorer, and to score its distinct windows."""
    from radscore.scoring.scorer import Scorer

    scorer = Scorer(scheme, threads=threads)
    start = time.perf_counter()
    for one in documents:
        scorer.add(one)
    added = time.perf_counter()
    scorer.core.flush()
    return added - start, time.perf_counter() - added


def _totals(corpus: Corpus, sample: Sample) -> tuple[int, bool, int, bool]:
    """Number of tokens and of documents, and whether each is exact."""
    if sample.whole:
        return sample.n_tokens, True, sample.n_documents, True
    known = corpus.known()
    n_tokens, n_documents = known.n_tokens, known.n_documents
    each = max(sample.n_tokens, 1) / max(sample.n_documents, 1)
    if n_tokens is None:
        if n_documents is not None:
            n_tokens = round(n_documents * each)
        elif sample.n_bytes:
            n_tokens = round(corpus.total_bytes * sample.n_tokens / sample.n_bytes)
        else:  # a stream of unknown length: only what was read is known
            n_tokens = sample.n_tokens
    if n_documents is None:
        n_documents = max(round(n_tokens / each), 1)
    return n_tokens, known.n_tokens is not None, n_documents, known.n_documents is not None
