"""Forecasts against simulated tests, and files that are none."""

import json
import math

import numpy as np
import pytest
import radscore as rs
from radscore.errors import ArgumentError, StateError
from radscore.evidence.power import read_effects
from scipy import stats

GAMMA = 0.25


def effects(points, per_token=4.0, **changes):
    """A file's content, of one setting at some shares."""
    entries = [
        {
            "test": "closed", "setting": "text", "weights": "plain", "against": None,
            "filter": "none", "base": "b", "mark": "m", "supervision": 1.0, "training": {},
            "share": share, "valid": True, "n_scored": 1000 * per_token, "n_tokens": 1000,
            "effect": {"mean": mean, "sd": None, "low": low, "high": high},
        }
        | changes
        for share, mean, low, high in points
    ]  # fmt: skip
    return {"format": "radscore effects", "version": 1, "effects": entries}


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "e.json").write_text(
        json.dumps(effects([(0.1, 0.05, 0.04, 0.06), (0.05, 0.02, 0.01, 0.03)]))
    )
    (found,) = read_effects(tmp_path / "e.json")
    return found


def test_effects_are_interpolated_from_nothing(setting):
    assert setting.effect(0.1) == (0.05, 0.04, 0.06)
    assert setting.effect(0.025) == pytest.approx((0.01, 0.005, 0.015))
    assert setting.effect(0.075) == pytest.approx((0.035, 0.025, 0.045))
    with pytest.raises(ArgumentError, match=r"at most 0\.1, the largest that was rehearsed"):
        setting.effect(0.2)


def test_tokens_and_least_share_are_each_others_inverse(setting):
    for share in (0.02, 0.05, 0.08):
        found = setting.forecast(share, level=1e-3, power=0.9)
        assert found.least < found.tokens < found.most
        again = setting.least_share(found.tokens, level=1e-3, power=0.9)
        assert again == pytest.approx(share)
        power = setting.forecast(share, level=1e-3, power=0.5, tokens=found.tokens).power
        assert power == pytest.approx(0.9)
    assert setting.least_share(10, level=1e-3, power=0.9) is None


@pytest.mark.parametrize(("effect", "tokens"), [(0.05, 2000), (0.08, 1000), (0.03, 6000)])
def test_power_is_that_of_simulated_tests(tmp_path, effect, tokens):
    """Greens that are likelier by the effect: the exact test rejects as often as forecast."""
    (tmp_path / "e.json").write_text(json.dumps(effects([(1.0, effect, effect, effect)], 1.0)))
    (setting,) = read_effects(tmp_path / "e.json")
    level = 1e-3
    said = setting.forecast(1.0, level=level, power=0.9, tokens=tokens).power
    p = GAMMA + effect * math.sqrt(GAMMA * (1 - GAMMA))
    greens = np.random.default_rng(1).binomial(tokens, p, 20_000)
    rejected = stats.binom.sf(greens - 1, tokens, GAMMA) <= level
    assert abs(rejected.mean() - said) < 0.05


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": "x"}', json.dumps(effects([(0, 0, 0, 0)], share=0.1, effect=3))],
)
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(StateError, match="not the effects"):
        read_effects(tmp_path / "e.json")


def test_invalid_settings_are_left_out(tmp_path):
    (tmp_path / "e.json").write_text(json.dumps(effects([(0.1, 1, 1, 1)], valid=False)))
    assert read_effects(tmp_path / "e.json") == []


def test_the_command(tmp_path, run_command):
    (tmp_path / "e.json").write_text(json.dumps(effects([(0.1, 0.05, None, None)])))
    done = run_command("audit", "power", tmp_path / "e.json", "--share", 0.05, "--tokens", 9000,
                       "--json")  # fmt: skip
    (row,) = json.loads(done.out)
    assert row["test"] == "closed text, plain"
    assert row["tokens needed"] == pytest.approx(((3.0902 + 1.2816) / 0.025) ** 2 / 4, rel=1e-3)
    assert 0 < row["power"] < 1
    assert "least share" in run_command("audit", "power", tmp_path / "e.json", "--tokens", 9).out
    assert run_command("audit", "power", tmp_path / "e.json").code == 2
    assert rs.Audit
