"""What a model predicts after each context of a text, as weights: live, or in a file.

The holder of a model runs `predict`, and the holder of the key tests the file: neither the key nor
the model has to change hands. The file is Arrow IPC; its schema's metadata hold ``radscore.magic``
(``RSPR``), ``radscore.version`` (1) and ``radscore.header`` (JSON: fingerprints of the models, the
weighting, vocabulary size, context width, whether the text was watermarked, the tokenizer's hash,
how long documents are cut).
Its columns are `contexts`, `targets`, `weights` and `occurrences`, those of `Pairs`. Each batch has
a checksum, and a last, empty one what was read in all, with the text's hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from radscore import _core
from radscore.documents import MAX_VOCAB, Documents, check_width
from radscore.doubts import IdDoubt, doubt_of_tokenizer
from radscore.errors import ArgumentError, ModelError, StateError
from radscore.models.loading import LanguageModel, as_language_model
from radscore.models.teacher_forcing import Counts, Pairs, Reader
from radscore.models.texts import passages
from radscore.models.weighting import Weighting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from radscore.models.texts import Passage

__all__ = ["Header", "Predictions", "Reading", "Totals", "plan", "predict", "set_aside"]

MAGIC: Final = "RSPR"
VERSION: Final = 2
_COLUMNS: Final = ("contexts", "targets", "weights", "occurrences")
_NOT_ALIGNED: Final = (
    "text_watermarked=True is not valid with tokenizer=, a watermark's tokenizer that is not the "
    "model's: at which places both cut the text depends on the tokens that follow a context, and "
    "in text with the tested watermark these depend on the key; read text without the watermark "
    "(text_watermarked=False), or test the model's answers (test_closed)"
)


@dataclass(frozen=True)
class Header:
    """What is known of predictions before the text is read.

    Attributes
    ----------
    model, reference, tokenizer : str or None
        Fingerprints of the suspect and the reference, and the hash of the vocabulary in which
        contexts and targets are (None where the model came without a tokenizer).
    weighting : Weighting
        How predictions became weights.
    vocab_size : int
        Targets are below it.
    least_vocab_size : int
        The smallest vocabulary that a scheme for this tokenizer can have: without the tokens
        that were added to it, or nine tenths of `vocab_size` where there is no tokenizer.
    context_width : int
        Tokens of a context.
    text_watermarked : bool
        Whether the text carries the watermark that is tested; then every place is listed, also
        those without weight.
    aligned : bool
        Whether the model has another tokenizer than the watermark.
    max_length : int or None
        Tokens that were read at once at most: longer documents are cut into pieces.
    prefix : tuple of int
        The special tokens before every text and piece, in the model's ids.
    radscore : str
        The version that read.
    """

    model: str
    reference: str | None
    tokenizer: str | None
    weighting: Weighting
    vocab_size: int
    least_vocab_size: int
    context_width: int
    text_watermarked: bool
    aligned: bool
    max_length: int | None
    prefix: tuple[int, ...]
    radscore: str

    def to_json(self) -> str:
        """As the file holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of `to_json`."""
        values = json.loads(text)
        weighting = Weighting(**values.pop("weighting"))
        return cls(weighting=weighting, prefix=tuple(values.pop("prefix")), **values)


@dataclass(frozen=True)
class Totals:
    """What was read.

    Attributes
    ----------
    text : str
        16 hexadecimal digits of a SHA-256 over the documents' lengths and ids.
    complete : bool
        Whether the reading came to its end; else these are the first so many documents.
    n_documents, n_short_documents, n_tokens, n_scored_places, n_weights, removed
        As in `Counts`.
    notes : tuple of str
        What the reader should know.
    """

    text: str
    complete: bool
    n_documents: int
    n_short_documents: int
    n_tokens: int
    n_scored_places: int
    n_weights: int
    removed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Reading:
    """A model that reads a text: iterating gives its weighted pairs, in reading order.

    Parameters
    ----------
    model, reference : anything that `as_language_model` takes
        The suspect, and for "contrast" the model to compare with.
    text : Corpus, strings, chats, or anything that `Documents.of` takes
        What to read; see `passages`. With `tokenizer`, strings or ids of that tokenizer.
    context_width : int
        Tokens of a context: `window_width - 1` of the scheme.
    weighting : Weighting
        How predictions become weights.
    text_watermarked : bool
        Whether the text carries the tested watermark.
    vocab_size : int, optional
        Targets are below it; by default everything that the model can predict.
    tokenizer : transformers tokenizer, optional
        The watermark's, where it is not the model's. Not with `text_watermarked`.
    batch_tokens, max_length
        As in `Reader`.
    progress : callable, optional
        Called with `Counts` after every batch.
    on_document : callable, optional
        Called with each document's tokens (the watermark's) before it is read.

    Attributes
    ----------
    header : Header
    """

    def __init__(
        self,
        model: Any,
        text: Any,
        *,
        context_width: int,
        weighting: Weighting,
        reference: Any = None,
        text_watermarked: bool = False,
        vocab_size: int | None = None,
        tokenizer: Any = None,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        progress: Callable[[Counts], None] | None = None,
        on_document: Callable[[Any], None] | None = None,
    ) -> None:
        check_width("context_width", context_width, 0, 64)
        suspect = as_language_model(model)
        other = None if reference is None else as_language_model(reference, "reference")
        if other is not None:
            check_same_tokenizer(suspect, other)
        own, translate, limit = None, None, suspect.vocab_size
        if other is not None:
            limit = min(limit, other.vocab_size)
        words, given = suspect.tokenizer, text
        least = -(-9 * limit // 10) if words is None else min(words.vocab_size, limit)
        if tokenizer is not None and not same_vocabulary(tokenizer, suspect.tokenizer):
            if text_watermarked:
                raise ArgumentError(_NOT_ALIGNED)
            from radscore.models.alignment import Alignment

            own = Alignment(suspect, tokenizer)
            translate, words = own.translate, tokenizer
            limit, least = len(tokenizer), tokenizer.vocab_size
        if vocab_size is not None:
            limit = min(limit, check_width("vocab_size", vocab_size, 2, MAX_VOCAB))
        self._reader = Reader(
            suspect,
            other,
            weighting,
            limit=limit,
            batch_tokens=batch_tokens,
            max_length=max_length,
            markers=True,  # what was read shows by them
            translate=translate,
        )
        self.header = Header(
            model=suspect.fingerprint,
            reference=None if other is None else other.fingerprint,
            tokenizer=None if words is None else vocabulary_hash(words),
            weighting=weighting,
            vocab_size=limit,
            least_vocab_size=min(least, limit),
            context_width=context_width,
            text_watermarked=bool(text_watermarked),
            aligned=own is not None,
            max_length=self._reader.max_length,
            prefix=tuple(self._reader.prefix.tolist()),
            radscore=_core.__version__,
        )
        self._passages: Iterator[Passage] = (
            passages(given, suspect, context_width)
            if own is None
            else own.passages(given, context_width)
        )
        self._alignment = own
        self._doubt = IdDoubt(limit)
        self._doubt_of_tokenizer = None
        if suspect.tokenizer is not None:
            self._doubt_of_tokenizer = doubt_of_tokenizer(
                len(suspect.tokenizer), suspect.vocab_size
            )
        self._progress, self._on_document = progress, on_document
        self._hash = hashlib.sha256()
        self._before: Totals | None = None

    @property
    def counts(self) -> Counts:
        """What was read so far."""
        return self._reader.counts

    @property
    def totals(self) -> Totals:
        """What was read in all, once a portion with ``last`` has been taken."""
        counts = self.counts
        removed, notes = dict(counts.removed), tuple[str, ...]()
        if self._alignment is not None:
            removed |= self._alignment.removed
            notes = self._alignment.notes()
        doubts = (self._doubt_of_tokenizer, self._doubt.note)
        notes += tuple(note for note in doubts if note is not None)
        return Totals(
            text=self._hash.hexdigest()[:16],
            complete=True,
            n_documents=counts.n_documents,
            n_short_documents=counts.n_short_documents,
            n_tokens=counts.n_tokens,
            n_scored_places=counts.n_scored_places,
            n_weights=counts.n_weights,
            removed=removed,
            notes=notes,
        )

    def skip(self, totals: Totals) -> None:
        """Goes on after the documents that `totals` speaks of, which must be the text's first.

        Raises
        ------
        StateError
            If the text begins with other documents.
        """
        for _ in range(totals.n_documents):
            one = next(self._passages, None)
            if one is None:
                break
            self._take(one)
        if self._hash.hexdigest()[:16] != totals.text:
            raise StateError("the predictions are of another text")
        mine = self.counts
        for name in ("n_documents", "n_short_documents", "n_tokens", "n_scored_places"):
            setattr(mine, name, getattr(totals, name))
        mine.n_weights = totals.n_weights
        again = {} if self._alignment is None else self._alignment.removed
        mine.removed = {why: n for why, n in totals.removed.items() if why not in again}

    def _take(self, one: Passage) -> Passage:
        """Notes what is read."""
        self._hash.update(len(one.tokens).to_bytes(8, "little"))
        self._hash.update(np.asarray(one.tokens, dtype="<u4").tobytes())
        if len(one.tokens):
            self._doubt.take(Documents.of(one.tokens))
        if self._on_document is not None:
            self._on_document(one.tokens)
        return one

    def __iter__(self) -> Iterator[Pairs]:
        return self._reader.read(map(self._take, self._passages), self._progress)


class Predictions:
    """Predictions in a file; iterating gives its pairs, in reading order.

    Parameters
    ----------
    path : path
        What `predict` wrote.

    Attributes
    ----------
    path : Path
    header : Header
    totals : Totals

    Raises
    ------
    StateError
        If the file is no predictions, of another version, damaged or cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import pyarrow as pa

        self.path = Path(path)
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(self.path)))
            metadata = self._file.schema.metadata or {}
        except FileNotFoundError:
            raise ArgumentError(f"{path}: there is no such file") from None
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise StateError(
                f"{path} is no file of predictions, or is cut off ({reason[:100]})"
            ) from None
        if metadata.get(b"radscore.magic") != MAGIC.encode():
            raise StateError(f"{path} is an Arrow file, but not of predictions (radscore predict)")
        version = metadata.get(b"radscore.version", b"").decode(errors="replace")
        if version != str(VERSION):
            raise StateError(f"{path} is of version {version}, and this radscore reads {VERSION}")
        try:
            self.header = Header.from_json(metadata[b"radscore.header"])
            last = self._batch(self._file.num_record_batches - 1)[1]
            self._n_batches = int(last["n_batches"])
            values = dict(last["totals"])
            self.totals = Totals(**{**values, "notes": tuple(values["notes"])})
        except (KeyError, TypeError, ValueError, ArgumentError):
            raise StateError(f"{path} has a damaged header, or was not finished") from None
        if self._file.schema != _schema(self.header.context_width) or not (
            0 <= self._n_batches < self._file.num_record_batches
        ):
            raise StateError(f"{path} has columns that are not those of predictions")

    def _batch(self, index: int) -> tuple[Any, dict[str, Any]]:
        import pyarrow as pa

        try:
            batch, metadata = self._file.get_batch_with_custom_metadata(index)
        except (OSError, pa.ArrowException, IndexError) as error:
            reason = " ".join(str(error).split())
            raise StateError(f"{self.path} is damaged at batch {index} ({reason[:100]})") from None
        found = {} if metadata is None else dict(metadata.items())
        return batch, json.loads(found.get(b"radscore.batch", b"null"))

    def __iter__(self) -> Iterator[Pairs]:
        width = self.header.context_width
        for index in range(self._n_batches):
            batch, metadata = self._batch(index)
            n = batch.num_rows
            contexts = batch.column(0).flatten().to_numpy().reshape(n, width)
            targets, weights, occurrences = (batch.column(i).to_numpy() for i in range(1, 4))
            pairs = Pairs(contexts, targets, weights, occurrences, bool(metadata["last"]))
            if _checksum(pairs) != metadata["crc32"]:
                raise StateError(f"{self.path} is damaged: the checksum of batch {index} is wrong")
            yield pairs

    def __repr__(self) -> str:
        header, totals = self.header, self.totals
        return (
            f"Predictions({str(self.path)!r}, {header.weighting.kind}, "
            f"context_width={header.context_width}, n_tokens={totals.n_tokens}, "
            f"n_weights={totals.n_weights}{'' if totals.complete else ', incomplete'})"
        )


