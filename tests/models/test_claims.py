"""`radioactivity`: which test is chosen by what is known, and what its report says."""

import json
from itertools import combinations, pairwise

import numpy as np
import pytest
import radscore as rs
from radscore.answers import Answers
from radscore.audits.radioactivity import _HELPS, _TESTS, _choose
from radscore.errors import ArgumentError, TokenError
from tiny import trained, written

SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=64, gamma=0.5, context_width=1)


@pytest.fixture(scope="module")
def recorded():
    return written(SCHEME, 320, 32, seed=1)


@pytest.fixture(scope="module")
def radioactive(recorded):
    return trained(recorded)


@pytest.fixture(scope="module")
def clean():
    return trained(written(None, 320, 32, seed=2))


@pytest.fixture(scope="module")
def fresh():
    return written(None, 20, 50, seed=3)


def test_every_test_can_be_chosen_and_more_knowledge_never_gives_a_weaker_one():
    """Over all 1,023 sets of things that can be known."""
    names = sorted(_HELPS)
    known = [frozenset(some) for n in range(1, 11) for some in combinations(names, n)]
    chosen = {}
    for some in known:
        possible = some & {"answers", "predictions"} or (
            "model" in some and some & {"fresh", "recorded"}
        )
        if not possible:
            with pytest.raises(ArgumentError, match=r"text to read|nothing is known"):
                _choose(some)
            continue
        chosen[some] = _choose(some)
        assert _TESTS[chosen[some]].needs <= some
    assert set(chosen.values()) == set(range(len(_TESTS)))
    for some, index in chosen.items():
        assert all(chosen[more] <= index for more in chosen if some < more)


def test_the_contrast_of_an_open_model(radioactive, clean, fresh):
    reference = trained(written(None, 320, 32, seed=4))
    report = rs.radioactivity(
        SCHEME, model=radioactive, fresh=fresh, reference=reference, curve=[300, 600]
    )
    assert report.claim == "model"
    assert report.setting == "open, fresh text, contrast"
    assert report.would_help == "the recorded watermarked text (recorded=)"
    assert report.unused == {}
    assert report.log10_pvalue < -8
    assert report.pvalue == pytest.approx(10**report.log10_pvalue)
    assert report.radioactive(1e-6)
    assert [point.n_tokens for point in report.curve] == [300, 600]
    assert report.log10_pvalue == (
        rs.test_open(radioactive, fresh, SCHEME, reference=reference).log10_pvalue
    )
    control = rs.radioactivity(SCHEME, model=clean, fresh=fresh, reference=reference)
    assert not control.radioactive(1e-2)
    shown = repr(report)
    assert "tested: was the suspect trained on text marked with this key?" in shown
    assert f"verdict: {report.verdict}" in shown
    assert report.verdict.endswith(": evidence at level 0.01")
    assert control.verdict.endswith(": no evidence at level 0.01")
    assert bytes(range(16)).hex() not in shown
    assert json.loads(json.dumps(report.to_dict()))["setting"] == report.setting


def test_the_recorded_text_of_an_open_model(radioactive, recorded):
    report = rs.radioactivity(SCHEME, model=radioactive, recorded=recorded[:30])
    assert report.claim == "text"
    assert report.setting == "open, recorded text"
    assert "reference=" in report.would_help or "fresh=" in report.would_help
    assert report.result.score.method.startswith("martingale bound")
    assert "each seed counts at its first occurrence" in repr(report)
    assert report.log10_pvalue < -3


def test_answers(recorded):
    answers = written(SCHEME, 40, 30, seed=9, share=0.5)
    report = rs.radioactivity(
        SCHEME, answers=answers, filter=rs.KgramSet.from_documents([[3, 4]], 1, 64)
    )
    assert (report.setting, report.claim) == ("closed, filter", "model")
    assert report.result.score.n_filtered > 0
    report = rs.radioactivity(SCHEME, answers=answers, recorded=recorded[:1, :10])
    assert (report.setting, report.claim) == ("closed, recorded text", "text")
    contexts = set(recorded[0, :10].tolist())
    kept = {(a, b) for doc in answers.tolist() for a, b in pairwise(doc)}
    assert report.n_scored == sum(a in contexts for a, _ in kept)
    report = rs.radioactivity(
        SCHEME, answers=answers, reference_answers=written(None, 40, 30, seed=10), recorded=recorded
    )
    assert report.setting == "closed, contrast"
    assert report.unused == {"recorded": "the tests that use it are weaker"}
    assert "unused: recorded: the tests that use it are weaker" in repr(report)
    assert report.log10_pvalue < -8


def test_answers_that_a_reference_reads(radioactive, clean, tmp_path):
    """Log-probabilities first, then what a model expects, then what one has said."""
    from radscore.answers.expected import expected

    reference = trained(written(None, 320, 32, seed=4))
    language = rs.models.as_language_model(radioactive)
    answers = rs.Documents.of(written(None, 40, 30, seed=9))
    listed = Answers(answers, None, listed=expected(language, answers, vocab_size=64, likeliest=5))
    said = rs.Documents.of(written(None, 40, 30, seed=10))
    given = {"reference": reference, "reference_answers": said}
    report = rs.radioactivity(SCHEME, answers=listed, **given)
    assert report.setting == "closed, log-probabilities against a reference model"
    assert report.result.weighting == "listed"
    assert report.unused == {"reference_answers": "the tests that use it are weaker"}
    assert report.log10_pvalue < -8
    control = rs.models.as_language_model(clean)
    free = Answers(answers, None, listed=expected(control, answers, vocab_size=64, likeliest=5))
    assert not rs.radioactivity(SCHEME, answers=free, **given).radioactive(1e-2)
    report = rs.radioactivity(SCHEME, answers=answers, **given)
    assert report.setting == "closed, against what a reference model expects"
    assert "(predictions=)" in report.would_help
    report = rs.radioactivity(SCHEME, answers=listed, reference_answers=said)
    assert report.setting == "closed, contrast"
    theirs = rs.models.as_language_model(reference)
    also = Answers(said, None, listed=expected(theirs, said, vocab_size=64, likeliest=5))
    report = rs.radioactivity(SCHEME, answers=listed, reference_answers=also)
    assert report.setting == "closed, log-probabilities against a reference's"
    assert report.log10_pvalue < -3
    report = rs.radioactivity(SCHEME, answers=listed)
    assert (report.setting, report.result.transform) == ("closed, log-probabilities", "root")
    # what was read and written to a file comes before all answers
    out = tmp_path / "read.arrow"
    rs.models.predict(radioactive, said, out, context_width=1, reference=reference)
    report = rs.radioactivity(SCHEME, predictions=out, answers=listed, reference=reference)
    assert report.setting == "predictions that were read"
    assert report.log10_pvalue < -3


def test_what_cannot_be_tested(radioactive, fresh):
    with pytest.raises(ArgumentError, match="a model needs text to read"):
        rs.radioactivity(SCHEME, model=radioactive)
    with pytest.raises(ArgumentError, match="nothing is known of the suspect"):
        rs.radioactivity(SCHEME, fresh=fresh)
    with pytest.raises(TokenError, match="recorded holds no context"):
        rs.radioactivity(SCHEME, answers=fresh, recorded=[[]])
    report = rs.radioactivity(SCHEME, answers=fresh)
    with pytest.raises(ArgumentError, match="level must be between 0 and 1"):
        report.radioactive(1.0)
    assert np.isfinite(report.log10_pvalue)
