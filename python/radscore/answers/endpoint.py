"""One request to an OpenAI-compatible endpoint, and what may come back instead of an answer."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import quote, urlsplit, urlunsplit

from radscore.errors import ArgumentError, ModelError

if TYPE_CHECKING:
    from radscore.answers.prompts import Question

__all__ = ["Api", "Endpoint", "Failure", "Reply", "Settings", "api_key", "endpoint_url"]

Api: TypeAlias = Literal["chat", "completions"]

_SHOWN = 300
_TOKEN = re.compile(r"\bg?sk[-_][\w*.-]{6,}")
_NO_KEY = "none"  # servers of one's own take any
#: Shorter ones would take ordinary words out of messages.
_SHORTEST_HIDDEN = 4
#: Errors that another attempt can mend, beside every 5xx.
_TRANSIENT = frozenset({408, 409, 425, 429})
#: Errors that every further request would meet as well.
_HOPELESS = frozenset({401, 402, 403})
_BROKE = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
#: Tokens that a chat template can put around a prompt.
_TEMPLATE_TOKENS = 64
_MOST_RETRY_AFTER = 600.0
#: A count of tokens above it is none.
_MOST_TOKENS = 2**40
#: Why a connection was not even made.
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")


@dataclass(frozen=True)
class Settings:
    """How a model is asked: what must be equal in all answers of one test.

    Attributes
    ----------
    model : str
        The name under which the endpoint knows it.
    api : {"chat", "completions"}
        Whether a prompt is a user's message, or text to go on with.
    source : str
        The endpoint's URL; for a model of this machine ``local:`` and its fingerprint.
    system : str or None
        System prompt.
    temperature, top_p : float or None
        None leaves them to the server.
    max_tokens : int
        Longest answer.
    seed : int or None
        Seeds of all answers are drawn from it; None sends none.
    extra : dict
        Further fields of a request's body: what JSON can hold.
    """

    model: str
    api: Api = "chat"
    source: str = ""
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 256
    seed: int | None = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.api not in get_args(Api):
            raise ArgumentError(f"api must be one of chat, completions, not {self.api!r}")
        if not self.model:
            raise ArgumentError("model must not be empty")
        if self.max_tokens < 1:
            raise ArgumentError(f"max_tokens must be at least 1, not {self.max_tokens}")
        for name, low, high in (("temperature", 0.0, 10.0), ("top_p", 0.0, 1.0)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ArgumentError(f"{name} must be from {low:g} to {high:g}, not {value}")
        if self.api == "completions" and self.system is not None:
            raise ArgumentError("system has no effect with api='completions': there are no roles")
        for name in ("model", "source", "system"):
            _text(name, getattr(self, name) or "")
        # As the journal gives it back (a tuple is a list there), so that the two can be compared.
        object.__setattr__(self, "extra", _json_object("extra", self.extra))

    def to_dict(self) -> dict[str, Any]:
        """What is set, as it stands in each record."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value not in (None, {}, "")}

    def most_tokens(self, prompt: str) -> tuple[int, int]:
        """The most tokens that prompt and answer can have: none is shorter than a byte."""
        text = len(prompt.encode()) + len((self.system or "").encode())
        return text + _TEMPLATE_TOKENS, self.max_tokens


@dataclass(frozen=True)
class Reply:
    """An answer."""

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
        Whether to try again, to give up this question, or to stop asking at all.
    status : int or None
        The HTTP status.
    retry_after : float
        Seconds that the server wants to be left alone.
    sent : bool
        Whether the request may have been answered, and so cost something, nevertheless.
    free : bool
        Whether the next attempt is a repair that counts as no retry and waits for nothing.
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


