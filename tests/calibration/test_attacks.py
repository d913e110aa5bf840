"""Text made without the key: where it scores too often, the result says approximate.

Two searches. Whether draws of one key at some distance are correlated, over all distances between
targets after one context, and between contexts before one target. And whether targets that some
keys favour are favoured by other keys too. Both know the vocabulary's size and the tool alone.
"""

import os

import numpy as np
import pytest
import radscore as rs
from scipy.stats import beta

FULL = os.environ.get("RADSCORE_CALIBRATE") == "full"

VOCAB = 2048
COMMON = {"vocab_size": VOCAB, "context_width": 2}
KEYS = tuple(range(101, 117))
#: Schemes that have correlated draws, with the largest correlation between targets at least.
RELATED = {
    "deepmind": (rs.SynthIDDeepMind(keys=KEYS, **COMMON), 0.05),
    "textseal": (rs.TextSeal(key=1, gamma=0.25, **COMMON), 0.2),
}
UNRELATED = {
    "keyed": rs.Keyed(key=bytes(16), gamma=0.25, **COMMON),
    "vllm": rs.VLLMGumbel(key=1, **COMMON),
    "vllm, dual": rs.VLLMDualKeyGumbel(key=1, **COMMON),
    "sglang": rs.SGLangGumbel(key=1, **COMMON),
    "sbw": rs.SBW(key=1, seeding="additive", self_salt=False, gamma=0.25, **COMMON),
    "kgw, additive": rs.KGW(seeding="additive", **COMMON),
    "kgw, multiplicative": rs.KGW(seeding="multiplicative", **COMMON),
    "kgw, position": rs.KGW(seeding="position", **COMMON),
    "kgw, last token": rs.KGW(seeding="last_token", **COMMON),
    "kgw, hash": rs.KGW(seeding="hash", seed=1, **COMMON),
}


def excess(scheme, windows):
    """Scores over their mean, of rows of windows."""
    flat = windows.reshape(-1, windows.shape[-1])
    found = np.asarray(scheme.scores(flat), dtype=float)
    if found.ndim == 2:
        found = found.mean(axis=1)
    law = scheme.null_law
    return (found - law.mean).reshape(windows.shape[:-1])


def largest(scheme, axis):
    """The largest |correlation| over distances, and |z| of it, along targets or contexts."""
    rng = np.random.default_rng(1)
    products, squares, n = np.zeros(VOCAB), 0.0, 0
    for decoy in scheme.decoys(40, seed=2):
        windows = np.empty((10, VOCAB, 3), dtype=np.int64)
        windows[:] = rng.integers(1, VOCAB, (10, 1, 3))
        windows[:, :, axis] = np.arange(VOCAB)
        scores = excess(decoy, windows)
        power = np.abs(np.fft.rfft(scores, 2 * VOCAB, axis=1)) ** 2
        products += np.fft.irfft(power.sum(axis=0), 2 * VOCAB)[:VOCAB]
        squares += float((scores**2).sum())
        n += scores.size
    pairs = 400 * (VOCAB - np.arange(VOCAB))
    correlation = np.abs(products / pairs / (squares / n))[1 : VOCAB - 100]
    z = correlation * np.sqrt(pairs[1 : VOCAB - 100])
    return correlation.max(), z.max()


@pytest.mark.parametrize("name", RELATED)
def test_schemes_with_related_draws_say_so(name):
    scheme, least = RELATED[name]
    correlation, z = largest(scheme, 2)
    assert correlation > least
    assert z > 20
    assert scheme.dependence


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", UNRELATED)
def test_no_distance_relates_draws(name, axis):
    """6 standard deviations among 2,000 distances are no chance."""
    assert largest(UNRELATED[name], axis)[1] < 6


