"""Records: a prompt and its answer, from a file of `write_records` or one of your own."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radscore.errors import CorpusError, shown, some_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

__all__ = ["Record", "as_ids", "read_records", "records_of"]

_PROMPTS = ("prompt", "instruction", "question")
_ANSWERS = ("answer", "output", "response", "completion", "text")
_LARGEST_ID = 2**31 - 1


def as_ids(ids: Any = ()) -> array[int]:
    """Token ids as an array of C ints: four bytes each, and equal to another of the same ids."""
    return array("i", ids)


@dataclass(frozen=True, slots=True)
class Record:
    """An instruction, or the beginning of a text, and what follows it.

    Attributes
    ----------
    prompt, answer : str
    prompt_tokens, tokens : array of int
        The ids that the answer was written after, and its own, as the model that wrote it read and
        gave them; empty where they are not known.
    ended : bool
        Whether the answer is whole: its model ended it, rather than a limit of tokens.
    """

    prompt: str
    answer: str
    prompt_tokens: array[int] = field(default_factory=as_ids)
    tokens: array[int] = field(default_factory=as_ids)
    ended: bool = True


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file: one that `write_records` wrote, or one of your own.

    Your own has a ``prompt`` (or ``instruction`` with an optional ``input``, as Alpaca's; or
    ``question``) and an ``answer`` (or ``output``, ``response``, ``completion``, ``text``) in
    each line of JSON, and optionally the ids ``prompt_tokens`` and ``tokens`` and ``ended``. Other
    formats with named fields (Parquet, CSV, Arrow, compressed ones) do as well.

    Parameters
    ----------
    path : path
        As `open_corpus` takes it.

    Raises
    ------
    CorpusError
        If a record is damaged; the message names file and line. Or if there is none.
    """
    from radscore.corpus.detect import find_sources

    found: list[Record] = []
    for source in find_sources(path):
        for where, line, flaw in source.format.records(source):
            if flaw is not None:
                raise CorpusError(f"{where}: {flaw}")
            found += records_of(line, str(where))
    if not found:
        raise CorpusError(f"there are no records in {path}")
    return found


def records_of(line: Any, where: str) -> Iterator[Record]:
    """The records of one line: none if it was dropped, several from one self-instructed text."""
    if not isinstance(line, dict):
        raise CorpusError(f"{where}: a record must be a JSON object, not {shown(line)}")
    if "prompt_id" not in line:
        yield _own(line, where)
    elif isinstance(line.get("records"), list):
        for one in line["records"]:
            if not isinstance(one, dict):
                raise CorpusError(f"{where}: a record must be a JSON object, not {shown(one)}")
            yield _own(one, where)
    elif not line.get("dropped"):
        _, answer = _text(line, _ANSWERS, where)
        yield Record(
            _text(line, _PROMPTS, where)[1],
            answer,
            _ids(line, "prompt_tokens", where),
            _ids(line, "tokens", where),
            line.get("finish_reason") != "length",
        )


def _own(line: Mapping[str, Any], where: str) -> Record:
    name, prompt = _text(line, _PROMPTS, where)
    more = line.get("input")
    if name == "instruction" and more is not None:
        if not isinstance(more, str):
            raise CorpusError(f"{where}: field 'input' must hold text, not {shown(more)}")
        _check_text(more, "input", where)
        prompt = f"{prompt}\n\n{more}" if more.strip() else prompt
    ended = line.get("ended", True)
    if not isinstance(ended, bool):
        raise CorpusError(f"{where}: field 'ended' must be true or false, not {shown(ended)}")
    return Record(
        prompt,
        _text(line, _ANSWERS, where)[1],
        _ids(line, "prompt_tokens", where),
        _ids(line, "tokens", where),
        ended,
    )


def _text(line: Mapping[str, Any], names: tuple[str, ...], where: str) -> tuple[str, str]:
    """The first of some fields that is there, and its text."""
    name = next((one for one in names if line.get(one) is not None), None)
    if name is None:
        raise CorpusError(
            f"{where}: the record has none of the fields {', '.join(names)}; it has "
            f"{some_of((shown(one, 30) for one in line), 8)}"
        )
    text = line[name]
    if not isinstance(text, str):
        raise CorpusError(f"{where}: field {name!r} must hold text, not {shown(text)}")
    _check_text(text, name, where)
    return name, text


def _check_text(text: str, name: str, where: str) -> None:
    from radscore.corpus.text.failures import flaw_of_text

    flaw = flaw_of_text(text)
    if flaw is not None:
        raise CorpusError(f"{where}: field {name!r}: {flaw}")


def _ids(line: Mapping[str, Any], name: str, where: str) -> array[int]:
    value = line.get(name)
    if value is None:
        return as_ids()
    value = value.tolist() if hasattr(value, "tolist") else value
    wrong = CorpusError(
        f"{where}: field {name!r} must be a list of token ids (0 to {_LARGEST_ID}), not "
        f"{shown(value)}"
    )
    if not isinstance(value, list) or bool in set(map(type, value)):
        raise wrong
    try:
        ids = as_ids(value)
    except (TypeError, OverflowError):
        raise wrong from None
    if ids and min(ids) < 0:
        raise CorpusError(f"{where}: field {name!r} has the negative id {min(ids)}")
    return ids
