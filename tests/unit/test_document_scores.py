"""`DocumentScores` as a table: columns, picking, iterating, and what is exported."""

import json

import numpy as np
import pyarrow as pa
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.results import DocumentScore
from radscore.schemes import SynthIDDeepMind
from radscore.stats.result import power_of_ten

SCHEMES = (
    rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3),
    rs.GumbelMax(vocab_size=50, context_width=1, seed=3),
    SynthIDDeepMind(vocab_size=50, keys=[3, 4, 5], context_width=1),
)
RNG = np.random.default_rng(2)
DOCUMENTS = [RNG.integers(0, 50, n).tolist() for n in (40, 1, 60, 25, 0, 80)]
DOCUMENTS.append(DOCUMENTS[2])  # a copy


@pytest.fixture(params=SCHEMES, ids=lambda scheme: scheme.name)
def scores(request):
    return rs.score_documents(DOCUMENTS, request.param)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_zscores_are_those_of_a_corpus_of_one_document(scheme):
    scores = rs.score_documents(DOCUMENTS, scheme)
    for i, document in enumerate(DOCUMENTS):
        if scores.n_scored[i] == 0:
            assert np.isnan(scores.zscore[i])
        else:
            alone = rs.score_documents([document], scheme).zscore[0]
            assert rs.score([document], scheme).zscore == pytest.approx(alone)
            assert scores.zscore[i] == alone
    assert scores.zscore[6] == scores.zscore[2]


def test_qvalues_are_those_of_false_discovery(scores):
    expected = scores.false_discovery(0.2)
    tested = scores.n_scored > 0
    np.testing.assert_array_equal(scores.log10_qvalue[tested], expected.log10_qvalues[tested])
    assert (scores.qvalue[~tested] == 1).all()
    assert ((scores.qvalue <= 0.2) == expected.rejected).all()


def test_an_integer_picks_a_document(scores):
    for i, one in enumerate(scores):
        assert isinstance(one, DocumentScore)
        assert (one.index, one.statistic) == (i, scores[i - len(scores)].statistic)
        assert one.log10_pvalue == scores.log10_pvalue[i]
        assert one.qvalue == scores.qvalue[i]
        assert one.n_scored == scores.n_scored[i]
        evidence = "evidence" if one.qvalue <= 0.05 else "no evidence"
        assert f"{power_of_ten(one.log10_qvalue, 3)}: {evidence} at a false" in repr(one)
        json.dumps(one.to_dict(), allow_nan=False)
    for wrong in (len(scores), -len(scores) - 1):
        with pytest.raises(IndexError):
            scores[wrong]


PICKS = st.one_of(
    st.slices(len(DOCUMENTS)),
    st.lists(st.booleans(), min_size=len(DOCUMENTS), max_size=len(DOCUMENTS)),
    st.lists(st.integers(-len(DOCUMENTS), len(DOCUMENTS) - 1), unique_by=lambda i: i % 7),
)


@settings(max_examples=60, deadline=None)
@given(PICKS, PICKS.filter(lambda pick: isinstance(pick, slice)))
def test_picking_is_picking_each_column(pick, again):
    scores = rs.score_documents(DOCUMENTS, SCHEMES[0])
    picked = scores[pick]
    places = np.arange(len(scores))[
        pick if isinstance(pick, slice) else np.array(pick, dtype=None) if pick else slice(0)
    ]
    assert picked.index.tolist() == places.tolist()
    for name in ("n_scored", "statistic", "log10_pvalue", "log10_qvalue"):
        np.testing.assert_array_equal(getattr(picked, name), getattr(scores, name)[places])
    for one, copy in zip(picked, picked.copy_of, strict=True):
        if copy >= 0:
            assert picked[int(copy)].index == scores.copy_of[one.index]
    assert picked[again].index.tolist() == places[again].tolist()
    np.testing.assert_array_equal(picked[again].qvalue, picked.qvalue[again])


@pytest.mark.parametrize("wrong", ["a", 1.5, [1.0], [[1]], [True], None])
def test_other_things_pick_nothing(wrong):
    with pytest.raises(ArgumentError):
        rs.score_documents(DOCUMENTS, SCHEMES[0])[wrong]


def test_arrow(scores):
    table = scores.to_arrow()
    assert table.num_rows == len(scores)
    for name in ("n_scored", "copy_of", "statistic", "zscore", "pvalue", "log10_pvalue", "qvalue"):
        np.testing.assert_array_equal(table[name].to_numpy(), getattr(scores, name))
    about = json.loads(table.schema.metadata[b"radscore"])
    assert about["fingerprint"] == scores.fingerprint
    assert about["provenance"]["radscore"] == rs.__version__
    assert pa.types.is_integer(table.schema.field("index").type)


def test_pandas(scores):
    pytest.importorskip("pandas")
    frame = scores[1:4].to_pandas()
    assert frame.index.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(frame["qvalue"], scores.qvalue[1:4])


def test_the_verdict_counts_documents(scores):
    n_tested = int((scores.n_scored > 0).sum())
    n_found = scores.false_discovery(0.05).n_rejected
    assert scores.verdict.startswith(f"{n_found} of 7 documents, {n_tested} of them with windows")
    nothing = rs.score_documents(DOCUMENTS, SCHEMES[0], dedup="none")
    assert nothing.verdict == "no p-values: repetitions were counted"
    assert np.isnan(nothing.zscore).all()
