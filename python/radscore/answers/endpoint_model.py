"""`EndpointModel`: a model behind an API that reads text, as a model on this machine does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import weakref
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np

from radscore.answers.endpoint import Endpoint
from radscore.answers.limits import Budget, Limits
from radscore.answers.reading_api import (
    DIALECTS,
    Dialect,
    Lists,
    Row,
    is_shifted,
    likeliest,
    matched_length,
    same_ends,
)
from radscore.answers.replies import Failure, Reply, Used, read_reply
from radscore.answers.settings import Settings, api_key, endpoint_url
from radscore.answers.workers import Workers
from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError, line_of
from radscore.models.journal import Usage
from radscore.models.listed import Listed
from radscore.models.loading import LanguageModel
from radscore.models.passages import prefix_of
from radscore.models.questions import Question
from radscore.models.token_strings import TokenStrings
from radscore.models.tokenizer import find_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from radscore.answers.logprobs import Token
    from radscore.models.batching import Piece

__all__ = ["EndpointModel", "Reads"]

#: How a server is read: whichever of the ways to tell of a whole prompt it knows, one of them, or
#: one token after each prompt, continued or answered in a chat.
Reads: TypeAlias = Literal["auto", "vllm", "sglang", "echo", "one-token", "one-token-chat"]

_WAYS: Final[dict[str, tuple[str, ...]]] = {
    "auto": ("vllm", "sglang", "echo"),
    "vllm": ("vllm",),
    "sglang": ("sglang",),
    "echo": ("echo",),
    "one-token": ("one-token, named", "one-token, ids", "one-token, text"),
    "one-token-chat": ("one-token, chat",),
}
#: What is read first, to learn what a server can do: any model finds it easy.
_PROBE: Final = (
    "The first of the months of the year is January, the second of the months of the year is "
    "February, the third of the months of the year is March, and the last of the months of the "
    "year is December. In the United States of America, the President of the United States is "
    "the head of state and the head of government of the United States."
)
#: What a server says of itself that does not change from one start to the next.
_ABOUT: Final = ("id", "root", "parent", "owned_by", "max_model_len")
_MOST_LISTED: Final = 2**16
_MOST_SPECIAL: Final = 8  #: tokens that a server puts around a prompt, at most
_POOL_TOKENS: Final = 4096  #: read together, for each request under way


@dataclass(frozen=True)
class _Request(Question):
    """What goes out, ids or text; the `prompt` is a number, the most tokens that it can be."""

    content: Any = None

    @classmethod
    def of(cls, content: list[int] | str, name: str) -> _Request:
        most = len(content) if isinstance(content, list) else len(content.encode())
        return cls(str(most + _MOST_SPECIAL), name, 0, None, content)

    @property
    def most(self) -> tuple[int, int]:
        """The most tokens of the prompt, and of the answer."""
        return int(self.prompt), 1


@dataclass(frozen=True)
class _Prompt:
    """A piece as it is sent (ids or text), the tokens that are read, and which ends each column."""

    content: list[int] | str
    ids: list[int]
    ends: npt.NDArray[np.int64]


class _ReadingSettings(Settings):
    def most_tokens(self, prompt: str) -> tuple[int, int]:
        """See `_Request`."""
        return int(prompt), self.max_tokens


class EndpointModel(LanguageModel):
    """A model behind an API: wherever a model is read, it can stand in place of a local one.

    Prompts that are text to read come back with the log-probabilities of the likeliest tokens at
    every position. Where a server takes token ids (vLLM, SGLang), it gets them; elsewhere it gets
    text, and where its tokens are not the tokenizer's, nothing counts from there on.

    Parameters
    ----------
    endpoint : str
        Base URL, such as ``http://127.0.0.1:8000/v1``.
    model : str
        The model's name there.
    tokenizer : path or transformers tokenizer
        The model's own.
    logprobs : int
        How many of the likeliest tokens to ask for.
    reads : {"auto", "vllm", "sglang", "echo", "one-token", "one-token-chat"}
        vLLM's ``prompt_logprobs``; SGLang's ``/generate``; completions with ``echo``; or, where
        only answers have log-probabilities, a single token after each document.
    max_length : int, optional
        Tokens that fit into one request; by default what the server says.
    extra : dict, optional
        Further fields of each request.
    limits : Limits, optional
        Concurrency, rates, retries and timeout.
    max_requests, max_tokens_total, max_cost, price_in, price_out : optional
        See `Budget`.
    api_key_env : str
        Environment variable with the API key.

    Attributes
    ----------
    budget : Budget
        With the usage and the cost so far.
    reads : str
        How the server is read.
    n_listed : int
        Tokens asked for at each position.

    Raises
    ------
    ModelError
        If the server does not answer, or does not tell log-probabilities of prompts.
    ArgumentError
        If an argument is not allowed.

    Notes
    -----
    Making one sends one to four short requests. Close it when it is not needed any more (or use
    ``with``).
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        tokenizer: Any,
        logprobs: int = 20,
        reads: Reads = "auto",
        max_length: int | None = None,
        extra: dict[str, Any] | None = None,
        limits: Limits | None = None,
        max_requests: int | None = None,
        max_tokens_total: int | None = None,
        max_cost: float | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
        api_key_env: str = "OPENAI_API_KEY",
    ) -> None:
        if reads not in get_args(Reads):
            raise ArgumentError(f"reads must be one of {', '.join(get_args(Reads))}, not {reads!r}")
        if tokenizer is None:
            raise ArgumentError(
                "tokenizer must be the model's: a path, or a transformers tokenizer"
            )
        words, _ = find_tokenizer(tokenizer, ())
        url = endpoint_url(endpoint)
        settings = _ReadingSettings(
            model, "completions", url, temperature=1.0, max_tokens=1, seed=None, extra=extra or {}
        )
        self.n_listed = check_width("logprobs", logprobs, 1, _MOST_LISTED)
        self.limits = limits or Limits()
        self.budget = Budget(Usage(), max_requests, max_tokens_total, max_cost, price_in, price_out)
        self.lost: dict[str, int] = {}
        self._replies: dict[str, Lists] = {}
        self._shift = 0
        self._strings = TokenStrings(words)
        self._client = _Client(settings, api_key(api_key_env), self.limits.timeout)
        self._client.n = self.n_listed
        self._runner = asyncio.Runner()
        self._close = weakref.finalize(self, _close, self._runner, self._client)
        self._workers = Workers(
            self._client,
            settings,
            journal=self,  # type: ignore[arg-type] # all that workers need of one
            budget=self.budget,
            limits=self.limits,
            progress=None,
        )
        try:
            about = self._run(self._client.about(model))
            length = max_length or about.get("max_model_len")
            super().__init__(None, words, f"{model} at {url}", len(words), length)
            self._prefix: list[int] = prefix_of(self).tolist()
            self._probe(_WAYS[reads])
        except BaseException:
            self.close()
            raise
        known = {name: about[name] for name in _ABOUT if name in about}
        self._identity = {"model": model, "about": known, "reads": self.reads}

    __setattr__ = object.__setattr__  # what it derives from is frozen

    @property
    def spent(self) -> dict[str, int]:
        """Requests, and the tokens of prompts and answers."""
        return asdict(self.budget.usage)

    @property
    def reads(self) -> str:
        """How the server is read."""
        return self._client.dialect.name

    @property
    def reads_ids(self) -> bool:
        """Whether the server takes token ids."""
        return self._client.dialect.by_ids

    @property
    def at_end(self) -> bool:
        """Whether only the token after a document is told."""
        return self._client.dialect.at_end

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over its name, how it is read and what it says of itself: not its weights."""
        whole = {**self._identity, "logprobs": self.n_listed, "extra": self._client.extra}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    @property
    def device(self) -> Any:
        """Elsewhere."""
        return SimpleNamespace(type="endpoint")

    @property
    def forward(self) -> Any:
        """What reads pieces by it."""
        from radscore.answers.endpoint_forward import EndpointForward

        return EndpointForward

    @property
    def pool_tokens(self) -> int:
        """How much to read together."""
        return self.limits.concurrency * _POOL_TOKENS

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever tests its predictions should know."""
        where = "after each document" if self.at_end else "at each position"
        name = self._identity["model"]
        text = (
            f"{name} was read through an API ({self.reads}): the {self.n_listed} likeliest tokens"
        )
        return (f"{text} {where}; its hash is not that of its weights",)

    def close(self) -> None:
        """Closes all connections."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"EndpointModel({self.name!r}, reads={self.reads!r}, logprobs={self.n_listed}, "
            f"vocab_size={self.vocab_size})"
        )

    def spent_before(self, usage: dict[str, int]) -> None:
        """Adds what an earlier call has spent to the budget's usage."""
        mine = self.budget.usage
        mine.requests += usage.get("requests", 0)
        mine.prompt_tokens += usage.get("prompt_tokens", 0)
        mine.completion_tokens += usage.get("completion_tokens", 0)

    def read(self, pieces: Sequence[Piece]) -> list[Listed]:
        """The likeliest tokens at the wanted positions of some pieces, one `Listed` a piece.

        Raises
        ------
        ModelError
            If the server refuses for good, or a budget is used up.
        """
        prompts = [self._prompt(piece) for piece in pieces]
        self._replies.clear()
        requests = [_Request.of(one.content, str(i)) for i, one in enumerate(prompts)]
        self._run(self._workers.run(list(requests), None))
        if self._workers.stopped is not None:
            raise ModelError(f"{self.name}: {self._workers.stopped}")
        return [
            Listed.of(self._rows(piece, prompt, self._replies.get(request.prompt_id)))
            for piece, prompt, request in zip(pieces, prompts, requests, strict=True)
        ]

    def sent(self, question: Question, most_in: int, most_out: int) -> None:
        """Nothing is kept that a later process would count."""

    def answer(self, question: Question, content: dict[str, Any]) -> None:
        """Takes what `Workers` would write into a journal."""
        self.budget.usage.add(content)
        if "lists" in content:
            self._replies[question.prompt_id] = content["lists"]
        else:
            self._lose("requests that failed", 1)

    def _run(self, coroutine: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(coroutine)
        coroutine.close()
        raise ArgumentError(
            "a model behind an API cannot be read within a running event loop (a notebook has "
            "one): call it in a thread, such as by await asyncio.to_thread(...)"
        )

    def _lose(self, reason: str, number: int) -> None:
        if number:
            self.lost[reason] = self.lost.get(reason, 0) + number

    def _prompt(self, piece: Piece) -> _Prompt:
        """What is sent of a piece."""
        ids, columns = piece.ids.tolist(), piece.columns
        if self._client.dialect.by_ids:
            ids = ids[: int(columns[-1]) + 1]  # nothing after it is needed
            return _Prompt(ids, ids, columns)
        n = len(self._prefix) if ids[: len(self._prefix)] == self._prefix else 0
        text = self._text(ids[n:])
        read = self._encoded(text)
        ends = same_ends(ids[n:], read, self._strings)
        ends = np.concatenate([np.arange(n), np.where(ends < 0, -1, ends + len(self._prefix))])
        return _Prompt(text, [*self._prefix, *read], ends[columns])

    def _text(self, ids: list[int]) -> str:
        assert self.tokenizer is not None
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _encoded(self, text: str) -> list[int]:
        assert self.tokenizer is not None
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _rows(self, piece: Piece, prompt: _Prompt, reply: Lists | None) -> list[dict[int, float]]:
        """The list at each wanted position; an empty one where nothing is known."""
        rows: list[dict[int, float]] = [{} for _ in piece.columns]
        if reply is None:
            return rows
        start, length = 0, len(prompt.ids)
        if self.at_end:
            start = length + 1 - len(reply.lists)
        elif reply.tokens is not None:
            start, length = matched_length(reply.tokens, prompt.ids, self._strings)
        elif len(reply.lists) != length + 1:
            length = 0
        n_lost = 0
        for i, end in enumerate(prompt.ends.tolist()):
            at = end + 1 - start - self._shift
            if not 0 <= end < length:
                n_lost += 1
            elif 0 <= at < len(reply.lists):
                rows[i] = self._row(reply.lists[at])
        self._lose("positions where the server's tokens end elsewhere", n_lost)
        return rows

    def _row(self, row: Row | None) -> dict[int, float]:
        made: dict[int, float] = {}
        for name, value in likeliest(row or [], self.n_listed):
            token = self._id(name)
            if token is None:
                self._lose("likely tokens that the server's strings do not tell", 1)
            else:
                made[token] = min(value, 0.0)
        return made

    def _id(self, token: Token) -> int | None:
        if token is None or isinstance(token, int):
            return token
        return self._strings.id_of(token)

    def _probe(self, names: tuple[str, ...]) -> None:
        """Finds out how the server can be read."""
        ids = self._encoded(_PROBE)
        whole = [*self._prefix, *ids]
        refused: list[str] = []
        statuses = set()
        for name in names:
            self._client.dialect = dialect = DIALECTS[name]
            request = _Request.of(whole if dialect.by_ids else _PROBE, "probe")
            try:
                lists = self._run(self._once(request))
                self._check(lists, whole)
            except Failure as failure:
                if failure.kind == "stop" or (failure.status is None and not failure.sent):
                    raise ModelError(f"{self.name}: {failure}") from None
                refused.append(f"{name}: {failure}")
                statuses.add(failure.status)
                continue
            return
        said, hint = "; ".join(refused), ""
        if statuses == {404}:
            hint = "; check the model's name and the endpoint's URL, which usually ends in /v1"
        if "one-token" not in names[0]:
            hint += "; reads='one-token' (--one-token) asks for one token after each document"
        raise ModelError(f"{self.name} tells no log-probabilities of prompts ({said}){hint}")

    async def _once(self, request: _Request) -> Lists:
        """One request, again where that may help."""
        for attempt in range(self.limits.retries + 1):
            reason = self.budget.reserve(*request.most)
            if reason is not None:
                raise Failure(reason, "stop")
            try:
                reply = await self._client.ask(request)
                self._spend(reply.used, request)
                return reply.extra["lists"]  # type: ignore[no-any-return]
            except Failure as failure:
                if failure.sent:
                    self._spend(failure.used, request)
                if failure.kind != "retry" or attempt == self.limits.retries:
                    raise
                await asyncio.sleep(failure.retry_after or min(0.5 * 2.0**attempt, 60.0))
            finally:
                self.budget.release(1, *request.most)
        raise AssertionError(request)

    def _spend(self, used: Used, request: _Request) -> None:
        most = request.most
        self.spent_before(
            {
                "requests": 1,
                "prompt_tokens": most[0] if used.prompt_tokens is None else used.prompt_tokens,
                "completion_tokens": 1
                if used.completion_tokens is None
                else used.completion_tokens,
            }
        )

    def _check(self, lists: Lists, ids: list[int]) -> None:
        """Raises `Failure` unless the probe's lists belong to its positions."""
        dialect = self._client.dialect
        names = [name for row in lists.lists for name, _ in row or ()]
        strings = [name for name in names if isinstance(name, str)]
        if strings and self._strings.strips and not any(one.startswith(" ") for one in strings):
            self._strings = TokenStrings(self.tokenizer, spaces=False)
        if dialect.at_end:
            return
        if lists.tokens is None:
            if len(lists.lists) != len(ids) + 1:
                found = len(lists.lists) - 1
                raise Failure(f"{found} lists for {len(ids)} tokens", "skip", sent=True)
            return
        _, length = matched_length(lists.tokens, ids, self._strings)
        if length < len(ids):
            raise Failure(
                f"its tokens are not the tokenizer's: of {len(ids)}, the first {length} agree",
                "skip",
                sent=True,
            )
        if dialect.by_ids:
            return
        shifted = is_shifted(lists, self.n_listed, self._id)
        if shifted is None:
            raise Failure("which position its log-probabilities are for cannot be told", "stop")
        self._shift = int(shifted)


class _Client(Endpoint):
    """Asks for log-probabilities in one of the dialects."""

    dialect: Dialect
    n: int

    @property
    def extra(self) -> dict[str, Any]:
        """Further fields of each request."""
        return self._settings.extra

    async def about(self, model: str) -> dict[str, Any]:
        """What the server says of a model of that name; nothing if it does not."""
        try:
            async with asyncio.timeout(self._timeout):
                raw = await self._client.models.with_raw_response.list()
            entries = json.loads(raw.text)["data"]
            return next((dict(one) for one in entries if one["id"] == model), {})
        except Exception as error:  # noqa: BLE001 - few servers must have it
            failure = self._failure(error, "")
            if not failure.sent and failure.status is None:
                message = self._redactor.message(str(failure))
                raise ModelError(f"{self._settings.source}: {message}") from None
            return {}

    async def _send(self, question: Question, settings: Settings, limit_name: str) -> str:
        del limit_name
        assert isinstance(question, _Request)
        base, path = settings.source, self.dialect.path
        url = base.removesuffix("/v1") + path if path.startswith("/") else f"{base}/{path}"
        body = self.dialect.fields(question.content, self.n) | settings.extra
        if not path.startswith("/"):
            body = {"model": settings.model, **body}
        return await self._client.post(url, cast_to=str, body=body)

    def _read(self, raw: str, settings: Settings) -> Reply:
        reply = read_reply(raw, self.dialect.api, settings.model)
        try:
            lists = self.dialect.read(json.loads(raw), self.n)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            message = f"no log-probabilities of the prompt ({line_of(error, 100)})"
            raise Failure(message, "skip", sent=True, used=reply.used) from None
        return replace(reply, text="", positions=None, extra={"lists": lists})


def _close(runner: asyncio.Runner, client: _Client) -> None:
    """Closes connections; in a thread, since it may be called where another loop is running."""

    def close() -> None:
        with runner:
            runner.run(client.close())

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