@pytest.mark.parametrize(
    ("distance", "name"), [(743, "textseal"), (626, "deepmind")], ids=["textseal", "deepmind"]
)
def test_text_at_that_distance_scores_too_often(distance, name):
    """Arithmetic progressions of targets: z has a variance above 1."""
    scheme = RELATED[name][0]
    rng = np.random.default_rng(3)
    lines = []
    for _ in range(60):
        context = rng.integers(1, VOCAB, 2)
        lines += [(*context, t) for t in range(int(rng.integers(0, distance)), VOCAB, distance)]
    windows = np.array(lines)
    scorer = rs.Scorer(scheme.decoys(3000, seed=4))
    scorer.add_pairs(windows[:, :2], windows[:, 2])
    results = scorer.results()
    z = np.array([result.zscore for result in results])
    assert z.var() > 1 + 4 * np.sqrt(2 / len(z))
    assert all(result.method.startswith("approximate") for result in results)
    assert scheme.dependence in results[0].notes[0]


WIDE = {"vocab_size": 256, "context_width": 12}
FAVOUR = {
    "kgw, additive": rs.KGW(seeding="additive", **WIDE),
    "keyed": rs.Keyed(key=bytes(16), gamma=0.25, **WIDE),
    "vllm": rs.VLLMGumbel(key=1, **WIDE),
    "sbw": rs.SBW(key=1, seeding="minhash", self_salt=False, gamma=0.25, **WIDE),
}


def pvalues_of(scheme, contexts, targets):
    """p-values of all targets after each of the contexts, under keys that chose neither."""
    scorer = rs.Scorer(scheme.decoys(24, seed=7))
    for rows in np.array_split(contexts, 8):
        scorer.add_pairs(np.repeat(rows, len(targets), axis=0), np.tile(targets, len(rows)))
    return np.array([result.pvalue for result in scorer.results()])


@pytest.mark.parametrize("name", FAVOUR)
def test_targets_that_some_keys_favour_are_not_favoured_by_others(name):
    scheme = FAVOUR[name]
    rng = np.random.default_rng(5)
    size, width = WIDE["vocab_size"], WIDE["context_width"]
    total = np.zeros(size)
    for decoy in scheme.decoys(100, seed=6):
        contexts = rng.integers(1, size, (1000, width))
        if decoy.core.score_kind == "green":
            total += decoy.green_mask(contexts).sum(axis=0)
        else:
            total += -np.log1p(-decoy.uniforms(contexts)).sum(axis=0)
    best = np.argsort(-total)[:64]
    pvalues = pvalues_of(scheme, rng.integers(1, size, (4000, width)), best)
    assert (pvalues < 0.01).sum() <= 3
    assert not scheme.dependence


@pytest.mark.skipif(not FULL, reason="a minute: make calibrate")
def test_targets_that_a_public_table_favours():
    """The smallest of 16 entries of a million: seeds are few, and everybody knows them."""
    size, width, table, gamma = 8192, 16, 1_000_003, 0.25
    scheme = rs.KGW(vocab_size=size, seeding="minhash", context_width=width, gamma=gamma)
    # Lists of seeds by another seeding, whose sums are the seeds.
    reader = rs.KGW(
        vocab_size=size, seeding="additive", context_width=width, gamma=gamma, hash_key=1
    )
    share = np.zeros(size)
    for start in range(1, 120_001, 1000):
        seeds = np.arange(start, start + 1000)
        contexts = np.full((len(seeds), width), size - 1)
        contexts[:] = np.clip(seeds[:, None] - np.arange(width) * (size - 1), 0, size - 1)
        assert (contexts.sum(axis=1) == seeds).all()
        share += (1 - seeds / table) ** (width - 1) @ reader.green_mask(contexts)
    best = np.argsort(-share)[:800]
    rng = np.random.default_rng(8)
    contexts = rng.integers(1, size, (2000, width)).astype(np.uint32)
    pvalues = pvalues_of(scheme, contexts, best)
    n_found = int((pvalues < 0.001).sum())
    assert beta.ppf(1e-4, n_found, len(pvalues) - n_found + 1) > 0.1
    assert "public table" in scheme.dependence


