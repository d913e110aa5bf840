"""``radscore score`` and ``radscore inspect`` on files of other tools."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import radscore.cli.options as options_module
from radscore.cli.score_loop import ScoreLoop

DATA = Path(__file__).parents[1] / "corpus" / "data"
DOCS = json.loads((DATA / "documents.json").read_text())
FULL = [doc for doc in DOCS if doc]
EOD = 50_256
KEY = "00112233445566778899aabbccddeeff"
NAMES = ("statistic", "n_scored", "n_windows", "n_tokens")

# input, options, documents, format, dtype, boundaries
INPUTS = [
    ("megatron/u2", (), DOCS, "megatron", "uint16", "side index .idx (1 file)"),
    ("megatron/i4.bin", (), DOCS, "megatron", "int32", "side index .idx (1 file)"),
    ("datatrove/u4.ds", (), DOCS, "datatrove", "uint32", "side index .index (1 file)"),
    ("dolma/u2.npy", (), DOCS, "dolma", "uint16", "side index .csv.gz (1 file)"),
    ("llm_c/gpt2.bin", ("--eod", EOD), None, "llmc", "uint16", f"id {EOD} (1 file)"),
    ("nanogpt/train.bin", ("--format", "nanogpt"), None, "nanogpt", "uint16", f"id {EOD} (1 file)"),
    ("mds/ndarray_u4", (), FULL, "mds", "uint32", "the samples of shards (4 files)"),
    ("mds/bytes_i8", ("--dtype", "int64"), DOCS, "mds", "int64", "samples of shards (1 file)"),
    ("mds/packed_zstd", (), FULL, "mds", "uint32", "the samples of shards (4 files)"),
    ("litdata/tokens_u2", (), FULL, "litdata", "uint16", "the items of chunks (2 files)"),
    ("litdata/tree", (), FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/lists", ("--field", "tokens"), DOCS, "litdata", "int64", "the items of chunks"),
    ("hugging_face/plain", (), DOCS, "arrow", "int32", None),
    ("hugging_face/picked", (), "picked", "datasets", "int64", None),
]
CASES = pytest.mark.parametrize("case", INPUTS, ids=[case[0] for case in INPUTS])


@pytest.fixture
def setup(tmp_path, monkeypatch, cli):
    monkeypatch.setenv("RADSCORE_KEY", KEY)
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {EOD}\ngamma = 0.25\ncontext_width = 1\n'
    )
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in DOCS)
    (tmp_path / "plain.jsonl").write_text(lines)
    return cli("score", "plain.jsonl", "--scheme", "scheme.toml", "--json").json


@CASES
def test_scores_are_those_of_the_documents(cli, setup, case):
    name, options, docs, _, _, boundaries = case
    done = cli("score", DATA / name, "--scheme", "scheme.toml", *options, "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    if docs == "picked":
        assert 0 < found["n_scored"] < setup["n_scored"]
    else:
        assert {key: found[key] for key in NAMES} == {key: setup[key] for key in NAMES}
        extra = name.startswith("llm_c")  # what is before the first end-of-document id
        assert found["n_documents"] == (len(DOCS) + extra if docs is None else len(docs))
    if boundaries is None:
        assert found["notes"] == []
    else:
        assert boundaries in found["notes"][0]
        table = cli("score", DATA / name, "--scheme", "scheme.toml", *options).out
        assert "document boundaries: " in table


@CASES
def test_inspection_shows_format_dtype_and_boundaries(cli, setup, case):
    name, options, docs, kind, dtype, boundaries = case
    done = cli("inspect", DATA / name, *options, "--vocab-size", EOD + 1)
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines() if " " in line.strip())
    assert f"({kind}, " in lines["files"]
    assert lines["dtype"] == dtype
    assert "warning" not in lines
    if boundaries is None:
        assert "boundaries" not in lines
    else:
        assert boundaries in lines["boundaries"]
    found = cli("inspect", DATA / name, *options, "--json").json
    assert found["formats"] == [kind]
    if isinstance(docs, list):
        assert (found["n_documents"], found["n_tokens"]) == (len(docs), sum(map(len, docs)))
        assert lines["documents"].startswith(f"{len(docs)}, from ")


def test_formats_are_named_and_options_without_effect_refused(cli, fails, setup):
    line = fails("score", "x", "--scheme", "scheme.toml", "--format", "idx", code=2)
    for name in ("megatron", "datatrove", "dolma", "llmc", "nanogpt", "mds", "litdata"):
        assert name in line
    megatron = ("score", DATA / "megatron/u2", "--scheme", "scheme.toml")
    fails(*megatron, "--dtype", "uint16", code=2, match="--dtype has no effect: files of format")
    fails(*megatron, "--field", "a", code=2, match="--field has no effect")
    litdata = ("score", DATA / "litdata/tree", "--scheme", "scheme.toml")
    fails(*litdata, "--dtype", "uint16", code=2, match="--dtype has no effect: files of format lit")
    mds = ("score", DATA / "mds/bytes_i8", "--scheme", "scheme.toml")
    fails(*mds, code=2, match="nothing tells the dtype of its ids; give it with --dtype")


def test_a_wrong_dtype_is_found_with_file_and_position(cli, fails, setup, tmp_path):
    shutil.copy(DATA / "datatrove/bare.ds", tmp_path / "x.ds")
    line = fails("score", "x.ds", "--scheme", "scheme.toml", code=2, match="x.ds: neither")
    assert "--dtype" in line
    fails("score", "x.ds", "--scheme", "scheme.toml", "--dtype", "int64", match="x.ds:token 0: tok")
    assert cli("score", "x.ds", "--scheme", "scheme.toml", "--dtype", "uint32").code == 0
    assert cli("inspect", "x.ds").code == 2


def test_side_files_that_do_not_fit_are_one_line(fails, setup, tmp_path):
    for name in ("u2.bin", "u2.idx"):
        shutil.copy(DATA / "megatron" / name, tmp_path / name)
    (tmp_path / "u2.idx").write_bytes((tmp_path / "u2.idx").read_bytes()[:-3])
    for command in (("inspect", "u2.bin"), ("score", "u2.bin", "--scheme", "scheme.toml")):
        fails(*command, match="u2.idx: its header says 13 sequences and 11 document indices")


@pytest.mark.parametrize("name", ["megatron/u2", "mds/ndarray_u4", "litdata/tree", "dolma/u2.npy"])
def test_a_run_goes_on_in_the_middle_of_a_file(cli, setup, monkeypatch, name):
    monkeypatch.setattr(options_module, "_BATCH_TOKENS", 20)
    command = ("score", DATA / name, "--scheme", "scheme.toml", "--quiet", "--json")
    runs = 1
    while True:
        with monkeypatch.context() as patch:
            original = ScoreLoop._add

            def add(self, batch, original=original):
                taken = original(self, batch)
                signal.raise_signal(signal.SIGINT)
                return taken

            patch.setattr(ScoreLoop, "_add", add)
            done = cli(*command)
        if done.code != 130:
            break
        runs += 1
        assert runs < 50
    assert runs > 3
    assert {key: done.json[key] for key in NAMES} == {key: setup[key] for key in NAMES}


def test_a_changed_index_is_not_gone_on_with(cli, fails, setup, monkeypatch, tmp_path):
    monkeypatch.setattr(options_module, "_BATCH_TOKENS", 20)
    for name in ("u2.bin", "u2.idx"):
        shutil.copy(DATA / "megatron" / name, tmp_path / name)
    command = ("score", "u2.bin", "--scheme", "scheme.toml", "--quiet", "--json")
    original = ScoreLoop._add

    def add(self, batch):
        taken = original(self, batch)
        signal.raise_signal(signal.SIGINT)
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(ScoreLoop, "_add", add)
        assert cli(*command).code == 130
    index = (tmp_path / "u2.idx").read_bytes()
    (tmp_path / "u2.idx").write_bytes(index + bytes(13))  # modes of sequences, as may be there
    fails(*command, code=2, match="u2.bin has changed since radscore.state was saved")
