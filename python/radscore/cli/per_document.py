"""One row per document: collected batch by batch, written at the end with q-values."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.cli.exits import UsageError
from radscore.cli.state_files import ROWS_MAGIC
from radscore.errors import StateError
from radscore.files import create, drafted, sync_folder
from radscore.results import discoveries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.cli.state_files import StateFiles
    from radscore.corpus import Batch, Corpus
    from radscore.results import DocumentScores, ScoreResult
    from radscore.stats.fdr import FalseDiscoveryResult

__all__ = ["DocumentRows", "Found", "check_suffix"]

_SUFFIXES = (".parquet", ".jsonl", ".csv")
_KINDS = ("line", "row", "token")
_ROW = np.dtype(
    [
        ("source", "<i4"),
        ("kind", "u1"),
        ("number", "<i8"),
        ("n_scored", "<i8"),
        ("n_shared", "<i8"),
        ("n_common", "<i8"),
        ("copy_of", "<i8"),
        ("statistic", "<f8"),
        ("log10_pvalue", "<f8"),
    ]
)
#: What a copy takes over from the document it copies.
_OF_A_TEST = ("n_scored", "n_shared", "n_common", "statistic", "log10_pvalue")
#: How a file of rows begins.
_HEAD = ROWS_MAGIC + (1).to_bytes(4, "little")
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Found:
    """How many documents carry the watermark, if there are p-values.

    Attributes
    ----------
    path : str
        Where the rows are.
    n_documents, n_tested, n_copies : int
        All documents; those with a scored unit; and, of these, copies of an earlier document, which
        share its test.
    n_all_shared : int
        Documents without a scored unit because earlier ones hold all of theirs.
    n_significant, n_significant_copies, n_significant_common : int or None
        Significant documents; copies among them; and others that owe more than half of their
        evidence to units of earlier documents.
    fdr : float
        The false discovery rate.
    max_sharing : int or None
        In how many documents a unit is evidence; None for all.
    """

    path: str
    n_documents: int
    n_tested: int
    n_copies: int
    n_all_shared: int
    n_significant: int | None
    n_significant_copies: int | None
    n_significant_common: int | None
    fdr: float
    max_sharing: int | None


def check_suffix(path: str) -> None:
    """Raises unless the name says which format is meant."""
    if Path(path).suffix not in _SUFFIXES:
        raise UsageError(f"--per-document must end in {', '.join(_SUFFIXES)}, not {path}")


class DocumentRows:
    """The scores of every document so far, 61 bytes each, in batches."""

    def __init__(self) -> None:
        self._batches: list[npt.NDArray[Any]] = []
        self._saved = 0  # batches in the file
        self._end = 0  # bytes there of them, and of the head
        self._digest = hashlib.sha256()  # of those

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    def add(self, batch: Batch, scores: DocumentScores) -> None:
        """Takes the scores of a batch."""
        rows = np.zeros(len(scores), dtype=_ROW)
        rows["source"] = batch.cursor["source"]
        rows["kind"] = _KINDS.index(batch.locations.kind)
        rows["number"] = batch.locations.numbers
        for name in (*_OF_A_TEST, "copy_of"):
            rows[name] = getattr(scores, name)
        self._batches.append(rows)

    def save(self, path: Path) -> None:
        """Appends whatever the file does not hold yet; on the disk on return."""
        data = b"".join(batch.tobytes() for batch in self._batches[self._saved :])
        if self._end:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b")
        else:
            path.unlink(missing_ok=True)  # of a state that is gone
            file = os.fdopen(create(path), "r+b")
            data = _HEAD + data
        with file:
            file.truncate(self._end)  # what comes after it is of a save that failed
            file.seek(self._end)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not self._end:
            sync_folder(path.parent)
        self._digest.update(data)
        self._end += len(data)
        self._saved = len(self._batches)

    @property
    def stamp(self) -> dict[str, Any]:
        """Number and digest of the saved rows, to recognise them by."""
        n_rows = sum(map(len, self._batches[: self._saved]))
        return {"rows": n_rows, "digest": self._digest.hexdigest()}

    def load(self, path: Path, stamp: dict[str, Any]) -> None:
        """Takes the rows that `stamp` describes; any after them are of a state never saved."""
        try:
            n_bytes = len(_HEAD) + int(stamp["rows"]) * _ROW.itemsize
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                data = file.read(n_bytes)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}, but the state needs it") from None
        except (KeyError, TypeError, ValueError, OverflowError):
            raise StateError(f"{path}: the state does not say which rows are its own") from None
        self._digest.update(data)
        rows = data[len(_HEAD) :]
        self._batches = [np.frombuffer(rows[: len(rows) // _ROW.itemsize * _ROW.itemsize], _ROW)]
        self._saved, self._end = 1, len(data)
        if self.stamp != stamp or len(data) != n_bytes or data[: len(_HEAD)] != _HEAD:
            raise StateError(f"{path} is damaged: it does not hold the rows of the state")

    def write(
        self,
        path: str,
        corpus: Corpus,
        result: ScoreResult,
        fdr: float,
        max_sharing: int | None,
        files: StateFiles,
        force: bool,
    ) -> Found:
        """Writes all rows, with q-values, and counts the significant ones."""
        rows = np.concatenate(self._batches)
        copies = rows["copy_of"] >= 0
        for name in _OF_A_TEST:
            rows[name][copies] = rows[name][rows["copy_of"][copies]]
        tested = rows["n_scored"] > 0
        found = discoveries(rows["log10_pvalue"], tested, rows["copy_of"], fdr)
        writer = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": _write_csv}
        green = result.n_green is not None
        chunks = _chunks(rows, found, corpus, green=green)
        replace = force or files.wrote(path)
        with drafted(Path(path), replace=replace) as temporary:
            writer[Path(path).suffix](temporary, chunks)
            files.announce(path, temporary)
        common = found.rejected & ~copies & (2 * rows["n_common"] > rows["n_scored"])
        known = not math.isnan(result.log10_pvalue)
        return Found(
            path=path,
            n_documents=len(rows),
            n_tested=int(tested.sum()),
            n_copies=int((copies & tested).sum()),
            n_all_shared=int((~tested & (rows["n_shared"] > 0)).sum()),
            n_significant=found.n_rejected if known else None,
            n_significant_copies=int((found.rejected & copies).sum()) if known else None,
            n_significant_common=int(common.sum()) if known else None,
            fdr=fdr,
            max_sharing=max_sharing,
        )


def _chunks(
    rows: npt.NDArray[Any], found: FalseDiscoveryResult, corpus: Corpus, *, green: bool
) -> Iterator[dict[str, Any]]:
    """Columns of some rows at a time, since their locations are strings, which take memory."""
    # A document without a window is not a test: p-value and q-value are 1.
    untested = rows["n_scored"] == 0
    log10_qvalues = np.where(untested, 0.0, found.log10_qvalues)
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK]
        name, score = "score", part["statistic"]
        if green:
            name, score = "n_green", score.astype(np.int64)
        yield {
            "index": np.arange(first, first + len(part)),
            "source": [_location(row, corpus) for row in part],
            "n_scored": part["n_scored"],
            name: score,
            "statistic": part["statistic"],
            "pvalue": 10.0 ** part["log10_pvalue"],
            "log10_pvalue": part["log10_pvalue"],
            "qvalue": 10.0 ** log10_qvalues[first : first + _CHUNK],
            "n_shared": part["n_shared"],
            "n_common": part["n_common"],
            "copy_of": part["copy_of"],
        }


def _location(row: Any, corpus: Corpus) -> str:
    from radscore.corpus import location

    return location(corpus.sources[row["source"]].path, int(row["number"]), _KINDS[row["kind"]])


def _write_parquet(path: Path, chunks: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for columns in chunks:
            table = pa.table({name: pa.array(column) for name, column in columns.items()})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _rows_of(columns: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    lists = (c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values())
    return zip(*lists, strict=True)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _write_jsonl(path: Path, chunks: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for columns in chunks:
            for row in _rows_of(columns):
                values = (None if _is_nan(value) else value for value in row)
                file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")


def _write_csv(path: Path, chunks: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for i, columns in enumerate(chunks):
            if i == 0:
                writer.writerow(columns)
            writer.writerows(_rows_of(columns))
