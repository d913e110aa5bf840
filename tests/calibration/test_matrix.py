"""Suspects who copy, loop, quote and continue get no small p-values, under any scheme or route."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.calibration.matrix import FULL, LEVELS, membership_row, planted_row, rows_of
from tools.calibration.world import schemes

#: With few keys only what is grossly wrong shows: `make calibrate` runs them all.
N_KEYS = FULL if os.environ.get("RADSCORE_CALIBRATE") == "full" else 8
CONFIDENCE = 1 - 1e-4


@pytest.mark.parametrize("name", schemes())
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
