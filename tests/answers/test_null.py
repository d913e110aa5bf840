"""Under H0 the p-values of every weighting hold over random keys, and two planted mistakes show.

Answers here are of people's words or of random ones, and keys are random, so there is nothing to
find. Where prompts carry the key's mark and answers copy them, only the exclusion keeps it so.
"""

import bisect
import json

import numpy as np
import pytest
import radscore as rs
from radscore.answers.grouping import count_windows, kept_windows
from radscore.answers.weights import CONTRASTS, COUNTS, DEFAULT_CONTRAST, DEFAULT_COUNT
from radscore.audits.answer_scorer import add_weighted
from radscore.audits.closed import test_closed as closed
from radscore.scoring.evidence import Units, score_result
from radscore.stats import BernoulliLaw
from scipy.stats import kstest

from .conftest import DEMO

VOCAB = 49152
N_KEYS = 500
LEVEL = 1e-4  #: a right law fails once in ten thousand seeds; seeds are fixed

SCHEMES = {
    "keyed": rs.Keyed(vocab_size=VOCAB, key=bytes(16), gamma=0.25, context_width=2),
    "lefthash": rs.KGW.from_lm_watermarking("lefthash", vocab_size=VOCAB, gamma=0.25),
    "minhash": rs.KGW.from_lm_watermarking("minhash", vocab_size=VOCAB, gamma=0.25),
    "Gumbel": rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=2, method="gumbel"),
}


@pytest.fixture(scope="module")
def human():
    """Suspect's and reference's answers: what people wrote, cut into pieces of 30 tokens."""
    truth = [json.loads(line) for line in (DEMO / "truth.jsonl").read_text().splitlines()]
    corpus = rs.open_corpus(DEMO / "corpus.jsonl", field="text", tokenizer=DEMO / "tokenizer.json")
    documents = [document for batch in corpus for document in batch.documents]
    texts = [d for d, row in zip(documents, truth, strict=True) if row["kind"] == "human"]
    ids = np.concatenate(texts)[: 4 * 900].reshape(-1, 30)
    return rs.Documents.of(ids[::2].copy()), rs.Documents.of(ids[1::2].copy())


def zscores(scheme, tallies):
    law = scheme.null_law
    total = np.array([t.sum_weight_score - law.mean * t.sum_weight for t in tallies])
    return total / np.sqrt([law.variance * t.sum_weight_squared for t in tallies])


def share_below(level, scorer, order):
    """Share of the keys whose p-value is at most `level`; `order` has the strongest first.

    The weights are the same for all keys, so that p-values are in the order of the statistics.
    """
    tallies = scorer.tallies()

    def small(place):
        i = order[place]
        weights, _, groups, residues = scorer.core.weighted_units(i)
        units = Units(weights, groups, residues)
        result = score_result(tallies[i], scorer.schemes[i], scorer.rules, units=units)
        return result.pvalue <= level

    return bisect.bisect_left(range(len(order)), True, key=lambda place: not small(place)) / len(
        order
    )


@pytest.mark.parametrize("name", SCHEMES)
def test_weighted_pvalues_hold_over_keys(name, human):
    """Every way to weigh: z is standard normal, and the bound's p-values are conservative."""
    scheme = SCHEMES[name]
    decoys = scheme.decoys(N_KEYS, seed=3)
    quick = isinstance(scheme, rs.Keyed)  # a permutation a key and context is not
    suspect, reference = (
        kept_windows(
            documents if quick else rs.Documents.of(list(documents)[:20]),
            scheme,
        )
        for documents in human
    )
    ways = [("counts", way, None) for way in COUNTS]
    ways += [("contrast", way, reference) for way in CONTRASTS]
    if not quick:
        ways = [way for way in ways if way[1] in (DEFAULT_COUNT, DEFAULT_CONTRAST)]
    for weighting, way, other in ways:
        scorer = rs.Scorer(decoys, combine="sum")
        add_weighted(scorer, count_windows(suspect, other, VOCAB), weighting, way)
        z = zscores(scheme, scorer.tallies())
        assert abs(z.mean()) < 4 / np.sqrt(N_KEYS), way
        assert abs(z.var() - 1) < 6 * np.sqrt(2 / N_KEYS), way
        assert kstest(z, "norm").pvalue > LEVEL / 10, way
        if scheme.units_are_windows:
            order = np.argsort(-z).tolist()
            for level in (0.5, 0.1, 0.02):
                share = share_below(level, scorer, order)
                assert share <= level + 4 * np.sqrt(level / N_KEYS), way


