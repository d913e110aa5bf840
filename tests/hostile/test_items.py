"""Items of MDS and litdata: what their indexes lie about, and every way to store text and ids."""

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import open_corpus
from radscore.corpus.readers import ids as id_files
from radscore.errors import CorpusError, RadscoreError

from tests.readers import ids_of, refused

pytestmark = pytest.mark.timeout(120)

TOKENIZER = Path(__file__).parents[2] / "demo" / "tokenizer.json"
LEAF = {"type": None, "context": None, "children_spec": []}


def packed_items(items, between=b""):
    ends = np.cumsum([8 + 4 * len(items) + len(between), *map(len, items)]).astype("<u4")
    return struct.pack("<I", len(items)) + ends.tobytes() + between + b"".join(items)


def sized(*values):
    """Values as an item of columns of varying size."""
    return struct.pack(f"<{len(values)}I", *map(len, values)) + b"".join(values)


# ---- MDS ---------------------------------------------------------------------------------------


def mds(folder, columns, rows, *, codec=None, hashes=(), **more):
    """A shard and its index; `more` is written over what the index says of the shard."""
    names, encodings = list(columns), list(columns.values())
    config = {"column_names": names, "column_encodings": encodings}
    config["column_sizes"] = [None] * len(names)
    raw = packed_items([sized(*row) for row in rows], json.dumps(config).encode())
    kinds = {"raw": ("shard.00000.mds", raw)}
    if codec:
        kinds["zip"] = ("shard.00000.mds.zstd", pa.Codec("zstd").compress(raw, asbytes=True))
    entry = {"format": "mds", "version": 2, "samples": len(rows), "compression": codec}
    entry["zip_data"] = None
    for kind, (name, data) in kinds.items():
        told = {h: getattr(hashlib, h, None) or getattr(xxhash, h) for h in hashes}
        found = {h: make(data).hexdigest() for h, make in told.items()}
        entry[f"{kind}_data"] = {"basename": name, "bytes": len(data), "hashes": found}
    name, data = list(kinds.values())[-1]
    (folder / name).write_bytes(data)
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": [entry | more]}))
    return folder / name


ALGORITHMS = ["sha1", "md5", "sha256", "blake2b", "sha3_512", "xxh32", "xxh64", "xxh3_128"]


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_hashes_of_the_index_are_checked(tmp_path, codec):
    # streaming#391: a shard that was cut off in a bucket has the right size and the wrong bytes.
    rows = [(np.arange(i, i + 9, dtype="<u4").tobytes(),) for i in range(5)]
    for name in ALGORITHMS:
        path = mds(tmp_path, {"tokens": "bytes"}, rows, codec=codec, hashes=[name])
        corpus = open_corpus(tmp_path, dtype="uint32")
        assert ids_of(corpus) == [list(range(i, i + 9)) for i in range(5)]
        assert not any("hash" in note for note in corpus.notes)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        found = rf"its {name} is [0-9a-f]+, but index\.json says"
        refused(tmp_path, found if codec is None else f"{found}|damaged", dtype="uint32")
        corpus = open_corpus(tmp_path, field="tokens", dtype="uint32", on_error="skip")
        with pytest.raises(CorpusError, match=rf"no documents that can be read.*{found}"):
            ids_of(corpus)


def test_hashes_that_nothing_can_check_are_named(tmp_path):
    rows = [(np.arange(9, dtype="<u4").tobytes(),)]
    mds(tmp_path, {"tokens": "bytes"}, rows)
    index = json.loads((tmp_path / "index.json").read_text())
    for hashes, noted in (({"crc9": "00", "shake_128": "x"}, True), ([1], False), ("x", False)):
        index["shards"][0]["raw_data"]["hashes"] = hashes
        (tmp_path / "index.json").write_text(json.dumps(index))
        corpus = open_corpus(tmp_path, dtype="uint32")
        assert len(ids_of(corpus)) == 1
        assert any("not checked: 'crc9', 'shake_128'" in n for n in corpus.notes) == noted


