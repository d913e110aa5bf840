"""A corpus scored in files under a memory limit, against the same in memory.

Each run is a process of its own, and so has a peak of its own. The results must be equal, and the
peak at most the limit plus 256 MB.

    python -m benches.bench_outofcore 1e8 1e9 --memory 1GiB --tmp /disk
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import radscore as rs
from radscore.runs import parse_size

from benches.common import Row, peak_memory, table
from benches.generate import BLOCK, zipf_text

VOCAB_SIZE: Final = 50_000
MEMORY: Final = "1GiB"
ALLOWED: Final = 256_000_000
SIZES: Final = (10_000_000, 100_000_000, 1_000_000_000)
#: Bytes of memory and disk that a token may need, in memory and in files.
_BYTES: Final = 12


def rows(sizes: tuple[int, ...] = SIZES, memory: str = MEMORY, tmp: str | None = None) -> list[Row]:
    """One row for each number of tokens that fits this machine's memory and disk."""
    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        return [_row(n, memory, folder) for n in sizes if _has_room(n, folder)]


def _has_room(n: int, folder: str) -> bool:
    disk = os.statvfs(folder)
    free = os.sysconf("SC_AVPHYS_PAGES") + os.sysconf("SC_PHYS_PAGES") // 4
    memory = min(free, os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return n * _BYTES < min(memory, disk.f_bavail * disk.f_frsize)


def _row(n: int, memory: str, folder: str) -> Row:
    path = Path(folder, f"zipf-{n}.bin")
    with path.open("wb") as file:
        for start in range(0, n, 16 * BLOCK):
            size, first = min(16 * BLOCK, n - start), start // BLOCK
            zipf_text(size, VOCAB_SIZE, 0, 0, first=first).tofile(file)
    turns = [(_child(path, memory, folder), _child(path, "none", folder)) for _ in range(3)]
    for files, whole in turns:
        assert files["result"] == whole["result"], "results differ"
        most = parse_size(memory) + ALLOWED
        assert files["peak"] <= most, f"{files['peak']:,} bytes of {most:,} allowed"
    path.unlink()
    peak = max(files["peak"] for files, _ in turns) / 2**20
    full = max(whole["peak"] for _, whole in turns) / 2**20
    return Row(
        f"in files, --memory {memory}; peak {peak:,.0f} MiB",
        n,
        turns[0][0]["n_scored"],
        statistics.median(files["seconds"] for files, _ in turns) / n * 1e9,
        f"radscore in memory; peak {full:,.0f} MiB",
        statistics.median(whole["seconds"] for _, whole in turns) / n * 1e9,
        statistics.median(whole["seconds"] / files["seconds"] for files, whole in turns),
        "results equal, peak within the limit + 256 MB",
    )


def _child(path: Path, memory: str, tmp: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benches.bench_outofcore", "--child", str(path), memory, tmp]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def _measure(path: str, memory: str, tmp: str) -> None:
    """What the child does."""
    key = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")
    scheme = rs.Keyed(key=key, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=2)
    corpus = rs.open_corpus(path, dtype="uint16", eod=0, vocab_size=VOCAB_SIZE)
    limit = {} if memory == "none" else {"memory": memory, "tmp": tmp}
    start = time.perf_counter()
    result = rs.score(corpus, scheme, **limit)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    found = {
        "seconds": seconds,
        "peak": peak_memory(),
        "result": repr(result),
        "n_scored": result.n_scored,
    }
    print(json.dumps(found))


def main() -> None:
    """Prints a row for each number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", nargs="*", type=float, default=SIZES)
    parser.add_argument("--memory", default=MEMORY)
    parser.add_argument("--tmp")
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        _measure(*args.child)
        return
    print(table(rows(tuple(map(int, args.tokens)), args.memory, args.tmp)))


if __name__ == "__main__":
    main()
