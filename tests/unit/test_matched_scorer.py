"""`MatchedScorer`: rows by seed, whatever the portions; planted marks are found."""

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, TokenError
from radscore.scoring import MatchedScorer

from tests.twin.marking import watermarked
from tests.twin.schemes.families import FAMILIES, family_of

PADDING = 0xFFFF_FFFF
TWINS = [
    twin
    for family in FAMILIES.values()
    for twin in family.examples
    if twin.kind in {"gumbel", "depths"}
]


@st.composite
def pairs(draw, twin):
    """Pairs over few tokens, so that contexts and seeds come again."""
    token = st.integers(0, 3)
    context = st.lists(token, min_size=twin.window_width - 1, max_size=twin.window_width - 1)
    number = st.integers(-8, 8).map(lambda x: x / 8)
    chance = st.sampled_from([0.0, 2.0**-10, 0.125, 0.25, 0.5])
    one = st.tuples(context, st.integers(0, 9), number, chance)
    return draw(st.lists(one, min_size=1, max_size=60))


def arrays(found, width):
    contexts = np.array([c for c, *_ in found], dtype=np.int64).reshape(-1, width)
    targets, gains, q = (np.array([one[i] for one in found]) for i in (1, 2, 3))
    return contexts, targets, gains, q


def oracle(twin, found):
    """The excess, row by row, in plain Python."""
    rows = {}
    for listed, target, gain, q in sorted(found, key=lambda one: one[0]):
        context = tuple(listed)
        if twin.keyless((*context, 0)):
            continue
        seed = twin.context_seed((*context, 0))
        same = (seed, twin.unit((*context, 0))) if seed is not None else context
        if seed is not None and any(
            twin.shares_draws(seed, other[0]) for other in rows if other != same
        ):
            continue
        row = rows.setdefault(same, (context, {}))[1]
        w, p = row.get(target, (0.0, 0.0))
        row[target] = w + gain, p + q
    total = 0.0
    for context, row in rows.values():
        tokens = sorted(row)
        q = [row[token][1] for token in tokens]
        if sum(q):
            p = watermarked(twin, context, tokens, q, 0.0)
            total += sum(
                row[t][0] * (one - base / sum(q)) for t, one, base in zip(tokens, p, q, strict=True)
            )
    return total


@pytest.mark.parametrize("twin", TWINS, ids=repr)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_sums_are_those_of_the_twin(twin, data):
    scheme = family_of(twin).public(twin)
    found = data.draw(pairs(twin))
    columns = arrays(found, twin.window_width - 1)
    scorer = MatchedScorer(scheme)
    scorer.add_pairs(*columns)
    if not scorer.tally().n_scored:
        with pytest.raises(TokenError, match="nothing was scored"):
            scorer.result()
        return
    result = scorer.result()
    assert result.statistic == pytest.approx(oracle(twin, found), abs=1e-6)
    # in any order and portions
    order = np.array(data.draw(st.permutations(range(len(found)))))
    cut = data.draw(st.integers(0, len(found)))
    other = MatchedScorer(scheme, threads=2)
    for part in (order[:cut], order[cut:]):
        other.add_pairs(*(column[part] for column in columns))
    again = other.result()
    assert (again.statistic, again.n_scored) == (result.statistic, result.n_scored)
    assert again.log10_pvalue == result.log10_pvalue or np.isnan(result.log10_pvalue)


SCHEMES = {
    "vllm": rs.VLLMGumbel(vocab_size=64, key=5, context_width=2),
    "vllm dual": rs.VLLMDualKeyGumbel(vocab_size=64, key=5, context_width=2, alpha=0.3),
    "sglang": rs.SGLangGumbel(vocab_size=64, key=5, context_width=2),
    "authors": rs.GumbelMax(vocab_size=64, seed=5, context_width=2),
    "keyed gumbel": rs.Keyed(vocab_size=64, key=bytes(16), context_width=2, method="gumbel"),
    "deepmind": rs.SynthIDDeepMind(vocab_size=64, keys=tuple(range(12)), context_width=2),
    "keyed": rs.Keyed(vocab_size=64, key=bytes(16), context_width=2, gamma=0.25),
}


