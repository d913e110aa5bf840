"""The boundary to Python: what is imported, the interpreter's lock, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import radscore as rs


def test_import_is_light():
    heavy = ("torch", "transformers", "scipy", "pyarrow", "tokenizers", "matplotlib")
    code = f"import sys, radscore; print([m for m in {heavy} if m in sys.modules])"
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
