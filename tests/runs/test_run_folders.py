"""The folder of a run: what is refused, what is repaired, what is deleted, and by whom."""

import fcntl
import json
import os
import pickle
import resource
import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.errors import ArgumentError, StorageError
from radscore.runs import (
    Run,
    buckets,
    manifest,
    map_shard,
    merge,
    prepare,
    reduce_bucket,
    score_run,
)
from radscore.runs.executors import Resources
from radscore.runs.executors.local import Local
from radscore.runs.scoring import run_in
from radscore.runs.steps import ShardMapper
from run_schemes import SCHEMES, VOCAB, keyed

DATA = Path(__file__).parents[1] / "corpus" / "data"


def test_few_checks_are_repeated(opened, tmp_path, monkeypatch):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    phi = rs.KgramSet.from_kgrams([[a, b] for a in range(40) for b in range(40)], VOCAB)
    run = prepare(tmp_path, corpus, scheme, shard_bytes=20_000, buckets=5, filter=phi)
    counts = Counter()

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*arguments, **options):
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count(type(corpus), "manifest")
    count(rs.KgramSet, "load")
    count(buckets, "checksum_of")
    count(type(run), "marker")
    count(manifest._core, "read_shard_header")
    expected = score_run(run, corpus, scheme)
    assert counts["manifest"] == counts["load"] == 1
    # Each of two stages writes five buckets; the second reads those of the first, merging both.
    assert counts["checksum_of"] == 2 * 5 + 5 + 2 * 5
    # To see what is missing, for the map, for its tokens, for the first stage, and for the notes.
    assert counts["marker"] == 5 * len(run.shards)
    assert counts["read_shard_header"] == 0
    assert score_run(run, corpus, scheme) == expected == rs.score(corpus, scheme, filter=phi)
    assert counts["read_shard_header"] == len(run.shards)
    assert pickle.loads(pickle.dumps(run)) == run


def test_the_file_of_another_shard_is_not_taken(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=1)
    for shard in range(len(run.shards)):
        map_shard(run, shard, corpus)
    shutil.copy(run.shard_path(0), run.shard_path(1))
    assert run.missing() == [1]
    replace(run.marker(0), shard=1).write(run.marker_path(1))
    assert run.missing() == [1]
    with pytest.raises(StorageError, match="is the file of shard 0, not of 1"):
        reduce_bucket(run, 0, keyed())
    for damaged in ("[]", "7", '{"version": 2, "shard": 1, "length": 8, "skipped": {}}', ""):
        run.marker_path(1).write_text(damaged)
        assert run.missing() == [1]
        with pytest.raises(StorageError, match=r"shard 1 of .* is not mapped yet"):
            reduce_bucket(run, 0, keyed())
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rules", "with other rules"),
        ("filter", "with another filter"),
        ("windows", "with other windows"),
        ("shards", "that is cut into other shards"),
        ("corpus", "of another corpus, or the corpus has changed"),
        ("settings", "that reads the corpus in another way"),
    ],
)
def test_a_changed_configuration_is_refused(opened, files, tmp_path, change, says):
    corpus = opened()
    prepare(tmp_path, corpus, keyed(), shard_bytes=20_000)
    options, scheme = {"shard_bytes": 20_000}, keyed()
    if change == "rules":
        options["dedup"] = "window"
    elif change == "filter":
        options["filter"] = rs.KgramSet.from_kgrams([[1, 2]], VOCAB)
    elif change == "windows":
        scheme = SCHEMES["wide"]()
    elif change == "shards":
        options["shard_bytes"] = 30_000
    elif change == "settings":
        corpus = opened(on_error="skip")
    else:
        corpus = rs.open_corpus(files / "a.bin", dtype="uint16", vocab_size=VOCAB)
    with pytest.raises(StorageError, match=f"holds a run {says};"):
        prepare(tmp_path, corpus, scheme, **options)
    run = prepare(tmp_path, corpus, scheme, **options, fresh=True)
    expected = rs.score(
        corpus, scheme, dedup=options.get("dedup", "unit"), filter=options.get("filter")
    )
    assert score_run(run, corpus, scheme) == expected


