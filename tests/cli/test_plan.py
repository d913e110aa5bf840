"""``radscore plan``."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from radscore.cli import plan
from radscore.cli.exits import UsageError
from radscore.cli.parser import Parser
from radscore.errors import RadscoreError

DATA = Path(__file__).parents[1] / "corpus" / "data"
DOCS = json.loads((DATA / "documents.json").read_text())
N_TOKENS = sum(map(len, DOCS))


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADSCORE_KEY", "00112233445566778899aabbccddeeff")
    parser = Parser(prog="radscore")
    plan.register(parser.add_subparsers())

    def run(*arguments):
        args = parser.parse(["plan", *map(str, arguments)])
        assert args.run(args) == 0
        return capsys.readouterr().out

    return run


def test_the_table_of_a_small_corpus_is_exact(run):
    out = run(DATA / "megatron/u2", "--context-width", 1, "--vocab-size", 50_257)
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    windows = [(a, b) for doc in DOCS for a, b in pairwise(doc)]
    assert lines["files"].startswith("1 (megatron, 804 bytes)")
    assert lines["dtype"] == "uint16"
    assert lines["tokens"] == f"{N_TOKENS:,}"
    assert lines["documents"] == f"{len(DOCS)}"
    assert lines["windows"] == f"{len(windows):,} of 2 tokens"
    assert lines["distinct windows"] == f"{len(set(windows)):,}"
    assert lines["sample"] == "the whole corpus"
    assert lines["note"] == "document boundaries: side index .idx (1 file)"
    for name in ("memory", "disk", "time", "reading", "scoring"):
        assert re.search(r"\d", lines[name])


@pytest.mark.parametrize(
    ("name", "options", "exact"),
    [
        ("megatron/i4.bin", (), (True, True)),
        ("datatrove/u4.ds", (), (True, True)),
        ("dolma/u2.npy", (), (True, True)),
        ("llm_c/llama.bin", ("--eod", 50_256), (True, False)),
        ("mds/ndarray_u4", (), (False, True)),
        ("mds/packed_br", (), (False, True)),
        ("litdata/tokens_i4", (), (True, True)),
        ("litdata/tree", (), (False, True)),
        ("litdata/tree_chunk", (), (False, True)),
        ("hugging_face/plain", (), (False, False)),
        ("hugging_face/picked", (), (False, True)),
    ],
)
def test_a_sample_of_every_layout(run, name, options, exact):
    found = json.loads(run(DATA / name, *options, "--sample", 60, "--json"))
    assert (found["exact_tokens"], found["exact_documents"]) == exact
    assert found["sample_tokens"] <= N_TOKENS + len(DOCS)
    assert 0 < found["distinct"]["value"] <= found["n_windows"] <= found["n_tokens"]
    assert found["memory_bytes"] > 8 * found["n_windows"]
    assert found["spill_bytes"] >= found["state_bytes"] == 8 * found["distinct"]["value"]
    assert found["seconds"] > 0


def test_the_scheme_that_will_be_scored_is_planned_for(run, tmp_path):
    (tmp_path / "scheme.toml").write_text(
        'scheme = "keyed"\nvocab_size = 50257\ngamma = 0.25\ncontext_width = 4\n'
    )
    found = json.loads(run(DATA / "megatron/u2", "--scheme", "scheme.toml", "--json"))
    assert (found["window_width"], found["vocab_size"]) == (5, 50_257)
    for options in (("--context-width", 2), ("--vocab-size", 9)):
        with pytest.raises(UsageError, match="has no effect with --scheme"):
            run(DATA / "megatron/u2", "--scheme", "scheme.toml", *options)
    with pytest.raises(UsageError, match="--key-env has no effect without --scheme"):
        run(DATA / "megatron/u2", "--key-env", "X")


def test_what_is_wrong_with_the_input_is_said(run):
    with pytest.raises(RadscoreError, match=r"u2\.bin:document \d+: token id \d+ at position"):
        run(DATA / "megatron/u2", "--vocab-size", 100)
    with pytest.raises(RadscoreError, match=r"train\.bin: give the dtype"):
        run(DATA / "nanogpt/train.bin")
