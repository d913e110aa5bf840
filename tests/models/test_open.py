"""`test_open`: a network that learned a watermark is found; the rules against plain Python."""

import math
from collections import Counter

import numpy as np
import pytest
import radscore as rs
from radscore import sizes
from radscore.audits.open import OpenResult
from radscore.audits.open import test_open as open_test
from radscore.errors import ArgumentError, ModelError, SchemeError, TokenError
from radscore.models import LanguageModel, Weighting, predict
from radscore.models.live import Reading
from tiny import VOCAB, trained, word_tokenizer, written

SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=64, gamma=0.5, context_width=1)
KINDS = ("prediction", "mass", "contrast")
_MASKED = "positions whose seed occurred before in the text"


@pytest.fixture(scope="module")
def radioactive():
    return trained(written(SCHEME, 320, 32, seed=1))


@pytest.fixture(scope="module")
def clean():
    return trained(written(None, 320, 32, seed=2))


@pytest.fixture(scope="module")
def fresh():
    """Text without the watermark."""
    return written(None, 20, 50, seed=3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_found_and_a_control_is_not(radioactive, clean, fresh, kind):
    reference = {"reference": trained(written(None, 320, 32, seed=4))} if kind == "contrast" else {}
    found = open_test(radioactive, fresh, SCHEME, weighting=kind, **reference)
    control = open_test(clean, fresh, SCHEME, weighting=kind, **reference)
    assert found.log10_pvalue < -8
    assert control.log10_pvalue > -2
    assert isinstance(found, rs.ModelResult)
    assert isinstance(found, OpenResult)
    assert found.setting == "open, text without the watermark"
    assert found.weighting.startswith(kind)
    assert found.model == radioactive.fingerprint
    assert (found.reference is None) == (kind != "contrast")
    assert found.score.n_documents == 20
    assert found.score.n_tokens == 1000
    assert found.text_log10_pvalue > -3
    # another key finds nothing
    other = rs.Keyed(key=bytes(16), vocab_size=64, gamma=0.5, context_width=1)
    assert open_test(radioactive, fresh, other, weighting=kind, **reference).log10_pvalue > -2.5


@pytest.mark.parametrize("kind", KINDS)
def test_watermarked_text(radioactive, clean, kind):
    text = written(SCHEME, 20, 50, seed=5)
    reference = {"reference": clean} if kind == "contrast" else {}
    how = {"weighting": kind, "text_watermarked": True} | reference
    found = open_test(radioactive, text, SCHEME, **how)
    assert found.log10_pvalue < -4
    assert found.setting == "open, watermarked text"
    assert found.removed[_MASKED] > 800
    assert "each seed counts at its first occurrence" in found.notes[0]
    assert open_test(trained(written(None, 320, 32, seed=6)), text, SCHEME, **how).log10_pvalue > -3
    # read as if it were clean, the result says that it is not, and compares no decoys
    wrong = open_test(radioactive, text, SCHEME, **how | {"text_watermarked": False}, decoys=5)
    assert wrong.decoys.n_decoys == 0
    assert any("no decoys" in note for note in wrong.notes)
    assert any("there is no valid p-value: the text may carry" in note for note in wrong.notes)
    assert wrong.text_log10_pvalue < -6
    assert math.isnan(wrong.pvalue)
    assert math.isnan(wrong.score.log10_pvalue)


def by_hand(
    model, docs, scheme, weighting, *, strict, identity=None, reference=None, damping=(30, 3)
):
    """Statistic and number of units, by dictionaries."""
    reading = Reading(
        model,
        docs,
        context_width=scheme.window_width - 1,
        weighting=weighting,
        text_watermarked=strict,
        reference=reference,
    )
    places = {}
    for p in reading:
        columns = (p.occurrences.tolist(), p.contexts.tolist(), p.targets, p.weights)
        for occurrence, context, target, weight in zip(*columns, strict=True):
            places.setdefault((occurrence, tuple(context)), {})[int(target)] = float(weight)
    units, seen = {}, set()
    for (_, context), weights in sorted(places.items()):
        if strict:
            name = context if identity is None else identity(context)
            if name in seen:
                continue
            seen.add(name)
        for target, weight in weights.items():
            if weight:
                window = (*context, target)
                unit = window if identity is None else (identity(context), target)
                if weighting.kind == "prediction":
                    units[unit] = (window, 1.0)
                else:
                    units[unit] = (window, units.get(unit, (window, 0.0))[1] + weight)
    windows = np.array([window for window, _ in units.values()])
    weights = np.array([weight for _, weight in units.values()])
    if weighting.kind == "contrast" and not strict:
        saturation, frequency = damping
        times = Counter(context for (_, context), own in places.items() if any(own.values()))
        n = np.array([times[window[:-1]] for window, _ in units.values()])
        weights = weights * n / (n + frequency)
        weights = weights / (1 + abs(weights) / saturation) if saturation else weights
    scores = scheme.scores(windows).astype(float)
    if weighting.kind == "prediction" and not strict:
        return scores.sum(), len(units)
    return math.fsum(weights * (scores - float(scheme.share))), len(units)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_the_rules(radioactive, clean, fresh, kind, strict):
    reference = clean if kind == "contrast" else None
    weighting = Weighting(kind, max_weights=9, top=2)
    statistic, n = by_hand(
        radioactive, fresh, SCHEME, weighting, strict=strict, reference=reference
    )
    result = open_test(
        radioactive,
        fresh,
        SCHEME,
        weighting=weighting,
        reference=reference,
        text_watermarked=strict,
    )
    assert result.n_scored == n
    assert result.statistic == pytest.approx(statistic, rel=1e-9, abs=1e-9)
    assert (result.score.n_green is None) == (kind != "prediction" or strict)
    assert result.score.method.startswith("martingale bound") == strict
    assert result.score.combine == ("one" if strict or kind == "prediction" else "sum")


@pytest.mark.parametrize("damping", [(0, 0), (0.5, 0), (0, 10), (2, 1)])
def test_damping(radioactive, clean, fresh, damping):
    weighting = Weighting("contrast", max_weights=9)
    reference = {"reference": clean}
    statistic, n = by_hand(
        radioactive, fresh, SCHEME, weighting, strict=False, damping=damping, **reference
    )
    given = dict(zip(("saturation", "frequency"), damping, strict=True))
    result = open_test(radioactive, fresh, SCHEME, weighting=weighting, **reference, **given)
    assert result.n_scored == n
    assert result.statistic == pytest.approx(statistic, rel=1e-9, abs=1e-9)
    assert (result.score.saturation, result.score.frequency) == tuple(x or None for x in damping)


def test_several_references(radioactive, clean, fresh, tmp_path):
    other = trained(written(None, 320, 32, seed=4))
    several = open_test(radioactive, fresh, SCHEME, reference=[clean, other])
    assert several.log10_pvalue < -8
    assert several.reference == f"{clean.fingerprint}, {other.fingerprint}"
    twice = open_test(radioactive, fresh, SCHEME, reference=(clean, clean))
    once = open_test(radioactive, fresh, SCHEME, reference=clean)
    assert twice.statistic == pytest.approx(once.statistic, rel=1e-5)
    assert several.statistic != pytest.approx(once.statistic, rel=1e-4)
    made = predict(radioactive, fresh, tmp_path / "p", context_width=1, reference=[clean, other])
    assert made.header.reference == several.reference
    again = open_test(None, None, SCHEME, from_file=tmp_path / "p")
    assert again.statistic == pytest.approx(several.statistic, rel=1e-3)
    with pytest.raises(ArgumentError, match="reference must be one model or several, not an empty"):
        open_test(radioactive, fresh, SCHEME, reference=[])


def test_contexts_are_what_the_scheme_reads_of_them(radioactive, fresh):
    # an additive seed: permuted contexts are one context
    scheme = rs.KGW(vocab_size=64, gamma=0.25, context_width=2, seeding="additive", hash_key=7)
    weighting = Weighting("mass", max_weights=5)
    text = np.where(fresh == 0, 1, fresh)  # id 0 has draws that do not depend on the key
    for strict in (True, False):
        statistic, n = by_hand(radioactive, text, scheme, weighting, strict=strict, identity=sum)
        result = open_test(radioactive, text, scheme, weighting=weighting, text_watermarked=strict)
        assert result.n_scored == n
        assert result.statistic == pytest.approx(statistic, rel=1e-9)
        assert not any("approximate" in note for note in result.notes)


def test_watermarked_text_needs_a_seed_before_the_target(radioactive, fresh):
    scheme = rs.KGW.from_lm_watermarking("selfhash", vocab_size=64, gamma=0.25)
    strict = open_test(
        radioactive, fresh, scheme, weighting="mass", text_watermarked=True, decoys=5
    )
    assert any("no seed is known before the target" in note for note in strict.notes)
    assert math.isnan(strict.log10_pvalue)
    assert math.isnan(strict.decoys.pvalue)
    assert strict.n_scored > 0
    clean = open_test(radioactive, fresh, scheme, weighting="mass", text_watermarked=False)
    assert math.isfinite(clean.log10_pvalue)
    assert not any("no seed is known" in note for note in clean.notes)


@pytest.mark.parametrize(
    "scheme",
    [
        rs.VLLMGumbel(vocab_size=64, key=5, context_width=2),
        rs.SGLangGumbel(vocab_size=64, key=5, context_width=2),
        rs.SynthIDDeepMind(vocab_size=64, keys=range(1, 11)),
        rs.SBW(vocab_size=64, key=3, gamma=0.25),
        rs.TextSeal(vocab_size=64, key=3, context_width=2, gamma=0.25),
    ],
    ids=lambda scheme: scheme.name,
)
def test_every_kind_of_scheme(radioactive, clean, fresh, scheme):
    how = {"reference": clean, "max_weights": 8, "text_watermarked": False}
    result = open_test(radioactive, fresh, scheme, decoys=60, **how)
    assert abs(result.score.zscore) < 5
    assert result.decoys.standard_deviation == pytest.approx(1.0, abs=0.35)


def test_a_file_in_place_of_the_model(radioactive, clean, fresh, tmp_path):
    how = {"weighting": Weighting("contrast", max_weights=9), "reference": clean}
    live = open_test(radioactive, fresh, SCHEME, **how, decoys=30, curve=[100, 500])
    predict(radioactive, fresh, tmp_path / "p", context_width=1, **how)
    again = open_test(None, None, SCHEME, from_file=tmp_path / "p", decoys=30, curve=[100, 500])
    assert again.n_scored == live.n_scored
    for name in ("statistic", "log10_pvalue"):
        assert getattr(again, name) == pytest.approx(getattr(live, name), rel=1e-3)
        mine, theirs = ([getattr(point, name) for point in one.curve] for one in (again, live))
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-3)
    assert again.decoys.statistic == pytest.approx(live.decoys.statistic, abs=1e-3)
    for name in ("setting", "weighting", "model", "reference", "removed", "notes", "text"):
        assert getattr(again, name) == getattr(live, name)
    assert again.copied_log10_pvalue == pytest.approx(live.copied_log10_pvalue, abs=0.5)
    assert again.text_log10_pvalue > -3  # the text, as the file tells it
    with pytest.raises(ArgumentError, match="from_file already says what was read"):
        open_test(radioactive, None, SCHEME, from_file=tmp_path / "p")
    with pytest.raises(ArgumentError, match="from_file already says what was read"):
        open_test(None, None, SCHEME, from_file=tmp_path / "p", max_weights=3)


