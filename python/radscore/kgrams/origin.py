"""`KgramOrigin`: how a set of k-grams was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

from radscore.errors import StateError

__all__ = ["Counted", "KgramOrigin"]

Counted: TypeAlias = Literal["given", "occurrences", "documents"]


@dataclass(frozen=True)
class KgramOrigin:
    """How a set of k-grams was made, which decides what a test may conclude with it as a filter.

    Attributes
    ----------
    watermarked : bool or None
        Whether the text carries the watermark that will be tested; None if nobody said, which tests
        read as yes.
    counted : {"given", "occurrences", "documents"}
        What was counted; "given" if the k-grams were listed, not counted.
    top : int or None
        How many were kept, the most frequent ones; None for all.
    min_count : int
        The smallest count that was kept.

    Raises
    ------
    StateError
        If the fields make no sense.
    """

    watermarked: bool | None = None
    counted: Counted = "given"
    top: int | None = None
    min_count: int = 1

    def __post_init__(self) -> None:
        flags = self.watermarked is None or isinstance(self.watermarked, bool)
        counts = [self.min_count, *([] if self.top is None else [self.top])]
        if (
            not flags
            or self.counted not in get_args(Counted)
            or any(type(count) is not int or not 0 <= count < 2**63 for count in counts)
        ):
            raise StateError(f"the origin of a k-gram set makes no sense: {asdict(self)}")

    @property
    def is_whole(self) -> bool:
        """Whether the set holds every k-gram of its text: nothing was selected."""
        return self.counted != "given" and self.top is None and self.min_count <= 1

    @property
    def may_depend_on_key(self) -> bool:
        """Whether the text carries the tested watermark, or nobody said that it does not."""
        return self.watermarked is not False

    @property
    def words(self) -> str:
        """In words: ``all k-grams in 3 or more documents, of unmarked text``."""
        text = {True: "watermarked text", False: "unmarked text", None: "text of unknown marking"}
        if self.counted == "given":
            return f"a given list, from {text[self.watermarked]}"
        which = "all k-grams" if self.top is None else f"the {self.top} most frequent k-grams"
        if self.is_whole or (self.top is not None and self.min_count <= 1):
            how = "" if self.is_whole else f", counted by {self.counted}"
        else:
            how = f" with {self.min_count} or more occurrences"
            if self.counted == "documents":
                how = f" in {self.min_count} or more documents"
        return f"{which}{how}, of {text[self.watermarked]}"

    def joined(self, other: KgramOrigin) -> KgramOrigin:
        """The origin of the union of two sets."""
        both = {self.watermarked, other.watermarked}
        watermarked = False if both == {False} else (True if True in both else None)
        if self.is_whole and other.is_whole:
            return KgramOrigin(watermarked, self.counted, self.top, self.min_count)
        return KgramOrigin(watermarked)

    def to_json(self) -> str:
        """The origin as files hold it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> KgramOrigin:
        """The inverse of `to_json`.

        Raises
        ------
        StateError
            If the text is not what `to_json` gives.
        """
        if not text:
            return cls()
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            raise StateError("the origin of a k-gram set is damaged") from None
