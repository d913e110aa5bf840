"""A process that is killed between any two changes of folders leaves nothing that stays."""

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import radscore as rs
from radscore.runs import score_run
from radscore.runs.executors import Resources
from radscore.runs.executors.local import Local
from radscore.runs.scoring import run_in

#: What a process changes of folders, their seals and the lock; it is killed before each change.
CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link"}
WHICH = re.compile(r"radscore-[0-9a-f]{12}|shards|buckets|run\.lock|.*\.radscore.*")


def test_nothing_stays_after_a_kill_at_any_moment(tmp_path):
    """In a process without threads, which can be forked."""
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True, timeout=600)


def score(corpus, folder):
    scheme = rs.Keyed(key=bytes(16), vocab_size=128, gamma=0.25, context_width=2)
    executor = Local(None, Resources(threads=1))
    with executor, run_in(folder, corpus, scheme, executor, dedup="unit") as run:
        score_run(run, corpus, scheme, threads=1)


def in_a_child(corpus, folder, last=-1):
    """Scores, and is gone before the change with that number; tells whether it came so far."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9), code
        return code == 9
    left = last

    def count(event, arguments):
        nonlocal left
        if event in CHANGES and WHICH.fullmatch(os.path.basename(arguments[0])):  # noqa: PTH119
            if left == 0:
                os._exit(9)
            left -= 1

    try:
        if last >= 0:
            sys.addaudithook(count)
        score(corpus, folder)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - it must not go on as pytest
        traceback.print_exc()
    os._exit(1)


def every_moment(base):
    np.random.default_rng(0).integers(0, 125, size=4000).astype(np.uint16).tofile(base / "ids.bin")
    folder = base / "tmp"
    folder.mkdir()
    corpus = rs.open_corpus(base / "ids.bin", dtype="uint16", eod=0, vocab_size=128)
    last = 0
    while in_a_child(corpus, folder, last):
        in_a_child(corpus, folder)
        assert not any(folder.iterdir()), (last, list(folder.rglob("*")))
        last += 1
    assert last > 10


if __name__ == "__main__":
    every_moment(Path(sys.argv[1]))
