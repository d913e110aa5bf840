"""Text on standard input, in CSV and in fields within others; texts that cannot be tokenised."""

import io
import json
import subprocess
import sys

import pytest
from radscore.corpus import remote
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture
def score(cli, tmp_path):
    """Scores files of text with a tokenizer whose expression gives up on "aaa...b"."""
    tokenizer = Tokenizer(models.BPE({"u": 0, "a": 1, "b": 2}, [], unk_token="u"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "s.toml").write_text(
        'scheme = "keyed"\nvocab_size = 3\ngamma = 0.5\ncontext_width = 1\n'
    )
    (tmp_path / "k").write_text(KEY)

    def run(*arguments):
        return cli("score", *arguments, "--tokenizer", "tokenizer.json", "--scheme", "s.toml",
                   "--key-file", "k", "--json")  # fmt: skip

    return run


def test_one_text_in_several_files(score, tmp_path, monkeypatch):
    texts = ["ab ba", 'a "b"\nb,a']
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps({"data": {"text": text}}) + "\n" for text in texts)
    )
    (tmp_path / "x.csv").write_text('text\nab ba\n"a ""b""\nb,a"\n')
    nested = score("x.jsonl", "--field", "data.text")
    assert nested.code == 0, nested.err
    assert nested.json["n_tokens"] == sum(map(len, texts))

    class Pipe(io.BytesIO):
        buffer = property(lambda self: self)

    def piped(path, *arguments):
        monkeypatch.setattr(remote, "_COPY", None)
        monkeypatch.setattr(sys, "stdin", Pipe((tmp_path / path).read_bytes()))
        return score("-", *arguments)

    for other in (
        score("x.csv"),
        piped("x.jsonl", "--field", "data.text"),
        piped("x.csv", "--format", "csv"),
        piped("x.csv", "--format", "csv", "--memory", "64MiB", "--tmp", str(tmp_path)),
    ):
        assert other.code == 0, other.err
        assert other.json["log10_pvalue"] == nested.json["log10_pvalue"]
        assert other.json["n_documents"] == 2
    assert "the format cannot be detected" in piped("x.csv").err
    piped("x.jsonl", "--field", "data.text", "--per-document", "o.jsonl", "--id-field", "data.text")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == texts
    assert [(row["source"], row["location"]) for row in rows] == [("-", "-:1"), ("-", "-:2")]


@pytest.mark.parametrize("memory", [(), ("--memory", "64MiB", "--tmp", "t", "--fresh")])
def test_a_text_on_which_the_tokenizer_gives_up(score, tmp_path, memory):
    texts = ["aab", "a" * 34 + "b", "bab"]
    (tmp_path / "t").mkdir()
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    failed = score("x.jsonl", *memory)
    assert failed.code == 1
    assert "x.jsonl:2: the tokenizer fails on this text" in failed.err
    skipped = score("x.jsonl", "--on-error", "skip", *memory)
    assert skipped.code == 3, skipped.err
    assert skipped.json["n_documents"] == 2


def test_a_real_pipe(tmp_path):
    (tmp_path / "s.toml").write_text(
        'scheme = "keyed"\nvocab_size = 9\ngamma = 0.5\ncontext_width = 1\n'
    )
    (tmp_path / "k").write_text(KEY)
    command = [
        sys.executable,
        "-m",
        "radscore",
        "score",
        "-",
        "--scheme",
        "s.toml",
        "--key-file",
        "k",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, input='{"tokens": [1, 2, 3]}\n', capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 document and 3 tokens" in done.stdout
