"""Audits from plan to verdict, and everything that they refuse."""

import json
import math
import zipfile

import pytest
import radscore as rs
from radscore.errors import ArgumentError, StateError
from radscore.evidence.audit import Audit
from radscore.evidence.bundle import write_bundle
from radscore.evidence.commitment import commit, new_nonce, opens
from radscore.evidence.drawing import drawn
from radscore.evidence.plan import read_settings
from radscore.evidence.verify import verify

from .conftest import KEY, MODELS, TOKENIZER, asking, planned, reading, scheme_under, settings
from .second import checked


def test_the_radioactive_model_is_found_and_the_control_is_not(finished):
    key = rs.Key.from_file(KEY)
    found = Audit(finished / "reading").run(key)
    assert found.verdict == "evidence"
    assert found.log10_pvalue < -3
    control = Audit(finished / "control").run(key)
    assert control.verdict == "no evidence"
    assert control.log10_pvalue > -2


@pytest.mark.parametrize("name", ["reading", "control", "plain", "anytime", "residual"])
def test_a_bundle_is_verified_to_the_last_bit_without_the_models(finished, tmp_path, name):
    audit, key = Audit(finished / name), rs.Key.from_file(KEY)
    bundle = write_bundle(audit, tmp_path / "b.zip", scheme=scheme_under(key))
    head = json.loads((finished / name / "log.jsonl").read_bytes().splitlines()[-1])
    found = verify(bundle, plan_hash=audit.plan.sha256)
    assert found.wrong == []
    assert found.recomputed
    assert head["event"] == "stopped"
    looks = [one for one in found.holds if "to the last bit" in one]
    assert len(looks) == (1 if name in {"reading", "control"} else 2)
    assert [one for one in found.unknown if "when the plan was made" in one]


def test_an_evalue_decides_at_the_whole_level_at_every_look(finished):
    audit = Audit(finished / "anytime")
    test = audit.plan.content["test"]
    assert test["levels"] == [0.01, 0.01]
    outcome = audit.run(rs.Key.from_file(KEY))
    e = outcome.result["score"]["anytime"]
    assert outcome.log10_pvalue == e["log10_pvalue"] == min(0.0, -e["log10_evalue"])
    assert "e-value" in dict(audit.plan.rows())["looks"]


def test_a_second_implementation_comes_to_the_same(finished, pools):
    folder = finished / "plain"
    key = bytes.fromhex(KEY.read_text())
    nonce = json.loads((folder / "secret.json").read_bytes())["nonce"]
    pvalues = checked(folder, key, nonce, pools / "prompts.jsonl", TOKENIZER)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    said = [one["result"]["log10_pvalue"] for one in log if one["event"] == "scored"]
    assert len(said) == 2
    assert [math.log10(p) for p in pvalues] == pytest.approx(said, abs=1e-9)


def test_the_key_is_in_the_bundle_only_where_it_was_opened(finished, tmp_path):
    audit, key = Audit(finished / "plain"), rs.Key.from_file(KEY)
    digits = KEY.read_text().strip()
    sealed = write_bundle(audit, tmp_path / "sealed.zip")
    opened = write_bundle(audit, tmp_path / "opened.zip", scheme=scheme_under(key))
    for path, there in ((sealed, False), (opened, True)):
        with zipfile.ZipFile(path) as bundle:
            content = b"".join(bundle.read(name) for name in bundle.namelist())
        assert (digits.encode() in content) is there
        # nor the unsalted hash, from which a weak key could be guessed
        assert scheme_under(key).fingerprint.encode() not in content
    found = verify(sealed)
    assert found.sound
    assert not found.recomputed
    assert [one for one in found.unknown if "the key is not in the bundle" in one]
    assert verify(sealed, key).recomputed
    wrong = verify(sealed, "00" * 16)
    assert "scheme and key are those that were committed to" in wrong.wrong[0]


def test_nothing_runs_before_the_commitment_or_under_another_key(pools, tmp_path):
    audit = planned(asking("rho-10"), pools, tmp_path / "a")
    with pytest.raises(StateError, match="not committed to yet"):
        audit.run(rs.Key.from_file(KEY))
    audit.commit()
    with pytest.raises(ArgumentError, match="not the one that the plan commits to"):
        audit.run("00" * 16)
    assert not (tmp_path / "a" / "answers.jsonl").exists()


def test_randomness_is_mixed_in_once_and_in_time(pools, tmp_path, finished):
    audit = planned(asking("rho-10"), pools, tmp_path / "a")
    audit.commit()
    for beacon in ("abc", "xyz" * 20):
        with pytest.raises(ArgumentError, match="at least 32 hexadecimal digits"):
            audit.commit(beacon=beacon)
    audit.commit(beacon="ab" * 16)
    with pytest.raises(StateError, match="has its randomness already"):
        audit.commit(beacon="cd" * 16)
    with pytest.raises(StateError, match="or has begun"):
        Audit(finished / "plain").commit(beacon="cd" * 16)


