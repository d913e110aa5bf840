"""What documents share: copies, dropped units, discoveries, and what is refused."""

import numpy as np
import pytest
import radscore as rs
from radscore import _core
from scipy.stats import binom, false_discovery_control

VOCAB = 500
SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=VOCAB, gamma=0.5, context_width=1)


def marked(n, seed=1):
    """Text that takes the greener of several tokens at every place."""
    rng = np.random.default_rng(seed)
    green = SCHEME.green_mask(np.arange(VOCAB)[:, None])
    text = [int(rng.integers(VOCAB))]
    while len(text) < n:
        drawn = rng.integers(0, VOCAB, 4)
        text.append(int(drawn[np.argmax(green[text[-1], drawn])]))
    return text


def plain(n_documents, length, seed=2):
    return np.random.default_rng(seed).integers(0, VOCAB, (n_documents, length)).tolist()


def test_copies_are_one_test_with_one_result():
    document = marked(80)
    documents = [*plain(30, 60), *[document] * 20, *plain(5, 60, seed=3), document]
    scores = rs.score_documents(documents, SCHEME)
    assert np.flatnonzero(scores.copy_of >= 0).tolist() == [*range(31, 50), 55]
    assert set(scores.copy_of[scores.copy_of >= 0].tolist()) == {30}
    for column in (scores.n_scored, scores.statistic, scores.log10_pvalue):
        assert len(set(column[30:50].tolist())) == 1
    found = scores.false_discovery(0.05)
    assert found.n_tests == 36
    assert found.rejected[30:50].all()
    assert found.rejected[55]
    assert found.n_rejected == found.rejected.sum() == 21
    once = [i for i in range(56) if scores.copy_of[i] < 0]
    expected = false_discovery_control(scores.pvalue[once])
    np.testing.assert_allclose(found.qvalues[once], expected, rtol=1e-9)
    assert found.qvalues[55] == found.qvalues[30]


def test_a_shared_header_is_evidence_in_the_first_documents_only():
    header, bodies = marked(60), plain(40, 50)
    documents = [[*header, *body] for body in bodies]
    scores = rs.score_documents(documents, SCHEME, max_sharing=3)
    assert (scores.n_shared[:3] == 0).all()
    assert (scores.n_common[1:3] >= 55).all()
    assert (scores.n_shared[3:] >= 55).all()
    assert (scores.copy_of == -1).all()
    alone = rs.score_documents(documents, SCHEME, max_sharing=None)
    assert alone.n_scored.tolist() == (scores.n_scored + scores.n_shared).tolist()
    assert scores.false_discovery().n_rejected <= 4
    assert alone.false_discovery().n_rejected == 40
    expected = binom.sf(scores.statistic - 1, scores.n_scored, 0.5)
    np.testing.assert_allclose(scores.pvalue, expected, rtol=1e-9)
    assert any("each p-value is valid for its document alone" in note for note in alone.notes)
    assert not any("max_sharing" in note for note in scores.notes)


def test_documents_of_nothing_but_shared_units_are_no_tests():
    document = marked(80)
    pieces = [document[i : i + 40] for i in range(0, 40, 5)]
    scores = rs.score_documents([document, *pieces], SCHEME, max_sharing=1)
    assert scores.n_scored[1:].tolist() == [0] * 8
    assert (scores.n_shared[1:] > 0).all()
    assert scores.pvalue[1:].tolist() == [1.0] * 8
    assert scores.false_discovery().n_tests == 1


def test_the_order_of_a_copy_does_not_matter_and_empty_documents_are_no_copies():
    documents = [[1, 2, 3, 1, 2], [], [2, 3, 1, 2], [7], [], [3, 1, 2, 3]]
    scores = rs.score_documents(documents, SCHEME)
    assert scores.copy_of.tolist() == [-1, -1, 0, -1, -1, 0]


def test_what_is_refused(tmp_path):
    for value in (0, 256, -1, 2.5, "8"):
        with pytest.raises(rs.errors.ArgumentError, match="max_sharing must be"):
            rs.score_documents([[1, 2]], SCHEME, max_sharing=value)
    with pytest.raises(rs.errors.ArgumentError, match="max_sharing must be from 1 to 255"):
        _core.Sharing(0)
    path = tmp_path / "table"
    _core.Sharing(2).save(path)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(rs.errors.StateError, match="is damaged"):
        _core.Sharing.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(rs.errors.StateError, match="not a radscore table of shared units"):
        _core.Sharing.load(path)
    with pytest.raises(rs.errors.StateError, match="does not exist"):
        _core.Sharing.load(tmp_path / "none")
