"""`test_closed`: what it scores, excludes, filters, corrects and says."""

import json
import math

import numpy as np
import pytest
import radscore as rs
from radscore.answers import Answers
from radscore.answers.grouping import count_windows, kept_windows
from radscore.answers.weights import CONTRASTS, COUNTS, DEFAULT_CONTRAST
from radscore.audits.closed import test_closed as closed
from radscore.errors import ArgumentError, TokenError

VOCAB = 60


@pytest.fixture
def scheme():
    return rs.Keyed(vocab_size=VOCAB, key=bytes(range(16)), gamma=0.25, context_width=2)


def text(n, length, seed, vocab=VOCAB):
    """Documents of a few words that come often."""
    rng = np.random.default_rng(seed)
    return rs.Documents.of((rng.zipf(1.6, size=(n, length)) - 1) % vocab)


def marked(scheme, n, length, seed, strength=1.5):
    """Documents in which green targets come `exp(strength)` times as often."""
    rng = np.random.default_rng(seed)
    rows = (rng.zipf(1.6, size=(n, length)) - 1) % scheme.vocab_size
    for i in range(2, length):
        green = scheme.green_mask(rows[:, i - 2 : i])
        other = (rng.zipf(1.6, size=n) - 1) % scheme.vocab_size
        stay = rng.random(n) < np.exp(-strength)
        swap = ~green[np.arange(n), rows[:, i]] & ~stay
        rows[swap, i] = other[swap]
    return rs.Documents.of(rows)


@pytest.mark.parametrize("with_filter", [False, True])
def test_plain_is_the_published_test(scheme, with_filter):
    answers, prompts = text(50, 40, 1), text(50, 10, 2)
    clean = text(20, 40, 3)
    phi = rs.KgramSet.from_documents(clean, 2, VOCAB, watermarked=False) if with_filter else None
    result = closed(answers, scheme, prompts=prompts, filter=phi)
    expected = rs.score(answers, scheme, prompts=prompts, filter=phi)
    assert result.log10_pvalue == expected.log10_pvalue
    assert result.score == expected
    assert (result.weighting, result.n_tests, result.transform) == ("plain", 1, None)
    assert result.removed["excluded by prompts"] == expected.n_excluded > 0
    assert (result.removed["removed by the filter"] > 0) == with_filter


@pytest.mark.parametrize("transform", [*COUNTS, *CONTRASTS])
def test_weights_reach_the_scorer(scheme, transform):
    """The statistic, summed up by hand from the scheme's own scores."""
    answers, other = text(30, 30, 1), text(30, 30, 2)
    prompts, theirs = text(30, 6, 3), text(30, 6, 4)
    contrast = transform in CONTRASTS
    given = {"reference": other, "reference_prompts": theirs} if contrast else {}
    result = closed(
        answers, scheme, prompts=prompts, transform=transform,
        weighting=None if contrast else "counts", **given,
    )  # fmt: skip
    mine = kept_windows(answers, scheme, prompts=prompts)
    reference = kept_windows(other, scheme, prompts=theirs) if contrast else None
    counts = count_windows(mine, reference, VOCAB)
    family = CONTRASTS if contrast else COUNTS
    weights = family[transform](counts, 0.25)
    windows = np.column_stack([counts.contexts, counts.targets])
    total = float((weights * (scheme.scores(windows) - 0.25)).sum())
    assert result.statistic == pytest.approx(total, rel=1e-9)
    assert result.n_scored == np.count_nonzero(weights)
    assert result.transform == transform
    score = result.score
    assert (score.n_documents, score.n_tokens, score.n_windows) == (30, 900, 840)
    assert score.n_excluded == mine.n_excluded
    assert score.n_excluded + score.n_duplicates + len(set(map(tuple, rows(mine)))) == 840
    assert math.isfinite(score.weighted.log10_normal)


def rows(kept):
    return np.column_stack([kept.contexts, kept.targets]).tolist()


