"""Ctrl-C and SIGTERM: work stops where it can be continued."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Interrupts", "term_as_interrupt"]

_NOTICE = b"\nradscore: stopping; interrupt again to stop without saving\n"


class Interrupts:
    """While entered, the first signal is only noted; the second raises `KeyboardInterrupt`.

    Attributes
    ----------
    asked, again : bool
        Whether one signal has come, and whether two have.
    """

    def __init__(self) -> None:
        self.asked = False
        self.again = False
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """While entered, the first signal raises too: for work that can stop at any time."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def _handle(self, number: int, frame: Any) -> None:
        del number, frame
        self.again = self.asked
        self.asked = True
        if not self.again:
            os.write(2, _NOTICE)  # not print(), which the signal may have interrupted
        if self.again or self._raises:
            raise KeyboardInterrupt


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """While entered, SIGTERM raises `KeyboardInterrupt`, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
