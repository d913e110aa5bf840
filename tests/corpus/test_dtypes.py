"""Ids that are read as another type than they were written as are doubted, everywhere."""

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.dtypes import doubt_of_dtype
from radscore.errors import CorpusError
from radscore.runs.planning import plan_corpus

IDS = np.random.default_rng(0).integers(1, 30_000, 4000)
TYPES = ("<u2", "<u4", "<i8", ">u2", ">u4", ">i8")


def text_like(rng, vocab_size, count):
    """Ids of which half are frequent ones."""
    frequent = rng.zipf(1.3, 4 * count) - 1
    frequent = frequent[frequent < vocab_size][:count]
    return np.where(rng.random(count) < 0.5, frequent, rng.integers(0, vocab_size, count))


@settings(max_examples=150, deadline=None)
@given(
    vocab_size=st.sampled_from([300, 2000, 32_000, 50_257, 61_000, 128_256, 256_000]),
    told=st.booleans(),
    like_text=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_wrong_type_is_doubted_and_the_right_one_is_not(vocab_size, told, like_text, seed):
    rng = np.random.default_rng(seed)
    make = text_like if like_text else lambda rng, size, n: rng.integers(0, size, n)
    ids = make(rng, vocab_size, 4096)
    for written in TYPES:
        if np.dtype(written).itemsize == 2 and vocab_size > 2**16:
            continue
        for dtype in ("<u2", "<u4", "<i4", "<i8"):
            read = np.frombuffer(ids.astype(written).tobytes(), dtype)
            right = written == dtype or (written, dtype) == ("<u4", "<i4")
            # All ids below 2^16 and most bytes seen: only the count of values tells.
            if written == ">u2" and dtype == "<u2" and vocab_size > 52_000:
                continue
            doubt = doubt_of_dtype(read, vocab_size if told else None)
            assert (doubt is None) == right, (written, dtype, doubt)


def test_what_the_ids_would_be_is_said():
    def doubt(written, dtype, vocab_size=32_000):
        return doubt_of_dtype(np.frombuffer(IDS.astype(written).tobytes(), dtype), vocab_size)

    assert doubt("<u2", "<u4").endswith("; as uint16 all of them are inside")
    assert "they are big-endian uint32; radscore reads little-endian" in doubt(">u4", "<u4")
    assert "as if big-endian ids" in doubt(">u2", "<u2", None)
    assert "every second id is 0 (and 3 of 4), as if ids of 4 times the size" in doubt("<i8", "<u2")
    for few in (np.zeros(4000, "u2"), np.full(4000, 7, "u2"), np.arange(7, dtype="u2")):
        assert doubt_of_dtype(few, 100) is None
    padded = np.where(np.arange(4000) % 9, IDS, -100)
    assert doubt_of_dtype(padded, 32_000) is None


def mds(folder, codec, ids, encoding):
    rows = [row.tobytes() for row in ids.reshape(10, 400)]
    if encoding != "bytes":  # with a header of one dimension
        rows = [struct.pack("<BH", 1 << 2 | 1, len(row) // 2) + row for row in rows]
    columns = {"column_names": ["tokens"], "column_encodings": [encoding], "column_sizes": [None]}
    config = json.dumps(columns).encode()
    items = [struct.pack("<I", len(row)) + row for row in rows]
    ends = np.cumsum([8 + 4 * 10 + len(config), *map(len, items)])
    data = struct.pack("<I", 10) + ends.astype("<u4").tobytes() + config + b"".join(items)
    path = folder / f"shard.00000.mds{'.zstd' if codec else ''}"
    path.write_bytes(pa.Codec("zstd").compress(data, asbytes=True) if codec else data)
    return path


def litdata(folder, codec, ids, kind, loader):
    items = [row.tobytes() for row in ids.reshape(10, 400)]
    if loader == "PyTreeLoader":
        items = [struct.pack("<I", len(item)) + item for item in items]
    ends = np.cumsum([8 + 4 * 10, *map(len, items)]).astype("<u4")
    data = struct.pack("<I", 10) + ends.tobytes() + b"".join(items)
    name = "chunk-0-0.zstd.bin" if codec else "chunk-0-0.bin"
    config = {
        "compression": codec,
        "data_format": [kind],
        "data_spec": '[1, {"type": null, "context": null, "children_spec": []}]',
        "item_loader": loader,
    }
    chunk = {"filename": name, "chunk_bytes": len(data), "chunk_size": 10, "dim": None}
    (folder / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))
    (folder / name).write_bytes(pa.Codec("zstd").compress(data, asbytes=True) if codec else data)
    return folder


def megatron(folder, ids):
    data = ids.tobytes()
    (folder / "x.bin").write_bytes(data)
    lengths, starts = (
        np.full(8, len(data) // 16, "<i4"),
        np.arange(8, dtype="<i8") * (len(data) // 8),
    )
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 8, 9)
    body = lengths.tobytes() + starts.tobytes() + np.arange(9, dtype="<i8").tobytes()
    (folder / "x.idx").write_bytes(head + body)
    return folder / "x.bin"


def written(folder, name):
    """Ids of 4 bytes (8 in MDS's bytes), in a file that says or is told half of that."""
    ids = IDS.astype("<u4")
    if name.startswith("mds"):
        codec = name.endswith("zstd")
        if "bytes" in name:
            return mds(folder, codec, IDS.astype("<i8"), "bytes"), {"dtype": "int32"}
        return mds(folder, codec, ids, "ndarray:uint16"), {}
    if name.startswith("litdata"):
        codec, loader = "zstd" if "zstd" in name else None, name.split(":")[1]
        if "bytes" in name:
            return litdata(folder, codec, ids, "bytes", loader), {"dtype": "uint16"}
        return litdata(folder, codec, ids, "no_header_tensor:20", loader), {}
    if name == "megatron":
        return megatron(folder, ids), {}
    path, options = folder / "x.npy", {"dtype": "uint16"}
    if name == "npy with a header":
        np.save(path, ids.view("<u2").reshape(80, 100))
        return path, {}
    if name == "npz":
        np.savez(folder / "x.npz", ids.view("<u2"))
        return folder / "x.npz", {}
    if name == "dolma":
        ids.tofile(path)
        path.with_name("x.csv.gz").write_bytes(gzip.compress(f"0,{2 * len(ids)},a,b,1\n".encode()))
        return path, {}
    if name == "llmc":
        header = np.zeros(256, "<i4")
        header[:3] = 20240520, 1, 2 * len(ids)
        (folder / "x.bin").write_bytes(header.tobytes() + ids.tobytes())
        return folder / "x.bin", {"eod": 0}
    if name == "datatrove":
        (folder / "x.ds.index").write_bytes(struct.pack("<Q", 2 * len(ids)))
        ids.tofile(folder / "x.ds")
        return folder / "x.ds", {}
    suffix = {"bin": "bin", "npy": "npy", "ds": "ds", "nanogpt": "bin"}[name]
    ids.tofile(folder / f"x.{suffix}")
    return folder / f"x.{suffix}", {"format": "nanogpt"} if name == "nanogpt" else options


NAMES = [
    *("bin", "npy", "npy with a header", "npz", "ds", "datatrove", "nanogpt", "dolma", "llmc"),
    *("megatron", "mds bytes", "mds bytes zstd", "mds ndarray", "mds ndarray zstd"),
    *("litdata:TokensLoader", "litdata:PyTreeLoader", "litdata bytes:PyTreeLoader"),
    *("litdata zstd:TokensLoader", "litdata zstd:PyTreeLoader"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_doubted_by_all_that_read_it(tmp_path, name):
    # dolma#142, LLM-Shearing#65, llm-foundry#452
    path, options = written(tmp_path, name)
    corpus = open_corpus(path, vocab_size=32_000, **options)
    before = corpus.notes
    assert sum("every second id is 0" in note for note in before) == 1
    assert sum(len(batch.documents) for batch in corpus)
    assert set(before) <= set(corpus.notes)
    assert any("every second id is 0" in line for line in inspect_corpus(path, **options).warnings)
    assert any("every second id is 0" in note for note in plan_corpus(corpus).notes)


def test_every_file_is_looked_at_and_all_of_its_parts(tmp_path):
    good = IDS.astype("<u2")
    good.tofile(tmp_path / "a.bin")
    np.concatenate([good.repeat(20), IDS.astype("<u4").view("<u2")]).tofile(tmp_path / "b.bin")
    IDS.astype("<u4").tofile(tmp_path / "c.bin")
    IDS[:2000].astype("<u4").tofile(tmp_path / "d.bin")
    notes = open_corpus(tmp_path, dtype="uint16").notes
    assert notes[0].startswith(f"{tmp_path / 'b.bin'}: every second id is 0")
    assert notes[0].endswith("(and so in 2 more files)")
    assert not any("second" in n for n in open_corpus(tmp_path / "a.bin", dtype="uint16").notes)


def test_an_id_that_cannot_be_says_what_would_fit(tmp_path):
    IDS.astype("<u2").tofile(tmp_path / "x.bin")
    corpus = open_corpus(tmp_path / "x.bin", dtype="uint32", vocab_size=32_000)
    with pytest.raises(CorpusError, match=r"is the dtype right\? most ids.*as uint16 all of them"):
        list(corpus)
    lines = inspect_corpus(tmp_path / "x.bin").warnings
    assert any(line.startswith("as uint32: ") and "beyond any vocabulary" in line for line in lines)
    assert any(line.startswith("as uint16: ") and ";" not in line for line in lines)


@pytest.mark.parametrize("vocab_size", [None, 100])
def test_an_end_of_document_id_that_is_nowhere(tmp_path, vocab_size):
    np.array([1, 2, 100, 3, 100], dtype=np.uint16).tofile(tmp_path / "x.bin")
    options = {"dtype": "uint16", "vocab_size": vocab_size}
    for eod, told in ((100, False), (7, True), (200, vocab_size is None)):
        corpus = open_corpus(tmp_path / "x.bin", eod=eod, on_error="skip", **options)
        note = f"no document ends with id {eod}; is that the id that ends documents?"
        outside = f"the end-of-document id {eod} is outside the vocabulary of 100"
        assert note not in corpus.notes
        if vocab_size is None or eod == 100:
            batches = list(corpus)
            assert (note in corpus.notes) == told
            later = open_corpus(tmp_path / "x.bin", eod=eod, on_error="skip", **options)
            list(later.batches(batches[0].cursor))
            assert (note in later.notes) == told
            assert (note in plan_corpus(corpus).notes) == told
        inspected = inspect_corpus(tmp_path / "x.bin", eod=eod, **options)
        assert (note in inspected.warnings) == (eod != 100)
        for notes in (corpus.notes, inspected.warnings):
            assert any(n.startswith(outside) for n in notes) == (bool(vocab_size) and eod >= 100)
