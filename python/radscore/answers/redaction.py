"""`Redactor`: keeps an API key out of messages and records, however a server spells it."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote

__all__ = ["Redactor"]

#: Longest message that is shown, in characters, and how much of one is looked at.
_SHOWN, _READ = 300, 8192
#: What API keys look like.
_TOKEN = re.compile(r"\bg?sk[-_][\w*.-]{6,}")
#: Hiding shorter keys would blank out ordinary words in messages.
_SHORTEST_HIDDEN = 4
#: Any piece of a key of this many letters and digits is hidden; in base64, and in hexadecimal.
_PIECE, _PIECE64, _PIECE16 = 8, 12, 16
#: Letters that any piece holds one aligned block of, whole: half of the shortest.
_BLOCK = _PIECE // 2
#: A key of fewer letters is left in answers, where it may be a word.
_SHORTEST_WHOLE = 12
_OTHER = re.compile(r"[^A-Za-z0-9]+")
_LETTER = re.compile(r"[A-Za-z0-9]")
_MASK = "(key)"


class Redactor:
    """Hides a key whole, or in pieces of eight characters or more.

    Case and what stands between the letters do not matter, nor does the direction; base64 and
    hexadecimal digits are known too. An answer is data: there, pieces without a digit must be
    written exactly so, or "key" and "required" would vanish with a key like ``sk-no-key-required``.

    Parameters
    ----------
    key : str or None

    Examples
    --------
    >>> redactor = Redactor("sk-0123456789abcdef")
    >>> redactor.message("no such key: 0123-4567-89AB...")
    'no such key: (key)...'
    >>> redactor.answer("One.")
    'One.'
    """

    def __init__(self, key: str | None) -> None:
        self._whole = [] if key is None else _spellings(key)
        self._messages, self._answers = _Pieces(), _Pieces()
        self._exact: set[str] = set()
        letters = _OTHER.sub("", key or "")
        if key is None or len(letters) < _PIECE:
            return
        self._exact = {one for one in _pieces(letters, _PIECE) if _mixed(one)}
        coded = {_PIECE64: _base64(key), _PIECE16: {key.encode().hex()}}
        for size, forms in {_PIECE: {letters, letters[::-1]}, **coded}.items():
            for form in forms:
                for piece in _pieces(form.lower(), size):
                    self._messages.add(piece)
                    if size != _PIECE or not piece.isalpha():
                        self._answers.add(piece)
        if len(letters) >= _SHORTEST_WHOLE:
            self._answers.add(letters.lower())
            self._answers.add(letters.lower()[::-1])

    def message(self, text: str) -> str:
        """One short line."""
        text = text[:_READ]
        for spelling in self._whole:
            text = text.replace(spelling, _MASK)
        text = _without(text, self._messages.found(text))
        text = " ".join(_TOKEN.sub(_MASK, text).split())
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

    def answer(self, text: str) -> str:
        """`text` itself, but for the key."""
        spans = self._answers.found(text)
        for piece in self._exact:
            at = text.find(piece)
            while at >= 0:
                spans.append((at, at + len(piece)))
                at = text.find(piece, at + 1)
        return _without(text, spans)


class _Pieces:
    """Pieces of a key, to be found whatever stands between their letters."""

    def __init__(self) -> None:
        self._known: dict[int, set[str]] = {}
        self._blocks: set[str] = set()

    def add(self, piece: str) -> None:
        """Takes one more."""
        self._known.setdefault(len(piece), set()).add(piece)
        self._blocks.update(_pieces(piece, _BLOCK))

    def found(self, text: str) -> list[tuple[int, int]]:
        """Where they start and end in a text."""
        letters = _OTHER.sub("", text).lower() if self._known else ""
        # A piece covers a block of the text whole, so what most of it costs is a look at each.
        hits = [
            (i, i + size)
            for j in range(0, len(letters), _BLOCK)
            if letters[j : j + _BLOCK] in self._blocks
            for size, known in self._known.items()
            for i in range(max(j + _BLOCK - size, 0), j + 1)
            if letters[i : i + size] in known
        ]
        if not hits:
            return []
        at = [found.start() for found in _LETTER.finditer(text)]
        return [(at[start], at[end - 1] + 1) for start, end in hits]


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    parts: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start >= end:
            parts += [text[end:start], "" if parts and start == end else _MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])


def _pieces(text: str, size: int) -> list[str]:
    size = min(size, len(text))
    return [text[i : i + size] for i in range(len(text) - size + 1)]


def _mixed(text: str) -> bool:
    """Whether letters alone look random: not a word, and not one that begins a sentence."""
    upper = sum(letter.isupper() for letter in text)
    return text.isalpha() and 1 < upper < len(text)


def _base64(key: str) -> set[str]:
    """The letters of a key within a longer text in base64, at each of the three alignments."""
    found = set()
    for before in range(3):
        coded = base64.b64encode(b" " * before + key.encode()).decode()
        last = len(coded.rstrip("=")) - (coded[-1] == "=")  # a letter that others share is not its
        found.add(_OTHER.sub("", coded[before + (before > 0) : last]))
    return found


def _spellings(key: str) -> list[str]:
    """The ways in which messages may quote a key, the longest first."""
    if len(key) < _SHORTEST_HIDDEN:
        return []
    found = {key, repr(key)[1:-1], json.dumps(key)[1:-1], html.escape(key), quote(key, safe="")}
    return sorted(found, key=len, reverse=True)
