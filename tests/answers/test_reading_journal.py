"""Reading answers and journals, also damaged ones; a local model's answers; the commands."""

import copy
import functools
import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.answers import ask, open_answers, read_prompts
from radscore.answers.local import ask_local
from radscore.models.journal import Journal
from radscore.models.questions import questions_of
from radscore.progress import Progress
from tokenizers import Tokenizer

from .conftest import DEMO, records

TOKENIZER = DEMO / "tokenizer.json"
SCHEME = ["--scheme", DEMO / "scheme.toml", "--key-file", DEMO / "alice.key"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@functools.cache
def tokenizer():
    return Tokenizer.from_file(str(TOKENIZER))


def ids(text):
    return tokenizer().encode(text, add_special_tokens=False).ids


# Reading


def test_text_and_ids_of_jsonl_and_parquet_are_the_same(tmp_path):
    texts, prompts = ["One two three.", "", "Four é 🙂"], ["a b", "c", ""]
    rows = [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]
    files = [write(tmp_path / "x.jsonl", rows), tmp_path / "x.parquet", tmp_path / "x.arrow"]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, files[1])
    with pa.ipc.new_file(files[2], table.schema) as file:
        file.write_table(table)
    for path in files:
        answers = open_answers(path, tokenizer=tokenizer())
        assert [document.tolist() for document in answers.documents] == [ids(t) for t in texts]
        assert [document.tolist() for document in answers.prompts] == [ids(p) for p in prompts]
        assert read_prompts(path) == prompts
    both = open_answers(files[:2], tokenizer=tokenizer())
    assert len(both) == 6
    as_ids = [{"q": ids(p), "a": ids(t)} for p, t in zip(prompts, texts, strict=True)]
    path = write(tmp_path / "ids.jsonl", as_ids)
    read = open_answers(path, prompt_field="q", field="a")
    assert [document.tolist() for document in read.documents] == [ids(t) for t in texts]
    assert open_answers(path, prompt_field=None, field="a").prompts is None


def test_which_field_is_read(tmp_path):
    row = {"prompt": "p", "tokens": [1, 2], "answer": "Who?"}
    path = write(tmp_path / "x.jsonl", [row])
    assert open_answers(path, tokenizer=TOKENIZER).documents[0].tolist() == ids("Who?")
    no_text = write(tmp_path / "y.jsonl", [{"prompt": [7], "tokens": [1, 2]}])
    assert open_answers(no_text).documents[0].tolist() == [1, 2]
    assert "there is no text" in open_answers(no_text, tokenizer=TOKENIZER).notes[0]
    for path, match in (
        (write(tmp_path / "z.jsonl", [{"prompt": "p", "text": "t"}]), "give a tokenizer"),
        (write(tmp_path / "w.jsonl", [{"prompt": "p"}]), "no field 'token_ids'"),
    ):
        with pytest.raises(rs.errors.CorpusError, match=match):
            open_answers(path)


