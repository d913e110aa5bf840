"""One row a document: collected batch by batch, written at the end with q-values."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.cli.exits import UsageError
from radscore.errors import StateError
from radscore.results import discoveries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.corpus import Batch, Corpus
    from radscore.results import DocumentScores, ScoreResult
    from radscore.stats.fdr import FalseDiscoveryResult

__all__ = ["DocumentRows", "Found", "check_suffix"]

_SUFFIXES = (".parquet", ".jsonl", ".csv")
_UNITS = ("line", "row", "token")
_ROW = np.dtype(
    [
        ("source", "<i4"),
        ("unit", "u1"),
        ("number", "<i8"),
        ("n_scored", "<i8"),
        ("n_shared", "<i8"),
        ("n_common", "<i8"),
        ("copy_of", "<i8"),
        ("statistic", "<f8"),
        ("log10_pvalue", "<f8"),
    ]
)
#: What a copy has of the document that it copies.
_OF_A_TEST = ("n_scored", "n_shared", "n_common", "statistic", "log10_pvalue")
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Found:
    """How many documents carry the watermark; not known where there are no p-values.

    Attributes
    ----------
    path : str
        Where the rows are.
    n_documents, n_tested, n_copies : int
        Documents, those with a scored unit, and those of them that are copies of an earlier one
        and share its test.
    n_all_shared : int
        Documents without a scored unit because earlier ones hold all of theirs.
    n_significant, n_significant_copies, n_significant_common : int or None
        Documents found, copies among them, and others of which more than half of the evidence is
        in earlier documents too.
    fdr : float
        The false discovery rate.
    max_sharing : int or None
        Documents in which a unit is evidence.
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
    """Raises unless the format can be told from the name."""
    if Path(path).suffix not in _SUFFIXES:
        raise UsageError(f"--per-document must end in {', '.join(_SUFFIXES)}, not {path}")


class DocumentRows:
    """The scores of every document so far, 61 bytes each."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[Any]] = []
        self._saved = 0  # parts that are in the file
        self._digest = hashlib.blake2b(digest_size=16)  # of those

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, batch: Batch, scores: DocumentScores) -> None:
        """Takes the scores of a batch."""
        rows = np.zeros(len(scores), dtype=_ROW)
        rows["source"] = batch.cursor["source"]
        rows["unit"] = _UNITS.index(batch.locations.kind)
        rows["number"] = batch.locations.numbers
        for name in (*_OF_A_TEST, "copy_of"):
            rows[name] = getattr(scores, name)
        self._parts.append(rows)

    def save(self, path: Path) -> None:
        """Appends what is not in the file yet."""
        with path.open("ab" if self._saved else "wb") as file:
            for part in self._parts[self._saved :]:
                data = part.tobytes()
                file.write(data)
                self._digest.update(data)
        self._saved = len(self._parts)

    @property
    def stamp(self) -> dict[str, Any]:
        """Number and digest of the rows that were saved: by it they are known again."""
        n_rows = sum(map(len, self._parts[: self._saved]))
        return {"rows": n_rows, "digest": self._digest.hexdigest()}

    def load(self, path: Path, stamp: dict[str, Any]) -> None:
        """Takes the rows that `stamp` tells; rows after them belong to a state never saved."""
        try:
            with path.open("r+b") as file:
                data = file.read(int(stamp["rows"]) * _ROW.itemsize)
                file.truncate(len(data))
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; it belongs to the state") from None
        self._digest.update(data)
        self._parts = [np.frombuffer(data[: len(data) // _ROW.itemsize * _ROW.itemsize], _ROW)]
        self._saved = 1
        if self.stamp != stamp:
            raise StateError(
                f"{path} is damaged: it does not hold the rows that belong to the state"
            )

    def write(
        self, path: str, corpus: Corpus, result: ScoreResult, fdr: float, max_sharing: int | None
    ) -> Found:
        """Writes all rows and counts the significant ones."""
        rows = np.concatenate(self._parts)
        copies = rows["copy_of"] >= 0
        for name in _OF_A_TEST:
            rows[name][copies] = rows[name][rows["copy_of"][copies]]
        tested = rows["n_scored"] > 0
        found = discoveries(rows["log10_pvalue"], tested, rows["copy_of"], fdr)
        writer = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": _write_csv}
        green = result.n_green is not None
        chunks = _chunks(rows, found, corpus, green=green)
        temporary = Path(f"{path}.part")  # never half a table under the right name
        try:
            writer[Path(path).suffix](temporary, chunks)
            temporary.replace(path)
        except OSError as error:  # which may name the temporary file, or none
            reason = str(error).replace(str(temporary), path)
            raise OSError(error.errno, error.strerror or reason, path) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
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
    """Columns of some rows at a time: their places are strings, which take memory."""
    # A document without a window is no test: p-value and q-value 1.
    untested = rows["n_scored"] == 0
    log10_qvalues = np.where(untested, 0.0, found.log10_qvalues)
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK]
        name, score = "score", part["statistic"]
        if green:
            name, score = "n_green", score.astype(np.int64)
        yield {
            "index": np.arange(first, first + len(part)),
            "source": [_place(row, corpus) for row in part],
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


def _place(row: Any, corpus: Corpus) -> str:
    from radscore.corpus import location

    return location(corpus.sources[row["source"]].path, int(row["number"]), _UNITS[row["unit"]])


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
