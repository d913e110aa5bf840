"""The suspect that merely continues: against a loop in plain Python, and on text that is marked."""

import math

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.audits.text_check import TextCheck, continued
from radscore.scoring.contexts import Lookup

VOCAB = 300
SCHEME = rs.Keyed(vocab_size=VOCAB, key=bytes(16), gamma=0.25, context_width=1)


def by_hand(tokens, length, width, latest=4):
    """{(place, target): weight} of an induction head over the latest places before."""
    found = {}
    for place in range(max(length, width) - 1, len(tokens)):
        last = tokens[place - length + 1 : place + 1]
        before = [i for i in range(length - 1, place) if tokens[i - length + 1 : i + 1] == last][
            -latest:
        ]
        for i in before:
            key = place, tokens[i + 1]
            found[key] = found.get(key, 0.0) + 1.0 / len(before)
    return found


@given(
    tokens=st.lists(st.integers(0, 3), max_size=40),
    length=st.integers(1, 4),
    width=st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_what_follows_is_what_followed(tokens, length, width):
    places, targets, weights = continued(np.array(tokens, dtype=np.uint32), length, width)
    found = {}
    for place, target, weight in zip(places.tolist(), targets.tolist(), weights, strict=True):
        found[place, target] = found.get((place, target), 0.0) + weight
    assert found == pytest.approx(by_hand(tokens, length, width))


def texts(n_marked, seed=1, n=120):
    """Random texts, and some that say a green phrase three times."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, VOCAB, 60) for _ in range(n)]
    green = SCHEME.green_mask(np.arange(VOCAB)[:, None])
    for _ in range(n_marked):
        phrase = [int(rng.integers(0, VOCAB))]
        while len(phrase) < 20:
            phrase.append(int(rng.choice(np.flatnonzero(green[phrase[-1]]))))
        rows.append(np.array(phrase * 3))
    return rows


def test_the_suspect_is_scored_where_the_tested_one_is():
    rows = texts(1)
    check = TextCheck(SCHEME)
    for row in rows:
        check.add(row)
    every = check.result(copies=True)

    def among(some):
        contexts = np.concatenate(some)[:, None].astype(np.uint32)
        return check.result(copies=True, among=Lookup(contexts))

    assert among(rows).heads == every.heads
    assert among([np.array([VOCAB])]).heads == {}
    # the phrase's own contexts: what hides in the whole text shows among them
    marked = among(rows[-1:])
    assert marked.heads[1] < every.heads[1]
    assert marked.copied_log10_pvalue < -3
    assert (marked.log10_pvalue, marked.found) == (every.log10_pvalue, every.found)


def checked(rows):
    check = TextCheck(SCHEME)
    for row in rows:
        check.add(row)
    return check.result(copies=True)


def test_one_marked_text_in_a_hundred_is_seen_by_what_copies_it():
    found = checked(texts(1))
    assert found.log10_pvalue > -4  # the text as a whole does not show it
    assert found.copied_log10_pvalue < -6
    assert found.is_marked(vouched=False)
    assert found.is_marked(vouched=True)
    assert found.n_documents_marked == 1
    assert any("no valid p-value" in note for note in found.notes(vouched=True))
    assert any("1 of 121" in note for note in found.notes(vouched=True))


def test_clean_text_passes():
    found = checked(texts(0))
    assert found.copied_log10_pvalue > math.log10(0.05)
    assert not found.is_marked(vouched=False)
    assert found.notes(vouched=False) == []


def test_a_text_of_marks_that_never_come_again_is_seen_as_a_whole():
    found = checked([row[:20] for row in texts(40, n=0)])
    assert found.log10_pvalue < -4
    assert found.is_marked(vouched=True)


def test_without_anything_to_score():
    check = TextCheck(SCHEME)
    assert math.isnan(check.result(copies=True).log10_pvalue)
    check.add(np.array([VOCAB, 5, VOCAB + 7]))  # ids that the scheme does not know cut a text
    found = check.result(copies=True)
    assert math.isnan(found.copied_log10_pvalue)
    assert not found.is_marked(vouched=False)
