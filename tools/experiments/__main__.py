r"""Makes the models and texts, runs the matrix and the weighting study, and writes the results.

    python -m tools.experiments                 # everything: about an hour and a half on one core
    python -m tools.experiments --step models   # or one of: models, matrix, study, api,
                                                # report, export

Writes ``experiments/RESULTS.md`` with its figures, and what the test suite reads to
``experiments/models``. Models and texts are kept in ``build/experiments``, and made only if they
are not there. The human texts come from Debian packages, downloaded with apt-get to
``build/experiments/packages`` or read from ``--packages``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from tools.experiments.api import api, weak
from tools.experiments.bob import Bench, export, facts, prepare
from tools.experiments.marks import marks
from tools.experiments.matrix import matrix
from tools.experiments.report import write_report
from tools.experiments.settings import EXPERIMENTS, ROOT
from tools.experiments.study import study

STEPS = ("models", "matrix", "study", "api", "report", "export")


def main() -> None:
    """Runs the steps asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--step", choices=STEPS, action="append", help="by default all")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "experiments")
    parser.add_argument("--packages", type=Path, help="folder of the .deb files")
    parser.add_argument("--out", type=Path, help="folder of what api keeps (the cache)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.cache, options.packages or options.cache / "packages")
    steps = options.step or STEPS
    if "models" in steps:
        prepare(bench)
    if "matrix" in steps:
        matrix(bench)
    if "study" in steps:
        study(bench)
    out = options.out or options.cache
    if "api" in steps:
        marks(bench, out)
        weak(bench, out)
        api(bench, out)
    if "report" in steps:
        numbers = [
            json.loads(path.read_text()) if path.exists() else {}
            for path in (
                options.cache / "matrix.json",
                options.cache / "study.json",
                *(out / f"{name}.json" for name in ("api", "marks", "weak")),
            )
        ]
        behind = numbers[2] | numbers[3] | numbers[4]
        write_report(EXPERIMENTS, numbers[0], numbers[1], behind, facts(bench))
        print(f"wrote {EXPERIMENTS / 'RESULTS.md'}")
    if "export" in steps:
        export(bench)


if __name__ == "__main__":
    main()
