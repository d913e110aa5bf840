"""What a folder holds besides what is read is named, unless it is no part of a data set."""

import bz2
import json
import lzma
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.folders import is_no_data
from radscore.errors import CorpusError

DATA = Path(__file__).parent / "data"
LINE = b'{"input_ids": [1, 2, 3]}\n'


def fill(folder, *names, content=LINE):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def n_documents(corpus):
    return sum(len(batch) for batch in corpus)


def unread(corpus):
    return [note for note in corpus.notes if "not read" in note]


def test_all_that_can_be_decompressed_is_read(tmp_path):
    # lm_dataformat PR 4: part of a folder is packed, and was left out without a word.
    fill(tmp_path, "a.jsonl")
    fill(tmp_path, "b.jsonl.bz2", content=bz2.compress(LINE))
    fill(tmp_path, "sub/c.jsonl.xz", content=lzma.compress(LINE))
    corpus = open_corpus(tmp_path)
    assert n_documents(corpus) == 3
    assert corpus.notes == ()


def test_what_nothing_reads_is_named_and_counted(tmp_path):
    fill(tmp_path, "a.jsonl", "x.tar", "sub/y.unknown", "sub/z.parquet.7z")
    corpus = open_corpus(tmp_path)
    assert n_documents(corpus) == 1
    note = (
        f"{tmp_path}: 3 files not read: x.tar, {Path('sub/y.unknown')}, {Path('sub/z.parquet.7z')}"
    )
    assert corpus.notes == (note,)
    assert note in inspect_corpus(tmp_path).warnings
    fill(tmp_path, *(f"{i:02}.rar" for i in range(20)))
    (note,) = unread(open_corpus(tmp_path))
    assert note.startswith(f"{tmp_path}: 23 files not read: 00.rar, 01.rar, 02.rar, 03.rar and 19 ")
    assert ".rar: 20" in note
    shutil.rmtree(tmp_path / "sub")
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(
        CorpusError, match=r"no file in this folder ends in .*21 files not read: 00"
    ):
        open_corpus(tmp_path)


def test_what_is_no_part_of_a_data_set_is_not(tmp_path):
    names = [
        *("README.md", "LICENSE", "requirements.txt", "_SUCCESS", ".part.crc", "a.jsonl.crc"),
        *("dataset.lock", "cache-0f3a.arrow", "tokenizer.json", "tokenizer.model", "vocab.json"),
        *("config.json", "special_tokens_map.json", "dataset_info.json", "model.index.json"),
        *("merges.txt", "prepare.py", "run.log", "SHA256SUMS", ".cache/x.jsonl", "_tmp/x.jsonl"),
    ]
    fill(tmp_path, "a.jsonl", *names)
    corpus = open_corpus(tmp_path)
    assert n_documents(corpus) == 1
    assert corpus.notes == ()
    assert [path.name for path in (source.path for source in corpus.sources)] == ["a.jsonl"]
    assert n_documents(open_corpus([tmp_path, tmp_path / "vocab.json"])) == 2  # named, so meant
    assert not any(map(is_no_data, ("a.txt", "train.csv", "part-0", "x.npz", "text.bin")))


def test_side_files_are_not_named(tmp_path):
    for layout in ("megatron", "datatrove", "dolma"):
        shutil.copytree(DATA / layout, tmp_path / layout)
        extra = [path for path in (tmp_path / layout).iterdir() if path.suffix == ".json"]
        for path in extra:
            path.unlink()
        assert unread(open_corpus(tmp_path / layout)) == []


def test_what_an_index_does_not_list_is_named(tmp_path):
    for layout, extra in (
        ("mds/packed_zstd", "shard.00009.mds.zstd"),
        ("litdata/tokens_i4", "chunk-7-0.bin"),
        ("hugging_face/plain", "data-9.arrow"),
    ):
        folder = tmp_path / layout
        shutil.copytree(DATA / layout, folder)
        corpus = open_corpus(folder)
        assert unread(corpus) == []
        fill(folder, extra, "cache-1.arrow")
        assert unread(open_corpus(folder)) == [f"{folder}: 1 file not read: {extra}"]
        assert open_corpus(folder).sources == corpus.sources
    folder = tmp_path / "mds/packed_zstd"
    (folder / "shard.00009.mds.zstd").unlink()
    fill(folder, "shard.00000.mds")  # what streaming leaves when it has decompressed a shard
    assert unread(open_corpus(folder, on_error="skip")) == []


