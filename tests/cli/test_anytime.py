"""``radscore score --anytime``: the same e-value in memory and in a run, for one key or several."""

import pytest
import radscore as rs
from score_setup import SCORE


@pytest.mark.parametrize("more", [(), ("--memory", "1GiB", "--tmp", "tmp")])
def test_the_e_value_of_python(cli, marked_corpus, scheme, tmp_path, more):
    (tmp_path / "tmp").mkdir()
    expected = rs.score(marked_corpus, scheme, anytime=True).anytime
    found = cli(*SCORE, "--json", "--anytime", *more).json
    assert found["anytime"]["log10_evalue"] == expected.log10_evalue > 10
    assert found["anytime"]["log10_pvalue"] == -expected.log10_evalue
    assert found["anytime"]["effect"] == 0.1
    other = cli(*SCORE, "--json", "--anytime", "--effect", "0.5", "--fresh", *more).json
    assert other["anytime"]["effect"] == 0.5
    assert other["anytime"]["log10_evalue"] > expected.log10_evalue
    assert cli(*SCORE, "--json", *more).json["anytime"] is None


def test_in_words(cli, marked_corpus, tmp_path):
    text = cli(*SCORE, "--anytime").out
    line = next(line for line in text.splitlines() if line.startswith("any time"))
    assert line.startswith("any time  e-value ")
    assert "however often one looks: evidence at level 0.01" in line
    (tmp_path / "other.key").write_text("ff" * 16)
    keys = ("--key-file", "other.key")
    assert "however often one looks: no evidence" in cli(*SCORE, *keys, "--anytime").out


def test_refusals(cli, fails, marked_corpus):
    assert "--effect has no effect without --anytime" in fails(*SCORE, "--effect", "0.1", code=2)
    assert "--effect: must be" in fails(*SCORE, "--anytime", "--effect", "0", code=2)
    assert "repetitions were counted" in fails(*SCORE, "--anytime", "--dedup", "none", code=2)
