"""One request to an OpenAI-compatible endpoint, and what may come back instead of an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from radscore.answers.logprobs import fields_of_request, strings_of
from radscore.answers.redaction import Redactor
from radscore.answers.replies import Failure, Reply, error_text, kind_of, read_reply
from radscore.answers.waiting import LONGEST_WAIT, asked_wait
from radscore.errors import ArgumentError
from radscore.extras import need

if TYPE_CHECKING:
    from radscore.answers.settings import Settings
    from radscore.models.questions import Question

__all__ = ["Endpoint"]

_NO_KEY = "none"  # private servers accept anything
#: Errors raised before anything was sent.
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")


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

    Attributes
    ----------
    ids : bool
        Whether to ask for the ids of tokens in the way of vLLM, which others may refuse.

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

        from radscore.answers.transport import bounded_client

        self._openai = openai
        self._settings = settings
        self._redactor = Redactor(key)
        self._timeout = timeout
        self._limit_name = "max_tokens"
        self.ids = False
        if key and any(self._redactor.answer(text) != text for text in settings.texts()):
            raise ArgumentError(
                "the endpoint, model, system prompt or extra= holds the API key, and the journal "
                "would record it: keys belong in the environment"
            )
        # Attempts are counted, budgeted and recorded here, so the library must not retry.
        try:
            self._client = openai.AsyncOpenAI(
                api_key=key or _NO_KEY,
                base_url=settings.source,
                timeout=timeout,
                max_retries=0,
                http_client=bounded_client(),
            )
        except Exception as error:  # noqa: BLE001 - the library has no class for these
            message = self._redactor.message(str(error))
            raise ArgumentError(f"endpoint must be a URL: {message}") from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()

    async def ask(self, question: Question, settings: Settings | None = None) -> Reply:
        """Sends one request, with settings of its own if any are given.

        Raises
        ------
        Failure
            If no answer came, or something that is not one.
        """
        settings = settings or self._settings
        limit_name = self._limit_name  # other requests may change it while this one is under way
        try:
            # The library limits each read, so a server that drips would never time out.
            async with asyncio.timeout(self._timeout):
                raw = await self._send(question, settings, limit_name)
            return self._hidden(self._read(raw, settings))
        except Exception as error:  # noqa: BLE001 - nothing that a server does may end the whole run
            failure = self._failure(error, limit_name)
            failure.args = (self._redactor.message(str(failure)),)
            raise failure from None

    def _read(self, raw: str, settings: Settings) -> Reply:
        """What a response holds."""
        return read_reply(raw, settings.api, settings.model)

    def _hidden(self, reply: Reply) -> Reply:
        """The reply without the API key, which servers like to quote."""
        redact = self._redactor.answer
        extra = {n: redact(v) if isinstance(v, str) else v for n, v in reply.extra.items()}
        finish = reply.finish_reason and redact(reply.finish_reason)
        hidden = replace(reply, text=redact(reply.text), finish_reason=finish, extra=extra)
        if reply.positions is not None:  # the tokens spell the text, and may hold it in others
            said = strings_of(reply.positions)
            if hidden.text != reply.text or redact(said) != said:
                hidden = replace(hidden, positions=None)
        return hidden if hidden == reply else replace(hidden, extra={**extra, "key_hidden": True})

    def _failure(self, error: Exception, limit_name: str) -> Failure:
        """What an exception means for the question."""
        openai = self._openai
        cause = error.__cause__
        for one in (error, cause):
            if isinstance(one, Failure):
                return one
        if isinstance(error, openai.APIStatusError):
            if self._renamed(error, limit_name):
                return Failure("the server wants max_completion_tokens", status=400, free=True)
            return _refused(error)
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return Failure("no answer in time", sent=type(cause).__name__ not in _NOT_SENT)
        if isinstance(error, openai.APIConnectionError):
            what = f"{type(cause).__name__}: {cause}" if cause else str(error)
            return Failure(f"no connection ({what})", sent=type(cause).__name__ not in _NOT_SENT)
        passing = isinstance(error, openai.OpenAIError | ValueError | OSError)
        message = f"{type(error).__name__}: {error}"
        return Failure(message, "retry" if passing else "skip", sent=True)

    async def _send(self, question: Question, settings: Settings, limit_name: str) -> str:
        optional = {"temperature": settings.temperature, "top_p": settings.top_p}
        options: dict[str, Any] = {n: value for n, value in optional.items() if value is not None}
        if settings.api == "sglang":
            return await self._send_to_sglang(question, settings, options)
        options |= {"model": settings.model, limit_name: settings.max_tokens}
        if question.seed is not None:
            options["seed"] = question.seed
        more = {**fields_of_request(settings, ids=self.ids), **settings.extra}
        if more:
            options["extra_body"] = more
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

    async def _send_to_sglang(
        self, question: Question, settings: Settings, options: dict[str, Any]
    ) -> str:
        """SGLang's own interface, which stands beside the other one, not below it."""
        sampling = {**options, "max_new_tokens": settings.max_tokens, **settings.extra}
        if question.seed is not None:
            sampling["sampling_seed"] = question.seed
        body = {"text": question.prompt, "sampling_params": sampling}
        body |= fields_of_request(settings, ids=True)
        url = f"{settings.source.removesuffix('/v1')}/generate"
        return await self._client.post(url, cast_to=str, body=body)

    def _renamed(self, error: Any, sent_name: str) -> bool:
        """Whether the server wants the newer name of `max_tokens`, which is used from now on.

        `sent_name` is the name that this very request used: each of those that were under way
        together finds out for itself, once.
        """
        wants = "max_completion_tokens" in error_text(error.body)
        if error.status_code == 400 and wants and sent_name == "max_tokens":
            self._limit_name = "max_completion_tokens"
            return True
        return False


def _refused(error: Any) -> Failure:
    """What a status that is not good means."""
    status = int(error.status_code)
    headers = error.response.headers
    if 300 <= status < 400:
        where = headers.get("location", "")
        return Failure(
            f"{status}: redirected to {where or 'nowhere'}, which is not followed; if that is the "
            "same server, name its address as the endpoint",
            "stop",
            status=status,
        )
    message = f"{status}: {error_text(error.body) or 'no reason given'}"
    kind = kind_of(status, error.code)
    wait = asked_wait(headers) if kind == "retry" else 0.0
    if wait > LONGEST_WAIT:
        late = f"{message}; the server wants no requests for {wait:.0f} seconds"
        return Failure(late, "stop", status=status)
    return Failure(message, kind, status=status, retry_after=wait)
