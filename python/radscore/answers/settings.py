"""How a model is asked: settings that all answers of a test share, and the endpoint's address."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit, urlunsplit

from radscore.documents import check_width
from radscore.errors import ArgumentError, shown

__all__ = ["Api", "Settings", "api_key", "endpoint_url"]

Api: TypeAlias = Literal["chat", "completions", "sglang"]

#: Most tokens that a chat template puts around a prompt.
_TEMPLATE_TOKENS = 64
#: Fields of a request that have an argument, which budgets and journals rely on.
_ARGUMENTS = {
    "model": "model",
    "messages": "prompts",
    "prompt": "prompts",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_new_tokens": "max_tokens",
    "sampling_seed": "seed",
    **dict.fromkeys(
        ("logprobs", "top_logprobs", "n_probs", "return_logprob", "top_logprobs_num"), "logprobs"
    ),
}
#: Fields that let an answer differ from one text, and what they may be.
_ONE_TEXT = {"n": (1, None), "best_of": (1, None), "stream": (False, None)}


@dataclass(frozen=True)
class Settings:
    """How a model is asked: what must be equal in all answers of one test.

    Attributes
    ----------
    model : str
        The model's name at the endpoint.
    api : {"chat", "completions", "sglang"}
        Whether a prompt is a user's message, or text to continue; ``sglang`` is SGLang's own way
        to do that (``/generate``), which tells the ids of tokens.
    source : str
        The endpoint's URL; ``local:`` and the fingerprint for a model on this machine.
    system : str or None
        System prompt.
    temperature, top_p : float or None
        None leaves the choice to the server.
    max_tokens : int
        Longest answer, in tokens.
    seed : int or None
        The seed of each answer is derived from it; None sends none.
    extra : dict
        Further fields of the request's body, as JSON can hold them; with ``sglang``, of its
        ``sampling_params``.
    logprobs : int or None
        How many of the likeliest tokens to ask for at each position, with their log-probabilities.
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
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.api not in get_args(Api):
            known = ", ".join(get_args(Api))
            raise ArgumentError(f"api must be one of {known}, not {self.api!r}")
        if not self.model:
            raise ArgumentError("model must not be empty")
        if self.max_tokens < 1:
            raise ArgumentError(f"max_tokens must be at least 1, not {self.max_tokens}")
        for name, low, high in (("temperature", 0.0, 10.0), ("top_p", 0.0, 1.0)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ArgumentError(f"{name} must be from {low:g} to {high:g}, not {value}")
        if self.api != "chat" and self.system is not None:
            raise ArgumentError(f"system has no effect with api={self.api!r}: there are no roles")
        if self.logprobs is not None:
            check_width("logprobs", self.logprobs, 1, 2**20)
        for name in ("model", "source", "system"):
            _text(name, getattr(self, name) or "")
        # as the journal returns it (a tuple becomes a list), so the two can be compared
        object.__setattr__(self, "extra", _json_object("extra", self.extra))
        for name, value in self.extra.items():
            if name in _ARGUMENTS:
                raise ArgumentError(f"extra must not set {name!r}; use {_ARGUMENTS[name]}=")
            if name in _ONE_TEXT and value not in _ONE_TEXT[name]:
                hint = "nothing streams" if name == "stream" else "for several answers use samples="
                raise ArgumentError(
                    f"extra must not set {name!r}: a request gets one whole answer; {hint}"
                )

    def to_dict(self) -> dict[str, Any]:
        """What is set, as each record states it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value not in (None, {}, "")}

    def texts(self) -> list[str]:
        """What a journal records of them, as text."""
        extra = json.dumps(self.extra, ensure_ascii=False)
        return [self.model, self.source, self.system or "", extra]

    def most_tokens(self, prompt: str) -> tuple[int, int]:
        """The most tokens that prompt and answer can have: no token is shorter than a byte."""
        text = len(prompt.encode()) + len((self.system or "").encode())
        return text + _TEMPLATE_TOKENS, self.max_tokens


def api_key(variable: str) -> str | None:
    """The key in an environment variable, without surrounding white space; None if there is none.

    Raises
    ------
    ArgumentError
        If it cannot be sent in a header; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if not all(" " <= letter <= "~" for letter in key):
        raise ArgumentError(
            "api_key_env must name a variable with a key of printable ASCII characters; the one in "
            f"{variable} has others, such as a line break or typographic quotes"
        )
    return key or None


def endpoint_url(url: str) -> str:
    """The base URL, checked; one that holds a key is refused, since journals record it."""
    try:
        parts = urlsplit(url)
        sound = parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # from the port, or from brackets; its text may quote a password
        sound = False
    if not sound:
        raise ArgumentError(
            "endpoint must be a URL without spaces or control characters, its port, if any, from "
            "1 to 65535, an IPv6 address in brackets"
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


def _text(name: str, value: str) -> None:
    """Raises unless it can be sent as text."""
    try:
        value.encode()
    except (UnicodeEncodeError, AttributeError):
        raise ArgumentError(f"{name} must be text, not {shown(value)}") from None


def _json_object(name: str, value: Any) -> dict[str, Any]:
    """A copy that has been through JSON."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        copy = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"{name} must be a JSON object: {error}") from None
    if not isinstance(copy, dict):
        raise ArgumentError(f"{name} must be a JSON object, not {type(value).__name__}")
    return copy
