"""Layouts of other packages, and the rules that keep a layout in one module."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import radscore
from radscore.corpus import Format, all_formats, open_corpus, register_format, registry
from radscore.errors import ArgumentError

ROOT = Path(__file__).parents[2]
PACKAGE = Path(radscore.__file__).parent
RNG = np.random.default_rng(3)
DOCS = [RNG.integers(0, 90, size=n).tolist() for n in RNG.integers(1, 30, size=60)]
SCHEME = 'scheme = "keyed"\nvocab_size = 99\ngamma = 0.25\ncontext_width = 1\n'


@pytest.fixture
def installed(tmp_path):
    """Installs packages with an entry point each; returns what runs Python where they are."""
    site = tmp_path / "site"
    site.mkdir()

    def install(package, entries, **modules):
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}")

    def run(*arguments, code=0):
        paths = [str(site), str(PACKAGE.parent)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "100"}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, "RADSCORE_KEY": "00112233445566778899aabbccddeeff"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code in (0, 3) else done.stderr

    return install, run


@pytest.fixture
def toy(installed, tmp_path):
    """The toy layout, installed, and the same documents in it and in JSON lines."""
    install, run = installed
    source = Path(__file__).with_name("ids_layout.py").read_text()
    install("toy-layout", {"ids": "toy_layout:FORMAT"}, toy_layout=source)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.ids").write_text("".join(" ".join(map(str, d)) + "\n" for d in DOCS))
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in DOCS)
    (tmp_path / "x.jsonl").write_text(lines)
    (tmp_path / "s.toml").write_text(SCHEME)
    return run


def test_the_command_line_knows_a_layout_of_another_package(toy):
    assert "\n  ids        ids in decimal (.ids)\n" in toy("-m", "radscore", "score", "--help")
    error = toy("-m", "radscore", "inspect", "x.jsonl", "--format", "idx", code=2)
    assert "must be one of jsonl, " in error
    assert "ids, not 'idx'" in error


def test_a_layout_of_another_package_is_detected_and_inspected(toy):
    for options in (["c"], ["c/x.ids"], ["c/*"], ["c", "--format", "ids"]):
        found = json.loads(toy("-m", "radscore", "inspect", *options, "--json"))
        assert found["formats"] == ["ids"]
        assert (found["n_documents"], found["n_tokens"]) == (len(DOCS), sum(map(len, DOCS)))
        assert found["largest_id"] == max(map(max, DOCS))
        assert found["boundaries"] == "document boundaries: the lines (1 file)"


def test_a_bad_line_of_a_layout_of_another_package_is_named_or_skipped(toy, tmp_path):
    (tmp_path / "bad.ids").write_text("1 2 3 4\n-1 2\n1 x\n4294967296\n5 6 7 8\n")
    error = toy("-m", "radscore", "score", "bad.ids", "--scheme", "s.toml", code=1)
    assert "bad.ids:2: not ids" in error
    skip = ("--on-error", "skip", "--json")
    found = json.loads(
        toy("-m", "radscore", "score", "bad.ids", "--scheme", "s.toml", *skip, code=3)
    )
    assert (found["n_documents"], found["n_skipped"]) == (2, 3)


def test_a_layout_of_another_package_is_planned_and_scored(toy):
    plan = json.loads(toy("-m", "radscore", "plan", "c", "--vocab-size", "99", "--json"))
    assert plan["formats"] == ["ids"]
    assert (plan["n_tokens"], plan["exact_tokens"]) == (sum(map(len, DOCS)), True)
    score = ("-m", "radscore", "score", "--scheme", "s.toml", "--json")
    expected, found = (json.loads(toy(*score, path)) for path in ("x.jsonl", "c"))
    for name in ("statistic", "n_scored", "n_tokens", "n_documents", "log10_pvalue"):
        assert found[name] == expected[name]


RUN = """
import pickle, sys
import radscore as rs
from radscore.runs import prepare, score_run

