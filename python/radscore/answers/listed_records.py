"""The log-probabilities in a file of answers, record by record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.answers.lists import Lists
from radscore.answers.logprobs import from_record
from radscore.answers.probing import Findings
from radscore.corpus.base import joined
from radscore.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Container

    from radscore.answers.logprobs import Position
    from radscore.documents import Documents
    from radscore.models.listed import Listed

__all__ = ["Listings", "is_probe"]


def is_probe(record: dict[str, Any]) -> bool:
    """Whether a record is one of a probe, and no question of a test."""
    return record.get("prompt_id") == "probe" and "settings" in record


class Listings:
    """Collects what records say of log-probabilities, until their texts are token ids.

    Parameters
    ----------
    tokenizer : tokenizer
        The watermark's, as `TokenStrings` takes it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lists: Lists | None = None
        self._unread = 0  #: tokens of answers before the first with log-probabilities
        self._unread_answers = 0
        self._waiting: list[tuple[str | None, list[Position] | None, float, int | None]] = []
        self._probes: list[tuple[Any, Findings]] = []
        self._notes: dict[str, None] = {}

    def take_probe(self, record: dict[str, Any]) -> None:
        """What a probe found, if the record says so."""
        if (found := Findings.of(record.get("probe"))) is not None:
            self._probes.append((record.get("settings"), found))

    def take(self, record: dict[str, Any], name: str, item: Any) -> str | None:
        """One answer, read from the field `name`; what is wrong with it, if anything is."""
        positions: list[Position] | None = None
        temperature = 1.0
        if name == "text" and isinstance(item, str) and record.get("logprobs") is not None:
            try:
                positions = from_record(record["logprobs"])
            except ValueError:
                return "field 'logprobs' is not what ask writes"
            temperature = self._temperature(record.get("settings"))
            if not temperature:
                positions = None
        settings = record.get("settings")
        n = settings.get("logprobs") if isinstance(settings, dict) else None
        text = item if isinstance(item, str) else None
        self._waiting.append((text, positions, temperature, n if type(n) is int else None))
        return None

    def _temperature(self, settings: Any) -> float:
        """The one that the values of a record are after."""
        found = next((one for then, one in reversed(self._probes) if then == settings), None)
        if found is None or not isinstance(settings, dict):
            return 1.0
        temperature, top_p = (
            value if isinstance(value := settings.get(name), (int, float)) else None
            for name in ("temperature", "top_p")
        )
        self._notes.update(dict.fromkeys(found.notes(temperature, top_p)))
        if not found.after_temperature or temperature is None:
            return 1.0
        return float(temperature)

    def resolved(self, documents: Documents, bad: Container[int]) -> Documents:
        """The answers that were taken since, whose ids may be the server's own ones."""
        waiting, self._waiting = self._waiting, []
        if self._lists is None and any(positions for _, positions, *_ in waiting):
            self._start()
        if self._lists is None:
            kept = [len(one) for i, one in enumerate(documents) if i not in bad]
            self._unread += sum(kept)
            self._unread_answers += len(kept)
            return documents
        parts: list[Any] = []
        for i, (text, positions, temperature, n) in enumerate(waiting):
            ids = np.asarray(documents[i], dtype=np.uint32)
            if i not in bad:
                ids = self._lists.add(text, ids, positions, temperature, n)
            parts.append(ids)
        return joined(parts)

    def _start(self) -> None:
        from radscore.models.token_strings import TokenStrings

        try:
            self._lists = Lists(TokenStrings(self._tokenizer))
        except ModelError as error:
            self._notes[f"log-probabilities are left out: {error}"] = None
            return
        self._lists.skip(self._unread_answers, self._unread)

    def listed(self) -> Listed | None:
        """One list for each token of all answers; None if no record had any."""
        return None if self._lists is None else self._lists.listed()

    def notes(self) -> list[str]:
        """What is good to know about them."""
        return [*self._notes, *(self._lists.notes() if self._lists else ())]
