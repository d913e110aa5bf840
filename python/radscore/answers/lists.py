"""Answers' log-probabilities as ids of the watermark's tokenizer, one list per token."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from radscore.models.listed import Listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.answers.logprobs import Position, Token
    from radscore.models.token_strings import TokenStrings

__all__ = ["Lists"]

Ids: TypeAlias = npt.NDArray[np.uint32]

#: What stands in a string for bytes that are no character.
_REPLACEMENT = "\ufffd"
#: Probability that may seem to be left where all is listed, since journals round.
_ROUNDING = 1e-4
#: Bytes of text that a token which does not tell its bytes can be, at most.
_LONGEST_UNKNOWN = 8


@dataclass(frozen=True)
class _Spelt:
    """A server's tokens, as far as they spell the answer's text."""

    starts: dict[int, int]  #: by the offset in the text's bytes: the position that begins there
    whole: bool  #: whether they do to its end
    ids: list[int] | None  #: the whole answer's, if all of its tokens are known


class Lists:
    """Takes answers, and turns what the server said of each into lists of ids.

    Parameters
    ----------
    strings : TokenStrings
        Of the watermark's tokenizer.

    Attributes
    ----------
    n_tokens, n_listed : int
        Tokens of answers, and those with a list.
    n_without : int
        Answers of which the server said nothing.
    n_foreign : int
        Answers that the server's tokens do not spell, or do so in part.
    n_elsewhere : int
        Tokens that begin where none of the server's does.
    n_unknown : int
        Positions without a list, since the likeliest token there is unknown.
    n_cut : int
        Lists that end before the first token that is unknown, or may be hidden by such a one.
    """

    def __init__(self, strings: TokenStrings) -> None:
        self._strings = strings
        self._known: dict[Token, int | None] = {}
        self._sizes = array("q")
        self._ids, self._values = array("I"), array("f")
        self.n_tokens = self.n_listed = self.n_without = 0
        self.n_foreign = self.n_elsewhere = self.n_unknown = self.n_cut = 0

    def add(
        self,
        text: str | None,
        ids: Ids,
        positions: Sequence[Position] | None,
        temperature: float = 1.0,
        n: int | None = None,
    ) -> Ids:
        """One list per token of an answer.

        Parameters
        ----------
        text : str or None
            The answer; None if it is known as ids only.
        ids : ndarray of uint32
            Its tokens, as the watermark's tokenizer makes them of the text.
        positions : sequence of Position or None
            What the server said.
        temperature : float
            The one that the server's log-probabilities are after.
        n : int, optional
            How many tokens the server was asked to list.

        Returns
        -------
        ndarray of uint32
            The tokens to use: the server's own if all are known, else `ids`.
        """
        if positions is None or text is None:
            self.skip(1, len(ids))
            return ids
        raw = text.encode()
        spelt = self._spelt(raw, positions)
        if spelt.ids is not None:
            ids = np.array(spelt.ids, dtype=np.uint32)
        starts = self._own_starts(raw, ids)
        if starts is None or (not spelt.starts and len(ids)) or self._stripped(spelt, positions):
            self.n_foreign += 1
            self._skip(len(ids))
            return ids
        self.n_foreign += not spelt.whole
        for start in starts:
            self._position(spelt.starts.get(start), positions, temperature, n)
        return ids

    def listed(self) -> Listed:
        """The lists of all answers so far."""
        offsets = np.concatenate([[0], np.cumsum(np.frombuffer(self._sizes, dtype=np.int64))])
        return Listed(
            offsets,
            np.frombuffer(self._ids, dtype=np.uint32).copy(),
            np.frombuffer(self._values, dtype=np.float32).copy(),
        )

    def notes(self) -> list[str]:
        """How much is usable, and why no more."""
        if not self.n_tokens:
            return []
        parts = [f"{self.n_listed:,} of {self.n_tokens:,} tokens have log-probabilities"]
        for n, why in (
            (self.n_without, "answers came without any"),
            (
                self.n_foreign,
                "answers are not what the server's tokens spell, or not to the end",
            ),
            (self.n_elsewhere, "tokens begin where none of the server's does"),
            (
                self.n_unknown,
                "have none, since the likeliest token is unknown (a part of a character, say)",
            ),
            (self.n_cut, "lists end early, before such a token"),
        ):
            if n:
                parts.append(f"{n:,} {why}")
        return ["; ".join(parts)]

    def skip(self, n_answers: int, n_tokens: int) -> None:
        """Answers of which the server said nothing."""
        self.n_without += n_answers
        self._skip(n_tokens)

    def _skip(self, n: int) -> None:
        self.n_tokens += n
        self._sizes.extend([0] * n)

    def _spelt(self, raw: bytes, positions: Sequence[Position]) -> _Spelt:
        """Where the server's tokens begin in a text; tokens before and after it do not count."""
        pieces = [self._piece(one.token) for one in positions]
        starts, end = _walk(raw, pieces, 0)
        first = 0
        if end < len(raw) and None not in pieces:
            # reasoning comes before the answer
            known = [piece for piece in pieces if piece is not None]
            begins = np.concatenate([[0], np.cumsum([len(piece) for piece in known])])
            at = b"".join(known).rfind(raw)
            if at >= 0:
                first = int(np.searchsorted(begins, at))
                starts, end = _walk(raw, pieces, first, int(begins[first]) - at)
        ids: list[int] | None = None
        if end == len(raw) and (not raw or 0 in starts):
            own = [self._id(positions[i].token) for i in sorted(starts.values())]
            spelt = [None if one is None else self._strings.bytes_of(one) for one in own]
            if None not in spelt and b"".join(one for one in spelt if one is not None) == raw:
                ids = [one for one in own if one is not None]
        return _Spelt(starts, end == len(raw), ids)

    def _own_starts(self, raw: bytes, ids: Ids) -> list[int] | None:
        """Where the tokens begin in the text; None if they do not spell it."""
        pieces = [self._strings.bytes_of(one) for one in ids.tolist()]
        known = [piece for piece in pieces if piece is not None]
        if len(known) < len(pieces):
            return None
        shift = 0
        if (spelt := b"".join(known)) != raw:
            if spelt != b" " + raw:  # what SentencePiece puts before a text
                return None
            shift = 1
        begins = np.cumsum([0, *map(len, known)])[:-1] - shift
        starts: list[int] = np.maximum(begins, 0).tolist()
        return starts

    def _stripped(self, spelt: _Spelt, positions: Sequence[Position]) -> bool:
        """Whether texts may lack the space before a word, which makes them other tokens."""
        texts = [one.token for one in positions if isinstance(one.token, str)]
        if not (self._strings.strips and texts):
            return False
        return not spelt.whole or not any(text.startswith(" ") for text in texts)

    def _piece(self, token: Token) -> bytes | None:
        """The bytes of a token; None if they are not known."""
        if isinstance(token, int):
            return self._strings.bytes_of(token)
        if isinstance(token, str):
            return token.encode() if token and _REPLACEMENT not in token else None
        return token

    def _id(self, token: Token) -> int | None:
        if token not in self._known:
            found = token if isinstance(token, int) and token < len(self._strings) else None
            if isinstance(token, (str, bytes)):
                found = self._strings.id_of(token)
            self._known[token] = found
        return self._known[token]

    def _hidden(self, there: Position, n: int | None) -> float:
        """The most probability that a token can have which hides behind another of one text.

        Some servers list by text, and of several tokens with one text keep only the last.
        """
        if not any(
            isinstance(token, str) and self._id(token) is None for token, _ in there.likeliest
        ):
            return 0.0
        more = bool(there.likeliest) and there.token == there.likeliest[-1][0]
        if n is not None and len(there.likeliest) - more >= n:
            return 0.0
        return max(1.0 - sum(math.exp(value) for _, value in there.likeliest), 0.0)

    def _position(
        self, index: int | None, positions: Sequence[Position], temperature: float, n: int | None
    ) -> None:
        self.n_tokens += 1
        if index is None:
            self.n_elsewhere += 1
            self._sizes.append(0)
            return
        there = positions[index]
        tokens: dict[int, float] = {}
        cut = False
        hidden = self._hidden(there, n)
        for token, value in there.likeliest:
            if (one := self._id(token)) is None or math.exp(value) < hidden:
                cut = True
                break
            tokens.setdefault(one, value)
        if not cut:
            _without_the_chosen(tokens, self._id(there.token))
        if not tokens:
            self.n_unknown += bool(there.likeliest)
            self._sizes.append(0)
            return
        self.n_cut += cut
        self.n_listed += 1
        self._sizes.append(len(tokens))
        self._ids.extend(tokens)
        shift = _shift([value for _, value in there.likeliest], temperature)
        self._values.extend(temperature * value - shift for value in tokens.values())