def test_bad_records_are_named_or_counted(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = ['{"prompt": "p", "text": "t"}', "{", '{"text": "t"}', '{"prompt": "p", "text": 5}', "7"]
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(rs.errors.CorpusError, match=r"x\.jsonl:2: not JSON"):
        open_answers(path, tokenizer=TOKENIZER)
    answers = open_answers(path, tokenizer=TOKENIZER, on_error="skip")
    assert (len(answers), answers.skipped.count) == (1, 4)
    assert "x.jsonl:3: no field 'prompt'" in answers.skipped.examples[1]
    with pytest.raises(
        rs.errors.CorpusError, match=r"x\.jsonl:1: no field 'nix'; the fields are: prompt, text"
    ):
        open_answers(path, tokenizer=TOKENIZER, field="nix")
    empty = tmp_path / "e.jsonl"
    empty.write_text("")
    with pytest.raises(rs.errors.CorpusError, match="no answers in"):
        open_answers(empty, tokenizer=TOKENIZER)


def test_failures_are_counted_once_and_not_after_an_answer(tmp_path):
    one, two, three = questions_of(["a", "b", "c"])
    path = tmp_path / "x.jsonl"
    with Journal(path, {"model": "m"}) as journal:
        journal.answer(one, {"error": "500"})
        journal.answer(two, {"error": "500"})
        journal.answer(one, {"error": "503"})
        journal.answer(two, {"text": "B"})
        journal.answer(three, {"text": "C"})
    answers = open_answers(path, tokenizer=TOKENIZER)
    assert (len(answers), answers.n_failed) == (2, 1)
    assert answers.prompt_ids == {two.prompt_id, three.prompt_id}
    with Journal(tmp_path / "y.jsonl", {"model": "m"}) as journal:
        journal.answer(one, {"error": "500"})
    with pytest.raises(rs.errors.CorpusError, match=r"no answers in .*; 1 questions failed"):
        open_answers(tmp_path / "y.jsonl", tokenizer=TOKENIZER)


# Prompts


def test_bad_prompts(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n\n")
    with pytest.raises(rs.errors.CorpusError, match=r"no prompts in .*p\.jsonl"):
        read_prompts(path)
    for row, match in (
        ('{"prompt": 5}', r"p\.jsonl:1: field 'prompt' must hold text, not int"),
        ('{"question": "x"}', "no field 'prompt'; the fields are: question"),
        ('{"prompt": "\\ud800"}', "lone surrogate"),
        ('"x"', "must be a JSON object"),
        ("{", "not JSON"),
    ):
        path.write_text(row + "\n")
        with pytest.raises(rs.errors.CorpusError, match=match):
            read_prompts(path)
    path.write_text('{"question": "x"}\n')
    assert read_prompts(path, "question") == ["x"]
    with pytest.raises(rs.errors.CorpusError, match="no such file or folder"):
        read_prompts(tmp_path / "missing.jsonl")


def test_questions_do_not_depend_on_their_order():
    first = {q.key: q.seed for q in questions_of(["a", "b", "a"], samples=2)}
    other = {q.key: q.seed for q in questions_of(["c", "a", "a", "b"], samples=3)}
    assert len(first) == 6
    assert first.items() <= other.items()
    assert all(0 <= seed < 2**31 for seed in first.values())
    assert {q.seed for q in questions_of(["a", "b"], seed=None)} == {None}


# Journals


@pytest.mark.parametrize("tail", [b"{", b'{"prompt_id": "x", "sample', b'{"prompt_id": "x"\0\0\0'])
def test_a_torn_last_line_is_cut_and_nothing_else(tmp_path, tail):
    path = tmp_path / "j"
    one, two = questions_of(["a", "b"])
    with Journal(path, {"m": 1}) as journal:
        journal.answer(one, {"text": "A"})
        assert not journal.cut
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with Journal(path, {"m": 1}) as journal:
        assert journal.cut
        assert journal.missing([one, two]) == [two]
        journal.answer(two, {"text": "B"})
    assert path.read_bytes().startswith(whole)
    assert [one["text"] for one in records(path)] == ["A", "B"]


@pytest.mark.parametrize("tail", [b"", b"\0\0\0"])
@pytest.mark.parametrize("content", [{"text": "B"}, {"error": "500", "attempts": 2}])
def test_a_last_record_without_a_newline_is_kept(tmp_path, tail, content):
    path = tmp_path / "j"
    one, two, three = questions_of(["a", "b", "c"])
    with Journal(path, {"m": 1}) as journal:
        journal.answer(one, {"text": "A"})
        journal.answer(two, content)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + tail)
    with pytest.raises(rs.errors.ArgumentError, match="m 1, not 2"):
        Journal(path, {"m": 2})
    assert path.read_bytes() == whole[:-1] + tail
    with Journal(path, {"m": 1}) as journal:
        assert not journal.cut
        assert path.read_bytes() == whole
        left = [three] if "text" in content else [two, three]
        assert journal.missing([one, two, three]) == left
        assert journal.usage.requests == content.get("attempts", 0)
        journal.answer(three, {"text": "C"})
    assert path.read_bytes().startswith(whole)
    assert len(records(path)) == 3


@pytest.mark.parametrize(
    "content",
    [
        '{"prompt_id": "a"}',
        '{"prompt": "a"}\n',
        '{"prompt": "a"}',
        "a,b\n",
        "[1]\n",
        "\x00\xff",
        '{"a": 1}\n{',
    ],
)
def test_a_file_that_is_not_a_journal_stays_as_it_is(tmp_path, content):
    path = tmp_path / "j"
    path.write_text(content)
    for fresh in (False, True):
        with pytest.raises(rs.errors.StateError, match="j:1: not a record of an answer"):
            Journal(path, {}, fresh=fresh)
    assert path.read_text() == content


def test_starting_over_drops_the_records(tmp_path):
    path = tmp_path / "j"
    one, two = questions_of(["a", "b"])
    with Journal(path, {"m": 1}) as journal:
        journal.answer(one, {"text": "A", "attempts": 1})
    with path.open("a") as file:
        file.write('{"prompt_id": "torn')
    with Journal(path, {"m": 2}, fresh=True) as journal:
        assert (journal.cut, journal.usage.requests) == (False, 0)
        assert journal.missing([one, two]) == [one, two]
        journal.answer(two, {"text": "B"})
    assert [(row["text"], row["settings"]) for row in records(path)] == [("B", {"m": 2})]


def test_a_damaged_line_in_the_middle_is_not_passed_over(tmp_path):
    path = tmp_path / "j"
    with Journal(path, {}) as journal:
        for question in questions_of(["a", "b", "c"]):
            journal.answer(question, {"text": "A"})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])
    with pytest.raises(rs.errors.StateError, match="j:2: "):
        Journal(path, {})