def test_a_mark_is_found_and_contrast_finds_more(scheme):
    """The reference speaks as the suspect would without the mark."""
    suspect, reference = marked(scheme, 300, 60, 1, 0.3), text(300, 60, 2)
    clean = text(300, 60, 3)
    plain, contrast = closed(suspect, scheme), closed(suspect, scheme, reference=reference)
    assert contrast.weighting == "contrast"
    assert contrast.transform == DEFAULT_CONTRAST
    assert contrast.score.zscore > plain.score.zscore + 1
    assert contrast.log10_pvalue < -4
    for given in ({}, {"weighting": "counts"}, {"reference": reference}):
        assert closed(clean, scheme, **given).log10_pvalue > -3
    decoys = closed(suspect, scheme, reference=reference, decoys=200).decoys
    assert (decoys.n_decoys, decoys.n_reached) == (200, 0)
    assert abs(decoys.mean) < 0.4
    assert 0.8 < decoys.standard_deviation < 1.2


def test_both_takes_the_smaller_times_two(scheme):
    suspect = marked(scheme, 80, 40, 1, 0.4)
    phi = rs.KgramSet.from_documents(suspect, 2, VOCAB, top=100, watermarked=False)
    for given in ({}, {"reference": text(80, 40, 2)}):
        alone = closed(suspect, scheme, **given)
        filtered = closed(suspect, scheme, filter=phi, **given)
        both = closed(suspect, scheme, filter=phi, both=True, **given)
        assert both.unfiltered.log10_pvalue == alone.log10_pvalue
        assert both.filtered.log10_pvalue == filtered.log10_pvalue
        least = min(alone.log10_pvalue, filtered.log10_pvalue)
        assert both.log10_pvalue == pytest.approx(least + math.log10(2), rel=1e-12)
        assert both.n_tests == 2
        best = both.filtered if filtered.log10_pvalue == least else both.unfiltered
        assert both.score == best
    assert closed(text(5, 9, 1), scheme, filter=phi, both=True).log10_pvalue <= 0


def test_a_filter_that_leaves_nothing(scheme):
    phi = rs.KgramSet.from_kgrams([[59, 58]], VOCAB)
    answers = rs.Documents.of([[1, 2, 3, 4, 5]])
    with pytest.raises(rs.errors.TokenError, match="removed by the filter"):
        closed(answers, scheme, filter=phi)
    with pytest.raises(rs.errors.TokenError, match="removed by the filter"):
        closed(answers, scheme, filter=phi, weighting="counts")
    both = closed(answers, scheme, filter=phi, both=True)
    assert both.filtered is None
    alone = closed(answers, scheme).log10_pvalue
    assert both.log10_pvalue == min(alone + math.log10(2), 0)
    assert any("without it" in note for note in both.notes)


@pytest.mark.parametrize("weighting", ["plain", "counts", "contrast"])
def test_the_curve_ends_at_the_result(scheme, weighting):
    answers = text(40, 25, 1)
    given = {"reference": text(40, 25, 2)} if weighting == "contrast" else {}
    result = closed(answers, scheme, weighting=weighting, curve=5, **given)
    points = result.curve
    assert len(points) == 5
    assert points[-1].n_tokens == 1000
    assert points[-1].n_scored == result.n_scored
    assert points[-1].log10_pvalue == result.score.log10_pvalue
    assert [p.n_scored for p in points] == sorted(p.n_scored for p in points)
    some = closed(answers, scheme, weighting=weighting, curve=[100, 500], **given).curve
    assert [point.n_tokens for point in some] == [100, 500]
    first = rs.Documents(answers.values, answers.offsets[:21])
    half = closed(first, scheme, weighting=weighting, **given)
    assert some[1].log10_pvalue == half.score.log10_pvalue


def test_prompts_that_carry_the_mark_exclude_their_contexts_everywhere(scheme):
    answers = [[1, 2, 3, 4, 5], [3, 4, 6, 1, 2]]
    prompts = [[9, 2, 3], [8, 3, 4]]
    own = closed(answers, scheme, prompts=prompts)
    assert own.removed["excluded by prompts"] == 2
    every = closed(answers, scheme, prompts=prompts, prompts_watermarked=True)
    assert every.removed["excluded by prompts"] == 3
    assert every.n_scored == 3
    assert any("any prompt can have shown" in note for note in every.notes)
    assert every.score.method.startswith("exact")
    with pytest.raises(rs.errors.ArgumentError, match="needs the prompts"):
        closed(answers, scheme, prompts_watermarked=True)
    additive = rs.KGW(vocab_size=VOCAB, seeding="additive", context_width=2)
    sums = closed([[1, 2, 3], [4, 5, 6]], additive, prompts=[[2, 1], []], prompts_watermarked=True)
    assert sums.removed["excluded by prompts"] == 1  # 1 + 2 is 2 + 1


