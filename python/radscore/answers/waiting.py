"""How long a server wants no further requests, in each of the ways that servers say it."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_WAIT", "asked_wait"]

#: Seconds that are waited at most; the limits below say what becomes of longer ones.
LONGEST_WAIT = 600.0
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|us|µs|ns|[hms]))+")
_STEP = re.compile(r"([0-9.]+)([a-zµ]+)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_RESET, _REMAINING = "x-ratelimit-reset", "x-ratelimit-remaining"
#: Numbers from here on are times since 1970, in seconds and in milliseconds.
_EPOCH, _EPOCH_MS = 1e9, 1e11


def asked_wait(headers: Mapping[str, str]) -> float:
    """The seconds that a refusal's headers ask for; 0 if they ask for none, or make no sense.

    ``retry-after-ms`` comes first, then ``Retry-After`` (seconds or a date), then
    ``x-ratelimit-reset-*`` of the limits that are used up, up to `LONGEST_WAIT`.

    Examples
    --------
    >>> asked_wait({"retry-after": "2.5"}), asked_wait({"x-ratelimit-reset-tokens": "1m30s"})
    (2.5, 90.0)
    """
    now = _date(headers.get("date", "")) or time.time()
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    after = headers.get("retry-after", "").strip()
    if after:
        date = None if _NUMBER.fullmatch(after) else _date(after)
        wait = _seconds(after) if date is None else max(date - now, 0.0)
        if wait:
            return wait
    resets = {}
    for name, value in headers.items():
        if name.lower().startswith(_RESET):
            wait = _reset(value.strip(), now)
            if 0 < wait <= LONGEST_WAIT:
                resets[name.lower()[len(_RESET) :]] = wait
    used_up = [
        w for name, w in resets.items() if headers.get(_REMAINING + name, "0").strip() == "0"
    ]
    return max(used_up or resets.values(), default=0.0)


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.isascii() and text.isdigit():  # too long for a number that means anything
        return math.inf
    return 0.0


def _reset(text: str, now: float) -> float:
    """A number of seconds, a duration such as 6m0s, or a time."""
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    number = _seconds(text)
    if number >= _EPOCH:
        return number / (1000 if number >= _EPOCH_MS else 1) - now
    return number or (_date(text) or 0.0) - now


def _date(text: str) -> float | None:
    """A time, of HTTP or ISO 8601, in seconds since 1970."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
