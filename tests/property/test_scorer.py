"""Property: what the core makes of documents is what the twin makes of them, whatever the rules."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from catalog import FAMILIES, Case, cases, dyadic, examples, public_of, tokens
from hypothesis import given
from hypothesis import strategies as st

from tests.twin import pipeline

#: A window, and a short vector of the lattice of SynthID's hash of five tokens.
FORM = [50000] * 5
SHORT = [688, -5682, -3386, -1372, 4384]
RULES = ("unit", "window", "context", "none")
STATUS = {"scored": 0, "excluded": 2, "filtered": 3, "duplicate": 4, "keyless": 5}


def options_of(twin, case):
    """The rules of a case as the public functions take them."""
    phi = None
    if case.filter is not None:
        width = twin.window_width - 1
        phi = rs.KgramSet.from_kgrams(sorted(case.filter), twin.vocab_size, width=width)
    return {
        "filter": phi,
        "start": case.start,
        "threads": case.threads,
        "prompt_role": case.prompt_role,
    }


def scorer_of(twins, dedup, case, curve=()):
    options = options_of(twins[0], case)
    schemes = [public_of(twin) for twin in twins]
    return rs.Scorer(
        schemes, dedup=dedup, combine=case.combine, curve=curve, **options, **case.damping
    )


def add(scorer, case, part=slice(None)):
    weights = None
    if case.weights is not None:
        weights = [w for row in case.weights[part] for w in row]
    prompts = None if case.prompts is None else case.prompts[part]
    scorer.add(case.documents[part], prompts, weights)


def tally_of(twin, dedup, case):
    scorer = scorer_of([twin], dedup, case)
    add(scorer, case)
    return scorer.tally()


def rules_of(dedup, case):
    return pipeline.Rules(
        dedup, case.combine, case.filter, case.start, case.prompt_role, **case.damping
    )


def twin_of(twin, dedup, case):
    scorer = pipeline.Scorer(twin, rules_of(dedup, case))
    scorer.add(case.documents, case.prompts, case.weights)
    return scorer


def assert_same(core, twin, kind):
    """A tally of the core and one of the twin."""
    counts = ["documents", "short_documents", "tokens", "windows"]
    counts += ["excluded", "filtered", "duplicates", "keyless", "scored"]
    for name in counts:
        assert getattr(core, f"n_{name}") == getattr(twin, f"n_{name}"), name
    if not core.weighted:
        if kind == "green":
            assert core.n_green == twin.score_sum
        elif kind == "gumbel":
            assert core.score_sum == pytest.approx(twin.score_sum, rel=1e-12, abs=1e-15)
        else:
            assert (core.depth_counts or [0] * len(twin.score_sum)) == list(twin.score_sum)
        return
    assert core.n_zero_weight == twin.n_zero_weight
    assert core.sum_weight == twin.sum_w
    assert core.sum_weight_squared == twin.sum_w2
    assert core.max_abs_weight == twin.max_abs_w
    total = sum(twin.sum_ws) / len(twin.sum_ws) if kind == "depths" else twin.sum_ws
    assert core.sum_weight_score == pytest.approx(total, rel=1e-12, abs=1e-9)


def draw_case(data, family, dedup="unit", **options):
    twin = data.draw(FAMILIES[family])
    if dedup == "context" and twin.window_width == 1:
        twin = replace(twin, context_width=2)
    return twin, data.draw(cases(twin, **options))


@pytest.mark.parametrize("dedup", RULES)
@pytest.mark.parametrize("family", FAMILIES)
@examples(15)
@given(st.data())
def test_tally(family, dedup, data):
    twin, case = draw_case(data, family, dedup)
    assert_same(tally_of(twin, dedup, case), twin_of(twin, dedup, case).tally(), twin.kind)


@pytest.mark.parametrize("family", FAMILIES)
@examples(10)
@given(st.data(), st.sampled_from(RULES))
def test_weighted_units(family, data, dedup):
    """The units behind a weighted tally: a weight and a score each."""
    twin, case = draw_case(data, family, dedup, weighted=True)
    scorer = scorer_of([twin], dedup, case)
    add(scorer, case)
    evidence = [r for r, _ in twin_of(twin, dedup, case).units() if r.weight != 0]
    units = scorer._core.weighted_units(0)
    assert units is not None
    weights, scores, groups, residues = units
    expected = [(r.weight, float(np.mean(twin.score(r.window)))) for r in evidence]
    found = list(zip(weights.tolist(), scores.tolist(), strict=True))
    assert len(found) == len(expected)
    for mine, theirs in zip(sorted(found), sorted(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-15)
    if residues is not None:
        named = {twin.unit(r.window) for r in evidence}
        assert sorted(residues.tolist()) == sorted(named)
    if groups is not None:
        assert len(set(groups.tolist())) == len({twin.seed32(r.window) for r in evidence})


@pytest.mark.parametrize("dedup", RULES)
@examples(40)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_split_and_merge_is_the_whole(dedup, data, family):
    twin, case = draw_case(data, family, dedup)
    whole = tally_of(twin, dedup, case)
    cut = data.draw(st.integers(0, len(case.documents)))
    first, second = (scorer_of([twin], dedup, case) for _ in range(2))
    add(first, case, slice(cut))
    add(second, case, slice(cut, None))
    first.merge(second)
    assert first.tallies() == [whole]
    calls = scorer_of([twin], dedup, replace(case, threads=1))
    for i in range(len(case.documents)):
        add(calls, case, slice(i, i + 1))
        if data.draw(st.booleans()):
            calls._core.flush()
    if case.documents or case.weights is None:
        assert calls.tallies() == [whole]


@pytest.mark.parametrize("dedup", RULES)
@examples(20)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_a_saved_state_continues(dedup, data, family):
    twin, case = draw_case(data, family, dedup)
    cut = data.draw(st.integers(0, len(case.documents)))
    before = scorer_of([twin], dedup, case)
    add(before, case, slice(cut))
    if data.draw(st.booleans()):
        before._core.flush()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        before.save(path)
        after = rs.Scorer.load(path, before.schemes, filter=before.rules.filter)
    add(after, case, slice(cut, None))
    assert after.tallies() == [tally_of(twin, dedup, case)]


@pytest.mark.parametrize("dedup", ["unit", "window"])
@examples(40)
@given(st.data(), st.sampled_from(sorted(FAMILIES)), st.randoms(use_true_random=False))
def test_the_order_of_documents_is_irrelevant(dedup, data, family, random):
    twin, case = draw_case(data, family, dedup)
    if case.weights is not None:
        case = replace(case, combine="sum")
    order = list(range(len(case.documents)))
    random.shuffle(order)
    shuffled = replace(
        case,
        documents=[case.documents[i] for i in order],
        prompts=case.prompts and [case.prompts[i] for i in order],
        weights=case.weights and [case.weights[i] for i in order],
    )
    assert tally_of(twin, dedup, shuffled) == tally_of(twin, dedup, case)


@pytest.mark.parametrize("dedup", ["unit", "window", "context"])
@examples(30)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_a_document_twice_is_no_new_evidence(dedup, data, family):
    twin, case = draw_case(data, family, dedup)
    case = replace(case, combine="one", damping={})
    scorer = scorer_of([twin], dedup, case)
    add(scorer, case)
    (once,) = scorer.tallies()
    add(scorer, case)
    (twice,) = scorer.tallies()
    same = ["n_scored", "n_green", "score_sum", "depth_counts", "n_zero_weight"]
    same += ["sum_weight", "sum_weight_squared", "max_abs_weight", "sum_weight_score"]
    for name in same:
        assert getattr(twice, name) == getattr(once, name), name
    assert twice.n_windows == 2 * once.n_windows


@pytest.mark.parametrize("family", FAMILIES)
@examples(15)
@given(st.data())
def test_windows_with_one_unit_count_once(family, data):
    twin, case = draw_case(data, family, weighted=False)
    case = replace(case, combine="one", damping={})
    records = twin_of(twin, "none", case).evidence()
    tally = tally_of(twin, "unit", case)
    windows = [record.window for record in records if not twin.keyless(record.window)]
    unit = (lambda window: window) if twin.counts_residues else twin.unit
    assert tally.n_scored == len({unit(window) for window in windows})
    assert tally.n_scored + tally.n_duplicates + tally.n_keyless == len(records)


def test_units_that_windows_share():
    """Permuted contexts of a sum, contexts that differ in tokens not read, ids that alias."""
    common = {"vocab_size": 2**17, "gamma": 0.5, "context_width": 2}
    for scheme, documents, n_units in (
        (rs.KGW(seeding="additive", **common), [[1, 2, 9], [2, 1, 9], [0, 3, 9]], 1),
        (rs.KGW(seeding="last_token", **common), [[1, 2, 9], [5, 2, 9]], 1),
        (
            rs.SynthIDDeepMind(keys=(3, 4), vocab_size=2**17, context_width=4),
            [FORM, [FORM[i] + SHORT[i] for i in range(5)], [*FORM[:4], 7]],
            2,
        ),
    ):
        whole = scheme.window_width - 1
        assert rs.score(documents, scheme, dedup="unit", start=whole).n_scored == n_units
        assert rs.score(documents, scheme, dedup="window", start=whole).n_scored == len(documents)


def test_ids_that_alias_are_one_residue():
    """Each of their windows counts, and all of them have one score."""
    scheme = rs.SynthID(keys=(3, 4), vocab_size=2**17, context_width=2)
    scorer = rs.Scorer(scheme, start=2)
    scorer.add([[1, 2, 9], [1 + 65536, 2, 9], [1, 2, 9 + 65536], [1, 2, 10]])
    counts = scorer.tally().residue_counts
    assert sorted(counts[counts > 0].tolist()) == [1, 3]
    assert scorer.result().n_scored == 4


@examples(40)
@given(st.data(), st.sampled_from(RULES), st.integers(20, 60))
def test_many_schemes_at_once(data, dedup, vocab_size):
    """One scorer with several schemes, of several widths, is a scorer for each."""
    families = data.draw(st.lists(st.sampled_from(sorted(FAMILIES)), min_size=2, max_size=4))
    twins = [replace(data.draw(FAMILIES[f]), vocab_size=vocab_size) for f in families]
    twins = [replace(t, context_width=2 + t.context_width % 3) for t in twins]
    case = data.draw(cases(max(twins, key=lambda twin: twin.window_width)))
    case = replace(case, filter=None)
    if not all(twin.reaches_prompt for twin in twins):
        case = replace(case, prompt_role="exclude")
    if case.start is not None:
        case = replace(case, start=max(case.start, 5))
    scorer = scorer_of(twins, dedup, case)
    add(scorer, case)
    assert scorer.tallies() == [tally_of(twin, dedup, case) for twin in twins]


@pytest.mark.parametrize("dedup", RULES)
@examples(40)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_curve(dedup, data, family):
    twin, case = draw_case(data, family, dedup, weighted=False)
    case = replace(
        case, combine="one", damping={}, prompts=None, prompt_role="exclude", filter=None
    )
    if case.start is not None and case.start < twin.window_width - 1 and twin.padding is None:
        case = replace(case, start=None)
    total = sum(map(len, case.documents))
    steps = sorted(data.draw(st.sets(st.integers(1, max(total, 1)), max_size=4)))
    scorer = scorer_of([twin], dedup, case, steps)
    for i in range(len(case.documents)):
        add(scorer, case, slice(i, i + 1))
    expected = pipeline.curve(case.documents, twin, steps, rules_of(dedup, case))
    expected = expected if total else []
    found = scorer._core.curve()
    assert [(n, tally.n_scored) for n, [tally] in found] == [(n, k) for n, k, _ in expected]
    if scorer.tally().n_scored == 0:
        return
    result = scorer.result()
    law = scorer.schemes[0].null_law
    for point, (_, _, total_score) in zip(result.curve, expected, strict=True):
        weights = law.weights if twin.kind == "depths" else [1.0]
        sums = total_score if twin.kind == "depths" else [total_score]
        value = sum(w * s for w, s in zip(weights, sums, strict=True))
        assert point.statistic == pytest.approx(value, rel=1e-12, abs=1e-12)
        if dedup != "none" and point.n_tokens == total:
            assert point.log10_pvalue == pytest.approx(result.log10_pvalue, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dedup", RULES)
@examples(60)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_per_document(dedup, data, family):
    twin, case = draw_case(data, family, dedup, weighted=False)
    case = replace(case, combine="one", damping={})
    options = options_of(twin, case)
    found = rs.score_documents(
        case.documents, public_of(twin), dedup=dedup, prompts=case.prompts, **options
    )
    tallies = pipeline.per_document(case.documents, twin, rules_of(dedup, case), case.prompts)
    for name in (
        "n_windows",
        "n_excluded",
        "n_filtered",
        "n_duplicates",
        "n_keyless",
        "n_scored",
    ):
        assert getattr(found, name).tolist() == [getattr(tally, name) for tally in tallies]
    sums = [np.mean(t.score_sum) if twin.kind == "depths" else t.score_sum for t in tallies]
    assert found.statistic.tolist() == pytest.approx(sums, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("dedup", RULES)
@examples(60)
@given(st.data(), st.sampled_from(sorted(FAMILIES)), st.one_of(st.none(), st.integers(1, 8)))
def test_positions(dedup, data, family, max_contexts):
    twin, case = draw_case(data, family, dedup, weighted=False)
    scheme, options = public_of(twin), options_of(twin, case)
    options |= {"prompts": case.prompts, "max_contexts": max_contexts}
    positions = rs.score_positions(case.documents, scheme, dedup=dedup, **options)
    status, scores = positions.status, positions.scores
    expected_status, expected_scores = [], []
    for i, document in enumerate(case.documents):
        prompt = () if case.prompts is None else case.prompts[i]
        rules = rules_of(dedup, case)
        found = pipeline.positions(document, twin, rules, prompt, max_contexts)
        by_position = {p.position: p for p in found}
        for at in range(len(document)):
            p = by_position.get(at)
            expected_status.append(1 if p is None else STATUS[p.fate])
            scored = p is not None and p.fate == "scored"
            expected_scores.append(np.mean(p.score) if scored else np.nan)
    assert status.tolist() == expected_status
    np.testing.assert_allclose(scores, np.array(expected_scores, dtype=float), 1e-12, 1e-15)


@st.composite
def pairs(draw, twin):
    """(context, target, weight, place), a target once a place, not in the order of places."""
    k = twin.window_width - 1
    context = st.lists(tokens(twin, 2), min_size=k, max_size=k).map(tuple)
    found = []
    for place in range(draw(st.integers(0, 6))):
        c = draw(context)
        targets = draw(st.lists(tokens(twin, 3), unique=True, min_size=1, max_size=3))
        found += [(c, target, draw(dyadic), place) for target in targets]
    return draw(st.permutations(found))


@pytest.mark.parametrize("dedup", RULES)
@examples(60)
@given(st.data(), st.sampled_from(sorted(FAMILIES)), st.sampled_from(["one", "sum"]))
def test_pairs(dedup, data, family, combine):
    twin = data.draw(FAMILIES[family])
    if dedup == "context" and twin.window_width == 1:
        twin = replace(twin, context_width=2)
    rows = data.draw(pairs(twin))
    phi = None
    if rows and 1 < twin.window_width <= 17 and data.draw(st.booleans()):
        phi = frozenset(c for c, *_ in rows[:3])
    case = Case([], None, None, phi, None, "exclude", combine, 1)
    scorer = scorer_of([twin], dedup, case)
    reference = pipeline.Scorer(twin, rules_of(dedup, case))
    for part in (rows[:4], rows[4:]):
        reference.add_pairs(*([row[i] for row in part] for i in range(4)))
        if part:
            contexts = np.array([c for c, *_ in part], dtype=np.int64).reshape(len(part), -1)
            targets, weights, places = ([row[i] for row in part] for i in (1, 2, 3))
            scorer.add_pairs(contexts, targets, weights, occurrences=places)
    expected = reference.tally()
    tally = scorer.tally()
    if tally.weighted:
        if combine == "one" and dedup == "unit":
            # two targets of one place may be one unit: which of the two weights stays is not said
            units = {(twin.unit((*c, t)), place) for c, t, _, place in rows}
            if len(units) < len(rows):
                return
        assert_same(tally, expected, twin.kind)


@examples(60)
@given(st.data(), st.integers(1, 16), st.sampled_from([2, 5, 2**16, 2**20]))
def test_kgram_counts(data, width, vocab_size):
    ids = st.one_of(st.integers(0, 1), st.sampled_from([vocab_size - 1, vocab_size // 2]))
    documents = data.draw(st.lists(st.lists(ids, max_size=width + 10), max_size=5))
    counts = rs.KgramCounts(width, vocab_size)
    cut = data.draw(st.integers(0, len(documents)))
    for part in (documents[:cut], documents[cut:]):
        counts.add(part)
    expected = pipeline.count_kgrams(documents, width)
    rows, numbers = counts.to_numpy()
    found = dict(zip(map(tuple, rows.tolist()), numbers.tolist(), strict=True))
    assert found == expected
    assert list(found) == sorted(found)
    assert (counts.total, len(counts)) == (expected.total(), len(expected))
    n = data.draw(st.integers(0, len(expected) + 1))
    top = [kgram for kgram, _ in pipeline.top_kgrams(expected, n)]
    assert list(counts.top(n)) == sorted(top)
