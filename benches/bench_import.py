"""How long ``import radscore`` takes in a fresh interpreter, and what the first use of it adds."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Final

__all__ = ["report"]

REPETITIONS: Final = 15
CODE: Final = (
    "import time; start = time.perf_counter(); {statement}; end = time.perf_counter(); "
    "import sys; assert 'torch' not in sys.modules; print(end - start)"
)
STATEMENTS: Final = ("import radscore", "import radscore; radscore.score", "import numpy")


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", CODE.format(statement=statement)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def report() -> str:
    """Medians over interpreters started in turn, each of which checks that torch is not loaded."""
    times = [[_seconds(one) for one in STATEMENTS] for _ in range(REPETITIONS)]
    bare, used, numpy = (statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"`import radscore`: {bare:.3f} s. And `radscore.score` with it: {used:.3f} s, of which "
        f"`import numpy` takes {numpy:.3f} s (medians of {REPETITIONS}; torch is not loaded)."
    )


if __name__ == "__main__":
    print(report())
