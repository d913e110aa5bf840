"""Progress on stderr: a bar on a terminal, else a line now and then where it was asked for."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radscore.progress import Progress as Told

__all__ = ["Progress"]

_LINE_SECONDS = 10.0


class Progress:
    """Shows share, tokens a second and the time that is left.

    Parameters
    ----------
    total_bytes : int
        Size of all inputs.
    done_bytes : int
        What an earlier run has read.
    quiet, asked : bool
        Whether nothing is wanted, and whether it is wanted although stderr is no terminal.
    """

    def __init__(
        self, total_bytes: int, *, done_bytes: int = 0, quiet: bool = False, asked: bool = False
    ) -> None:
        self._total = max(total_bytes, 1)
        self._first = self._done = done_bytes
        self._tokens = 0
        self._told: int | None = None
        self._start = self._shown = time.monotonic()
        terminal = sys.stderr.isatty()
        self._lines = asked and not terminal and not quiet
        self._bar = _bar(self._total, done_bytes) if terminal and not quiet else None

    def show(self, told: Told) -> None:
        """Takes what a `progress=` callback receives."""
        if told.total is not None and told.total != self._total:
            self._total = max(told.total, 1)
            if self._bar is not None:
                self._bar.total = self._total
        before = told.tokens if self._told is None else self._told
        self._told = told.tokens
        self.add(told.done - self._done, told.tokens - before)

    def add(self, n_bytes: int, n_tokens: int) -> None:
        """Counts a batch."""
        self._done += n_bytes
        self._tokens += n_tokens
        now = time.monotonic()
        if self._bar is not None:
            if self._tokens:
                self._bar.set_postfix_str(f"{self._speed(now)} tokens/s", refresh=False)
            self._bar.update(n_bytes)
        elif self._lines and now - self._shown >= _LINE_SECONDS:
            self._shown = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _speed(self, now: float) -> str:
        rate = self._tokens / max(now - self._start, 1e-9)
        for unit in ("", "k", "M"):
            if rate < 1000:
                return f"{rate:.3g}{unit}"
            rate /= 1000
        return f"{rate:.3g}G"

    def _line(self, now: float) -> str:
        here = max(self._done - self._first, 1)
        left = (self._total - self._done) * (now - self._start) / here
        speed = f"{self._speed(now)} tokens/s, " if self._tokens else ""
        return f"radscore: {100 * self._done / self._total:.1f} %, {speed}{_clock(left)} left"

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(total: int, initial: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=initial,
        file=sys.stderr,
        leave=False,
        bar_format="{percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]",
    )
