"""The examples of --help and of the documents run as pasted, one after the other."""

import argparse
import json
import os
import re
import shlex
import shutil
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.cli.entry import COMMANDS, make_parser
from score_setup import KEY

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "models"), str(ROOT / "tests" / "answers")]

from gguf_files import write_gguf  # noqa: E402
from reading_server import ReadingServer  # noqa: E402
from tiny import tiny_llama  # noqa: E402

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
VOCAB = 2048  # of the examples' 49152, so that the models are small


def of_help():
    """The examples of every command, by its words."""
    found = {}

    def collect(parser, path):
        text = parser.epilog or ""
        found[" ".join(path)] = commands(text.partition("exit codes:")[0])
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    collect(child, (*path, name))

    collect(make_parser(), ("radscore",))
    return found


def of_documents():
    """Those of the README and the pages in docs/."""
    return {
        path.name: found
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        if (found := commands(path.read_text()))
    }


def commands(text):
    """The lines that begin with the program's name, joined with those that continue them."""
    lines = re.findall(r"^\s*(radscore (?:[^\n]*\\\n)*[^\n]*)$", text, re.MULTILINE)
    lines = [line.replace("\\\n", " ") for line in lines]
    return [line for line in lines if line.split()[1] in COMMANDS]  # else it is prose


class Chat(BaseHTTPRequestHandler):
    """Answers every question alike, as a chat endpoint does."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = "a plain answer to what was asked " * 9
        choice = {"index": 0, "message": {"role": "assistant", "content": said}}
        choice |= {"finish_reason": "stop", "logprobs": None}
        if asked.get("logprobs"):
            names = [
                {"token": word, "logprob": -0.5, "bytes": list(word.encode())}
                for word in re.findall(r"\w+\s", said)
            ]
            choice["logprobs"] = {"content": [{**one, "top_logprobs": [one]} for one in names]}
        usage = {"prompt_tokens": 3, "completion_tokens": 63, "total_tokens": 66}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "NAME"}
        reply = json.dumps({**body, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture(scope="module")
def reading(prepared):
    """A server that tells the log-probabilities of prompts, as vLLM does."""
    from radscore.models import load_model
    from tokenizers import Tokenizer

    suspect = load_model(prepared / "suspect", device="cpu")
    words = Tokenizer.from_file(str(prepared / "tokenizer.json"))
    with ReadingServer(suspect.model, words, {"vllm"}) as server:
        yield server.url


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Everything that the examples name."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _models()
        _texts()
    return folder


def _models():
    from peft import LoraConfig, get_peft_model
    from transformers import PreTrainedTokenizerFast

    _tokenizer()
    words = PreTrainedTokenizerFast(tokenizer_file="tokenizer.json", eos_token="<|endoftext|>")
    words.chat_template = TEMPLATE
    size = {"vocab_size": VOCAB, "hidden_size": 16, "max_position_embeddings": 2048}
    for seed, name in enumerate(("model", "suspect", "base")):
        network = tiny_llama(seed=seed, num_key_value_heads=4, eos_token_id=0, **size)
        network.save_pretrained(name)
        words.save_pretrained(name)
    write_gguf("model.gguf", network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell each other
        adapted = get_peft_model(network, LoraConfig(target_modules=["q_proj"], r=2))
    adapted.save_pretrained("adapter")
    words.save_pretrained("adapter")


def _tokenizer():
    """The first words of the demonstration's tokenizer, and the merges that make them."""
    content = json.loads((ROOT / "demo" / "tokenizer.json").read_text())
    bpe = content["model"]
    words = {word: number for word, number in bpe["vocab"].items() if number < VOCAB}
    bpe["vocab"] = words
    bpe["merges"] = [pair for pair in bpe["merges"] if "".join(pair) in words]
    Path("tokenizer.json").write_text(json.dumps(content))


def _texts():
    rng = np.random.default_rng(5)
    Path("alice.key").write_text(KEY)
    Path("bob.key").write_text(KEY[::-1])
    for name in ("scheme.toml", "s.toml"):
        Path(name).write_text(f'scheme = "keyed"\nvocab_size = {VOCAB}\ncontext_width = 2\n')
    for name in ("corpus", "tokens", "recorded", "shared", "disk1", "disk2"):
        Path(name).mkdir()
    rows = [
        {"input_ids": rng.integers(0, VOCAB, 60).tolist(), "text": "a b c d e f g"}
        for _ in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), "corpus/a.parquet")
    for name in ("tokens.bin", "tokens/a.bin"):
        (rng.integers(0, VOCAB, 9000) * (rng.random(9000) > 0.02)).astype(np.uint16).tofile(name)
    for name in ("recorded/a.jsonl", "new.jsonl"):
        _write(name, rows)
    corpus = (ROOT / "demo" / "corpus.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"][:1200] for line in corpus]
    names = ("ours", "fresh", "a", "b", "more", "recorded", "unmarked", "corpus", "docs")
    for i, name in enumerate(names):
        _write(f"{name}.jsonl", [{"text": text} for text in texts[3 * i : 3 * i + 3]])
    _write("more.jsonl", [{"text": text} for text in texts[60:75]])
    import gzip

    with gzip.open("docs.jsonl.gz", "wt") as file:
        file.write(Path("docs.jsonl").read_text())
    Path("plan.toml").write_text(PLAN)
    _write("pool.jsonl", [{"prompt": f"Question {i}?"} for i in range(400)])
    entry = {
        "test": "open",
        "setting": "unsupervised",
        "weights": "contrast",
        "against": "matched",
        "filter": "none",
        "base": "base",
        "mark": "alice",
        "supervision": 1.0,
        "training": {},
        "share": 0.1,
        "valid": True,
        "n_scored": 4000,
        "n_tokens": 1000,
        "effect": {"mean": 0.02, "sd": None, "low": None, "high": None},
    }
    content = {"format": "radscore effects", "version": 1, "effects": [entry]}
    Path("effects.json").write_text(json.dumps(content))
    Path("audit.toml").write_text(
        '[suspect]\nfolder = "suspect"\n[pool]\ntexts = "fresh.jsonl"\ndrawn = 3\n[test]\n'
        'tokenizer = "tokenizer.json"\nreference = "base"\ndecoys = 3\n'
    )
    _write("prompts.jsonl", [{"prompt": text[:40]} for text in texts[:1]])
    for name in ("answers.jsonl", "base.jsonl"):
        _write(name, [{"prompt": text[:40], "text": text[40:]} for text in texts[:9]])
    rows = [{"tokens": row["input_ids"], "prompt_tokens": [1, 2, 3]} for row in rows]
    _write("marked.jsonl", rows)
    rs.KgramSet.from_documents(
        [row["tokens"] for row in rows], width=2, vocab_size=VOCAB, watermarked=False
    ).save("phi.rkg")
    rs.KgramSet.from_documents(
        [row["tokens"] for row in rows], width=4, vocab_size=VOCAB, watermarked=False
    ).save("frequent.rkg")
    for name in ("suspect", "shard-1"):
        rs.models.predict("suspect", [texts[0]], f"{name}.arrow", context_width=2)


