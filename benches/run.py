"""Runs every Python benchmark and writes `RESULTS.md`: ``python -m benches.run``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benches import (
    bench_core,
    bench_decoys,
    bench_flow,
    bench_import,
    bench_kgw_vs_transformers,
    bench_outofcore,
    bench_pairs,
    bench_reading,
    bench_synthid,
    bench_tokenize,
    bench_vllm_vs_numpy,
    bench_weighted,
)
from benches.common import machine, table

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
SECTIONS: Final = (
    (
        "Against other detectors, nanoseconds per scored token",
        (bench_kgw_vs_transformers, bench_vllm_vs_numpy),
    ),
    (
        "Packing, deduplication and scoring, against counting packed keys; ns per token read",
        (bench_flow,),
    ),
    (
        "Windows in files under a memory limit, against windows in memory; ns per token read",
        (bench_outofcore,),
    ),
    (
        "A pass over a corpus and one more key, all cores, nanoseconds per token read",
        (bench_decoys,),
    ),
    (
        "Weighted pairs under a further key, all cores, nanoseconds per pair",
        (bench_weighted,),
    ),
    (
        "Weighted pairs beyond memory, sums and p-value, all cores, pairs per second",
        (bench_pairs,),
    ),
    (
        "SynthID's table on a large corpus, with and without 1 % marked, all cores",
        (bench_synthid,),
    ),
    ("From text, all cores, nanoseconds per token", (bench_tokenize,)),
    ("Reading text with a model, all cores, nanoseconds per token", (bench_reading,)),
    ("The core alone, all cores, tokens read per second", (bench_core,)),
)


def main() -> None:
    """Prints and writes each section as it is measured."""
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    parts = ["# Results", f"{now}, {machine()}.", "Written by `python -m benches.run`."]
    for title, modules in SECTIONS:
        parts += [f"## {title}", table([row for module in modules for row in module.rows()])]
        print(f"\n{title}\n{parts[-1]}", flush=True)
        _write(parts)
    parts += ["## Import", bench_import.report()]
    print(f"\nImport\n{parts[-1]}", flush=True)
    _write(parts)


def _write(parts: list[str]) -> None:
    RESULTS.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
