"""Stages: named by what decides on them, made once, sealed or not there at all."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.errors import StorageError
from radscore.progress import Progress
from radscore.rehearsal.stages import Input, Inputs, Stage, Store, run_stages


def stage(kind="a", settings=None, inputs=None, made=None, text="x"):
    def make(work, tell):
        (work / "out.txt").write_text(text)
        if made is not None:
            made.append(kind)
        tell(Progress(1, 1, 5))
        return {"n": 1}

    return Stage(kind, settings or {}, inputs or {}, make, cost=1000.0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, min_size=1), VALUES)
def test_the_name_depends_on_every_setting(settings_, value):
    one = stage(settings=settings_)
    name = next(iter(settings_))
    other = stage(settings={**settings_, name: value})
    same = json.dumps(settings_[name], sort_keys=True) == json.dumps(value, sort_keys=True)
    assert (one.digest == other.digest) == same
    assert stage(settings=dict(reversed(settings_.items()))).digest == one.digest


def test_the_name_depends_on_what_is_read_and_on_what_that_reads(tmp_path):
    low = [stage("low", {"n": n}) for n in range(2)]
    middle = [stage("middle", inputs={"low": one}) for one in low]
    assert middle[0].digest != middle[1].digest
    files = [Input(tmp_path, digest * 64) for digest in "ab"]
    assert stage(inputs={"f": files[0]}).digest != stage(inputs={"f": files[1]}).digest
    assert stage(inputs={"f": files[0]}).digest != stage(inputs={"g": files[0]}).digest


def test_what_is_sealed_is_never_made_again(tmp_path):
    made = []
    low = stage("low", made=made)
    tops = [stage(f"top{i}", inputs={"low": low}, made=made) for i in range(2)]
    store = Store(tmp_path)
    shown = []
    assert run_stages(store, tops, progress=shown.append)
    assert sorted(made) == ["low", "top0", "top1"]
    assert [one.done for one in shown] == sorted(one.done for one in shown)
    assert shown[-1].done == shown[-1].total == 3
    assert run_stages(Store(tmp_path), tops)
    assert len(made) == 3
    assert store.report(low) == {"n": 1}
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_one_that_fails_is_not_sealed_and_goes_on_where_it_was(tmp_path):
    tries = []

    def make(work, tell):
        tries.append(sorted(one.name for one in work.iterdir()))
        (work / f"{len(tries)}.txt").write_text("x")
        if len(tries) < 3:
            raise RuntimeError
        return {}

    one = Stage("a", {}, {}, make)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            run_stages(Store(tmp_path), [one])
        assert not Store(tmp_path).is_made(one)
    assert run_stages(Store(tmp_path), [one])
    assert tries == [[], ["1.txt"], ["1.txt", "2.txt"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stage.json", "{", "stage.json is damaged; remove the folder"),
        ("stage.json", '{"digest": "0"}', "stage.json is damaged; remove the folder"),
        ("stage.json", "[]", "stage.json is damaged; remove the folder"),
        ("out.txt", "longer than it was", "out.txt is missing or of another size"),
        ("out.txt", None, "out.txt is missing or of another size"),
    ],
)
def test_damage_is_told(tmp_path, name, text, message):
    one = stage()
    run_stages(Store(tmp_path), [one])
    file = tmp_path / one.name / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(StorageError, match=message):
        Store(tmp_path).report(one)


def test_inputs_are_what_is_in_them(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    memory = tmp_path / "memory.json"
    before = Inputs(memory).of(folder)
    assert before.digest == Inputs(None).of(folder).digest
    (folder / ".hidden").write_text("3")
    assert Inputs(memory).of(folder).digest == before.digest
    (folder / "a").rename(folder / "c")
    assert Inputs(memory).of(folder).digest != before.digest
    (folder / "c").rename(folder / "a")
    (folder / "a").write_text("9")
    os.utime(folder / "a", ns=(0, 0))
    assert Inputs(memory).of(folder).digest != before.digest
    memory.write_text("damaged")
    (folder / "a").write_text("1")
    assert Inputs(memory).of(folder).digest == before.digest


SHARED = """
import sys, time
from pathlib import Path
from radscore.rehearsal.stages import Stage, Store, run_stages

folder, name = Path(sys.argv[1]), sys.argv[2]

def make(i):
    def run(work, tell):
        time.sleep(0.05)
        with (folder / "log.txt").open("a") as file:
            file.write(f"{i}\\n")
        return {}
    return run

low = Stage("low", {}, {}, make("low"))
tops = [Stage("top", {"i": i}, {"low": low}, make(i)) for i in range(12)]
print("ready", flush=True)
sys.stdin.readline()
assert run_stages(Store(folder), tops)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_share_a_folder_and_make_each_stage_once(tmp_path):
    both = [start(SHARED, str(tmp_path), str(i)) for i in range(3)]
    for one in both:
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in both:
        assert one.wait(60) == 0
        one.communicate()
    lines = (tmp_path / "log.txt").read_text().split()
    assert sorted(lines) == sorted(["low", *map(str, range(12))])


def test_a_killed_process_leaves_nothing_sealed_and_locks_nothing(tmp_path):
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from radscore.rehearsal.stages import Stage, Store, run_stages

        def make(work, tell):
            (work / "half").write_text("x")
            print("half", flush=True)
            time.sleep(60)

        run_stages(Store(Path(sys.argv[1])), [Stage("a", {}, {}, make)])
    """)
    process = start(code, str(tmp_path))
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    seen = []
    one = Stage("a", {}, {}, lambda work, tell: seen.append((work / "half").read_text()) or {})
    store = Store(tmp_path)
    assert not store.is_made(one)
    started = time.monotonic()
    assert run_stages(store, [one])
    assert time.monotonic() - started < 30
    assert seen == ["x"]