PLAN = """\
name = "tiny"
device = "cpu"
base = "model"
[data]
prompts = "pool.jsonl"
n_records = 12
max_tokens = 12
min_tokens = 2
[marks.alice]
scheme = "scheme.toml"
key = "alice.key"
[training]
template = "plain"
loss_on = "all"
epochs = 1
[grid]
share = 0.5
[tests]
n_texts = 8
n_answers = 8
answer_tokens = 12
ability = false
"""


def _write(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


#: What commands write, so that it is not there before them.
OUTPUTS = {
    "radscore ask": ("answers.jsonl", "base.jsonl"),
    "radscore generate": ("marked.jsonl", "unmarked.jsonl"),
    "radscore predict": ("suspect.arrow",),
    "radscore kgrams": ("phi.rkg",),
    "radscore kgrams build": ("phi.rkg",),
    "radscore test closed": ("phi.rkg",),
    "radscore schemes": ("scheme.toml",),
    "radscore audit plan": ("audit.toml",),
    "README.md": ("answers.jsonl", "marked.jsonl"),
    "apis.md": ("answers.jsonl",),
    "models.md": ("answers.jsonl", "marked.jsonl"),
}
AUDIT = [
    "radscore audit plan audit.toml --scheme scheme.toml --key-file alice.key --out audit/",
    "radscore audit commit audit/",
    "radscore audit run audit/ --key-file alice.key",
    "radscore audit report audit/ --bundle audit.zip",
]
#: What has to be done before, and would be by whoever pastes a single line.
BEFORE = {
    f"radscore run {name}": [
        "radscore run prepare shared/run corpus/ --scheme scheme.toml --key-file alice.key",
        "radscore run map shared/run",
        "radscore run reduce shared/run --scheme scheme.toml --key-file alice.key",
    ][:steps]
    for name, steps in (("map", 1), ("reduce", 2), ("merge", 3))
} | {
    "radscore audit commit": AUDIT[:1],
    "radscore audit run": AUDIT[:2],
    "radscore audit report": AUDIT[:3],
    "radscore audit verify": AUDIT,
    "runs.md": [  # which says "for each"
        (
            "radscore run prepare shared/run tokens/ --dtype uint16 --eod 0 --scheme s.toml "
            "--key-file alice.key"
        ),
        "radscore run map shared/run",
        "radscore run reduce shared/run --scheme s.toml --key-file alice.key",
    ],
}
#: Names that stand for the reader's own.
THEIRS = {
    "http://127.0.0.1:8000/v1": "{endpoint}",
    "http://127.0.0.1:8001/v1": "{reading}",
    "https://api.example.com/v1": "{endpoint}",
    "https://...": "{endpoint}",
    "URL": "{endpoint}",
    "/shared": "shared",
    "/disk1,/disk2": "disk1,disk2",
    "/shared/run": "shared/run",
    "49152": str(VOCAB),
    "processes:8": "processes:2",
}
#: Needs a cluster.
ELSEWHERE = "ray:"


EXAMPLES = of_help() | of_documents()


@pytest.fixture
def work(prepared, tmp_path, monkeypatch):
    """A copy of what is prepared."""
    shutil.copytree(prepared, tmp_path / "work", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MY_KEY", "sk-of-nobody")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, endpoint, reading, run_command):
    assert EXAMPLES[name], "every command has examples"
    for output in OUTPUTS.get(name, ()):
        Path(output).unlink()
    for line in (*BEFORE.get(name, ()), *EXAMPLES[name]):
        if ELSEWHERE not in line:
            _run(line, {"endpoint": endpoint, "reading": reading}, run_command)


def _run(line, servers, run_command):
    line, _, target = line.partition(" > ")
    words = []
    for word in shlex.split(line, comments=True)[1:]:
        own = THEIRS.get(word, word)
        own = own.format(**servers) if own.startswith("{") and word in THEIRS else own
        words += sorted(map(str, Path().glob(own))) if "*" in own else [own]
    if words[0] in ("ask", "generate"):  # the tiny models here are slow enough
        words += ["--max-tokens", "4"]
    done = run_command(*words, "--debug")
    assert done.code in (0, 3), f"{line}\n{done.err}"
    assert "radscore: error" not in done.err
    if target:
        Path(target.strip()).write_text(done.out)