def test_a_run_that_was_killed_goes_on_to_the_same_end(pools, tmp_path, finished):
    """Cuts the log after every line, as a kill would, and runs again."""
    key = rs.Key.from_file(KEY)
    whole = Audit(finished / "plain").run(key)
    lines = (finished / "plain" / "log.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(3, len(lines)):
        import shutil

        folder = tmp_path / str(cut)
        shutil.copytree(finished / "plain", folder)
        (folder / "log.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
        again = Audit(folder).run(key)
        assert again.result == whole.result
        assert again.verdict == whole.verdict


def test_a_file_that_was_changed_after_planning_is_refused(pools, tmp_path):
    audit = planned(asking("rho-10"), pools, tmp_path / "a")
    audit.commit()
    path = pools / "prompts.jsonl"
    before = path.read_bytes()
    try:
        path.write_bytes(before.replace(b"a", b"o", 1))
        with pytest.raises(StateError, match=r"the pool prompts\.jsonl is not the one"):
            audit.run(rs.Key.from_file(KEY))
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("alpha = 0.6\n" + asking("rho-10").partition("\n")[2], "alpha must be above 0"),
        (asking("rho-10", looks=[12, 20]), r"end with \[pool\] drawn \(24\)"),
        (asking("rho-10", looks=[24, 24]), "must grow"),
        (reading("rho-10", looks=[24, 48]), "a reading is tested once"),
        (asking("rho-10", weighting="listed"), "needs [asking] logprobs"),
        (reading("rho-10", anytime=True), "anytime is for weighting 'plain'"),
        (asking("rho-10", anytime=-1), "an effect above 0"),
        (asking("rho-10", weighting="residual"), "needs a reference"),
        (asking("rho-10", weighting="plane"), "did you mean plain"),
        (reading("nobody"), "no such file"),
        (asking("rho-10").replace("[test]", "[tests]"), "did you mean test"),
        (asking("rho-10").replace("drawn", "draws"), "has no field 'draws'"),
        (settings(pool={"prompts": "p", "texts": "t", "drawn": 1}, suspect={}), "needs endpoint"),
        ("alpha = \n", "not valid TOML"),
    ],
)
def test_plans_that_cannot_be_valid_are_refused(pools, tmp_path, text, match):
    import re

    with pytest.raises(ArgumentError, match=match if "\\" in match else re.escape(match)):
        planned(text, pools, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_commitment_opens_in_one_way():
    one, other = scheme_under(bytes(16)), scheme_under(bytes(15) + b"\1")
    nonce = new_nonce()
    said = commit(one, nonce)
    assert opens(said, one, nonce)
    assert not opens(said, other, nonce)
    assert not opens(said, one, new_nonce())
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        commit(one, "ab")


def test_draws_are_permutations_that_a_seed_fixes():
    order = drawn(50, 50, "ab" * 32)
    assert sorted(order) == list(range(50))
    assert drawn(7, 50, "ab" * 32) == order[:7]
    assert drawn(50, 50, "ac" * 32) != order


def test_the_example_of_the_command_line_is_a_plan(pools, tmp_path, run_command):
    done = run_command("audit", "plan", "--example")
    (tmp_path / "e.toml").write_text(done.out)
    assert read_settings(tmp_path / "e.toml")["test"]["looks"] == [100, 200, 400]


def test_the_commands_from_plan_to_verified_bundle(pools, tmp_path, run_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = reading("rho-10").replace("texts.jsonl", str(pools / "texts.jsonl"))
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "s.toml").write_text(
        'scheme = "keyed"\nvocab_size = 4096\ngamma = 0.25\ncontext_width = 2\n'
    )
    key = ("--key-file", KEY)
    done = run_command("audit", "plan", "a.toml", "--scheme", "s.toml", *key, "--out", "a")
    assert done.code == 0
    plan_hash = done.out.split("SHA-256")[1].split()[0]
    assert plan_hash in run_command("audit", "commit", "a").out
    done = run_command("audit", "run", "a", *key)
    assert "evidence at the planned level" in done.out
    assert run_command("audit", "report", "a", "--bundle", "a.zip").code == 0
    page = (tmp_path / "a/report.html").read_text()
    assert "Yes, at the planned level" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    done = run_command("audit", "verify", "a.zip", *key, "--plan-hash", plan_hash)
    assert done.code == 0
    assert done.out.rstrip().endswith("sound")
    done = run_command("audit", "verify", "a.zip", *key, "--plan-hash", "0" * 64)
    assert done.code == 1
    assert "NOT sound" in done.out
    assert str(MODELS) in page
