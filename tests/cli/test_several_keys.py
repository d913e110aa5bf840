"""``radscore score`` with several keys, and with decoy keys, in one pass."""

import json
import math

import numpy as np
import pytest
import radscore as rs
from radscore.stats import decoy_test, holm
from score_setup import KEY, SCORE

OTHERS = ("ff" * 16, "0123456789abcdef" * 2)


@pytest.fixture
def keys(marked_corpus, tmp_path, monkeypatch):
    """Three key files, of which the second holds the key of the marked documents."""
    del marked_corpus
    monkeypatch.delenv("RADSCORE_KEY")
    names = ("bob.key", "alice.key", "carol.key")
    for name, key in zip(names, (OTHERS[0], KEY, OTHERS[1]), strict=True):
        (tmp_path / name).write_text(key)
    return [part for name in names for part in ("--key-file", name)]


def values(content):
    """What does not depend on how the command was given."""
    return {name: content[name] for name in ("statistic", "log10_pvalue", "n_scored", "n_windows")}


@pytest.mark.parametrize("more", [(), ("--memory", "1GiB", "--tmp", "tmp")])
def test_each_key_has_the_result_that_it_has_alone(cli, keys, tmp_path, more):
    (tmp_path / "tmp").mkdir()
    every = json.loads(cli(*SCORE, *keys, *more, "--json").out)
    assert [one["key"] for one in every["keys"]] == keys[1::2]
    assert (every["correction"], every["n_keys"]) == ("holm", 3)
    for one in every["keys"]:
        alone = json.loads(cli(*SCORE, "--key-file", one["key"], "--json").out)
        assert values(one) == values(alone)
        assert one["fingerprint"] == alone["fingerprint"]
    pvalues = sorted((one["pvalue"], one["adjusted_pvalue"]) for one in every["keys"])
    least = 0.0
    for n_left, (pvalue, adjusted) in zip((3, 2, 1), pvalues, strict=True):
        least = max(least, min(1.0, n_left * pvalue))
        assert adjusted == pytest.approx(least, rel=1e-9)


def test_the_table_names_each_key_and_its_verdict(cli, keys):
    done = cli(*SCORE, *keys)
    assert done.code == 0
    blocks = done.out.split("key     ")[1:]
    assert [block.split()[0] for block in blocks] == keys[1::2]
    assert ["no evidence at level 0.01" in block for block in blocks] == [True, False, True]
    hint = "hint    a few marked documents among many hardly show"
    assert hint not in done.out
    assert hint in cli(*SCORE, *keys[:2], *keys[4:]).out
    assert KEY not in done.out


def test_decoys_are_those_of_the_scheme(cli, keys, scheme, marked_corpus):
    content = json.loads(cli(*SCORE, *keys[:4], "--decoys", "40", "--json").out)
    bob = rs.Keyed(key=rs.Key(OTHERS[0]), vocab_size=100, gamma=0.25, context_width=2)
    for one, tested in zip(content["keys"], (bob, scheme), strict=True):
        zscores = [rs.score(marked_corpus, key).zscore for key in (tested, *tested.decoys(40))]
        expected = decoy_test(zscores[0], zscores[1:])
        assert one["decoys"]["n_decoys"] == 40
        assert one["decoys"]["pvalue"] == expected.pvalue
    assert content["keys"][1]["decoys"]["n_reached"] == 0
    assert "0 of 40 decoy keys score as high" in cli(*SCORE, *keys[2:4], "--decoys", "40").out


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--key-file", "bob.key"), "bob.key and bob.key hold the same key"),
        (("--per-document", "x.csv"), "--per-document is for one key"),
        (("--decoys", "9", "--memory", "1GiB"), "--decoys does not go together with --memory"),
        (("--decoys", "0"), "--decoys"),
    ],
)
def test_what_does_not_go_together_is_refused(fails, keys, more, match):
    fails(*SCORE, *keys, *more, code=2, match=match)


def test_other_commands_take_one_key(fails, keys):
    fails("test", "open", "x.jsonl", "--model", "m", *SCORE[2:], *keys, code=2, match="twice")


def test_holm_is_bonferroni_for_the_smallest_and_keeps_the_order():
    rng = np.random.default_rng(5)
    for n in (1, 2, 7):
        log10 = -rng.exponential(2, n)
        adjusted = holm(log10)
        order = np.argsort(log10)
        assert adjusted[order[0]] == pytest.approx(min(0, log10.min() + math.log10(n)))
        assert (np.diff(adjusted[order]) >= 0).all()
        assert (adjusted >= log10).all()
    assert np.isnan(holm([math.nan, -1.0])).tolist() == [True, False]
    assert holm([math.nan, -1.0])[1] == -1.0
