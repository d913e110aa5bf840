"""``python -m radscore.runs.executors.step``: a command that ends when who has started it does."""

from __future__ import annotations

import os
import signal
import sys
import threading

from radscore.cli import main


def _end_with_parent() -> None:
    """The parent writes nothing: there is something to read when it ends, however it does."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
