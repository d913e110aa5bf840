"""The demonstration finds what is there, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.schemes import from_toml
from radscore.stats import false_discovery

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tools import demo  # noqa: E402


@pytest.fixture(scope="module")
def outcome() -> demo.Outcome:
    return demo.run()


@pytest.fixture(scope="module")
def documents():
    corpus = rs.open_corpus(
        ROOT / "demo/corpus.jsonl", field="text", tokenizer=ROOT / "demo/tokenizer.json"
    )
    return [ids for batch in corpus for ids in batch.documents]


def of_kind(outcome, kind):
    return np.array([row["kind"] == kind for row in outcome.truth])


def test_truth_is_in_the_order_of_the_corpus(outcome):
    with (ROOT / "demo/corpus.jsonl").open(encoding="utf-8") as lines:
        ids = [json.loads(line)["id"] for line in lines]
    assert [row["id"] for row in outcome.truth] == ids
    assert {row["kind"] for row in outcome.truth} == set(demo.KINDS)
    assert outcome.alice.n_documents == len(ids) >= 300


def test_counts_are_those_of_transformers(outcome, documents):
    """truth.jsonl records what transformers' WatermarkDetector counted in each document."""
    expected = [(row["hf_n_scored"], row["hf_n_green"]) for row in outcome.truth]
    scheme = from_toml(ROOT / "demo/scheme.toml", key=rs.Key.from_file(ROOT / "demo/alice.key"))
    alone = rs.score_documents(documents, scheme, max_sharing=None)  # as theirs: each on its own
    counts = zip(alone.n_scored, alone.statistic, strict=True)
    assert [(int(n), int(green)) for n, green in counts] == expected


def test_all_clearly_watermarked_documents_are_found(outcome):
    marked = of_kind(outcome, "watermarked")
    assert marked.sum() >= 40
    assert outcome.found[marked].all()


def test_a_pasted_passage_is_found_more_often_than_not(outcome):
    assert outcome.found[of_kind(outcome, "partial")].mean() > 0.5


def test_false_alarms_stay_within_the_rate(outcome):
    alarms = len(outcome.ids(found=True, marked=False))
    assert alarms <= max(1, 2 * demo.FDR * outcome.found.sum())
    assert not outcome.found[of_kind(outcome, "machine-unmarked")].any()


def test_the_corpus_betrays_the_right_key_only(outcome):
    assert outcome.alice.log10_pvalue < -30
    assert 1e-4 < outcome.bob.pvalue <= 1
    assert len(outcome.others) == demo.N_OTHERS
    # Uniform on (0, 1]: the smallest of 20 is below 1e-5 with probability 2e-4.
    assert min(outcome.others) > -5
    assert outcome.n_found_by_bob <= 1
    assert outcome.alice.n_scored == outcome.bob.n_scored


def test_decoy_keys_find_next_to_nothing(documents):
    """Under 50 other keys, documents are found at about the rate that chance allows."""
    scheme = from_toml(ROOT / "demo/scheme.toml", key=rs.Key.from_file(ROOT / "demo/alice.key"))
    with_alarm = sum(
        false_discovery(rs.score_documents(documents, decoy).log10_pvalue, 0.05).n_rejected > 0
        for decoy in scheme.decoys(50, seed=2)
    )
    # Nothing carries these keys, so any finding is false: at most 5 % of the keys should have one
    # (2.5 of 50; four standard deviations above that is 8.7).
    assert with_alarm <= 8


def test_the_story_says_what_was_found(outcome):
    text = demo.story(outcome)
    for row, hit in zip(outcome.truth, outcome.found, strict=True):
        if hit:
            assert row["id"].removeprefix("doc-") in text
    assert "p-value" in text
    assert "alice.key" in text


def test_the_printed_command_works(outcome, tmp_path):
    """The command line reports the same p-value and the same documents."""
    words = demo.command(str(ROOT / "demo"))
    words[words.index("--per-document") + 1] = str(tmp_path / "found.jsonl")
    state = ["--state", str(tmp_path / "state"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "radscore", *words, *state],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    result = json.loads(done.stdout)
    assert result["n_scored"] == outcome.alice.n_scored
    assert result["log10_pvalue"] == pytest.approx(outcome.alice.log10_pvalue, rel=1e-12)
    assert result["per_document"]["n_significant"] == outcome.found.sum()
    with (tmp_path / "found.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    assert [row["qvalue"] <= demo.FDR for row in rows] == outcome.found.tolist()


def test_no_torch(tmp_path):
    """The demonstration runs where torch and transformers are not installed."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from tools import demo; demo.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert "found" in done.stdout