SALTED = {
    "KGW selfhash": rs.KGW.from_lm_watermarking("selfhash", vocab_size=VOCAB, gamma=0.25),
    "SBW selfhash": rs.SBW(vocab_size=VOCAB, key=5, gamma=0.25),
    "SynthID with a table": rs.SynthID(vocab_size=VOCAB, keys=tuple(range(1, 9))),
}


@pytest.mark.parametrize("name", SALTED)
def test_no_pvalue_where_the_seed_needs_the_target_and_something_carries_the_mark(name):
    scheme = SALTED[name]
    answers, prompts = text(20, 30, 1), text(20, 9, 2)
    found = closed(answers, scheme, prompts=prompts, prompts_watermarked=True, decoys=9, curve=2)
    assert math.isnan(found.log10_pvalue)
    assert found.score.method.startswith("none: watermarked prompts")
    assert found.n_scored > 0
    assert any("no seed is known before the target" in note for note in found.notes)
    assert math.isnan(found.decoys.pvalue)
    assert math.isnan(found.curve[-1].log10_pvalue)
    json.dumps(found.to_dict(), allow_nan=False)
    phi = rs.KgramSet.from_documents(prompts, scheme.window_width - 1, VOCAB, watermarked=True)
    filtered = closed(answers, scheme, filter=phi, both=True)
    assert math.isnan(filtered.filtered.log10_pvalue)
    assert filtered.log10_pvalue == min(filtered.unfiltered.log10_pvalue + math.log10(2), 0)
    clean = rs.KgramSet.from_documents(prompts, scheme.window_width - 1, VOCAB, watermarked=False)
    assert math.isfinite(closed(answers, scheme, filter=clean).log10_pvalue)


def test_filters_from_watermarked_text(scheme):
    answers, marks = text(30, 40, 1), text(30, 12, 2)
    free = rs.KgramSet.from_documents(marks, 2, VOCAB, watermarked=False)
    exact = closed(answers, scheme, filter=free)
    for watermarked in (True, None):  # what nobody has said is read as yes
        whole = rs.KgramSet.from_documents(marks, 2, VOCAB, watermarked=watermarked)
        bound = closed(answers, scheme, filter=whole, decoys=9)
        assert bound.score.method.startswith("martingale bound")
        assert bound.n_scored == exact.n_scored
        assert bound.log10_pvalue >= exact.log10_pvalue
        assert math.isnan(bound.decoys.pvalue)
        assert any("no decoys" in note for note in bound.notes)
        chosen = [
            rs.KgramSet.from_documents(marks, 2, VOCAB, watermarked=watermarked, top=50),
            rs.KgramSet.from_documents(marks, 2, VOCAB, watermarked=watermarked, min_count=2),
            rs.KgramSet.from_kgrams(list(free), VOCAB, watermarked=watermarked),
            whole & rs.KgramSet.from_documents(answers, 2, VOCAB, watermarked=watermarked),
        ]
        for phi in chosen:
            for weighting in ("plain", "counts"):
                none = closed(answers, scheme, filter=phi, weighting=weighting)
                assert math.isnan(none.log10_pvalue)
                assert any("there is no valid p-value: the filter" in note for note in none.notes)
            assert math.isnan(rs.score(answers, scheme, filter=phi).log10_pvalue)


def test_a_filter_from_watermarked_text_is_compared_by_seed():
    """Under HF's lefthash of width 2 all contexts with one last token are one seed."""
    scheme = rs.KGW.from_transformers(
        {"seeding_scheme": "lefthash", "greenlist_ratio": 0.25, "context_width": 2}, VOCAB
    )
    marks = rs.KgramSet.from_documents([[7, 3, 1]], 2, VOCAB, watermarked=True)  # (7, 3), (3, 1)
    assert closed([[5, 3, 9, 2]], scheme, filter=marks).n_scored == 1
    clean = rs.KgramSet.from_documents([[7, 3, 1]], 2, VOCAB, watermarked=False)
    with pytest.raises(rs.errors.TokenError, match="removed by the filter"):
        closed([[5, 3, 9, 2]], scheme, filter=clean)