@pytest.mark.parametrize("seeding", ["skipgram", "simple_skip", "minhash", "table_skip"])
def test_keys_of_one_function_are_one_decoy(seeding):
    """A key and the key plus the table's size give one list; a decoy is never the tested one."""
    name = "salt_key" if seeding.startswith("table") else "hash_key"
    own = {"table_seed": 7} if seeding.startswith("table") else {}
    common = {"vocab_size": 512, "seeding": seeding, "context_width": 3, **own}
    one, other, apart = (
        rs.KGW(**{name: key}, **common) for key in (12345, 12345 + 1_000_003, 12346)
    )
    contexts = np.random.default_rng(9).integers(1, 512, (50, 3))
    assert (one.green_mask(contexts) == other.green_mask(contexts)).all()
    assert (one.green_mask(contexts) != apart.green_mask(contexts)).any()
    functions = [scheme._function(scheme._secrets()) for scheme in (one, other, apart)]
    assert functions[0] == functions[1] != functions[2]


def test_keys_of_one_murmur_state_are_one_decoy():
    """Two keys that the hash cannot tell apart, made by undoing its second word."""
    mask = 2**32 - 1
    key = 0x0123456789ABCDEF

    def mixed(word):
        k = word * 0xCC9E2D51 & mask
        return ((k << 15 | k >> 17) & mask) * 0x1B873593 & mask

    def rotated(low):
        s = mixed(low)
        return (((s << 13 | s >> 19) & mask) * 5 + 0xE6546B64) & mask

    # the state before the second word's rotation: rotated(low) ^ mixed(high)
    low = 77
    wanted = rotated(key & mask) ^ mixed(key >> 32) ^ rotated(low)
    k = wanted * pow(0x1B873593, -1, 2**32) & mask
    high = ((k >> 15 | k << 17) & mask) * pow(0xCC9E2D51, -1, 2**32) & mask
    twins = [rs.SGLangGumbel(vocab_size=500, key=one) for one in (key, high << 32 | low)]
    windows = np.random.default_rng(1).integers(0, 500, (200, 5))
    assert twins[0].scores(windows).tolist() == twins[1].scores(windows).tolist()
    functions = [scheme._function(scheme._secrets()) for scheme in twins]
    assert functions[0] == functions[1]
    assert twins[0].dependence


def test_which_results_say_approximate():
    """Public tables do, whoever reads them; a table that the key seeds does not."""
    common = {"vocab_size": 500, "gamma": 0.25}
    lm = rs.KGW.from_lm_watermarking
    for scheme, approximate in (
        (lm("skipgram", **common), True),
        (lm("minhash", **common), True),
        (lm("selfhash", **common), True),
        (lm("simple_1", **common), False),
        (rs.SBW.from_sbw("gpu-selfhash-cpuhash", key=5, **common), True),
        (rs.SBW.from_sbw("gpu-selfhash", key=5, **common), False),
        (rs.KGW.from_transformers({"seeding_scheme": "selfhash", "context_width": 4}, 500), False),
        (rs.GumbelMax(vocab_size=500, seeding="table_min", table_seed=3), True),
        (rs.SGLangGumbel(vocab_size=500, key=5), True),
        (rs.SynthIDDeepMind(vocab_size=500, keys=(3, 4)), True),
        (rs.SynthID(vocab_size=500, keys=(3, 4)), False),
        (rs.SynthID(vocab_size=500, keys=(3, 4), sampling_table_size=1000), True),
        (rs.VLLMGumbel(vocab_size=500, key=5), False),
        (rs.Keyed(vocab_size=500, key=bytes(16)), False),
    ):
        result = rs.score([list(range(1, 60))], scheme)
        assert result.method.startswith("approximate") == approximate, scheme
        assert any("the p-value is approximate" in note for note in result.notes) == approximate
