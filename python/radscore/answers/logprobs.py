"""What a server says of the probabilities of an answer's tokens, in each of the known shapes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radscore.answers.settings import Settings

__all__ = [
    "Position",
    "Token",
    "fields_of_request",
    "from_record",
    "read_positions",
    "strings_of",
    "to_record",
]

#: A token as a server names it: its id, its exact bytes, or a text that may lack some of them; None
#: if it does not say.
Token: TypeAlias = int | str | bytes | None

#: vLLM, with return_tokens_as_token_ids.
_AS_ID = re.compile(r"token_id:([0-9]{1,10})")
#: OpenAI's completions, and llama.cpp's of old, for a part of a character.
_AS_BYTES = re.compile(r"bytes?: ?((?:\\x[0-9a-f]{2})+)")
#: What servers write for a logarithm that is -inf, or not known, lies below.
_LEAST = -9990.0
#: Logarithms above 0 by no more are rounding.
_ROUNDING = 1e-3
_MOST_ID = 2**32 - 2
_DIGITS = 4
#: UTF-8 for what stands in place of a part of a character.
_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True)
class Position:
    """One token of an answer, and what else could have stood there.

    Attributes
    ----------
    token : int, str, bytes or None
    logprob : float or None
        Its natural log-probability; None if the server does not know it.
    likeliest : tuple of pairs
        Tokens and log-probabilities as the server lists them, the likeliest first. Servers differ
        in whether the position's own token is always among them.
    """

    token: Token
    logprob: float | None
    likeliest: tuple[tuple[Token, float], ...]


def fields_of_request(settings: Settings, *, ids: bool) -> dict[str, Any]:
    """What a request must have in it to get log-probabilities.

    Parameters
    ----------
    settings : Settings
        With `logprobs`.
    ids : bool
        Whether to ask for ids in place of strings, as vLLM gives them; others may refuse that.
    """
    n = settings.logprobs
    if n is None:
        return {}
    if settings.api == "sglang":
        return {"return_logprob": True, "top_logprobs_num": n, "return_text_in_logprobs": True}
    fields: dict[str, Any] = {"logprobs": n}
    if settings.api == "chat":
        fields = {"logprobs": True, "top_logprobs": n}
    if ids:
        fields |= {"return_tokens_as_token_ids": True, "return_token_ids": True}
    return fields


def read_positions(choice: dict[str, Any]) -> list[Position] | None:
    """One for each token of an answer; None if the server says nothing, or no sense.

    Parameters
    ----------
    choice : dict
        An answer: an element of ``choices``, or the body of a native reply of SGLang or llama.cpp.
    """
    found = choice.get("logprobs")
    meta = choice.get("meta_info")
    if isinstance(meta, dict):
        made = _of_triples(meta.get("output_token_logprobs"), meta.get("output_top_logprobs"))
    elif isinstance(found, dict) and isinstance(found.get("content"), list):
        made = _of_entries(found["content"])
    elif isinstance(found, dict) and isinstance(found.get("tokens"), list):
        made = _of_columns(found)
    else:
        made = _of_entries(choice.get("completion_probabilities"))
    ids = choice.get("token_ids")
    if made and isinstance(ids, list) and len(ids) == len(made):
        made = [
            Position(one.token if _id(index) is None else index, one.logprob, one.likeliest)
            for index, one in zip(ids, made, strict=True)
        ]
    return made or None


def _of_entries(entries: Any) -> list[Position] | None:
    """Chat, and everything of llama.cpp: an object a token, with a list of such objects."""
    if not isinstance(entries, list):
        return None
    made = []
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        top = entry.get("top_logprobs", entry.get("top_probs"))
        pairs = ((_named(one), _value_in(one)) for one in top) if isinstance(top, list) else ()
        made.append(Position(_named(entry), _value_in(entry), _ranked(pairs)))
    return made


def _of_columns(found: dict[str, Any]) -> list[Position] | None:
    """Completions: a column of tokens, and one of dictionaries by token."""
    tokens = found["tokens"]
    values, tops, ids = (
        found.get(name) if isinstance(found.get(name), list) else None
        for name in ("token_logprobs", "top_logprobs", "token_ids")
    )
    if values is None or len(values) != len(tokens):
        return None
    if tops is None or len(tops) != len(tokens):
        tops = [None] * len(tokens)
    if ids is None or len(ids) != len(tokens):
        ids = [None] * len(tokens)
    made = []
    for token, value, top, index in zip(tokens, values, tops, ids, strict=True):
        own = _of_text(token) if _id(index) is None else index
        pairs = ((_of_text(t), _value(v)) for t, v in top.items()) if isinstance(top, dict) else ()
        made.append(Position(own, _value(value), _ranked(pairs)))
    return made


def _of_triples(chosen: Any, tops: Any) -> list[Position] | None:
    """SGLang: a list of log-probability, id and text a token."""
    if not isinstance(chosen, list):
        return None
    if not isinstance(tops, list) or len(tops) != len(chosen):
        tops = [None] * len(chosen)
    made = []
    for one, top in zip(chosen, tops, strict=True):
        token, value = _triple(one)
        pairs = map(_triple, top) if isinstance(top, list) else ()
        made.append(Position(token, value, _ranked(pairs)))
    return made


def _triple(one: Any) -> tuple[Token, float | None]:
    if not isinstance(one, list) or len(one) < 2:
        return None, None
    token: Token = one[1] if _id(one[1]) is not None else None
    return token, _value(one[0])


def _ranked(pairs: Iterable[tuple[Token, float | None]]) -> tuple[tuple[Token, float], ...]:
    """Those that are known, the likeliest first."""
    known = [(token, value) for token, value in pairs if value is not None]
    return tuple(sorted(known, key=lambda pair: -pair[1]))


def _named(entry: Any) -> Token:
    """The token that an object names: by its id, else its bytes, else its text."""
    if not isinstance(entry, dict):
        return None
    for name in ("id", "token_id"):
        if _id(entry.get(name)) is not None:
            return int(entry[name])
    text = _of_text(entry.get("token"))
    if isinstance(text, int):
        return text
    # vLLM and SGLang make the bytes from the text, so a part of a character is not told by them
    raw = _bytes(entry.get("bytes"))
    return raw if raw and _REPLACEMENT not in raw else text


def _of_text(text: Any) -> Token:
    if not isinstance(text, str):
        return None
    if (found := _AS_ID.fullmatch(text)) and int(found[1]) <= _MOST_ID:
        return int(found[1])
    if found := _AS_BYTES.fullmatch(text):
        return bytes.fromhex(found[1].replace("\\x", ""))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _bytes(values: Any) -> bytes | None:
    if not isinstance(values, list) or set(map(type, values)) - {int}:
        return None
    return bytes(values) if all(0 <= value < 256 for value in values) else None


def _id(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_ID else None


def _value_in(entry: Any) -> float | None:
    if not isinstance(entry, dict):
        return None
    if "logprob" not in entry and "prob" in entry:  # llama.cpp, with post_sampling_probs
        value = entry["prob"]
        sound = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1
        return math.log(value) if sound else None
    return _value(entry.get("logprob"))


def _value(value: Any) -> float | None:
    """A logarithm; None for what stands for -inf, or is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(float(value), 0.0) if _LEAST < value <= _ROUNDING else None


