"""Closed tests with a reference that reads along, and with log-probabilities of an API."""

import math

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.answers.expected import expected
from radscore.answers.grouping import kept_windows
from radscore.answers.places import (
    LISTED_ALONE,
    looked_up_by_context,
    mean_lists,
    residuals,
    weights_of_lists,
)
from radscore.audits.closed import test_closed as closed
from radscore.errors import ArgumentError, ModelError, TokenError
from radscore.models.listed import Listed
from radscore.models.listed_weights import looked_up
from tiny import VOCAB, logits, starting, tiny_llama, word_tokenizer


@pytest.fixture(scope="module")
def scheme():
    return rs.Keyed(vocab_size=VOCAB, key=bytes(range(16)), gamma=0.25, context_width=2)


def text(n, length, seed):
    """Documents of a few words that come often."""
    rng = np.random.default_rng(seed)
    return rs.Documents.of((rng.zipf(1.4, size=(n, length)) - 1) % VOCAB)


class Answers:
    """Answers with what an API lists at each token."""

    skipped = rs.corpus.base.NOTHING_SKIPPED
    n_failed, prompt_ids, notes, models = 0, frozenset(), (), ()

    def __init__(self, documents, prompts=None, listed=None):
        self.documents, self.prompts, self.listed = documents, prompts, listed


def truth(network, prompt, document, prefix=()):
    """The probabilities at each token of a document, by one forward pass."""
    before = [*prefix, *prompt]
    rows = logits(network, [[*before, *document]])[0].softmax(-1).double().numpy()
    return rows[len(before) - 1 : -1]


# What a reference expects.


@pytest.mark.parametrize("with_prefix", [False, True])
def test_expected_is_what_the_network_predicts(model, with_prefix):
    one = starting() if with_prefix else model
    documents, prompts = text(5, 12, 1), text(5, 4, 2)
    found = expected(one, documents, prompts, vocab_size=VOCAB, likeliest=7, chat=False)
    assert len(found) == documents.n_tokens
    prefix = (VOCAB - 2,) if with_prefix else ()
    place = 0
    for prompt, document in zip(prompts, documents, strict=True):
        for row in truth(one.model, prompt, document, prefix):
            best = np.sort(np.argsort(-row)[:7])
            best = best[row[best] > 1e-4]
            assert list(found[place]) == best.tolist()
            assert np.exp(list(found[place].values())) == pytest.approx(row[best], rel=1e-3)
            place += 1


def test_where_nothing_precedes_there_is_no_list(model):
    found = expected(model, text(3, 5, 1), vocab_size=VOCAB, likeliest=4)
    empty = np.flatnonzero(np.diff(found.offsets) == 0)
    assert empty.tolist() == [0, 5, 10]
    found = expected(starting(), text(3, 5, 1), vocab_size=VOCAB, likeliest=4)
    assert (np.diff(found.offsets) > 0).all()


def test_long_answers_are_read_in_pieces():
    network = tiny_llama(max_position_embeddings=32)
    one = rs.models.as_language_model(network)
    documents = text(2, 90, 1)
    found = expected(one, documents, vocab_size=VOCAB, likeliest=5)
    assert (np.diff(found.offsets) > 0).sum() == 2 * 89
    whole = logits(network, [documents[0][:32].tolist()])[0].softmax(-1).double().numpy()
    for place in range(1, 32):
        values = found[place]
        assert list(values.values()) == pytest.approx(
            [math.log(whole[place - 1, token]) for token in values], abs=1e-3
        )


def test_a_chat_model_is_asked_in_its_template():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    network = tiny_llama()
    one = rs.models.LanguageModel(network, tokenizer, "chat", VOCAB, 256)
    documents, prompts = rs.Documents.of([[5, 6, 7]]), rs.Documents.of([[1, 2]])
    found = expected(one, documents, prompts, vocab_size=VOCAB, likeliest=3)
    rows = truth(network, [VOCAB - 2, 1, 2, VOCAB - 1], [5, 6, 7])
    for place, row in enumerate(rows):
        for token, value in found[place].items():
            assert math.exp(value) == pytest.approx(row[token], rel=1e-3)
    plain = expected(one, documents, prompts, vocab_size=VOCAB, likeliest=3, chat=False)
    assert plain[0] != found[0]
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(ModelError, match="chat template"):
        expected(one, documents, prompts, vocab_size=VOCAB)


