"""The boundary to Python: what is imported, the interpreter's lock, Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import radscore as rs
from radscore import _core
from radscore.errors import ArgumentError, TokenError

GREEN = rs.KGW(vocab_size=2000, gamma=0.25, context_width=2, seeding="hash", seed=1)
GUMBEL = rs.GumbelMax(vocab_size=2000, context_width=2, seeding="hash", seed=1)
DEPTHS = rs.SynthID(keys=(1, 2, 3), vocab_size=2000, context_width=2)
DEPTHS4 = rs.SynthID(keys=(1, 2, 3), vocab_size=2**20, context_width=3)


def test_import_is_light():
    heavy = ("torch", "transformers", "scipy", "pyarrow", "tokenizers", "matplotlib")
    code = (
        "import sys, radscore; [getattr(radscore, name) for name in radscore.__all__]; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scoring_leaves_the_interpreter_to_others():
    scheme = rs.KGW(vocab_size=2000, gamma=0.25, context_width=2, seeding="hash", seed=1)
    documents = np.random.default_rng(0).integers(0, 2000, (20, 4000))
    turns = []

    def count():
        while not done.is_set():
            turns.append(1)
            done.wait(0.001)

    done = threading.Event()
    other = threading.Thread(target=count)
    scorer = rs.Scorer(scheme, threads=1)
    other.start()
    scorer.add(documents)
    n_scored = scorer.tally().n_scored
    done.set()
    other.join()
    assert n_scored > 70_000
    # With the lock held, the other thread would get a turn or two.
    assert len(turns) > 10


INTERRUPTED = """
import signal, sys, threading, os
import numpy as np, radscore as rs
# Processes in the background of a shell ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
scheme = rs.KGW(vocab_size=200_000, gamma=0.5, context_width=2, seeding="hash", seed=1)
scorer = rs.Scorer(scheme)
documents = np.random.default_rng(0).integers(0, 200_000, (100, 5000))
scorer.add(documents)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    scorer.result()
except KeyboardInterrupt:
    print("interrupted", scorer.n_tokens)
"""


def test_ctrl_c_stops_long_work():
    # Uninterrupted, this would take several minutes.
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "interrupted 500000", done.stderr
    assert done.returncode == 0


ROWS = """
import os, signal, sys, threading, time
import numpy as np, radscore as rs
signal.signal(signal.SIGINT, signal.default_int_handler)
green = rs.KGW(vocab_size=100_000, gamma=0.5, context_width=2, seeding="hash", seed=1)
depths = rs.SynthID(keys=tuple(range(30)), vocab_size=100_000, context_width=2)
work, width, rows = {
    "green_mask": (green.green_mask, 2, 30_000),
    "g_values": (depths.g_values, 2, 700),
    "scores": (green.scores, 3, 1_000_000),
}[sys.argv[1]]
windows = np.random.default_rng(0).integers(0, 100_000, (rows, width))
work(windows[:1])
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    work(windows)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - start < 3)
"""


@pytest.mark.parametrize("name", ["green_mask", "g_values", "scores"])
def test_ctrl_c_stops_rows_over_the_vocabulary(name):
    done = subprocess.run(
        [sys.executable, "-c", ROWS, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["interrupted", "True"], done.stderr


@pytest.mark.parametrize(
    ("scheme", "name"), [(GREEN, "green_mask"), (GUMBEL, "uniforms"), (DEPTHS, "g_values")]
)
def test_slices_of_rows_do_not_show(scheme, name):
    # The same contexts alone and among many.
    contexts = np.random.default_rng(0).integers(0, 2000, (70, scheme.window_width - 1))
    work = getattr(scheme, name)
    together = work(contexts)
    assert len(together) == 70
    for index in (0, 1, 2, 3, 30, 69):
        assert np.array_equal(together[index], work(contexts[index : index + 1])[0])
    assert work(contexts[:0]).shape == (0, *together.shape[1:])
    assert np.array_equal(work(np.asfortranarray(contexts)), together)


@pytest.mark.parametrize(
    ("scheme", "name"), [(GREEN, "green_mask"), (GUMBEL, "uniforms"), (DEPTHS, "g_values")]
)
def test_requests_beyond_the_memory_are_memory_errors(scheme, name):
    work = getattr(scheme, name)
    for rows in (10**12, 10**16):
        contexts = np.broadcast_to(np.int64(1), (rows, scheme.window_width - 1))
        with pytest.raises(MemoryError, match=f"{rows} contexts x 2000 ids x"):
            work(contexts)
    with pytest.raises(ArgumentError, match="contexts must have 2 columns for this scheme, not 0"):
        work(np.empty((10**17, 0), dtype=np.int64))


@pytest.mark.parametrize("name", ["scores", "units"])
def test_windows_beyond_the_memory_are_memory_errors(name):
    windows = np.broadcast_to(np.int64(1), (10**13, 3))
    with pytest.raises(MemoryError, match="10000000000000 windows x"):
        getattr(GREEN, name)(windows)


def test_contexts_of_no_tokens():
    # A window of one token, which salts itself.
    scheme = rs.KGW(vocab_size=100, context_width=1, seeding="multiplicative", self_salt=True)
    masks = scheme.green_mask(np.empty((300, 0), dtype=np.int64))
    assert masks.shape == (300, 100)
    assert masks[0].any()
    assert (masks == masks[0]).all()
    with pytest.raises(MemoryError, match="contexts x 100 ids"):
        scheme.green_mask(np.empty((10**17, 0), dtype=np.int64))


def unaligned(values, dtype):
    """The values one byte beside where they should lie."""
    raw = np.zeros(values.size * np.dtype(dtype).itemsize + 1, dtype=np.uint8)
    out = raw[1:].view(dtype).reshape(values.shape)
    out[...] = values
    assert not out.flags.aligned
    return out


@pytest.mark.parametrize("dtype", [np.int64, np.uint32])
def test_unaligned_arrays_are_told_apart_from_strided_ones(dtype):
    windows = np.array([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(TokenError, match="windows must be aligned in memory"):
        GREEN.core.scores(unaligned(windows, dtype))
    with pytest.raises(TokenError, match="contexts must be aligned in memory"):
        GREEN.core.green_mask(unaligned(windows[:, 1:], dtype))
    counts = _core.KgramCounts(2, 2000)
    offsets = np.array([0, 6])
    with pytest.raises(TokenError, match="token ids must be aligned in memory"):
        counts.add(unaligned(windows.ravel(), dtype), offsets)
    with pytest.raises(TokenError, match="token ids must be contiguous in memory"):
        counts.add(np.arange(12, dtype=dtype)[::2], offsets)
    with pytest.raises(TokenError, match="offsets must be aligned in memory"):
        counts.add(windows.ravel().astype(dtype), unaligned(offsets, np.int64))
    counts.add(windows.ravel().astype(dtype), offsets)
    assert counts.total == 5


def test_rows_must_be_in_c_order():
    rows = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint32)
    assert _core.KgramSet.from_rows(rows, 9).rows().tolist() == rows.tolist()
    for wrong in (np.asfortranarray(rows), rows.T):
        with pytest.raises(TokenError, match="k-grams must be contiguous in memory, in C order"):
            _core.KgramSet.from_rows(wrong, 9)


def test_a_busy_scorer_is_an_argument_error():
    scorer = rs.Scorer(GREEN)
    scorer.add([[1, 2, 3]])
    with pytest.raises(ArgumentError, match="busy: it cannot be merged with itself"):
        scorer._core.merge(scorer._core)
    with pytest.raises(ArgumentError):
        scorer.merge(scorer)
    assert scorer.n_tokens == 3


BUSY = """
import os, signal, threading
import numpy as np, radscore as rs
from radscore.errors import ArgumentError
scheme = rs.KGW(vocab_size=200_000, gamma=0.5, context_width=2, seeding="hash", seed=1)
scorer = rs.Scorer(scheme)
scorer.add(np.random.default_rng(0).integers(0, 200_000, (100, 5000)))

