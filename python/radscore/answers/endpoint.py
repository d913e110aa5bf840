"""One request to an OpenAI-compatible endpoint, and what may come back instead of an answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit, urlunsplit

from radscore.errors import ArgumentError, ModelError

if TYPE_CHECKING:
    from radscore.answers.prompts import Question

__all__ = ["Api", "Endpoint", "Failure", "Reply", "Settings"]

Api: TypeAlias = Literal["chat", "completions"]

_SHOWN = 300
_TOKEN = re.compile(r"\bsk-[\w*.-]{6,}")
#: Errors that another attempt can mend, beside every 5xx.
_TRANSIENT = frozenset({408, 409, 425, 429})
#: Errors that every further request would meet as well.
_HOPELESS = frozenset({401, 402, 403})
_BROKE = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
#: Tokens that a chat template can put around a prompt.
_TEMPLATE_TOKENS = 64
_MOST_RETRY_AFTER = 600.0


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
        Further fields of a request's body.
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
    """

    def __init__(
        self,
        message: str,
        kind: Literal["retry", "skip", "stop"] = "retry",
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.sent = sent


def endpoint_url(url: str) -> str:
    """The base URL, checked; one with a key in it is refused, since it would be written down."""
    parts = urlsplit(url)
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
    api_key : str
        Sent with every request; kept out of every message.
    timeout : float
        Seconds that one request may take.
    """

    def __init__(self, settings: Settings, api_key: str, timeout: float) -> None:
        try:
            import openai
        except ImportError:
            raise ModelError(
                "asking an endpoint needs the openai library: install radscore[api]"
            ) from None
        self._openai = openai
        self._settings = settings
        self._key = api_key
        self._limit_name = "max_tokens"
        # Attempts are counted, budgeted and recorded here, so the library makes none of its own.
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=settings.source, timeout=timeout, max_retries=0
        )

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
        openai = self._openai
        try:
            raw = await self._send(question)
        except openai.APIStatusError as error:
            if self._renamed(error):
                raise Failure("the server wants max_completion_tokens", status=400) from None
            raise self._refused(error) from None
        except openai.APITimeoutError:
            raise Failure("no answer in time", sent=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            sent = type(cause).__name__ not in ("ConnectError", "ConnectTimeout", "PoolTimeout")
            what = self._clean(f"{type(cause).__name__}: {cause}") if cause else str(error)
            raise Failure(f"no connection ({what})", sent=sent) from None
        except (openai.OpenAIError, ValueError, OSError) as error:
            raise Failure(self._clean(f"{type(error).__name__}: {error}"), sent=True) from None
        return self._read(raw)

    async def _send(self, question: Question) -> str:
        settings = self._settings
        options: dict[str, Any] = {"model": settings.model, self._limit_name: settings.max_tokens}
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

    def _renamed(self, error: Any) -> bool:
        """Whether the server calls the longest answer by its newer name; from now on we do."""
        wants = "max_completion_tokens" in self._clean(_body(error))
        if error.status_code == 400 and wants and self._limit_name == "max_tokens":
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
        if len(self._key) >= 4:
            text = text.replace(self._key, "(key)")
        text = " ".join(_TOKEN.sub("(key)", text).split())
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _body(error: Any) -> str:
    """What the server says is wrong."""
    body = error.body
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if body.get(name):
                return str(body[name])
    return str(body or "")


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(text: str | None) -> float:
    """A Retry-After header; a date is left to the backoff."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return min(value, _MOST_RETRY_AFTER) if value > 0 else 0.0
