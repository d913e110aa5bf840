"""`ProgressBar`: how far a command has come, on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from radscore.cli.output import note

if TYPE_CHECKING:
    from radscore.progress import Progress

__all__ = ["ProgressBar"]

_LINE_SECONDS = 10.0


class ProgressBar:
    """Shows the share that is done, tokens per second and the time left.

    On a terminal it is a bar; elsewhere, if progress was asked for, a line every ten seconds.

    Parameters
    ----------
    quiet, asked : bool
        Whether to show nothing, and whether to show progress even if stderr is not a terminal.
    """

    def __init__(self, *, quiet: bool = False, asked: bool = False) -> None:
        terminal = sys.stderr.isatty()
        self._wants_bar = terminal and not quiet
        self._wants_lines = asked and not terminal and not quiet
        self._bar: Any = None
        self._before: Progress | None = None
        self._start = self._shown = time.monotonic()

    def begin(self, progress: Progress) -> None:
        """Takes what an earlier command has done; rates are counted from here."""
        self._before, self._start = progress, time.monotonic()
        if self._wants_bar:
            self._bar = _bar(progress)

    def show(self, progress: Progress) -> None:
        """Shows how far it is now; what any `progress=` callback receives will do."""
        if self._before is None:
            self.begin(progress)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.total = progress.total
            if rate := self._rate(progress, now):
                self._bar.set_postfix_str(rate, refresh=False)
            self._bar.update(progress.done - self._bar.n)
        elif self._wants_lines and now - self._shown >= _LINE_SECONDS:
            self._shown = now
            note(self._line(progress, now))

    def _rate(self, progress: Progress, now: float) -> str:
        tokens = progress.tokens - (0 if self._before is None else self._before.tokens)
        if not tokens:
            return ""
        rate = tokens / max(now - self._start, 1e-9)
        for prefix in ("", "k", "M"):
            if rate < 1000:
                return f"{rate:.3g}{prefix} tokens/s"
            rate /= 1000
        return f"{rate:.3g}G tokens/s"

    def _line(self, progress: Progress, now: float) -> str:
        parts = [self._rate(progress, now)]
        if progress.total is not None:
            here = progress.done - (0 if self._before is None else self._before.done)
            left = (progress.total - progress.done) * (now - self._start) / max(here, 1)
            share = 100 * progress.done / max(progress.total, 1)
            parts = [f"{share:.1f} %", *parts, f"{_clock(left)} left"]
        return ", ".join(filter(None, parts))

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(progress: Progress) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=progress.total,
        initial=progress.done,
        file=sys.stderr,
        leave=False,
        bar_format="{percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]",
    )
