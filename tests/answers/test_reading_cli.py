"""``radscore predict --endpoint``, from the text to the p-value."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from radscore.models import Predictions, load_model
from radscore.models.predictions import unfinished
from tokenizers import Tokenizer

from .reading_server import ReadingServer

ROOT = Path(__file__).parents[2] / "experiments"
WORDS = ROOT / "models" / "tokenizer.json"
SCHEME = 'scheme = "keyed"\nvocab_size = 4096\ngamma = 0.25\ncontext_width = 2\n'


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with np.load(ROOT / "models" / "texts.npz") as arrays:
        rows = arrays["fresh"][:32].tolist()
    Path("fresh.jsonl").write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in rows))
    Path("scheme.toml").write_text(SCHEME)
    return tmp_path


@pytest.fixture(scope="module")
def servers():
    """The radioactive model, and the reference."""
    words = Tokenizer.from_file(str(WORDS))
    networks = [
        load_model(ROOT / "models" / name, device="cpu").model for name in ("rho-10", "reference")
    ]
    vllm, sglang = ({"vllm"}, {"sglang"})
    with (
        ReadingServer(networks[0], words, vllm) as one,
        ReadingServer(networks[1], words, sglang) as other,
    ):
        yield one, other


def options(server, **more):
    given = {"endpoint": server.url, "model": "m", "tokenizer": WORDS, "context-width": 2} | more
    flat = [(f"--{name.replace('_', '-')}", value) for name, value in given.items()]
    return [str(one) for pair in flat for one in pair if one is not True]


@pytest.mark.usefixtures("work")
def test_from_text_to_p_value(servers, run_command):
    one, other = servers
    key = ["--scheme", "scheme.toml", "--key-file", ROOT / "alice.key", "--json"]
    prices = {"price_in": 1.5, "price_out": 6}
    for name, more in (
        ("local", {"reference": ROOT / "models" / "reference"}),
        ("remote", {"reference": "m", "reference_endpoint": other.url, **prices}),
    ):
        out = f"{name}.arrow"
        done = run_command("predict", "fresh.jsonl", *options(one, out=out, **more), "--json")
        assert done.code == 0, done.err
        made = done.json
        assert made["usage"] == {"requests": 33, "prompt_tokens": 8290, "completion_tokens": 33}
        assert made["weighting"]["centred"]
        assert made["n_scored_positions"] == 32 * 255
        if name == "remote":
            assert made["cost"] == pytest.approx((1.5 * 8290 + 6 * 33) / 1e6)
        tested = run_command("test", "open", "--from", out, *key)
        assert tested.code == 0, tested.err
        assert tested.json["log10_pvalue"] < -3
    again = run_command("predict", "fresh.jsonl", *options(one, out="local.arrow", **more))
    assert again.code != 0
    assert "was made with another reference" in again.err
    done = run_command("predict", "fresh.jsonl", *options(one, out="x.arrow", max_length=64))
    assert done.code == 0, done.err
    assert "33" not in done.out.partition("requests")[0].splitlines()[-1]
    assert "through an API" in done.out


@pytest.mark.usefixtures("work")
def test_a_budget_that_ends_can_be_raised(servers, run_command):
    one = servers[0]
    small = options(one, out="p.arrow", max_tokens_total=6000, concurrency=1)
    done = run_command("predict", "fresh.jsonl", *small)
    assert done.code != 0
    assert Predictions(unfinished(Path("p.arrow"))).totals.n_documents == 16
    assert "--max-tokens-total 6000 would be exceeded" in done.err
    done = run_command("predict", "fresh.jsonl", *options(one, out="p.arrow"), "--json")
    assert done.code == 0, done.err
    assert Predictions("p.arrow").totals.n_documents == 32
    assert done.json["usage"]["requests"] == 1 + 16 + 1 + 16  # of both calls


@pytest.mark.usefixtures("work")
def test_what_does_not_go_together(servers, run_command, monkeypatch):
    one = servers[0]
    plain = ["predict", "fresh.jsonl", "--model", "m", "--context-width", "2", "--out", "p.arrow"]
    here = [*plain, "--endpoint", one.url]
    words = ["--tokenizer", WORDS]
    for command, text in (
        ([*plain, "--logprobs", "5"], "--logprobs has no effect without --endpoint"),
        ([*plain, "--one-token"], "--one-token has no effect without --endpoint"),
        ([*plain, "--max-cost", "5"], "--max-cost has no effect without --endpoint"),
        (here, "--tokenizer PATH"),
        ([*here, *words, "--base", "x"], "--base has no effect with --endpoint"),
        ([*here, *words, "--api", "chat"], "--api has no effect without --one-token"),
        ([*here, *words, "--reference-endpoint", one.url], "needs the reference's name there"),
        ([*here, *words, "--api-key-env", "NOT_THERE"], "no environment variable NOT_THERE"),
        ([*here, *words, "--weighting", "contrast"], "contrast needs --reference"),
        ([*here, *words, "--logprobs", "30"], "logprobs must be at most 20"),
        ([*here, *words, "--one-token", "--api", "chat"], "no log-probabilities of prompts"),
    ):
        done = run_command(*command)
        assert done.code != 0
        assert text in done.err, done.err
        assert not Path("p.arrow").exists()
    monkeypatch.setenv("MY_KEY", "sk-secret-of-nobody-at-all")
    done = run_command(*here, *words, "--api-key-env", "MY_KEY")
    assert done.code == 0, done.err
    assert b"secret" not in Path("p.arrow").read_bytes()


def test_ctrl_c_keeps_what_was_read(servers, work):
    one = servers[0]
    one.fail = lambda number: time.sleep(0.2)
    command = [sys.executable, "-m", "radscore", "predict", "fresh.jsonl", "--out", "p.arrow"]
    command += [*options(one, concurrency=1), "--weighting", "mass", "--max-weights", "4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    n = len(one.bodies)
    try:
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, env=environment, cwd=work
        ) as process:
            end = time.monotonic() + 120
            while len(one.bodies) < n + 20 and time.monotonic() < end:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=60)[1].decode()
    finally:
        one.fail = None
    assert process.returncode == 130, error
    assert "Traceback" not in error
    left = unfinished(work / "p.arrow")
    if left.exists():
        assert 0 < Predictions(left).totals.n_documents < 32
        assert "rerun the command to continue" in error
    else:
        assert "nothing was read yet" in error