def handler(number, frame):
    scorer.n_tokens

signal.signal(signal.SIGUSR1, handler)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
try:
    scorer.result()
except ArgumentError as error:
    print(str(error)[:22], scorer.n_tokens)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_a_signal_handler_finds_the_scorer_busy():
    done = subprocess.run(
        [sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "the scorer is busy: an 500000", done.stderr


def test_k_gram_sets_leave_the_interpreter_to_others(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2**20, (1_500_000, 3), dtype=np.uint32)
    whole = _core.KgramSet.from_rows(rows, 2**20)
    path = tmp_path / "phi"
    calls = {
        "from_rows": lambda: _core.KgramSet.from_rows(rows, 2**20),
        "union": lambda: whole.union(whole),
        "intersection": lambda: whole.intersection(whole),
        "fingerprint": lambda: whole.fingerprint,
        "save": lambda: whole.save(path),
        "load": lambda: _core.KgramSet.load(path),
        "Scorer": lambda: _core.Scorer(
            [DEPTHS4.core], "unit", "one", None, "exclude", whole, None, []
        ),
    }
    for name, call in calls.items():
        turns, took = turns_during(call)
        # A turn is a millisecond; with the lock held there would be one or two.
        assert took < 0.02 or turns > 4, (name, turns, took)
    start = time.perf_counter()
    assert whole.fingerprint == whole.fingerprint
    assert time.perf_counter() - start < 0.001


def turns_during(call):
    turns, begun, done = [], threading.Event(), threading.Event()

    def count():
        begun.set()
        while not done.is_set():
            turns.append(1)
            done.wait(0.001)

    other = threading.Thread(target=count)
    other.start()
    begun.wait()
    before, start = len(turns), time.perf_counter()
    call()
    after, took = len(turns), time.perf_counter() - start
    done.set()
    other.join()
    return after - before, took


FORKED = """
import multiprocessing, sys, warnings
import numpy as np, radscore as rs
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
threads = None if sys.argv[1] == "None" else int(sys.argv[1])
scheme = rs.KGW(vocab_size=2000, gamma=0.25, context_width=2, seeding="hash", seed=1)
documents = np.random.default_rng(0).integers(0, 2000, (20, 200))
contexts = documents[:30, :2]

def work(_):
    result = rs.score(documents, scheme, threads=threads)
    counts = rs.KgramCounts(2, 2000)
    counts.add(documents, threads=threads)
    scores = scheme.scores(documents[:, :3]).tolist()
    masks = int(scheme.green_mask(contexts).sum())
    return result.n_scored, result.n_green, result.log10_pvalue, counts.total, scores, masks

if __name__ == "__main__":
    before = work(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        children = pool.map(work, range(4))
    print(children == [before] * 4, work(0) == before, before[0] > 3000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
@pytest.mark.parametrize("threads", [None, 2])
def test_scoring_goes_on_after_a_fork(threads):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(threads)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["True"] * 3, done.stderr