def test_one_writer_at_a_time(tmp_path):
    with (
        Journal(tmp_path / "j", {}),
        pytest.raises(rs.errors.StateError, match="another process is writing"),
    ):
        Journal(tmp_path / "j", {})
    Journal(tmp_path / "j", {}).close()


def test_each_answer_is_on_the_disk_before_the_next(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
    with Journal(tmp_path / "j", {}) as journal:
        synced.clear()
        for question in questions_of(["a", "b"]):
            journal.answer(question, {"text": "x"})
            assert synced[-1] == (tmp_path / "j").stat().st_size
    assert len(synced) == 2


# A model on this machine


def test_local_answers_depend_on_their_seed_alone(language, tmp_path):
    prompts = [f"Say {'very ' * i}{i}" for i in range(5)]
    options = {"model": language, "max_tokens": 6, "temperature": 0.9, "top_p": 0.9}
    seen = []
    ask_local(prompts, tmp_path / "a", batch_size=2, progress=seen.append, **options)
    assert seen == [Progress(2, 5, 12), Progress(4, 5, 24), Progress(5, 5, 30)]
    report = ask_local(prompts[::-1], tmp_path / "b", batch_size=7, samples=2, **options)
    assert (report.n_answered, report.n_questions) == (10, 10)
    one, two = (
        {(r["prompt_id"], r["sample"]): r["tokens"] for r in records(tmp_path / name)}
        for name in ("a", "b")
    )
    assert one.items() <= two.items()
    assert len({tuple(tokens) for tokens in two.values()}) == 10
    again = ask_local(prompts, tmp_path / "a", **options)
    assert (again.n_before, again.n_answered) == (5, 0)
    with pytest.raises(rs.errors.ArgumentError, match=r"temperature 0\.9, not 0\.5"):
        ask_local(prompts, tmp_path / "a", **{**options, "temperature": 0.5})
    fresh = ask_local(prompts[:1], tmp_path / "a", fresh=True, **{**options, "temperature": 0.5})
    assert (fresh.n_before, fresh.n_answered, len(records(tmp_path / "a"))) == (0, 1, 1)


def test_local_answers_of_the_likeliest_token_are_the_models(language, tmp_path):
    import torch

    ask_local(["Say 1"], tmp_path / "a", model=language, max_tokens=6, temperature=0,
              api="completions")  # fmt: skip
    (record,) = records(tmp_path / "a")
    rows = torch.tensor([ids("Say 1")])
    with torch.inference_mode():
        for _ in range(6):
            rows = torch.cat([rows, language.model(rows).logits[:, -1:].argmax(-1)], dim=1)
    assert record["tokens"] == rows[0, -6:].tolist()
    assert record["text"] == tokenizer().decode(record["tokens"])


def test_a_model_without_a_chat_template_says_so(language, tmp_path):
    words = copy.copy(language.tokenizer)
    words.chat_template = None
    with pytest.raises(rs.errors.ModelError, match="no chat template; with api='completions'"):
        ask_local(["a"], tmp_path / "a", model=replace(language, tokenizer=words))


# Commands


def test_ask_exit_codes(stub, cli, prompts_file, monkeypatch, tmp_path):
    monkeypatch.setattr("radscore.answers.workers._FIRST_WAIT", 0.001)
    prompts = prompts_file(["a", "b"])
    common = ["ask", "--prompts", prompts, "--endpoint", stub.url, "--model", "m", "--retries", 1]
    stub.script["b"] = [{"status": 500, "body": "down"}]
    some = cli(*common, "--out", "x.jsonl")
    assert some.code == 3
    assert "1 question failed, 1 of them with: 500: down" in some.err
    assert "1 of 2 questions" in some.out
    stub.script["*"] = [{"status": 500, "body": "down"}]
    assert cli(*common, "--out", "y.jsonl").code == 1
    stub.script.clear()
    mended = cli(*common, "--out", "x.jsonl", "--json")
    assert mended.err == "radscore: continuing x.jsonl\n"
    assert mended.code == 0
    assert (mended.json["n_before"], mended.json["n_answered"]) == (1, 1)
    limited = cli(*common, "--out", "z.jsonl", "--max-requests", 1)
    assert limited.code == 3
    assert "1 question left (--max-requests 1 is used up); rerun" in limited.err


def test_ask_shows_progress_with_the_time_that_is_left(stub, cli, prompts_file, monkeypatch):
    monkeypatch.setattr("radscore.cli.progress._LINE_SECONDS", 0.0)
    done = cli(
        "ask", "--prompts", prompts_file(["a", "b", "c", "d"]), "--endpoint", stub.url,
        "--model", "m", "--out", "x.jsonl", "--progress",
    )  # fmt: skip
    assert "radscore: 25.0 %, " in done.err
    assert " left\n" in done.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--model", "m"], "one of the arguments --endpoint --local is required"),
        (["--endpoint", "http://h/v1"], "--endpoint needs the model's name"),
        (["--endpoint", "http://h/v1", "--model", "m", "--base", "x"], "--base has no effect"),
        (["--local", "x", "--max-cost", "3"], "--max-cost has no effect with --local"),
        (["--local", "x", "--model", "m"], "--model has no effect with --local"),
        (["--endpoint", "ftp://h", "--model", "m"], "--endpoint must be a URL"),
        (["--endpoint", "http://h/v1", "--model", "m", "--api-key-env", "sk-0123456789abcdef"],
         "looks like a key"),
        (["--endpoint", "http://h/v1", "--model", "m", "--api-key-env", "NOT_THERE"],
         "no environment variable NOT_THERE"),
        (["--endpoint", "http://h/v1", "--model", "m", "--extra", "[1]"], "--extra must be"),
        (["--endpoint", "http://h/v1", "--model", "m", "--extra", '{"a": NaN}'],
         "--extra must be a JSON object"),
        (["--endpoint", "http://h/v1", "--model", "m", "--extra", '{"a": ' + "[" * 10**5],
         "--extra must be a JSON object"),
        (["--endpoint", "http://h/v1", "--model", "m", "--extra", '{"n": 2}'],
         "extra must not set 'n'"),
        (["--endpoint", "http://h/v1", "--model", "m", "--max-cost", "1"],
         "--max-cost needs --price-in and --price-out, each per"),
        (["--endpoint", "http://h/v1", "--model", "m", "--max-cost", "1", "--price-in", "1"],
         "--max-cost needs --price-in and --price-out, each per"),
        (["--endpoint", "http://h:99999/v1", "--model", "m"], "--endpoint must be a URL"),
        (["--endpoint", "http://[::1/v1", "--model", "m"], "--endpoint must be a URL"),
    ],
)  # fmt: skip
def test_ask_refuses(cli, prompts_file, tmp_path, arguments, match):
    done = cli("ask", "--prompts", prompts_file(["a"]), "--out", "x.jsonl", *arguments)
    assert done.code == 2
    assert match in done.err
    assert "0123456789" not in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "x.jsonl").exists()


