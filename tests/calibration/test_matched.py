"""Matched scores of suspects that know no key, under many keys; and a mistake that would show."""

import sys
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.scoring import MatchedScorer
from scipy.stats import binom

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

from radscore.models import Weighting, as_language_model
from radscore.models.live import Reading

from tools.calibration.models import Habits, Induction
from tools.calibration.world import SUSPECTS, VOCAB, World, schemes

N_KEYS = 200
CONFIDENCE = 1e-4
LEVELS = (0.05, 0.01, 0.001)
NAMES = ("VLLMGumbel", "VLLMDualKeyGumbel", "GumbelMax", "Keyed, Gumbel", "SynthIDDeepMind")


def read(scheme, suspect, **options):
    """A model that continues what it reads, against one that does not look back."""
    world = World(np.random.default_rng(len(suspect)))
    texts = SUSPECTS[suspect](world, world.text(8, 30), 30)
    reading = Reading(
        as_language_model(Induction.of(VOCAB)),
        [*texts],
        context_width=scheme.window_width - 1,
        weighting=Weighting("matched", max_weights=16, **options),
        reference=as_language_model(Habits.of(world.habits, VOCAB)),
    )
    return list(reading)


def pvalues(keys, portions):
    scorer = MatchedScorer(keys, threads=1)
    for pairs in portions:
        scorer.add_pairs(pairs.contexts, pairs.targets, pairs.weights, pairs.base)
    return scorer, 10.0 ** np.array([one.log10_pvalue for one in scorer.results()])


@pytest.mark.parametrize("suspect", ["copies", "quotes", "continues", "loops"])
@pytest.mark.parametrize("name", NAMES)
def test_levels_are_kept(name, suspect):
    scheme = schemes()[name]
    scorer, found = pvalues(scheme.decoys(N_KEYS, seed=5), read(scheme, suspect))
    for level in LEVELS:
        assert (found <= level).sum() <= binom.isf(CONFIDENCE, N_KEYS, level), level
    assert (found < 1).mean() > 0.2
    # z of all keys: the mean and the variance that the law says
    decoys = scorer.decoy_test()
    assert abs(decoys.mean) < 5 * N_KEYS**-0.5
    assert decoys.standard_deviation < 1.25
    if name != "SynthIDDeepMind":
        assert decoys.standard_deviation > 0.75


def test_places_counted_one_by_one_are_found_out():
    """As if each place had draws of its own: what aggregation by seed prevents."""
    scheme = rs.VLLMGumbel(vocab_size=VOCAB, key=1, context_width=1)
    portions = read(scheme, "copies")
    keys = scheme.decoys(N_KEYS, seed=5)
    _, honest = pvalues(keys, portions)
    zs = []
    for key in keys:
        total = variance = 0.0
        for pairs in portions:
            _, starts = np.unique(pairs.occurrences, return_index=True)
            offsets = np.append(starts, len(pairs)).astype(np.int64)
            mass = np.add.reduceat(pairs.base, starts)
            q = pairs.base / np.repeat(mass, np.diff(offsets))
            rows = (offsets, pairs.targets.astype(np.uint32), q)
            weights = np.ascontiguousarray(pairs.weights)
            contexts = np.ascontiguousarray(pairs.contexts[starts])
            means = np.add.reduceat(q * weights, starts)
            squares = np.add.reduceat(q * weights**2, starts)
            total += key.core.matched(contexts, rows, weights, 0.0, threads=1) - means.sum()
            variance += float((squares - means**2).sum())
        zs.append(total / variance**0.5)
    assert np.std(zs) > 1.5
    assert (honest <= 0.01).sum() <= binom.isf(CONFIDENCE, N_KEYS, 0.01)
