"""Suspects who copy, loop, quote and continue get no small p-values, under any scheme or route."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.calibration.matrix import LEVELS, membership_row, planted_row, rows_of

#: With few keys only gross mistakes show: `make calibrate` runs 400, under every scheme.
N_KEYS = 8
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


def test_membership_keeps_its_level():
    (row,) = membership_row(N_KEYS)
    for level in LEVELS:
        assert not row.is_above(level, CONFIDENCE), row.line


@pytest.mark.parametrize("name", ["Keyed", "KGW lefthash, width 4 (HF)", "SynthID", "SBW selfhash"])
def test_the_suspects_would_be_found_by_a_test_that_cannot_see_their_prompts(name):
    row = planted_row(name, 8)
    assert row.reached(0.001) >= 6, row.line
