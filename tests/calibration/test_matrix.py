"""Suspects who copy, loop, quote and continue get no small p-values, under any scheme or route."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.calibration.answered import marked_answers, unlike_prompts, unmarked_answers
from tools.calibration.matrix import SECTIONS, membership_row, parts, planted_row, rows_of
from tools.calibration.readings import (
    contaminated_readings,
    marked_readings,
    unmarked_readings,
    without_memory,
)
from tools.calibration.rows import LEVELS, Finished, Row, summary

#: With few keys only gross mistakes show: `make calibrate` runs more, under every scheme.
N_KEYS = 4
CONFIDENCE = 1 - 1e-4
#: One scheme for each kind of seed and of score.
SCHEMES = (
    "Keyed",
    "Keyed, Gumbel",
    "SGLangGumbel",
    "KGW lefthash, width 4 (HF)",
    "KGW minfunc",
    "SBW selfhash",
)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_route_keeps_its_level(name):
    for row in rows_of(name, N_KEYS):
        for level in LEVELS:
            assert not row.is_above(level, CONFIDENCE), row.line


@pytest.mark.parametrize("suspect", ["quotes", "continues"])
@pytest.mark.parametrize(
    ("made", "n_keys"),
    [
        (unmarked_answers, 100),
        (marked_answers, 6),
        (unmarked_readings, 100),
        (marked_readings, 4),
    ],
)
def test_what_an_api_tells_keeps_its_level(made, n_keys, suspect):
    for row in made("VLLMGumbel", suspect, n_keys):
        assert row.n_keys == n_keys
        for level in LEVELS:
            assert not row.is_above(level, CONFIDENCE), row.line


def test_contaminated_text_keeps_its_level():
    rows = contaminated_readings("Keyed", "continues", 3, ["one token a prompt"])
    assert [row.n_keys for row in rows] == [3]
    assert not any(row.is_above(0.01, CONFIDENCE) for row in rows)


def test_membership_keeps_its_level():
    (row,) = membership_row(N_KEYS)
    for level in LEVELS:
        assert not row.is_above(level, CONFIDENCE), row.line


@pytest.mark.parametrize("name", ["Keyed", "KGW lefthash, width 4 (HF)", "SynthID", "SBW selfhash"])
def test_the_suspects_would_be_found_by_a_test_that_cannot_see_their_prompts(name):
    row = planted_row(name, 8)
    assert row.reached(0.001) >= 6, row.line


@pytest.mark.parametrize("name", ["Keyed", "SGLangGumbel"])
def test_lists_after_hidden_prompts_would_be_found(name):
    row = unlike_prompts(name, 8)
    assert row.reached(0.001) >= 6, row.line


@pytest.mark.parametrize("name", ["Keyed", "SGLangGumbel"])
def test_tokens_after_prompts_would_be_found_if_the_prompts_themselves_were_forgotten(name):
    row = without_memory(name, 8)
    assert row.reached(0.001) >= 6, row.line


def test_an_interrupted_run_goes_on(tmp_path):
    rows = [Row.of("Keyed", "plain", "copies", [-0.1, -1.5, -2.0, -3.5, float("nan")])]
    assert rows[0].n_reached == (3, 2, 1)
    assert (rows[0].n_keys, rows[0].n_given) == (5, 4)
    path = tmp_path / "deep" / "finished.jsonl"
    Finished(path).add("one", rows)
    Finished(path).add("two", [])
    assert Finished(path).parts == {"one": rows, "two": []}
    assert "| plain | copies | 5 | 1 | 0.750" in summary(rows)


def test_parts_have_names_of_their_own():
    names = [part.name for section in SECTIONS for part in parts(section, 40, 1000)]
    assert len(set(names)) == len(names)