def test_ids_that_the_reference_cannot_read(model):
    with pytest.raises(TokenError, match="prompts"):
        expected(model, text(1, 4, 1), rs.Documents.of([[VOCAB]]), vocab_size=VOCAB)


# Weights, against dense arithmetic.

SIZE = 12


@st.composite
def lists(draw, n):
    """Lists of tokens of a small vocabulary with their probabilities."""
    rows = []
    for _ in range(n):
        ids = draw(st.lists(st.integers(0, SIZE - 1), max_size=5, unique=True))
        values = draw(st.lists(st.floats(1e-3, 0.2), min_size=len(ids), max_size=len(ids)))
        rows.append({i: math.log(v) for i, v in zip(ids, values, strict=True)})
    return Listed.of(rows)


def dense(found):
    table = np.zeros((len(found), SIZE))
    for place in range(len(found)):
        for token, value in found[place].items():
            table[place, token] = math.exp(value)
    return table


def dense_weights(places):
    table = np.zeros((len(places.offsets) - 1, SIZE))
    rows, ids, weights = places.at(np.arange(len(table)))
    np.add.at(table, (rows, ids), weights)
    return table


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_weights_are_dense_arithmetic(data, n):
    p, q, r = (data.draw(lists(n)) for _ in range(3))
    targets = np.array(data.draw(st.lists(st.integers(0, SIZE - 1), min_size=n, max_size=n)))
    inside = dense(p) > 0
    expected_q = dense(q)
    assert dense(mean_lists([q, r])) == pytest.approx((dense(q) + dense(r)) / 2, rel=1e-5)
    # residuals
    known = np.diff(q.offsets) > 0
    said = np.zeros((n, SIZE))
    said[np.arange(n), targets] = 1
    assert dense_weights(residuals(targets, q)) == pytest.approx(
        (said - expected_q) * known[:, None], abs=1e-6
    )
    # listed: a token that the reference does not list has half of the least that it lists
    least = np.where(expected_q > 0, expected_q, 1).min(1, keepdims=True)
    there = np.where(expected_q > 0, expected_q, least / 2)
    w = np.where(inside, (dense(p) - there) / (dense(p) + there + 0.01), 0.0)
    w -= 0.75 * inside * (w.sum(1) / np.maximum(inside.sum(1), 1))[:, None]
    found = weights_of_lists(p, "damped_relative", looked_up(p, q))
    assert dense_weights(found) == pytest.approx(w * known[:, None], abs=1e-6)
    for name, rule in LISTED_ALONE.items():
        found = weights_of_lists(p, name, None)
        assert dense_weights(found) == pytest.approx(inside * rule(dense(p)), abs=1e-6)
    # some places
    some = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=n)), dtype=np.int64)
    rows, ids, weights = residuals(targets, q).at(some)
    table = np.zeros((len(some), SIZE))
    np.add.at(table, (rows, ids), weights)
    assert table == pytest.approx(((said - expected_q) * known[:, None])[some], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_what_a_reference_expects_elsewhere(data, n, m):
    p, q = data.draw(lists(n)), data.draw(lists(m))
    mine, others = (
        np.array(data.draw(st.lists(st.integers(-1, 2), min_size=k, max_size=k))) for k in (n, m)
    )
    logprobs, least = looked_up_by_context(mine, p, others, q)
    table, met = dense(q), np.diff(q.offsets) > 0
    entry = 0
    for place in range(n):
        same = met & (others == mine[place]) & (mine[place] >= 0)
        lowest = [min(q[other].values()) for other in np.flatnonzero(same)]
        assert np.isnan(least[place]) == (not lowest)
        if lowest:
            assert math.exp(least[place]) == pytest.approx(np.exp(lowest).mean(), rel=1e-5)
        for token in p[place]:
            mean = table[same, token].mean() if same.any() else 0.0
            assert np.isnan(logprobs[entry]) == (mean == 0.0)
            if mean:
                assert math.exp(logprobs[entry]) == pytest.approx(mean, rel=1e-5)
            entry += 1


# The tests.


def by_hand(scheme, kept, places, factor, half=math.inf):
    """The statistic, a place and a token at a time."""
    sums = {}
    for index, token in enumerate(kept.tokens.tolist()):
        rows, ids, weights = places.at(np.array([token]))
        del rows
        for target, weight in zip(ids.tolist(), weights.tolist(), strict=True):
            window = (*kept.contexts[index].tolist(), target)
            sums[window] = sums.get(window, 0.0) + weight * factor[index]
    windows, weights = np.array(list(sums)), np.array(list(sums.values()))
    scores = scheme.scores(windows) - scheme.null_law.mean
    return float((weights / (1 + np.abs(weights) / half)) @ scores), np.count_nonzero(weights)


def learned(kept, half=10):
    times = {}
    for context in map(tuple, kept.contexts.tolist()):
        times[context] = times.get(context, 0) + 1
    n = np.array([times[tuple(one)] for one in kept.contexts.tolist()])
    return n / (n + half)


def test_residuals_reach_the_scorer(scheme, model):
    answers, prompts = text(30, 20, 1), text(30, 5, 2)
    result = closed(answers, scheme, prompts=prompts, reference=model)
    assert (result.weighting, result.transform) == ("residual", None)
    assert result.setting == "closed: answers against what a reference expects"
    assert result.reference == model.fingerprint
    kept = kept_windows(answers, scheme, prompts=prompts)
    assert result.score.n_excluded == kept.n_excluded > 0
    read = expected(model, answers, prompts, vocab_size=VOCAB)
    total, n = by_hand(scheme, kept, residuals(answers.values, read), learned(kept))
    assert result.statistic == pytest.approx(total, rel=1e-6)
    assert result.n_scored == n
    # every further answer to the same end
    again = closed(answers, scheme, prompts=prompts, reference=model, curve=[300, 600])
    assert again.score.curve[-1].statistic == result.statistic
    # twice the same reference is one
    twice = closed(answers, scheme, prompts=prompts, reference=[model, model])
    assert twice.statistic == pytest.approx(result.statistic, rel=1e-5)


def test_counts_of_contexts_decide_what_a_place_counts(scheme, model):
    answers = text(30, 20, 1)
    counts = rs.KgramCounts(2, VOCAB, watermarked=False)
    counts.add(text(50, 30, 9))
    result = closed(answers, scheme, reference=model, contexts=counts)
    kept = kept_windows(answers, scheme)
    n = np.array([counts[tuple(one)] for one in kept.contexts.tolist()])
    assert 0 < (n == 0).sum() < len(n)
    read = expected(model, answers, vocab_size=VOCAB)
    total, _ = by_hand(scheme, kept, residuals(answers.values, read), n / (n + 10))
    assert result.statistic == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("how", ["model", "same places", "contexts", "alone"])
def test_log_probabilities_reach_the_scorer(scheme, model, reference, how):
    answers, prompts, others = text(30, 20, 1), text(30, 5, 2), text(30, 20, 3)
    p = expected(reference, answers, prompts, vocab_size=VOCAB, likeliest=6)
    theirs = {
        "model": model,
        "same places": Answers(answers, prompts, expected(model, answers, vocab_size=VOCAB)),
        "contexts": Answers(others, prompts, expected(model, others, vocab_size=VOCAB)),
        "alone": None,
    }[how]
    result = closed(Answers(answers, prompts, p), scheme, reference=theirs)
    assert result.weighting == "listed"
    assert result.transform == ("root" if how == "alone" else "damped_relative")
    kept = kept_windows(answers, scheme, prompts=prompts)
    found = None
    if how == "model":
        found = looked_up(p, expected(model, answers, prompts, vocab_size=VOCAB))
    elif how == "same places":
        found = looked_up(p, theirs.listed)
    elif how == "contexts":
        other = kept_windows(others, scheme, prompts=prompts)
        names = {}
        at = []
        for one in (kept, other):
            where = np.full(600, -1)
            rows = map(tuple, one.contexts.tolist())
            where[one.tokens] = [names.setdefault(row, len(names)) for row in rows]
            at.append(where)
        found = looked_up_by_context(at[0], p, at[1], theirs.listed)
    places = weights_of_lists(p, result.transform, found)
    total, _ = by_hand(scheme, kept, places, learned(kept, 3), 30)
    assert result.statistic == pytest.approx(total, rel=1e-5, abs=1e-9)


def test_a_unit_that_a_prompt_shows_is_no_evidence(model):
    """Where no seed is known before the target, pairs are compared one by one."""
    scheme = rs.KGW.from_lm_watermarking("selfhash", vocab_size=VOCAB, gamma=0.25)
    answers, prompts = text(20, 12, 1), text(20, 12, 2)
    asked = closed(answers, scheme, prompts=prompts, reference=model)
    free = closed(answers, scheme, reference=model)
    assert 0 < asked.n_scored < free.n_scored


def test_a_filter_from_marked_text_takes_whole_units(scheme, model):
    answers, recorded = text(20, 20, 1), text(20, 20, 4)
    whole = rs.KgramSet.from_documents(recorded, 2, VOCAB, watermarked=True)
    free = rs.KgramSet.from_documents(recorded, 2, VOCAB, watermarked=False)
    bound = closed(answers, scheme, reference=model, filter=whole)
    exact = closed(answers, scheme, reference=model, filter=free)
    assert bound.statistic == pytest.approx(exact.statistic, rel=1e-9)
    assert bound.n_scored == exact.n_scored
    assert "martingale" in bound.score.method
    assert bound.log10_pvalue >= exact.log10_pvalue


def test_padded_contexts(model):
    scheme = rs.VLLMGumbel(vocab_size=VOCAB, key=3, context_width=2)
    answers, prompts = text(10, 8, 1), text(10, 8, 2)
    result = closed(answers, scheme, prompts=prompts, reference=model)
    kept = kept_windows(answers, scheme, prompts=prompts)
    assert kept.n_windows == 80
    assert (np.diff(kept.tokens) > 0).all()
    assert answers.values[kept.tokens].tolist() == kept.targets.tolist()
    assert math.isfinite(result.log10_pvalue)


def test_what_does_not_go_together(scheme, model, reference):
    answers = text(5, 10, 1)
    counts = rs.KgramCounts(2, VOCAB, watermarked=True)
    counts.add(answers)
    listed = Listed.of([{1: -1.0}] * 50)
    narrow = rs.KgramCounts(1, VOCAB, watermarked=False)
    for given_, words in (
        ({"weighting": "residual"}, "needs a reference model"),
        ({"weighting": "listed"}, "log-probabilities"),
        ({"weighting": "plain", "reference": model}, "no effect"),
        ({"reference": model, "transform": "relative"}, "no effect"),
        ({"reference": model, "reference_prompts": answers}, "no effect"),
        ({"reference": model, "contexts": counts}, "watermarked=False"),
        ({"reference": model, "contexts": narrow}, "1-grams"),
        ({"reference": answers, "contexts": narrow}, "no effect"),
    ):
        with pytest.raises(ArgumentError, match=words):
            closed(answers, scheme, **given_)
    with pytest.raises(ArgumentError, match="as well, or a reference model"):
        closed(Answers(answers, None, listed), scheme, reference=answers, weighting="listed")
    with pytest.raises(ArgumentError, match="50 tokens, but 49 lists"):
        closed(Answers(answers, None, listed.positions(0, 49)), scheme)
    # a reference that lists nothing is compared by its text
    assert closed(Answers(answers, None, listed), scheme, reference=answers).weighting == "contrast"
    small = rs.models.as_language_model(tiny_llama(vocab_size=64))
    with pytest.raises(ModelError, match="the reference predicts 64 tokens"):
        closed(answers, scheme, reference=small)
    del reference