def test_the_smaller_of_two_is_corrected(human):
    """With and without a filter: times two it holds, and without the correction it would not."""
    scheme = rs.Keyed(vocab_size=VOCAB, key=bytes(16), gamma=0.25, context_width=1)
    suspect = human[0]
    phi = rs.KgramSet.from_documents(human[1], 1, VOCAB, top=20, watermarked=False)
    corrected, raw = [], []
    for decoy in scheme.decoys(500, seed=5):
        result = closed(suspect, decoy, filter=phi, both=True, threads=1)
        corrected.append(result.pvalue)
        raw.append(10.0**result.score.log10_pvalue)
    corrected, raw = np.array(corrected), np.array(raw)
    for level in (0.2, 0.05):
        slack = 3 * np.sqrt(level / 500)
        assert (corrected <= level).mean() <= level + slack
    assert (raw <= 0.2).mean() > 0.2 + 3 * np.sqrt(0.2 / 500)


# Prompts that carry the key's mark, in a small vocabulary: one set of prompts and answers a key.
SMALL, N_ANSWERS, PROMPT, COPIED, OWN = 256, 10, 24, 12, 24


def marked_prompts(scheme, rng):
    """Text of green tokens alone."""
    rows = np.empty((N_ANSWERS, PROMPT), dtype=np.int64)
    rows[:, 0] = rng.integers(0, SMALL, N_ANSWERS)
    green = scheme.green_mask(np.arange(SMALL)[:, None])
    for i in range(1, PROMPT):
        rows[:, i] = (rng.random((N_ANSWERS, SMALL)) * green[rows[:, i - 1]]).argmax(axis=1)
    return rows


def answers_that_copy(prompts, rng, *, others=False):
    """A part of each prompt (or of another's), between words that know nothing of it."""
    source = np.roll(prompts, 1, axis=0) if others else prompts
    answers = rng.integers(0, SMALL, size=(N_ANSWERS, COPIED + OWN))
    start = PROMPT - COPIED
    answers[:, OWN // 2 : OWN // 2 + COPIED] = source[:, start:]
    return answers


def pvalues_over_keys(n_keys, seed, test, *, others=False):
    rng = np.random.default_rng(seed)
    scheme = rs.Keyed(vocab_size=SMALL, key=bytes(16), gamma=0.5, context_width=1)
    found = []
    for decoy in scheme.decoys(n_keys, seed=seed):
        prompts = marked_prompts(decoy, rng)
        answers = answers_that_copy(prompts, rng, others=others)
        found.append(test(answers, prompts, decoy))
    return np.array(found)


def spread_pvalue(result, rng):
    """Of a plain test: spread over its step."""
    law = result.score
    n, green = law.n_scored, law.n_green
    exact = BernoulliLaw(rs.Keyed(vocab_size=SMALL, key=bytes(16), gamma=0.5).share)
    above, here = exact.sf(green + 1.0, n), exact.sf(float(green), n)
    return float(above + rng.random() * (here - above))


def test_copying_from_watermarked_prompts_needs_the_exclusion():
    """The planted mistake: without prompts, what was copied counts as the model's own words."""
    draw = np.random.default_rng(1)

    def mistaken(answers, prompts, scheme):
        return spread_pvalue(closed(answers, scheme, threads=1), draw)

    def right(answers, prompts, scheme):
        return spread_pvalue(closed(answers, scheme, prompts=prompts, threads=1), draw)

    def strict(answers, prompts, scheme):
        given = {"prompts": prompts, "prompts_watermarked": True, "threads": 1}
        return spread_pvalue(closed(answers, scheme, **given), draw)

    assert kstest(pvalues_over_keys(200, 1, mistaken), "uniform").pvalue < 1e-30
    for test in (right, strict):
        p = pvalues_over_keys(500, 2, test)
        assert kstest(p, "uniform").pvalue > LEVEL
        assert (p < 0.01).mean() < 0.01 + 5 * np.sqrt(0.01 / 500)


@pytest.mark.parametrize("weighting", ["plain", "counts", "contrast"])
def test_copying_from_other_prompts_needs_the_exclusion_of_all(weighting):
    """Each answer copies from the prompt of another: only `prompts_watermarked` is prepared."""
    rng = np.random.default_rng(3)
    reference = rng.integers(0, SMALL, size=(N_ANSWERS, COPIED + OWN))

    def test(prompts_watermarked):
        def run(answers, prompts, scheme):
            given = {"threads": 1}
            if weighting == "contrast":
                given |= {"reference": reference, "reference_prompts": prompts}
            return closed(
                answers, scheme, prompts=prompts, weighting=weighting,
                prompts_watermarked=prompts_watermarked, **given,
            ).pvalue  # fmt: skip

        return run

    own = pvalues_over_keys(200, 4, test(False), others=True)
    every = pvalues_over_keys(500, 5, test(True), others=True)
    assert np.isnan(own).all()  # the prompts are seen to carry the mark, which nobody has said
    for level in (0.5, 0.1, 0.02):
        assert (every <= level).mean() <= level + 4 * np.sqrt(level / len(every))
    assert every.min() > 1e-6
