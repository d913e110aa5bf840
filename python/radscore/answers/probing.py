"""What an endpoint's log-probabilities are: a few requests before the first question tell."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from radscore.answers.replies import Failure, Used
from radscore.errors import ModelError
from radscore.models.questions import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.answers.endpoint import Endpoint
    from radscore.answers.logprobs import Position
    from radscore.answers.replies import Reply
    from radscore.answers.settings import Settings
    from radscore.answers.workers import Workers

__all__ = ["Findings", "StoppedError", "probe"]

_PROMPT = "Once upon a time"
_INTERRUPTED = "interrupted"
_TOKENS = 16  #: of the answers that are compared; of all others, one
_COLD, _NARROW = 0.5, 0.5  #: the other temperature, and the other top_p
_MANY = 1000  #: tokens asked for, to learn how many are allowed
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
#: Ratios of logits from here on are those of another temperature; without one, they are 1.
_OTHER_RATIO = math.sqrt(1.0 / _COLD)
#: Log-probabilities that differ by less are taken to be equal, whatever two equal requests say.
_NOISE = 0.05
_NUMBER = re.compile(r"(?<![\w.])[0-9]{1,6}(?![\w.]*[0-9])")


class StoppedError(Exception):
    """Nothing more may be sent, for the reason that is its text."""


@dataclass(frozen=True)
class Findings:
    """What an endpoint can do; None where the probe could not tell.

    Attributes
    ----------
    ids : bool
        Whether tokens come as ids.
    most : int or None
        The most tokens that are listed at a position, at least.
    after_temperature, after_top_p : bool or None
        Whether values are those after temperature, and after top_p.
    listed : float or None
        The share of all probability that the tokens listed have, at the number asked for.
    sums : bool
        Whether probabilities add up to at most 1.
    difference : float or None
        The largest difference between the log-probabilities of two equal requests.
    """

    ids: bool
    most: int | None = None
    after_temperature: bool | None = None
    after_top_p: bool | None = None
    listed: float | None = None
    sums: bool = True
    difference: float | None = None

    @classmethod
    def of(cls, record: Any) -> Findings | None:
        """From a journal's record; None if it holds none."""
        names = {one.name for one in fields(cls)}
        if not isinstance(record, dict) or type(record.get("ids")) is not bool:
            return None
        return cls(**{name: value for name, value in record.items() if name in names})

    def record(self) -> dict[str, Any]:
        """As a journal keeps it."""
        return asdict(self)

    def notes(self, temperature: float | None, top_p: float | None) -> list[str]:
        """What is to be known of the values of answers that were asked for so."""
        notes = []
        if self.after_temperature and temperature not in (None, 1):
            notes.append(
                f"the server's log-probabilities are those at temperature {temperature:g}; they "
                "are put back to temperature 1, for which the tokens that are not listed are a "
                "guess: temperature=1 needs none"
            )
        if self.after_top_p and top_p is not None and top_p < 1:
            notes.append(
                f"the server's log-probabilities are those after top_p={top_p:g}, which leaves out "
                "tokens: top_p=1 keeps them"
            )
        if not self.sums:
            notes.append("the server's probabilities add up to more than 1: they are none")
        return notes


class _Probe:
    """The requests of one probe; what they cost is reserved until `release`."""

    def __init__(self, endpoint: Endpoint, run: Workers, stop: Callable[[], bool] | None) -> None:
        self._endpoint, self._run, self._stop = endpoint, run, stop
        self.attempts = self.prompt_tokens = self.completion_tokens = 0

    async def ask(self, tokens: int = 1, **changes: Any) -> Reply:
        """One answer.

        Raises
        ------
        Failure
            If there is none, after retries where these may help.
        StoppedError
            If a budget is used up, or the run is to stop.
        """
        settings = replace(
            self._run.settings,
            **{"max_tokens": tokens, "temperature": 1.0, "top_p": 1.0, "system": None, **changes},
        )
        question = Question(_PROMPT, "probe", 0, None if settings.seed is None else 0)
        most = settings.most_tokens(_PROMPT)
        retries = 0
        while True:
            if self._stop is not None and self._stop():
                raise StoppedError(_INTERRUPTED)
            if (reason := self._run.budget.reserve(*most)) is not None:
                raise StoppedError(reason)
            if self._run.budget.limited:
                self._run.journal.sent(question, *most)
            self.attempts += 1
            try:
                reply = await self._endpoint.ask(question, settings)
            except Failure as failure:
                self._spend(failure.used if failure.sent else Used(0, 0), most)
                retries += not failure.free
                if not failure.free and (
                    failure.kind != "retry" or retries > self._run.limits.retries
                ):
                    raise
                wait = min(_FIRST_WAIT * 2.0 ** (retries - 1), _LONGEST_WAIT)
                await asyncio.sleep(0.0 if failure.free else failure.retry_after or wait)
            else:
                self._spend(reply.used, most)
                return reply

    def _spend(self, used: Used, most: tuple[int, int]) -> None:
        """Keeps no more reserved than an attempt has cost."""
        given = most[0] if used.prompt_tokens is None else used.prompt_tokens
        made = most[1] if used.completion_tokens is None else used.completion_tokens
        self.prompt_tokens += given
        self.completion_tokens += made
        self._run.budget.release(0, most[0] - given, most[1] - made)

    def record(self) -> dict[str, Any]:
        """What the requests have cost, which is no longer reserved."""
        self._run.budget.release(self.attempts, self.prompt_tokens, self.completion_tokens)
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return {"attempts": self.attempts, "usage": usage}

    async def maybe(self, tokens: int = 1, **changes: Any) -> list[Position] | None:
        """What the server says of one more answer; None if it refuses, or a budget is used up."""
        try:
            return (await self.ask(tokens, **changes)).positions
        except StoppedError as stopped:
            if str(stopped) == _INTERRUPTED:
                raise
        except Failure as failure:
            if failure.kind == "stop":
                raise
        return None


