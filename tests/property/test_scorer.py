"""Property: what the core makes of documents is what the twin makes of them, whatever the rules."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalog import FAMILIES, Case, cases, core_of, dyadic, examples, tokens
from hypothesis import given
from hypothesis import strategies as st
from radscore import _core
from radscore._reference import pipeline
from radscore.documents import Documents

RULES = ("unit", "window", "context", "none")
STATUS = {"scored": 0, "excluded": 2, "filtered": 3, "duplicate": 4}


def arrays(documents):
    ragged = Documents.of(documents)
    return ragged.values, ragged.offsets


def kgram_set(kgrams, width, vocab_size):
    rows = np.array(sorted(kgrams), dtype=np.uint32).reshape(len(kgrams), width)
    return _core.KgramSet.from_rows(rows, vocab_size)


def core_scorer(twins, dedup, case, curve=()):
    width, vocab_size = twins[0].window_width, twins[0].vocab_size
    phi = None if case.filter is None else kgram_set(case.filter, width - 1, vocab_size)
    return _core.Scorer(
        [core_of(twin) for twin in twins],
        dedup,
        case.combine,
        case.start,
        case.prompt_role,
        phi,
        case.threads,
        list(curve),
    )


def add(scorer, case, part=slice(None)):
    documents = case.documents[part]
    prompts = None if case.prompts is None else arrays(case.prompts[part])
    weights = None
    if case.weights is not None:
        weights = np.array([w for row in case.weights[part] for w in row], dtype=np.float64)
    scorer.add(arrays(documents), prompts, weights)


def tally_of(twin, dedup, case):
    scorer = core_scorer([twin], dedup, case)
    add(scorer, case)
    return scorer.tallies()[0]


def rules_of(dedup, case):
    return pipeline.Rules(dedup, case.combine, case.filter, case.start, case.prompt_role)


def twin_of(twin, dedup, case):
    scorer = pipeline.Scorer(twin, rules_of(dedup, case))
    scorer.add(case.documents, case.prompts, case.weights)
    return scorer


def assert_same(core, twin, kind):
    """A tally of the core and one of the twin."""
    counts = ["documents", "short_documents", "tokens", "windows"]
    counts += ["excluded", "filtered", "duplicates", "scored"]
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
    scorer = core_scorer([twin], dedup, case)
    add(scorer, case)
    evidence = [r for r in twin_of(twin, dedup, case).evidence() if r.weight != 0]
    units = scorer.weighted_units(0)
    assert units is not None
    weights, scores, groups = units
    expected = [(r.weight, float(np.mean(twin.score(r.window)))) for r in evidence]
    found = list(zip(weights.tolist(), scores.tolist(), strict=True))
    assert len(found) == len(expected)
    for mine, theirs in zip(sorted(found), sorted(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-15)
    if groups is not None:
        assert len(set(groups.tolist())) == len({twin.seed32(r.window) for r in evidence})


@pytest.mark.parametrize("dedup", RULES)
@examples(40)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_split_and_merge_is_the_whole(dedup, data, family):
    twin, case = draw_case(data, family, dedup)
    whole = tally_of(twin, dedup, case)
    cut = data.draw(st.integers(0, len(case.documents)))
    first, second = (core_scorer([twin], dedup, case) for _ in range(2))
    add(first, case, slice(cut))
    add(second, case, slice(cut, None))
    first.merge(second)
    assert first.tallies() == [whole]
    calls = core_scorer([twin], dedup, replace(case, threads=1))
    for i in range(len(case.documents)):
        add(calls, case, slice(i, i + 1))
        if data.draw(st.booleans()):
            calls.flush()
    if case.documents or case.weights is None:
        assert calls.tallies() == [whole]


@pytest.mark.parametrize("dedup", RULES)
@examples(20)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_a_saved_state_continues(dedup, data, family):
    twin, case = draw_case(data, family, dedup)
    cut = data.draw(st.integers(0, len(case.documents)))
    before, after = (core_scorer([twin], dedup, case) for _ in range(2))
    add(before, case, slice(cut))
    if data.draw(st.booleans()):
        before.flush()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        before.save(path, b"header")
        header, state = _core.Scorer.read_state(path)
    assert header == b"header"
    after.restore(state)
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
    case = replace(case, combine="one")
    scorer = core_scorer([twin], dedup, case)
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
    case = replace(case, combine="one")
    records = twin_of(twin, "none", case).evidence()
    tally = tally_of(twin, "unit", case)
    assert tally.n_scored == len({twin.unit(record.window) for record in records})
    assert tally.n_scored + tally.n_duplicates == len(records)


def test_units_that_windows_share():
    """Permuted contexts of a sum, ids that alias, contexts that differ in tokens not read."""
    document = [[1, 2, 9], [2, 1, 9], [0, 3, 9]]
    common = {"vocab_size": 2**17, "gamma": 0.5, "context_width": 2, "self_salt": False}
    additive = {"seeding": "additive", "seed": 0, "key": 15485863, "table_seed": 1}
    last = {**additive, "seeding": "last_token"}
    for core, documents, n_units in (
        (_core.Scheme.kgw(**common, **additive, green_last=False), document, 1),
        (_core.Scheme.kgw(**common, **last, green_last=False), [[1, 2, 9], [5, 2, 9]], 1),
        (
            _core.Scheme.synthid(
                keys=[3, 4],
                vocab_size=2**17,
                ngram_len=3,
                sampling_table_size=65536,
                sampling_table_seed=0,
            ),
            [[1, 2, 9], [1 + 65536, 2, 9], [1, 2, 9 + 65536], [1, 2, 10]],
            2,
        ),
    ):
        found = {}
        for dedup in ("unit", "window"):
            scorer = _core.Scorer([core], dedup, "one", None, "exclude", None, 1, [])
            scorer.add(arrays(documents))
            found[dedup] = scorer.tallies()[0].n_scored
        assert found == {"unit": n_units, "window": len(documents)}


@examples(40)
@given(st.data(), st.sampled_from(RULES), st.integers(20, 60))
def test_many_schemes_at_once(data, dedup, vocab_size):
    """One scorer with several schemes, of several widths, is a scorer for each."""
    families = data.draw(st.lists(st.sampled_from(sorted(FAMILIES)), min_size=2, max_size=4))
    twins = [replace(data.draw(FAMILIES[f]), vocab_size=vocab_size) for f in families]
    twins = [replace(t, context_width=2 + t.context_width % 3) for t in twins]
    case = data.draw(cases(max(twins, key=lambda twin: twin.window_width)))
    case = replace(case, filter=None)
    if case.start is not None:
        case = replace(case, start=max(case.start, 5))
    scorer = core_scorer(twins, dedup, case)
    add(scorer, case)
    assert scorer.tallies() == [tally_of(twin, dedup, case) for twin in twins]


@pytest.mark.parametrize("dedup", RULES)
@examples(40)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_curve(dedup, data, family):
    twin, case = draw_case(data, family, dedup, weighted=False)
    case = replace(case, combine="one", prompts=None, prompt_role="exclude", filter=None)
    if case.start is not None and case.start < twin.window_width - 1 and not twin.pads:
        case = replace(case, start=None)
    total = sum(map(len, case.documents))
    steps = sorted(data.draw(st.sets(st.integers(1, max(total, 1)), max_size=4)))
    scorer = core_scorer([twin], dedup, case, steps)
    for i in range(len(case.documents)):
        add(scorer, case, slice(i, i + 1))
    expected = pipeline.curve(case.documents, twin, steps, rules_of(dedup, case))
    expected = expected if total else []
    found = scorer.curve()
    assert [(n, scored) for n, [(scored, _)] in found] == [(n, k) for n, k, _ in expected]
    for (_, [(_, statistic)]), (_, _, total_score) in zip(found, expected, strict=True):
        value = sum(total_score) if twin.kind == "depths" else total_score
        assert statistic == pytest.approx(value, rel=1e-12, abs=1e-15)


def document_call(twin, dedup, case, max_contexts):
    width = twin.window_width
    phi = None
    if case.filter is not None:
        phi = kgram_set(case.filter, width - 1, twin.vocab_size)
    prompts = None if case.prompts is None else arrays(case.prompts)
    documents = arrays(case.documents)
    rules = (dedup, case.start, case.prompt_role, phi, case.threads, max_contexts)
    return (core_of(twin), documents, prompts, *rules)


@pytest.mark.parametrize("dedup", RULES)
@examples(60)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_per_document(dedup, data, family):
    twin, case = draw_case(data, family, dedup, weighted=False)
    case = replace(case, combine="one")
    found = _core.score_documents(*document_call(twin, dedup, case, None))
    tallies = pipeline.per_document(case.documents, twin, rules_of(dedup, case), case.prompts)
    for name in ("n_windows", "n_excluded", "n_filtered", "n_duplicates", "n_scored"):
        assert found[name].tolist() == [getattr(tally, name) for tally in tallies]
    sums = [sum(t.score_sum) if twin.kind == "depths" else t.score_sum for t in tallies]
    assert found["statistic"].tolist() == pytest.approx(sums, rel=1e-12, abs=1e-15)
    if twin.kind == "depths":
        assert found["depth_counts"].tolist() == [n for t in tallies for n in t.score_sum]


@pytest.mark.parametrize("dedup", RULES)
@examples(60)
@given(st.data(), st.sampled_from(sorted(FAMILIES)), st.one_of(st.none(), st.integers(1, 8)))
def test_positions(dedup, data, family, max_contexts):
    twin, case = draw_case(data, family, dedup, weighted=False)
    status, scores = _core.score_positions(*document_call(twin, dedup, case, max_contexts))
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
    if rows and twin.window_width > 1 and data.draw(st.booleans()):
        phi = frozenset(c for c, *_ in rows[:3])
    case = Case([], None, None, phi, None, "exclude", combine, 1)
    scorer = core_scorer([twin], dedup, case)
    reference = pipeline.Scorer(twin, rules_of(dedup, case))
    for part in (rows[:4], rows[4:]):
        reference.add_pairs(*([row[i] for row in part] for i in range(4)))
        if part:
            windows = np.array([(*c, t) for c, t, *_ in part], dtype=np.uint32)
            weights = np.array([w for _, _, w, _ in part])
            places = np.array([place for *_, place in part], dtype=np.uint64)
            scorer.add_windows(windows, weights, places)
    expected = reference.tally()
    (tally,) = scorer.tallies()
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
    counts = _core.KgramCounts(width, vocab_size)
    cut = data.draw(st.integers(0, len(documents)))
    for part in (documents[:cut], documents[cut:]):
        counts.add(*arrays(part))
    expected = pipeline.count_kgrams(documents, width)
    rows, numbers = counts.rows()
    found = dict(zip(map(tuple, rows.tolist()), numbers.tolist(), strict=True))
    assert found == expected
    assert list(found) == sorted(found)
    assert (counts.total, len(counts)) == (expected.total(), len(expected))
    n = data.draw(st.integers(0, len(expected) + 1))
    top = [kgram for kgram, _ in pipeline.top_kgrams(expected, n)]
    assert sorted(map(tuple, counts.top(n, 1).rows().tolist())) == sorted(top)
