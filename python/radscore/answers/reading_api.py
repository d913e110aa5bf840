"""Reading over an API: what to ask of a server, and what its log-probabilities belong to.

A `Dialect` is a server's way to say how likely each token of a prompt was, and which others were
likelier. Where a server takes token ids, positions need no alignment; elsewhere the text is sent,
and the tokens that come back are compared with ours one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from radscore.answers.logprobs import Position, Token, read_positions

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from radscore.models.token_strings import TokenStrings

__all__ = [
    "DIALECTS",
    "Dialect",
    "Lists",
    "Row",
    "is_shifted",
    "likeliest",
    "matched_length",
    "same_ends",
]

#: Tokens with their natural log-probabilities.
Row: TypeAlias = "list[tuple[Token, float]]"

#: What probabilities may add up to, with rounding.
_MOST_MASS: Final = 1.01
#: Further positions at which a reading must explain the text better, to be believed.
_MARGIN: Final = 4
#: What SGLang says of a prompt, and in the same way of an answer.
_COLUMNS: Final = ("token_logprobs", "top_logprobs")


@dataclass(frozen=True)
class Lists:
    """What a server says of a prompt.

    Attributes
    ----------
    tokens : list of Token, or None
        The tokens that it has read, and perhaps one that it wrote; None if it does not say.
    lists : list of Row, or None
        At index j, what the server thought likely in the place of token j, before it read it; None
        where nothing is known. The last is what follows the prompt.
    """

    tokens: list[Token] | None
    lists: list[Row | None]


@dataclass(frozen=True)
class Dialect:
    """A server's way to be asked, and to answer.

    Attributes
    ----------
    name : str
    by_ids : bool
        Whether the prompt is sent as token ids.
    api : str
        Whose shape a response has; see `read_reply`.
    path : str
        Where requests go, relative to the base URL; from the server's root if it begins with "/".
    fields : callable
        From the prompt (ids or text), and the number of log-probabilities wanted, to the request's
        fields.
    read : callable
        From a response and that number to `Lists`; `KeyError`, `TypeError`, `ValueError` and the
        like if it is of another shape.
    at_end : bool
        Whether only what follows the prompt is told.
    """

    name: str
    by_ids: bool
    api: str
    path: str
    fields: Callable[[Any, int], dict[str, Any]]
    read: Callable[[dict[str, Any], int], Lists]
    at_end: bool = False


def _listed(positions: list[Position]) -> list[Row | None]:
    """The likeliest tokens of each; None where there are none.

    Raises
    ------
    ValueError
        If they are no probabilities.
    """
    for one in positions:
        if sum(math.exp(value) for _, value in one.likeliest) > _MOST_MASS:
            raise ValueError("probabilities of one position add up to more than 1")
    return [list(one.likeliest) or None for one in positions]


def _after(choice: dict[str, Any]) -> Row | None:
    """What could have followed the prompt."""
    positions = read_positions(choice)
    return _listed(positions)[0] if positions else None


def _vllm_fields(prompt: Any, n: int) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "max_tokens": 1,
        "temperature": 1,
        "prompt_logprobs": n,
        "logprobs": n,
        "return_tokens_as_token_ids": True,
    }


def _vllm(body: dict[str, Any], n: int) -> Lists:
    choice = body["choices"][0]
    positions = []
    for found in choice["prompt_logprobs"]:
        # the token itself comes with the N likeliest, whatever its rank
        best = {
            int(name): min(float(one["logprob"]), 0.0)
            for name, one in (found or {}).items()
            if (one.get("rank") or 0) <= n
        }
        positions.append(Position(None, None, tuple(best.items())))
    return Lists(None, [*_listed(positions), _after(choice)])


def _sglang_fields(prompt: Any, n: int) -> dict[str, Any]:
    return {
        "input_ids": prompt,
        "sampling_params": {"max_new_tokens": 1, "temperature": 1},
        "return_logprob": True,
        "logprob_start_len": 0,
        "top_logprobs_num": n,
    }


def _sglang(body: dict[str, Any], n: int) -> Lists:
    del n
    about = body["meta_info"]
    columns = {f"output_{name}": about[f"input_{name}"] for name in _COLUMNS}
    positions = read_positions({"meta_info": columns}) or []
    return Lists([one.token for one in positions], [*_listed(positions), _after(body)])


def _echo_fields(prompt: Any, n: int) -> dict[str, Any]:
    # llama-cpp-python takes 0 for as many tokens as there is room
    return {"prompt": prompt, "max_tokens": 1, "temperature": 1, "echo": True, "logprobs": n}


def _echo(body: dict[str, Any], n: int) -> Lists:
    del n
    positions = read_positions(body["choices"][0]) or []
    return Lists([one.token for one in positions], _listed(positions))


def _one_fields(prompt: Any, n: int) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": 1, "temperature": 1, "logprobs": n}


def _named_fields(prompt: Any, n: int) -> dict[str, Any]:
    return _one_fields(prompt, n) | {"return_tokens_as_token_ids": True}


def _chat_fields(prompt: Any, n: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 1,
        "temperature": 1,
        "logprobs": True,
        "top_logprobs": n,
    }


def _one(body: dict[str, Any], n: int) -> Lists:
    del n
    after = _after(body["choices"][0])
    if after is None:
        raise ValueError("nor of what follows it")
    return Lists(None, [after])


#: The ways to read, by name; those that do the same in the order in which they are tried.
DIALECTS: Final[dict[str, Dialect]] = {
    one.name: one
    for one in (
        Dialect("vllm", True, "completions", "completions", _vllm_fields, _vllm),
        Dialect("sglang", True, "sglang", "/generate", _sglang_fields, _sglang),
        Dialect("echo", False, "completions", "completions", _echo_fields, _echo),
        *(
            Dialect(f"one-token, {name}", by_ids, api, path, fields, _one, at_end=True)
            for name, by_ids, api, path, fields in (
                ("named", True, "completions", "completions", _named_fields),
                ("ids", True, "completions", "completions", _one_fields),
                ("text", False, "completions", "completions", _one_fields),
                ("chat", False, "chat", "chat/completions", _chat_fields),
            )
        ),
    )
}


def likeliest(row: Row, n: int) -> Row:
    """The N likeliest of a list: without the text's own token, which servers add, if it is none."""
    return row if len(row) <= n else sorted(row, key=lambda one: -one[1])[:n]


