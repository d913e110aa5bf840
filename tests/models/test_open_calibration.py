"""Under random keys the p-values of an open model's test hold; the check finds planted mistakes.

One network with random weights reads one repetitive text; the same weighted pairs are scored under
many keys at once. A count of predictions is a whole number, so its p-value is spread uniformly
over its own step.
"""

import numpy as np
import pytest
import radscore as rs
from radscore.audits.open import _Evidence
from radscore.models import Weighting, as_language_model
from radscore.models.live import Reading
from radscore.scoring.contexts import Contexts
from scipy.stats import binom, kstest
from tiny import VOCAB, tiny_llama

N_KEYS = 600
#: A right law fails at this level once in ten thousand seeds; seeds are fixed.
LEVEL = 1e-4
SCHEMES = {
    "keyed": rs.Keyed(vocab_size=VOCAB, key=bytes(16), gamma=0.25, context_width=1),
    "authors' hash": rs.KGW(vocab_size=VOCAB, gamma=0.25, context_width=2, seeding="hash", seed=1),
    "vLLM": rs.VLLMGumbel(vocab_size=VOCAB, key=1, context_width=1),
}


@pytest.fixture(scope="module")
def text():
    """Documents that repeat themselves and each other, by Zipf's law."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 41)
    names = rng.permutation(VOCAB)[:40]
    return [rng.choice(names, size=60, p=chances / chances.sum()) for _ in range(12)]


def reading(text, scheme, kind, **options):
    # predictions that are not flat, and alike after equal contexts: as models' are
    model = as_language_model(tiny_llama(scale=6.0))
    return Reading(
        model,
        text,
        context_width=scheme.window_width - 1,
        weighting=Weighting(kind, max_weights=6),
        reference=as_language_model(tiny_llama(seed=1)) if kind == "contrast" else None,
        **options,
    )


def spread(pvalues_at, pvalues_above):
    """Uniform where the law is exact: each p-value somewhere on its own step."""
    draw = np.random.default_rng(1).random(len(pvalues_at))
    return pvalues_above + draw * (pvalues_at - pvalues_above)


@pytest.mark.parametrize("chosen", [False, True])
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["prediction", "mass", "contrast"])
def test_pvalues_hold(text, name, kind, chosen):
    scheme = SCHEMES[name]
    contexts = None
    if chosen:  # the frequent half of what is read, which tells nothing of the key
        width = scheme.window_width - 1
        counts = rs.KgramCounts(width, VOCAB, watermarked=False)
        counts.add(text)
        contexts = Contexts(counts.top(len(counts) // 2), width)
    source = reading(text, scheme, kind, contexts=contexts)
    rest = {"seed": 0, "threads": None, "limits": {"memory": None, "tmp": None}}
    evidence = _Evidence(scheme, source.header, None, decoys=N_KEYS - 1, **rest)
    for pairs in source:
        evidence.add(pairs)
    # few draws are valid too; lists, which differ from key to key, are drawn in tests/stats
    results = evidence.decoys.results(draws=0 if name == "authors' hash" else 50)
    valid = 10.0 ** np.array([one.log10_pvalue for one in results])
    for level in (0.5, 0.1, 0.02):
        # more below the level than a true p-value has once in ten thousand
        assert (valid <= level).sum() <= binom.isf(LEVEL, N_KEYS, level)
    assert (valid < 1).mean() > 0.2
    if kind == "prediction" and name != "vLLM":
        law = scheme.null_law
        above = [10.0 ** float(law.log10_sf(one.statistic + 1, one.n_scored)) for one in results]
        uniform = spread(valid, np.array(above))
    elif kind == "prediction":
        uniform = valid
    else:
        uniform = 10.0 ** np.array([one.weighted.log10_normal for one in results])
    # green lists are drawn without replacement, so a plain count of them varies a little less
    assert kstest(uniform, "uniform").pvalue > LEVEL


@pytest.mark.parametrize("kind", ["prediction", "mass"])
def test_counting_repetitions_is_found_out(text, kind):
    scheme = SCHEMES["keyed"]
    schemes = [scheme, *scheme.decoys(N_KEYS - 1)]
    honest, wrong = [], []
    for pairs in reading(text, scheme, "mass"):
        best = np.ones(len(pairs), bool)
        if kind == "prediction":  # the largest mass of each place, at every place: no rule 4
            order = np.lexsort((-pairs.weights, pairs.occurrences))
            best = np.zeros(len(pairs), bool)
            best[order[np.unique(pairs.occurrences[order], return_index=True)[1]]] = True
        windows = np.column_stack([pairs.contexts, pairs.targets])[best]
        weights = np.ones(best.sum()) if kind == "prediction" else pairs.weights[best]
        lines, first = np.unique(windows, axis=0, return_inverse=True)
        summed = np.bincount(first.reshape(-1), weights=weights)
        if kind == "prediction":
            summed[:] = 1.0
        for one in schemes:
            scores = one.scores(lines).astype(float) - 0.25
            each = scores[first.reshape(-1)]
            honest.append((summed @ scores) / np.sqrt(0.1875 * (summed**2).sum()))
            # as if every place were evidence of its own
            wrong.append((weights @ each) / np.sqrt(0.1875 * (weights**2).sum()))
    from scipy.stats import norm

    assert len(honest) == N_KEYS
    assert kstest(norm.sf(honest), "uniform").pvalue > LEVEL
    assert kstest(norm.sf(wrong), "uniform").pvalue < LEVEL
