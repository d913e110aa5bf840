"""The run behind `ask`: workers that send questions concurrently, within limits, with retries."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radscore.answers.limits import Rate
from radscore.answers.logprobs import to_record
from radscore.answers.replies import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from radscore.answers.endpoint import Endpoint
    from radscore.answers.limits import Budget, Limits
    from radscore.answers.replies import Reply, Used
    from radscore.answers.settings import Settings
    from radscore.models.journal import Journal
    from radscore.models.questions import Question

__all__ = ["Workers"]

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_STOP_SECONDS = 0.1  #: between interrupt checks


@dataclass
class _Spent:
    """What a question has cost so far, failed attempts included."""

    attempts: int = 0
    free: int = 0  #: attempts that do not count as retries
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    held: list[tuple[int, int]] = field(default_factory=list)  #: reservations of the budget

    def record(self) -> dict[str, Any]:
        """As the journal states it."""
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        extra = {"usage_estimated": True} if self.estimated else {}
        return {"attempts": self.attempts, "usage": usage, **extra}


class _Stopped(Exception):  # noqa: N818 - not an error
    """Nothing more may be sent."""


class Workers:
    """One run over the questions that are missing from a journal.

    A question is recorded once: when it is answered, when it has failed for good, or when the run
    stops after an attempt that may have cost something.

    Parameters
    ----------
    endpoint : Endpoint
    settings : Settings
    journal : Journal
    budget : Budget
    limits : Limits
    progress : callable, optional
        Called after every question that was answered or has failed.

    Attributes
    ----------
    n_answered, n_failed : int
        Questions so far.
    n_empty, n_refused, n_hidden, n_unlisted : int
        Answers without text, refusals, answers that held the API key, and answers without the
        log-probabilities that were asked for.
    stopped : str or None
        Why questions are left.
    failures : Counter
        Reasons of the questions that failed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        *,
        journal: Journal,
        budget: Budget,
        limits: Limits,
        progress: Callable[[], None] | None,
    ) -> None:
        self._endpoint = endpoint
        self.settings = settings
        self.journal = journal
        self.budget = budget
        self.limits = limits
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
        self.n_empty = self.n_refused = self.n_hidden = self.n_unlisted = 0
        self.stopped: str | None = None
        self.failures: Counter[str] = Counter()

    async def run(self, missing: list[Question], stop: Callable[[], bool] | None) -> None:
        """Asks all questions, or until there is a reason to stop."""
        waiting = iter(missing)
        n_workers = min(self.limits.concurrency, len(missing))
        watcher = asyncio.create_task(self._watch(stop)) if stop is not None else None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(n_workers):
                    group.create_task(self._work(waiting))
        except BaseExceptionGroup as errors:  # one worker failed, and the others were cancelled
            raise errors.exceptions[0] from None
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _watch(self, stop: Callable[[], bool]) -> None:
        while not stop():  # noqa: ASYNC110 - whatever sets it knows nothing of this loop
            await asyncio.sleep(_STOP_SECONDS)
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
                if spent.attempts:  # keep what it has cost
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
        """Sends one request once the limits allow; the seconds until the next, None if none."""
        most_in, most_out = spent.held[-1]
        entry = await self._wait_for(self._tokens.take(most_in // 4 + most_out))
        await self._wait_for(self._requests.take())
        if (quiet := self._quiet_until - asyncio.get_running_loop().time()) > 0:
            await self._wait_for(asyncio.sleep(quiet))
        if self.budget.limited:
            self.journal.sent(question, most_in, most_out)
        spent.attempts += 1
        try:
            reply = await self._endpoint.ask(question)
        except Failure as failure:
            if failure.sent:
                total = self._spend(spent, failure.used, most_out)
                if failure.used:
                    self._tokens.correct(entry, total)
            else:
                self._tokens.correct(entry, 0)
                self.budget.release(0, most_in, most_out)
                spent.held[-1] = (0, 0)
            if not self._again(question, spent, failure):
                return None
            return 0.0 if failure.free else self._pause(failure, spent.attempts - spent.free)
        self._answered(question, spent, reply, entry)
        return None

    async def _reserve(self, question: Question, spent: _Spent) -> None:
        """Reserves one attempt's worst case, waiting for attempts under way to settle theirs."""
        most = self.settings.most_tokens(question.prompt)
        while (reason := self.budget.reserve(*most)) is not None:
            if not self._under_way:
                self._end(reason)
                raise _Stopped
            self._settled.clear()
            await self._wait_for(self._settled.wait())
        spent.held.append(most)

    def _release(self, spent: _Spent) -> None:
        for most in spent.held:
            self.budget.release(1, *most)
        spent.held.clear()

    async def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Awaits a result, unless the run is halted first."""
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
        """Whether to try again; if not, records the failure."""
        spent.free += failure.free
        retries = spent.attempts - spent.free
        if failure.free or (failure.kind == "retry" and retries <= self.limits.retries):
            return True
        self._record(question, spent, {"error": str(failure), "status": failure.status})
        if failure.kind == "stop":
            self._end(str(failure))
        self._in_a_row += 1
        if self._in_a_row >= self.limits.give_up_after:
            self._end(f"{self._in_a_row} questions in a row failed, the last with {failure}")
        return False

    def _pause(self, failure: Failure, attempts: int) -> float:
        """Seconds until the next attempt; a server that asks for rest gets it from all workers."""
        if failure.retry_after:
            until = asyncio.get_running_loop().time() + failure.retry_after
            self._quiet_until = max(self._quiet_until, until)
            return failure.retry_after
        wait = min(_FIRST_WAIT * 2.0 ** min(attempts - 1, 16), _LONGEST_WAIT)
        return wait * random.uniform(0.75, 1.0)  # noqa: S311 - spreads the requests

    def _answered(
        self, question: Question, spent: _Spent, reply: Reply, entry: list[float]
    ) -> None:
        _, most_out = spent.held[-1]
        said = reply.text + reply.extra.get("reasoning_content", "")
        # an answer that was cut off, or is all calls and hidden reasoning, may have used them all
        cut = reply.finish_reason == "length" or "tool_calls" in reply.extra or not said
        longest = most_out if cut else len(said.encode("utf-8", errors="replace"))
        self._tokens.correct(entry, self._spend(spent, reply.used, min(most_out, longest)))
        content = {"text": reply.text, "finish_reason": reply.finish_reason, **reply.extra}
        if self.settings.logprobs is not None:
            if reply.positions is not None:
                content["logprobs"] = to_record(reply.positions)
            self.n_unlisted += reply.positions is None and bool(reply.text)
        self._in_a_row = 0
        self.n_empty += not reply.text and not reply.refused
        self.n_refused += reply.refused
        self.n_hidden += "key_hidden" in reply.extra
        self._record(question, spent, content)

    @staticmethod
    def _spend(spent: _Spent, used: Used, most_out: int) -> int:
        """Counts the tokens of an attempt, as stated or else the most that it can be: how many."""
        used_in, used_out = used.prompt_tokens, used.completion_tokens
        spent.estimated |= used_in is None or used_out is None
        used_in = spent.held[-1][0] if used_in is None else used_in
        used_out = most_out if used_out is None else used_out
        spent.prompt_tokens += used_in
        spent.completion_tokens += used_out
        return used_in + used_out

    def _record(self, question: Question, spent: _Spent, content: dict[str, Any]) -> None:
        self.journal.answer(question, {**content, **spent.record()})
        self._release(spent)
        if "text" in content:
            self.n_answered += 1
        elif "status" in content:
            self.n_failed += 1
            self.failures[content["error"]] += 1
        if self._progress is not None and ("text" in content or "status" in content):
            self._progress()
