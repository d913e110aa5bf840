"""What an endpoint sends back: an answer in any of the known shapes, or why there is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from radscore.answers.logprobs import read_positions

if TYPE_CHECKING:
    from radscore.answers.logprobs import Position

__all__ = ["Failure", "Kind", "Reply", "Used", "error_text", "kind_of", "read_reply"]

Kind: TypeAlias = Literal["retry", "skip", "stop"]

#: Counts of tokens from here on are nonsense.
_MOST_TOKENS = 2**40
#: Integers of more digits are no integers that anything here needs, and take long to read.
_MOST_DIGITS = 20
#: Ends of answers that the server broke off itself.
_BROKEN_OFF = frozenset({"error", "abort"})
#: Statuses that another attempt may cure, besides every 5xx.
_TRANSIENT = frozenset({408, 409, 425, 429})
#: Statuses that every further request would get as well.
_HOPELESS = frozenset({401, 402, 403})
_BROKE = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_LONGEST_NAME = 200
_REASONING = ("reasoning_content", "reasoning", "thinking")
#: Other interfaces, by fields that only their replies have.
_OTHERS = {
    "Ollama's own": ({"message", "done"}, {"response", "done"}),
    "Anthropic's": ({"content", "stop_reason"},),
    "Google's": ({"candidates"},),
    "OpenAI's responses": ({"output", "object"},),
    "llama.cpp's own": ({"content", "generation_settings"}, {"content", "tokens_predicted"}),
    "SGLang's own": ({"meta_info"},),
    "TGI's own": ({"generated_text"},),
    "Cohere's": ({"generations"}, {"text", "generation_id"}),
    "Bedrock's": ({"output", "stopReason"}, {"results", "inputTextTokenCount"}),
}


@dataclass(frozen=True)
class Used:
    """Tokens as the server counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __bool__(self) -> bool:
        return self.prompt_tokens is not None or self.completion_tokens is not None


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    text : str
        Empty where the model wrote nothing but reasoning or calls of tools, or was cut off.
    finish_reason : str or None
    used : Used
    extra : dict
        What else a record keeps: a refusal, reasoning, the name of the model that answered.
    positions : list of Position or None
        Log-probabilities, if the server tells any.
    """

    text: str
    finish_reason: str | None
    used: Used
    extra: dict[str, Any] = field(default_factory=dict)
    positions: list[Position] | None = None

    @property
    def refused(self) -> bool:
        """Whether the model refused, or the provider's filter did."""
        return "refusal" in self.extra or self.finish_reason == "content_filter"


