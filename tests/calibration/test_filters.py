"""Which contexts of watermarked text come again depends on the key; whether they come does not."""

import numpy as np
import pytest
import radscore as rs
from radscore.audits.closed import test_closed as closed

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
    found = {"most frequent": [], "65 times": [], "all": []}
    for scheme in first.decoys(N_KEYS, seed=5):
        green = scheme.green_mask(np.arange(VOCAB)[:, None])
        marked = written(rng, 150, 40, green)
        answers = written(rng, 150, 40)
        counts = rs.KgramCounts(1, VOCAB, watermarked=True)
        counts.add(marked)
        filters = {
            "most frequent": counts.top(VOCAB // 4),
            "65 times": counts.top(min_count=65),
            "all": counts.top(),
        }
        for name, phi in filters.items():
            result = closed(answers, scheme, filter=phi, weighting="counts", transform="count")
            assert np.isnan(result.log10_pvalue) == (name != "all")
            kept = [kgram for (kgram,) in phi]
            units = np.unique(answers[:, :-1].ravel() * VOCAB + answers[:, 1:].ravel())
            units = units[np.isin(units // VOCAB, kept)]
            greens = green[units // VOCAB, units % VOCAB]
            values = found[name]
            values.append((greens.mean() - 0.25) / np.sqrt(0.1875 / len(greens)))
    return {name: np.mean(z) for name, z in found.items()}


def test_the_most_frequent_contexts_of_watermarked_text_are_greener_than_chance(zscores):
    assert zscores["most frequent"] > 1
    assert zscores["65 times"] > 1  # a least count is a choice too
    assert abs(zscores["all"]) < 4 / np.sqrt(N_KEYS)


def test_decoys_take_the_better_of_both_tests_under_each_key():
    """Under H0 the rank among decoys is uniform although the better of two tests was taken."""
    rng = np.random.default_rng(8)
    first = rs.Keyed(key=bytes(16), vocab_size=VOCAB, gamma=0.25, context_width=1)
    ranks = []
    phi = rs.KgramSet.from_documents([np.arange(VOCAB // 2)], 1, VOCAB, watermarked=False)
    for scheme in first.decoys(250, seed=9):
        answers = rng.integers(0, VOCAB, (6, 30))
        seed = int(rng.integers(2**32))
        result = closed(answers, scheme, filter=phi, both=True, decoys=9, decoy_seed=seed)
        ranks.append(result.decoys.pvalue)
    share = np.mean(np.array(ranks) <= 0.2)
    assert abs(share - 0.2) < 3.5 * np.sqrt(0.2 * 0.8 / len(ranks))
    assert share <= 0.29