def test_predictions_beyond_the_memory(radioactive, clean, fresh, tmp_path, monkeypatch):
    predict(radioactive, fresh, tmp_path / "p", context_width=1, reference=clean)
    whole = open_test(None, None, SCHEME, from_file=tmp_path / "p", decoys=30, curve=3)
    monkeypatch.setattr(sizes, "_LEAST", 0)
    limits = {"memory": 200_000, "tmp": tmp_path}
    filed = open_test(None, None, SCHEME, from_file=tmp_path / "p", decoys=30, curve=3, **limits)
    assert whole.n_scored > 2048  # pairs went to files
    assert repr(filed) == repr(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_wider_contexts(radioactive, clean, fresh, tmp_path, kind, marked):  # noqa: PLR0917
    how = {"weighting": kind, "reference": clean if kind == "contrast" else None}
    predict(radioactive, fresh, tmp_path / "p", context_width=3, text_watermarked=marked, **how)
    if marked or kind == "prediction":
        with pytest.raises(ArgumentError, match="of 3 tokens, but the scheme reads 1, and"):
            open_test(None, None, SCHEME, from_file=tmp_path / "p")
    else:  # the last tokens are a narrower context: only a document's first places are missing
        result = open_test(None, None, SCHEME, from_file=tmp_path / "p")
        live = open_test(radioactive, [doc[2:] for doc in fresh], SCHEME, **how)
        assert result.n_scored == pytest.approx(live.n_scored, rel=0.1)
        assert result.log10_pvalue < -5
    wide = rs.Keyed(key=bytes(16), vocab_size=64, gamma=0.5, context_width=4)
    with pytest.raises(ArgumentError, match="of 3 tokens, but the scheme reads 4; make it"):
        open_test(None, None, wide, from_file=tmp_path / "p")


def test_the_curve(radioactive, fresh):
    whole = open_test(radioactive, fresh, SCHEME, weighting="mass", curve=[1, 50, 333, 1000, 9999])
    assert [point.n_tokens for point in whole.curve] == [1, 50, 333, 1000]
    # after so many tokens: the places among the first so many
    for n, point in zip((1, 50, 333), whole.curve, strict=False):
        flat = fresh.reshape(-1)[:n]
        cut = [flat[i : i + 50] for i in range(0, n, 50)]
        part = open_test(radioactive, cut, SCHEME, weighting="mass")
        assert point.n_scored == part.n_scored
        assert point.statistic == pytest.approx(part.statistic, rel=1e-3)
    last = whole.curve[-1]
    assert (last.n_scored, last.log10_pvalue) == (whole.n_scored, whole.log10_pvalue)
    some = open_test(radioactive, fresh, SCHEME, weighting="mass", curve=5)
    numbers = [point.n_tokens for point in some.curve]
    assert 3 <= len(numbers) <= 6
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 1000
    assert len(set(np.diff(numbers[:-1]))) == 1


def test_how_text_can_be_given(radioactive, fresh, tmp_path):
    import json

    plain = open_test(radioactive, fresh, SCHEME, weighting="mass")
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"tokens": doc.tolist()}) + "\n" for doc in fresh))
    assert (
        open_test(radioactive, rs.open_corpus(path), SCHEME, weighting="mass").score == plain.score
    )
    named = LanguageModel(radioactive.model, word_tokenizer(64), "named", 64, 256)
    known = np.minimum(fresh, 60)
    strings = [" ".join(f"w{i}" for i in doc) for doc in known]
    as_text = open_test(named, strings, SCHEME, weighting="mass")
    as_ids = open_test(radioactive, known, SCHEME, weighting="mass")
    assert as_text.score == as_ids.score
    assert as_text.text == as_ids.text
    short = open_test(radioactive, fresh, SCHEME, weighting="mass", max_length=20, batch_tokens=100)
    assert short.n_scored == pytest.approx(plain.n_scored, rel=0.1)


