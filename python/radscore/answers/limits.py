"""How fast and how much to ask: limits, rates over any minute, and budgets that hold."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscore.documents import check_width
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from radscore.models.journal import Usage

__all__ = ["Budget", "Limits", "Rate"]

_MILLION = 1_000_000


@dataclass(frozen=True)
class Limits:
    """How fast to ask, and how often to try.

    Attributes
    ----------
    concurrency : int
        Requests under way at once.
    requests_per_minute, tokens_per_minute : float or None
        Limits over any minute; tokens count prompts and answers, estimated before a request and
        corrected after it.
    retries : int
        Further attempts at a question after one failed for a transient reason: a broken
        connection, statuses 408, 409, 425, 429 and 5xx, and responses without an answer.
    timeout : float
        Seconds that a request may take, from its start to the last byte of the answer.
    give_up_after : int
        Stop asking once this many questions in a row have failed.
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


class Rate:
    """At most a given amount within any minute.

    Parameters
    ----------
    limit : float or None
        The amount; None for no limit.
    seconds : float
        The length of the minute.
    clock, sleep : callable
        How to tell the time, and how to wait.
    """

    def __init__(
        self,
        limit: float | None,
        seconds: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._taken: deque[list[float]] = deque()  # times and amounts
        self._sum = 0.0
        self._turn = asyncio.Lock()

    async def take(self, amount: float = 1.0) -> list[float]:
        """Waits until `amount` is within the limit, first come, first served.

        An amount above the limit is let through once nothing else is taken. Returns an entry for
        `correct`.
        """
        entry = [0.0, amount]
        if self._limit is None:
            return entry
        async with self._turn:
            while (wait := self._wait(amount)) > 0:
                await self._sleep(wait)
            entry[0] = self._clock()
            self._taken.append(entry)
            self._sum += amount
        return entry

    def _wait(self, amount: float) -> float:
        now = self._clock()
        while self._taken and self._taken[0][0] <= now - self._seconds:
            self._sum -= self._taken.popleft()[1]
        if not self._taken or self._limit is None or self._sum + amount <= self._limit:
            return 0.0
        return max(self._taken[0][0] + self._seconds - now, 1e-3)

    def correct(self, entry: list[float], amount: float) -> None:
        """Replaces the amount that was taken by the actual one."""
        # an entry that has left the window was subtracted with its old amount
        if any(entry is one for one in self._taken):
            self._sum += amount - entry[1]
        entry[1] = amount


@dataclass
class Budget:
    """What asking may cost, over all runs that wrote to a journal.

    A request is sent only if its worst case (the most tokens that prompt and answer can have) still
    fits; afterwards what it really used counts. So a budget is never exceeded, provided the server
    respects the longest answer that it was asked for.

    Parameters
    ----------
    usage : Usage
        What was spent; the journal's.
    max_requests, max_tokens_total, max_cost : number, optional
        `max_cost` needs both prices.
    price_in, price_out : float, optional
        Per million tokens of prompts and of answers, in the currency of `max_cost`; 0 if they are
        free.

    Raises
    ------
    ArgumentError
        If a number is not allowed, or a price is missing.
    """

    usage: Usage
    max_requests: int | None = None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_tokens_total", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be above 0, not {value}")
        for name in ("price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ArgumentError(f"{name} must be 0 or more, not {value}")
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ArgumentError(
                "max_cost needs price_in= and price_out=, each per million tokens (0 if they are "
                "free)"
            )
        self._requests = self._in = self._out = 0  # reserved by requests under way

    @property
    def limited(self) -> bool:
        """Whether anything is limited at all."""
        return any(
            one is not None for one in (self.max_requests, self.max_tokens_total, self.max_cost)
        )

    def reserve(self, most_in: int, most_out: int) -> str | None:
        """Reserves the most that a request can use, or says which budget it would exceed."""
        requests = self.usage.requests + self._requests + 1
        used_in = self.usage.prompt_tokens + self._in + most_in
        used_out = self.usage.completion_tokens + self._out + most_out
        if self.max_requests is not None and requests > self.max_requests:
            return f"max_requests={self.max_requests} is used up"
        if self.max_tokens_total is not None and used_in + used_out > self.max_tokens_total:
            return f"max_tokens_total={self.max_tokens_total} would be exceeded"
        if self.max_cost is not None and self.cost_of(used_in, used_out) > self.max_cost:
            return f"max_cost={self.max_cost:g} would be exceeded"
        self._requests += 1
        self._in += most_in
        self._out += most_out
        return None

    def release(self, requests: int, most_in: int, most_out: int) -> None:
        """Ends a reservation: it is in the usage now, or was not needed."""
        self._requests -= requests
        self._in -= most_in
        self._out -= most_out

    def cost_of(self, tokens_in: int, tokens_out: int) -> float:
        """The price of some tokens."""
        prices = (self.price_in or 0.0) * tokens_in + (self.price_out or 0.0) * tokens_out
        return prices / _MILLION

    @property
    def cost(self) -> float | None:
        """What was spent, if both prices are known."""
        if self.price_in is None or self.price_out is None:
            return None
        return self.cost_of(self.usage.prompt_tokens, self.usage.completion_tokens)
