"""Under random keys the p-values of every scheme are uniform, on real text; and the check bites.

The text is what people wrote in the embedded corpus, as ids of its tokenizer. The statistics are
whole numbers or near it, so a p-value is spread uniformly over its own step (the randomised
probability transform): then it is exactly uniform where the null law is exact.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.stats import BernoulliLaw, ResidueLaw, SynthIDLaw
from scipy.stats import beta, kstest

DEMO = Path(__file__).parents[2] / "demo"
VOCAB = 49152
FULL = os.environ.get("RADSCORE_CALIBRATE") == "full"
N_KEYS = 2000
#: A right law fails a test at this level once in ten thousand seeds; seeds are fixed.
LEVEL = 1e-4
SYNTHID_KEYS = tuple(range(101, 131))

SCHEMES = {
    "authors' hash": rs.KGW(vocab_size=VOCAB, context_width=2, seeding="hash", seed=1),
    "lefthash": rs.KGW.from_lm_watermarking("lefthash", vocab_size=VOCAB, gamma=0.25),
    "minhash": rs.KGW.from_lm_watermarking("minhash", vocab_size=VOCAB, gamma=0.25),
    "skipgram": rs.KGW.from_lm_watermarking("skipgram", vocab_size=VOCAB, gamma=0.25),
    "selfhash": rs.KGW.from_lm_watermarking("selfhash", vocab_size=VOCAB, gamma=0.25),
    "transformers' lefthash": rs.KGW.from_transformers(
        {"seeding_scheme": "lefthash", "greenlist_ratio": 0.25, "context_width": 1}, VOCAB
    ),
    "Gumbel-max": rs.GumbelMax(vocab_size=VOCAB, context_width=2, seed=1),
    "SynthID, table": rs.SynthID(vocab_size=VOCAB, keys=SYNTHID_KEYS),
    "SynthID, weighted mean": rs.SynthID(
        vocab_size=VOCAB, keys=SYNTHID_KEYS, method="weighted_mean"
    ),
    "SynthID, DeepMind": rs.SynthIDDeepMind(vocab_size=VOCAB, keys=SYNTHID_KEYS),
    "TextSeal": rs.TextSeal(vocab_size=VOCAB, key=1, context_width=2, gamma=0.25),
    "TextSeal, Gumbel": rs.TextSeal(vocab_size=VOCAB, key=1, context_width=2, method="gumbel"),
    "vLLM": rs.VLLMGumbel(vocab_size=VOCAB, key=1),
    "vLLM, dual key": rs.VLLMDualKeyGumbel(vocab_size=VOCAB, key=1, alpha=0.3),
    "SGLang": rs.SGLangGumbel(vocab_size=VOCAB, key=1),
    "SGLang, dual key": rs.SGLangGumbel(vocab_size=VOCAB, key=1, key_b=2),
    "SBW": rs.SBW(vocab_size=VOCAB, key=1, gamma=0.25),
    "SBW, lefthash": rs.SBW(
        vocab_size=VOCAB,
        key=1,
        gamma=0.25,
        seeding="additive",
        context_width=1,
        self_salt=False,
    ),
    "authors' table": rs.KGW(
        vocab_size=VOCAB, context_width=2, seeding="table_min", table_seed=7, salt_key=5
    ),
    "keyed": rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=2),
    "keyed, Gumbel": rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=2, method="gumbel"),
}


@pytest.fixture(scope="session")
def human_text() -> list[np.ndarray]:
    """The token ids of documents that people wrote."""
    truth = [json.loads(line) for line in (DEMO / "truth.jsonl").read_text().splitlines()]
    corpus = rs.open_corpus(DEMO / "corpus.jsonl", field="text", tokenizer=DEMO / "tokenizer.json")
    documents = [document for batch in corpus for document in batch.documents]
    kinds = [row["kind"] for row in truth]
    return [ids for ids, kind in zip(documents, kinds, strict=True) if kind == "human"]


def take(documents, n_tokens):
    """Whole documents until there are `n_tokens`."""
    taken = []
    for document in documents:
        taken.append(document[: max(n_tokens, 0)])
        n_tokens -= len(document)
        if n_tokens <= 0:
            break
    return taken


def tallies(scheme, documents, dedup="unit", n_keys=N_KEYS, seed=1):
    """One tally a random key; in portions, since some schemes keep a table a key."""
    decoys = scheme.decoys(n_keys, seed=seed)
    found = []
    for start in range(0, n_keys, 250):
        scorer = rs.Scorer(decoys[start : start + 250], dedup=dedup)
        scorer.add(documents)
        found += scorer.tallies()
    return found


def pvalues(scheme, found, seed=7):
    """A p-value a tally, spread over its step where the statistic is a whole number."""
    law = scheme.null_law
    spread = np.random.default_rng(seed).random(len(found))
    n = np.array([tally.n_scored for tally in found])
    if scheme.core.residues:
        (counts,) = {tally.residue_counts.tobytes() for tally in found}
        exact = ResidueLaw.of_counts(
            np.frombuffer(counts, dtype=np.uint64), scheme.core.sampling_table, scheme.steps
        )
        totals = [int(np.dot(scheme.steps, tally.depth_counts)) for tally in found]
        above, here = (
            10.0 ** np.array([exact.log10_sf(total + more) for total in totals]) for more in (1, 0)
        )
        return above + spread * (here - above)
    if isinstance(law, BernoulliLaw):
        statistic = np.array([tally.n_green for tally in found], dtype=float)
    elif isinstance(law, SynthIDLaw):
        statistic = np.array([np.dot(law.weights, tally.depth_counts) for tally in found])
    else:
        return law.sf(np.array([tally.score_sum for tally in found]), n)
    step = 1.0 if isinstance(law, BernoulliLaw) else law.weights[0]
    above, here = law.sf(statistic + step, n), law.sf(statistic, n)
    return above + spread * (here - above)


def zscores(scheme, found):
    law = scheme.null_law
    n = np.array([tally.n_scored for tally in found])
    total = np.array([tally.n_green for tally in found])
    return (total - law.mean * n) / np.sqrt(law.variance * n)


@pytest.mark.parametrize("name", SCHEMES)
def test_pvalues_are_uniform_over_keys(name, human_text):
    scheme = SCHEMES[name]
    found = tallies(scheme, take(human_text, 400))
    p = pvalues(scheme, found)
    assert len(p) == N_KEYS
    assert kstest(p, "uniform").pvalue > LEVEL
    # Small p-values are what a court looks at: no more of them than chance allows (5 sigma).
    for level in (0.05, 0.01):
        assert (p < level).sum() < N_KEYS * level + 5 * np.sqrt(N_KEYS * level)


@pytest.mark.parametrize("name", ["authors' hash", "SGLang", "keyed", "TextSeal"])
def test_counting_repetitions_fails_the_same_check(name, human_text):
    repetitive = take(human_text, 150) * 8
    scheme = SCHEMES[name]
    p = pvalues(scheme, tallies(scheme, repetitive, "none", n_keys=500))
    assert kstest(p, "uniform").pvalue < 1e-20
    right = pvalues(scheme, tallies(scheme, repetitive, "unit", n_keys=500))
    assert kstest(right, "uniform").pvalue > LEVEL


@pytest.mark.parametrize(
    ("seeding", "least", "most"),
    [
        ("lefthash", 0.7, 1.3),
        ("ff-additive-3-False", 0.7, 1.5),
        ("skipgram", 1.4, 2.8),
        ("minhash", 1.9, 3.8),
        ("ff-minfunc-4-False", 3.4, 7.0),
    ],
)
def test_how_much_windows_inflate_the_variance(seeding, least, most, human_text, record_property):
    """Where windows share units, the published rule's variance exceeds that of its own law."""
    scheme = rs.KGW.from_lm_watermarking(seeding, vocab_size=VOCAB, gamma=0.25)
    documents = take(human_text, 3000)
    exact = np.var(zscores(scheme, tallies(scheme, documents, "unit", n_keys=300)))
    published = np.var(zscores(scheme, tallies(scheme, documents, "window", n_keys=300)))
    record_property(f"variance of z under 'window', {seeding}", float(published))
    # Four standard errors of a variance of 300 draws.
    assert abs(exact - 1) < 4 * np.sqrt(2 / 300)
    assert least < published < most