def test_results_show_what_was_done(radioactive, fresh):
    result = open_test(radioactive, fresh, SCHEME, weighting="prediction", top=3, decoys=40)
    text = repr(result)
    assert "weighting: prediction (top 3)" in text
    assert "decoys: p-value" in text
    assert "note: valid for text that does not carry" in text
    fields = result.to_dict()
    assert fields["decoys"]["n_decoys"] == 40
    assert fields["score"]["n_green"] == result.score.n_green
    assert result.pvalue == 10**result.log10_pvalue


@pytest.mark.parametrize("size", [40, 57, 71])
def test_vocabularies_that_do_not_fit(radioactive, fresh, size):
    # without a tokenizer nine tenths of the output layer to a tenth more are taken for padding
    scheme = rs.Keyed(key=bytes(16), vocab_size=size, context_width=1)
    with pytest.raises(
        ModelError, match=f"vocabulary of {size}, but the model predicts 64 tokens: allowed are 58"
    ):
        open_test(radioactive, fresh, scheme, weighting="mass")


def test_vocabularies_that_fit(radioactive, fresh):
    larger = rs.Keyed(key=bytes(16), vocab_size=70, context_width=1)
    assert open_test(radioactive, fresh, larger, weighting="mass").n_scored > 100
    # an output layer that is padded: ids beyond the scheme's are neither contexts nor targets
    smaller = rs.Keyed(key=bytes(16), vocab_size=60, context_width=1)
    result = open_test(radioactive, fresh, smaller, weighting="mass")
    beyond = sum(int((doc >= 60).sum()) for doc in fresh)
    assert result.removed["positions after ids outside the scheme's vocabulary"] == beyond
    assert result.removed["predictions outside the scheme's vocabulary"] > 0
    assert result.n_scored <= 60 * 60
    # a tokenizer says how many tokens there really are
    named = LanguageModel(radioactive.model, word_tokenizer(30), "named", 64, 256)
    small = rs.Keyed(key=bytes(16), vocab_size=30, context_width=1)
    assert open_test(named, np.minimum(fresh, 29), small, weighting="mass").n_scored > 100


