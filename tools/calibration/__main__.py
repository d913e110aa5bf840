"""Runs the calibration; writes docs/calibration.md, and its summary into docs/validity.md.

Finished parts are kept in build/calibration until all are done: a run that was interrupted, or of
some sections only, goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tools.calibration.matrix import SECTIONS, made, parts
from tools.calibration.rows import Finished, summary, table

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_FINISHED = _ROOT / "build" / "calibration" / "finished.jsonl"
_BEGIN, _END = "<!-- calibration -->", "<!-- end of calibration -->"
_HEAD = """# Null calibration: scheme, route, suspect

Made by `make calibrate`: {few} to {many} random keys per row. A row above a level was run again
with 1,000 or more new keys, and the table shows that run: among so many rows, some are above by
chance. Alice's model and the suspects speak one small language of 512 tokens that loops as speech
does; none of the suspects knows the key. Each *copies*, *quotes* or *continues* what it read, or
*loops*; see `tools/calibration`. A cell is the share of keys with a p-value at or below a level,
among those that had one, with the 95 % limits of Clopper and Pearson; `**` marks a lower limit
above the level. *No p-value* counts keys that got none: nothing was left to score, or none can be
given (see validity.md).

- *expected*: text alone, against what a reference expects that reads along; *by two*: the mean of
  two references; *counted contexts*: weighed by how often contexts occur in unmarked text
  (`contexts=`).
- *listed*: answers with the log-probabilities of the 5 likeliest tokens, against a reference that
  reads along, another model's lists, or nothing (*alone*).
- *lists*: text read over an API that lists 20 tokens at each position, against a reference or the
  mean of two, alone, or with matched scores. *One token a prompt*: only the token after each of
  many prompts is told.
- *chosen contexts*: a model read where the context occurs in other unmarked text (`contexts=`).

*Unmarked prompts* and *clean text* are one text for all keys, which share its weights. *Marked*
text and prompts are made for each key. *Contaminated* text is unmarked but for one document in
twenty, which carries the mark and repeats itself, and nobody says so.

"""


def main() -> int:
    """Runs and prints every row, and writes the tables; returns 1 if a level is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=40, help="random keys per row")
    parser.add_argument(
        "--many", type=int, default=1000, help="for answers and readings, under two schemes"
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--schemes", nargs="+", help="only these")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    finished = Finished(_FINISHED)
    todo = [
        part
        for section in args.sections
        for part in parts(section, args.keys, args.many)
        if part.name not in finished.parts and (args.schemes is None or part.scheme in args.schemes)
    ]
    with ProcessPoolExecutor(args.processes) as pool:
        tasks = {pool.submit(made, part): part for part in todo}
        for task in as_completed(tasks):
            found = task.result()
            finished.add(tasks[task].name, found)
            for row in found:
                print(row.line, flush=True)
    every = [part for section in SECTIONS for part in parts(section, args.keys, args.many)]
    rows = [row for part in every for row in finished.parts.get(part.name, [])]
    (_DOCS / "calibration.md").write_text(
        _HEAD.format(few=args.keys, many=f"{args.many:,}") + table(rows)
    )
    page = _DOCS / "validity.md"
    text = page.read_text()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{summary(rows)}\n{_END}{after}")
    wrong = [row.line for row in rows if row.is_wrong]
    print(f"{len(rows)} rows, {len(wrong)} with a lower limit above the level", *wrong, sep="\n")
    if all(part.name in finished.parts for part in every):
        _FINISHED.unlink()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