def test_a_fresh_run_is_not_begun_over_one_that_is_at_work(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path / "run", corpus, keyed())
    with run.locked(), pytest.raises(StorageError, match="another process is working on"):
        prepare(tmp_path / "run", corpus, keyed(), fresh=True)
    map_shard(run, 0, corpus)
    assert prepare(tmp_path / "run", corpus, keyed(), fresh=True).missing() == [0]


def test_files_of_an_older_version_are_refused(opened, tmp_path):
    run = prepare(tmp_path, opened(), keyed())
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**run.content, "version": 4}))
    says = "has version 4, but this radscore reads version 5: delete the folder and prepare"
    with pytest.raises(StorageError, match=says):
        Run.open(tmp_path)
    with pytest.raises(StorageError, match=says):
        prepare(tmp_path, opened(), keyed(), fresh=True)


def test_damaged_shards_are_found_and_named(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=1)
    for shard in range(len(run.shards)):
        map_shard(run, shard, corpus)
    path = run.shard_path(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert run.missing() == [2]
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert run.missing() == []
    with pytest.raises(StorageError, match=r"shard-000002.rsw is damaged: .* to rebuild shard 2"):
        score_run(run, corpus, keyed())
    assert run.missing() == [2]
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())
    for at in (0, 4, 20, 60, 3000):  # its header, after the map
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StorageError, match=r"radscore run map .* --shard 2"):
            reduce_bucket(run, 0, keyed("11" * 16))
        assert run.missing() == [2]
        map_shard(run, 2, corpus)
    manifest = tmp_path / "run.json"
    manifest.write_text(manifest.read_text().replace('"dedup": "unit"', '"dedup": "none"'))
    with pytest.raises(StorageError, match="was altered"):
        type(run).open(tmp_path)


def test_buckets_of_another_division_are_not_taken(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, buckets=2)
    expected = score_run(run, corpus, scheme)
    (tmp_path / "run.json").unlink()
    other = prepare(tmp_path, corpus, scheme, buckets=3)
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
    rs.KgramSet.from_kgrams([[1, 2]], VOCAB).save(tmp_path / "other" / "buckets" / "filter.rkg")
    with pytest.raises(StorageError, match=r"filter.rkg is not the filter"):
        map_shard(other, 0, corpus)


def test_an_exchange_that_is_gone_is_made_again(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, buckets=2)
    expected = score_run(run, corpus, scheme)
    for path in (tmp_path / "buckets").rglob("units-*.json"):
        path.unlink()
    next((tmp_path / "buckets").rglob("*.rsx")).unlink()
    assert score_run(run, corpus, scheme) == expected


def test_one_process_at_a_time_and_nothing_of_others_is_removed(opened, tmp_path):
    run = prepare(tmp_path / "run", opened(), keyed(), more_folders=[tmp_path / "more"])
    (tmp_path / "more" / "mine.txt").write_text("mine")
    with (
        run.locked(),
        pytest.raises(StorageError, match="another process is working on"),
        run.locked(),
    ):
        pass
    (tmp_path / "more" / "logs").mkdir()
    run.discard()
    assert not (tmp_path / "run").exists()
    assert {path.name for path in (tmp_path / "more").iterdir()} == {"mine.txt", "logs"}
    for _ in range(2):  # as where another process has removed it after this one has opened it
        with pytest.raises(StorageError, match="has just deleted"), run.locked():
            pass
        assert not list(tmp_path.glob("run/*"))
        (tmp_path / "run").mkdir(exist_ok=True)