def _walk(
    raw: bytes, pieces: Sequence[bytes | None], first: int, at: int = 0
) -> tuple[dict[int, int], int]:
    """Where the pieces from `first` on begin in `raw`, as far as they follow each other in it.

    Returns
    -------
    starts : dict of int
        By offset in `raw`.
    end : int
        Where the last one ends.
    """
    starts: dict[int, int] = {}
    unknown = 0
    for i in range(first, len(pieces)):
        piece = pieces[i]
        if at >= len(raw):
            break
        if piece is None:
            if not unknown:
                starts[at] = i
            unknown += 1
            continue
        if unknown:
            found = raw.find(piece, at, at + unknown * _LONGEST_UNKNOWN + len(piece))
            if found < 0:
                break
            at, unknown = found, 0
        elif not raw.startswith(piece, at):
            if i > first or not piece.startswith(b" ") or not raw.startswith(piece[1:], at):
                break
            at -= 1  # servers strip the space before the first word
        if piece:
            starts[max(at, 0)] = i
        at += len(piece)
    if unknown and len(raw) - at <= unknown * _LONGEST_UNKNOWN:
        at = len(raw)
    return starts, min(at, len(raw))


def _without_the_chosen(tokens: dict[int, float], chosen: int | None) -> None:
    """Drops the token that stands there if it is the least likely one listed.

    Some servers add it to the N likeliest, and others put it in place of the last of them. Tokens
    that are not listed may be likelier then, unless there is no room for one.
    """
    if chosen is None or chosen not in tokens:
        return
    least = min(tokens.values())
    if tokens[chosen] <= least and 1.0 - sum(map(math.exp, tokens.values())) > math.exp(least):
        del tokens[chosen]


def _shift(values: Sequence[float], temperature: float) -> float:
    """What log-probabilities after a temperature, times it, exceed those before it by.

    Of the tokens that are not listed only the sum is known, so they are taken to be as likely as
    the least that is: exact but for this one number per position.
    """
    if temperature == 1.0:
        return 0.0
    least = min(values)
    rest = max(1.0 - _ROUNDING - sum(map(math.exp, values)), 0.0)
    total = sum(math.exp(temperature * value) for value in values)
    return math.log(total + rest * math.exp((temperature - 1.0) * least))
