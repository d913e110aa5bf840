"""A run in steps gives what one scorer in memory gives."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import radscore as rs
from radscore.errors import ArgumentError, StorageError
from radscore.progress import Progress
from radscore.runs import map_shard, merge, parse_size, prepare, reduce_bucket, score_run
from radscore.runs.shards import ShardReading, cut_shards
from run_schemes import SCHEMES, VOCAB, keyed


@pytest.mark.parametrize("dedup", ["unit", "window", "context", "none"])
@pytest.mark.parametrize("name", SCHEMES)
def test_any_shards_buckets_and_limits(opened, tmp_path, name, dedup):
    corpus, scheme = opened(), SCHEMES[name]()
    expected = repr(rs.score(corpus, scheme, dedup=dedup))  # a p-value may be no number
    assert repr(rs.score(corpus, scheme, dedup=dedup, memory="64MiB", tmp=tmp_path)) == expected
    assert not list(tmp_path.iterdir())
    for number, (shard_bytes, buckets, bits) in enumerate([(10**9, 1, 12), (9_001, 3, 5)]):
        more = [tmp_path / "more"]
        run = prepare(
            tmp_path / f"run{number}",
            corpus,
            scheme,
            dedup=dedup,
            shard_bytes=shard_bytes,
            buckets=buckets,
            partition_bits=bits,
            more_folders=more,
        )
        assert repr(score_run(run, corpus, scheme, memory="64MiB", threads=2)) == expected
        shutil.rmtree(more[0])


@pytest.mark.parametrize("eod", [7, None, 59])
@pytest.mark.parametrize("start", [None, 0, 5, 40])
def test_shards_cut_documents_exactly(opened, tmp_path, eod, start):
    corpus = opened(eod)
    scheme = rs.VLLMGumbel(key=5, vocab_size=VOCAB, context_width=3)
    expected = rs.score(corpus, scheme, start=start)
    for shard_bytes in (10_001, 40_000):
        run = prepare(
            tmp_path / str(shard_bytes),
            corpus,
            scheme,
            start=start,
            shard_bytes=shard_bytes,
            buckets=2,
        )
        assert len(run.shards) > 4
        assert score_run(run, corpus, scheme) == expected


@pytest.mark.parametrize("name", ["synthid", "sbw"])
def test_padding_reaches_the_shards(opened, tmp_path, name):
    """Each scheme's own padding, whatever scheme of the kind cuts the windows."""
    corpus, start = opened(7), 0
    scheme = SCHEMES[name]()
    expected = rs.score(corpus, scheme, start=start)
    assert expected.n_windows == expected.n_tokens
    run = prepare(tmp_path / "run", corpus, scheme, start=start, shard_bytes=20_001, buckets=2)
    assert score_run(run, corpus, scheme) == expected
    with pytest.raises(ArgumentError, match=r"the run holds windows of .* padded with"):
        run.check_scheme(rs.Keyed(key=bytes(16), vocab_size=VOCAB, context_width=3))


