"""How fast, and how much: rates of the last minute, and budgets that are not exceeded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.answers.journal import Totals

__all__ = ["Budget", "Rate"]

_MILLION = 1_000_000


class Rate:
    """At most so much within any minute.

    Parameters
    ----------
    limit : float or None
        How much; None for no limit.
    seconds : float
        The length of the minute.
    """

    def __init__(self, limit: float | None, seconds: float = 60.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._taken: deque[list[float]] = deque()  # when, and how much
        self._sum = 0.0
        self._turn = asyncio.Lock()

    async def take(self, amount: float = 1.0) -> list[float]:
        """Waits until `amount` is within the limit, first come, first served; for `correct`.

        An amount above the limit goes when nothing else is taken.
        """
        entry = [0.0, amount]
        if self._limit is None:
            return entry
        async with self._turn:
            while (wait := self._wait(amount)) > 0:  # noqa: ASYNC110 - time, not an event
                await asyncio.sleep(wait)
            entry[0] = time.monotonic()
            self._taken.append(entry)
            self._sum += amount
        return entry

    def _wait(self, amount: float) -> float:
        now = time.monotonic()
        while self._taken and self._taken[0][0] <= now - self._seconds:
            self._sum -= self._taken.popleft()[1]
        if not self._taken or self._limit is None or self._sum + amount <= self._limit:
            return 0.0
        return max(self._taken[0][0] + self._seconds - now, 1e-3)

    def correct(self, entry: list[float], amount: float) -> None:
        """What was taken turned out to be another amount."""
        if entry[0]:
            # What has left the window was subtracted with its old amount.
            if any(entry is one for one in self._taken):
                self._sum += amount - entry[1]
            entry[1] = amount


@dataclass
class Budget:
    """What asking may cost, over all runs that wrote to one journal.

    A request is sent only if its worst case (its `most` tokens of prompt and answer) still fits;
    what it really used then counts. So a budget is never exceeded, as long as the server keeps to
    the longest answer that it was asked for.

    Parameters
    ----------
    totals : Totals
        What was spent; the journal's.
    max_requests, max_tokens_total, max_cost : number, optional
    price_in, price_out : float
        Of a million tokens of prompts and of answers, in the currency of `max_cost`.
    """

    totals: Totals
    max_requests: int | None = None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        if self.max_cost is not None and self.price_in is None and self.price_out is None:
            raise ArgumentError("max_cost needs price_in and price_out, per million tokens")
        self._requests = self._in = self._out = 0  # of requests that are under way

    def reserve(self, most_in: int, most_out: int) -> str | None:
        """Sets the most that a request can use aside; or says which budget it would exceed."""
        requests = self.totals.requests + self._requests + 1
        used_in = self.totals.prompt_tokens + self._in + most_in
        used_out = self.totals.completion_tokens + self._out + most_out
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
        """What was set aside is in the totals now, or was not used."""
        self._requests -= requests
        self._in -= most_in
        self._out -= most_out

    def cost_of(self, tokens_in: int, tokens_out: int) -> float:
        """The price of some tokens."""
        prices = (self.price_in or 0.0) * tokens_in + (self.price_out or 0.0) * tokens_out
        return prices / _MILLION

    @property
    def cost(self) -> float | None:
        """What was spent, where prices are known."""
        if self.price_in is None and self.price_out is None:
            return None
        return self.cost_of(self.totals.prompt_tokens, self.totals.completion_tokens)