@pytest.mark.parametrize("name", ["keyed", "keyed, Gumbel", "authors' hash", "lefthash"])
def test_weighted_pvalues_are_valid_over_keys(name, human_text):
    """Weights of both signs, combined by `sum`: the bound holds, the normal law is close."""
    scheme = SCHEMES[name]
    documents = take(human_text, 400)
    weights = np.random.default_rng(5).normal(0.3, 1, sum(map(len, documents)))
    scorer = rs.Scorer(scheme.decoys(500, seed=3), combine="sum")
    scorer.add(documents, weights=weights)
    results = scorer.results()
    p = np.array([result.pvalue for result in results])
    for level in (0.5, 0.1, 0.02):
        assert (p <= level).mean() <= level + 4 * np.sqrt(level / len(p))
    z = np.array([result.zscore for result in results])
    normal = np.array([10.0**result.weighted.log10_normal for result in results])
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert kstest(normal, "uniform").pvalue > LEVEL


@pytest.mark.parametrize("method", ["mean", "weighted_mean"])
def test_few_residues_in_many_windows(method):
    """Text of few residues, repeated in many windows: no key finds it more often than it may."""
    rng = np.random.default_rng(4)
    text = rng.integers(0, 300, 20_000)
    scheme = rs.SynthID(vocab_size=300, keys=tuple(range(1, 9)), context_width=1, method=method)
    decoys = scheme.decoys(3000 if FULL else 600, seed=2)
    scorer = rs.Scorer(decoys)
    scorer.add(text)
    pvalues = np.array([result.pvalue for result in scorer.results()])
    for level in (0.05, 0.01, 0.001):
        k = int((pvalues <= level).sum())
        low = beta.ppf(0.005, k, len(pvalues) - k + 1) if k else 0.0
        high = beta.ppf(0.995, k + 1, len(pvalues) - k)
        assert low <= level <= high * 1.05