def test_nothing_to_score(radioactive, fresh):
    for docs, match in (
        ([], "there are no documents"),
        ([[]], "the only document is shorter than a context of 1 tokens"),
        ([[], []], "all 2 documents are shorter"),
    ):
        with pytest.raises(TokenError, match=match):
            open_test(radioactive, docs, SCHEME, weighting="mass")
    with pytest.raises(TokenError, match="no prediction has a weight above min_weight=2"):
        open_test(radioactive, fresh, SCHEME, weighting="mass", min_weight=2.0)


def test_what_does_not_go_together(radioactive, clean, fresh):
    def refused(match, **options):
        with pytest.raises(ArgumentError, match=match):
            open_test(radioactive, fresh, SCHEME, **options)

    refused("weighting='contrast' needs reference=", weighting="contrast")
    refused("reference= has no effect with weighting='mass'", weighting="mass", reference=clean)
    refused("top= has no effect with weighting='mass'", weighting="mass", top=3)
    refused("transform= has no effect", weighting="mass", transform="roots")
    refused("max_weights= has no effect", weighting="prediction", max_weights=3)
    refused("transform must be one of", reference=clean, transform="sum")
    refused(
        "saturation= has no effect with weighting='prediction'",
        weighting="prediction",
        saturation=3,
    )
    refused(
        "frequency= has no effect with text_wa",
        weighting="mass",
        text_watermarked=True,
        frequency=3,
    )
    refused("saturation must be a number from 1e-9", reference=clean, saturation=-1)
    refused("decoys must be from 0", weighting="mass", decoys=-1)
    refused("curve must be from 1", weighting="mass", curve=[0])
    refused("batch_tokens must be from 1", weighting="mass", batch_tokens=0)
    with pytest.raises((ArgumentError, SchemeError)):
        open_test(radioactive, fresh, "keyed")
    with pytest.raises(ArgumentError, match="model must be a LanguageModel, a path or"):
        open_test(None, fresh, SCHEME)
    assert VOCAB != 64


