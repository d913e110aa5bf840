"""Positions chosen by their contexts: key-free, the same live and from files."""

import math

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.audits.open import test_open as open_test
from radscore.errors import ArgumentError, TokenError
from radscore.models import Weighting, predict
from radscore.scoring.contexts import OUTSIDE, Contexts, Lookup
from radscore.scoring.matched import MatchedScorer
from tiny import VOCAB, listed

SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=VOCAB, gamma=0.5, context_width=2)
HOW = {"weighting": Weighting("mass", max_weights=6), "batch_tokens": 64}


def test_lookup_is_a_dictionary():
    ids = st.integers(0, 3) | st.sampled_from([2**31, 2**32 - 1])

    @settings(max_examples=200, deadline=None)
    @given(st.data(), st.integers(1, 5))
    def check(data, width):
        rows = st.lists(st.tuples(*[ids] * width), max_size=30)
        some, asked = data.draw(rows), data.draw(rows)
        counts = data.draw(st.lists(st.integers(1, 9), min_size=len(some), max_size=len(some)))
        expected: dict[tuple[int, ...], int] = {}
        for row, n in zip(some, counts, strict=True):
            expected[row] = expected.get(row, 0) + n

        def array(rows):
            return np.array(rows, dtype=np.uint32).reshape(len(rows), width)

        lookup = Lookup(array(some), np.array(counts, dtype=np.uint64))
        assert lookup.counts(array(asked)).tolist() == [expected.get(row, 0) for row in asked]
        assert Lookup(array(some)).has(array(asked)).tolist() == [row in expected for row in asked]

    check()


def test_rows_that_share_a_name_are_told_apart(monkeypatch):
    names = Lookup._names

    def few(self, rows):
        first = self._factor == 0x9E37_79B9_7F4A_7C15
        return names(self, rows) % np.uint64(2) if first else names(self, rows)

    monkeypatch.setattr(Lookup, "_names", few)
    rows = np.arange(20, dtype=np.uint32).reshape(10, 2)
    lookup = Lookup(rows)
    assert lookup.counts(rows).tolist() == [1] * 10
    assert not lookup.has(rows[:, ::-1]).any()


