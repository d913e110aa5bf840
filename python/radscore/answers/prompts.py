"""Prompts, and the records of any file with named fields: JSON lines, Parquet and Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from radscore.corpus.sources import Source

__all__ = ["json_records", "read_prompts", "records_of"]

_FIELDS = ("prompt", "text")


def read_prompts(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], field: str | None = None
) -> list[str]:
    """The prompts in JSON lines (also compressed), Parquet or Arrow files.

    Parameters
    ----------
    paths : path or iterable of paths
        As `open_corpus` takes them.
    field : str, optional
        The field with the prompt's text; by default ``prompt``, else ``text``.

    Raises
    ------
    CorpusError
        If there is no prompt, or one is not text; the message names file and line.
    """
    from radscore.corpus.sources import find_sources

    sources = find_sources(paths)
    prompts = [
        _prompt(record, field, location)
        for source in sources
        for location, record in records_of(source)
    ]
    if not prompts:
        raise CorpusError(f"there are no prompts in {', '.join(str(s.path) for s in sources)}")
    return prompts


def _prompt(record: Any, field: str | None, location: str) -> str:
    from radscore.corpus.records import missing_field
    from radscore.corpus.text.tokenizer import flaw_of_text

    if not isinstance(record, dict):
        raise CorpusError(f"{location}: a record must be a JSON object")
    name = field or next((name for name in _FIELDS if name in record), _FIELDS[0])
    if name not in record:
        raise InputOptionError(f"{location}: {missing_field(name, record)}")
    prompt = record[name]
    if not isinstance(prompt, str):
        raise CorpusError(f"{location}: field {name!r} must hold text, not {type(prompt).__name__}")
    flaw = flaw_of_text(prompt)
    if flaw is not None:
        raise CorpusError(f"{location}: {flaw}")
    return prompt


def records_of(source: Source) -> Iterator[tuple[str, Any]]:
    """The location (``file:line`` or ``file:row``) and the content of each record of a file.

    JSON lines are streamed; Parquet and Arrow files are read whole.
    """
    from radscore.corpus.base import damage_named, place

    if source.format == "jsonl":
        for number, record, flaw in json_records(source):
            if flaw is not None:
                raise CorpusError(f"{source.path}:{number}: {flaw}")
            yield f"{source.path}:{number}", record
        return
    if source.format not in ("parquet", "arrow"):
        raise ArgumentError(f"{source.path}: files of format {source.format} hold no text")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from radscore.corpus.formats.columns import open_arrow

    with damage_named(source.path):
        if source.format == "parquet":
            table = pq.read_table(source.path)
        else:
            with pa.memory_map(str(source.path)) as mapped:
                table = open_arrow(mapped).read_all()
        rows = table.to_pylist()
    for number, row in enumerate(rows):
        yield place(source.path, number, "row"), row


def json_records(source: Source) -> Iterator[tuple[int, Any, str | None]]:
    """Line number, record and flaw of every line that is not blank."""
    from radscore.corpus.formats.jsonl import MAX_LINE, _Stream, parse

    with _Stream(source) as stream:
        for number, (line, _) in enumerate(stream.lines(0), start=1):
            if line is None:
                yield number, None, f"the line is longer than {MAX_LINE} bytes"
            elif line and not line.isspace():
                yield number, *parse(line, first=number == 1)
