"""Records with named fields: choosing a field, and turning its values into token ids."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import DamagedFileError, InputOptionError, joined
from radscore.corpus.text.failures import flaw_of_text
from radscore.errors import CorpusError, near, shown, some_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.corpus.room import Room
    from radscore.corpus.text.tokenizer import Encoder
    from radscore.documents import Documents

__all__ = [
    "DEFAULT_FIELDS",
    "MAX_ID",
    "Fields",
    "Item",
    "NoTokenizerError",
    "OddList",
    "RecordColumns",
    "ValueColumn",
    "choose_field",
    "missing_field",
    "needs_tokenizer",
    "read_value",
    "value_of",
]

#: The fields that are read if none is named, the first of them that is present.
DEFAULT_FIELDS = ("input_ids", "tokens", "text")
#: The largest token id; 2^32 - 1 pads documents in the core.
MAX_ID = 2**32 - 2
#: A document on its way to token ids: its ids, or its text.
Item: TypeAlias = npt.NDArray[np.uint32] | str


class NoTokenizerError(DamagedFileError, InputOptionError):
    """A file holds text, but no tokenizer was given."""


@dataclass(frozen=True)
class OddList:
    """A list that holds something else than ids: where, and what."""

    index: int
    value: Any


@dataclass(frozen=True)
class Fields:
    """What a reader takes from each record.

    Attributes
    ----------
    main, prompt : str
        The fields with the document and with its prompt, if there are prompts.
    encoder : Encoder or None
        Turns text into ids; without one, text is a flaw.
    batch_tokens : int
        About how many tokens make a batch.
    room : Room or None
        The memory that one record may take, if that is limited.
    """

    main: str
    prompt: str | None
    encoder: Encoder | None
    batch_tokens: int
    room: Room | None = None

    @property
    def names(self) -> list[str]:
        """The fields to read, each once."""
        wanted = [self.main] if self.prompt is None else [self.main, self.prompt]
        return list(dict.fromkeys(wanted))


def choose_field(available: Iterable[str], where: str) -> tuple[str, str | None]:
    """The field to read if none was named, and a note if there was a choice."""
    names = list(available)
    candidates = [name for name in DEFAULT_FIELDS if name in names]
    if not candidates:
        *first, last = DEFAULT_FIELDS
        raise CorpusError(
            f"{where}: no field {', '.join(first)} or {last}; give field=, one of: {some_of(names)}"
        )
    chosen, *others = candidates
    if not others:
        return chosen, None
    choice = " or ".join(map(repr, others))
    how = f"field={others[0]!r}" if len(others) == 1 else "field="
    return chosen, f"read field {chosen!r}; to read {choice} instead, give {how}"


def value_of(record: dict[str, Any], name: str) -> tuple[bool, Any]:
    """Whether a record has a field, and its value; a name that it lacks may be a dotted path.

    Examples
    --------
    >>> value_of({"data": {"text": "a"}}, "data.text"), value_of({"data.text": "b"}, "data.text")
    ((True, 'a'), (True, 'b'))
    >>> value_of({"turns": [{"text": "a"}]}, "turns.0.text"), value_of({}, "data.text")
    ((True, 'a'), (False, None))
    """
    if name in record:
        return True, record[name]
    # The longest literal key comes first: keys may have dots themselves.
    for end in (i for i in range(len(name) - 1, 0, -1) if name[i] == "."):
        first, rest = name[:end], name[end + 1 :]
        if first not in record:
            continue
        inner = record[first]
        while isinstance(inner, list):
            index, _, rest = rest.partition(".")
            if not (index.isascii() and index.isdigit() and int(index) < len(inner)):
                return False, None
            inner = inner[int(index)]
            if not rest:
                return True, inner
        if isinstance(inner, dict):
            found, value = value_of(inner, rest)
            if found:
                return True, value
    return False, None


def missing_field(name: str, available: Iterable[str]) -> str:
    """The flaw of a record without the field `name`."""
    fields = list(available)
    return f"no field {name!r}; the fields are: {some_of(fields)}{near(name, fields)}"


def needs_tokenizer(name: str) -> str:
    """The flaw of a field that holds text, without a tokenizer."""
    return f"field {name!r} holds text; give a tokenizer (tokenizer=) to read it"


def read_value(value: Any, name: str, encoder: Encoder | None) -> tuple[Item | None, str | None]:
    """The text or the ids that a field holds, or its flaw."""
    if isinstance(value, str):
        if encoder is None:
            return None, needs_tokenizer(name)
        return value, flaw_of_text(value)
    if isinstance(value, np.ndarray):
        return value, None
    if isinstance(value, OddList):
        return None, _odd(value.index, value.value, name)
    if not isinstance(value, list):
        if value is None:
            return None, f"field {name!r} is null"
        kind = type(value).__name__
        return None, f"field {name!r} must hold text or a list of token ids, not {kind}"
    if set(map(type, value)) - {int}:  # a bool is not an id either
        index = next(i for i, item in enumerate(value) if type(item) is not int)
        return None, _odd(index, value[index], name)
    try:
        ids = np.frombuffer(array("q", value), dtype=np.int64)  # twice as fast as np.array
    except OverflowError:
        ids = None
    if ids is None or (len(ids) and not (ids.min() >= 0 and ids.max() <= MAX_ID)):
        index = next(i for i, item in enumerate(value) if not 0 <= item <= MAX_ID)
        return None, _odd(index, value[index], name)
    return ids.astype(np.uint32), None


def _odd(index: int, value: Any, name: str) -> str:
    """The flaw of a list with a value that is not an id."""
    what = f"token id {index} of field {name!r} is {_short(value)}"
    return f"{what}, not {f'from 0 to {MAX_ID}' if type(value) is int else 'an integer'}"


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge integer"  # its digits may be thousands
    return shown(value, 40)


@dataclass
class ValueColumn:
    """The values of one field, one per record, on their way to token ids."""

    encoder: Encoder | None
    items: list[Item] = field(default_factory=list)
    #: About how many tokens it holds.
    weight: int = 0
    #: The memory that one text may take on its way to ids, if that is limited.
    room: Room | None = None
    _had_text: bool = False

    def add(self, item: Item) -> None:
        """Appends the text or the ids of one record."""
        self.items.append(item)
        self.weight += 1 + (len(item) // 4 if isinstance(item, str) else len(item))

    @property
    def from_text(self) -> bool:
        """Whether some of the values are text."""
        return self._had_text or any(isinstance(item, str) for item in self.items)

    def documents(self) -> Documents:
        """The token ids; all texts go through the tokenizer together. The values are forgotten."""
        items, self.items = self.items, []
        texts = [item for item in items if isinstance(item, str)]
        if self.encoder is None or not texts:
            return joined([item for item in items if not isinstance(item, str)])
        self._had_text = True
        encoded = self.encoder.documents(texts, self.room)
        if len(texts) == len(items):
            return encoded
        ids = iter(encoded)
        return joined([next(ids) if isinstance(item, str) else item for item in items])


class RecordColumns:
    """The wanted fields of some records, and the number of each record."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        encoder = fields.encoder
        self.main = ValueColumn(encoder, room=fields.room)
        self.prompt = None if fields.prompt is None else ValueColumn(encoder, room=fields.room)
        self.numbers: list[int] = []

    def add(self, record: Any, number: int) -> str | None:
        """Appends a record, or returns its flaw and leaves it out."""
        if not isinstance(record, dict):
            kind = "null" if record is None else type(record).__name__
            return f"a record must be a JSON object, not {kind}"
        items = []
        for name in self._fields.names:
            found, value = value_of(record, name)
            if not found:
                return missing_field(name, record)
            item, flaw = read_value(value, name, self._fields.encoder)
            if item is None or flaw is not None:
                return flaw or "unreadable"
            items.append(item)
        self.main.add(items[0])
        if self.prompt is not None:
            self.prompt.add(items[-1])
        self.numbers.append(number)
        return None

    @property
    def full(self) -> bool:
        """Whether there is enough for a batch."""
        weight = self.main.weight + (0 if self.prompt is None else self.prompt.weight)
        return weight >= self._fields.batch_tokens