@pytest.mark.parametrize("width", [2, 4])
def test_the_first_tokens_of_a_prompt_show_seeds_too(width):
    """They were marked after contexts that nobody sees, and the last token alone is the seed."""
    settings = {"seeding_scheme": "lefthash", "greenlist_ratio": 0.25, "context_width": width}
    scheme = rs.KGW.from_transformers(settings, VOCAB)
    prompts = rs.Documents.of([[5, 6, 7], [8, 9]])
    answers = rs.Documents.of([[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 8, 9, 10]])
    for given in ({}, {"prompts_watermarked": True}):
        result = closed(answers, scheme, prompts=prompts, **given)
        assert result.score.n_excluded == 4  # what follows 5, 6, 8 and 9
        assert result.score.n_excluded == rs.score(answers, scheme, prompts=prompts).n_excluded
    phi = rs.KgramSet.from_documents(answers, width, VOCAB, watermarked=True)
    assert math.isnan(closed(answers, scheme, filter=phi).log10_pvalue)
    assert not scheme.tells_marked_seeds


def test_prompts_that_carry_the_mark_unsaid_leave_no_pvalue(scheme):
    prompts = marked(scheme, 60, 60, 1, 5.0)
    result = closed(text(60, 20, 2), scheme, prompts=prompts, decoys=9)
    assert math.isnan(result.log10_pvalue)
    assert math.isnan(result.decoys.pvalue)
    assert any("say prompts_watermarked=True" in note for note in result.notes)


def test_the_result_says_what_it_assumes(scheme):
    answers = text(5, 20, 1)
    assert any("no prompts were given" in note for note in closed(answers, scheme).notes)
    prompts = text(5, 5, 2)
    notes = closed(answers, scheme, prompts=prompts).notes
    assert notes == ("assumes that the prompts do not carry the tested key's watermark",)


def test_answers_bring_what_is_known_of_them(scheme):
    answers = Answers(text(5, 20, 1), text(5, 5, 2), n_failed=3, models=("m",),
                      prompt_ids=frozenset("ab"))  # fmt: skip
    reference = Answers(text(5, 20, 3), text(5, 5, 2), prompt_ids=frozenset("bc"), models=("r",))
    result = closed(answers, scheme, reference=reference)
    assert (result.n_failed, result.model, result.reference) == (3, "m", "r")
    assert any("different prompts" in note for note in result.notes)
    with pytest.raises(rs.errors.ArgumentError, match="come with prompts of their own"):
        closed(answers, scheme, prompts=text(5, 5, 2))


def test_a_corpus_brings_its_prompts(scheme, tmp_path):
    answers, prompts = text(30, 20, 1), text(30, 5, 2)
    path = tmp_path / "x.jsonl"
    pairs = zip(answers, prompts, strict=True)
    path.write_text(
        "".join(json.dumps({"tokens": a.tolist(), "p": p.tolist()}) + "\n" for a, p in pairs)
    )
    for weighting in ("plain", "counts"):
        corpus = rs.open_corpus(path, prompt_field="p", batch_tokens=100)
        expected = closed(answers, scheme, prompts=prompts, weighting=weighting)
        assert closed(corpus, scheme, weighting=weighting).score == expected.score


def test_results_are_plain_json_and_show_no_key(scheme):
    result = closed(text(5, 20, 1), scheme, reference=text(5, 20, 2), decoys=10, curve=2)
    shown = json.dumps(result.to_dict(), allow_nan=False)
    fields = json.loads(shown)
    assert fields["weighting"] == "contrast"
    assert fields["unfiltered"]["n_scored"] == fields["n_scored"]
    assert fields["filtered"] is None
    key = bytes(range(16)).hex()
    assert key not in shown + repr(result)