@pytest.mark.parametrize(
    "size", [0, 9, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1, -1, True, "9", 1.0]
)
@pytest.mark.parametrize("data", ["raw_data", "zip_data"])
def test_sizes_that_lie_take_no_memory(tmp_path, data, size):
    rows = [(np.arange(9, dtype="<u4").tobytes(),)]
    for codec in (None, "zstd"):
        folder = tmp_path / str(codec)
        folder.mkdir()
        mds(folder, {"tokens": "bytes"}, rows, codec=codec)
        index = json.loads((folder / "index.json").read_text())
        if index["shards"][0][data] is not None:
            index["shards"][0][data]["bytes"] = size
            (folder / "index.json").write_text(json.dumps(index))
            refused(folder, r"(index\.json|shard\.00000\.mds(\.zstd)?): ", dtype="uint32")


def test_fields_within_json_of_mds(tmp_path):
    rows = [
        (b"[9]", b'{"ids": [1, 2], "in.ids": [3], "deep": [{"ids": [4]}]}', b"x"),
        (b"[9]", b'{"other": 5}', b"x"),
        (b"[9]", b"[1]", b"x"),
    ]
    mds(tmp_path, {"ids": "json", "meta": "json", "meta.note": "str"}, rows)
    for field, expected in (("meta.ids", [1, 2]), ("meta.in.ids", [3]), ("meta.deep.0.ids", [4])):
        corpus = open_corpus(tmp_path, field=field, on_error="skip")
        assert ids_of(corpus) == [expected]
        assert corpus.skipped.count == 2
        rest = field.removeprefix("meta.")
        assert f"row 1: field 'meta': there is no '{rest}' in it" in corpus.skipped.examples[0]
    refused(tmp_path, r"no field 'note.ids'", field="note.ids")
    texts = ids_of(open_corpus(tmp_path, field="meta.note", tokenizer=TOKENIZER))
    assert len(texts) == 3  # a column of just that name


def test_text_json_and_bytes_of_mds(tmp_path):
    rows = [
        (b'"abc"', b"abc", b"abc", b"[1]"),
        (b"[1, 2]", "é".encode(), "é".encode(), b"null"),
        (b"[]", b"", b"", b"true"),
    ]
    columns = {"a": "json", "b": "str", "c": "bytes", "d": "json"}
    mds(tmp_path, columns, rows)
    texts = ids_of(open_corpus(tmp_path, field="b", tokenizer=TOKENIZER))
    assert ids_of(open_corpus(tmp_path, field="c", tokenizer=TOKENIZER)) == texts
    mixed = ids_of(open_corpus(tmp_path, field="a", tokenizer=TOKENIZER))
    assert mixed == [texts[0], [1, 2], []]
    refused(tmp_path, r"row 0: field 'a': it holds text; give a tokenizer", field="a")
    refused(tmp_path, r"field 'c' is stored as bytes.*give it with dtype=.*tokenizer", field="c")
    refused(tmp_path, r"row 1: field 'd': it is null", field="d")
    corpus = open_corpus(tmp_path, field="d", on_error="skip")
    assert ids_of(corpus) == [[1]]
    assert corpus.skipped.count == 2
    mds(tmp_path, {"a": "json"}, [(b"{",), (b"[1e400]",), (b"[" * 9999,), (b'[1, "x"]',)])
    corpus = open_corpus(tmp_path, field="a", on_error="skip")
    with pytest.raises(CorpusError, match="holds no documents that can be read"):
        ids_of(corpus)
    mds(tmp_path, {"a": "bytes"}, [(b"\xff\xfe",)])
    refused(tmp_path, r"field 'a': not UTF-8", field="a", tokenizer=TOKENIZER)


# ---- litdata -----------------------------------------------------------------------------------