@pytest.fixture(scope="session")
def small_files(tmp_path_factory):
    """A hundred files of a few lines."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(8)
    for i in range(100):
        lines = [
            json.dumps({"input_ids": rng.integers(0, 50, rng.integers(30)).tolist()})
            for _ in "1234"
        ]
        (folder / f"{i:03}.jsonl").write_text("\n".join(lines[: i % 4 + 1]))
    return folder


@pytest.mark.parametrize("shard_bytes", [100, 1_000, 10**9])
def test_many_small_files(small_files, tmp_path, shard_bytes):
    corpus = rs.open_corpus(small_files, vocab_size=VOCAB)
    scheme = SCHEMES["sglang"]()
    run = prepare(tmp_path, corpus, scheme, shard_bytes=shard_bytes, buckets=3)
    assert len(run.shards) <= 2 * corpus.total_bytes / shard_bytes + 1
    for shard in range(len(run.shards)):
        assert map_shard(run, shard, corpus)
    for stage in ("windows", "units"):
        for bucket in range(3):
            assert reduce_bucket(run, bucket, scheme, stage=stage)
    assert merge(run, scheme) == rs.score(corpus, scheme)


def test_an_end_of_document_outside_the_vocabulary(tmp_path):
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 50, size=20_000).astype(np.uint16)
    ids[rng.random(len(ids)) < 0.02] = 60_000
    ids[3_450:3_560] = 60_000  # around a cut: documents without a token
    ids.tofile(tmp_path / "a.bin")
    corpus = rs.open_corpus(
        tmp_path / "a.bin", dtype="uint16", eod=60_000, vocab_size=VOCAB, batch_tokens=999
    )
    run = prepare(tmp_path / "run", corpus, keyed(), shard_bytes=7_000, buckets=2)
    assert score_run(run, corpus, keyed()) == rs.score(corpus, keyed())


def test_shards_hold_every_document_once(opened):
    corpus = opened()
    whole = sum(batch.documents.n_tokens for batch in corpus)
    for shard_bytes in (5_000, 33_333, 10**9):
        total = 0
        for shard in cut_shards(corpus, shard_bytes):
            for part in ShardReading(corpus, shard, 5):
                first, last = part.tokens or (0, part.documents.n_tokens)
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
        run = prepare(tmp_path / role, corpus, keyed(), buckets=2, shard_bytes=3_000, **options)
        assert len(run.shards) > 5
        expected = rs.score(corpus, keyed(), **options)
        assert expected.n_filtered
        assert bool(expected.n_excluded) == (role == "exclude")
        assert score_run(run, corpus, keyed()) == expected


def test_other_keys_do_not_read_the_corpus_again(opened, tmp_path, monkeypatch):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=2)
    score_run(run, corpus, keyed())
    expected = {name: rs.score(corpus, SCHEMES[name]()) for name in ("kgw", "sglang", "additive")}
    monkeypatch.setattr(type(corpus), "checked_chunks", None)
    for name, result in expected.items():
        assert score_run(run, corpus, SCHEMES[name]()) == result
    with pytest.raises(ArgumentError, match="the run holds windows of 3 tokens over 60 ids"):
        reduce_bucket(run, 0, SCHEMES["wide"]())


def test_what_is_done_is_not_done_again(opened, tmp_path):
    corpus = opened()
    run = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=2)
    assert run.missing() == list(range(len(run.shards)))
    assert map_shard(run, 1, corpus)
    assert not map_shard(run, 1, corpus)
    assert map_shard(run, 1, corpus, fresh=True)
    assert 1 not in run.missing()
    with pytest.raises(StorageError, match=r"shard 0 of .* is not mapped yet"):
        reduce_bucket(run, 0, keyed())
    with pytest.raises(StorageError, match=r"bucket 0 .* is not reduced yet"):
        merge(run, keyed())
    score_run(run, corpus, keyed())
    assert not reduce_bucket(run, 1, keyed())
    assert reduce_bucket(run, 1, keyed(), fresh=True)
    again = prepare(tmp_path, corpus, keyed(), shard_bytes=20_000, buckets=2)
    assert again.content == run.content


def test_progress_counts_steps_and_tokens_of_earlier_calls_too(opened, tmp_path):
    corpus, scheme, seen = opened(), SCHEMES["sglang"](), []
    run = prepare(tmp_path, corpus, scheme, shard_bytes=20_000, buckets=2)
    assert map_shard(run, 0, corpus)
    result = score_run(run, corpus, scheme, progress=seen.append)
    total = len(run.shards) + 2 * 2
    assert [(step.done, step.total) for step in seen] == [(n, total) for n in range(1, total + 1)]
    assert 0 < seen[0].tokens < seen[1].tokens
    assert {step.tokens for step in seen[len(run.shards) - 1 :]} == {result.n_tokens}
    again = []
    assert score_run(run, corpus, scheme, progress=again.append) == result
    assert again == [Progress(total, total, result.n_tokens)]


_RUN = """
import sys
import radscore as rs
from radscore.runs import prepare, score_run
from run_schemes import SCHEMES
corpus = rs.open_corpus(sys.argv[1], dtype="uint16", eod=7, vocab_size=60, batch_tokens=3000)
scheme = SCHEMES["sglang"]()
run = prepare(sys.argv[2], corpus, scheme, shard_bytes=15_000, buckets=4)
left = int(sys.argv[3])
import os, signal
from radscore.runs import buckets, markers
original = markers.write_atomically
def write(path, text):
    global left
    left -= 1
    if left == 0:
        path.with_name(path.name + ".tmp").write_text(text[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, text)
markers.write_atomically = buckets.write_atomically = write
score_run(run, corpus, scheme)
"""


@pytest.mark.parametrize(
    ("corpus", "steps"),
    [("files", 1), ("files", 3), ("files", 10), ("files", 14), ("small_files", 2)],
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
    run = prepare(folder, corpus, scheme, shard_bytes=15_000, buckets=4)
    assert score_run(run, corpus, scheme) == rs.score(corpus, scheme)
    buckets = [json.loads(path.read_text()) for path in folder.glob("buckets/*/windows-*.json")]
    handed_on = {name for bucket in buckets for _, name in bucket["exchange"]}
    assert {path.name for path in folder.glob("buckets/*/*.rsx")} == handed_on
    assert not list(folder.glob("buckets/*/*.tmp"))


def test_sizes():
    sizes = ["1GiB", "1.5 GB", "2k", "3KiB", 70, "5 b"]
    assert [parse_size(size) for size in sizes] == [2**30, 1_500_000_000, 2000, 3072, 70, 5]