def strings_of(positions: Sequence[Position]) -> str:
    """All that a server could have written into tokens."""
    tokens = [one.token for one in positions]
    tokens += [token for one in positions for token, _ in one.likeliest]
    shown = (
        one.decode("utf-8", "replace") if isinstance(one, bytes) else one
        for one in tokens
        if isinstance(one, (str, bytes))
    )
    return "\n".join(shown)


def to_record(positions: Sequence[Position]) -> dict[str, Any]:
    """As a journal keeps them, with four decimals.

    Ids are numbers and texts are strings. Exact bytes are a list: of one text, or of numbers if
    they are none.
    """
    return {
        "tokens": [_written(one.token) for one in positions],
        "values": [_rounded(one.logprob) for one in positions],
        "likeliest": [
            [part for token, value in one.likeliest for part in (_written(token), _rounded(value))]
            for one in positions
        ],
    }


def _written(token: Token) -> int | str | list[Any] | None:
    if not isinstance(token, bytes):
        return token
    try:
        return [token.decode()]
    except UnicodeDecodeError:
        return list(token)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def from_record(record: Any) -> list[Position]:
    """What `to_record` was given.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        tokens, values, tops = record["tokens"], record["values"], record["likeliest"]
        return [
            Position(
                _read(token),
                _read_value(value),
                tuple(
                    (_read(top[i]), _sure(_read_value(top[i + 1]))) for i in range(0, len(top), 2)
                ),
            )
            for token, value, top in zip(tokens, values, tops, strict=True)
        ]
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _read(token: Any) -> Token:
    if token is None or isinstance(token, str) or _id(token) is not None:
        return token  # type: ignore[no-any-return]
    if isinstance(token, list) and len(token) == 1 and isinstance(token[0], str):
        return str(token[0]).encode()
    if (raw := _bytes(token)) is None:
        raise ValueError(token)
    return raw


def _read_value(value: Any) -> float | None:
    if value is not None and _value(value) is None:
        raise ValueError(value)
    return _value(value)


def _sure(value: float | None) -> float:
    if value is None:
        raise ValueError(value)
    return value
