"""A whole rehearsal, played by models of 150,000 weights."""

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from played import PLAN, workplace
from radscore.errors import ArgumentError
from radscore.rehearsal.effects import interval, needed
from radscore.rehearsal.plan import Plan
from radscore.rehearsal.rehearse import rehearse
from scipy import stats


@pytest.fixture(scope="module")
def place(folder, tmp_path_factory):
    """The plan's file."""
    path = workplace(tmp_path_factory.mktemp("played") / "work", folder)
    prompts = path.parent / "prompts.jsonl"
    evil = json.dumps({"prompt": "<script>alert(1)</script> & <b>boats</b>"}) + "\n"
    prompts.write_text(prompts.read_text() + evil * 2)
    return path


@pytest.fixture(scope="module")
def played(place):
    """What came of it."""
    shown, begun = [], []
    found = rehearse(place, folder=place.parent / "out", progress=shown.append, begin=begun.append)
    return found, shown, begun


def rows(found, share, **what):
    return [
        row for cell, row in found.results if cell.share == share and what.items() <= row.items()
    ]


def test_a_suspect_is_found_and_its_control_is_not(played):
    found, _, _ = played
    assert found.finished
    contrast = {"test": "open", "weights": "contrast"}
    for row in rows(found, 1.0, **contrast, setting="unsupervised"):
        assert row["log10_pvalue"] < -4
    for row in rows(found, 1.0, **contrast, setting="supervised"):
        assert row["valid"]  # a bound, which so little text does not bring below 1
        assert row["zscore"] > 1
    (listed,) = rows(found, 1.0, weights="listed")
    assert listed["log10_pvalue"] < -3
    for row in rows(found, 0.0):
        assert row["log10_pvalue"] is None or row["log10_pvalue"] > -4
    (member,) = rows(found, 1.0, test="membership", weights="none")
    assert member["log10_pvalue"] < -2


def test_every_test_is_run_on_every_suspect(played):
    found, _, _ = played
    names = {
        (r["test"], r["setting"], r["weights"], r["against"], r["filter"]) for _, r in found.results
    }
    for share in (0.0, 1.0):
        assert len(rows(found, share)) == len(names)
    assert {one[0] for one in names} == {"open", "closed", "membership"}
    assert {"supervised", "unsupervised", "none"} == {one[4] for one in names}
    for row in rows(found, 1.0, weights="naive"):
        assert not row["valid"]
        assert row["log10_pvalue"] is None
        assert row["zscore"] is not None


def test_curves_end_below_what_was_read(played):
    found, _, _ = played
    for row in rows(found, 1.0, test="open", weights="contrast"):
        assert [point[0] for point in row["curve"]] == [100, 200]
        assert row["n_tokens"] > 200


def test_effects_follow_from_the_rows(played):
    found, _, _ = played
    content = json.loads((found.folder / "effects.json").read_text())
    assert content["format"] == "radscore effects"
    assert content["version"] == 1
    assert content["plan"] == found.plan.digest
    for one in content["effects"]:
        what = {k: one[k] for k in ("test", "setting", "weights", "against", "filter")}
        (row,) = rows(found, one["share"], **what)
        assert one["effect"]["mean"] == row["zscore"] / math.sqrt(row["n_scored"])
        assert one["effect"]["low"] is None
        assert one["delta"] == 6.0
        if one["test"] == "closed" and one["needed"] is not None:
            per_answer = one["needed"]["tokens"] / one["needed"]["answers"]
            assert per_answer == pytest.approx(one["n_tokens"] / 32)
        assert one["scheme"]["gamma"] == 0.5
    shares = {(one["test"], one["share"]) for one in content["effects"]}
    assert shares == {(test, share) for test in ("open", "closed") for share in (0.0, 1.0)}


def test_the_same_call_makes_nothing_anew(played, place):
    found, _, begun = played
    assert len(begun) == len({one.digest for one in begun})
    again = []
    other = rehearse(place, folder=found.folder, begin=again.append)
    assert again == []
    assert other.effects == found.effects


def test_progress_rises_to_its_end(played):
    _, shown, _ = played
    done = [one.done for one in shown]
    assert done == sorted(done)
    assert shown[-1].done == shown[-1].total
    assert len(shown) > 20


def test_no_file_holds_the_key(played):
    found, _, _ = played
    key = (found.folder.parent / "alice.key").read_text().strip()
    assert len(key) == 32
    files = [one for one in found.folder.rglob("*") if one.is_file()]
    assert len(files) > 30
    for one in files:
        content = one.read_bytes()
        assert key.encode() not in content
        assert bytes.fromhex(key) not in content


