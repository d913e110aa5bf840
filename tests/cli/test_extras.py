"""Without the library of an extra: what to install, in one line, from commands and functions.

Each command runs in a process where the library really cannot be imported.
"""

import json
import subprocess
import sys

import pytest
from radscore.errors import MissingExtraError
from radscore.extras import need
from score_setup import KEY

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
COMMAND = "from radscore.cli import main; sys.exit(main(sys.argv[1:]))"
CALL = """
import radscore as rs
scheme = rs.Keyed(vocab_size=128, key=bytes(16))
documents = [[1, 2, 3, 4, 5]]
try:
    {call}
except rs.RadscoreError as error:
    sys.exit(f"radscore: error: {{error}}")
"""
SCHEME = "--scheme scheme.toml --key-file key"
MODEL = "'radscore[models]'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Names of a model, an adapter and a GGUF file: nothing is read of them."""
    path = tmp_path_factory.mktemp("extras")
    rows = [{"text": "w1 w2 w3", "prompt": "w1", "tokens": [1, 2, 3, 4]}] * 3
    (path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "scheme.toml").write_text('scheme = "keyed"\nvocab_size = 128\n')
    (path / "key").write_text(KEY)
    (path / "x.gguf").write_bytes(b"GGUF" + bytes(99))
    for name, file in (("model", "config.json"), ("adapter", "adapter_config.json")):
        (path / name).mkdir()
        (path / name / file).write_text("{}")
    return path


def run(folder, name, code, arguments=""):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(name=name) + code, *arguments.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        *(
            (command, "torch", f"reading a model needs PyTorch: pip install {MODEL}")
            for command in (
                f"test open x.jsonl --model model {SCHEME}",
                "predict x.jsonl --model model --out p.arrow --context-width 2",
                "test membership --model model --members x.jsonl --nonmembers x.jsonl",
                "ask --prompts x.jsonl --local model --out a.jsonl",
            )
        ),
        *(
            (f"generate --model model --prompts x.jsonl {SCHEME} --out g.jsonl", name, title)
            for name, title in (
                ("torch", f"watermarking needs PyTorch: pip {MODEL}"),
                ("transformers", f"watermarking needs transformers: pip {MODEL}"),
                ("safetensors", f"reading a model needs safetensors: pip {MODEL}"),
            )
        ),
        (f"test open x.jsonl --model adapter --base model {SCHEME}", "peft", f"peft: pip {MODEL}"),
        (f"test open x.jsonl --model x.gguf {SCHEME}", "gguf", f"gguf: pip {MODEL}"),
        (
            "ask --prompts x.jsonl --endpoint http://localhost:1 --model m --out a.jsonl",
            "openai",
            "the openai library: pip 'radscore[api]'",
        ),
        (f"score x.jsonl {SCHEME} --executor ray:auto", "ray", "Ray: pip 'radscore[ray]'"),
        (f"run prepare r x.jsonl {SCHEME} --executor ray", "ray", "Ray: pip 'radscore[ray]'"),
        (
            "test membership --model model --members x.jsonl --nonmembers x.jsonl --plot x.png",
            "matplotlib",
            "matplotlib: pip 'radscore[report]'",
        ),
        (f"score x.jsonl {SCHEME}", "pyarrow", "pyarrow: pip pyarrow"),
    ],
)
def test_commands(folder, command, name, message):
    done = run(folder, name, COMMAND, command)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("radscore: error: ")
    assert line.replace("pip install", "pip").endswith(message.replace("pip install", "pip"))


@pytest.mark.parametrize(
    "call",
    [
        "rs.models.load_model('model')",
        "rs.models.as_language_model('model')",
        "rs.test_open('model', documents, scheme)",
        "rs.test_membership('model', ['w1 w2 w3'], ['w4 w5'])",
        "rs.radioactivity(scheme, model='model', fresh=documents)",
        "rs.models.predict('model', documents, 'p.arrow', context_width=2)",
    ],
)
def test_functions(folder, call):
    done = run(folder, "torch", CALL.format(call=call))
    assert done.stderr == f"radscore: error: reading a model needs PyTorch: pip install {MODEL}\n"


def test_a_processor_needs_transformers(folder):
    done = run(folder, "transformers", CALL.format(call="rs.models.logits_processor(scheme)"))
    assert done.stderr.endswith(f"needs transformers: pip install {MODEL}\n")


def test_a_library_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "gguf.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    with pytest.raises(MissingExtraError, match=r"gguf, which cannot be imported: .*no_such_name"):
        need("gguf")


def test_nothing_is_imported_before_it_is_needed(folder):
    code = "import radscore.cli; radscore.cli.main(['--help'])"
    for name in ("torch", "pyarrow", "scipy"):
        assert run(folder, name, code).returncode == 0
