"""From the format of a file to what reads it, and to what is known of it beforehand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from radscore.corpus.base import Problems, Reader, counted
from radscore.corpus.formats.tokens import NANOGPT, TokenReader, token_layout
from radscore.corpus.sources import BARE, Source, side_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.corpus.corpus import Options

__all__ = [
    "Known",
    "boundaries",
    "end_of_document",
    "has_fields",
    "known",
    "reader_of",
    "shortened",
]

# Where files say themselves how documents end, and what does.
_INDEXES = {
    "megatron": ".idx",
    "datatrove": ".index",
    "dolma": ".csv.gz",
    "litdata": "the items of chunks",
    "mds": "the samples of shards",
}


@dataclass(frozen=True)
class Known:
    """What is known of a corpus before it is read; None where nothing tells.

    Attributes
    ----------
    n_tokens, n_documents : int or None
        Tokens and documents of all files.
    """

    n_tokens: int | None
    n_documents: int | None

    def plus(self, other: Known) -> Known:
        """Both as one."""
        return Known(_sum(self.n_tokens, other.n_tokens), _sum(self.n_documents, other.n_documents))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def has_fields(source: Source) -> bool:
    """Whether the documents are fields of records."""
    if source.format == "litdata":
        from radscore.corpus.formats.litdata import litdata_names

        return litdata_names(source) is not None
    return source.format not in BARE


def end_of_document(sources: Iterable[Source], eod: int | None) -> int | None:
    """The end-of-document id: that which was given, else that which a format always has."""
    kinds = {source.format for source in sources}
    return NANOGPT[1] if eod is None and kinds == {"nanogpt"} else eod


def reader_of(source: Source, options: Options, problems: Problems) -> Reader:
    """What reads a file."""
    kind, fields = source.format, options.fields
    if kind == "megatron":
        from radscore.corpus.formats.megatron import MegatronReader

        return MegatronReader(source, options.batch_tokens)
    if kind in BARE:
        layout = token_layout(source, options.dtype)
        return TokenReader(layout, options.eod, options.batch_tokens)
    if kind == "litdata":
        from radscore.corpus.formats.litdata import litdata_reader

        return litdata_reader(source, options.eod, options.batch_tokens, fields, problems)
    if fields is None:
        raise AssertionError("a record format without fields")
    if kind == "jsonl":
        from radscore.corpus.formats.jsonl import JsonLinesReader

        return JsonLinesReader(source, fields, problems)
    if kind == "mds":
        from radscore.corpus.formats.mds import mds_reader

        return mds_reader(source, options.dtype, fields, problems)
    if kind == "datasets":
        from radscore.corpus.formats.datasets import dataset_reader

        return dataset_reader(source, fields, problems)
    from radscore.corpus.formats.columns import ArrowReader, ParquetReader

    return (ParquetReader if kind == "parquet" else ArrowReader)(source, fields, problems)


def shortened(
    source: Source, options: Options, position: dict[str, int], room: int
) -> Reader | None:
    """A reader of `room` bare ids after a position; None for files that have an index or rows."""
    if source.format not in BARE or source.format == "megatron":
        return None
    layout = token_layout(source, options.dtype)
    if layout.ends is not None or layout.row is not None:
        return None
    end = min(position.get("token", 0) + room, layout.n_tokens)
    return TokenReader(replace(layout, n_tokens=end), options.eod, options.batch_tokens)


def known(source: Source, options: Options) -> Known:
    """Tokens and documents of a file, as its header or index tells."""
    whole = options.eod is None  # else documents may be cut once more
    kind = source.format
    if kind == "megatron":
        from radscore.corpus.formats.megatron import megatron_index

        index = megatron_index(source)
        whole_file = index.last_byte() == source.size
        in_file = source.size // index.dtype.itemsize if whole_file else index.n_tokens
        return Known(in_file, index.n_documents if whole else None)
    if kind in BARE:
        layout = token_layout(source, options.dtype)
        if layout.ends is not None:
            documents = layout.ends.n_documents
        else:
            documents = layout.n_tokens // layout.row if layout.row else min(layout.n_tokens, 1)
        return Known(layout.n_tokens, documents if whole else None)
    if kind == "litdata":
        from radscore.corpus.formats.litdata import litdata_counts

        n_tokens, n_documents = litdata_counts(source)
        return Known(n_tokens, n_documents if whole else None)
    n_rows: int | None = None
    if kind == "mds":
        from radscore.corpus.formats.mds import mds_samples

        n_rows = mds_samples(source)
    elif kind == "datasets":
        from radscore.corpus.formats.datasets import dataset_rows

        n_rows = dataset_rows(source)
    elif kind == "parquet":
        from radscore.corpus.formats.columns import parquet_counts

        assert options.fields is not None
        n_tokens, n_rows = parquet_counts(source, options.fields.main)
        return Known(n_tokens, n_rows if whole else None)
    return Known(None, n_rows if whole else None)


def boundaries(sources: Iterable[Source], eod: int | None) -> str | None:
    """What tells where the documents of token files end; None where each is a record."""
    found: Counter[str] = Counter()
    for source in sources:
        what = _boundary(source, eod)
        if what is not None:
            found[what] += 1
    if not found:
        return None
    parts = [f"{what} ({counted(number, 'file')})" for what, number in found.items()]
    return f"document boundaries: {'; '.join(parts)}"


def _boundary(source: Source, eod: int | None) -> str | None:
    kind = source.format
    also = "" if eod is None else f", and cut after id {eod}"
    if kind in ("litdata", "mds"):
        return f"{_INDEXES[kind]}{also}"
    if kind in _INDEXES and side_file(source.path, _INDEXES[kind]) in source.sides:
        return f"side index {_INDEXES[kind]}{also}"
    if kind not in BARE:
        return None
    if kind == "npy":
        return f"the rows of the array, or all of it{also}"
    if eod is None:
        return "none known, each file is one document (see --eod)"
    return f"end-of-document id {eod}"
