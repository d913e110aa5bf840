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

from radscore.answers.replies import Failure

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
    "shape_failure",
]

#: How a server names a token: by its id, its bytes, or its text.
Name: TypeAlias = "int | bytes | str"
#: Names of tokens with their natural log-probabilities.
Row: TypeAlias = "list[tuple[Name, float]]"

#: What probabilities may add up to, with rounding.
_MOST_MASS: Final = 1.01
#: Further positions at which a reading must explain the text better, to be believed.
_MARGIN: Final = 4


@dataclass(frozen=True)
class Lists:
    """What a server says of a prompt.

    Attributes
    ----------
    tokens : list of int or str, or None
        The tokens that it has read, and perhaps one that it wrote; None if it does not say.
    lists : list of Row, or None
        At index j, what the server thought likely in the place of token j, before it read it; None
        where nothing is known. The last is what follows the prompt.
    """

    tokens: list[Any] | None
    lists: list[Row | None]


@dataclass(frozen=True)
class Dialect:
    """A server's way to be asked, and to answer.

    Attributes
    ----------
    name : str
    by_ids : bool
        Whether the prompt is sent as token ids.
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
    path: str
    fields: Callable[[Any, int], dict[str, Any]]
    read: Callable[[dict[str, Any], int], Lists]
    at_end: bool = False


def _number(value: Any) -> float:
    """A log-probability."""
    if not isinstance(value, (int, float)) or math.isnan(value) or value > 1e-3:
        raise ValueError(f"{value!r} is no log-probability")
    return float(value)


def _checked(row: Row) -> Row:
    if sum(math.exp(value) for _, value in row) > _MOST_MASS:
        raise ValueError("log-probabilities of one position add up to more than 1")
    return row


def _listed(entries: Any) -> Row:
    """Entries of chats: a token, perhaps with its id or bytes, and its log-probability."""
    row: Row = []
    for one in entries:
        name: Name = one["token"]
        if type(one.get("id")) is int:
            name = one["id"]
        elif isinstance(one.get("bytes"), list) and one["bytes"]:
            name = bytes(one["bytes"])
        row.append((name, _number(one["logprob"])))
    return row


def _last(choice: dict[str, Any]) -> Row | None:
    """What an answer's first token could have been, in either of the two shapes in use."""
    found = choice.get("logprobs")
    if found and found.get("content"):
        return _checked(_listed(found["content"][0]["top_logprobs"]))
    if found and found.get("top_logprobs"):
        return _checked([(one, _number(value)) for one, value in found["top_logprobs"][0].items()])
    return None


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
    lists: list[Row | None] = []
    for found in choice["prompt_logprobs"]:
        if found is None:
            lists.append(None)
            continue
        # the token itself comes with the N likeliest, whatever its rank
        best = {name: one for name, one in found.items() if not (one.get("rank") or 0) > n}
        lists.append(_checked([(int(name), _number(one["logprob"])) for name, one in best.items()]))
    return Lists(None, [*lists, _last(choice)])


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
    tokens = [one[1] for one in about["input_token_logprobs"]]
    lists: list[Row | None] = []
    for row in [*about["input_top_logprobs"], (about.get("output_top_logprobs") or [None])[0]]:
        found: Row | None = None
        if row:
            found = _checked([(one[1], _number(one[0])) for one in row])
        lists.append(found)
    if len(lists) != len(tokens) + 1:
        raise ValueError(f"{len(lists) - 1} lists for {len(tokens)} tokens")
    return Lists(tokens, lists)


def _echo_fields(prompt: Any, n: int) -> dict[str, Any]:
    # llama-cpp-python takes 0 for as many tokens as there is room
    return {"prompt": prompt, "max_tokens": 1, "temperature": 1, "echo": True, "logprobs": n}


def _echo(body: dict[str, Any], n: int) -> Lists:
    del n
    found = body["choices"][0]["logprobs"]
    tokens, rows = found["tokens"], found["top_logprobs"]
    if len(tokens) != len(rows):
        raise ValueError(f"{len(rows)} lists for {len(tokens)} tokens")
    lists: list[Row | None] = [
        None if row is None else _checked([(name, _number(value)) for name, value in row.items()])
        for row in rows
    ]
    return Lists(list(tokens), lists)


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
    last = _last(body["choices"][0])
    if last is None:
        raise ValueError("no log-probabilities")
    return Lists(None, [last])


#: The ways to read, by name; those that do the same in the order in which they are tried.
DIALECTS: Final[dict[str, Dialect]] = {
    one.name: one
    for one in (
        Dialect("vllm", True, "completions", _vllm_fields, _vllm),
        Dialect("sglang", True, "/generate", _sglang_fields, _sglang),
        Dialect("echo", False, "completions", _echo_fields, _echo),
        Dialect("one-token, named", True, "completions", _named_fields, _one, at_end=True),
        Dialect("one-token, ids", True, "completions", _one_fields, _one, at_end=True),
        Dialect("one-token, text", False, "completions", _one_fields, _one, at_end=True),
        Dialect("one-token, chat", False, "chat/completions", _chat_fields, _one, at_end=True),
    )
}


def likeliest(row: Row, n: int) -> Row:
    """The N likeliest of a list: without the text's own token, which servers add, if it is none."""
    return row if len(row) <= n else sorted(row, key=lambda one: -one[1])[:n]


def matched_length(found: list[Any], ids: list[int], strings: TokenStrings) -> tuple[int, int]:
    """Where a server's tokens begin in ours, and how many of ours they are, from the first on.

    Returns
    -------
    start : int
        Token j of the server is our token `j + start`; negative if it has put tokens before.
    length : int
        Our tokens up to this one are the server's.
    """

    def same(name: Any, index: int) -> bool:
        return name == index if type(name) is int else strings.may_be(name, index)

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


def is_shifted(lists: Lists, n: int, id_of: Callable[[Any], int | None]) -> bool | None:
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


def shape_failure(error: Exception) -> Failure:
    """What is said of a response that is not of the dialect's shape."""
    return Failure(f"no log-probabilities of the prompt ({type(error).__name__}: {error})", "skip")
