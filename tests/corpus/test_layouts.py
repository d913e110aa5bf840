"""Files that other tools wrote (`tools/make_layouts.py`) come out as they went in."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from radscore.corpus import inspect_corpus, open_corpus
from radscore.errors import CorpusError

from tests.readers import ids_of

DATA = Path(__file__).parent / "data"
DOCS = json.loads((DATA / "documents.json").read_text())
FULL = [doc for doc in DOCS if doc]
EOD = 50_256


def after_eod():
    """The documents of llm.c, which has an end-of-document id before each."""
    return [[EOD], *[[*doc, EOD] for doc in DOCS[:-1]], DOCS[-1]]


def reordered(name):
    return [DOCS[i] for i in json.loads((DATA / name).read_text())]


class Case(NamedTuple):
    name: str
    options: dict
    expected: list | None
    kind: str
    dtype: str
    boundaries: str | None

    @property
    def path(self):
        return DATA / self.name

    @property
    def docs(self):
        return picked() if self.expected is None else self.expected


# file or folder, options, documents, format, dtype, what tells the boundaries
LAYOUTS = [
    ("megatron/u2.bin", {}, DOCS, "megatron", "uint16", "side index .idx (1 file)"),
    ("megatron/i4.idx", {}, DOCS, "megatron", "int32", "side index .idx (1 file)"),
    ("megatron/u2", {}, DOCS, "megatron", "uint16", "side index .idx (1 file)"),
    ("datatrove/u2.ds", {}, DOCS, "datatrove", "uint16", "side index .index (1 file)"),
    ("datatrove/u4.ds", {}, DOCS, "datatrove", "uint32", "side index .index (1 file)"),
    ("datatrove/bare.ds", {}, DOCS, "datatrove", "uint32", "side index .index (1 file)"),
    (
        "datatrove/shuffled_00000_00000_shuffled.ds",
        {},
        reordered("datatrove/order.json"),
        "datatrove",
        "uint16",
        "side index .index (1 file)",
    ),
    ("dolma/u2.npy", {}, DOCS, "dolma", "uint16", "side index .csv.gz (1 file)"),
    ("dolma/u4.npy", {}, DOCS, "dolma", "uint32", "side index .csv.gz (1 file)"),
    ("llm_c/gpt2.bin", {"eod": EOD}, after_eod(), "llmc", "uint16", f"id {EOD} (1 file)"),
    ("llm_c/llama.bin", {"eod": EOD}, after_eod(), "llmc", "uint32", f"id {EOD} (1 file)"),
    (
        "nanogpt/train.bin",
        {"format": "nanogpt"},
        [[*doc, EOD] for doc in DOCS],
        "nanogpt",
        "uint16",
        f"id {EOD} (1 file)",
    ),
    ("mds/ndarray_u4", {}, FULL, "mds", "uint32", "the samples of shards (4 files)"),
    ("mds/ndarray_any", {}, FULL, "mds", "int64", "the samples of shards (1 file)"),
    (
        "mds/ndarray_fixed",
        {},
        np.arange(80).reshape(5, 16).tolist(),
        "mds",
        "uint16",
        "the samples of shards (1 file)",
    ),
    ("mds/bytes_i8", {"dtype": "int64"}, DOCS, "mds", "int64", "the samples of shards (1 file)"),
    *[
        (f"mds/packed_{codec}", {}, FULL, "mds", "uint32", "the samples of shards (4 files)")
        for codec in ("zstd", "gz", "br", "snappy", "bz2")
    ],
    ("litdata/tokens_i4", {}, FULL, "litdata", "int32", "the items of chunks (2 files)"),
    ("litdata/tokens_u2", {}, FULL, "litdata", "uint16", "the items of chunks (2 files)"),
    ("litdata/tokens_zstd", {}, FULL, "litdata", "int64", "the items of chunks (2 files)"),
    ("litdata/items_i8", {}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/tree", {}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/tree_chunk", {}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/tree_batch", {}, FULL, "litdata", "int64", "the items of chunks (2 files)"),
    ("litdata/tree_sample", {}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/shaped", {}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/shaped", {"field": "x"}, FULL, "litdata", "int64", "the items of chunks (3 files)"),
    ("litdata/lists", {}, DOCS, "litdata", "int64", "the items of chunks (3 files)"),
    ("hugging_face/plain", {}, DOCS, "arrow", "int32", None),
    ("hugging_face/picked", {}, None, "datasets", "int64", None),
]
CASES = pytest.mark.parametrize(
    "case",
    [Case(*layout) for layout in LAYOUTS],
    ids=[f"{name}{'-' + more['field'] if 'field' in more else ''}" for name, more, *_ in LAYOUTS],
)


def picked():
    with pa.ipc.open_stream(str(DATA / "hugging_face" / "picked" / "indices.arrow")) as reader:
        return [DOCS[i] for i in reader.read_all().column("indices").to_pylist()]


@CASES
@pytest.mark.parametrize("batch_tokens", [1, 50, 2**22])
def test_documents_of_the_original_writers(case, batch_tokens):
    docs = case.docs
    corpus = open_corpus(case.path, batch_tokens=batch_tokens, vocab_size=EOD + 1, **case.options)
    assert corpus.formats == (case.kind,)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == docs
    assert {batch.documents.values.dtype.name for batch in batches} == {case.dtype}
    assert sum(batch.n_bytes for batch in batches) <= corpus.total_bytes
    if case.boundaries is None:
        assert corpus.boundaries is None
        assert corpus.notes == ()
    else:
        assert corpus.boundaries.endswith(case.boundaries)
        assert corpus.notes[-1] == corpus.boundaries


@CASES
def test_every_cursor_goes_on_exactly(case):
    docs = case.docs
    corpus = open_corpus(case.path, batch_tokens=40, **case.options)
    later = open_corpus(case.path, batch_tokens=23, **case.options)
    places = []
    for batch in corpus:
        done = batch.first_document + len(batch)
        cursor = json.loads(json.dumps(batch.cursor))
        rest = list(later.batches(cursor)) if done < len(docs) else []
        assert [doc.tolist() for b in rest for doc in b.documents] == docs[done:]
        places += [batch.locate(i) for i in range(len(batch))]
    assert len(set(places)) == len(docs)
    assert [b.locate(i) for b in later for i in range(len(b))] == places


@CASES
def test_what_is_known_beforehand_holds(case):
    docs = case.docs
    corpus = open_corpus(case.path, **case.options)
    known = corpus.known()
    n_tokens = sum(map(len, docs))
    assert known.n_tokens in (None, n_tokens)
    assert known.n_documents in (None, len(docs))
    if case.kind in ("megatron", "datatrove", "dolma") or case.name.startswith("litdata/tokens"):
        assert (known.n_tokens, known.n_documents) == (n_tokens, len(docs))
    elif case.kind in ("llmc", "nanogpt"):
        assert (known.n_tokens, known.n_documents) == (n_tokens, None)
    elif case.kind in ("mds", "datasets"):
        assert known.n_documents == len(docs)


@CASES
def test_inspection_shows_all_of_it(case):
    docs = case.docs
    found = inspect_corpus(case.path, **case.options)
    assert (found.formats, found.dtype) == ((case.kind,), case.dtype)
    assert (found.n_documents, found.n_tokens) == (len(docs), sum(map(len, docs)))
    assert found.largest_id == max(max(doc) for doc in docs if doc)
    assert (found.boundaries is None) == (case.boundaries is None)
    assert found.skipped.count == found.skipped.files == 0
    assert found.warnings == ()


@CASES
def test_every_id_is_held_against_the_vocabulary(case):
    docs = case.docs
    number, top = max(
        ((i, id_) for i, doc in enumerate(docs) for id_ in doc if id_ != EOD),
        key=lambda pair: pair[1],
    )
    ids_of(open_corpus(case.path, vocab_size=top + 1, **case.options))
    with pytest.raises(CorpusError) as caught:
        ids_of(open_corpus(case.path, vocab_size=top, batch_tokens=30, **case.options))
    message = str(caught.value)
    assert f"token id {top} at position {docs[number].index(top)} is outside" in message
    assert message.startswith(str(DATA / case.name.removesuffix(".idx")))


def test_text_of_mds_and_litdata(tokenizer):
    expected = [["the", "cat", "sat"], [], ["a", "dog"]]
    for name, last in (("mds/text", expected), ("litdata/text", [*expected[::2], ["mat"]])):
        corpus = open_corpus(DATA / name, tokenizer=tokenizer)
        got = [[tokenizer.id_to_token(i) for i in doc] for doc in ids_of(corpus)]
        assert got == last
        assert corpus.field == "text"
        with pytest.raises(CorpusError, match="holds text; give a tokenizer"):
            ids_of(open_corpus(DATA / name))


def test_prompts_of_mds(tokenizer):
    corpus = open_corpus(
        DATA / "mds/bytes_i8", dtype="int64", prompt_field="id", tokenizer=tokenizer
    )
    (batch,) = corpus
    assert [doc.tolist() for doc in batch.documents] == DOCS
    assert [doc.tolist() for doc in batch.prompts] == [[0]] * len(DOCS)  # unknown words


def test_columns_that_hold_no_ids_are_named():
    with pytest.raises(CorpusError, match="field 'x' is stored as 'pkl'"):
        ids_of(open_corpus(DATA / "mds/text", field="x"))
    with pytest.raises(CorpusError, match=r"row 0: field 'meta': it must hold text or .*not dict"):
        ids_of(open_corpus(DATA / "mds/text", field="meta"))
    with pytest.raises(CorpusError, match=r"no field 'y'; the fields are: meta, text, x"):
        ids_of(open_corpus(DATA / "mds/text", field="y"))
    with pytest.raises(CorpusError, match="'n' is stored as 'int'"):
        ids_of(open_corpus(DATA / "litdata/tree", field="n"))


def test_bytes_in_mds_need_a_dtype():
    with pytest.raises(CorpusError, match=r"'tokens' is stored as bytes.* give it with dtype="):
        ids_of(open_corpus(DATA / "mds/bytes_i8"))
    # A wrong one, as where int64 bytes are read as int32, shows in the ids.
    halves = ids_of(open_corpus(DATA / "mds/bytes_i8", dtype="int32"))
    assert halves == [[half for id_ in doc for half in (id_, 0)] for doc in DOCS]
    corpus = open_corpus(DATA / "mds/bytes_i8", dtype="int64", vocab_size=5)
    with pytest.raises(CorpusError, match=r"shard\.00000\.mds:row 0: token id \d+ at position 0"):
        ids_of(corpus)


def test_shards_by_name_say_what_they_hold(tmp_path):
    shards = sorted((DATA / "mds/ndarray_u4").glob("*.mds"))
    assert ids_of(open_corpus(shards)) == FULL
    assert ids_of(open_corpus(str(DATA / "mds/ndarray_u4" / "*.mds"))) == FULL
    alone = tmp_path / "alone.mds"
    alone.write_bytes(shards[0].read_bytes())
    assert ids_of(open_corpus(alone)) == FULL[:2]
    packed = sorted((DATA / "mds/packed_zstd").glob("*.mds.zstd"))
    (tmp_path / "other.mds.zstd").write_bytes(packed[1].read_bytes())
    assert ids_of(open_corpus(tmp_path / "other.mds.zstd")) == FULL[2:3]
    chunks = sorted((DATA / "litdata/tokens_i4").glob("*.bin"))
    assert ids_of(open_corpus(chunks)) == FULL
    assert ids_of(open_corpus(DATA / "litdata/tree_chunk" / "chunk-0-1.zstd.bin")) == FULL[3:6]


def test_folders_are_read_as_their_indexes_list_them(tmp_path):
    shutil.copytree(DATA / "hugging_face/plain", tmp_path / "x")
    cache = tmp_path / "x" / "cache-1234.arrow"  # what `map` leaves beside the data
    cache.write_bytes((DATA / "hugging_face/plain/data-00000-of-00003.arrow").read_bytes())
    assert ids_of(open_corpus(tmp_path)) == DOCS
    (tmp_path / "x" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(CorpusError, match=r"state\.json: lists data-00001.*, which does not exist"):
        open_corpus(tmp_path)
    shutil.copytree(DATA / "mds/ndarray_u4", tmp_path / "mds")
    index = json.loads((tmp_path / "mds/index.json").read_text())
    index["shards"] = index["shards"][2:0:-1]
    (tmp_path / "mds/index.json").write_text(json.dumps(index))
    (tmp_path / "mds" / ".secret.mds").write_bytes(b"junk")
    per_shard = [
        ids_of(open_corpus(path)) for path in sorted((DATA / "mds/ndarray_u4").glob("*.mds"))
    ]
    assert ids_of(open_corpus(tmp_path / "mds")) == per_shard[2] + per_shard[1]


def test_patterns_leave_side_files_out():
    corpus = open_corpus(str(DATA / "datatrove" / "u*"))
    assert [source.path.name for source in corpus.sources] == ["u2.ds", "u4.ds"]
    assert ids_of(open_corpus(str(DATA / "megatron" / "*"))) == DOCS * 2
    assert ids_of(open_corpus(str(DATA / "dolma" / "*"))) == DOCS * 2


def test_a_folder_of_one_named_format(tmp_path):
    assert ids_of(open_corpus(DATA / "megatron", format="megatron")) == DOCS * 2
    tokens = [id_ for doc in DOCS for id_ in doc]
    # Without the index nothing tells the documents.
    bare = open_corpus(DATA / "megatron/u2.bin", format="bin", dtype="uint16")
    assert ids_of(bare) == [tokens]
    assert "none known" in bare.boundaries
    with pytest.raises(CorpusError, match=r"no file in this folder ends in \.ds"):
        open_corpus(DATA / "megatron", format="datatrove")


def test_an_index_and_an_end_of_document_id_both_cut():
    docs = [doc for doc in DOCS if len(doc) > 4]
    eod = docs[0][3]
    corpus = open_corpus(DATA / "megatron/u2.bin", eod=eod)
    parts = ids_of(corpus)
    assert [id_ for part in parts for id_ in part] == [id_ for doc in DOCS for id_ in doc]
    assert parts[0] == docs[0][:4]
    assert len(parts) == len(DOCS) + sum(eod in doc[:-1] for doc in DOCS)
    assert f"cut after id {eod}" in corpus.boundaries
    assert corpus.known().n_documents is None


def test_side_files_are_part_of_what_a_state_is_held_against(tmp_path):
    for name in ("u2.bin", "u2.idx"):
        (tmp_path / name).write_bytes((DATA / "megatron" / name).read_bytes())
    before = open_corpus(tmp_path / "u2.bin").manifest()
    assert json.loads(json.dumps(before)) == before
    (tmp_path / "u2.idx").touch()
    os.utime(tmp_path / "u2.idx", ns=(1, 1))
    assert open_corpus(tmp_path / "u2.bin").manifest() != before
