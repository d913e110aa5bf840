"""Bad records and damaged files, in shards of any size and in shards of many files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.corpus import SkipReport
from radscore.errors import CorpusError
from radscore.runs.shards import Shard, cut_shards
from run_schemes import VOCAB, keyed
from shard_files import (
    DOCS,
    KINDS,
    PLAIN,
    SIZES,
    documents,
    documents_of_shards,
    score,
    score_of_shards,
    write,
    write_many,
)

# Bad records: the same places are named, and the same number is left out.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [0, 1, 60, 149])
def test_errors_name_the_place_in_the_file(tmp_path, kind, bad):
    docs = [*DOCS[:bad], [1, 2, VOCAB - 1, VOCAB, 3], *DOCS[bad + 1 :]]
    path, options = write(tmp_path, kind, docs)
    corpus = rs.open_corpus(path, **PLAIN, **options)
    with pytest.raises(CorpusError) as expected:
        list(corpus)
    if kind == "bin":  # cut anywhere, so that the error may name a part of the document
        return
    for size in SIZES:
        with pytest.raises(CorpusError) as found:
            score_of_shards(corpus, keyed(), size)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_records_are_counted_once(tmp_path, kind):
    docs = [[*doc[:3], VOCAB] if i % 11 == 4 else doc for i, doc in enumerate(DOCS)]
    path, options = write(tmp_path, kind, docs)
    corpus = rs.open_corpus(path, on_error="skip", **PLAIN, **options)
    expected, report = documents(corpus)
    assert report.count == 14
    for size in SIZES:
        found, skipped = documents_of_shards(corpus, size)
        assert found == expected
        assert skipped == report
        assert score_of_shards(corpus, keyed(), size) == (score(corpus, keyed()), skipped)
    several = len(cut_shards(corpus, 100)) > 1
    assert several == (kind in ("jsonl", "mds", "bin"))


@pytest.mark.parametrize(
    "kind", ["parquet", "file.arrow", "stream.arrow", "jsonl.gz", "mds", "npy"]
)
def test_a_damaged_file_is_counted_once(tmp_path, kind):
    path, _ = write(tmp_path, kind, DOCS)
    write(tmp_path, "jsonl", DOCS)
    if kind == "npy":
        path.write_bytes(b"\x93NUMPY" + bytes(3000))
    else:
        shard = path / "shard.00000.mds" if kind == "mds" else path
        data = bytearray(shard.read_bytes())
        middle = slice(0, 40) if kind == "mds" else slice(len(data) // 2, len(data) // 2 + 600)
        data[middle] = b"\xff" * len(data[middle])
        shard.write_bytes(data)
    corpus = rs.open_corpus(tmp_path, field="tokens", on_error="skip", **PLAIN)
    expected, report = documents(corpus)
    assert report.files == 1
    for size in SIZES:
        found, skipped = documents_of_shards(corpus, size)
        assert found == expected
        assert skipped == report
    if kind in ("parquet", "file.arrow", "stream.arrow"):
        with pytest.raises(CorpusError, match=kind):
            score_of_shards(rs.open_corpus(path, **PLAIN), keyed(), 50)


def test_a_bad_end_of_an_index_in_the_middle(tmp_path):
    """What stands after it is lost, so this file is not cut where damage is skipped."""
    path = tmp_path / "x.ds"
    np.arange(3_000).astype("<u2").tofile(path)
    ends = np.arange(30, 3_001, 30)
    ends[50] = 7
    Path(f"{path}.index").write_bytes(ends.astype("<u8").tobytes())
    corpus = rs.open_corpus(path, batch_tokens=100, on_error="skip")
    expected, report = documents(corpus)
    assert (report.files, len(cut_shards(corpus, 1_000))) == (1, 1)
    found, skipped = documents_of_shards(corpus, 1_000)
    assert (found, skipped) == (expected, report)
    with pytest.raises(CorpusError, match=r"document 50 runs from token 1500 to 7"):
        documents_of_shards(rs.open_corpus(path, batch_tokens=100), 1_000)


# Many small files


def test_many_small_files_are_few_shards(tmp_path):
    corpus = rs.open_corpus(write_many(tmp_path, DOCS), **PLAIN)
    expected = score(corpus, keyed(), start=3)
    n_files, sizes = len(corpus.sources), [source.size for source in corpus.sources]
    assert n_files == 55
    for size in (1, 200, max(sizes), 5_000, 20_000, corpus.total_bytes - 1, 10**9):
        shards = cut_shards(corpus, size)
        assert documents_of_shards(corpus, size) == documents(corpus)
        assert score_of_shards(corpus, keyed(), size, start=3) == (expected, SkipReport())
        if size >= max(sizes):
            assert [number for shard in shards for number in shard.sources] == list(range(n_files))
            assert all(sum(sizes[i] for i in shard.sources) <= size for shard in shards)
            assert len(shards) <= 2 * corpus.total_bytes / size + 1
        for shard in shards:
            assert Shard(**json.loads(json.dumps(shard.to_dict()))) == shard
    assert len(cut_shards(corpus, 10**9)) == 1


def test_small_files_around_large_ones(tmp_path):
    """Neither a piece of a file that is cut nor what tells no size is joined with others."""
    small, large = DOCS[:2], DOCS * 4
    for i, docs in enumerate([small, small, large, [], small, large, small]):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), "bin" if i == 5 else "jsonl", docs)
    corpus = rs.open_corpus(tmp_path, dtype="uint16", eod=58, **PLAIN)
    expected = score(corpus, keyed())
    shards = cut_shards(corpus, 2_000)
    assert shards[0] == Shard(0, n_sources=2)
    assert Shard(3, n_sources=2) in shards
    assert shards[-1] == Shard(6)
    assert {shard.source for shard in shards if shard.start or shard.end} == {2, 5}
    assert score_of_shards(corpus, keyed(), 2_000)[0] == expected
    assert score_of_shards(corpus, keyed(), 10**9)[0] == expected


def test_objects_that_tell_no_size_are_shards_of_their_own(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"tokens": DOCS[:20]})
    other = datasets.Dataset.from_dict({"tokens": DOCS[20:40]})
    path, _ = write(tmp_path, "jsonl", DOCS[40:])
    streams = [made.to_iterable_dataset(), other.to_iterable_dataset()]
    corpus = rs.open_corpus([path, streams[0], made, other, path, streams[1]], **PLAIN)
    shards = cut_shards(corpus, 10**9)
    numbers = {str(source.path): i for i, source in enumerate(corpus.sources)}
    alone = [i for name, i in numbers.items() if name.startswith("Iterable")]
    assert all(Shard(i) in shards for i in alone)
    assert any(shard.n_sources > 1 for shard in shards)
    assert score_of_shards(corpus, keyed(), 10**9)[0] == score(corpus, keyed())


def test_prompts_of_small_files(tmp_path):
    for i, doc in enumerate(DOCS[:40]):
        records = [{"tokens": doc, "p": doc[:i]}, {"tokens": doc[:i], "p": doc}]
        path = tmp_path / f"{i:02}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = rs.open_corpus(tmp_path, field="tokens", prompt_field="p", **PLAIN)
    for role in ("exclude", "context"):
        expected = score(corpus, keyed(), prompt_role=role)
        for size in (100, 700, 10**9):
            found = score_of_shards(corpus, keyed(), size, prompt_role=role)[0]
            assert replace(found, notes=()) == expected
            assert documents_of_shards(corpus, size) == documents(corpus)


def test_what_is_wrong_in_small_files(tmp_path):
    """Skipped records and files are counted once, in their order."""
    docs = [[*doc[:3], VOCAB] if i % 11 == 4 else doc for i, doc in enumerate(DOCS)]
    write_many(tmp_path, docs)
    for damaged in ("003/x.parquet", "042/x.file.arrow", "081/x.jsonl.gz"):
        path = tmp_path / damaged
        path.write_bytes(path.read_bytes()[:-30])
    corpus = rs.open_corpus(tmp_path, field="tokens", on_error="skip", **PLAIN)
    expected, report = documents(corpus)
    assert report.files == 3
    assert report.count > 9
    assert len(report.examples) == 5
    for size in (1, 300, 3_000, 10**9):
        assert documents_of_shards(corpus, size) == (expected, report)
        assert score_of_shards(corpus, keyed(), size) == (score(corpus, keyed()), report)


@pytest.mark.parametrize("bad", [1, 19, 23, 132])
def test_an_error_names_its_small_file(tmp_path, bad):
    corpus = rs.open_corpus(write_many(tmp_path, [*DOCS[:bad], [VOCAB], *DOCS[bad + 1 :]]), **PLAIN)
    with pytest.raises(CorpusError) as expected:
        list(corpus)
    assert f"/{bad // 3 * 3:03}/x." in str(expected.value)
    for size in (1, 700, 10**9):
        with pytest.raises(CorpusError) as found:
            score_of_shards(corpus, keyed(), size)
        assert str(found.value) == str(expected.value)
