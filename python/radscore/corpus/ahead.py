"""Reading ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Runs an iterator in a thread, one item ahead of its consumer; in none if none can start.

    An error of the iterator is raised where the items are consumed.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._queue: queue.Queue[T | BaseException] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(items,), name="radscore-reader", daemon=True
        )
        self._here: Iterator[T] | None = None
        try:
            self._thread.start()
        except RuntimeError:  # too little memory, or too many processes
            self._here = items

    def _run(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 -
            self._put(error)

    def _put(self, item: T | BaseException) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[T]:
        if self._here is not None:
            yield from self._here
            return
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stops the thread after the item it is reading; waits up to ten seconds for that."""
        self._stop.set()
        if self._here is None:
            self._thread.join(timeout=10.0)  # a read from a dead file server may never return
