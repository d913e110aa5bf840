"""A header that many documents share does not let one unlucky key find them all."""

import os

import numpy as np
import pytest
import radscore as rs
from scipy.stats import binomtest

FULL = os.environ.get("RADSCORE_CALIBRATE") == "full"
N_DOCUMENTS, N_KEYS = (1000, 300) if FULL else (200, 100)
VOCAB, HEADER, BODY, LEVEL = 5000, 80, 60, 0.05


def words(rng, shape):
    """Ids as frequent as words are, so that documents share single units as well."""
    ranks = np.arange(1, VOCAB + 1)
    return rng.choice(VOCAB, size=shape, p=1 / ranks / (1 / ranks).sum())


@pytest.fixture(scope="module")
def header():
    return np.random.default_rng(11).integers(0, VOCAB, HEADER)


@pytest.fixture(scope="module")
def keys():
    scheme = rs.Keyed(key=bytes(16), vocab_size=VOCAB, gamma=0.25, context_width=1)
    return scheme.decoys(4000, seed=4)


@pytest.fixture(scope="module")
def found(header, keys):
    """How many documents are found, which nothing marked, under a key and a rule."""
    bodies = words(np.random.default_rng(12), (N_DOCUMENTS, BODY))
    documents = rs.Documents.of([np.concatenate([header, body]) for body in bodies])

    def count(key, most):
        scores = rs.score_documents(documents, key, max_sharing=most)
        return scores.false_discovery(LEVEL).n_rejected

    return count


def test_the_unluckiest_of_many_keys_finds_a_crowd_only_where_all_documents_count(
    found, header, keys
):
    worst = max(keys, key=lambda key: rs.score_documents([header], key).statistic[0])
    assert found(worst, None) > N_DOCUMENTS / 2
    assert found(worst, 8) <= 10
    assert found(worst, 1) <= 3


@pytest.mark.parametrize("most", [8, 1])
def test_shared_evidence_is_found_a_few_times_at_most(found, keys, most):
    numbers = np.array([found(key, most) for key in keys[:N_KEYS]])
    assert numbers.max() <= 8
    interval = binomtest(int((numbers > 0).sum()), N_KEYS).proportion_ci(0.999)
    assert interval.low <= LEVEL


#: Of the second, which windows are one unit depends on the key.
SCHEMES = {
    "keyed": rs.Keyed(key=bytes(16), vocab_size=VOCAB, gamma=0.25, context_width=1),
    "minimum of hashes": rs.SBW(vocab_size=VOCAB, key=1, gamma=0.25),
}


@pytest.mark.parametrize("most", [8, 1])
@pytest.mark.parametrize("name", SCHEMES)
def test_each_document_keeps_its_law(header, name, most):
    """Over keys small p-values are no more frequent than they say: the law of what is kept."""
    bodies = words(np.random.default_rng(13), (12, BODY))
    documents = [np.concatenate([header, body]) for body in bodies]
    n_keys = 4000 if FULL else 1000
    keys = SCHEMES[name].decoys(n_keys, seed=5)
    p = np.array([rs.score_documents(documents, key, max_sharing=most).pvalue for key in keys])
    for level in (0.05, 0.01, 0.001):
        for column in p.T:
            reached = int((column <= level).sum())
            assert binomtest(reached, n_keys).proportion_ci(0.9999).low <= level