def predict(
    model: Any,
    text: Any,
    out: str | os.PathLike[str],
    *,
    context_width: int,
    reference: Any = None,
    weighting: str | Weighting | None = None,
    text_watermarked: bool = False,
    resume: bool = False,
    vocab_size: int | None = None,
    tokenizer: Any = None,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    progress: Callable[[Counts], None] | None = None,
) -> Predictions:
    """Writes what a model predicts after each context of a text to a file.

    Parameters
    ----------
    out : path
        The file; it is there, whole, at the end or not at all. After Ctrl-C or an error it holds
        what was read so far (whole documents, `Totals.complete` False), and the interrupt goes on.
        A file that was there before, but for the one that is resumed, is only replaced by a whole
        one: what was read so far then stands beside it, as ``out`` with ``.incomplete`` at the end.
    weighting : str or Weighting, optional
        "prediction", "mass" or "contrast" (the default with a reference), or all of its settings.
    resume : bool
        Go on with what an interrupted run has left in `out` or beside it: same models, text and
        settings (but for `batch_tokens`).
    model, text, context_width, reference, text_watermarked, vocab_size, tokenizer, batch_tokens, \
max_length, progress
        As in `Reading`.

    Returns
    -------
    Predictions

    Raises
    ------
    StateError
        With `resume`, if `out` is whole, or of another model, text or setting.
    """
    reading = Reading(
        model,
        text,
        context_width=context_width,
        weighting=plan(weighting, reference, {}),
        reference=reference,
        text_watermarked=text_watermarked,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        batch_tokens=batch_tokens,
        max_length=max_length,
        progress=progress,
    )
    out = Path(out)
    left = _left(out) if resume else None
    earlier = None if left is None else _earlier(left, reading)
    with _Writer(out, left, reading.header) as writer:
        if earlier is not None:
            for pairs in earlier:
                writer.write(pairs)
            writer.good(earlier.totals)
        for pairs in reading:
            writer.write(pairs)
            if pairs.last:
                writer.good(replace(reading.totals, complete=False))
        writer.good(reading.totals)
    return Predictions(out)


