"""`rs.score(memory=)`: runs that continue, and documents that come once, with equal results."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.documents import Documents
from radscore.errors import ArgumentError, StorageError, TokenError
from radscore.progress import Progress
from radscore.runs import prepare, shards, steps, stream
from run_schemes import SCHEMES, VOCAB, keyed

RNG = np.random.default_rng(23)
DOCS = [RNG.integers(0, 50, size=n).tolist() for n in RNG.integers(0, 90, size=200)]


@pytest.mark.parametrize("dedup", ["unit", "window", "context", "none"])
@pytest.mark.parametrize("name", SCHEMES)
def test_documents_in_memory(tmp_path, monkeypatch, name, dedup):
    """Slices and shards that end anywhere, inside documents too."""
    monkeypatch.setattr(shards, "_SLICE", 41)
    monkeypatch.setattr(stream.Collector, "full", property(lambda self: self._core.n_bytes > 9_000))
    scheme = SCHEMES[name]()
    docs = Documents.of(DOCS)
    docs = Documents(docs.values, docs.offsets[3:-2])
    expected = repr(rs.score(docs, scheme, dedup=dedup))
    assert repr(rs.score(docs, scheme, dedup=dedup, memory="64MiB", tmp=tmp_path)) == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", [None, 0, 5, 70])
def test_long_documents_are_cut_anywhere(tmp_path, monkeypatch, start):
    monkeypatch.setattr(shards, "_SLICE", 37)
    scheme = rs.VLLMGumbel(key=5, vocab_size=VOCAB, context_width=3)
    docs = [RNG.integers(0, 50, n).tolist() for n in (37, 38, 1, 500, 0, 74)]
    expected = rs.score(docs, scheme, start=start)
    assert rs.score(docs, scheme, start=start, memory="64MiB", tmp=tmp_path) == expected
    assert expected.n_documents == 6


def test_prompts_and_filters_of_documents_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SLICE", 50)
    rows = RNG.integers(0, 9, size=(80, 34))
    docs, prompts = rows[:, 4:].tolist(), rows[:, :4].tolist()
    docs[7] = (docs[7] * 9)[:255]
    phi = rs.KgramSet.from_kgrams(RNG.integers(0, 9, size=(60, 2)), VOCAB)
    additive = rs.KGW(vocab_size=VOCAB, context_width=2, seeding="additive")
    for scheme, options in (
        (keyed(), {"prompt_role": "exclude", "filter": phi}),
        (keyed(), {"prompt_role": "context", "filter": phi}),
        (additive, {}),  # whose prompts exclude by seeds
    ):
        expected = rs.score(docs, scheme, prompts=prompts, **options)
        found = rs.score(docs, scheme, prompts=prompts, memory="64MiB", tmp=tmp_path, **options)
        assert found == expected
    for wrong in (prompts[:-1], [*prompts, [1]]):
        with pytest.raises(ArgumentError, match=f"there are {len(wrong)} prompts for 80 documents"):
            rs.score(docs, keyed(), prompts=wrong, memory="64MiB", tmp=tmp_path)


def test_more_windows_than_memory(tmp_path, monkeypatch):
    ids = np.random.default_rng(0).integers(0, 50_000, 6_000_000).astype(np.uint16)
    scheme = rs.Keyed(key=bytes(16), vocab_size=50_000, gamma=0.25, context_width=2)
    written, write = [], stream.Collector.write
    monkeypatch.setattr(
        stream.Collector, "write", lambda *args: written.append(args[1]) or write(*args)
    )
    found = rs.score(ids, scheme, memory="64MiB", tmp=[tmp_path])
    assert len(written) > 1
    assert found == rs.score(ids, scheme)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("streamed", [False, True])
def test_data_sets_without_files(tmp_path, streamed):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"tokens": DOCS[:50]})
    made = made.to_iterable_dataset() if streamed else made
    seen = []
    expected = rs.score(made, keyed())
    options = {"memory": "64MiB", "tmp": tmp_path, "progress": seen.append}
    assert rs.score(made, keyed(), **options) == expected
    assert seen[-1].tokens == sum(map(len, DOCS[:50]))
    with pytest.raises(ArgumentError, match="executor='processes' needs a corpus of files"):
        rs.score(made, keyed(), executor="processes", tmp=tmp_path)


def test_prompts_of_a_corpus_that_exclude_by_a_keyed_seed(tmp_path):
    """A run cuts windows without the key; documents that come once are cut with it."""
    path = tmp_path / "x.jsonl"
    rows = RNG.integers(0, 9, size=(40, 30)).tolist()
    path.write_text("".join(json.dumps({"ids": r[4:], "prompt": r[:4]}) + "\n" for r in rows))
    corpus = rs.open_corpus(path, field="ids", prompt_field="prompt", vocab_size=VOCAB)
    additive = rs.KGW(vocab_size=VOCAB, context_width=2, seeding="additive")
    with pytest.raises(ArgumentError, match="prompts exclude windows by their seeds"):
        prepare(tmp_path / "run", corpus, additive)
    run = prepare(tmp_path / "run", corpus, keyed())
    with pytest.raises(ArgumentError, match="prompts exclude windows by their seeds"):
        run.check_scheme(additive)
    padded = rs.VLLMGumbel(vocab_size=VOCAB, key=1, context_width=2)
    for scheme in (additive, padded, keyed()):
        expected = rs.score(corpus, scheme)
        assert 0 < expected.n_excluded < expected.n_windows
        assert rs.score(corpus, scheme, memory="64MiB", tmp=tmp_path) == expected


def test_an_interrupted_call_continues_and_fresh_starts_over(opened, tmp_path, monkeypatch):
    corpus, scheme = opened(), keyed()
    expected = rs.score(corpus, scheme)
    mapped, map_ = [], steps.ShardMapper.map
    monkeypatch.setattr(
        steps.ShardMapper, "map", lambda *args: mapped.append(args[1]) or map_(*args)
    )
    calls = []

    def score(**options):
        calls.clear()
        mapped.clear()
        options = {"memory": "64MiB", "tmp": tmp_path, "progress": calls.append} | options
        return rs.score(corpus, scheme, **options)

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(progress=stop)
    with pytest.raises(StorageError, match=r"holds a run with other windows; .* fresh=True"):
        score(start=9)
    assert score(fresh=True) == expected
    assert mapped
    with pytest.raises(KeyboardInterrupt):
        score(progress=stop)
    assert score() == expected
    assert not mapped
    assert calls[0].done == 3
    assert calls[-1] == Progress(calls[0].total, calls[0].total, expected.n_tokens)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_temporary_files_is_this_users_own(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"radscore-{os.getuid()}"
    assert rs.score(opened(), keyed(), memory="64MiB") == rs.score(opened(), keyed())
    assert own.stat().st_mode & 0o777 == 0o700
    assert not list(own.iterdir())
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(StorageError, match="belongs to another user; name a folder with tmp="):
        rs.score(opened(), keyed(), memory="64MiB")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"memory": "1MB"}, "memory must be at least 64MiB"),
        ({"memory": "much"}, "memory must be a size"),
        ({"memory": "99999999T"}, "memory must be below 4194304TiB, not '99999999T'"),
        ({"memory": "9" * 400}, "memory must be below"),
        ({"memory": 10**5000}, "memory must be below"),
        ({"tmp": "."}, "tmp= has no effect without memory="),
        ({"memory": "1GiB", "tmp": "/nowhere"}, "there is no folder /nowhere"),
        ({"memory": "1GiB", "curve": [5]}, "curve= needs all windows in memory"),
        ({"memory": "1GiB", "fresh": True}, "fresh=True needs a corpus of files"),
        ({"executor": "local"}, "executor='local' needs a corpus of files"),
    ],
)
def test_limits_that_make_no_sense(options, says):
    with pytest.raises(ArgumentError, match=says):
        rs.score(DOCS, keyed(), **options)


def test_what_is_wrong_with_documents_is_said_as_in_memory(tmp_path):
    for docs in ([[1, 2], [3, VOCAB]], [[1]], []):
        with pytest.raises(TokenError) as expected:
            rs.score(docs, keyed())
        with pytest.raises(TokenError) as found:
            rs.score(docs, keyed(), memory="64MiB", tmp=tmp_path)
        assert str(found.value) == str(expected.value)
    assert not list(Path(tmp_path).iterdir())