def api_key(variable: str) -> str | None:
    """The key in an environment variable, without the white space around it; None if there is none.

    Raises
    ------
    ArgumentError
        If no header can hold it; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if not all(" " <= letter <= "~" for letter in key):
        raise ArgumentError(
            f"api_key_env must name a variable with a key of printable ASCII characters; that in "
            f"{variable} has others, such as a line's end or typographic quotes"
        )
    return key or None


def endpoint_url(url: str) -> str:
    """The base URL, checked; one with a key in it is refused, since it would be written down."""
    try:
        parts = urlsplit(url)
        sound = parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # of a port, or of what stands in brackets; its text may quote a password
        sound = False
    if not sound:
        raise ArgumentError(
            "endpoint must be a URL whose port, if it has one, is from 1 to 65535, with an IPv6 "
            "address in brackets, and without spaces or control characters"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ArgumentError(
            "endpoint must be a URL such as http://127.0.0.1:8000/v1 (the part before "
            "/chat/completions)"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ArgumentError(
            "endpoint must hold no user, password or query: keys belong in the environment"
        )
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions"):
        path = path.removesuffix(ending)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class Endpoint:
    """Asks a model behind an API, through the `openai` library.

    Parameters
    ----------
    settings : Settings
        Its `source` is the base URL.
    key : str or None
        Sent with every request; kept out of every message.
    timeout : float
        Seconds that one request may take, from its start to the last byte of its answer.

    Raises
    ------
    ArgumentError
        If the URL is none.
    ModelError
        If the library is not there.
    """

    def __init__(self, settings: Settings, key: str | None, timeout: float) -> None:
        try:
            import openai
        except ImportError:
            raise ModelError(
                "asking an endpoint needs the openai library: install radscore[api]"
            ) from None
        self._openai = openai
        self._settings = settings
        self._hidden = _spellings(key)
        self._timeout = timeout
        self._limit_name = "max_tokens"
        # Attempts are counted, budgeted and recorded here, so the library makes none of its own.
        try:
            self._client = openai.AsyncOpenAI(
                api_key=key or _NO_KEY, base_url=settings.source, timeout=timeout, max_retries=0
            )
        except Exception as error:  # noqa: BLE001 - it has no name of its own for these
            raise ArgumentError(f"endpoint must be a URL: {self._clean(str(error))}") from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()

    async def ask(self, question: Question) -> Reply:
        """One request.

        Raises
        ------
        Failure
            If no answer came, or something that is none.
        """
        limit_name = self._limit_name  # which other requests may change while this one is away
        try:
            # The library's own limit is one of each read: a server that drips never meets it.
            async with asyncio.timeout(self._timeout):
                raw = await self._send(question, limit_name)
            return self._read(raw)
        except Failure:
            raise
        except Exception as error:  # noqa: BLE001 - nothing that a server does ends all asking
            raise self._failure(error, limit_name) from None

    def _failure(self, error: Exception, limit_name: str) -> Failure:
        """What an exception of a request means for its question."""
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
        """Whether the server calls the longest answer by its newer name; from now on we do.

        `sent_name` is the name that this very request used: of those that were under way together,
        each learns it for itself, and none twice.
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
        """The answer in a response's body, of which nothing is taken for granted."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise Failure(f"not JSON but {self._clean(text)!r}", sent=True) from None
        if not isinstance(body, dict):
            raise Failure(f"no completion but {self._clean(text)!r}", sent=True)
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
        """One short line without the API key, which servers like to quote."""
        for spelling in self._hidden:
            text = text.replace(spelling, "(key)")
        text = " ".join(_TOKEN.sub("(key)", text).split())
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _spellings(key: str | None) -> list[str]:
    """A key as messages can quote it, the longest spelling first."""
    if key is None or len(key) < _SHORTEST_HIDDEN:
        return []
    found = {key, repr(key)[1:-1], json.dumps(key)[1:-1], html.escape(key), quote(key, safe="")}
    return sorted(found, key=len, reverse=True)


def _text(name: str, value: str) -> None:
    """Refuses what no request can hold."""
    try:
        value.encode()
    except (UnicodeEncodeError, AttributeError):
        raise ArgumentError(f"{name} must be text, not {value!r:.60}") from None


def _json_object(name: str, value: Any) -> dict[str, Any]:
    """A copy, as JSON gives it back."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        copy = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"{name} must be a JSON object: {error}") from None
    if not isinstance(copy, dict):
        raise ArgumentError(f"{name} must be a JSON object, not {type(value).__name__}")
    return copy


def _body(error: Any) -> str:
    """What the server says is wrong."""
    body = error.body
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if body.get(name):
                return str(body[name])
    return str(body or "")


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _seconds(text: str | None) -> float:
    """A Retry-After header; a date is left to the backoff."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return min(value, _MOST_RETRY_AFTER) if value > 0 else 0.0