scheme = rs.schemes.from_toml("s.toml", key=rs.Key(bytes(16)))
corpus = pickle.loads(pickle.dumps(rs.open_corpus("c", batch_tokens=20)))
expected = rs.score(rs.open_corpus("x.jsonl"), scheme)
run = prepare("run", corpus, scheme, shard_bytes=200, buckets=2)
assert len(run.shards) > 5, run.shards
result = score_run(run, corpus, scheme)
assert (result.n_scored, result.statistic) == (expected.n_scored, expected.statistic)
cursors = [batch.cursor for batch in corpus]
rest = [doc.tolist() for batch in corpus.batches(cursors[3]) for doc in batch.documents]
print(len(rest), cursors[3]["documents"], corpus.manifest()[0]["format"])
"""


def test_a_layout_of_another_package_is_cut_into_shards(toy):
    rest, before, name = toy("-W", "error", "-c", RUN).split()
    assert int(rest) + int(before) == len(DOCS)
    assert name == "ids"


def test_a_broken_package_is_named_and_breaks_no_other(installed, tmp_path):
    install, run = installed
    install("no-module", {"gone": "no_such_module:FORMAT"})
    install("no-format", {"odd": "odd_module:FORMAT"}, odd_module="FORMAT = 3\n")
    install("raises", {"bad": "bad_module:FORMAT"}, bad_module="raise OSError('no licence')\n")
    again = "from radscore.corpus.formats.parquet import Parquet\n\n"
    again += "class Again(Parquet):\n    name = 'jsonl'\n\n\nFORMAT = Again()\n"
    install("clash", {"again": "again_module:FORMAT"}, again_module=again)
    (tmp_path / "x.jsonl").write_text('{"tokens": [1, 2]}\n')
    found = json.loads(run("-m", "radscore", "inspect", "x.jsonl", "--json"))
    assert found["n_tokens"] == 2
    reasons = {
        "gone": "package no-module cannot be loaded (ModuleNotFoundError: No module named",
        "odd": "package no-format cannot be loaded (ArgumentError: a format must be an instance",
        "bad": "package raises cannot be loaded (OSError: no licence)",
        "again": "package clash cannot be loaded (ArgumentError: there is already a format named",
    }
    assert len(found["warnings"]) == len(reasons)
    for name, reason in reasons.items():
        line = f"format {name!r} of the {reason}"
        assert any(warning.startswith(line) for warning in found["warnings"])
        assert line in run("-m", "radscore", "score", "--help")
        error = run("-m", "radscore", "inspect", "x.jsonl", "--format", name, code=2)
        assert reason in error
    (tmp_path / "x.gone").write_text("?")
    error = run("-m", "radscore", "inspect", "x.gone", code=2)
    assert "the format cannot be detected" in error
    assert reasons["gone"] in error


def test_a_format_is_registered_in_a_process(tmp_path, monkeypatch):
    fresh = registry._Registry({one.name: one for one in all_formats()}, {})
    monkeypatch.setattr(registry, "_registry", lambda: fresh)
    jsonl = registry.format_named("jsonl")

    class Upper(type(jsonl)):
        name = "upper"
        suffixes = (".UPPER".lower(),)

    register_format(Upper())
    register_format(Upper())  # once more is no other
    (tmp_path / "x.upper").write_text('{"tokens": [1, 2]}\n')
    corpus = open_corpus(tmp_path)
    assert corpus.formats == ("upper",)
    assert [len(batch) for batch in corpus] == [1]

    class Other(type(jsonl)):
        name = "upper"

    class Nameless(type(jsonl)):
        name = "Not A Name"

    class Wordless(Format):
        name = "wordless"
        open = None

    for new, message in [
        (Other(), "there is already a format named 'upper'"),
        (Nameless(), "the name of a format must be like 'jsonl', not 'Not A Name'"),
        (Wordless(), "Wordless must set title"),
        (Upper, "a format must be an instance of Format"),
    ]:
        with pytest.raises(ArgumentError, match=re.escape(message)):
            register_format(new)
    assert [one.name for one in all_formats()][-1] == "upper"


def test_the_docs_list_every_format():
    text = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
    assert registry.format_table() in text


def test_each_format_is_one_module_of_its_name():
    folder = PACKAGE / "corpus" / "formats"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {one.name for one in all_formats()} == set(registry._BUILT_IN)
    for one in all_formats():
        assert type(one).__module__ == f"radscore.corpus.formats.{one.name}"


def compared_names(tree):
    """Strings of a module that are compared, looked up or matched, and their lines.

    Not those compared with an object's `__module__`, which are names of libraries.
    """
    for node in ast.walk(tree):
        inside = []
        if isinstance(node, ast.Compare) and "__module__" not in ast.unparse(node):
            inside = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            inside = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.match_case):
            inside = [node.pattern]
        elif isinstance(node, ast.Subscript):
            inside = [node.slice]
        for part in inside:
            for leaf in ast.walk(part):
                if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                    yield leaf.value, leaf.lineno


def test_no_module_but_its_own_compares_the_name_of_a_format():
    names = {one.name for one in all_formats()}
    found = []
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).as_posix()
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.format(\.name)?\s*(==|!=|in\b|not in\b)\s*[\"'({]", text), module
        for value, line in compared_names(ast.parse(text)):
            if value in names and module != f"corpus/formats/{value}.py":
                found.append(f"{module}:{line}: {value}")
    assert found == []