class Failure(Exception):  # noqa: N818 - not always an error
    """What came instead of an answer.

    Attributes
    ----------
    kind : {"retry", "skip", "stop"}
        Whether to try again, give up this question, or stop asking altogether.
    status : int or None
        The HTTP status, if there was a response.
    retry_after : float
        Seconds for which the server wants no further requests.
    sent : bool
        Whether the request may have been answered all the same, and so cost something.
    used : Used
        What it cost, where the server says so.
    free : bool
        Whether the next attempt repairs the request: it comes at once, and is not a retry.
    """

    def __init__(
        self,
        message: str,
        kind: Kind = "retry",
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        sent: bool = False,
        used: Used | None = None,
        free: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.sent = sent
        self.used = used or Used()
        self.free = free


def kind_of(status: int, code: object = None) -> Kind:
    """What an error's status, and the code in its body, mean for the question."""
    if status in _HOPELESS or (isinstance(code, str) and code in _BROKE):
        return "stop"
    return "retry" if status in _TRANSIENT or status >= 500 else "skip"


def error_text(body: Any) -> str:
    """What an error's body says went wrong."""
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if body.get(name):
                return error_text(body[name])
    return _excerpt(body) if body else ""


def read_reply(text: str, api: str, model: str) -> Reply:
    """The answer in the body of a response whose status is good, taking nothing for granted.

    Raises
    ------
    Failure
        If there is none.
    """
    body = _json(text)
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # TGI's, and some gateways' errors
    if not isinstance(body, dict):
        raise Failure(f"not a completion: {_excerpt(text)!r}", sent=True)
    if api == "sglang" and isinstance(body.get("meta_info"), dict):
        body = _of_sglang(body)
    used = _used(body.get("usage"))
    choice = _choice(body.get("choices"))
    error = body if body.get("object") == "error" else body.get("error")
    if choice is None or (error and not choice):
        raise _no_choice(body, error, used)
    finish = choice.get("finish_reason")
    finish = finish[:_LONGEST_NAME] if isinstance(finish, str) else None
    if choice.get("error") or finish in _BROKEN_OFF:
        what = error_text(choice.get("error")) or f"finish_reason {finish!r}"
        raise Failure(f"broken off by the server: {what}", sent=True, used=used)
    message = _message(choice, api)
    content, extra = _content(message)
    if content is None:
        # nothing was said, but something was done: asking again would pay for it again
        if not (finish or used or extra):
            raise Failure(f"no text in {_excerpt(choice)!r}", sent=True, used=used)
        content = extra.get("refusal", "")
    if not isinstance(content, str):
        raise Failure(f"no text in {_excerpt(choice)!r}", sent=True, used=used)
    if isinstance(body.get("model"), str) and body["model"] != model:
        extra["answered_by"] = body["model"][:_LONGEST_NAME]
    whole = {name: _sound(v) if isinstance(v, str) else v for name, v in extra.items()}
    finish = None if finish is None else _sound(finish)
    return Reply(_sound(content), finish, used, whole, read_positions(choice))


def _of_sglang(body: dict[str, Any]) -> dict[str, Any]:
    """A reply of SGLang's own interface, as the other one would put it."""
    meta = body["meta_info"]
    finish = meta.get("finish_reason")
    if isinstance(finish, dict):
        finish = finish.get("type")
    choice = {"text": body.get("text"), "finish_reason": finish, "meta_info": meta}
    return {**body, "choices": [choice], "usage": meta}


def _json(text: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_int=_integer)
    except (ValueError, RecursionError):
        if text.lstrip().startswith(("data:", "event:", ": ")):
            raise Failure(
                "a stream of events, though none was asked for: switch streaming off at the server",
                "skip",
                sent=True,
            ) from None
        raise Failure(f"not JSON: {_excerpt(text)!r}", sent=True) from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("inf")


def _choice(choices: Any) -> dict[str, Any] | None:
    """The first of the answers, which need not come first."""
    found = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return next(
        (one for one in found if _whole(one.get("index")) == 0), found[0] if found else None
    )


def _no_choice(body: dict[str, Any], error: Any, used: Used) -> Failure:
    """An error in a response of good status, which may give the status that it should have."""
    if not error:
        for name, shapes in _OTHERS.items():
            if "choices" not in body and any(fields <= body.keys() for fields in shapes):
                return Failure(
                    f"this is {name} interface, not one like OpenAI's: endpoint must name the base "
                    "URL of that one, which most servers have as well (such as "
                    f"http://HOST:PORT/v1): {_excerpt(body)[:80]!r}",
                    "stop",
                    sent=True,
                    used=used,
                )
        return Failure(f"no choices in {_excerpt(body)!r}", sent=True, used=used)
    code = error.get("code") if isinstance(error, dict) else None
    status = _whole(code)
    if status is None or not 400 <= status < 600:
        status = None
    kind = kind_of(status or 503, code)
    message = f"{status or 'error'}: {error_text(error)}"
    return Failure(message, kind, status=status, sent=True, used=used)


def _message(choice: dict[str, Any], api: str) -> dict[str, Any]:
    """What holds the text: chat has it in a message, completions do not; some servers mix both.

    A stream that was joined into one answer may have kept the name of its pieces.
    """
    message = choice.get("message") or choice.get("delta")
    if isinstance(message, dict) and (api == "chat" or not isinstance(choice.get("text"), str)):
        return message
    return {"content": choice.get("text")}


def _content(message: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The text, None if there is none, and what else a record keeps."""
    content = message.get("content")
    extra: dict[str, Any] = {}
    for name in _REASONING:
        if isinstance(message.get(name), str) and message[name]:
            extra.setdefault("reasoning_content", message[name])
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        texts: dict[str, list[str]] = {"text": [], "refusal": [], "reasoning_content": []}
        for part in content:
            kind, text = _part(part)
            texts[kind].append(text)
        content = "".join(texts.pop("text"))
        extra |= {name: "".join(found) for name, found in texts.items() if any(found)}
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        extra["refusal"] = message["refusal"]
    if content == "" and "refusal" in extra:
        content = None
    calls = message.get("tool_calls") or message.get("function_call")
    if calls:
        extra["tool_calls"] = len(calls) if isinstance(calls, list) else 1
    return content, extra


def _part(part: Any) -> tuple[str, str]:
    """What one part of a content is, and its text."""
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, dict):
        return "text", ""
    kind = part.get("type")
    if kind == "refusal":
        return "refusal", _plain(part.get("refusal"))
    if kind in ("thinking", "reasoning", "reasoning_text"):
        return "reasoning_content", _plain(part.get(kind) or part.get("text"))
    return "text", _plain(part.get("text"))


def _plain(text: Any) -> str:
    """A part's text: text, an object with its value, or parts again."""
    if isinstance(text, list):
        return "".join(_plain(one) for one in text)
    if isinstance(text, dict):
        text = text.get("value", text.get("text"))
    return text if isinstance(text, str) else ""


def _used(usage: Any) -> Used:
    """The counts as they are stated, under either of the two names in use."""
    if not isinstance(usage, dict):
        return Used()
    first, second, both = (
        next((n for name in names if (n := _whole(usage.get(name))) is not None), None)
        for names in (
            ("prompt_tokens", "input_tokens"),
            ("completion_tokens", "output_tokens"),
            ("total_tokens",),
        )
    )
    if both is not None:  # which tells the other one
        if first is None and second is not None and both >= second:
            first = both - second
        elif second is None and first is not None and both >= first:
            second = both - first
    return Used(first, second)


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _sound(text: str) -> str:
    """`text` with U+FFFD for half a surrogate pair, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _excerpt(value: Any) -> str:
    """The beginning of a value, in one line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text[:4096]
