"""Calls of the scorer that make no sense: errors of radscore, never a panic or a number."""

import numpy as np
import pytest
import radscore as rs
from radscore.errors import RadscoreError

SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=100, gamma=0.25, context_width=2)
DOCS = [[1, 2, 3, 4], [5, 6, 7]]
MANY = 2**62


@pytest.mark.parametrize(
    "documents",
    [
        [[1, 2, 100]],
        [[1, 2, -1]],
        [[1, 2, 2**32 + 1]],
        [[1, 2, 2**63]],
        np.array([1, 2, 2**64 - 1], dtype=np.uint64),
        np.array([1, 2, -128], dtype=np.int8),
        np.ones((2, 3)),
        "text",
        None,
    ],
    ids=str,
)
def test_documents_outside_the_vocabulary(documents):
    scorer = rs.Scorer(SCHEME)
    scorer.add(DOCS)
    before = scorer.tally()
    with pytest.raises(RadscoreError):
        scorer.add(documents)
    assert scorer.tally() == before  # nothing of it was taken
    with pytest.raises(RadscoreError):
        rs.score_documents(documents, SCHEME)
    with pytest.raises(RadscoreError):
        rs.KgramCounts(2, 100).add(documents)


@pytest.mark.parametrize(
    "arguments",
    [
        {"dedup": "all"},
        {"dedup": None},
        {"filter": {(1, 2)}},
        {"filter": rs.KgramSet.from_kgrams([[1]], vocab_size=100)},
        {"filter": rs.KgramSet.from_kgrams([[1, 2]], vocab_size=99)},
        {"start": -1},
        {"start": 2.0},
        {"start": True},
        {"threads": 0},
        {"threads": -1},
        {"threads": 10**9},
        {"combine": "mean"},
        {"prompt_role": "ignore"},
        {"curve": [0]},
        {"curve": [2.5]},
    ],
    ids=str,
)
def test_rules_that_do_not_exist(arguments):
    with pytest.raises((RadscoreError, TypeError)) as caught:
        rs.Scorer(SCHEME, **arguments)
    assert "panic" not in str(caught.value).lower()


@pytest.mark.parametrize("schemes", [[], [None], "keyed", None, [SCHEME, 5]], ids=str)
def test_schemes_that_are_none(schemes):
    with pytest.raises((RadscoreError, TypeError)):
        rs.Scorer(schemes)


def test_schemes_of_different_vocabularies():
    other = rs.Keyed(key=bytes(16), vocab_size=101)
    with pytest.raises(RadscoreError, match="vocab"):
        rs.Scorer([SCHEME, other])


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        np.ones(8),
        [np.nan] * 7,
        [np.inf] * 7,
        [-np.inf] * 7,
        ["a"] * 7,
        [[1.0] * 7],
        np.ones((7, 1)),
        [1j] * 7,
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_weights_that_are_none(weights):
    with pytest.raises(RadscoreError, match="weight"):
        rs.Scorer(SCHEME).add(DOCS, weights=weights)


@pytest.mark.parametrize(
    "prompts", [[[1]], [[1], [2], [3]], [[1], [100]], [[1], [-1]], "ab"], ids=str
)
def test_prompts_that_do_not_fit(prompts):
    for role in ("exclude", "context"):
        with pytest.raises(RadscoreError):
            rs.Scorer(SCHEME, prompt_role=role).add(DOCS, prompts)


@pytest.mark.parametrize(
    ("contexts", "targets"),
    [
        ([[1, 2, 3]], [4]),
        ([[1, 2]], [100]),
        ([[1, -2]], [3]),
        ([[1, 2]], [3, 4]),
        ([1, 2], [3]),
        ([[1.5, 2.0]], [3]),
        ([[True, False]], [True]),
    ],
)
def test_pairs_that_do_not_fit(contexts, targets):
    with pytest.raises(RadscoreError):
        rs.Scorer(SCHEME).add_pairs(contexts, targets)


def test_nothing_is_no_evidence():
    for documents in ([], [[]], [[1, 2]], np.empty((5, 0), dtype=np.int64)):
        with pytest.raises(RadscoreError, match="nothing was scored"):
            rs.score(documents, SCHEME)
    with pytest.raises(RadscoreError, match="no document reaches start"):
        rs.score(DOCS, SCHEME, start=MANY)


@pytest.mark.parametrize("width", [0, -1, 17, 2.0, "2"], ids=str)
def test_widths_of_kgrams(width):
    with pytest.raises(RadscoreError):
        rs.KgramCounts(width, 100)


@pytest.mark.parametrize("vocab_size", [0, -1, 1, 2**20 + 1, "100"], ids=str)
def test_vocabularies_of_kgrams(vocab_size):
    with pytest.raises(RadscoreError):
        rs.KgramCounts(2, vocab_size)


@pytest.mark.parametrize("kgrams", [[[1, 100]], [[1, -1]], [[1], [1, 2]], [["a"]], [[1.0]], [1, 2]])
def test_kgrams_that_are_none(kgrams):
    with pytest.raises(RadscoreError):
        rs.KgramSet.from_kgrams(kgrams, vocab_size=100)
