"""Files of predictions: what a model predicts after each context of a text, as weights.

The holder of a model writes one (`predict`), and the holder of the key tests it: neither has to
hand the model or the key to the other. The file is Arrow IPC; its schema's metadata hold
``radscore.magic`` (``RSPR``), ``radscore.version`` (6; 5 is read too) and ``radscore.header``
(JSON, see `Header`). Rows are positions (`radscore.models.prediction_rows`). Each batch has
metadata of its own: ``radscore.batch`` (JSON) and ``radscore.checksum``, 16 bytes of BLAKE2b over
the header, the batch's number, its JSON and its columns. A last, empty batch says what was read in
all (`Totals`), so a file that was cut off is recognised, and so is one that was patched together.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Self

from radscore.errors import ArgumentError, StateError, line_of
from radscore.files import Draft, begins_with, remove_drafts
from radscore.models.prediction_rows import columns_of, fits, pairs_of, rows_of, schema_of
from radscore.models.weighting import Weighting

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from radscore.models.batching import Pairs

__all__ = ["Header", "Predictions", "PredictionsWriter", "Totals", "looks_written", "unfinished"]

MAGIC: Final = "RSPR"
VERSION: Final = 6
_OLD: Final = "5"
_ARROW: Final = b"ARROW1"


@dataclass(frozen=True)
class Header:
    """What is known of predictions before the text is read.

    Attributes
    ----------
    model, reference, tokenizer : str or None
        Fingerprints of the suspect and the reference (of several, separated by commas), and the
        hash of the vocabulary that contexts and targets are in (None if the model came without a
        tokenizer).
    weighting : Weighting
        How predictions became weights.
    vocab_size : int
        Targets are below it.
    least_vocab_size : int
        The smallest vocabulary that a scheme for this tokenizer can have: without the tokens
        that were added to it, or nine tenths of `vocab_size` if there is no tokenizer.
    context_width : int
        Tokens in a context.
    text_watermarked : bool
        Whether the text carries the watermark that is tested; then every position is listed, even
        those without weight.
    aligned : bool
        Whether the model has another tokenizer than the watermark.
    max_length : int or None
        Most tokens that were read at once: longer documents are cut into pieces.
    prefix : tuple of int
        The special tokens before every text and piece, in the model's ids.
    radscore : str
        The version that read the text.
    shard : tuple of two int, optional
        Which of how many equal parts of the text was read, from 1; None for all of it.
    contexts : str, optional
        The fingerprint of the k-grams after which predictions were weighed; None for all contexts.
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
    shard: tuple[int, int] | None = None
    contexts: str | None = None

    @property
    def has_base(self) -> bool:
        """Whether the reference's probabilities are there (`Pairs.base`)."""
        return self.weighting.kind == "matched"

    def to_json(self) -> str:
        """As the file holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of `to_json`."""
        values = json.loads(text)
        weighting = Weighting(**values.pop("weighting"))
        for name in ("prefix", "shard"):
            values[name] = None if values[name] is None else tuple(values[name])
        header = cls(weighting=weighting, **values)
        _check_types(header)
        if header.shard is not None:
            number, n_shards = header.shard
            if not 1 <= number <= n_shards:
                raise ValueError(header.shard)
        return header


@dataclass(frozen=True)
class Totals:
    """What was read.

    Attributes
    ----------
    text : str
        64 hexadecimal digits, a SHA-256 over the documents' lengths and ids.
    complete : bool
        Whether the reading reached the end of the text; if not, these are its first documents.
    n_documents, n_short_documents, n_tokens, n_scored_positions, n_weights, removed
        As in `Counts`.
    usage : dict
        With a model behind an API: its requests, and the tokens of prompts and answers.
    notes : tuple of str
        What whoever tests them should know.
    provenance : dict
        What made them: inputs, version, date, command (`radscore.provenance`). Two totals are
        equal whatever it says.
    """

    text: str
    complete: bool
    n_documents: int
    n_short_documents: int
    n_tokens: int
    n_scored_positions: int
    n_weights: int
    removed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    usage: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict, compare=False)


