"""One target under atheris, which keeps the mutants that reach new lines of radscore's Python.

    python -m tools.fuzz.guided "jsonl" [options of libFuzzer, such as -max_total_time=600]

atheris is no dependency: install it beside radscore. Whatever `python -m tools.fuzz` calls a fault
ends the process, and libFuzzer keeps the input that did it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Fuzzes the first file of the target that the command line names."""
    atheris: Any = import_module("atheris")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    original, mutant, seeds = (folder / part for part in ("original", "mutant", "seeds"))
    original.mkdir()
    seeds.mkdir()
    with atheris.instrument_imports(include=["radscore"]):  # lazy ones too: hence the first reading
        target = import_module("tools.fuzz.targets").TARGETS[sys.argv.pop(1)]
        outcome = import_module("tools.fuzz.__main__").outcome
        target.make(original)
        shutil.copytree(original, mutant)
        expected = target.read(mutant)
    file = min(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    shutil.copy(original / file, seeds / "valid")

    def one(data: bytes) -> None:
        shutil.rmtree(mutant)
        shutil.copytree(original, mutant)
        (mutant / file).write_bytes(data)
        kind, message = outcome(target, mutant, expected)
        if kind not in ("refused", "read"):
            raise AssertionError(f"{kind}: {message}")

    atheris.Setup([*sys.argv, str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
