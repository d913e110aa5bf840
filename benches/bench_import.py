"""How long ``import radscore`` takes in a fresh interpreter, compared with numpy alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Final

__all__ = ["report"]

REPETITIONS: Final = 15
CODE: Final = (
    "import time; start = time.perf_counter(); import {module}; "
    "end = time.perf_counter(); import sys; assert 'torch' not in sys.modules; print(end - start)"
)


def _seconds(module: str) -> float:
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def report() -> str:
    """Medians over interpreters started in turns; each checks that torch is not loaded."""
    times = [(_seconds("numpy"), _seconds("radscore")) for _ in range(REPETITIONS)]
    numpy, radscore = (statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"`import radscore`: {radscore:.3f} s, of which `import numpy` alone takes {numpy:.3f} s "
        f"(medians of {REPETITIONS}; torch is not loaded)."
    )


if __name__ == "__main__":
    print(report())