class Predictions:
    """Predictions in a file; iterating yields its pairs, in reading order.

    Opening reads the header and the totals; iterating maps the file into memory, one batch at a
    time, and verifies each batch's checksum.

    Parameters
    ----------
    path : path
        What `predict` wrote.

    Attributes
    ----------
    path : Path
    header : Header
    totals : Totals
    n_before : int
        On the result of `predict`: documents that an earlier call had read already; else 0.

    Raises
    ------
    StateError
        If the file does not hold predictions, is of another version, damaged or cut off.
    """

    def __init__(self, path: str | os.PathLike[str], *, n_before: int = 0) -> None:
        import pyarrow as pa

        self.path = Path(path)
        self.n_before = n_before
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(self.path)))
            metadata = self._file.schema.metadata or {}
        except FileNotFoundError:
            raise ArgumentError(f"{path}: no such file") from None
        except (OSError, pa.ArrowException) as error:
            raise StateError(
                f"{path} is not a file of predictions, or is cut off ({line_of(error, 100)})"
            ) from None
        if metadata.get(b"radscore.magic") != MAGIC.encode():
            raise StateError(f"{path} is an Arrow file, but not one of predictions")
        version = metadata.get(b"radscore.version", b"").decode(errors="replace")
        if version not in {str(VERSION), _OLD}:
            raise StateError(
                f"{path} is of version {version}, but this radscore reads {_OLD} and {VERSION}; "
                "make it anew (radscore predict)"
            )
        self._header_json = metadata.get(b"radscore.header", b"")
        damaged = StateError(f"{path} has a damaged header, or was never finished")
        try:
            self.header = Header.from_json(self._header_json)
        except (KeyError, TypeError, ValueError, RecursionError, ArgumentError):
            raise damaged from None
        header = self.header
        shape = (self._file.schema, header.context_width, header.vocab_size)
        if not fits(*shape, base=header.has_base, old=version == _OLD):
            raise StateError(f"{path} does not have the columns of predictions")
        index = self._file.num_record_batches - 1
        if index < 0:
            raise damaged
        try:
            last = self._batch(index)[1]
            self._n_batches = int(last["n_batches"])
            values = dict(last["totals"])
            self.totals = Totals(**{**values, "notes": tuple(values["notes"])})
            _check_types(self.totals)
        except (KeyError, TypeError, ValueError):
            raise damaged from None
        if not 0 <= self._n_batches <= index:
            raise damaged

    def _batch(self, index: int) -> tuple[list[Any], Any]:
        """The columns of a batch and what its metadata say, both under its checksum."""
        import pyarrow as pa

        try:
            batch, metadata = self._file.get_batch_with_custom_metadata(index)
            batch.validate(full=True)  # or lengths that lie would be read blindly
            found = {} if metadata is None else dict(metadata.items())
        except (OSError, pa.ArrowException, IndexError) as error:
            reason = line_of(error, 100)
            raise StateError(f"{self.path} is damaged at batch {index} ({reason})") from None
        columns = columns_of(batch)
        text = found.get(b"radscore.batch", b"")
        expected = _checksum(self._header_json, index, text, columns or [])
        if columns is None or found.get(b"radscore.checksum", b"").decode("latin-1") != expected:
            raise StateError(f"{self.path} is damaged: batch {index} has the wrong checksum")
        try:
            return columns, json.loads(text)
        except (ValueError, RecursionError):
            raise StateError(f"{self.path} is damaged: batch {index} says nothing") from None

    def __iter__(self) -> Iterator[Pairs]:
        width = self.header.context_width
        for index in range(self._n_batches):
            columns, about = self._batch(index)
            try:
                if type(about["last"]) is not bool:
                    raise TypeError("last")  # noqa: TRY301 - one way to say it
                pairs = pairs_of(columns, about["exponent"], width, last=about["last"])
            except (KeyError, TypeError, ValueError) as error:
                what = error.args[0] if isinstance(error, KeyError) else line_of(error, 100)
                raise StateError(
                    f"{self.path} is damaged: batch {index} has no valid {what}"
                ) from None
            if len(pairs) and pairs.targets.max() >= self.header.vocab_size:
                raise StateError(
                    f"{self.path}: batch {index} has target {pairs.targets.max()}, outside the "
                    f"vocabulary of {self.header.vocab_size}"
                )
            yield pairs

    def __repr__(self) -> str:
        header, totals = self.header, self.totals
        return (
            f"Predictions({str(self.path)!r}, {header.weighting.kind}, "
            f"context_width={header.context_width}, n_tokens={totals.n_tokens}, "
            f"n_weights={totals.n_weights}{'' if totals.complete else ', incomplete'})"
        )


def unfinished(out: str | os.PathLike[str]) -> Path:
    """Where `predict` keeps what it has read when it is interrupted: beside `out`."""
    out = Path(out)
    return out.with_name(f"{out.name}.incomplete")


