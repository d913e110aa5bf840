"""``python -m radscore.runs.executors.worker``: does steps for its parent, and ends when it does.

Pickled on stdin come the task, then the numbers of steps, then None. Each line on stdout is the
number of a step that is done or, last, the error that ended the work, pickled, in base 64.
"""

from __future__ import annotations

import base64
import os
import pickle
import queue
import signal
import sys
import threading
from typing import Any

from radscore.errors import RadscoreError


def _read(messages: queue.Queue[Any]) -> None:
    """Hands on what the parent sends; ends the process, busy as it is, when the parent ends."""
    try:
        while True:
            messages.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - from our own parent
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    messages: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    try:
        step = messages.get().open()
        while (number := messages.get()) is not None:
            step(number)
            print(number, flush=True)  # noqa: T201
    except (RadscoreError, OSError, MemoryError) as error:
        print("!" + base64.b64encode(pickle.dumps(error)).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