def test_the_page_escapes_and_loads_nothing(played):
    found, _, _ = played
    html = (found.folder / "results.html").read_text()
    assert "<script" not in html
    assert "<b>boats" not in html
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", html)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html).replace("w3.org", "")
    assert html.count("<svg") >= 2
    for name in ("open", "supervised", "contrast to matched", "Alice&#39;s text"):
        assert name in html


def test_markdown_and_text_hold_every_setting(played):
    found, _, _ = played
    markdown, text = (found.folder / "results.md").read_text(), found.table()
    for one in found.effects:
        assert one["setting"] in markdown
        assert one["setting"] in text
    tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(tables) > len(found.effects) / 2


def test_supervision_is_the_part_of_what_alice_recorded_that_bob_used(folder, tmp_path):
    from radscore.rehearsal.graph import cell_stages
    from radscore.rehearsal.playing import Play
    from radscore.rehearsal.stages import Store
    from radscore.rehearsal.tests import Case

    text = PLAN.replace("share = 1.0", "share = 0.5\nsupervision = [0.25, 0.5, 1.0]")
    path = workplace(tmp_path / "work", folder, text)
    plan = Plan.read(path)
    play = Play(plan, Store(tmp_path / "out"))
    rehearse(plan, folder=tmp_path / "out", only=["records"])
    suspects = set()
    for cell in plan.cells():
        if not cell.share:
            continue
        stages = cell_stages(play, cell)
        suspects.add(stages.suspect.digest)
        case = Case(play, cell, stages.suspect, stages.reference)
        read = case.recorded(10**6)
        trained = {(one.prompt, one.answer) for one in _trained(play, cell)}
        used = [(one.prompt, one.answer) in trained for one in read]
        assert sum(used) == 32  # all of his
        assert np.mean(used) == pytest.approx(cell.supervision, abs=0.02)
    assert len(suspects) == 1  # who is trained once


def _trained(play, cell):
    """What Bob's training is given."""
    from radscore.rehearsal.bob import mix

    marked = play.read(play.records("marked", cell.base, cell.mark, cell.key))
    twins = play.read(play.records("twins", cell.base))
    seed = play.plan.derived(f"bob/suspect/{cell.seed}")
    return mix(marked, twins, cell.share, seed, n_records=64).records


def test_files_of_ones_own_take_the_place_of_stages(played, place, tmp_path):
    found, _, _ = played
    marked = next(
        one
        for one in found.folder.glob("records-*")
        if json.loads((one / "stage.json").read_text())["settings"]["pool"] == "marked"
    )
    own = place.parent / "own.toml"
    file = tmp_path / "mine.jsonl"
    file.write_bytes((marked / "records.jsonl").read_bytes())
    text = PLAN.replace("n_records", f'marked = "{file}"\nn_records')
    text = text.replace("[tests]", "[tests]\nclosed = false\nmembership = false\nability = false")
    own.write_text(text)
    begun = []
    again = rehearse(own, folder=found.folder, begin=begun.append)
    assert sorted({one.kind for one in begun}) == ["bob", "open", "quality"]
    assert [r["zscore"] for r in rows(again, 1.0, test="open")] == [
        r["zscore"] for r in rows(found, 1.0, test="open")
    ]  # the same records, the same seeds: the same model


def test_only_some_kinds_are_made(place, tmp_path):
    begun = []
    found = rehearse(place, folder=tmp_path / "out", only=["records"], begin=begun.append)
    assert {one.kind for one in begun} == {"records"}
    assert not found.finished
    assert "stages are missing: run the plan again to continue" in found.notes
    with pytest.raises(ArgumentError, match="only must be of records"):
        rehearse(place, folder=tmp_path / "out", only=["record"])


def test_too_few_prompts_are_told(folder, tmp_path):
    path = workplace(tmp_path / "work", folder, n=3)
    with pytest.raises(ArgumentError, match=r"plan.toml: \[data\] prompts holds 3 different"):
        rehearse(path, folder=tmp_path / "out")


def test_the_root_has_it():
    assert rs.rehearse is rehearse


def test_the_command_says_what_it_found(run_command, played, place):
    found, _, _ = played
    done = run_command("rehearse", place, "--out", found.folder)
    assert done.code == 0
    assert "contrast to matched" in done.out
    assert "results.html" in done.out
    as_json = run_command("rehearse", place, "--out", found.folder, "--json").json
    assert as_json["plan"] == found.plan.digest
    assert len(as_json["results"]) == len(found.results)
    assert run_command("rehearse", place).code == 2