@pytest.mark.parametrize("other", [
    rs.GumbelMax(vocab_size=VOCAB, context_width=2, seed=3),
    rs.SynthID(vocab_size=VOCAB, keys=tuple(range(1, 9))),
    rs.SBW(vocab_size=VOCAB, key=5, gamma=0.25),
    rs.KGW(vocab_size=VOCAB, seeding="additive", context_width=3, hash_key=5),
    rs.VLLMGumbel(vocab_size=VOCAB, key=1),
])  # fmt: skip
def test_every_kind_of_scheme(other):
    answers, prompts, reference = text(40, 30, 1), text(40, 8, 2), text(40, 30, 3)
    for given in ({}, {"weighting": "counts"}, {"reference": reference}):
        result = closed(answers, other, prompts=prompts, **given)
        assert -4 < result.log10_pvalue <= 0
        assert result.n_scored > 100


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weighting": "best"}, "weighting must be one of plain, counts, contrast"),
        ({"weighting": "contrast"}, "needs a reference"),
        ({"weighting": "plain", "reference": [[1, 2, 3]]}, "reference has no effect"),
        ({"transform": "log"}, "transform has no effect"),
        ({"weighting": "counts", "transform": "balanced"}, "transform must be one of count"),
        ({"both": True}, "both=True needs a filter"),
        ({"filter": {(1, 2)}}, "filter must be a KgramSet"),
        ({"filter": rs.KgramSet.from_kgrams([[1]], VOCAB)}, "1-grams over 60"),
        ({"prompts": [[1, 2], [3]]}, "there are 1 answers, but 2 prompts"),
        ({"decoys": -1}, "decoys must be from 0"),
        ({"curve": -1}, "curve must be from 0"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(scheme, options, match):
    with pytest.raises(rs.errors.ArgumentError, match=match):
        closed([[1, 2, 3, 4]], scheme, **options)


@pytest.mark.parametrize("name", ["answers", "prompts", "reference", "reference_prompts"])
def test_ids_outside_of_the_vocabulary(scheme, name):
    good = [[1, 2, 3, 4]]
    given = {"answers": good, "prompts": good, "reference": good, "reference_prompts": good}
    given[name] = [[1, 2, VOCAB, 4]]
    with pytest.raises(rs.errors.TokenError, match=f"token id {VOCAB} "):
        closed(given.pop("answers"), scheme, **given)


def test_nothing_to_score(scheme):
    with pytest.raises(rs.errors.TokenError, match="nothing was scored"):
        closed([[1, 2]], scheme)
    with pytest.raises(rs.errors.TokenError, match="nothing was scored"):
        closed([[1, 2]], scheme, weighting="counts")
    with pytest.raises(rs.errors.TokenError, match="excluded by"):
        closed([[1, 2, 3]], scheme, weighting="counts", prompts=[[1, 2]])


@pytest.mark.parametrize("name", ["vllm", "dual", "synthid", "deepmind"])
def test_an_echo_of_the_prompt_is_no_evidence_from_the_first_token_on(name):
    """A clean model that repeats marked text out of its prompt, wherever that begins there."""
    common = {"vocab_size": VOCAB, "context_width": 3}
    scheme = {
        "vllm": lambda: rs.VLLMGumbel(key=5, **common),
        "dual": lambda: rs.VLLMDualKeyGumbel(key=5, **common),
        "synthid": lambda: rs.SynthID(keys=(1, 2), **common),
        "deepmind": lambda: rs.SynthIDDeepMind(keys=(1, 2), **common),
    }[name]()
    written = [one.tolist() for one in text(30, 12, 1)]
    prompts = [[7] * (i % 3) + one for i, one in enumerate(written)]
    for options in ({}, {"prompts_watermarked": True}, {"weighting": "counts"}):
        with pytest.raises(TokenError, match=r"of 360 windows 360 were excluded by prompts"):
            closed(written, scheme, prompts=prompts, **options)
    alone = closed(written, scheme)
    assert alone.score.n_windows == 360
    assert alone.score.n_short_documents == 0
    other = closed(written, scheme, prompts=[[59]] * 30)
    if scheme.seed_kind != "target":
        assert other.score.n_excluded >= 30  # the context of each first token
    with pytest.raises(ArgumentError, match="prompt_role must be 'exclude' with scheme"):
        rs.score(written, scheme, prompts=prompts, prompt_role="context")


@pytest.mark.parametrize("weighting", ["plain", "counts"])
def test_padded_answers_are_scored_from_the_first_token_on(weighting):
    """The best of 60 at every position: short answers that had no window before."""
    scheme = rs.VLLMGumbel(vocab_size=VOCAB, key=5, context_width=4)
    answers = []
    for seed in range(20):
        answer = [seed]
        while len(answer) < 4:
            context = ([-1] * 4 + answer)[-4:]
            answer.append(int(scheme.uniforms([context])[0].argmax()))
        answers.append(answer)
    result = closed(answers, scheme, weighting=weighting)
    assert result.score.n_windows == 80
    assert result.log10_pvalue < (-40 if weighting == "plain" else -10)