def test_ask_does_not_write_over_its_prompts(cli, prompts_file):
    path = prompts_file(["a"])
    done = cli("ask", "--prompts", path, "--endpoint", "http://h/v1", "--model", "m", "--out", path)
    assert done.code == 2
    assert "--out names the prompts" in done.err


def test_ask_without_prompts(cli, tmp_path):
    (tmp_path / "p.jsonl").write_text("")
    done = cli("ask", "--prompts", "p.jsonl", "--endpoint", "http://h/v1", "--model", "m",
               "--out", "x.jsonl")  # fmt: skip
    assert done.code == 1
    assert "there are no prompts in p.jsonl" in done.err
    assert not (tmp_path / "x.jsonl").exists()


@pytest.fixture
def answers_file(tmp_path):
    """The demonstration's texts, as answers."""
    lines = (DEMO / "corpus.jsonl").read_text().splitlines()[:40]
    rows = [{"prompt": "Go on.", "text": json.loads(line)["text"]} for line in lines]
    return write(tmp_path / "answers.jsonl", rows)


def test_closed_command_filters_and_both(cli, answers_file, tmp_path):
    built = cli(
        "kgrams", "build", DEMO / "corpus.jsonl", "--field", "text", "--tokenizer", TOKENIZER,
        "--width", 1, "--vocab-size", 49152, "--top", 300, "--unmarked", "--out", "phi.rkg",
    )  # fmt: skip
    assert built.code == 0, built.err
    common = ["test", "closed", answers_file, *SCHEME, "--tokenizer", TOKENIZER, "--json"]
    plain = cli(*common)
    assert plain.code == 0, plain.err
    expected = rs.score(
        rs.open_corpus(answers_file, tokenizer=TOKENIZER, prompt_field="prompt"), load_scheme()
    )
    assert plain.json["log10_pvalue"] == pytest.approx(expected.log10_pvalue)
    filtered = cli(*common, "--filter", "phi.rkg")
    both = cli(*common, "--filter", "phi.rkg", "--both")
    least = min(plain.json["log10_pvalue"], filtered.json["log10_pvalue"])
    assert both.json["log10_pvalue"] == pytest.approx(min(least + np.log10(2), 0))
    assert both.json["n_tests"] == 2
    shown = cli(*common[:-1], "--filter", "phi.rkg", "--both")
    assert "times 2 for 2 tests" in shown.out
    assert "without filter" in shown.out


