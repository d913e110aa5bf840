"""A real server with a real model: killing either side, and testing the answers."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from radscore.answers import Limits, ask, open_answers

from .conftest import DEMO, records

PROMPTS = [f"Tell me about the number {i}." for i in range(24)]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def n_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@contextmanager
def process_that_asks(arguments, **pipes):
    """The command in a process of its own. It sends at most ten requests, then waits for its minute
    to pass, so it cannot finish before this process looks.
    """
    command = [sys.executable, "-m", "radscore", *map(str, arguments), "--requests-per-minute", 10]
    process = subprocess.Popen([str(word) for word in command], start_new_session=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=60)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_answers_and_their_usage(server, tmp_path, api):
    out = tmp_path / "a.jsonl"
    options = {"endpoint": server.url, "model": server.model, "api": api, "max_tokens": 12}
    report = ask(PROMPTS[:4], out, samples=2, temperature=1.0, top_p=0.95, **options)
    assert (report.n_answered, report.n_failed) == (8, 0)
    found = records(out)
    assert all(one["usage"]["completion_tokens"] <= 12 for one in found)
    assert {one["finish_reason"] for one in found} <= {"length", "stop"}
    assert len({one["text"] for one in found}) == 8
    answers = open_answers(out, tokenizer=server.model)
    assert (len(answers), answers.models) == (8, (server.model,))
    # the server counts the prompt's tokens and the chat template's
    extra = {one["usage"]["prompt_tokens"] for one in found}
    assert min(extra) >= min(len(prompt) for prompt in answers.prompts)


def test_a_model_that_the_server_does_not_have(server, cli, prompts_file, tmp_path):
    done = cli(
        "ask", "--prompts", prompts_file(PROMPTS[:3]), "--endpoint", server.url, "--model",
        "nobody", "--out", tmp_path / "a.jsonl",
    )  # fmt: skip
    assert done.code == 1
    assert "3 questions failed" in done.err
    assert "pinned to" in done.err


def test_the_same_seed_gives_the_same_answer(server, tmp_path):
    options = {"endpoint": server.url, "model": server.model, "max_tokens": 8}
    options |= {"temperature": 1.0, "limits": Limits(concurrency=1)}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ask(PROMPTS[:3], tmp_path / name, seed=seed, **options)
    one, same, other = (
        [record["text"] for record in records(tmp_path / name)] for name in ("a", "b", "c")
    )
    assert one == same
    assert one != other


def test_kill_9_of_the_asking_process_loses_nothing(server, cli, prompts_file, tmp_path):
    out = tmp_path / "a.jsonl"
    arguments = [
        "ask", "--prompts", prompts_file(PROMPTS), "--endpoint", server.url, "--model",
        server.model, "--out", out, "--max-tokens", 32, "--concurrency", 2,
    ]  # fmt: skip
    before = server.requests()
    with process_that_asks(arguments, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: n_lines(out) >= 5 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGKILL)
    answered = n_lines(out)
    assert 5 <= answered <= 10
    with out.open("ab") as file:  # as a process killed in the middle of a line leaves it
        file.write(b'{"prompt_id": "0123')
    kept = out.read_bytes().rpartition(b"\n")[0]
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert "was incomplete; its question was asked again" in done.err
    # Of both processes together: all once, and perhaps again what was under way at the kill.
    assert len(PROMPTS) <= server.requests() - before <= len(PROMPTS) + 2
    assert out.read_bytes().startswith(kept)
    found = records(out)
    assert sorted(one["prompt"] for one in found) == sorted(PROMPTS)
    assert all("text" in one for one in found)


def test_ctrl_c_ends_it_in_order(server, prompts_file, tmp_path):
    out = tmp_path / "a.jsonl"
    arguments = [
        "ask", "--prompts", prompts_file(PROMPTS), "--endpoint", server.url, "--model",
        server.model, "--out", out, "--max-tokens", 32, "--concurrency", 2,
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with process_that_asks(arguments, **pipes) as process:
        wait_until(lambda: n_lines(out) >= 3 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "rerun the command to continue" in err
    assert 3 <= len(records(out)) <= 10


def test_a_server_that_is_killed_and_started_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("radscore.answers.workers._LONGEST_WAIT", 0.5)
    out = tmp_path / "a.jsonl"
    reports = []
    five, killed = threading.Event(), threading.Event()

    def progress(_):
        """After five answers, reads nothing more until the server is dead."""
        if n_lines(out) >= 5:
            five.set()
            killed.wait(timeout=300)

    def work():
        reports.append(
            ask(
                PROMPTS, out, endpoint=server.url, model=server.model, max_tokens=32,
                limits=Limits(concurrency=2, retries=1000), progress=progress,
            )
        )  # fmt: skip

    asking = threading.Thread(target=work)
    try:
        asking.start()
        assert five.wait(timeout=300)
        server.kill()
        assert n_lines(out) == 5
    finally:
        killed.set()
        if server.process is None:
            server.start()
        asking.join(timeout=300)
    assert not asking.is_alive()
    (report,) = reports
    assert (report.n_answered, report.n_failed, report.n_left) == (len(PROMPTS), 0, 0)
    found = records(out)
    assert sorted(one["prompt"] for one in found) == sorted(PROMPTS)
    again = [one for one in found if one["attempts"] > 1]
    assert 1 <= len(again) <= 2  # those under way
    assert report.requests > len(PROMPTS)


def test_from_the_prompts_to_the_p_value(server, cli, prompts_file, tmp_path):
    prompts = prompts_file(PROMPTS[:20])
    common = ["--prompts", prompts, "--max-tokens", 24, "--temperature", 1, "--json"]
    done = cli(
        "ask", *common, "--endpoint", server.url, "--model", server.model, "--out",
        tmp_path / "suspect.jsonl",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["n_answered"] == 20
    local = cli("ask", *common, "--local", server.model, "--out", tmp_path / "base.jsonl")
    assert local.code == 0, local.err
    test = [
        "test", "closed", tmp_path / "suspect.jsonl", "--scheme", DEMO / "scheme.toml",
        "--key-file", DEMO / "alice.key", "--tokenizer", DEMO / "tokenizer.json", "--json",
    ]  # fmt: skip
    plain = cli(*test)
    assert plain.code == 0, plain.err
    assert plain.json["weighting"] == "plain"
    assert plain.json["n_scored"] > 100
    assert -6 < plain.json["log10_pvalue"] <= 0
    contrast = cli(*test, "--reference-answers", tmp_path / "base.jsonl", "--curve", 3)
    assert contrast.code == 0, contrast.err
    assert contrast.json["weighting"] == "contrast"
    assert contrast.json["model"] == server.model
    assert len(contrast.json["score"]["curve"]) == 3
    assert -6 < contrast.json["log10_pvalue"] <= 0
