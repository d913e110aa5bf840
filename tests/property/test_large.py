"""The core is the twin where documents are cut into chunks and batches of work."""

import random
from dataclasses import replace

import numpy as np
import pytest
import radscore as rs
from catalog import Case, public_of
from test_scorer import RULES, add, assert_same, rules_of, scorer_of, tally_of, twin_of

from tests.twin import pipeline
from tests.twin.schemes import AuthorsKGW, Keyed, SGLangGumbel

KEY = bytes(range(16))
DAMPING = {"saturation": 2.0, "frequency": 3.0}
SCHEMES = {
    "one word": Keyed(vocab_size=13, context_width=2, key=KEY, gamma=0.3),
    "two words": Keyed(vocab_size=2**20, context_width=4, key=KEY, method="gumbel"),
    "hashed": Keyed(vocab_size=2**20, context_width=16, key=KEY, gamma=0.3),
    "units": SGLangGumbel(vocab_size=2**20, context_width=8, key=77),
    "lists": AuthorsKGW(vocab_size=20, context_width=1, gamma=0.25, seed=3),
}


def long_case(twin, seed):
    """One document over two chunks of 2^16 tokens, and two hundred short ones; few windows."""
    rng = random.Random(seed)
    if twin.vocab_size < 100:
        long = [rng.randrange(twin.vocab_size) for _ in range(80_000)]
    else:
        phrases = [[rng.randrange(twin.vocab_size) for _ in range(40)] for _ in range(3)]
        long = [token for _ in range(2_000) for token in rng.choice(phrases)]
    short = [long[i : i + rng.randrange(60)] for i in rng.sample(range(len(long)), 200)]
    documents = [*short[:100], long, *short[100:]]
    prompts = [document[5:25] for document in documents]
    return Case(documents, prompts, None, None, None, "exclude", "one", 2)


@pytest.mark.parametrize("dedup", RULES)
@pytest.mark.parametrize("name", SCHEMES)
def test_tally(name, dedup):
    twin = SCHEMES[name]
    if dedup == "none" and name != "lists":
        twin = replace(twin, context_width=1)  # the twin scores each window anew
    case = long_case(twin, name)
    if dedup == "none":
        case = replace(case, documents=[d[:3000] for d in case.documents])
    tally = tally_of(twin, dedup, case)
    assert_same(tally, twin_of(twin, dedup, case).tally(), twin.kind)
    assert tally.n_excluded > 0
    for threads in (1, 3):
        assert tally_of(twin, dedup, replace(case, threads=threads)) == tally


@pytest.mark.parametrize("dedup", ["unit", "context"])
@pytest.mark.parametrize("name", SCHEMES)
def test_weights(name, dedup):
    twin = SCHEMES[name]
    case = long_case(twin, name)
    rng = random.Random(name)
    weights = [[rng.randrange(-8, 9) / 8 for _ in document] for document in case.documents]
    for combine, damping in (("one", {}), ("sum", {}), ("sum", DAMPING)):
        weighted = replace(case, weights=weights, combine=combine, damping=damping)
        tally = tally_of(twin, dedup, weighted)
        assert_same(tally, twin_of(twin, dedup, weighted).tally(), twin.kind)
        assert tally_of(twin, dedup, replace(weighted, threads=1)) == tally


@pytest.mark.parametrize("name", SCHEMES)
def test_each_document_on_its_own(name):
    twin = SCHEMES[name]
    case = long_case(twin, name)
    found = rs.score_documents(case.documents, public_of(twin), prompts=case.prompts)
    tallies = pipeline.per_document(case.documents, twin, rules_of("unit", case), case.prompts)
    for column in ("n_windows", "n_excluded", "n_duplicates", "n_scored"):
        assert getattr(found, column).tolist() == [getattr(tally, column) for tally in tallies]
    sums = [tally.score_sum for tally in tallies]
    assert found.statistic.tolist() == pytest.approx(sums, rel=1e-12)


@pytest.mark.parametrize("dedup", ["unit", "window", "context"])
def test_curve_and_merge(dedup):
    twin = SCHEMES["lists"]
    case = replace(long_case(twin, "curve"), prompts=None)
    total = sum(map(len, case.documents))
    steps = [1, 1000, 65_536, 65_537, 80_001, total]
    scorer = scorer_of([twin], dedup, case, steps)
    add(scorer, case)
    expected = pipeline.curve(case.documents, twin, steps, rules_of(dedup, case))
    found = [(p.n_tokens, p.n_scored, p.statistic) for p in scorer.result().curve]
    assert found == expected
    first, second = (scorer_of([twin], dedup, case) for _ in range(2))
    add(first, case, slice(60))
    add(second, case, slice(60, None))
    first.merge(second)
    assert first.tally() == scorer.tally()


def test_more_than_a_batch():
    """Over 2^21 tokens in one call; numpy counts what the twin would take minutes for."""
    twin = Keyed(vocab_size=120, context_width=1, key=KEY, gamma=0.3)
    rng = np.random.default_rng(5)
    text = (rng.zipf(1.3, 2**21 + 70_000) % 120).astype(np.uint8)
    codes = text[:-1].astype(np.int64) * 120 + text[1:]
    distinct, counts = np.unique(codes, return_counts=True)
    green = np.array([twin.score((int(code) // 120, int(code) % 120)) for code in distinct])
    first = np.unique(codes // 120, return_index=True)[1]
    position = {int(code): i for i, code in enumerate(distinct)}
    by_context = [green[position[int(codes[i])]] for i in first]
    expected = {
        "unit": (len(distinct), green.sum()),
        "window": (len(distinct), green.sum()),
        "context": (len(first), sum(by_context)),
        "none": (len(codes), (green * counts).sum()),
    }
    for dedup, (n_scored, n_green) in expected.items():
        result = rs.score(text, public_of(twin), dedup=dedup, curve=[2**21, 2**21 + 1])
        assert (result.n_scored, result.n_green) == (n_scored, n_green)
        assert result.n_windows == len(codes)
        assert result.n_duplicates == len(codes) - n_scored
        for point in result.curve:
            seen = codes[: point.n_tokens - 1]
            n_seen = {"none": len(seen), "context": len(np.unique(seen // 120))}
            assert point.n_scored == n_seen.get(dedup, len(np.unique(seen)))
