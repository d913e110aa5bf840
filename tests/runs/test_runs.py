"""A run in steps gives what one scorer in memory gives."""

import fcntl
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.errors import ArgumentError, StorageError
from radscore.runs import (
    manifest,
    map_unit,
    merge,
    parse_size,
    prepare,
    reduce_part,
    score_run,
    steps,
)
from radscore.runs.shards import Part, cut_units, read_unit
from radscore.runs.steps import Mapping
from run_schemes import SCHEMES, VOCAB, keyed

DATA = Path(__file__).parents[1] / "corpus" / "data"


@pytest.mark.parametrize("dedup", ["unit", "window", "context", "none"])
@pytest.mark.parametrize("name", SCHEMES)
def test_any_units_parts_and_limits(opened, tmp_path, name, dedup):
    corpus, scheme = opened(), SCHEMES[name]()
    expected = repr(rs.score(corpus, scheme, dedup))  # a p-value may be no number
    assert repr(rs.score(corpus, scheme, dedup, memory="64MiB", tmp=tmp_path)) == expected
    assert not list(tmp_path.iterdir())
    for number, (unit_bytes, parts, bits) in enumerate([(10**9, 1, 12), (9_001, 3, 5)]):
        more = [tmp_path / "more"]
        run = prepare(
            tmp_path / f"run{number}",
            corpus,
            scheme,
            dedup,
            unit_bytes=unit_bytes,
            parts=parts,
            bits=bits,
            more_folders=more,
        )
        assert repr(score_run(run, corpus, scheme, memory="64MiB", threads=2)) == expected
        shutil.rmtree(more[0])


@pytest.mark.parametrize("eod", [7, None, 59])
@pytest.mark.parametrize("start", [None, 0, 5, 40])
def test_units_cut_documents_exactly(opened, tmp_path, eod, start):
    corpus = opened(eod)
    scheme = rs.VLLMGumbel(key=5, vocab_size=VOCAB, context_width=3)
    expected = rs.score(corpus, scheme, start=start)
    for unit_bytes in (10_001, 40_000):
        run = prepare(
            tmp_path / str(unit_bytes), corpus, scheme, start=start, unit_bytes=unit_bytes, parts=2
        )
        assert len(run.units) > 4
        assert score_run(run, corpus, scheme) == expected


@pytest.mark.parametrize("name", ["synthid", "sbw"])
def test_padding_reaches_the_units(opened, tmp_path, name):
    """Each scheme's own padding, whatever scheme of the kind cuts the windows."""
    corpus, start = opened(7), 0
    scheme = SCHEMES[name]()
    expected = rs.score(corpus, scheme, start=start)
    assert expected.n_windows == expected.n_tokens
    run = prepare(tmp_path / "run", corpus, scheme, start=start, unit_bytes=20_001, parts=2)
    assert score_run(run, corpus, scheme) == expected
    with pytest.raises(ArgumentError, match=r"the run cut windows of .* padded by"):
        run.check_scheme(rs.Keyed(key=bytes(16), vocab_size=VOCAB, context_width=3))