@pytest.fixture(scope="module")
def docs():
    """Documents of few tokens, so that contexts come again."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 9, size=rng.integers(0, 40)) for _ in range(20)]


@pytest.fixture(scope="module")
def counts():
    made = rs.KgramCounts(2, VOCAB, watermarked=False)
    rng = np.random.default_rng(2)
    made.add([rng.integers(0, 9, size=30) for _ in range(4)])
    return made


def test_counts_and_sets(counts):
    everything = np.argwhere(np.ones((9, 9))).astype(np.uint32)
    numbers = np.array([counts[row] for row in everything.tolist()])
    for given_, least in ((counts, None), (counts, 2), (counts.top(min_count=2), None)):
        chosen = Contexts(given_, 2, min_count=least)
        enough = numbers >= (2 if least or given_ is not counts else 1)
        assert chosen.has(everything).tolist() == enough.tolist()
        expected = numbers if given_ is counts else np.ones(81)
        assert chosen.counts(everything).tolist() == np.where(enough, expected, 0).tolist()
    one, other = Contexts(counts, 2, min_count=2), Contexts(counts.top(min_count=2), 2)
    assert one.fingerprint == other.fingerprint
    assert one.note == other.note
    assert "of unmarked text" in one.note


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", ["prediction", "mass"])
def test_only_these_positions_count(model, docs, counts, tmp_path, kind, strict):  # noqa: PLR0917
    """Live, in what `predict` writes, and chosen when a file is tested."""
    how = {"weighting": Weighting(kind, max_weights=6, top=2), "batch_tokens": 64}
    how |= {"text_watermarked": strict, "max_length": 30}
    live = open_test(model, docs, SCHEME, contexts=counts, min_count=2, **how)
    every = predict(model, docs, tmp_path / "every", context_width=2, **how)
    some = predict(
        model, docs, tmp_path / "some", context_width=2, contexts=counts, min_count=2, **how
    )
    assert some.header.contexts == counts.top(min_count=2).fingerprint
    # the others are still there, without weight
    assert {one[:2] for one in listed(some)} == {one[:2] for one in listed(every)}
    inside = Contexts(counts, 2, min_count=2)
    weighed = [one for one in listed(some) if one[3]]
    expected = [
        one for one in listed(every) if one[3] and inside.has(np.array([one[1]], np.uint32))[0]
    ]
    assert [one[:3] for one in weighed] == [one[:3] for one in expected]
    assert 0 < len(weighed) < len([one for one in listed(every) if one[3]])
    assert some.totals.n_scored_positions == len({one[0] for one in weighed})
    assert live.removed[OUTSIDE] == some.totals.removed[OUTSIDE] > 0
    from_some = open_test(None, None, SCHEME, from_file=tmp_path / "some")
    from_every = open_test(
        None, None, SCHEME, from_file=tmp_path / "every", contexts=counts.top(min_count=2)
    )
    for result in (from_some, from_every):
        assert result.n_scored == live.n_scored
        assert result.statistic == pytest.approx(live.statistic, rel=2e-3, abs=2e-3)
        assert inside.note in result.notes
    assert inside.note in live.notes
    assert from_some.text_log10_pvalue == from_every.text_log10_pvalue  # all of the text is there


def test_matched_scores_after_chosen_contexts(model, reference, docs, counts, tmp_path):
    """Lists stay whole: the same result live, from a file of these positions, and of all."""
    scheme = rs.VLLMGumbel(vocab_size=VOCAB, key=5, context_width=2)
    how = {"weighting": Weighting("matched", max_weights=9), "reference": reference}
    live = open_test(model, docs, scheme, contexts=counts, text_watermarked=False, **how)
    predict(model, docs, tmp_path / "every", context_width=2, **how)
    predict(model, docs, tmp_path / "some", context_width=2, contexts=counts, **how)
    for name in ("some", "every"):  # places weigh by the counts that the test is given
        result = open_test(
            None, None, scheme, from_file=tmp_path / name, text_watermarked=False, contexts=counts
        )
        assert result.n_scored == live.n_scored
        assert result.statistic == pytest.approx(live.statistic, rel=2e-3, abs=2e-3)
        assert result.removed[OUTSIDE] == live.removed[OUTSIDE] > 0


def test_contexts_without_any_position(model, docs):
    phi = rs.KgramSet.from_kgrams([[100, 100]], VOCAB, watermarked=False)
    with pytest.raises(TokenError, match="not among contexts="):
        open_test(model, docs, SCHEME, contexts=phi, **HOW)


@pytest.mark.parametrize("watermarked", [None, True])
def test_contexts_of_marked_text_are_refused(model, docs, counts, tmp_path, watermarked):
    phi = rs.KgramSet.from_documents([[1, 2, 3]], 2, VOCAB, watermarked=watermarked)
    for options, match in (
        ({"contexts": phi}, "text has depends on the key; make it from unmarked text"),
        ({"contexts": phi | counts.top()}, "depends on the key"),
    ):
        with pytest.raises(ArgumentError, match=match):
            open_test(model, docs, SCHEME, **options, **HOW)
        with pytest.raises(ArgumentError, match=match):
            predict(model, docs, tmp_path / "p", context_width=2, **options, **HOW)


def test_what_does_not_fit_is_refused(model, docs, counts):
    wide = rs.KgramCounts(3, VOCAB, watermarked=False)
    for options, match in (
        ({"contexts": wide}, "contexts holds 3-grams, but contexts here have 2 ids"),
        ({"contexts": counts.top(), "min_count": 2}, "min_count has no effect with a KgramSet"),
        ({"min_count": 2}, "min_count has no effect without contexts="),
        ({"contexts": counts, "min_count": 0}, "min_count must be from 1"),
        ({"contexts": [[1, 2]]}, "contexts must be a KgramSet or KgramCounts, not list"),
    ):
        with pytest.raises(ArgumentError, match=match):
            open_test(model, docs, SCHEME, **options, **HOW)


def test_what_a_place_weighs(counts):
    """A function of the counts; without them, 1."""
    rows = np.argwhere(np.ones((10, 10))).astype(np.uint32)
    n = np.array([counts[row] for row in rows.tolist()], dtype=float)
    found = Contexts(counts, 2).weights(rows)
    np.testing.assert_allclose(found, [2 * math.sqrt(30 * one) / (one + 30) for one in n])
    assert (found[n == 0] == 0).all()
    assert 0 < found.max() < 1
    assert (Contexts(counts.top(), 2).weights(rows) == 1).all()


def test_matched_scores_weigh_by_counts(model, reference, docs, counts, tmp_path):
    """Live and from a file of all positions; equal to a scorer that is given the weighed gains."""
    scheme = rs.VLLMGumbel(vocab_size=VOCAB, key=5, context_width=2)
    how = {"weighting": Weighting("matched", max_weights=9), "reference": reference}
    live = open_test(model, docs, scheme, contexts=counts, text_watermarked=False, **how)
    path = tmp_path / "every"
    every = predict(model, docs, path, context_width=2, **how)
    filed = open_test(None, None, scheme, from_file=path, contexts=counts, text_watermarked=False)
    plain = open_test(
        None, None, scheme, from_file=path, contexts=counts.top(), text_watermarked=False
    )
    scorer = MatchedScorer(scheme)
    chosen = Contexts(counts, 2)
    for pairs in every:
        inside = chosen.has(pairs.contexts)
        scorer.add_pairs(
            pairs.contexts[inside],
            pairs.targets[inside],
            (pairs.weights * chosen.weights(pairs.contexts))[inside],
            pairs.base[inside],
        )
    assert filed.statistic == pytest.approx(scorer.result().statistic, rel=1e-12)
    assert live.statistic == pytest.approx(filed.statistic, rel=2e-3, abs=2e-3)
    assert filed.n_scored == plain.n_scored
    assert abs(plain.statistic - filed.statistic) > 1e-3