def test_the_default_weighting(radioactive, clean, fresh):
    assert open_test(radioactive, fresh, SCHEME, reference=clean).weighting.startswith("contrast")
    assert open_test(radioactive, fresh, SCHEME).reference is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_tells_that_its_text_carries_the_watermark(radioactive, fresh, tmp_path, kind):
    for name, text in (("marked", written(SCHEME, 20, 50, seed=5)), ("fresh", fresh)):
        how = {"weighting": kind}
        if kind == "contrast":
            how["reference"] = trained(written(None, 320, 32, seed=6), steps=5)
        predict(radioactive, text, tmp_path / name, context_width=1, **how)
    marked = open_test(None, None, SCHEME, from_file=tmp_path / "marked")
    assert marked.text_log10_pvalue < -6
    assert math.isnan(marked.log10_pvalue)
    clean_file = open_test(None, None, SCHEME, from_file=tmp_path / "fresh")
    assert clean_file.text_log10_pvalue > -3
    assert clean_file.log10_pvalue < -4


def test_there_are_no_decoys_where_the_text_was_chosen_by_the_key(radioactive, fresh):
    result = open_test(radioactive, fresh, SCHEME, text_watermarked=True, decoys=5)
    assert math.isfinite(result.log10_pvalue)
    assert math.isnan(result.decoys.pvalue)
    assert any("no decoys" in note for note in result.notes)
