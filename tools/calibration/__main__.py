"""Runs the calibration; writes docs/calibration.md, and its summary into docs/validity.md."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.calibration.matrix import FULL, Row, membership_row, rows_of, summary, table
from tools.calibration.world import schemes

_DOCS = Path(__file__).parents[2] / "docs"
_BEGIN, _END = "<!-- calibration -->", "<!-- end of calibration -->"
_HEAD = """# Null calibration: scheme, route, suspect

Made by `make calibrate`: {n} random keys per row. A row above a level was run again with 1,000 or
more new keys, and the table shows that run: among so many rows, some are above by chance. Alice's
model and the suspects speak one small language of 512 tokens that loops as speech does; none of the
suspects knows the key. Each *copies*, *quotes* or *continues* what it read, or *loops*; see
`tools/calibration`. A cell is the share of keys with a p-value at or below a level, among those
that had one, with the 95 % limits of Clopper and Pearson; `**` marks a lower limit above the level.
*No p-value* counts keys that got none: nothing was left to score, or none can be given (see
validity.md).

"""


def main() -> int:
    """Runs and prints every row, and writes the tables; returns 1 if a level is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=FULL, help="random keys per row")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    rows: list[Row] = []
    with ProcessPoolExecutor(args.processes) as pool:
        tasks = [pool.submit(rows_of, name, args.keys) for name in schemes()]
        tasks.append(pool.submit(membership_row, args.keys))
        for task in tasks:
            found = task.result()
            rows += found
            for row in found:
                print(row.line, flush=True)
    (_DOCS / "calibration.md").write_text(_HEAD.format(n=args.keys) + table(rows))
    page = _DOCS / "validity.md"
    text = page.read_text()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{summary(rows)}\n{_END}{after}")
    wrong = [row.line for row in rows if row.is_wrong]
    print(f"{len(rows)} rows, {len(wrong)} with a lower limit above the level", *wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
