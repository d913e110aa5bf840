"""Asking a model all questions: many at once, within limits, and into a journal."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from radscore.answers.endpoint import Api, Endpoint, Failure, Settings, endpoint_url
from radscore.answers.journal import Journal
from radscore.answers.limits import Budget, Rate
from radscore.answers.prompts import questions_of
from radscore.documents import check_width
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from radscore.answers.endpoint import Reply
    from radscore.answers.prompts import Question

__all__ = ["AskReport", "Limits", "ask"]

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_LOOK_SECONDS = 0.1
_NO_KEY = "none"  # servers of one's own take any


@dataclass(frozen=True)
class Limits:
    """How fast to ask, and how often to try.

    Attributes
    ----------
    concurrency : int
        Requests under way at once.
    requests_per_minute, tokens_per_minute : float or None
        Limits over every minute; tokens of prompts and answers together, estimated before a
        request and corrected after it.
    retries : int
        Further attempts at a question after one that failed for a passing reason: a connection
        that breaks, statuses 408, 409, 425, 429 and 5xx, and responses that hold no answer.
    timeout : float
        Seconds that one request may take.
    give_up_after : int
        Stop asking when so many questions in a row have failed.
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: int = 6
    timeout: float = 300.0
    give_up_after: int = 25

    def __post_init__(self) -> None:
        check_width("concurrency", self.concurrency, 1, 4096)
        check_width("retries", self.retries, 0, 1000)
        check_width("give_up_after", self.give_up_after, 1, 2**31)
        for name in ("requests_per_minute", "tokens_per_minute", "timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(f"{name} must be above 0, not {value}")


@dataclass(frozen=True)
class AskReport:
    """What became of the questions.

    Attributes
    ----------
    n_questions : int
        Prompts times samples.
    n_before : int
        Had an answer in the journal.
    n_answered, n_failed, n_left : int
        Were answered now; failed now, which the journal records; were not asked, or not to the
        end.
    requests, prompt_tokens, completion_tokens : int
        Of all records in the journal.
    cost : float or None
        The same in money, where prices were given.
    stopped : str or None
        Why questions are left.
    failures : dict
        How often each reason for a failed question occurred, the most frequent first.
    cut : bool
        Whether the journal's last line was torn, and cut off.
    """

    n_questions: int
    n_before: int
    n_answered: int
    n_failed: int
    n_left: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    stopped: str | None
    failures: dict[str, int]
    cut: bool


def ask(
    prompts: Sequence[str],
    out: str | os.PathLike[str],
    *,
    endpoint: str,
    model: str,
    api: Api = "chat",
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int = 256,
    samples: int = 1,
    seed: int | None = 0,
    extra: dict[str, Any] | None = None,
    limits: Limits | None = None,
    max_requests: int | None = None,
    max_tokens_total: int | None = None,
    max_cost: float | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    accept_changes: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> AskReport:
    """Asks a model behind an OpenAI-compatible endpoint; answers go to a journal.

    What the journal holds is not asked again: after an error, Ctrl-C or ``kill -9`` the same call
    asks only what is missing. `open_answers` reads the journal.

    Parameters
    ----------
    prompts : sequence of str
        See `read_prompts`.
    out : path
        The journal, JSON lines; see `Journal`.
    endpoint : str
        Base URL, such as ``http://127.0.0.1:8000/v1``.
    model : str
        Name of the model there.
    api, system, temperature, top_p, max_tokens, seed, extra
        See `Settings`.
    samples : int
        Answers to each prompt, each with a seed of its own.
    limits : Limits, optional
        Concurrency, rates, retries and timeout.
    max_requests, max_tokens_total, max_cost, price_in, price_out : optional
        See `Budget`; over all runs that wrote to this journal.
    api_key_env : str
        Environment variable with the API key. It is written nowhere.
    accept_changes : bool
        Whether to go on where the journal's answers were asked for with other settings.
    progress : callable, optional
        Called with the questions just done and the tokens of their answers.
    stop : callable, optional
        Looked at now and then: where it returns True nothing more is asked, and requests under
        way are waited for.

    Returns
    -------
    AskReport

    Raises
    ------
    ArgumentError
        If an argument is not allowed, there are no prompts, or settings changed.
    StateError
        If `out` is no journal, or another process writes to it.
    """
    chosen = Settings(
        model,
        api,
        endpoint_url(endpoint),
        system,
        temperature,
        top_p,
        check_width("max_tokens", max_tokens, 1, 2**31),
        seed,
        dict(extra or {}),
    )
    speed = limits or Limits()
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    questions = questions_of(prompts, samples=check_width("samples", samples, 1, 10**6), seed=seed)
    key = os.environ.get(api_key_env) or _NO_KEY
    with Journal(out, chosen.to_dict(), accept_changes=accept_changes) as journal:
        budget = Budget(
            journal.totals, max_requests, max_tokens_total, max_cost, price_in, price_out
        )
        before = sum(question.key in journal.answered for question in questions)
        missing = journal.missing(questions)

        async def run() -> _Asking:
            client = Endpoint(chosen, key, speed.timeout)
            asking = _Asking(
                client,
                chosen,
                journal=journal,
                budget=budget,
                limits=speed,
                progress=progress,
            )
            try:
                await asking.run(missing, stop)
            finally:
                await client.close()
            return asking

        asking = asyncio.run(run()) if missing else None
        report = AskReport(
            n_questions=len(questions),
            n_before=before,
            n_answered=0,
            n_failed=0,
            n_left=0,
            requests=journal.totals.requests,
            prompt_tokens=journal.totals.prompt_tokens,
            completion_tokens=journal.totals.completion_tokens,
            cost=budget.cost,
            stopped=None,
            failures={},
            cut=journal.cut,
        )
    if asking is None:
        return report
    done = asking.n_answered + asking.n_failed
    return replace(
        report,
        n_answered=asking.n_answered,
        n_failed=asking.n_failed,
        n_left=len(missing) - done,
        stopped=asking.stopped,
        failures=dict(asking.failures.most_common()),
    )


@dataclass
class _Spent:
    """What a question has cost until now, its failed attempts included."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    held: list[tuple[int, int]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As it stands in the journal."""
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        extra = {"usage_estimated": True} if self.estimated else {}
        return {"attempts": self.attempts, "usage": usage, **extra}


class _Stopped(Exception):  # noqa: N818 - not an error
    """Nothing more is to be sent."""


class _Asking:
    """One run over the questions that are missing."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        *,
        journal: Journal,
        budget: Budget,
        limits: Limits,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._journal = journal
        self._budget = budget
        self._limits = limits
        self._progress = progress
        self._requests = Rate(limits.requests_per_minute)
        self._tokens = Rate(limits.tokens_per_minute)
        self._halt = asyncio.Event()
        self._settled = asyncio.Event()
        self._under_way = 0
        self._in_a_row = 0
        self._quiet_until = 0.0
        self.n_answered = 0
        self.n_failed = 0
        self.stopped: str | None = None
        self.failures: Counter[str] = Counter()

    async def run(self, missing: list[Question], stop: Callable[[], bool] | None) -> None:
        """Asks all, or until there is a reason to stop."""
        waiting = iter(missing)
        n_workers = min(self._limits.concurrency, len(missing))
        watcher = asyncio.create_task(self._watch(stop)) if stop is not None else None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(n_workers):
                    group.create_task(self._work(waiting))
        except BaseExceptionGroup as errors:  # of one worker; the others were cancelled
            raise errors.exceptions[0] from None
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _watch(self, stop: Callable[[], bool]) -> None:
        while not stop():  # noqa: ASYNC110 - what it looks at knows nothing of this loop
            await asyncio.sleep(_LOOK_SECONDS)
        self._end("interrupted")

    def _end(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self._halt.set()

    async def _work(self, waiting: Any) -> None:
        for question in waiting:
            if self._halt.is_set():
                return
            spent = _Spent()
            try:
                await self._until_answered(question, spent)
            except _Stopped:
                if spent.attempts:  # what it has cost stays known
                    self._record(question, spent, {"error": f"not finished: {self.stopped}"})
                return
            finally:
                self._release(spent)

    async def _until_answered(self, question: Question, spent: _Spent) -> None:
        wait: float | None = 0.0
        while wait is not None:
            if wait:
                await self._wait_for(asyncio.sleep(wait))
            await self._reserve(question, spent)
            self._under_way += 1
            try:
                wait = await self._attempt(question, spent)
            finally:
                self._under_way -= 1
                self._settled.set()

    async def _attempt(self, question: Question, spent: _Spent) -> float | None:
        """One request, when limits allow it; seconds until the next, None if there is none."""
        most_in, most_out = spent.held[-1]
        entry = await self._wait_for(self._tokens.take(most_in // 4 + most_out))
        await self._wait_for(self._requests.take())
        if (quiet := self._quiet_until - asyncio.get_running_loop().time()) > 0:
            await self._wait_for(asyncio.sleep(quiet))
        spent.attempts += 1
        try:
            reply = await self._endpoint.ask(question)
        except Failure as failure:
            if failure.sent:
                spent.prompt_tokens += most_in
                spent.completion_tokens += most_out
                spent.estimated = True
            else:
                self._tokens.correct(entry, 0)
                self._budget.release(0, most_in, most_out)
                spent.held[-1] = (0, 0)
            if not self._again(question, spent, failure):
                return None
            return self._pause(failure, spent.attempts)
        self._answered(question, spent, reply, entry)
        return None

    async def _reserve(self, question: Question, spent: _Spent) -> None:
        """Sets the worst case of one attempt aside; waits for those under way to know theirs."""
        most = self._settings.most_tokens(question.prompt)
        while (reason := self._budget.reserve(*most)) is not None:
            if not self._under_way:
                self._end(reason)
                raise _Stopped
            self._settled.clear()
            await self._wait_for(self._settled.wait())
        spent.held.append(most)

    def _release(self, spent: _Spent) -> None:
        for most in spent.held:
            self._budget.release(1, *most)
        spent.held.clear()

    async def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Its result; given up when nothing more is to be sent."""
        task = asyncio.ensure_future(coroutine)
        halt = asyncio.ensure_future(self._halt.wait())
        try:
            await asyncio.wait({task, halt}, return_when=asyncio.FIRST_COMPLETED)
            if self._halt.is_set():
                raise _Stopped
            return task.result()
        finally:
            halt.cancel()
            task.cancel()

    def _again(self, question: Question, spent: _Spent, failure: Failure) -> bool:
        """Whether to try again; else the failure is recorded."""
        if failure.kind == "retry" and spent.attempts <= self._limits.retries:
            return True
        self._record(question, spent, {"error": str(failure), "status": failure.status})
        if failure.kind == "stop":
            self._end(str(failure))
        self._in_a_row += 1
        if self._in_a_row >= self._limits.give_up_after:
            self._end(f"{self._in_a_row} questions in a row failed, the last with {failure}")
        return False

    def _pause(self, failure: Failure, attempts: int) -> float:
        """Seconds until the next attempt; a server that asks for rest gets it from all."""
        if failure.retry_after:
            until = asyncio.get_running_loop().time() + failure.retry_after
            self._quiet_until = max(self._quiet_until, until)
            return failure.retry_after
        wait = min(_FIRST_WAIT * 2.0 ** min(attempts - 1, 16), _LONGEST_WAIT)
        return wait * random.uniform(0.75, 1.0)  # noqa: S311 - to spread requests

    def _answered(
        self, question: Question, spent: _Spent, reply: Reply, entry: list[float]
    ) -> None:
        most_in, most_out = spent.held[-1]
        used_in, used_out = reply.prompt_tokens, reply.completion_tokens
        if used_in is None or used_out is None:
            spent.estimated = True
            used_in = most_in if used_in is None else used_in
            longest = min(most_out, len(reply.text.encode("utf-8", errors="replace")))
            used_out = longest if used_out is None else used_out
        self._tokens.correct(entry, used_in + used_out)
        spent.prompt_tokens += used_in
        spent.completion_tokens += used_out
        content = {"text": reply.text, "finish_reason": reply.finish_reason, **reply.extra}
        self._in_a_row = 0
        self._record(question, spent, content)

    def _record(self, question: Question, spent: _Spent, content: dict[str, Any]) -> None:
        self._journal.answer(question, {**content, **spent.record()})
        self._release(spent)
        if "text" in content:
            self.n_answered += 1
        elif "status" in content:
            self.n_failed += 1
            self.failures[content["error"]] += 1
        if self._progress is not None and ("text" in content or "status" in content):
            self._progress(1, spent.completion_tokens)
