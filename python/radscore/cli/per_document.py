"""One row per document: collected batch by batch, written at the end with q-values."""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.cli.document_files import (
    CHUNK,
    KINDS,
    Wanted,
    kept_columns,
    row_numbers,
    selected,
    write_records,
    write_rows,
)
from radscore.cli.exits import UsageError
from radscore.cli.state_files import ROWS_MAGIC
from radscore.corpus.base import location
from radscore.corpus.remote import named
from radscore.errors import StateError
from radscore.files import drafted, remove_drafts
from radscore.results import discoveries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from radscore.cli.state_files import StateFiles
    from radscore.corpus import Batch, Corpus
    from radscore.results import DocumentScores, ScoreResult
    from radscore.stats.fdr import FalseDiscoveryResult

__all__ = ["DocumentRows", "Found"]

_ROW = np.dtype(
    [
        ("source", "<i4"),
        ("kind", "u1"),
        ("number", "<i8"),
        ("n_tokens", "<i8"),
        ("n_scored", "<i8"),
        ("n_shared", "<i8"),
        ("n_common", "<i8"),
        ("copy_of", "<i8"),
        ("statistic", "<f8"),
        ("zscore", "<f8"),
        ("log10_pvalue", "<f8"),
    ]
)
#: What a copy takes over from the document it copies.
_OF_A_TEST = ("n_scored", "n_shared", "n_common", "statistic", "zscore", "log10_pvalue")
#: How a file of rows begins.
_HEAD = ROWS_MAGIC + (2).to_bytes(4, "little")


@dataclass(frozen=True)
class Found:
    """How many documents carry the watermark, if there are p-values.

    Attributes
    ----------
    path : str or None
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
    select, out, n_selected
        Which documents' records were written where, and how many.
    """

    path: str | None
    n_documents: int
    n_tested: int
    n_copies: int
    n_all_shared: int
    n_significant: int | None
    n_significant_copies: int | None
    n_significant_common: int | None
    fdr: float
    max_sharing: int | None
    select: str | None = None
    out: str | None = None
    n_selected: int | None = None


class DocumentRows:
    """The scores of every document so far, 77 bytes each, in batches."""

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
        rows["kind"] = KINDS.index(batch.locations.kind)
        before = batch.locations.before
        rows["number"] = batch.locations.numbers + (0 if before is None else before())
        rows["n_tokens"] = np.diff(batch.documents.offsets)
        for name in (*_OF_A_TEST, "copy_of"):
            rows[name] = getattr(scores, name)
        self._batches.append(rows)

    def save(self, path: Path) -> None:
        """Appends whatever the file does not hold yet; on the disk on return."""
        data = b"".join(batch.tobytes() for batch in self._batches[self._saved :])
        if self._end:
            with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b") as file:
                file.truncate(self._end)  # what comes after it is of a save that failed
                file.seek(self._end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        else:
            data = _HEAD + data
            with drafted(path) as temporary:  # in place of those of a state that is gone
                temporary.write_bytes(data)
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
        wanted: Wanted,
        corpus: Corpus,
        again: Callable[[], Corpus],
        result: ScoreResult,
        files: StateFiles,
        *,
        max_sharing: int | None,
    ) -> Found:
        """Writes what is wanted, with q-values, and counts the significant documents.

        Parameters
        ----------
        wanted : Wanted
            Which files, with what.
        corpus, again
            The corpus, and what opens it again.
        result : ScoreResult
            The test of the whole corpus.
        files : StateFiles
            Is told of outputs before they get their names.
        max_sharing : int or None
            In how many documents a unit is evidence.
        """
        rows = np.concatenate(self._batches)
        copies = rows["copy_of"] >= 0
        for name in _OF_A_TEST:
            rows[name][copies] = rows[name][rows["copy_of"][copies]]
        tested = rows["n_scored"] > 0
        found = discoveries(rows["log10_pvalue"], tested, rows["copy_of"], wanted.level)
        n_selected = None
        if wanted.rows is not None:
            chunks = _chunks(rows, found, corpus, wanted, green=result.n_green is not None)
            with _output(wanted.rows, wanted, files) as temporary:
                write_rows(temporary, Path(wanted.rows).suffix, chunks, result.provenance)
        if wanted.out is not None:
            if math.isnan(result.log10_pvalue):
                raise UsageError(f"--select has no p-values to go by ({result.method})")
            chosen = found.rejected if wanted.select == "found" else ~found.rejected
            some = selected(corpus, rows, chosen, again)
            tables = all(one.path.suffix in (".parquet", ".pq") for one in corpus.sources)
            with _output(wanted.out, wanted, files) as temporary:
                n_selected = write_records(
                    temporary,
                    Path(wanted.out).suffix,
                    some,
                    corpus.sources[0].path if tables else None,
                )
        common = found.rejected & ~copies & (2 * rows["n_common"] > rows["n_scored"])
        known = not math.isnan(result.log10_pvalue)
        return Found(
            path=wanted.rows,
            n_documents=len(rows),
            n_tested=int(tested.sum()),
            n_copies=int((copies & tested).sum()),
            n_all_shared=int((~tested & (rows["n_shared"] > 0)).sum()),
            n_significant=found.n_rejected if known else None,
            n_significant_copies=int((found.rejected & copies).sum()) if known else None,
            n_significant_common=int(common.sum()) if known else None,
            fdr=wanted.level,
            max_sharing=max_sharing,
            select=wanted.select,
            out=wanted.out,
            n_selected=n_selected,
        )


@contextmanager
def _output(path: str, wanted: Wanted, files: StateFiles) -> Iterator[Path]:
    """Where to write an output that the state knows for its own from before it has its name."""
    replace = wanted.force or files.wrote(path)
    remove_drafts(Path(path))
    with drafted(Path(path), replace=replace) as temporary:
        yield temporary
        files.announce(path, temporary)


def _chunks(
    rows: npt.NDArray[Any],
    found: FalseDiscoveryResult,
    corpus: Corpus,
    wanted: Wanted,
    *,
    green: bool,
) -> Iterator[dict[str, Any]]:
    """Columns of some rows at a time, since their locations are strings, which take memory."""
    # A document without a window is not a test: p-value and q-value are 1.
    untested = rows["n_scored"] == 0
    log10_qvalues = np.where(untested, 0.0, found.log10_qvalues)
    kept = kept_columns(corpus, rows, wanted) if wanted.keep or wanted.id_field else None
    for first in range(0, len(rows), CHUNK):
        part = rows[first : first + CHUNK]
        name, score = "score", part["statistic"]
        if green:
            name, score = "n_green", score.astype(np.int64)
        more = {} if kept is None else next(kept)
        own_id = {"id": more.pop("id")} if wanted.id_field else {}
        yield {
            "index": np.arange(first, first + len(part)),
            **own_id,
            "source": [named(corpus.sources[number].path) for number in part["source"].tolist()],
            "row": row_numbers(part),
            "location": [_location(row, corpus) for row in part],
            "n_tokens": part["n_tokens"],
            "n_scored": part["n_scored"],
            name: score,
            "statistic": part["statistic"],
            "zscore": part["zscore"],
            "pvalue": 10.0 ** part["log10_pvalue"],
            "log10_pvalue": part["log10_pvalue"],
            "qvalue": 10.0 ** log10_qvalues[first : first + CHUNK],
            "n_shared": part["n_shared"],
            "n_common": part["n_common"],
            "copy_of": part["copy_of"],
            **more,
        }


def _location(row: Any, corpus: Corpus) -> str:
    path = named(corpus.sources[row["source"]].path)
    return location(path, int(row["number"]), KINDS[row["kind"]])