@pytest.fixture(scope="session")
def small_files(tmp_path_factory):
    """300 files of a few lines."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(8)
    for i in range(300):
        lines = [
            json.dumps({"input_ids": rng.integers(0, 50, rng.integers(30)).tolist()})
            for _ in "1234"
        ]
        (folder / f"{i:03}.jsonl").write_text("\n".join(lines[: i % 4 + 1]))
    return folder


@pytest.mark.parametrize("unit_bytes", [100, 3_000, 10**9])
def test_many_small_files(small_files, tmp_path, unit_bytes):
    corpus = rs.open_corpus(small_files, vocab_size=VOCAB)
    scheme = SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, unit_bytes=unit_bytes, parts=3)
    assert len(run.units) <= 2 * corpus.total_bytes / unit_bytes + 1
    for unit in range(len(run.units)):
        assert map_unit(run, unit, corpus)
    for stage in ("windows", "units"):
        for part in range(3):
            assert reduce_part(run, part, scheme, stage=stage)
    assert merge(run, scheme) == rs.score(corpus, scheme)


def test_a_small_file_that_changes_while_its_unit_is_read(small_files, tmp_path):
    shutil.copytree(small_files, tmp_path / "files")
    corpus = rs.open_corpus(tmp_path / "files", vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), unit_bytes=30_000)
    mapping = Mapping(run, corpus)
    name = corpus.sources[run.units[1].sources[7]].path
    name.write_text(name.read_text())
    assert mapping.unit(0)
    with pytest.raises(StorageError, match=rf"{name.name} has changed since the run"):
        mapping.unit(1)
    assert 1 in run.missing()


def test_an_end_of_document_outside_of_the_vocabulary(tmp_path):
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 50, size=20_000).astype(np.uint16)
    ids[rng.random(len(ids)) < 0.02] = 60_000
    ids[3_450:3_560] = 60_000  # around a cut: documents without a token
    ids.tofile(tmp_path / "a.bin")
    corpus = rs.open_corpus(
        tmp_path / "a.bin", dtype="uint16", eod=60_000, vocab_size=VOCAB, batch_tokens=999
    )
    run = prepare(tmp_path / "run", corpus, keyed(), unit_bytes=7_000, parts=2)
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())


def test_units_hold_every_document_once(opened):
    corpus = opened()
    whole = sum(batch.documents.n_tokens for batch in corpus)
    for unit_bytes in (5_000, 33_333, 10**9):
        total = 0
        for unit in cut_units(corpus, unit_bytes):
            for part in read_unit(corpus, unit, 5):
                first, last = part.span or (0, part.documents.n_tokens)
                total += last - first
        assert total == whole


def test_prompts_and_filters(files, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 9, size=(400, 12)).tolist()
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"ids": r[4:], "prompt": r[:4]}) + "\n" for r in rows))
    corpus = rs.open_corpus(path, field="ids", prompt_field="prompt", vocab_size=VOCAB)
    phi = rs.KgramSet.from_kgrams(rng.integers(0, 9, size=(60, 2)), VOCAB)
    for role in ("exclude", "context"):
        options = {"filter": phi, "prompt_role": role}
        run = prepare(tmp_path / role, corpus, keyed(), parts=2, unit_bytes=3_000, **options)
        assert len(run.units) > 5
        expected = rs.score(corpus, keyed(), **options)
        assert expected.n_filtered
        assert bool(expected.n_excluded) == (role == "exclude")
        assert score_run(run, corpus, keyed()) == expected


def test_other_keys_do_not_read_the_corpus_again(opened, tmp_path, monkeypatch):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=2)
    score_run(run, corpus, keyed())
    expected = {name: rs.score(corpus, SCHEMES[name]()) for name in ("kgw", "sglang", "additive")}
    monkeypatch.setattr(type(corpus), "checked_chunks", None)
    for name, result in expected.items():
        assert score_run(run, corpus, SCHEMES[name]()) == result
    with pytest.raises(ArgumentError, match="the run cut windows of 3 tokens over 60 ids"):
        reduce_part(run, 0, SCHEMES["wide"]())


def test_what_is_done_is_not_done_again(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=2)
    assert run.missing() == list(range(len(run.units)))
    assert map_unit(run, 1, corpus)
    assert not map_unit(run, 1, corpus)
    assert map_unit(run, 1, corpus, redo=True)
    assert 1 not in run.missing()
    with pytest.raises(StorageError, match=r"work unit 0 of .* is not done; map it first"):
        reduce_part(run, 0, keyed())
    with pytest.raises(StorageError, match=r"part 0 .* is not reduced"):
        merge(run, keyed())
    score_run(run, corpus, keyed())
    assert not reduce_part(run, 1, keyed())
    again = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=2)
    assert again.content == run.content


def test_each_check_is_made_once(opened, tmp_path, monkeypatch):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    phi = rs.KgramSet.from_kgrams([[a, b] for a in range(40) for b in range(40)], VOCAB)
    run = prepare(tmp_path, corpus, scheme, unit_bytes=20_000, parts=5, filter=phi)
    counts = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*arguments, **options):
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count(type(corpus), "manifest")
    count(rs.KgramSet, "load")
    count(rs.runs.buckets, "_checksum")
    count(type(run), "marker")
    count(manifest._core, "read_shard_header")
    expected = score_run(run, corpus, scheme)
    assert counts["manifest"] == counts["load"] == 1
    # Each of two stages writes five parts; the second reads those of the first, merging both.
    assert counts["_checksum"] == 2 * 5 + 5 + 2 * 5
    # For the map, for the first stage, and for what was skipped; headers only for the map.
    assert counts["marker"] == 3 * len(run.units)
    assert counts["read_shard_header"] == 0
    assert score_run(run, corpus, scheme) == expected == rs.score(corpus, scheme, filter=phi)
    assert counts["read_shard_header"] == len(run.units)
    assert pickle.loads(pickle.dumps(run)) == run


def test_the_file_of_another_unit_is_not_taken(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=1)
    for unit in range(len(run.units)):
        map_unit(run, unit, corpus)
    shutil.copy(run.unit_path(0), run.unit_path(1))
    assert run.missing() == [1]
    marker = json.loads(run.marker_path(0).read_text())
    run.marker_path(1).write_text(json.dumps({**marker, "unit": 1}))
    assert run.missing() == [1]
    with pytest.raises(StorageError, match="is the file of shard 0, not of 1"):
        reduce_part(run, 0, keyed())
    for damaged in ("[]", "7", '{"unit": 1, "length": 8, "skipped": {}}', ""):
        run.marker_path(1).write_text(damaged)
        assert run.missing() == [1]
        with pytest.raises(StorageError, match=r"work unit 1 of .* is not done"):
            reduce_part(run, 0, keyed())
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rules", "under other rules"),
        ("filter", "with another filter"),
        ("windows", "of other windows"),
        ("units", "that is cut into other units"),
        ("corpus", "over another corpus"),
        ("settings", "that reads the corpus in another way"),
    ],
)
def test_a_changed_configuration_is_refused(opened, files, tmp_path, change, says):
    corpus = opened()
    prepare(tmp_path, corpus, keyed(), unit_bytes=20_000)
    options, scheme = {"unit_bytes": 20_000}, keyed()
    if change == "rules":
        options["dedup"] = "window"
    elif change == "filter":
        options["filter"] = rs.KgramSet.from_kgrams([[1, 2]], VOCAB)
    elif change == "windows":
        scheme = SCHEMES["wide"]()
    elif change == "units":
        options["unit_bytes"] = 30_000
    elif change == "settings":
        corpus = opened(on_error="skip")
    else:
        corpus = rs.open_corpus(files / "a.bin", dtype="uint16", vocab_size=VOCAB)
    with pytest.raises(StorageError, match=f"holds a run {says};"):
        prepare(tmp_path, corpus, scheme, **options)


def test_damaged_units_are_found_and_named(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=1)
    for unit in range(len(run.units)):
        map_unit(run, unit, corpus)
    path = run.unit_path(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert run.missing() == [2]
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert run.missing() == []
    with pytest.raises(
        StorageError, match=r"unit-000002.rsw is damaged: .* makes work unit 2 anew"
    ):
        score_run(run, corpus, keyed())
    assert run.missing() == [2]
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())
    for at in (0, 4, 20, 60, 3000):  # its header, after the map
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StorageError, match=r"radscore map .* --unit 2 --redo"):
            reduce_part(run, 0, keyed("11" * 16))
        assert run.missing() == [2]
        map_unit(run, 2, corpus)
    manifest = tmp_path / "run.json"
    manifest.write_text(manifest.read_text().replace('"dedup": "unit"', '"dedup": "none"'))
    with pytest.raises(StorageError, match="was altered"):
        type(run).open(tmp_path)


def test_parts_of_another_division_are_not_taken(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, parts=2)
    expected = score_run(run, corpus, scheme)
    (tmp_path / "run.json").unlink()
    other = prepare(tmp_path, corpus, scheme, parts=3)
    with pytest.raises(StorageError, match="is not reduced"):
        merge(other, scheme)
    assert score_run(other, corpus, scheme) == expected


def test_a_filter_that_was_left_behind_is_not_used(opened, tmp_path):
    corpus = opened()
    phi = rs.KgramSet.from_kgrams([[1, 2], [3, 4]], VOCAB)
    prepare(tmp_path, corpus, keyed(), filter=phi)
    (tmp_path / "run.json").unlink()
    run = prepare(tmp_path, corpus, keyed())
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())
    other = prepare(tmp_path / "other", corpus, keyed(), filter=phi)
    rs.KgramSet.from_kgrams([[1, 2]], VOCAB).save(tmp_path / "other" / "filter.rkg")
    with pytest.raises(StorageError, match=r"filter.rkg is not the filter"):
        map_unit(other, 0, corpus)


def test_an_exchange_that_is_gone_is_made_again(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, parts=2)
    expected = score_run(run, corpus, scheme)
    for path in (tmp_path / "parts").rglob("units-*.json"):
        path.unlink()
    next((tmp_path / "parts").rglob("*.rsx")).unlink()
    assert score_run(run, corpus, scheme) == expected


def test_one_process_at_a_time_and_nothing_of_others_is_removed(opened, tmp_path):
    run = prepare(tmp_path / "run", opened(), keyed(), more_folders=[tmp_path / "more"])
    (tmp_path / "more" / "mine.txt").write_text("mine")
    with (
        run.alone(),
        pytest.raises(StorageError, match="another process works on"),
        run.alone(),
    ):
        pass
    (tmp_path / "more" / "logs").mkdir()
    run.discard()
    assert not (tmp_path / "run").exists()
    assert {path.name for path in (tmp_path / "more").iterdir()} == {"mine.txt", "logs"}
    for _ in range(2):  # as where another process has removed it after this one has opened it
        with pytest.raises(StorageError, match="has just removed"), run.alone():
            pass
        assert not (tmp_path / "run").exists()
        (tmp_path / "run").mkdir()


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_a_run_that_was_not_removed_as_a_whole(opened, tmp_path, monkeypatch, removed):
    corpus, scheme, left = opened(), SCHEMES["sglang"](), [removed]
    run = prepare(tmp_path / "run", corpus, scheme, more_folders=[tmp_path / "more"])
    expected = score_run(run, corpus, scheme)

    def stop(path, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        rmtree(path, **options)

    rmtree = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            run.discard()
    again = prepare(tmp_path / "run", corpus, scheme, more_folders=[tmp_path / "more"])
    assert score_run(again, corpus, scheme) == expected
    again.discard()
    assert not list(tmp_path.iterdir())


def test_a_run_that_another_process_prepares_while_it_is_removed(opened, tmp_path, monkeypatch):
    corpus, others = opened(), []
    phi = rs.KgramSet.from_kgrams([[a, b] for a in range(30) for b in range(30)], VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), filter=phi)
    expected = rs.score(corpus, keyed(), filter=phi)

    def again(step):
        def stepped(path, **options):
            others.append(prepare(tmp_path / "run", corpus, keyed(), filter=phi))
            step(path, **options)
            others.append(prepare(tmp_path / "run", corpus, keyed(), filter=phi))

        return stepped

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", again(shutil.rmtree))
        patch.setattr(Path, "unlink", again(Path.unlink))
        run.discard()
    assert len(others) == 12
    with others[-1].alone():
        assert score_run(others[-1], corpus, keyed()) == expected
        others[-1].discard()
    assert not list(tmp_path.iterdir())


def test_a_lock_of_a_run_that_was_removed_is_none(opened, tmp_path, monkeypatch):
    run, flock = prepare(tmp_path / "run", opened(), keyed()), fcntl.flock

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        run.discard()  # by the process that held the lock when this one opened its file
        others.append(prepare(tmp_path / "run", opened(), keyed()))
        stack.enter_context(others[0].alone())
        flock(file, how)

    others = []
    with ExitStack() as stack:
        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(StorageError, match="another process works on"), run.alone():
            pass
    with others[0].alone():
        pass


def test_merging_removes_what_was_left_under_its_key_alone(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, unit_bytes=20_000, parts=2)
    expected = score_run(run, corpus, scheme)
    own = tmp_path / "parts" / scheme.fingerprint
    kept = set(own.iterdir())
    assert any(path.suffix == ".rsx" for path in kept)
    other = tmp_path / "parts" / "another"
    other.mkdir()
    names = ("windows-00000.0.1-2-3.rsx", "windows-00000.0.1-2-3.rsx.1-2-4.tmp", "radscore-5.rsw")
    for path in [folder / name for folder in (own, other) for name in names]:
        path.touch()
    left = [tmp_path / "units" / name for name in ("unit-000000.rsw.1-2-3.tmp", "x.0.piece")]
    for path in left:
        path.touch()
    assert merge(run, scheme) == expected
    assert set(own.iterdir()) == kept
    assert len(list(other.iterdir())) == 3
    assert not any(path.exists() for path in left)


def test_a_corpus_that_changes_while_it_is_read(opened, files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    corpus = rs.open_corpus(tmp_path / "files", dtype="uint16", vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), unit_bytes=20_000, parts=2)
    map_unit(run, 0, corpus)
    ids = np.fromfile(tmp_path / "files" / "a.bin", dtype=np.uint16)
    ids[::-1].tofile(tmp_path / "files" / "a.bin")
    with pytest.raises(StorageError, match=r"a.bin has changed since the run .* was prepared"):
        score_run(run, corpus, keyed())
    assert 1 in run.missing()


@pytest.mark.parametrize(
    ("folder", "side"),
    [("megatron", "u2.idx"), ("hugging_face/picked", "data-00001-of-00002.arrow")],
)
def test_a_file_beside_the_corpus_that_changes(tmp_path, folder, side):
    shutil.copytree(DATA / folder, tmp_path / "files")
    corpus = rs.open_corpus(tmp_path / "files", vocab_size=2**17)
    scheme = replace(keyed(), vocab_size=2**17)
    run = prepare(tmp_path / "run", corpus, scheme, unit_bytes=500, parts=2)
    mapping = steps.Mapping(run, corpus)
    of_two = [
        number for number, unit in enumerate(run.units) if unit.source == len(corpus.sources) - 1
    ]
    assert len(of_two) > 1
    assert mapping.unit(of_two[0])
    (tmp_path / "files" / side).touch()
    with pytest.raises(StorageError, match="or a file beside it, has changed since the run"):
        mapping.unit(of_two[1])


def test_a_file_of_the_year_1970_that_changes(files, tmp_path):
    path = tmp_path / "a.bin"
    shutil.copy(files / "a.bin", path)
    os.utime(path, ns=(0, 0))
    corpus = rs.open_corpus(path, dtype="uint16", vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), unit_bytes=20_000, parts=2)
    mapping = steps.Mapping(run, corpus)
    mapping.unit(0)
    path.touch()
    with pytest.raises(StorageError, match="has changed since the run"):
        mapping.unit(1)


def test_more_files_than_a_process_may_open(opened, tmp_path, monkeypatch):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), unit_bytes=20_000, parts=2)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    says = r"opens \d+ files at once, .* may open 4 .ulimit -Hn"
    with pytest.raises(StorageError, match=says):
        score_run(run, corpus, keyed())


def test_a_damaged_part_is_reduced_again(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), parts=2)
    expected = score_run(run, corpus, keyed())
    part = next((tmp_path / "parts").rglob("windows-00001.json"))
    whole = part.read_text()
    another = part.with_name("windows-00000.json").read_text()
    for damaged in (whole.replace("windows", "windoes"), whole[:99], "[]", "7", "{}", another):
        part.write_text(damaged)
        with pytest.raises(StorageError, match=r"part 1 .* is not reduced under this .* key"):
            merge(run, keyed())
    assert score_run(run, corpus, keyed()) == expected


def test_parts_under_another_key_are_not_taken(opened, tmp_path):
    corpus, other = opened(), keyed("11" * 16)
    run = prepare(tmp_path, corpus, keyed(), parts=2)
    score_run(run, corpus, keyed())
    folder = tmp_path / "parts"
    shutil.copytree(folder / keyed().fingerprint, folder / other.fingerprint)
    with pytest.raises(StorageError, match="not reduced under this scheme and key"):
        merge(run, other)
    assert score_run(run, corpus, other) == rs.score(corpus, other)
    with pytest.raises(ArgumentError, match="stage must be one of windows, units"):
        reduce_part(run, 0, keyed(), stage="unit")


_RUN = """
import sys
import radscore as rs
from radscore.runs import prepare, score_run
from run_schemes import SCHEMES
corpus = rs.open_corpus(sys.argv[1], dtype="uint16", eod=7, vocab_size=60, batch_tokens=3000)
scheme = SCHEMES["sglang"]()
run = prepare(sys.argv[2], corpus, scheme, unit_bytes=15_000, parts=4)
left = int(sys.argv[3])
import os, signal
from radscore.runs import buckets, manifest
original = manifest.write_atomically
def write(path, text):
    global left
    left -= 1
    if left == 0:
        path.with_name(path.name + ".tmp").write_text(text[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, text)
manifest.write_atomically = buckets.write_atomically = write
score_run(run, corpus, scheme)
"""


@pytest.mark.parametrize(
    ("corpus", "steps"),
    [*[("files", n) for n in (1, 3, 12, 16)], *[("small_files", n) for n in (2, 6)]],
)
def test_after_a_kill_the_result_is_the_same(tmp_path, request, corpus, steps):
    files = request.getfixturevalue(corpus)
    environment = {"PYTHONPATH": ":".join([*sys.path, str(files)])}
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    shutil.copy(__file__.replace("test_runs", "run_schemes"), tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, script, files, folder, str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    options = {"dtype": "uint16", "eod": 7, "vocab_size": VOCAB, "batch_tokens": 3000}
    corpus, scheme = rs.open_corpus(files, **options), SCHEMES["sglang"]()
    run = prepare(folder, corpus, scheme, unit_bytes=15_000, parts=4)
    assert score_run(run, corpus, scheme) == rs.score(corpus, scheme)
    parts = [json.loads(path.read_text()) for path in folder.glob("parts/*/windows-*.json")]
    handed_on = {name for part in parts for _, name in part["exchange"]}
    assert {path.name for path in folder.glob("parts/*/*.rsx")} == handed_on
    assert not list(folder.glob("parts/*/*.tmp"))


def test_windows_beyond_memory_go_to_files(tmp_path):
    ids = np.random.default_rng(0).integers(0, 50_000, 10_000_000).astype(np.uint16)
    scheme = rs.Keyed(
        key=rs.Key.from_hex("00" * 16), vocab_size=50_000, gamma=0.25, context_width=2
    )
    written, free = set(), rs.Scorer(scheme)

    def parts():
        for part in np.array_split(ids, 8):
            documents = rs.Documents.of(part)
            free.add(documents)
            yield Part(documents)
            written.update(tmp_path.glob("radscore-*/*.rsw"))

    rules = {"dedup": "unit", "start": None, "prompt_role": "exclude", "filter": None}
    limits = {"memory": "64MiB", "tmp": tmp_path, "threads": None}
    found = steps.score_with_files(parts(), scheme, **limits, **rules)
    assert found == free.result()
    assert len(written) > 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"memory": "1MB"}, "memory must be at least 64MiB"),
        ({"memory": "much"}, "memory must be a size"),
        ({"tmp": "."}, "tmp has no effect without memory"),
        ({"memory": "1GiB", "tmp": "/nowhere"}, "there is no folder /nowhere"),
        ({"memory": "1GiB", "curve": [5]}, "curve= needs all windows in memory"),
    ],
)
def test_limits_that_make_no_sense(options, says):
    with pytest.raises(ArgumentError, match=says):
        rs.score([[1, 2, 3, 4]], keyed(), **options)


def test_sizes():
    sizes = ["1GiB", "1.5 GB", "2k", "3KiB", 70, "5 b"]
    assert [parse_size(size) for size in sizes] == [2**30, 1_500_000_000, 2000, 3072, 70, 5]


def test_a_full_disk_says_so_and_loses_nothing(opened, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "none", small],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small disk")
    try:
        corpus = opened()
        run = prepare(small / "run", corpus, keyed(), unit_bytes=20_000, parts=2)
        with pytest.raises(StorageError, match="the disk is full; (finished work|what was finished) is kept"):
            score_run(run, corpus, keyed())
        done = [unit for unit in range(len(run.units)) if run.marker(unit) is not None]
        assert 0 < len(done) < len(run.units)
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())
    finally:
        subprocess.run(["umount", small], check=False)


def test_prompts_that_exclude_by_a_keyed_seed_are_refused(tmp_path):
    """A run cuts windows without the key; a scorer in memory, or with files, has it."""
    rng = np.random.default_rng(4)
    path = tmp_path / "x.jsonl"
    rows = rng.integers(0, 9, size=(40, 30)).tolist()
    path.write_text("".join(json.dumps({"ids": r[4:], "prompt": r[:4]}) + "\n" for r in rows))
    corpus = rs.open_corpus(path, field="ids", prompt_field="prompt", vocab_size=VOCAB)
    additive = rs.KGW(vocab_size=VOCAB, context_width=2, seeding="additive")
    with pytest.raises(rs.ArgumentError, match="prompts exclude by seed"):
        prepare(tmp_path / "run", corpus, additive)
    keyed = rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=2)
    run = prepare(tmp_path / "run", corpus, keyed)
    with pytest.raises(rs.ArgumentError, match="prompts exclude by seed"):
        run.check_scheme(additive)
    padded = rs.VLLMGumbel(vocab_size=VOCAB, key=1, context_width=2)
    for scheme in (additive, padded, keyed):
        expected = rs.score(corpus, scheme)
        assert 0 < expected.n_excluded < expected.n_windows
        assert rs.score(corpus, scheme, memory="64MiB", tmp=tmp_path) == expected