def looks_written(path: Path) -> bool:
    """Whether a file, and not a link to one, may be one of predictions, by how it begins."""
    if not begins_with(path, _ARROW):
        return False
    with path.open("rb") as file:
        return b"radscore.magic" in file.read(1 << 16)


class PredictionsWriter:
    """Writes a file of predictions, which appears under its name only when it is whole.

    Leaving the block before the last `good` was complete keeps everything up to the last `good` in
    `unfinished`, whatever the reason; a killed process leaves what was there before.

    Parameters
    ----------
    path : Path
        The file to be.
    header : Header
    n_ids : int
        The ids of all contexts are below it.
    replace : bool
        Whether to replace a file that is there, in one step.
    """

    def __init__(
        self, path: Path, header: Header, *, n_ids: int = 1 << 32, replace: bool = True
    ) -> None:
        import pyarrow as pa

        remove_drafts(path)
        self._replace = replace
        self._draft = Draft(path)
        metadata = {
            "radscore.magic": MAGIC,
            "radscore.version": str(VERSION),
            "radscore.header": header.to_json(),
        }
        self._header_json = header.to_json().encode()
        self._schema = schema_of(
            header.context_width, header.vocab_size, n_ids, base=header.has_base
        ).with_metadata(metadata)
        self._sink = pa.OSFile(str(self._draft.temporary), "wb")
        self._file = pa.ipc.new_file(
            self._sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        )
        self._n_batches = 0
        self._good: tuple[int, Totals] | None = None

    def write(self, pairs: Pairs) -> None:
        """Adds a batch; it counts once `good` is called."""
        batch, exponent = rows_of(pairs, self._schema)
        self._add(batch, self._n_batches, {"last": pairs.last, "exponent": exponent})
        self._n_batches += 1

    def _add(self, batch: Any, number: int, about: dict[str, Any]) -> None:
        text = json.dumps(about).encode()
        checksum = _checksum(self._header_json, number, text, columns_of(batch) or [])
        metadata = {b"radscore.batch": text, b"radscore.checksum": checksum.encode()}
        self._file.write_batch(batch, custom_metadata=metadata)

    def good(self, totals: Totals) -> None:
        """Marks everything written so far as belonging together."""
        self._good = (self._n_batches, totals)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        aside = unfinished(self._draft.path)
        try:
            if self._good is not None:
                self._finish(*self._good, aside)
                if not self._good[1].complete and error is not None:
                    error.add_note(f"what was read so far is in {aside}: call again to continue")
        finally:
            with suppress(OSError):
                self._sink.close()
            self._draft.discard()

    def _finish(self, n_batches: int, totals: Totals, aside: Path) -> None:
        import pyarrow as pa

        empty = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._add(empty, self._n_batches, {"n_batches": n_batches, "totals": asdict(totals)})
        self._file.close()
        self._sink.close()
        if totals.complete:
            self._publish(aside)
        else:
            self._draft.publish(aside)
        if totals.complete:
            aside.unlink(missing_ok=True)

    def _publish(self, aside: Path) -> None:
        """Gives the file its name; if that is taken by now, what was read is kept beside it."""
        try:
            self._draft.publish(replace=self._replace)
        except FileExistsError:
            self._draft.publish(aside)
            raise StateError(
                f"{self._draft.path} exists already; use force= to replace it, or name another file"
            ) from None


def _check_types(made: Header | Totals) -> None:
    """Raises `TypeError` unless the plain fields have the types that they are declared with."""
    plain: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "str | None": (str, NoneType),
        "int": (int,),
        "int | None": (int, NoneType),
        "bool": (bool,),
        "tuple[int, ...]": (int,),
        "tuple[int, int] | None": (int, NoneType),
        "tuple[str, ...]": (str,),
        "dict[str, int]": (int,),
    }
    for one in fields(made):
        value = getattr(made, one.name)
        each = value.values() if isinstance(value, dict) else value
        for item in each if isinstance(value, (tuple, dict)) else (value,):
            if type(item) not in plain.get(str(one.type), (type(item),)):
                raise TypeError(f"{one.name} is {item!r}")


def _checksum(header: bytes, number: int, about: bytes, columns: list[Any]) -> str:
    """Of everything that a batch means: what it belongs to, its number, metadata and columns."""
    value = hashlib.blake2b(digest_size=16)
    for part in (header, str(number).encode(), about, *columns):
        value.update(len(memoryview(part)).to_bytes(8, "little"))
        value.update(part)
    return value.hexdigest()