def plan(weighting: str | Weighting | None, reference: Any, given: dict[str, Any]) -> Weighting:
    """The weighting that is meant, with its settings; those without effect are refused.

    By default it is "contrast" with a reference, else "mass".
    """
    if weighting is None:
        weighting = "mass" if reference is None else "contrast"
    if not isinstance(weighting, Weighting):
        weighting = Weighting(weighting)
    used = {
        "prediction": ("top",),
        "mass": ("max_weights", "min_weight"),
        "contrast": ("max_weights", "min_weight", "transform"),
    }[weighting.kind]
    for name in given:
        if name not in used:
            raise ArgumentError(f"{name}= has no effect with weighting='{weighting.kind}'")
    if weighting.needs_reference and reference is None:
        raise ArgumentError("weighting='contrast' needs reference=")
    if reference is not None and not weighting.needs_reference:
        raise ArgumentError(f"reference= has no effect with weighting='{weighting.kind}'")
    return replace(weighting, **given)


def set_aside(out: str | os.PathLike[str]) -> Path:
    """Where `predict` leaves what was read until it was interrupted if `out` was there before."""
    out = Path(out)
    return out.with_name(f"{out.name}.incomplete")


def _left(out: Path) -> Path:
    """The file that an interrupted run has left: the one beside is of the later run."""
    return aside if (aside := set_aside(out)).exists() else out


