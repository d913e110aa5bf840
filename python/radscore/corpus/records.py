"""Records with named fields: which field is read, and how its value becomes token ids."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.corpus.base import joined
from radscore.corpus.text.tokenizer import Encoder, flaw_of_text
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.documents import Documents

__all__ = ["DEFAULT_FIELDS", "Fields", "ValueColumn", "choose_field", "read_value"]

#: Read in this order of preference where no field is named.
DEFAULT_FIELDS = ("input_ids", "tokens", "text")
MAX_ID = 2**32 - 2
#: A document on its way to token ids: its ids, or its text.
Item: TypeAlias = npt.NDArray[np.uint32] | str


@dataclass(frozen=True)
class Fields:
    """What a reader of records takes out of each."""

    main: str
    prompt: str | None
    encoder: Encoder | None
    batch_tokens: int

    @property
    def names(self) -> list[str]:
        """The fields to read, each once."""
        wanted = [self.main] if self.prompt is None else [self.main, self.prompt]
        return list(dict.fromkeys(wanted))


def choose_field(available: Iterable[str], place: str) -> tuple[str, str | None]:
    """The field to read where none was named, and a note where there was a choice."""
    names = list(available)
    candidates = [name for name in DEFAULT_FIELDS if name in names]
    if not candidates:
        raise CorpusError(
            f"{place}: none of the fields {', '.join(DEFAULT_FIELDS)} is there; "
            f"name one with field= of: {_list(names)}"
        )
    chosen = candidates[0]
    if len(candidates) == 1:
        return chosen, None
    return chosen, (
        f"reading field {chosen!r}; {_list(candidates[1:])} would do as well, name it to read it"
    )


def missing_field(name: str, available: Iterable[str]) -> str:
    """The reason given for a record without the field `name`."""
    return f"no field {name!r}; there is: {_list(list(available))}"


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown}, ..." if len(names) > 12 else shown or "nothing"


def flaw_without_encoder(name: str) -> str:
    """The reason given for text where there is no tokenizer."""
    return f"field {name!r} holds text; give a tokenizer (tokenizer=) to read it"


def read_value(value: Any, name: str, encoder: Encoder | None) -> tuple[Item | None, str | None]:
    """The text or ids of a field's value, or what is wrong with it."""
    if isinstance(value, str):
        if encoder is None:
            return None, flaw_without_encoder(name)
        return value, flaw_of_text(value)
    if not isinstance(value, list):
        kind = "null" if value is None else type(value).__name__
        return None, f"field {name!r} must hold text or a list of token ids, not {kind}"
    if set(map(type, value)) - {int}:  # a bool is no id either
        index = next(i for i, item in enumerate(value) if type(item) is not int)
        return None, f"token id {index} of field {name!r} is {_short(value[index])}, not an integer"
    try:
        ids = np.frombuffer(array("q", value), dtype=np.int64)  # twice as fast as np.array
    except OverflowError:
        ids = None
    if ids is None or (len(ids) and not (ids.min() >= 0 and ids.max() <= MAX_ID)):
        index = next(i for i, item in enumerate(value) if not 0 <= item <= MAX_ID)
        shown = _short(value[index])
        return None, f"token id {index} of field {name!r} is {shown}, not from 0 to {MAX_ID}"
    return ids.astype(np.uint32), None


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge integer"  # its digits may be thousands
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


@dataclass
class ValueColumn:
    """Values of one field, one a record, on their way to token ids."""

    encoder: Encoder | None
    items: list[Item] = field(default_factory=list)
    weight: int = 0  # about how many tokens are in it

    def add(self, item: Item) -> None:
        """Takes the text or ids of one record."""
        self.items.append(item)
        self.weight += 1 + (len(item) // 4 if isinstance(item, str) else len(item))

    @property
    def from_text(self) -> bool:
        """Whether a tokenizer makes ids of some of the values."""
        return any(isinstance(item, str) for item in self.items)

    def documents(self) -> Documents:
        """The token ids, texts tokenised together."""
        texts = [item for item in self.items if isinstance(item, str)]
        if self.encoder is None or not texts:
            return joined([item for item in self.items if not isinstance(item, str)])
        encoded = self.encoder.documents(texts)
        if len(texts) == len(self.items):
            return encoded
        ids = iter(encoded)
        return joined([next(ids) if isinstance(item, str) else item for item in self.items])


class RecordColumns:
    """The wanted fields of some records; records with a flaw are left out."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        encoder = fields.encoder
        self.main = ValueColumn(encoder)
        self.prompt = None if fields.prompt is None else ValueColumn(encoder)
        self.numbers: list[int] = []

    def add(self, record: Any, number: int) -> str | None:
        """Takes one record, a dict, or says what is wrong with it."""
        if not isinstance(record, dict):
            kind = "null" if record is None else type(record).__name__
            return f"a record must be a JSON object, not {kind}"
        items = []
        for name in self._fields.names:
            if name not in record:
                return missing_field(name, record)
            item, flaw = read_value(record[name], name, self._fields.encoder)
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
        """Whether the records are enough for a batch."""
        weight = self.main.weight + (0 if self.prompt is None else self.prompt.weight)
        return weight >= self._fields.batch_tokens
