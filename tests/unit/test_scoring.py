"""The interface of scoring: results, weights, states, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import radscore as rs
from radscore.stats import BernoulliLaw, weighted_test
from scipy.stats import binom, gamma, kstest

KEYED = rs.Keyed(vocab_size=500, key=bytes(range(16)), context_width=2, gamma=0.25)
GUMBEL = rs.Keyed(vocab_size=500, key=bytes(range(16)), context_width=2, method="gumbel")
LISTS = rs.KGW(vocab_size=500, gamma=0.25, context_width=1, seeding="hash", seed=3)


def text(n=4000, seed=0, vocab_size=500):
    rng = np.random.default_rng(seed)
    return rng.zipf(1.5, (n // 100, 100)) % vocab_size


def scored(scheme, documents, **options):
    scorer = rs.Scorer(scheme, **options)
    scorer.add(documents)
    return scorer


def test_green_result_is_the_binomial_tail():
    result = scored(KEYED, text()).result()
    expected = binom.sf(result.n_green - 1, result.n_scored, 0.25)
    assert result.pvalue == pytest.approx(expected, rel=1e-9)
    assert result.log10_pvalue == pytest.approx(math.log10(expected), rel=1e-9)
    assert result.statistic == result.n_green
    assert result.expected == pytest.approx(result.n_scored / 4)
    assert result.n_windows == 40 * 98
    assert result.n_windows == result.n_scored + result.n_duplicates
    interval = result.confidence_interval()
    assert interval.low < result.n_green / result.n_scored < interval.high
    assert result.notes == ()


def test_gumbel_result_is_the_gamma_tail():
    result = scored(GUMBEL, text()).result()
    assert result.pvalue == pytest.approx(gamma.sf(result.statistic, result.n_scored), rel=1e-9)
    assert result.n_green is None
    with pytest.raises(rs.errors.ArgumentError, match="confidence interval"):
        result.confidence_interval()


def test_the_curve_is_the_test_of_a_prefix():
    documents = rs.Documents.of(text())
    steps = [150, 1000, 3999, 4000]
    result = scored(KEYED, documents, curve=steps).result()
    assert [point.n_tokens for point in result.curve] == steps
    for point in result.curve:
        offsets = np.minimum(documents.offsets, point.n_tokens)
        prefix = scored(KEYED, rs.Documents(documents.values, offsets)).result()
        assert (point.n_scored, point.statistic) == (prefix.n_scored, prefix.n_green)
        assert point.log10_pvalue == prefix.log10_pvalue


def test_no_rule_no_pvalue():
    result = scored(KEYED, text(), dedup="none").result()
    assert result.n_scored == result.n_windows
    assert math.isnan(result.pvalue)
    assert "no valid p-value" in result.notes[0]
    assert json.loads(json.dumps(result.to_dict()))["pvalue"] is None
    scores = rs.score_documents(text(), KEYED, dedup="none")
    assert np.isnan(scores.log10_pvalue).all()


def test_a_rule_that_is_not_exact_says_so():
    mixed = rs.KGW(seeding="additive", vocab_size=500, gamma=0.25, context_width=3, hash_key=11)
    assert "approximate" in scored(mixed, text(), dedup="window").result().notes[0]
    assert scored(mixed, text(), dedup="unit").result().notes == ()
    assert scored(KEYED, text(), dedup="window").result().notes == ()


def test_weights_of_one_are_the_plain_test():
    plain = scored(KEYED, text()).result()
    scorer = rs.Scorer(KEYED)
    scorer.add(text(), weights=np.ones(4000))
    result = scorer.result()
    assert result.statistic == pytest.approx(plain.n_green - plain.n_scored / 4)
    assert result.log10_pvalue == pytest.approx(plain.log10_pvalue, rel=1e-9)
    assert result.weighted.method.startswith("exact")
    assert (result.n_scored, result.n_duplicates) == (plain.n_scored, plain.n_duplicates)


@pytest.mark.parametrize("scheme", [KEYED, GUMBEL, LISTS], ids=["keyed", "gumbel", "lists"])
@pytest.mark.parametrize("combine", ["one", "sum"])
def test_weighted_sums_are_tested_as_such(scheme, combine):
    """The test of the weighted units, which tests/property holds to the twin."""
    scorer = rs.Scorer(scheme, combine=combine)
    scorer.add(text(), weights=np.random.default_rng(1).integers(-3, 6, 4000).astype(float))
    weights, scores, groups, _ = scorer.core.weighted_units(0)
    law, result = scheme.null_law, scorer.result()
    statistic = (weights * (scores - law.mean)).sum()
    assert result.statistic == pytest.approx(statistic, rel=1e-9)
    assert (result.expected, result.n_green, result.n_scored) == (0, None, len(weights))
    lists = {"groups": groups, "list_size": 125, "vocab_size": 500} if scheme is LISTS else {}
    again = weighted_test(result.statistic, weights, law, **lists)
    assert result.log10_pvalue == pytest.approx(again.log10_pvalue, rel=1e-6)


def test_pairs_are_windows():
    documents = text()
    contexts = np.concatenate([row[[range(i, i + 2) for i in range(98)]] for row in documents])
    targets = documents[:, 2:].ravel()
    scorer = rs.Scorer(KEYED)
    scorer.add_pairs(contexts, targets)
    assert scorer.tally().n_green == scored(KEYED, documents).tally().n_green
    scorer.add_pairs(np.empty((0, 2), int), [])
    heavy = rs.Scorer(KEYED, dedup="context", combine="sum")
    heavy.add_pairs([[1, 2], [1, 2], [1, 2]], [3, 4, 3], [0.5, 0.25, 9.0], occurrences=[0, 0, 1])
    assert heavy.tally().sum_weight == 0.75
    with pytest.raises(rs.errors.TokenError, match="token id 500 of pair 1"):
        scorer.add_pairs([[1, 2], [3, 500]], [4, 5])
    with pytest.raises(rs.errors.ArgumentError, match="windows have 2 tokens"):
        scorer.add_pairs([[1]], [4])
    with pytest.raises(rs.errors.ArgumentError, match=r"\(2, 2\) and \(3,\)"):
        scorer.add_pairs([[1, 2], [3, 4]], [4, 5, 6])


def test_bad_weights_change_nothing():
    scorer = rs.Scorer(KEYED)
    with pytest.raises(rs.errors.ArgumentError, match="3 weights for 4 tokens"):
        scorer.add([[1, 2, 3, 4]], weights=[1.0, 2.0, 3.0])
    with pytest.raises(rs.errors.ArgumentError, match="weight 1 is inf"):
        scorer.add([[1, 2, 3, 4]], weights=[1.0, math.inf, 3.0, 4.0])
    scorer.add([[1, 2, 3, 4]])
    with pytest.raises(rs.errors.ArgumentError, match="from the first windows on"):
        scorer.add([[1, 2, 3, 4]], weights=[1.0] * 4)
    assert scorer.tally().n_scored == 2


def test_an_id_outside_changes_nothing():
    scorer = scored(KEYED, text())
    before = scorer.tally()
    with pytest.raises(rs.errors.TokenError, match="token id 500 at position 2 of document 1"):
        scorer.add([[1, 2, 3], [4, 5, 500]])
    with pytest.raises(rs.errors.TokenError, match="in the prompts: token id -1 at position 0"):
        scorer.add([[1, 2, 3]], prompts=[[-1]])
    with pytest.raises(rs.errors.ArgumentError, match="2 prompts for 1 documents"):
        scorer.add([[1, 2, 3]], prompts=[[1], [2]])
    assert scorer.tally() == before


def test_states_resume_exactly(tmp_path):
    path = tmp_path / "state.rss"
    documents = text()
    schemes = [KEYED, LISTS, rs.KGW.from_lm_watermarking("minhash", vocab_size=500, gamma=0.25)]
    for dedup in ("unit", "window", "context", "none"):
        whole = scored(schemes, documents, dedup=dedup, curve=[1700]).results()
        scorer = scored(schemes, documents[:13], dedup=dedup, curve=[1700])
        scorer.save(path, extra={"place": 13})
        scorer = rs.Scorer.load(path, schemes)
        assert scorer.extra == {"place": 13}
        scorer.add(documents[13:20])
        scorer.results()
        scorer.save(path)
        scorer = rs.Scorer.load(path, schemes, threads=1)
        scorer.add(documents[20:])
        assert list(map(repr, scorer.results())) == list(map(repr, whole))


def test_foreign_states_are_refused(tmp_path):
    path = tmp_path / "state.rss"
    phi = rs.KgramSet.from_documents(text(), 2, 500, top=20)
    scored(KEYED, text(), filter=phi).save(path)
    rs.Scorer.load(path, KEYED, filter=phi)
    other_key = KEYED.decoys(1)[0]
    with pytest.raises(rs.errors.StateError, match="made with another scheme or key"):
        rs.Scorer.load(path, other_key, filter=phi)
    with pytest.raises(rs.errors.StateError, match="another filter"):
        rs.Scorer.load(path, KEYED)
    with pytest.raises(rs.errors.StateError, match="does not exist"):
        rs.Scorer.load(tmp_path / "none", KEYED)
    whole = path.read_bytes()
    secret = bytes(range(16))
    assert secret not in whole
    assert secret.hex().encode() not in whole
    path.write_bytes(whole[:4] + b"\x63" + whole[5:])
    with pytest.raises(rs.errors.StateError, match="of version 99"):
        rs.Scorer.load(path, KEYED, filter=phi)
    path.write_bytes(whole[:-1])
    with pytest.raises(rs.errors.StateError, match="damaged"):
        rs.Scorer.load(path, KEYED, filter=phi)


def test_damping_is_part_of_a_state(tmp_path):
    path = tmp_path / "state.rss"
    documents = text()
    damping = {"saturation": 2, "frequency": 3.0}
    whole = scored(KEYED, documents, combine="sum", **damping).result()
    assert (whole.saturation, whole.frequency) == (2.0, 3.0)
    plain = scored(KEYED, documents, combine="sum")
    assert whole.statistic != plain.result().statistic
    first, second = (
        scored(KEYED, part, combine="sum", **damping) for part in (documents[:13], documents[13:])
    )
    first.save(path)
    loaded = rs.Scorer.load(path, KEYED)
    loaded.merge(second)
    assert repr(loaded.result()) == repr(whole)
    with pytest.raises(rs.errors.StateError, match="differ in saturation, frequency"):
        plain.merge(loaded)
    with pytest.raises(rs.errors.ArgumentError, match="saturation= has no effect without combine"):
        rs.Scorer(KEYED, saturation=30.0)
    for value in (0, -1, math.inf, math.nan, "x"):
        with pytest.raises(rs.errors.ArgumentError, match="frequency must be a number from 1e-9"):
            rs.Scorer(KEYED, combine="sum", frequency=value)


def test_merging():
    documents = text()
    left, right = scored(KEYED, documents[:25]), scored(KEYED, documents[15:])
    left.merge(right)
    assert left.tally().n_green == scored(KEYED, documents).tally().n_green
    with pytest.raises(rs.errors.StateError, match="differ in dedup"):
        left.merge(rs.Scorer(KEYED, dedup="window"))
    with pytest.raises(rs.errors.StateError, match="differ in scheme or key"):
        left.merge(rs.Scorer(KEYED.decoys(1)[0]))
    half = scored(KEYED, documents[:20]).tally()
    whole = half.merge(rs.Scorer(KEYED).tally())
    assert whole == half


def test_tallies_of_different_windows_merge():
    rng = np.random.default_rng(2)
    low, high = rng.integers(0, 250, (9, 60)), rng.integers(250, 500, (9, 60))
    for scheme in (KEYED, GUMBEL, rs.SynthID(vocab_size=500, keys=(1, 2, 3), context_width=2)):
        # weights of one residue add up, in windows of both halves: their squares do not
        weighted = () if scheme.core.residues else (np.linspace(-1, 2, 540),)
        for weights in (None, *weighted):
            parts = []
            for documents in (low, high):
                scorer = rs.Scorer(scheme, dedup="window")
                scorer.add(documents, weights=weights)
                parts.append(scorer.tally())
            whole = rs.Scorer(scheme, dedup="window")
            for documents in (low, high):
                whole.add(documents, weights=weights)
            assert parts[0].merge(parts[1]) == whole.tally()


def test_decoys_with_weights():
    """The same weights under every key; the decoys of random keys have the law of the test."""
    scorer = rs.Scorer([KEYED, *KEYED.decoys(199, seed=4)], combine="sum")
    scorer.add(text(), weights=np.random.default_rng(0).normal(size=4000))
    result = scorer.decoy_test()
    results = scorer.results()
    assert result.statistic == pytest.approx(results[0].zscore, rel=1e-9)
    assert result.decoy_statistics == pytest.approx([r.zscore for r in results[1:]], rel=1e-9)
    assert kstest(result.decoy_statistics, "norm").pvalue > 1e-3


def test_decoys_have_their_law():
    scorer = scored([KEYED, *KEYED.decoys(199, seed=4)], text())
    result = scorer.decoy_test()
    assert result.n_decoys == 199
    assert result.standard_deviation == pytest.approx(1, abs=0.25)
    assert result.pvalue == (1 + result.n_reached) / 200
    first = scorer.results()[0]
    assert result.statistic == pytest.approx(first.zscore, rel=1e-9)
    assert isinstance(KEYED.null_law, BernoulliLaw)
    with pytest.raises(rs.errors.ArgumentError, match="decoys"):
        scored(KEYED, text()).decoy_test()


@pytest.mark.parametrize(
    ("documents", "options", "says"),
    [
        ([], {}, "there are no documents"),
        ([[1, 2], [3]], {}, "all 2 documents are shorter than the 3 tokens"),
        ([[1, 2, 3]], {"start": 9}, "no document reaches start 9"),
        (
            [[1, 2, 3]],
            {"filter": rs.KgramSet.from_kgrams([[7, 7]], vocab_size=500)},
            "of 1 windows 0 were excluded by prompts, 1 removed by the filter",
        ),
    ],
)
def test_nothing_to_test_is_an_error(documents, options, says):
    with pytest.raises(rs.errors.TokenError, match=says):
        scored(KEYED, documents, **options).result()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rs.Scorer([]), "at least one scheme"),
        (lambda: rs.Scorer("kgw"), "scheme must be a Scheme, not str"),
        (
            lambda: rs.Scorer(KEYED, dedup="units"),
            "dedup must be one of unit, window, context, none, not 'units'",
        ),
        (lambda: rs.Scorer(None), "scheme must be a Scheme, not NoneType"),
        (lambda: rs.Scorer(KEYED, dedup=None), "dedup must be one of .*, not None"),
        (lambda: rs.score_documents([[1]], KEYED, filter=7), "filter must be a KgramSet"),
        (lambda: rs.Scorer(KEYED, combine="add"), "combine must be"),
        (lambda: rs.Scorer(KEYED, prompt_role="skip"), "prompt_role must be"),
        (lambda: rs.Scorer(KEYED, threads=0), "threads must be from 1"),
        (lambda: rs.Scorer(KEYED, start=1), "start must be at least 2"),
        (lambda: rs.Scorer(KEYED, start=-1), "start must be from 0"),
        (lambda: rs.Scorer(KEYED, filter={(1, 2)}), "filter must be a KgramSet"),
        (lambda: rs.Scorer(KEYED, curve=[5, 5]), "curve steps"),
        (
            lambda: rs.score([[1, 2, 3]], KEYED, curve=3),
            r"curve must be numbers of tokens, .* not 3",
        ),
        (lambda: rs.score([[1, 2, 3]], KEYED, curve="9"), "curve must be numbers of tokens"),
        (lambda: rs.Scorer([KEYED, rs.Keyed(vocab_size=9, key=bytes(16))]), "vocabularies"),
        (lambda: rs.score_documents([[1]], KEYED, max_contexts=0), "max_contexts"),
        (lambda: rs.score_positions([[1]], KEYED, dedup="all"), "dedup must be"),
        (lambda: rs.Scorer([KEYED, LISTS]).result(), "2 schemes; use results"),
    ],
)
def test_bad_arguments_are_named(call, says):
    with pytest.raises(rs.errors.ArgumentError, match=says):
        call()


def test_documents_and_positions_agree():
    documents = rs.Documents.of(text())
    hashed = rs.SynthIDDeepMind(vocab_size=500, keys=(1, 2, 3))
    for scheme in (KEYED, GUMBEL, LISTS, hashed):
        scores = rs.score_documents(documents, scheme, max_sharing=None)
        places = rs.score_positions(documents, scheme)
        assert len(scores) == 40
        assert places.scored.reshape(40, 100).sum(1).tolist() == scores.n_scored.tolist()
        for i in (0, 17):
            alone = scored(scheme, [documents[i]]).result()
            assert scores.n_scored[i] == alone.n_scored
            assert scores.statistic[i] == pytest.approx(alone.statistic)
            assert scores.log10_pvalue[i] == pytest.approx(alone.log10_pvalue, rel=1e-12)
    table = rs.SynthID(vocab_size=500, keys=(1, 2, 3), sampling_table_size=64)
    scores = rs.score_documents(documents, table, max_sharing=None)
    places = rs.score_positions(documents, table)
    assert places.scored.reshape(40, 100).sum(1).tolist() == scores.n_scored.tolist()
    assert scores.n_scored.max() <= 64 < scored(table, [documents[0]]).result().n_scored
    assert "n_documents: 40" in repr(scores)
    assert "duplicate: " in repr(places)


def test_max_contexts_and_prompts_per_document():
    document = [1, 2, 3, 1, 2, 4, 5, 6]
    places = rs.score_positions([document], LISTS, max_contexts=3)
    assert places.status.tolist() == [1, 0, 0, 0, 4, 0, 3, 3]
    places = rs.score_positions([document], LISTS, prompts=[[9, 2, 5]])
    assert places.status.tolist() == [1, 0, 2, 0, 4, 2, 0, 2]
    reach = rs.score_positions([document], LISTS, prompts=[[9, 7]], prompt_role="context")
    assert reach.status.tolist() == [0, 0, 0, 0, 4, 0, 0, 0]


def test_what_weakens_a_result_is_said():
    text_seal = rs.TextSeal(vocab_size=500, key=3, context_width=2)
    for scheme in (text_seal, rs.SynthIDDeepMind(vocab_size=500, keys=(1, 2, 3))):
        result = scored(scheme, text()).result()
        assert result.method.startswith("approximate: ")
        assert "decoy keys" in result.notes[0]
        assert "decoy keys" in rs.score_documents(text(), scheme).notes[0]
    table = rs.SynthID(vocab_size=500, keys=(1, 2, 3), context_width=2)
    result = scored(table, text()).result()
    assert (result.method, result.notes) == ("exact tail over random keys", ())
    assert "decoy keys" in rs.score_documents(text(), table).notes[0]
    public = rs.KGW(vocab_size=500)
    assert "public default" in scored(public, text()).result().notes[0]
    assert "rank among all keys and not a frequency" in scored(public, text()).result().notes[0]
    assert scored(KEYED, text()).result().notes == ()
    result = scored(KEYED, text()).result()
    assert result.parameters == KEYED.to_dict()
    assert result.version == rs.__version__
    gumbel = rs.TextSeal(vocab_size=500, key=3, context_width=2, method="gumbel")
    scorer = rs.Scorer(gumbel)
    scorer.add(text(), weights=np.full(4000, -1.0))
    assert "grid" in scorer.result().notes[-1]
    weighted = rs.Scorer(rs.SynthID(vocab_size=500, keys=(1, 2), method="weighted_mean"))
    weighted.add(text(), weights=np.ones(4000))
    with pytest.raises(rs.errors.ArgumentError, match="method='mean'"):
        weighted.result()


def test_nothing_of_a_pvalue_without_a_rule():
    scorer = rs.Scorer(KEYED, dedup="none")
    scorer.add(text(), weights=np.ones(4000))
    result = scorer.result()
    assert result.weighted is None
    assert math.isnan(result.zscore)
    with pytest.raises(rs.errors.ArgumentError, match="confidence interval"):
        scored(KEYED, text(), dedup="none").result().confidence_interval()


def test_documents_without_a_unit_are_no_tests():
    marked = np.flatnonzero(LISTS.green_mask([[7]])[0])[:60]
    documents = [[t for pair in ((7, int(g)) for g in marked) for t in pair], *[[1]] * 9]
    found = rs.score_documents(documents, LISTS).false_discovery(0.05)
    assert found.n_tests == 1


def test_keys_that_repeat_are_refused():
    for scheme in (rs.SynthID, rs.SynthIDDeepMind):
        with pytest.raises(rs.errors.SchemeError, match="keys must differ"):
            scheme(vocab_size=500, keys=(5, 6, 5))
    for bad in (
        lambda: rs.SBW(vocab_size=500, key=0),
        lambda: rs.KGW(vocab_size=500, seed=1, salt_key=0),
    ):
        with pytest.raises(rs.errors.SchemeError):
            bad()


def test_decoys_are_the_same_scheme_under_other_keys():
    for schemes in ([KEYED, GUMBEL], [KEYED, KEYED]):
        scorer = rs.Scorer(schemes)
        scorer.add(text())
        with pytest.raises(rs.errors.ArgumentError, match="one scheme under different keys"):
            scorer.decoy_test()


def test_odd_input_is_refused():
    with pytest.raises(rs.errors.TokenError, match="masked"):
        rs.Documents.of(np.ma.array([1, 2], mask=[0, 1]))
    with pytest.raises(rs.errors.TokenError, match="beyond 2"):
        rs.Documents.of([np.array([2**63 + 5], dtype=np.uint64), np.array([-1])])
    with pytest.raises(rs.errors.ArgumentError, match="plain JSON"):
        rs.Scorer(KEYED).save("unused", extra={"a": math.nan})
    with pytest.raises(rs.errors.ArgumentError, match="only a Scorer"):
        rs.Scorer(KEYED).merge("x")
    with pytest.raises(rs.errors.ArgumentError, match="not 2"):
        rs.score_documents([[1, 2, 3]], [KEYED, GUMBEL])
    assert len(rs.score_documents([[1, 2, 3]], [KEYED])) == 1
    rs.Scorer(KEYED).add_pairs([], [])


@pytest.mark.parametrize("method", ["mean", "weighted_mean"])
def test_residues_of_a_corpus_are_its_evidence(method, tmp_path):
    """Split, merged, saved, under one key or many: one result."""
    scheme = rs.SynthID(
        vocab_size=500, keys=(1, 2, 3), context_width=2, sampling_table_size=64, method=method
    )
    decoys = scheme.decoys(4, seed=1)
    whole = rs.Scorer([scheme, *decoys, KEYED], curve=[1000, 4000])
    whole.add(text())
    result = whole.results()[0]
    padded = np.pad(text(), [(0, 0), (2, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1).reshape(-1, 3)
    assert result.n_scored == len(np.unique(windows, axis=0))
    assert result.curve[-1].log10_pvalue == result.log10_pvalue
    for one, expected in zip([scheme, *decoys], whole.results(), strict=False):
        alone = scored(one, text()).result()
        assert (alone.statistic, alone.log10_pvalue) == (expected.statistic, expected.log10_pvalue)
    first, second = rs.Scorer(scheme), rs.Scorer(scheme)
    first.add(text()[:20])
    second.add(text()[20:])
    first.save(tmp_path / "state")
    first = rs.Scorer.load(tmp_path / "state", scheme)
    first.merge(second)
    assert first.tallies() == whole.tallies()[:1]


def test_weights_of_residues_add_up():
    """Whole and real weights of windows; equal ones are the plain test."""
    scheme = rs.SynthID(vocab_size=500, keys=(1, 2, 3), context_width=2, sampling_table_size=64)
    plain = scored(scheme, text()).result()
    for factor, exact in ((1.0, True), (0.3, False)):
        scorer = rs.Scorer(scheme)
        scorer.add(text(), weights=np.full(4000, factor))
        result = scorer.result()
        assert result.n_scored == plain.n_scored
        assert result.weighted.n_units == 64
        assert result.zscore == pytest.approx(plain.zscore, rel=1e-9)
        assert result.log10_pvalue == pytest.approx(plain.log10_pvalue, rel=1e-9 if exact else 0.02)
    late = rs.Scorer(scheme, predictable=True)
    late.add(text(), weights=np.ones(4000))
    result = late.result()
    assert result.n_scored == 64
    assert result.method.startswith("approximate: martingale")


def test_documents_have_no_pvalue_behind_a_filter_that_may_depend_on_the_key():
    documents = [row.tolist() for row in text()[:5]]
    for watermarked in (True, None):
        phi = rs.KgramSet.from_documents(documents, 2, 500, watermarked=watermarked)
        found = rs.score_documents(documents, KEYED, filter=phi)
        assert np.isnan(found.log10_pvalue).all()
        assert found.method == "none: the filter may depend on the key"
        assert "make it from unmarked text" in found.notes[-1]
        assert np.isnan(decoyed(phi).decoy_test().pvalue)
    phi = rs.KgramSet.from_documents(documents, 2, 500, watermarked=False)
    assert np.isfinite(rs.score_documents(documents, KEYED, filter=phi).log10_pvalue).all()
    assert np.isfinite(decoyed(phi).decoy_test().pvalue)


def decoyed(phi):
    scorer = rs.Scorer([KEYED, *KEYED.decoys(9)], filter=phi)
    scorer.add(text()[:5])
    return scorer


def test_several_schemes_exclude_by_their_own_seeds():
    """Prompts exclude under each key what that key's random function reads of them."""
    schemes = [rs.KGW(vocab_size=500, context_width=3, seeding=f) for f in ("additive", "minfunc")]
    schemes += [*schemes[0].decoys(2), rs.Keyed(vocab_size=500, key=bytes(16), context_width=3)]
    prompts = np.random.default_rng(5).integers(0, 20, (40, 30))
    several = rs.Scorer(schemes)
    several.add(text() % 20, prompts)
    for scheme, result in zip(schemes, several.results(), strict=True):
        alone = rs.Scorer(scheme)
        alone.add(text() % 20, prompts)
        assert alone.result() == result
    excluded = [result.n_excluded for result in several.results()]
    assert excluded[1] > excluded[0] > excluded[-1] > 0


def test_prompts_of_several_schemes_come_first_and_states_know(tmp_path):
    schemes = [rs.KGW(vocab_size=500, context_width=2, seeding="additive")]
    schemes += schemes[0].decoys(2)
    prompts = text()[:, :10]
    late = rs.Scorer(schemes)
    late.add(text())
    with pytest.raises(
        rs.errors.ArgumentError, match="prompts must be given from the first documents"
    ):
        late.add(text(), prompts)
    first, second = rs.Scorer(schemes), rs.Scorer(schemes)
    first.add(text()[:20], prompts[:20])
    second.add(text()[20:], prompts[20:])
    whole = rs.Scorer(schemes)
    whole.add(text(), prompts)
    first.save(tmp_path / "state")
    loaded = rs.Scorer.load(tmp_path / "state", schemes)
    loaded.merge(second)
    assert loaded.results() == whole.results()
    empty = rs.Scorer(schemes)
    empty.merge(second)
    assert empty.results() == second.results()
