"""Under H0 the membership test keeps its level, however alike the sentences of a document are."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from radscore.audits.membership import test_membership as membership
from radscore.models.loading import LanguageModel
from radscore.models.losses import document_losses
from radscore.stats.smirnov import smirnov_test
from tiny import VOCAB, tiny_llama

N_SPLITS = 10_000 if os.environ.get("RADSCORE_CALIBRATE") == "full" else 1000
N_DOCUMENTS, N_SENTENCES, LENGTH, N_MEMBERS = 100, 8, 16, 40
LEVELS = (0.05, 0.01, 0.001)


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny_llama(scale=2.0), None, "random", VOCAB, 256)


@pytest.fixture(scope="module")
def documents():
    """Documents of few words each, so that all of their sentences are alike."""
    rng = np.random.default_rng(21)
    words = rng.integers(0, VOCAB, (N_DOCUMENTS, 4))
    chosen = rng.integers(0, 4, (N_DOCUMENTS, N_SENTENCES * LENGTH))
    return np.take_along_axis(words, chosen, axis=1)


@pytest.fixture(scope="module")
def losses(model, documents):
    return document_losses(model, documents.reshape(-1, LENGTH)).reshape(N_DOCUMENTS, -1)


def splits(losses, n):
    """Random members and non-members among documents that the model has never seen."""
    rng = np.random.default_rng(22)
    for _ in range(n):
        order = rng.permutation(len(losses))
        yield order[:N_MEMBERS], order[N_MEMBERS:]


def test_documents_keep_every_level(losses):
    p = [smirnov_test(*(losses[i].mean(1) for i in two)).pvalue for two in splits(losses, N_SPLITS)]
    for level in LEVELS:
        reached = sum(x <= level for x in p)
        assert binomtest(reached, N_SPLITS).proportion_ci(0.999).low <= level
    assert np.median(p) < 0.75  # it is a test, not the constant 1


def test_sentences_would_not(losses):
    p = [smirnov_test(*(losses[i].ravel() for i in two)).pvalue for two in splits(losses, 100)]
    for level in LEVELS:
        assert binomtest(sum(x <= level for x in p), 100).proportion_ci(0.999).low > level


def test_these_are_the_tests_pvalues(model, documents, losses):
    for one, other in splits(losses, 3):
        sides = (model, documents[one], documents[other])
        result = membership(*sides, length=LENGTH, calibration="none")
        expected = smirnov_test(losses[one].mean(1), losses[other].mean(1))
        assert result.log10_pvalue == pytest.approx(expected.log10_pvalue, abs=1e-9)
        by_sentence = membership(*sides, length=LENGTH, calibration="none", unit="sentence")
        assert np.isnan(by_sentence.log10_pvalue)