async def probe(endpoint: Endpoint, run: Workers, stop: Callable[[], bool] | None) -> Findings:
    """Asks a few times for a few tokens, and writes what was found into the run's journal.

    Sets `endpoint.ids`.

    Raises
    ------
    ModelError
        If the server gives no log-probabilities, or not so many.
    StoppedError
        If there is no answer, a budget is used up, or the run is to stop.
    """
    one = _Probe(endpoint, run, stop)
    content: dict[str, Any] = {}
    try:
        found = await _findings(one, endpoint, run.settings)
        content = {"probe": found.record()}
    except (Failure, ModelError, StoppedError) as error:
        content = {"error": f"probe: {error}"}
        if isinstance(error, Failure):
            raise StoppedError(str(error)) from None
        raise
    finally:
        if one.attempts:
            question = Question(_PROMPT, "probe", 0, None)
            run.journal.answer(question, {**content, **one.record()})
    return found


async def _findings(one: _Probe, endpoint: Endpoint, settings: Settings) -> Findings:
    first = await _first(one, endpoint, settings)
    again = await one.maybe(_TOKENS)
    noise = _difference(first, again) if again else None
    cold = await one.maybe(temperature=_COLD)
    narrow = await one.maybe(top_p=_NARROW)
    masses = [sum(math.exp(value) for _, value in there.likeliest) for there in first]
    return Findings(
        ids=endpoint.ids,
        most=await _most(one, settings, first),
        after_temperature=_scaled(first[0], cold[0]) if cold else None,
        after_top_p=_narrowed(first[0], narrow[0], noise or 0.0) if narrow else None,
        listed=round(min(sum(masses) / len(masses), 1.0), 4),
        sums=max(masses) <= 1.0 + 1e-3,
        difference=None if noise is None else round(noise, 4),
    )


async def _first(one: _Probe, endpoint: Endpoint, settings: Settings) -> list[Position]:
    """The first answer; tokens as ids if the server takes to it."""
    words = ""
    for ids in (True,) if settings.api == "sglang" else (True, False):
        endpoint.ids = ids
        try:
            reply = await one.ask(_TOKENS)
        except Failure as failure:
            if failure.kind != "skip":
                raise
            if failure.status == 404:
                raise ModelError(
                    f"the server has no such address or model: {failure} (see the URL of the "
                    f"endpoint, the model's name, and whether the server has api='{settings.api}')"
                ) from None
            words = str(failure)
            continue
        found = reply.positions
        lacking = f"the server answers without log-probabilities for {settings.model}"
        if found and not any(there.likeliest for there in found):
            lacking = f"the server tells {settings.model}'s log-probabilities of no other tokens"
        elif found:
            endpoint.ids = any(isinstance(there.token, int) for there in found)
            return found
        raise ModelError(f"{lacking}; without logprobs= its answers alone can be asked for")
    most = _limit(words, settings.logprobs or 0)
    way = "fewer may be allowed" if most is None else f"logprobs={most} is the most"
    raise ModelError(
        f"the server refuses logprobs={settings.logprobs}: {words} ({way}; without logprobs= its "
        "answers alone can be asked for)"
    )


async def _most(one: _Probe, settings: Settings, first: list[Position]) -> int | None:
    """How many tokens are listed at most, at least as far as was asked."""
    listed = max(len(there.likeliest) for there in first)
    asked = max(_MANY, settings.logprobs or 0)
    try:
        reply = await one.ask(logprobs=asked)
    except Failure as failure:
        if failure.kind == "stop":
            raise
        return _limit(str(failure), asked) or listed
    except StoppedError as stopped:
        if str(stopped) == _INTERRUPTED:
            raise
        return listed
    if not reply.positions:
        return listed
    return max(listed, *(len(there.likeliest) for there in reply.positions))


def _limit(words: str, asked: int) -> int | None:
    """The largest number in a refusal that is less than what was asked for, if it names one."""
    status, _, said = words.partition(": ")
    numbers = [int(found) for found in _NUMBER.findall(said or status)]
    return max((number for number in numbers if 0 < number < asked), default=None)


def _difference(one: list[Position], other: list[Position]) -> float:
    """The largest between two answers, as long as they are the same."""
    most = 0.0
    for mine, theirs in zip(one, other, strict=False):
        known = dict(theirs.likeliest)
        most = max([most, *(abs(v - known[t]) for t, v in mine.likeliest if t in known)])
        if mine.token != theirs.token:
            break
    return most


def _scaled(warm: Position, cold: Position) -> bool | None:
    """Whether the differences of log-probabilities follow the temperature."""
    known = dict(cold.likeliest)
    pairs = [(v, known[t]) for t, v in warm.likeliest if t in known]
    if not pairs:
        return None
    top, same = pairs[0]
    squares = sum((v - top) ** 2 for v, _ in pairs)
    if squares < _NOISE:
        return None
    return sum((v - top) * (w - same) for v, w in pairs) / squares > _OTHER_RATIO


def _narrowed(wide: Position, narrow: Position, noise: float) -> bool | None:
    """Whether a small top_p takes tokens off the list, or makes the others likelier."""
    if not narrow.likeliest:
        return None
    if len(narrow.likeliest) < len(wide.likeliest):
        return True
    known = dict(narrow.likeliest)
    rises = [known[t] - v for t, v in wide.likeliest if t in known]
    return bool(rises) and rises[0] > max(_NOISE, 2 * noise)
