"""Markers: small files that say a shard is mapped, and what was read for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import NOTHING_SKIPPED, SkipReport
from radscore.corpus.text.tokenised import Tokenised
from radscore.doubts import IdDoubt
from radscore.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Marker", "checksum_of", "reading_notes", "total_skipped"]

_VERSION = 3


@dataclass(frozen=True)
class Marker:
    """Says that a shard is mapped. It is written after the shard's file, and never changed.

    Attributes
    ----------
    shard : int
        Which shard.
    configuration : str
        The run it was mapped for.
    length, checksum : int, str
        Of the shard's file, to tell it from another.
    tokens : int
        Tokens of the shard.
    skipped : SkipReport
        Records that were left out.
    tokenised : Tokenised or None
        What turned its text into ids, and how many texts.
    seen : tuple of int
        The largest id, how many there are, and whether an end-of-document id is among them.
    """

    shard: int
    configuration: str
    length: int
    checksum: str
    tokens: int = 0
    skipped: SkipReport = NOTHING_SKIPPED
    tokenised: Tokenised | None = None
    seen: tuple[int, int, bool] = (-1, 0, False)

    def write(self, path: Path) -> None:
        """Writes the marker, whole or not at all."""
        tokenised = None if self.tokenised is None else asdict(self.tokenised)
        content = {
            "version": _VERSION,
            **vars(self),
            "skipped": self.skipped.to_dict(),
            "tokenised": tokenised,
        }
        write_atomically(path, json.dumps({**content, "digest": checksum_of(content)}))

    @classmethod
    def read(cls, path: Path) -> Marker | None:
        """The marker in a file; None if there is none, or it is damaged or of another version."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            digest = content.pop("digest")
            if digest != checksum_of(content) or content.pop("version") != _VERSION:
                return None
            said = content["tokenised"]
            content["skipped"] = SkipReport.from_dict(content["skipped"])
            content["tokenised"] = None if said is None else Tokenised(**said)
            largest, count, ended = content["seen"]
            content["seen"] = (int(largest), int(count), bool(ended))
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def checksum_of(content: dict[str, Any]) -> str:
    """The SHA-256 of all entries of a JSON object."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def total_skipped(markers: Iterable[Marker]) -> SkipReport:
    """Everything that was left out."""
    total = SkipReport()
    for marker in markers:
        total = total.plus(marker.skipped)
    return total


def reading_notes(markers: Iterable[Marker], vocab_size: int | None, eod: int | None) -> list[str]:
    """What a user should know about the reading: what tokenised the text, and doubts about ids."""
    # Machines may have different versions of tokenizers.
    tokenised: dict[tuple[str, str], Tokenised] = {}
    doubt = IdDoubt(vocab_size, eod)
    for marker in markers:
        doubt.add(*marker.seen)
        if (own := marker.tokenised) is not None:
            before = tokenised.get((own.by, own.rest))
            tokenised[own.by, own.rest] = own if before is None else before.plus(own)
    own_notes = (one.note for one in tokenised.values())
    return [*(note for note in own_notes if note is not None), *doubt.notes]