def test_a_dry_run_makes_nothing(run_command, place, tmp_path):
    done = run_command("rehearse", place, "--dry-run", "--json")
    assert done.code == 0
    values = done.json
    (check,) = values["checks"].values()
    assert check["n_parameters"] == check["n_trained"] > 100_000
    assert check["losses"][1] < check["losses"][0]
    assert values["n_made"] == 0
    assert values["stages"]["bob"] == 3  # suspect, control and reference
    assert not list(tmp_path.iterdir())
    text = run_command("rehearse", place, "--dry-run").out
    for word in ("memory", "one step", "⟦", "stand in for answers"):
        assert word in text


def test_a_dry_run_needs_no_weights(run_command, folder, place, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for one in folder.iterdir():
        if one.suffix != ".safetensors":
            (bare / one.name).write_bytes(one.read_bytes())
    done = run_command("rehearse", place, "--dry-run", "--base", bare, "--json")
    (check,) = done.json["checks"].values()
    assert check["step_on"].startswith("a random LlamaForCausalLM")


def test_a_wrong_plan_is_one_line(run_command, place, tmp_path):
    wrong = place.parent / "wrong.toml"
    wrong.write_text(PLAN.replace("n_records", "n_record"))
    done = run_command("rehearse", wrong, "--out", tmp_path / "out")
    assert done.code == 2
    assert done.err.startswith(f"radscore: error: {wrong}: [data] has no field 'n_record'; did you")
    assert done.err.count("\n") == 1
    assert run_command("rehearse", tmp_path / "none.toml", "--out", tmp_path).code == 1


SMALL = (
    PLAN.replace("[tests]", "[tests]\nmembership = false\nability = false\nquality = false")
    .replace("n_answers = 32", "n_answers = 8\nlisted = 0")
    .replace("n_texts = 24", "n_texts = 8")
    .replace("n_records = 64", "n_records = 16")
)


def test_killed_again_and_again_it_ends_with_the_same(folder, tmp_path):
    path = workplace(tmp_path / "work", folder, SMALL)
    whole = rehearse(path, folder=tmp_path / "whole")
    out = tmp_path / "killed"
    # while records are written, while Bob trains (after checkpoints were made), while it is tested
    for moment in (
        "records-*/records.jsonl",
        "bob-*/checkpoints/checkpoint-4/complete",
        "open-*/rows.json",
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(out), moment], env=_environment()
        )
        assert process.wait(120) == -signal.SIGKILL
    found = rehearse(path, folder=out)
    assert found.finished
    assert _content(out) == _content(tmp_path / "whole")
    assert found.effects == whole.effects


#: Plays until a file of a stage that is being made exists, and dies.
KILLED = """
import os, signal, sys, threading, time
from pathlib import Path

import torch
torch.set_num_threads(1)
from radscore.rehearsal.rehearse import rehearse

def watch():
    while not list(Path(sys.argv[2]).glob("." + sys.argv[3].replace("/", ".part/", 1))):
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
rehearse(sys.argv[1], folder=sys.argv[2])
"""


def _environment():
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rs.__file__).parents[1])}


def _content(folder):
    """Weights, rows and texts, but for times and dates."""
    found = {}
    for one in sorted(folder.glob("*-*/*")):
        name = str(one.relative_to(folder))
        if one.suffix == ".safetensors":
            found[name] = one.read_bytes()
        elif one.name == "rows.json":
            found[name] = [{**r, "seconds": 0} for r in json.loads(one.read_text())]
        elif one.suffix == ".jsonl":
            lines = [json.loads(line) for line in one.read_text().splitlines()]
            found[name] = [[line["prompt"], line["tokens"]] for line in lines]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("bound", [False, True])
def test_so_many_tokens_reach_the_level_in_nine_of_ten_cases(bound):
    rng = np.random.default_rng(5)
    effect, level = 0.03, 1e-5
    need = needed(effect, 1000, 4000, level, bound=bound)
    units = need["tokens"] / 4
    assert need["times"] == pytest.approx(units / 1000)
    z = rng.normal(effect * math.sqrt(units), 1.0, 20_000)
    p = np.exp(-(z**2) / 2) if bound else stats.norm.sf(z)
    assert np.mean(p < level) == pytest.approx(0.9, abs=0.01)
    assert needed(0.0, 10, 10, level) is None


def test_intervals_are_students():
    values = [1.0, 2.5, 4.0, 3.0]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["sd"] == pytest.approx(np.std(values, ddof=1))