def reading(scheme, learned, n=400, places=3, seed=0):
    """What is read of a suspect that has learned so much of the mark, with noise."""
    rng = np.random.default_rng(seed)
    contexts = np.repeat(rng.integers(1, 64, (n, 2)), places, axis=0)
    base = np.repeat(rng.dirichlet(np.full(64, 0.1), n), places, axis=0)
    q = base * np.exp(0.3 * rng.normal(size=base.shape))
    q /= q.sum(1, keepdims=True)
    rows = (np.arange(0, base.size + 1, 64), np.tile(np.arange(64, dtype=np.uint32), len(base)))
    marked = scheme.core.watermarked(contexts, (*rows, base.ravel()), 2.0).reshape(base.shape)
    p = (1 - learned) * q * np.exp(0.5 * rng.normal(size=q.shape)) + learned * marked
    p /= p.sum(1, keepdims=True)
    gains = (p - q) / (p + q + 0.01)
    pair = np.repeat(contexts, 64, axis=0), np.tile(np.arange(64), len(base))
    return *pair, gains.ravel(), q.ravel()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_learned_mark_is_found(name):
    scheme = SCHEMES[name]
    scorer = MatchedScorer([scheme, *scheme.decoys(20)])
    scorer.add_pairs(*reading(scheme, 0.1))
    result = scorer.results(1)[0]
    assert result.log10_pvalue < -6
    assert result.weighted.log10_normal < -6
    assert result.fingerprint == scheme.fingerprint
    assert result.provenance["scheme"] == scheme.fingerprint or result.provenance
    decoys = scorer.decoy_test()
    assert (decoys.n_decoys, decoys.n_reached) == (20, 0)
    assert abs(decoys.mean) < 1
    assert decoys.standard_deviation < 2
    clean = MatchedScorer(scheme)
    clean.add_pairs(*reading(scheme, 0.0))
    assert clean.result().weighted.log10_bound > -2.5
    strict = MatchedScorer(scheme, predictable=True)
    strict.add_pairs(*reading(scheme, 0.1, places=1))
    late = strict.result()
    assert late.method.removeprefix("approximate: ").startswith("martingale bound")
    assert late.log10_pvalue < -2


def test_places_without_a_list_and_tokens_without_gain():
    scheme = SCHEMES["vllm"]
    scorer = MatchedScorer(scheme)
    # a token without gain can win, and then nothing is gained
    contexts = np.array([[1, 2], [1, 2], [3, 4]])
    scorer.add_pairs(contexts, [5, 6, 7], [1.0, 0.0, 1.0], [0.5, 0.5, 0.0])
    result = scorer.result()
    assert result.n_scored == 2
    assert abs(result.statistic) == 0.5
    assert result.n_windows == 3


@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        (rs.SynthID(vocab_size=64, keys=tuple(range(8)), context_width=2), "no seed is known"),
        (rs.TextSeal(vocab_size=64, key=4, context_width=2, method="gumbel"), "coarse grid"),
    ],
)
def test_no_pvalue_where_none_is_valid(scheme, why):
    scorer = MatchedScorer([scheme, *scheme.decoys(9)])
    scorer.add_pairs(*reading(scheme, 0.3))
    result = scorer.results(1)[0]
    assert np.isnan(result.log10_pvalue)
    assert why in result.method
    assert scorer.decoy_test().n_reached == 0


def test_padding_is_one_token_however_it_is_written():
    scheme = SCHEMES["vllm"]
    found = []
    for padding in (-1, PADDING):
        scorer = MatchedScorer(scheme)
        scorer.add_pairs(np.array([[padding, 3]] * 3), [1, 2, 3], [0.5, 0, 0.25], [0.2, 0.3, 0.1])
        found.append(scorer.result().statistic)
    assert found[0] == found[1]


def test_contexts_that_share_a_seed_are_one_row():
    scheme = rs.GumbelMax(vocab_size=64, seeding="additive", context_width=2, hash_key=15485863)
    scorer = MatchedScorer(scheme)
    contexts = np.repeat([[3, 4], [4, 3], [2, 5], [9, 9]], 3, axis=0)
    scorer.add_pairs(
        contexts, np.tile([1, 2, 3], 4), np.tile([1.0, 0, 0], 4), np.tile([0.2, 0.3, 0.5], 4)
    )
    result = scorer.result()
    assert result.weighted.n_seeds == 2
    assert result.n_scored == 6


def test_what_does_not_fit_is_refused():
    scheme = SCHEMES["vllm"]
    scorer = MatchedScorer(scheme)

    def call(error, match, *, contexts=((1, 2),), targets=(3,), gains=(0.5,), q=(0.5,)):
        with pytest.raises(error, match=match):
            scorer.add_pairs(np.array(contexts), np.array(targets), gains, q)

    call(ArgumentError, "contexts must have 2 tokens", contexts=[[1, 2, 3]])
    call(ArgumentError, "contexts must be 2-D integers", contexts=[[0.5, 1]])
    call(ArgumentError, "one row per pair", targets=[3, 4])
    call(ArgumentError, "within -1024 to 1024", gains=[np.nan])
    call(ArgumentError, "within -1024 to 1024", gains=[2000.0])
    call(ArgumentError, "q must hold probabilities", q=[1.1])
    call(ArgumentError, "q must hold probabilities", q=[-0.1])
    call(TokenError, "target 64 is outside the vocabulary of 64", targets=[64])
    call(TokenError, "contexts hold", contexts=[[-2, 1]])
    assert scorer.tally().n_scored == 0
    with pytest.raises(TokenError, match="there are no pairs"):
        scorer.result()
    with pytest.raises(ArgumentError, match="one context width"):
        MatchedScorer([scheme, rs.VLLMGumbel(vocab_size=64, key=5, context_width=3)])
    with pytest.raises(ArgumentError, match="use results"):
        MatchedScorer([scheme, *scheme.decoys(1)]).result()
    with pytest.raises(ArgumentError, match="decoy test needs"):
        MatchedScorer(scheme).decoy_test()