def test_files_that_a_run_has_not_made_are_left_alone(opened, tmp_path):
    """Neither by its names, nor in its folders, nor through links; CWE-59."""
    corpus, scheme = opened(), keyed()
    phi = rs.KgramSet.from_kgrams([[1, 2], [3, 4]], VOCAB)
    base, more, victim = tmp_path / "run", tmp_path / "more", tmp_path / "victim"
    victim.mkdir()
    mine = [victim / "shard-000000.rsw", base / "filter.rkg", base / "logs" / "a.log"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for name in ("shards", "buckets"):
        (base / name).symlink_to(victim)
        with pytest.raises(StorageError, match=f"run/{name} exists already, and is not of a run"):
            prepare(base, corpus, scheme, filter=phi, more_folders=[more])
        (base / name).unlink()
        (base / name).mkdir()
        (base / name / "notes.txt").write_text("mine")
        with pytest.raises(StorageError, match=f"run/{name} exists already, and is not of a run"):
            prepare(base, corpus, scheme, filter=phi, more_folders=[more])
        (base / name / "notes.txt").unlink()
    run = prepare(base, corpus, scheme, filter=phi, more_folders=[more])
    score_run(run, corpus, scheme)
    mine += [base / "shards" / "notes.tmp", more / "shards" / "x.0.piece", more / "mine"]
    mine += [run.buckets_folder(scheme) / "radscore-5.rsw"]
    for path in mine[3:]:
        path.write_text("mine")
    (base / "run.lock").symlink_to(victim / "lock")
    with pytest.raises(StorageError, match=r"run\.lock: exists already, and is not a lock"):
        prepare(base, corpus, scheme, filter=phi, more_folders=[more], fresh=True)
    (base / "run.lock").unlink()
    again = prepare(base, corpus, scheme, filter=phi, more_folders=[more], fresh=True)
    assert score_run(again, corpus, scheme) == rs.score(corpus, scheme, filter=phi)
    again.discard()
    assert all(path.read_text() == "mine" for path in mine)
    left = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".radscore"}
    assert left == set(mine)


@pytest.mark.parametrize("link", ["", "shards"])
def test_links_do_not_stand_for_folders_of_a_run(opened, tmp_path, monkeypatch, link):
    """Its folder has a name that can be known, in a folder that others may write to."""
    made, corpus = tmp_path / "made", opened()
    made.mkdir()
    with score_in(made, corpus) as run:
        name = run.folder.name
    victim = tmp_path / "victim"
    (victim / "shards").mkdir(parents=True)
    (made / name / link).parent.mkdir(exist_ok=True)
    (made / name / link).symlink_to(victim / link)
    with pytest.raises(StorageError, match=r"is a link|is not of a run"), score_in(made, corpus):
        pass
    assert [path.name for path in victim.rglob("*")] == ["shards"]


def score_in(folder, corpus):
    return run_in(folder, corpus, keyed(), Local(None, Resources()), dedup="unit")


@pytest.mark.parametrize("entry", ["notes", "opening", "buckets", "shards", "files", "checksum"])
@pytest.mark.parametrize("change", ["missing", "odd", "other"])
def test_every_entry_of_a_manifest_is_checked(opened, tmp_path, entry, change):
    run = prepare(tmp_path, opened(), keyed())
    content = dict(run.content)
    if change == "missing":
        del content[entry]
    else:
        content[entry] = 1.5 if change == "odd" else _another(content[entry])
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(StorageError, match=r"run\.json (is damaged: .*|was altered: its checksum)"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("shards", [{"x": 1}]),
        ("shards", [7]),
        ("shards", [{"source": 9}]),
        ("files", [[]]),
        ("rules", {}),
        ("windows", {"width": "2"}),
        ("buckets", 0),
        ("partition_bits", 99),
        ("notes", [1]),
        ("opening", {}),
    ],
)
def test_a_manifest_that_was_made_up_is_damaged(opened, tmp_path, entry, value):
    """Its checksums fit."""
    run = prepare(tmp_path, opened(), keyed())
    content = {**run.content, entry: value}
    content["configuration"] = manifest.configuration_of(content)
    (tmp_path / "run.json").write_text(json.dumps(manifest.sealed(content)))
    with pytest.raises(StorageError, match=f"run.json is damaged: '{entry}' is not what it sho"):
        Run.open(tmp_path)


