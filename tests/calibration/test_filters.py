"""Filters from watermarked text are fair where contexts are counted by documents, only then."""

import numpy as np
import pytest
import radscore as rs
from radscore.closed_model import test_closed as closed

VOCAB, N_KEYS, REPEATED = 120, 40, 0.3


def written(rng, n_texts, length, green=None):
    """Texts that often say a token twice; with a green list others are mostly drawn again."""
    texts = [rng.integers(0, VOCAB, n_texts)]

    def draw(before):
        again = rng.random(n_texts) < REPEATED
        return np.where(again, before, rng.integers(0, VOCAB, n_texts))

    while len(texts) < length:
        token = draw(texts[-1])
        if green is not None:
            for _ in range(3):
                token = np.where(green[texts[-1], token], token, draw(texts[-1]))
        texts.append(token)
    return np.stack(texts, axis=1)


@pytest.fixture(scope="module")
def zscores():
    """z of a clean suspect behind each kind of filter, over random keys."""
    rng = np.random.default_rng(3)
    first = rs.Keyed(key=bytes(16), vocab_size=VOCAB, gamma=0.25, context_width=1)
    found = {False: [], True: []}
    for scheme in first.decoys(N_KEYS, seed=5):
        green = scheme.green_mask(np.arange(VOCAB)[:, None])
        marked = written(rng, 150, 40, green)
        answers = written(rng, 150, 40)
        for per_document, values in found.items():
            counts = rs.KgramCounts(1, VOCAB)
            counts.add(marked, per_document=per_document)
            result = closed(
                answers,
                scheme,
                filter=counts.top(VOCAB // 4),
                weighting="counts",
                transform="count",
            )
            values.append(result.score.zscore)
    return {name: np.mean(z) for name, z in found.items()}


def test_the_most_frequent_contexts_of_watermarked_text_are_greener_than_chance(zscores):
    assert zscores[False] > 2


def test_counted_by_documents_they_are_not(zscores):
    assert abs(zscores[True]) < 4 / np.sqrt(N_KEYS)


def test_the_result_says_what_a_filter_must_be():
    scheme = rs.Keyed(key=bytes(16), vocab_size=9, gamma=0.25, context_width=1)
    result = closed([[1, 2, 3]], scheme, filter=rs.KgramSet.from_documents([[1, 2]], 1, 9))
    assert any("must be counted by documents" in note for note in result.notes)


def test_decoys_take_the_better_of_both_tests_under_each_key():
    """Under H0 the rank among decoys is uniform although the better of two tests was taken."""
    rng = np.random.default_rng(8)
    first = rs.Keyed(key=bytes(16), vocab_size=VOCAB, gamma=0.25, context_width=1)
    ranks = []
    phi = rs.KgramSet.from_documents([np.arange(VOCAB // 2)], 1, VOCAB)
    for scheme in first.decoys(250, seed=9):
        answers = rng.integers(0, VOCAB, (6, 30))
        seed = int(rng.integers(2**32))
        result = closed(answers, scheme, filter=phi, both=True, decoys=9, decoy_seed=seed)
        ranks.append(result.decoys.pvalue)
    share = np.mean(np.array(ranks) <= 0.2)
    assert abs(share - 0.2) < 3.5 * np.sqrt(0.2 * 0.8 / len(ranks))
    assert share <= 0.29