def matched_length(found: list[Token], ids: list[int], strings: TokenStrings) -> tuple[int, int]:
    """Where a server's tokens begin in ours, and how many of ours they are, from the first on.

    Returns
    -------
    start : int
        Token j of the server is our token `j + start`; negative if it has put tokens before.
    length : int
        Our tokens up to this one are the server's.
    """

    def same(name: Token, index: int) -> bool:
        if isinstance(name, str):
            return strings.may_be(name, index)
        return name == index or (isinstance(name, bytes) and name in strings.tokens[index])

    best = (0, 0)
    for start in (0, 1, 2, -1, -2):
        length = max(start, 0)
        while length < len(ids) and 0 <= length - start < len(found):
            if not same(found[length - start], ids[length]):
                break
            length += 1
        if length - max(start, 0) > best[1] - max(best[0], 0):
            best = (start, length)
    return best


def same_ends(mine: list[int], theirs: list[int], strings: TokenStrings) -> npt.NDArray[np.int64]:
    """For each of my tokens, the one of theirs that ends at the same byte of the text, else -1.

    All -1 if they are not tokens of the same text. A space before it, which SentencePiece puts
    there, does not matter.
    """
    nowhere = np.full(len(mine), -1, dtype=np.int64)
    one, other = ([strings.bytes_of(index) for index in ids] for ids in (mine, theirs))
    ours, others = (b"".join(part for part in parts if part) for parts in (one, other))
    if None in one or None in other or ours.removeprefix(b" ") != others.removeprefix(b" "):
        return nowhere
    ends, own = (
        np.cumsum([0, *(len(part or b"") for part in parts)])[1:] for parts in (other, one)
    )
    ends = ends - (len(others) - len(ours))
    if not len(ends):
        return nowhere
    at = np.minimum(np.searchsorted(ends, own), len(ends) - 1)
    return np.where(ends[at] == own, at, -1).astype(np.int64)


def is_shifted(lists: Lists, n: int, id_of: Callable[[Token], int | None]) -> bool | None:
    """Whether a server's lists stand at the token before the one that they are for.

    llama-cpp-python's do where a prompt has no start token. Text is likelier under the right
    lists; None if that does not decide.
    """
    assert lists.tokens is not None
    right = shifted = 0
    for j, name in enumerate(lists.tokens):
        token = id_of(name)
        if token is None or j < 2:
            continue
        for row, here in ((lists.lists[j], True), (lists.lists[j - 1], False)):
            if row is not None:
                found = token in {id_of(one) for one, _ in likeliest(row, n)}
                right += found and here
                shifted += found and not here
    if abs(right - shifted) < _MARGIN:
        return None
    return shifted > right
