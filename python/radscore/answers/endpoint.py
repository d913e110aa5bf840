"""One request to an OpenAI-compatible endpoint, and what may come back instead of an answer."""

from __future__ import annotations

import asyncio
import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from radscore.errors import ArgumentError
from radscore.extras import need

if TYPE_CHECKING:
    from radscore.answers.settings import Settings
    from radscore.models.questions import Question

__all__ = ["Endpoint", "Failure", "Reply"]

#: Longest message that is shown, in characters.
_SHOWN = 300
#: What API keys look like.
_TOKEN = re.compile(r"\bg?sk[-_][\w*.-]{6,}")
_NO_KEY = "none"  # private servers accept anything
#: Hiding shorter keys would blank out ordinary words in messages.
_SHORTEST_HIDDEN = 4
#: Statuses that another attempt may cure, besides every 5xx.
_TRANSIENT = frozenset({408, 409, 425, 429})
#: Statuses that every further request would get as well.
_HOPELESS = frozenset({401, 402, 403})
_BROKE = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_MOST_RETRY_AFTER = 600.0
#: Counts of tokens from here on are nonsense.
_MOST_TOKENS = 2**40
#: Errors raised before anything was sent.
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    text : str
    finish_reason : str or None
    prompt_tokens, completion_tokens : int or None
        As the server counted them; None if it did not say.
    extra : dict
        What else a record keeps: a refusal, reasoning, the name of the model that answered.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    extra: dict[str, Any]


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
    free : bool
        Whether the next attempt repairs the request: it comes at once, and is not a retry.
    """

    def __init__(
        self,
        message: str,
        kind: Literal["retry", "skip", "stop"] = "retry",
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        sent: bool = False,
        free: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.sent = sent
        self.free = free


class Endpoint:
    """Asks a model behind an API, through the `openai` library.

    Parameters
    ----------
    settings : Settings
        Its `source` is the base URL.
    key : str or None
        Sent with every request, and kept out of every message.
    timeout : float
        Seconds that a request may take, from its start to the last byte of the answer.

    Raises
    ------
    ArgumentError
        If the URL is not one.
    MissingExtraError
        If the library is not installed.
    """

    def __init__(self, settings: Settings, key: str | None, timeout: float) -> None:
        need("openai", what="asking an endpoint")
        import openai

        self._openai = openai
        self._settings = settings
        self._hidden = _spellings(key)
        self._timeout = timeout
        self._limit_name = "max_tokens"
        # Attempts are counted, budgeted and recorded here, so the library must not retry.
        try:
            self._client = openai.AsyncOpenAI(
                api_key=key or _NO_KEY, base_url=settings.source, timeout=timeout, max_retries=0
            )
        except Exception as error:  # noqa: BLE001 - the library has no class for these
            raise ArgumentError(f"endpoint must be a URL: {self._clean(str(error))}") from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()

    async def ask(self, question: Question) -> Reply:
        """Sends one request.

        Raises
        ------
        Failure
            If no answer came, or something that is not one.
        """
        limit_name = self._limit_name  # other requests may change it while this one is under way
        try:
            # The library limits each read, so a server that drips would never time out.
            async with asyncio.timeout(self._timeout):
                raw = await self._send(question, limit_name)
            return self._read(raw)
        except Failure:
            raise
        except Exception as error:  # noqa: BLE001 - nothing that a server does may end the whole run
            raise self._failure(error, limit_name) from None

    def _failure(self, error: Exception, limit_name: str) -> Failure:
        """What an exception means for the question."""
        openai = self._openai
        if isinstance(error, openai.APIStatusError):
            if self._renamed(error, limit_name):
                return Failure("the server wants max_completion_tokens", status=400, free=True)
            return self._refused(error)
        cause = error.__cause__
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return Failure("no answer in time", sent=type(cause).__name__ not in _NOT_SENT)
        if isinstance(error, openai.APIConnectionError):
            what = self._clean(f"{type(cause).__name__}: {cause}" if cause else str(error))
            sent = type(cause).__name__ not in _NOT_SENT
            return Failure(f"no connection ({what})", sent=sent)
        passing = isinstance(error, openai.OpenAIError | ValueError | OSError)
        message = self._clean(f"{type(error).__name__}: {error}")
        return Failure(message, "retry" if passing else "skip", sent=True)

    async def _send(self, question: Question, limit_name: str) -> str:
        settings = self._settings
        options: dict[str, Any] = {"model": settings.model, limit_name: settings.max_tokens}
        optional = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": question.seed,
        }
        options |= {name: value for name, value in optional.items() if value is not None}
        if settings.extra:
            options["extra_body"] = settings.extra
        if settings.api == "completions":
            raw = await self._client.completions.with_raw_response.create(
                prompt=question.prompt, **options
            )
        else:
            messages: list[Any] = [{"role": "user", "content": question.prompt}]
            if settings.system is not None:
                messages.insert(0, {"role": "system", "content": settings.system})
            raw = await self._client.chat.completions.with_raw_response.create(
                messages=messages, **options
            )
        return str(raw.text)

    def _renamed(self, error: Any, sent_name: str) -> bool:
        """Whether the server wants the newer name of `max_tokens`, which is used from now on.

        `sent_name` is the name that this very request used: each of those that were under way
        together finds out for itself, once.
        """
        wants = "max_completion_tokens" in _body(error)
        if error.status_code == 400 and wants and sent_name == "max_tokens":
            self._limit_name = "max_completion_tokens"
            return True
        return False

    def _refused(self, error: Any) -> Failure:
        status = int(error.status_code)
        message = f"{status}: {self._clean(_body(error)) or 'no reason given'}"
        if status in _HOPELESS or error.code in _BROKE:
            return Failure(message, "stop", status=status)
        if status in _TRANSIENT or status >= 500:
            wait = _seconds(error.response.headers.get("retry-after"))
            return Failure(message, status=status, retry_after=wait)
        return Failure(message, "skip", status=status)

    def _read(self, text: str) -> Reply:
        """The answer in a response's body, taking nothing for granted."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise Failure(f"not JSON: {self._clean(text)!r}", sent=True) from None
        if not isinstance(body, dict):
            raise Failure(f"not a completion: {self._clean(text)!r}", sent=True)
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            what = body.get("error") or text
            raise Failure(f"no choices in {self._clean(str(what))!r}", sent=True)
        choice = choices[0]
        message = choice.get("message") if self._settings.api == "chat" else choice
        message = message if isinstance(message, dict) else {}
        content = message.get("content" if self._settings.api == "chat" else "text")
        extra = {}
        for name in ("refusal", "reasoning_content"):
            if isinstance(message.get(name), str) and message[name]:
                extra[name] = message[name]
        if content is None and "refusal" in extra:
            content = extra["refusal"]
        if not isinstance(content, str):
            raise Failure(f"no text in {self._clean(json.dumps(choice))!r}", sent=True)
        if isinstance(body.get("model"), str) and body["model"] != self._settings.model:
            extra["answered_by"] = body["model"]
        finish = choice.get("finish_reason")
        return Reply(
            text=content,
            finish_reason=finish if isinstance(finish, str) else None,
            prompt_tokens=_whole(usage.get("prompt_tokens")),
            completion_tokens=_whole(usage.get("completion_tokens")),
            extra=extra,
        )

    def _clean(self, text: str) -> str:
        """One short line, without the API key, which servers like to quote."""
        for spelling in self._hidden:
            text = text.replace(spelling, "(key)")
        text = " ".join(_TOKEN.sub("(key)", text).split())
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _spellings(key: str | None) -> list[str]:
    """The ways in which messages may quote a key, the longest first."""
    if key is None or len(key) < _SHORTEST_HIDDEN:
        return []
    found = {key, repr(key)[1:-1], json.dumps(key)[1:-1], html.escape(key), quote(key, safe="")}
    return sorted(found, key=len, reverse=True)


def _body(error: Any) -> str:
    """What the server says went wrong."""
    body = error.body
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if body.get(name):
                return str(body[name])
    return str(body or "")


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _seconds(text: str | None) -> float:
    """The seconds in a Retry-After header; 0 for a date, which the backoff covers."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return min(value, _MOST_RETRY_AFTER) if value > 0 else 0.0