def litdata(folder, spec, formats, items, **more):
    raw = packed_items(items)
    (folder / "chunk-0-0.bin").write_bytes(raw)
    config = {"compression": None, "data_format": formats, "item_loader": "PyTreeLoader"}
    config["data_spec"] = json.dumps([1, spec])
    chunk = {"filename": "chunk-0-0.bin", "chunk_bytes": len(raw), "chunk_size": len(items)}
    chunk |= {"dim": None, **more}
    (folder / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))
    return folder


def node(kind, context, *children):
    return {"type": kind, "context": json.dumps(context), "children_spec": list(children)}


def integers(values):
    return [struct.pack("<q", value) for value in values]


def test_items_that_are_one_text_or_bytes(tmp_path):
    # pytorch-lightning PR 19455: "any data type, including text"
    texts = [b"hello 0", "é".encode(), b""]
    for kind in ("str", "text", "bytes"):
        litdata(tmp_path, LEAF, [kind], [sized(text) for text in texts])
        corpus = open_corpus(tmp_path, tokenizer=TOKENIZER)
        first = ids_of(corpus)
        assert len(first) == 3
        assert first[2] == []
        assert open_corpus(tmp_path, tokenizer=TOKENIZER).known().n_documents == 3
    refused(tmp_path, r"stored as bytes.*give it with dtype=")
    litdata(tmp_path, LEAF, ["bytes"], [sized(np.arange(5, dtype="<u2").tobytes())])
    assert ids_of(open_corpus(tmp_path, dtype="uint16")) == [[0, 1, 2, 3, 4]]
    litdata(tmp_path, LEAF, ["json"], [sized(b"[1, 2]"), sized(b'"abc"')])
    assert len(ids_of(open_corpus(tmp_path, tokenizer=TOKENIZER))) == 2
    litdata(tmp_path, LEAF, ["str"], [sized(b"abc")])
    refused(tmp_path, r"field 'text' holds text; give a tokenizer")


def test_lists_of_integers(tmp_path):
    # Lists are flattened, so each of their integers is a leaf with a size of its own.
    docs = [[1, 2, 3], [4, 5, 6]]
    several = node("builtins.list", None, LEAF, LEAF, LEAF)
    litdata(tmp_path, several, ["int"] * 3, [sized(*integers(doc)) for doc in docs])
    assert ids_of(open_corpus(tmp_path)) == docs
    spec = node("builtins.dict", ["n", "input_ids", "z"], LEAF, several, LEAF)
    items = [sized(*integers([9, *doc, 8])) for doc in docs]
    litdata(tmp_path, spec, ["int"] * 5, items)
    assert ids_of(open_corpus(tmp_path)) == docs
    assert open_corpus(tmp_path).field == "input_ids"
    litdata(tmp_path, LEAF, ["int"], [sized(*integers([5]))])
    refused(tmp_path, r"is stored as 'int', which is neither text nor token ids")
    litdata(tmp_path, node("builtins.tuple", None, LEAF, several), ["str"] * 4, [sized(b"")])
    refused(tmp_path, r"index\.json: nested items are not supported")


def test_specs_that_are_damaged(tmp_path):
    deep = LEAF
    for _ in range(5):
        deep = node("builtins.list", None, deep)
    cases = [
        (deep, ["int"], "nested items are not supported"),
        ({}, ["int"], "its data_spec does not say what an item holds"),
        ({"type": None, "children_spec": 7}, ["int"], "its data_spec does not say"),
        (LEAF, ["int", "int"], "its data_format does not fit its data_spec"),
        (LEAF, None, "its data_format does not fit its data_spec"),
        (node("builtins.dict", ["a"], LEAF), [], "its data_format does not fit its data_spec"),
    ]
    for spec, formats, match in cases:
        litdata(tmp_path, spec, formats, [sized(b"abc")])
        refused(tmp_path, rf"index\.json: {match}")


