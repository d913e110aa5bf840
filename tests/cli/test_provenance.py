"""What made a result stands in it: inputs and their hashes, scheme, version, date, command."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import radscore as rs
from radscore import provenance as module
from radscore.provenance import listed, of_corpus, provenance
from score_setup import KEY, SCORE


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_score_says_what_made_it(cli, marked_corpus, scheme):
    made = cli(*SCORE, "--json").provenance
    assert made["radscore"] == rs.__version__
    assert made["date"] == datetime.now(UTC).date().isoformat()
    assert made["command"] == "radscore score x.jsonl --scheme scheme.toml --json"
    assert made["scheme"] == {"name": "keyed", "fingerprint": scheme.fingerprint}
    assert made["reading"]["field"] == "tokens"
    (one,) = made["inputs"].pop("files")
    size = Path("x.jsonl").stat().st_size
    assert one == {"path": "x.jsonl", "bytes": size, "sha256": sha256("x.jsonl")}
    assert (made["inputs"]["n_files"], made["inputs"]["bytes"]) == (1, size)
    assert KEY not in json.dumps(made)


def test_every_way_to_score_names_the_same_inputs(cli, marked_corpus, scheme):
    plain = cli(*SCORE, "--json").provenance
    run = cli(*SCORE, "--json", "--memory", "1GiB").provenance
    corpus = rs.open_corpus("x.jsonl")
    python = rs.score(corpus, scheme).provenance
    each = rs.score_documents(corpus, scheme).provenance
    for other in (run, python, each):
        assert other["inputs"]["sha256"] == plain["inputs"]["sha256"]
        assert other["scheme"] == plain["scheme"]
    assert "command" not in python
    Path("x.jsonl").write_text(Path("x.jsonl").read_text() + '{"tokens": [1, 2, 3]}\n')
    changed = cli(*SCORE, "--json").provenance
    assert changed["inputs"]["sha256"] != plain["inputs"]["sha256"]


def test_rows_carry_it(cli, marked_corpus):
    content = json.loads(cli(*SCORE, "--json", "--per-document", "rows.parquet").out)
    found = pq.read_schema("rows.parquet").metadata[b"radscore.provenance"]
    assert json.loads(found) == content["provenance"]


def test_the_tokenizer_is_named_by_its_hash(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")).save(
        str(tmp_path / "tokenizer.json")
    )
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n' * 9)
    corpus = rs.open_corpus(tmp_path / "x.jsonl", tokenizer=tmp_path / "tokenizer.json")
    made = of_corpus(corpus.manifest(), corpus.settings)
    assert made["tokenizer"] == corpus.settings["tokenizer"]
    assert len(made["tokenizer"]) >= 16


def test_large_inputs_are_hashed_at_their_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WHOLE", 100)
    monkeypatch.setattr(module, "_ENDS", 8)
    path = tmp_path / "x"
    data = bytes(range(200))

    def digest(data):
        path.write_bytes(data)
        made = provenance(files=listed([path]))["inputs"]
        assert "the first and the last" in made["how"]
        return made["files"][0]["sha256"]

    assert digest(data) == hashlib.sha256(data[:8] + data[-8:]).hexdigest()
    assert digest(data) != digest(b"x" + data[1:])
    assert digest(data) != digest(data[:-1] + b"x")
    monkeypatch.setattr(module, "_MOST_FILES", 0)
    made = provenance(files=listed([path]))["inputs"]
    assert (made["how"], made["files"][0]["sha256"]) == (module._HOW["none"], None)


def test_a_test_of_answers_names_them(cli, marked_corpus):
    done = cli("test", "closed", "x.jsonl", "--no-prompts", *SCORE[2:], "--json")
    assert done.code == 0, done.err
    assert done.provenance["inputs"]["files"][0]["sha256"] == sha256("x.jsonl")


def test_answers_without_prompts_have_an_option(fails, marked_corpus):
    line = fails("test", "closed", "x.jsonl", *SCORE[2:])
    assert "x.jsonl:1: no field 'prompt'; the fields are: tokens; --prompt-field names" in line
    assert line.endswith("--no-prompts says that the answers have no prompts")


def test_pipes_and_what_is_gone_have_no_hash(tmp_path):
    gone = [{"path": tmp_path / "gone", "size": 3}, {"path": "/dev/zero", "size": 0}]
    assert [one["sha256"] for one in provenance(files=gone)["inputs"]["files"]] == [None, None]