def _another(value):
    changed = {int: 7, list: ["x"], str: "x"}
    return changed.get(type(value), {"x": 1})


def test_every_entry_of_a_marker_is_checked(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000)
    map_shard(run, 0, corpus)
    content = json.loads(run.marker_path(0).read_text())
    for entry in content:
        for odd in ({**content, entry: 7}, {k: v for k, v in content.items() if k != entry}):
            run.marker_path(0).write_text(json.dumps(odd))
            assert run.marker(0) is None, entry


@pytest.mark.parametrize("removed", range(0, 15, 2))
def test_a_run_that_was_not_removed_as_a_whole(opened, tmp_path, monkeypatch, removed):
    corpus, scheme, left = opened(), SCHEMES["sglang"](), [removed]
    run = prepare(tmp_path / "run", corpus, scheme, buckets=2, more_folders=[tmp_path / "more"])
    expected = score_run(run, corpus, scheme)

    def stop(path, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, **options)

    unlink = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            run.discard()
    again = prepare(tmp_path / "run", corpus, scheme, buckets=2, more_folders=[tmp_path / "more"])
    assert score_run(again, corpus, scheme) == expected
    again.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_that_another_process_prepares_while_it_is_removed(opened, tmp_path, monkeypatch):
    corpus, others = opened(), []
    phi = rs.KgramSet.from_kgrams([[a, b] for a in range(30) for b in range(30)], VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), filter=phi)
    expected = rs.score(corpus, keyed(), filter=phi)
    unlink = Path.unlink

    def again(path, **options):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", unlink)
            others.append(prepare(tmp_path / "run", corpus, keyed(), filter=phi))
            unlink(path, **options)
            others.append(prepare(tmp_path / "run", corpus, keyed(), filter=phi))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", again)
        run.discard()
    assert len(others) == 8
    with others[-1].locked():
        assert score_run(others[-1], corpus, keyed()) == expected
        others[-1].discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_of_a_run_that_was_removed_is_none(opened, tmp_path, monkeypatch):
    run, flock = prepare(tmp_path / "run", opened(), keyed()), fcntl.flock

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        run.discard()  # by the process that held the lock when this one opened its file
        others.append(prepare(tmp_path / "run", opened(), keyed()))
        stack.enter_context(others[0].locked())
        flock(file, how)

    others = []
    with ExitStack() as stack:
        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(StorageError, match="another process is working on"), run.locked():
            pass
    with others[0].locked():
        pass


def test_merging_removes_what_was_left_under_its_key_alone(opened, tmp_path):
    corpus, scheme = opened(), SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, shard_bytes=20_000, buckets=2)
    expected = score_run(run, corpus, scheme)
    own = tmp_path / "buckets" / scheme.fingerprint
    kept = set(own.iterdir())
    assert any(path.suffix == ".rsx" for path in kept)
    other = tmp_path / "buckets" / "another"
    other.mkdir()
    exchange = "windows-00000.0.1-0123456789abcdef-3.rsx"
    names = (exchange, f"{exchange}.aB3dE6.tmp", "radscore-5-0123456789abcdef-0.rsw")
    for path in [folder / name for folder in (own, other) for name in names]:
        path.touch()
    piece = f"shard-000000.{'0' * 32}.0.piece"
    left = [tmp_path / "shards" / name for name in (f"shard-000000.rsw.{'x' * 6}.tmp", piece)]
    for path in left:
        path.touch()
    assert merge(run, scheme) == expected
    assert set(own.iterdir()) == kept
    assert len(list(other.iterdir())) == 3
    assert not any(path.exists() for path in left)


@pytest.fixture
def small_files(tmp_path):
    """A hundred files of three lines."""
    folder = tmp_path / "files"
    folder.mkdir()
    for i in range(100):
        lines = [json.dumps({"input_ids": [i % 50, j, 7, 8]}) for j in range(3)]
        (folder / f"{i:03}.jsonl").write_text("\n".join(lines))
    return folder


