"""Schemes that Python code computes: what goes wrong in it surfaces as an error, and at once."""

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import radscore as rs
from radscore import _core
from radscore.errors import ArgumentError, SchemeError
from radscore.schemes import PythonScheme
from radscore.stats import BernoulliLaw, ExponentialLaw

VOCAB = 100
TEXT = np.random.default_rng(0).integers(0, VOCAB, 50_000)


class SomeError(Exception):
    """What a scheme's own code may raise."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Table(PythonScheme):
    """The key draws a table of green bigrams; `trouble` happens in one of its methods."""

    name = "table"
    description = "a table of green bigrams"
    share = Fraction(1, 2)
    null_law = BernoulliLaw(share)

    context_width: int = 1
    key: int = 0
    trouble: str = ""

    def _check(self):
        pass

    def _decoy(self, draws):
        return {"key": draws.between(0, 2**64 - 1)}

    def compute_scores(self, windows):
        table = np.random.default_rng(self.key).random((self.vocab_size,) * 2)
        scores = table[windows[:, 0], windows[:, 1]] < 0.5
        if self.trouble == "raises" and (windows[:, 0] == 77).any():
            raise SomeError("secret: 12345")
        return {
            "exits": lambda: sys.exit(3),
            "list": scores.tolist,
            "float": lambda: scores.astype(float),
            "short": lambda: scores[1:],
            "matrix": lambda: scores[:, None],
            "none": lambda: None,
        }.get(self.trouble, lambda: scores)()


def table(trouble="", **parameters):
    return Table(vocab_size=VOCAB, trouble=trouble, **parameters)


USES = {
    "score": lambda scheme: rs.score(TEXT, scheme, threads=4),
    "context": lambda scheme: rs.score(TEXT, scheme, dedup="context"),
    "many": lambda scheme: rs.Scorer([table(key=1), scheme, table(key=2)], threads=4),
    "weights": lambda scheme: weighted(scheme),  # noqa: PLW0108 -- defined below
    "documents": lambda scheme: rs.score_documents(np.split(TEXT, 10), scheme),
    "positions": lambda scheme: rs.score_positions(TEXT, scheme),
    "scores": lambda scheme: scheme.scores(np.column_stack([TEXT, TEXT])),
    "green_mask": lambda scheme: scheme.green_mask([[77]]),
    "spilled": lambda scheme: rs.score(TEXT, scheme, memory="64MiB"),
}


def weighted(scheme):
    scorer = rs.Scorer(scheme)
    scorer.add(TEXT, weights=np.ones(len(TEXT)))
    return scorer.result()


def use(name, scheme):
    found = USES[name](scheme)
    if isinstance(found, rs.Scorer):
        found.add(TEXT)
        found.results()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", USES)
def test_an_exception_surfaces_with_its_cause(name):
    use(name, table())
    message = '^compute_scores of scheme "table" raised SomeError$'
    with pytest.raises(SchemeError, match=message) as caught:
        use(name, table("raises"))
    assert isinstance(caught.value.__cause__, SomeError)
    assert caught.value.__cause__.__traceback__ is not None
    assert "12345" not in str(caught.value)  # its text was not written with keys in mind


@pytest.mark.parametrize(
    ("trouble", "form"),
    [
        ("list", "list"),
        ("float", r"float64 \[3\]"),
        ("short", r"bool \[2\]"),
        ("matrix", r"bool \[3, 1\]"),
        ("none", "NoneType"),
    ],
)
def test_an_answer_of_the_wrong_form(trouble, form):
    message = (
        rf"compute_scores of scheme \"table\" must return a bool array, shape \(n,\), not {form}"
    )
    with pytest.raises(SchemeError, match=message):
        table(trouble).scores([[1, 2], [3, 4], [5, 6]])


def test_what_is_no_exception_of_the_usual_kind_goes_through():
    with pytest.raises(SystemExit):
        rs.score(TEXT, table("exits"), threads=2)


@pytest.mark.timeout(60)
def test_a_scorer_stays_broken_and_the_scheme_does_not(tmp_path):
    scheme = table("raises")
    scorer = rs.Scorer(scheme, threads=3)
    scorer.add(TEXT)
    for again in (
        scorer.tally,
        scorer.tallies,
        scorer.results,
        lambda: scorer.add([1, 2, 3]),
        lambda: scorer.save(tmp_path / "state"),
        lambda: rs.Scorer(scheme).merge(scorer),
        lambda: scorer.merge(rs.Scorer(scheme)),
    ):
        with pytest.raises(SchemeError, match="raised SomeError"):
            again()
    assert not (tmp_path / "state").exists()
    assert scheme.scores([[1, 2]]).shape == (1,)
    assert rs.score(TEXT[TEXT != 77], scheme).n_scored > 9000


@pytest.mark.timeout(60)
def test_a_table_of_what_documents_share_forgets_what_failed():
    scheme, documents = table("raises"), [TEXT[:100], [1, 77, 2], TEXT[:100]]
    sharing = _core.Sharing(8)
    from radscore.scoring.per_document import score_batch

    options = {"prompts": None, "filter": None, "start": None, "threads": 2, "max_sharing": 8}
    options |= {"prompt_role": "exclude", "max_contexts": None, "sharing": sharing}
    with pytest.raises(SchemeError, match="raised SomeError"):
        score_batch(documents, scheme, dedup="unit", **options)
    assert sharing.n_documents == 0
    clean = [document[document != 77] for document in map(np.asarray, documents)]
    found = score_batch(clean, scheme, dedup="unit", **options)
    assert found.n_common.tolist()[:1] == [0]


@dataclass(frozen=True, kw_only=True, repr=False)
class Real(Table):
    """Scores that are real numbers; the value that `trouble` names is among them."""

    name = "real"
    score_kind = "real"
    null_law = ExponentialLaw()

    def compute_scores(self, windows):
        scores = np.random.default_rng(self.key).exponential(size=len(windows))
        if self.trouble:
            scores[0] = float(self.trouble)
        return scores

    def compute_uniforms(self, contexts):
        uniforms = np.full((len(contexts), self.vocab_size), 0.5)
        uniforms[0, 0] = float(self.trouble or 0.5)
        return uniforms


@pytest.mark.parametrize("trouble", ["nan", "inf", "-inf"])
def test_scores_that_are_no_numbers(trouble):
    scheme = Real(vocab_size=VOCAB, trouble=trouble)
    with pytest.raises(SchemeError, match="must return a float64 array of finite numbers"):
        rs.score(TEXT, scheme)
    with pytest.raises(
        SchemeError, match="must return a float64 array of numbers from 0 to below 1"
    ):
        scheme.uniforms([[3]])
    with pytest.raises(SchemeError, match='scheme "real" has no green lists'):
        scheme.green_mask([[3]])
    with pytest.raises(SchemeError, match='scheme "real" has no g-values'):
        scheme.g_values([[3]])
    assert Real(vocab_size=VOCAB).uniforms([[3]]).tolist() == [[0.5] * VOCAB]


@pytest.mark.parametrize("high", [0, 2**63 - 1, 2**63])
def test_units_of_127_bits(high):
    """Windows of one unit count once; the core makes use of the 128th bit itself."""

    class Pairs(Table):
        def compute_units(self, windows):
            pairs = np.zeros((len(windows), 2), dtype=np.uint64)
            pairs[:, 0], pairs[:, 1] = high, windows[:, 0]
            return pairs

    scheme = Pairs(vocab_size=VOCAB)
    if high < 2**63:
        assert rs.score(TEXT, scheme, threads=3).n_scored == VOCAB
        return
    with pytest.raises(
        SchemeError, match=r"compute_units .* with high words below 2\^63 first, not"
    ):
        rs.score(TEXT, scheme)


SHAPE = {
    "name": "x",
    "vocab_size": 100,
    "window_width": 2,
    "score_kind": "green",
    "depth": 0,
    "share": (1, 2),
    "seed_kind": "context",
    "least_own": 1,
    "padding": None,
    "reaches_prompt": True,
}


class Bare:
    def compute_scores(self, windows):
        return np.zeros(len(windows), dtype=bool)


class Keyless(Bare):
    def compute_keyless(self, windows):
        return np.zeros(len(windows), dtype=bool)


@pytest.mark.parametrize(
    ("functions", "changed", "error", "message"),
    [
        (object, {}, SchemeError, 'scheme "x" needs a method compute_scores'),
        (Keyless, {}, SchemeError, "needs a method compute_units beside compute_keyless"),
        (Bare, {"vocab_size": 1}, SchemeError, "vocab_size must be from 2 to 1048576, not 1"),
        (Bare, {"window_width": 1}, SchemeError, "window_width must be from 2 to 65, not 1"),
        (Bare, {"share": None}, SchemeError, "needs a share strictly between 0 and 1"),
        (Bare, {"share": (2, 2)}, SchemeError, "needs a share strictly between 0 and 1"),
        (Bare, {"seed_kind": "hash"}, SchemeError, "needs a method compute_seeds"),
        (Bare, {"seed_kind": "target"}, SchemeError, "needs a method compute_units"),
        (Bare, {"least_own": 2}, SchemeError, "needs a least_own below window_width"),
        (Bare, {"seed_kind": "salt"}, ArgumentError, 'keyed hash or target, not "salt"'),
        (Bare, {"score_kind": "blue"}, ArgumentError, 'green, real or depths, not "blue"'),
        (Bare, {"score_kind": "depths"}, ArgumentError, "depth must be from 1 to 64, not 0"),
        (Bare, {"padding": 100}, ArgumentError, "padding must be -1 or an id below vocab_size"),
    ],
)
def test_shapes_that_do_not_fit(functions, changed, error, message):
    with pytest.raises(error, match=message):
        _core.Scheme.python(functions(), **(SHAPE | changed))
    assert _core.Scheme.python(Bare(), **SHAPE).vocab_size == 100


SLOW = """
import os, signal, sys, threading, time
sys.path.insert(0, {folder!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import radscore as rs
from test_python_schemes import Table, TEXT

class Slow(Table):
    def compute_scores(self, windows):
        for _ in range(len(windows)):
            time.sleep(2e-3)  # 20 s for all of them
        return super().compute_scores(windows)

threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
scorer = rs.Scorer(Slow(vocab_size=100), threads=4)
start = time.monotonic()
try:
    scorer.add(TEXT)
    scorer.result()
except KeyboardInterrupt:
    print("stopped after", time.monotonic() - start)
"""


@pytest.mark.timeout(120)
def test_ctrl_c_stops_slow_code():
    """Whatever a window costs: what was not known at first is measured."""
    from pathlib import Path

    code = SLOW.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.startswith("stopped after "), done.stderr
    assert float(done.stdout.split()[-1]) < 8


@pytest.mark.timeout(60)
def test_other_threads_run_meanwhile_and_may_score_too():
    """The interpreter's lock is held within the calls alone, and nobody waits for ever."""
    results, expected = [], rs.score(TEXT, table())

    def score():
        results.append(rs.score(TEXT, table(), threads=3))

    class Nested(Table):
        def compute_scores(self, windows):
            rs.score(TEXT[:500], table(), threads=2)
            return super().compute_scores(windows)

    workers = [threading.Thread(target=score) for _ in range(4)]
    for worker in workers:
        worker.start()
    nested = rs.score(TEXT, Nested(vocab_size=VOCAB), threads=4)
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.01)
    assert [result.n_green for result in (*results, nested)] == [expected.n_green] * 5