def _earlier(out: Path, reading: Reading) -> Predictions:
    """What an interrupted run has left, if it fits."""
    earlier = Predictions(out)
    if earlier.totals.complete:
        raise StateError(f"{out} is whole: there is nothing to resume")
    for one in fields(Header):
        was, now = getattr(earlier.header, one.name), getattr(reading.header, one.name)
        if was != now:
            raise StateError(f"{out} was made with another {one.name} ({was}, now {now})")
    try:
        reading.skip(earlier.totals)
    except StateError as error:
        raise StateError(f"{out}: {error}") from None
    return earlier


class _Writer:
    """Writes beside the file, and puts it in place when it can be read.

    `resumed` is the unfinished file that is continued, which alone an unfinished one replaces.
    """

    def __init__(self, path: Path, resumed: Path | None, header: Header) -> None:
        import pyarrow as pa

        self._path, self._resumed = path, resumed
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent
        )
        os.close(handle)
        self._part = Path(name)
        metadata = {
            "radscore.magic": MAGIC,
            "radscore.version": str(VERSION),
            "radscore.header": header.to_json(),
        }
        self._schema = _schema(header.context_width).with_metadata(metadata)
        self._sink = pa.OSFile(name, "wb")
        self._file = pa.ipc.new_file(
            self._sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        )
        self._n_batches = 0
        self._good: tuple[int, Totals] | None = None

    def write(self, pairs: Pairs) -> None:
        """Adds a batch; it counts once `good` was called."""
        import pyarrow as pa

        width = pairs.contexts.shape[1]
        values = pa.array(np.ascontiguousarray(pairs.contexts).reshape(-1))
        if width:
            contexts = pa.FixedSizeListArray.from_arrays(values, width)
        else:
            contexts = pa.array([[]] * len(pairs), self._schema.field(0).type)
        columns: list[Any] = [pairs.targets, pairs.weights, pairs.occurrences]
        arrays = [contexts, *(pa.array(column) for column in columns)]
        batch = pa.record_batch(arrays, schema=self._schema)
        self._add(batch, {"crc32": _checksum(pairs), "last": pairs.last})
        self._n_batches += 1

    def _add(self, batch: Any, metadata: dict[str, Any]) -> None:
        text = json.dumps(metadata).encode()
        self._file.write_batch(batch, custom_metadata={b"radscore.batch": text})

    def good(self, totals: Totals) -> None:
        """Everything up to here belongs together."""
        self._good = (self._n_batches, totals)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What was read is kept, whatever ended it; nothing whole is lost for it."""
        try:
            if self._good is not None:
                whole = self._good[1].complete
                path = self._path if whole else self._unfinished()
                self._finish(*self._good, path)
                if not whole and error is not None:
                    error.add_note(f"what was read so far is in {path}; resume=True goes on there")
                elif self._resumed is not None and self._resumed != path:
                    self._resumed.unlink(missing_ok=True)
        finally:
            with suppress(OSError):
                self._sink.close()
            self._part.unlink(missing_ok=True)

    def _unfinished(self) -> Path:
        """Where what was read so far goes: over nothing but what it continues."""
        if self._resumed is not None:
            return self._resumed
        return set_aside(self._path) if self._path.exists() else self._path

    def _finish(self, n_batches: int, totals: Totals, path: Path) -> None:
        import pyarrow as pa

        empty = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._add(empty, {"n_batches": n_batches, "totals": asdict(totals)})
        self._file.close()
        self._sink.close()
        self._part.chmod(0o666 & ~_umask())
        self._part.replace(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _schema(width: int) -> Any:
    import pyarrow as pa

    types: list[Any] = [pa.list_(pa.uint32(), width), pa.uint32(), pa.float64(), pa.uint64()]
    return pa.schema([pa.field(name, kind) for name, kind in zip(_COLUMNS, types, strict=True)])


def _checksum(pairs: Pairs) -> int:
    value = 0
    for column in (pairs.contexts, pairs.targets, pairs.weights, pairs.occurrences):
        value = zlib.crc32(np.ascontiguousarray(column).tobytes(), value)
    return value


def vocabulary_hash(tokenizer: Any) -> str:
    """16 hexadecimal digits of a SHA-256 over a tokenizer's tokens and ids."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]):
        digest.update(f"{index} {len(token)} {token}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def same_vocabulary(one: Any, other: Any) -> bool:
    """Whether two tokenizers give each token the same id."""
    return other is not None and (one is other or one.get_vocab() == other.get_vocab())


def check_same_tokenizer(model: LanguageModel, reference: LanguageModel) -> None:
    """Raises where one text would be other ids to the reference."""
    mine, theirs = model.tokenizer, reference.tokenizer
    if mine is not None and theirs is not None:
        if same_vocabulary(mine, theirs):
            return
        ours, others = mine.get_vocab(), theirs.get_vocab()
        n = sum(others.get(token) != index for token, index in ours.items())
        # padding and tokens that fine-tuning added at the end do no harm
        if n <= len(ours) // 100 and abs(len(ours) - len(others)) <= len(ours) // 100:
            return
        raise ModelError(
            f"the reference {reference.name} has another tokenizer than {model.name}: {n} of "
            f"{len(ours)} tokens have other ids there; a reference reads the same ids (the "
            "suspect's base, an earlier checkpoint, or a model trained from the same base)"
        )
    small, large = sorted((model.vocab_size, reference.vocab_size))
    if small < 0.9 * large:
        raise ModelError(
            f"the reference {reference.name} predicts {reference.vocab_size} tokens and "
            f"{model.name} {model.vocab_size}, so they do not share a tokenizer"
        )
