"""A corpus larger than the memory limit: peak memory, and the rate against scoring in memory.

    python -m benches.bench_outofcore 1e8 1e9 --memory 1GiB --tmp /disk

Each run is a process of its own, so that its peak is its own. The two results must be equal.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import radscore as rs

from benches.generate import BLOCK, zipf_text

VOCAB_SIZE = 50_000


def _measure(path: str, memory: str | None, tmp: str) -> None:
    """What the child does."""
    key = rs.Key.from_hex("000102030405060708090a0b0c0d0e0f")
    scheme = rs.Keyed(key=key, vocab_size=VOCAB_SIZE, gamma=0.25, context_width=2)
    corpus = rs.open_corpus(path, dtype="uint16", eod=0, vocab_size=VOCAB_SIZE)
    start = time.perf_counter()
    result = rs.score(corpus, scheme, memory=memory, tmp=tmp if memory else None)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "result": repr(result)}))


def _child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benches.bench_outofcore", "--child", *arguments]
    found: dict[str, float] = json.loads(subprocess.check_output(command))
    return found


def main() -> None:
    """Prints a line for each number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", nargs="*", type=float, default=[1e8])
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--tmp", default=".")
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        path, memory, tmp = args.child
        _measure(path, None if memory == "none" else memory, tmp)
        return
    for tokens in args.tokens:
        n = int(tokens)
        path = Path(args.tmp) / f"zipf-{n}.bin"
        if not path.exists():
            with path.open("wb") as file:
                for start in range(0, n, 16 * BLOCK):
                    size, first = min(16 * BLOCK, n - start), start // BLOCK
                    zipf_text(size, VOCAB_SIZE, 0, 0, first=first).tofile(file)
        files = _child(str(path), args.memory, args.tmp)
        memory = _child(str(path), "none", args.tmp)
        assert files["result"] == memory["result"]
        print(
            f"{n:,} tokens: in files {n / files['seconds'] / 1e6:.1f} M/s, peak "
            f"{files['peak'] / 2**20:,.0f} MiB of a limit of {args.memory}; in memory "
            f"{n / memory['seconds'] / 1e6:.1f} M/s, peak {memory['peak'] / 2**20:,.0f} MiB; "
            f"ratio {memory['seconds'] / files['seconds']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
