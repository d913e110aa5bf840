"""Memory that the system refuses (ulimit -v, as clusters set it): an error, and never a signal."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="limits address space by /proc"),
]

#: Every operation is made ready without a limit, then run under one that grows until it fits.
PRELUDE = """
import resource, sys
import numpy as np
import radscore as rs
from radscore import _core
from radscore.errors import RadscoreError, StateError

def limited(work, mebibytes):
    pages = int(open("/proc/self/statm").read().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = pages * resource.getpagesize() + int(mebibytes * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        return work()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

def outcome(make, work):
    found = set()
    for mebibytes in (0, 2, 8, 25, 60, 120):
        ready = make()
        try:
            limited(lambda: work(ready), mebibytes)
            found.add("fits")
        except MemoryError:
            found.add("MemoryError")
        del ready
    print(*sorted(found))

S = rs.VLLMGumbel(key=5, vocab_size=32000, context_width=3)
U = rs.KGW(vocab_size=32000, gamma=0.25, context_width=1, seeding="hash", seed=3)
rng = np.random.default_rng(0)
x = rng.integers(0, 32000, size=3_000_000, dtype=np.uint16)
D = rs.Documents(x, np.arange(0, x.size + 1, 1000))
SMALL = rs.Documents(x[:100_000], np.arange(0, 100_001, 1000))
def scorer(documents=SMALL, **more):
    own = rs.Scorer(S, **more)
    own.add(documents)
    return own
def counts(documents=SMALL):
    own = rs.KgramCounts(2, 32000)
    own.add(documents)
    return own
scorer().result()
full = scorer(D)
full.save("full.state")
counts(D).save("full.rkc")
counts(D).top().save("full.rkg")
"""

OPERATIONS = {
    "add": "outcome(lambda: scorer(), lambda own: own.add(D))",
    "two schemes": "outcome(lambda: rs.Scorer([S, U]), lambda own: (own.add(D), own.tallies()))",
    "result": "outcome(lambda: scorer(D), lambda own: own.result())",
    "weights": "outcome(lambda: scorer(combine='sum'), lambda own: (own.add(D), own.result()))",
    "pairs": (
        "pairs = x[:600_000].reshape(-1, 4)\n"
        "outcome(lambda: scorer(), lambda own: own.add_pairs(pairs[:, :3], pairs[:, 3]))"
    ),
    "merge": "outcome(lambda: scorer(), lambda own: own.merge(full))",
    "load": "outcome(lambda: None, lambda _: rs.Scorer.load('full.state', S))",
    "documents": "outcome(lambda: None, lambda _: rs.score_documents(D, S))",
    "kgrams": "outcome(lambda: counts(), lambda own: own.add(D))",
    "load kgrams": "outcome(lambda: None, lambda _: rs.KgramCounts.load('full.rkc').top(1000))",
    "sets": (
        "outcome(lambda: rs.KgramSet.load('full.rkg'), lambda own: (own | own, own.to_numpy()))"
    ),
    "filter": "outcome(lambda: rs.KgramSet.load('full.rkg'), lambda own: own.core and "
    "rs.Scorer(rs.Keyed(key='00' * 16, vocab_size=32000, context_width=2), filter=own))",
    "scores": (
        "windows = x[:2_800_000].reshape(-1, 4).astype(np.uint32)\n"
        "outcome(lambda: None, lambda _: S.core.scores(windows))"
    ),
    "mask": "outcome(lambda: None, lambda _: U.green_mask(x[:2000, None]))",
}


#: Operations that may find all they need in memory that is free within the process.
REUSING = ("add", "result", "merge", "load", "kgrams")


def run(folder, body):
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=250,
        check=False,
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_memory_that_runs_out_is_an_error(name, tmp_path):
    done = run(tmp_path, OPERATIONS[name])
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(done.stdout.split()) <= {"MemoryError", "fits"}
    assert done.stdout.split() != ["fits"] or name in REUSING


def test_saving_needs_no_memory_and_a_failed_call_is_remembered(tmp_path):
    """Whatever failed, what was saved before gives the right result."""
    done = run(
        tmp_path,
        """
        own, expected = scorer(), scorer()
        expected.add(D)
        limited(lambda: own.save("own.state"), 8)
        try:
            while True:  # until what is free within the process is used up
                limited(lambda: own.add(D), 0)
        except MemoryError:
            pass
        for call in (own.result, lambda: own.add(SMALL), lambda: own.save("own.state")):
            try:
                call()
            except StateError as error:
                assert "is incomplete" in str(error)
            else:
                raise SystemExit("not refused")
        again = rs.Scorer.load("own.state", S)
        again.add(D)
        assert again.tally() == expected.tally()
        print("right")
        """,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "right"), done.stderr[-2000:]


def test_fewer_threads_than_asked_do(tmp_path):
    done = run(
        tmp_path,
        """
        def with_threads(number):
            own = rs.Scorer(S, threads=number)
            own.add(SMALL)
            return own.tally()
        expected = with_threads(2)
        assert limited(lambda: with_threads(500), 60) == expected
        """,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_thread_there_is_an_error(tmp_path):
    """In a process that had none before: their stacks would be used again."""
    done = run(
        tmp_path,
        """
        own = rs.Scorer(S, threads=3)
        try:
            limited(lambda: own.add(SMALL), 0)
        except (MemoryError, RadscoreError) as error:
            print(error)
        """,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 1


#: A command that still has to import what it needs, with little memory to spare.
STARVED = """
import resource, sys
import radscore.cli.entry
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + int(float(sys.argv.pop(1)) * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(radscore.cli.entry.main())
"""


@pytest.mark.parametrize("mebibytes", [0.25, 1, 3, 8, 20, 40, 80])
def test_imports_that_fail_for_memory_are_no_internal_error(tmp_path, mebibytes):
    """Python calls it ImportError or SystemError where a library does not fit."""
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2, 3, 4]}\n' * 50)
    command = ["kgrams", "build", "x.jsonl", "--width", "2", "--vocab-size", "9", "--out", "o.rkg"]
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(mebibytes), *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=250,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    assert "internal error" not in done.stderr
    if done.returncode:
        assert "out of memory" in done.stderr