@settings(max_examples=80, deadline=None)
@given(
    key=st.sampled_from(["chunk_bytes", "chunk_size", "dim"]),
    value=st.sampled_from(
        [0, 1, -1, 2**31, 2**32, 2**60, 2**63 - 1, 2**70, "9" * 5000, True, "3", 1.5]
    ),
    loader=st.sampled_from(["TokensLoader", "PyTreeLoader"]),
)
def test_numbers_that_lie(tmp_path_factory, key, value, loader):
    folder = tmp_path_factory.mktemp("x")
    item = np.arange(5, dtype="<i4").tobytes()
    items = [item if loader == "TokensLoader" else sized(item)] * 2
    litdata(folder, LEAF, ["no_header_tensor:15"], items)
    index = json.loads((folder / "index.json").read_text())
    index["config"]["item_loader"] = loader
    index["chunks"][0]["dim"] = 10 if loader == "TokensLoader" else None
    index["chunks"][0][key] = value
    (folder / "index.json").write_text(json.dumps(index))
    try:
        corpus = open_corpus(folder)
        found = ids_of(corpus)
        known = corpus.known()
    except RadscoreError as error:
        found, message = None, str(error)
    if found is None:
        assert "index.json" in message
        assert len(message) < 600
    else:
        assert key == "dim"
        assert found == [[0, 1, 2, 3, 4]] * 2
        assert known.n_tokens in (None, 10)


def test_chunks_of_the_first_versions_of_the_library(tmp_path):
    # Until 2024 chunk_bytes counted the items only, without the header.
    item = sized(np.arange(5, dtype="<i4").tobytes())
    litdata(tmp_path, LEAF, ["no_header_tensor:15"], [item] * 3, chunk_bytes=3 * len(item))
    assert ids_of(open_corpus(tmp_path)) == [[0, 1, 2, 3, 4]] * 3


def test_an_array_of_endless_rank_is_no_array(tmp_path):
    item = sized(np.array([15, 50_000, *[2**32 - 1] * 50_000], ">u4").tobytes())
    litdata(tmp_path, LEAF, ["tensor"], [item])
    refused(tmp_path, "an array of 50000 dimensions")


# ---- files that become shorter -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.bin", "x.npy", "x.idx", "x.ds", "shard.00000.mds"])
def test_a_file_that_becomes_shorter_is_an_error(tmp_path, name):
    path, options = tmp_path / name, {"batch_tokens": 1000}
    values = np.arange(1, 60_001, dtype="<u2")
    if name.endswith("mds"):
        mds(
            tmp_path,
            {"tokens": "ndarray:uint16:100"},
            [(r.tobytes(),) for r in values.reshape(-1, 100)],
        )
    elif name.endswith("npy"):
        np.save(path, values.reshape(-1, 100))
    else:
        path = path.with_suffix(".bin" if name.endswith("idx") else path.suffix)
        values.tofile(path)
        options |= {"dtype": "uint16", "eod": 100}
    if name.endswith("idx"):
        lengths, starts = np.full(600, 100, "<i4"), np.arange(600, dtype="<i8") * 200
        head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 600, 601)
        body = lengths.tobytes() + starts.tobytes() + np.arange(601, dtype="<i8").tobytes()
        (tmp_path / name).write_bytes(head + body)
    if path.suffix in (".bin", ".ds"):
        values[99::100] = 100
        values.tofile(path)
    batches = iter(open_corpus(path, **options))
    next(batches)
    os.truncate(path, 9000)
    with pytest.raises(CorpusError, match=rf"{path.name}: ends at byte 9000, \d+ bytes too early"):
        list(batches)


def test_long_documents_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(id_files, "_MOST_COPIED", 1000)
    ids = np.arange(2000, dtype="<u2")
    ids.tofile(tmp_path / "x.bin")
    (batch,) = open_corpus(tmp_path / "x.bin", dtype="uint16")
    assert batch.documents[0].tolist() == ids.tolist()
