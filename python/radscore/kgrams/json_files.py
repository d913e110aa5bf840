"""K-grams and their counts in JSON and JSON lines files.

JSON: a list of k-grams (lists of ids), or an object ``{"12,7": count}`` whose keys are ids
separated by commas, in brackets or not. JSON lines: on each line a k-gram, or an object with the
field ``kgram`` (and ``count``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import StateError, TokenError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["JSON_SUFFIXES", "read_json"]

JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})


def read_json(path: Path, vocab_size: int) -> tuple[list[list[int]], list[int]]:
    """K-grams, all of one width, and their counts; a k-gram without a count occurs once.

    Raises
    ------
    StateError
        If the file cannot be read.
    TokenError
        If an entry is not a k-gram of the vocabulary, or there is none.
    """
    width = 0
    kgrams: list[list[int]] = []
    counts: list[int] = []
    for location, kgram, count in _entries(path):
        width = width or len(kgram)
        if len(kgram) != width or not width:
            raise TokenError(f"{location}: a k-gram of {len(kgram)} ids among {width}-grams")
        if not all(type(token) is int and 0 <= token < vocab_size for token in kgram):
            raise TokenError(f"{location}: {kgram} are not ids of a vocabulary of {vocab_size}")
        if type(count) is not int or not 0 <= count < 2**63:
            raise TokenError(f"{location}: the count {count!r} is not a number of occurrences")
        kgrams.append(kgram)
        counts.append(count)
    if not kgrams:
        raise TokenError(f"{path} holds no k-grams")
    return kgrams, counts


def _entries(path: Path) -> Iterator[tuple[str, list[Any], Any]]:
    """Location, k-gram and count of each entry of a JSON or JSON lines file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StateError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read {path}: {error}") from None
    if path.suffix == ".json":
        content = _parse(text, str(path))
        if isinstance(content, Mapping):
            for key, count in content.items():
                location = f"{path}: key {key!r}"
                yield location, _parse(f"[{str(key).strip('()[] ,')}]", location), count
            return
        if not isinstance(content, list):
            raise TokenError(f"{path} must hold a list or an object of k-grams")
        for index, kgram in enumerate(content):
            yield f"{path}: entry {index}", _a_list(kgram, f"{path}: entry {index}"), 1
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        location = f"{path}:{number}"
        entry = _parse(line, location)
        if isinstance(entry, Mapping):
            yield location, _a_list(entry.get("kgram"), location), entry.get("count", 1)
        else:
            yield location, _a_list(entry, location), 1


def _parse(text: str, location: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenError(f"{location}: not JSON: {error}") from None


def _a_list(value: Any, location: str) -> list[Any]:
    if not isinstance(value, list):
        raise TokenError(f"{location}: not a list of ids: {shown(value)}")
    return value