def load_scheme():
    from radscore.schemes import from_toml

    return from_toml(DEMO / "scheme.toml", key=rs.Key.from_file(DEMO / "alice.key"))


def test_closed_command_counts_failures_and_bad_records(cli, answers_file):
    with answers_file.open("a") as file:
        file.write('{"prompt": "p", "error": "500"}\n')
    common = ["test", "closed", answers_file, *SCHEME, "--tokenizer", TOKENIZER]
    done = cli(*common)
    assert done.code == 3
    assert "1 question failed" in done.out
    with answers_file.open("a") as file:
        file.write('{"prompt": "p"}\n')
    assert cli(*common).code == 1
    skipped = cli(*common, "--on-error", "skip", "--json")
    assert skipped.code == 3
    assert skipped.json["removed"]["records that could not be read"] == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--both"], "--both needs --filter"),
        (["--curve", "5"], "--curve has no effect without --json"),
        (["--weighting", "contrast"], "needs a reference"),
        (["--reference-answers", "answers.jsonl"], "names the suspect's own answers"),
        (["--weighting", "counts", "--transform", "x"], "--transform must be one of count"),
        (["--filter", "missing.rkg"], "--filter: missing.rkg"),
    ],
)
def test_closed_command_refuses(cli, answers_file, arguments, match):
    done = cli("test", "closed", answers_file, *SCHEME, "--tokenizer", TOKENIZER, *arguments)
    assert done.code == 2
    assert match in done.err


def test_help_names_the_steps(cli):
    for command in (["ask"], ["test", "closed"]):
        shown = cli(*command, "--help").out
        assert "examples:" in shown
        assert "exit codes:" in shown
    assert "--top 10000" in shown


def test_importing_the_command_line_imports_no_library_of_models():
    import subprocess
    import sys

    program = (
        "import sys; import radscore.cli, radscore.answers, radscore.audits.closed; "
        "print([n for n in ('torch', 'transformers', 'openai', 'scipy.stats') if n in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"


def test_asking_needs_its_extra(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(rs.errors.MissingExtraError, match=r"pip install 'radscore\[api\]'"):
        ask(["a"], tmp_path / "x", endpoint="http://127.0.0.1:1/v1", model="m")
    assert not (tmp_path / "x").exists()