def test_arrays_beside_other_data_are_named(tmp_path):
    fill(tmp_path, "a.jsonl")
    np.savez(tmp_path / "statistics.npz", mean=np.zeros(3))
    assert unread(open_corpus(tmp_path)) == [f"{tmp_path}: 1 file not read: statistics.npz"]
    (tmp_path / "a.jsonl").unlink()
    np.savez(tmp_path / "statistics.npz", np.arange(3), np.arange(4))
    assert n_documents(open_corpus(tmp_path)) == 2


def test_several_splits_are_named(tmp_path):
    fill(tmp_path, "data/train-0.jsonl", "data/train-1.jsonl", "data/test-0.jsonl", "x.jsonl")
    (note,) = open_corpus(tmp_path).notes
    assert note.startswith(f"{tmp_path}: several splits are read together: test (1 file), train (2")
    assert open_corpus(tmp_path / "data/train-0.jsonl").notes == ()
    assert open_corpus(str(tmp_path / "data/train-*")).notes == ()
    other = fill(tmp_path / "train_and_test", "train.jsonl", "constraint.jsonl", "latest.jsonl")
    assert open_corpus(other).notes == ()
    third = tmp_path / "third"
    for split in ("train", "dev"):
        (third / split).mkdir(parents=True)
        pq.write_table(pa.table({"input_ids": [[1]]}), third / split / "0.parquet")
    assert "train (1 file), validation (1 file)" in open_corpus(third).notes[0]


def test_copies_of_one_file_are_named(tmp_path):
    fill(tmp_path, "a.jsonl", "b.jsonl", "sub/a.jsonl")
    assert open_corpus(tmp_path).notes == ()
    fill(tmp_path, "a.jsonl.bz2", content=bz2.compress(LINE))
    (note,) = open_corpus(tmp_path).notes
    assert note.endswith("maybe twice the same: a.jsonl, a.jsonl.bz2")


def test_parquet_files_that_litdata_lists(tmp_path):
    # litdata's index_parquet_dataset: the chunks are the Parquet files themselves.
    pq.write_table(pa.table({"input_ids": [[1, 2]]}), tmp_path / "0.parquet")
    chunks = [{"filename": "0.parquet", "chunk_bytes": 9, "chunk_size": 1, "dim": None}]
    config = {"item_loader": "ParquetLoader", "data_spec": None, "data_format": ["String"]}
    (tmp_path / "index.json").write_text(json.dumps({"chunks": chunks, "config": config}))
    assert n_documents(open_corpus(tmp_path)) == 1


def test_links_to_folders_and_folders_that_cannot_be_read(tmp_path):
    fill(tmp_path, "corpus/a.jsonl", "elsewhere/b.jsonl")
    corpus = tmp_path / "corpus"
    (corpus / "more").symlink_to(tmp_path / "elsewhere")
    assert unread(open_corpus(corpus)) == [f"{corpus}: 1 file not read: more"]
    (corpus / "more").unlink()
    os.mkfifo(corpus / "pipe.jsonl")
    with pytest.raises(CorpusError, match=r"pipe\.jsonl: not a regular file"):
        open_corpus(corpus)


def test_notes_of_folders_are_in_results(tmp_path):
    import radscore as rs

    folder = tmp_path / "x"
    fill(folder, "a.jsonl", "b.zip", content=json.dumps({"input_ids": [*range(50)]}).encode())
    scheme = rs.Keyed(key=rs.Key.generate(), vocab_size=99, gamma=0.25, context_width=1)
    note = f"{folder}: 1 file not read: b.zip"
    corpus = open_corpus(folder, vocab_size=99)
    assert note in rs.score(corpus, scheme).notes
    assert note in rs.score(corpus, scheme, memory="1GB", tmp=tmp_path).notes


def test_a_format_that_is_named_names_what_is_left_out(tmp_path):
    shutil.copytree(DATA / "datatrove", tmp_path / "x")
    fill(tmp_path / "x", "y.jsonl")
    (note,) = unread(open_corpus(tmp_path / "x", format="datatrove"))
    assert "y.jsonl" in note


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.bin", "a.parquet", "a.npy", "a.jsonl.zst"])
def test_pointers_of_git_lfs_are_no_data(tmp_path, name):
    # a clone without git-lfs, as datasets#1785 and many others: a text file of hashes
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 12345\n"
    fill(tmp_path, name, content=pointer.encode())
    with pytest.raises(CorpusError, match=r"Git LFS; fetch it by git lfs pull"):
        open_corpus(tmp_path, dtype="uint16" if name == "a.bin" else None)