def test_a_small_file_that_changes_while_its_shard_is_read(small_files, tmp_path):
    corpus = rs.open_corpus(small_files, vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), shard_bytes=3_000)
    mapper = ShardMapper(run, corpus)
    name = corpus.sources[run.shards[1].sources[7]].path
    name.write_text(name.read_text())
    assert mapper.map(0)
    with pytest.raises(StorageError, match=rf"{name.name} has changed since the run"):
        mapper.map(1)
    assert 1 in run.missing()


def test_a_corpus_that_changes_while_it_is_read(opened, files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    corpus = rs.open_corpus(tmp_path / "files", dtype="uint16", vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), shard_bytes=20_000, buckets=2)
    map_shard(run, 0, corpus)
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
    run = prepare(tmp_path / "run", corpus, scheme, shard_bytes=500, buckets=2)
    mapper = ShardMapper(run, corpus)
    of_two = [
        number for number, shard in enumerate(run.shards) if shard.source == len(corpus.sources) - 1
    ]
    assert len(of_two) > 1
    assert mapper.map(of_two[0])
    (tmp_path / "files" / side).touch()
    with pytest.raises(StorageError, match="or a file beside it, has changed since the run"):
        mapper.map(of_two[1])


def test_a_file_of_the_year_1970_that_changes(files, tmp_path):
    path = tmp_path / "a.bin"
    shutil.copy(files / "a.bin", path)
    os.utime(path, ns=(0, 0))
    corpus = rs.open_corpus(path, dtype="uint16", vocab_size=VOCAB)
    run = prepare(tmp_path / "run", corpus, keyed(), shard_bytes=20_000, buckets=2)
    mapper = ShardMapper(run, corpus)
    mapper.map(0)
    path.touch()
    with pytest.raises(StorageError, match="has changed since the run"):
        mapper.map(1)


def test_more_files_than_a_process_may_open(opened, tmp_path, monkeypatch):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=2)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    says = r"opens \d+ files at once, .* may open only 4 here .ulimit -Hn"
    with pytest.raises(StorageError, match=says):
        score_run(run, corpus, keyed())


def test_a_damaged_bucket_is_reduced_again(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), buckets=2)
    expected = score_run(run, corpus, keyed())
    bucket = next((tmp_path / "buckets").rglob("windows-00001.json"))
    whole = bucket.read_text()
    another = bucket.with_name("windows-00000.json").read_text()
    for damaged in (whole.replace("windows", "windoes"), whole[:99], "[]", "7", "{}", another):
        bucket.write_text(damaged)
        with pytest.raises(StorageError, match=r"bucket 1 .* is not reduced yet under this .* key"):
            merge(run, keyed())
    assert score_run(run, corpus, keyed()) == expected


def test_buckets_under_another_key_are_not_taken(opened, tmp_path):
    corpus, other = opened(), keyed("11" * 16)
    run = prepare(tmp_path, corpus, keyed(), buckets=2)
    score_run(run, corpus, keyed())
    folder = tmp_path / "buckets"
    shutil.copytree(folder / keyed().fingerprint, folder / other.fingerprint)
    with pytest.raises(StorageError, match="not reduced yet under this scheme and key"):
        merge(run, other)
    assert score_run(run, corpus, other) == rs.score(corpus, other)
    with pytest.raises(ArgumentError, match="stage must be one of windows, units"):
        reduce_bucket(run, 0, keyed(), stage="unit")


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
        run = prepare(small / "run", corpus, keyed(), shard_bytes=20_000, buckets=2)
        with pytest.raises(StorageError, match="the disk is full; finished work is kept"):
            score_run(run, corpus, keyed())
        done = [shard for shard in range(len(run.shards)) if run.marker(shard) is not None]
        assert 0 < len(done) < len(run.shards)
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())
    finally:
        subprocess.run(["umount", small], check=False)
