"""Any ragged documents come out of any layout, however they are cut into shards and batches.

The writers here are by hand, from the descriptions of the layouts; those of the libraries are in
`test_layouts.py`.
"""

import csv
import gzip
import io
import itertools
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.sampling import sample_corpus

from tests.readers import ids_of

CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}
SETTINGS = settings(max_examples=15, deadline=None)


def documents(top=127, least=0):
    return st.lists(
        st.lists(st.integers(0, top), min_size=least, max_size=12), min_size=1, max_size=12
    )


def offsets(lengths, first=0):
    return np.cumsum([first, *lengths])


def write_megatron(path, sequences, starts, dtype, *, places=None, modes=False):
    """Sequences back to back, or at given places (in ids)."""
    size = np.dtype(dtype).itemsize
    places = offsets(map(len, sequences))[:-1] if places is None else places
    pairs = list(zip(places, sequences, strict=True))
    data = np.zeros(max((place + len(ids) for place, ids in pairs), default=0), dtype)
    for place, ids in pairs:
        data[place : place + len(ids)] = ids
    path.with_suffix(".bin").write_bytes(data.tobytes())
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, CODES[dtype], len(sequences), len(starts))
        + np.array([len(s) for s in sequences], "<i4").tobytes()
        + (np.array(places, "<i8") * size).tobytes()
        + np.array(starts, "<i8").tobytes()
        + (bytes(len(sequences)) if modes is True else bytes(modes or b""))
    )
    return path.with_suffix(".bin")


def check(path, docs, data, **options):
    """All batch sizes, and every cursor, give the documents; all that tells of them agrees."""
    agrees(path, docs, **options)
    batch_tokens = data.draw(st.sampled_from([1, 2, 5, 17, 2**22]), label="batch_tokens")
    corpus = open_corpus(path, batch_tokens=batch_tokens, **options)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == docs
    cursor = batches[data.draw(st.integers(0, len(batches) - 1), label="cursor")].cursor
    later = open_corpus(path, batch_tokens=3, **options)
    done = cursor["documents"]
    if done < len(docs):
        assert ids_of(later, json.loads(json.dumps(cursor))) == docs[done:]


def agrees(path, docs, **options):
    """What headers and indexes tell, `inspect` and `plan` say the same as reading."""
    n_tokens = sum(map(len, docs))
    corpus = open_corpus(path, **options)
    known = corpus.known()
    assert known.n_tokens in (None, n_tokens)
    assert known.n_documents in (None, len(docs))
    sample = sample_corpus(corpus, 1 << 24)
    assert sample.n_tokens == n_tokens
    assert not sample.whole or sample.n_documents == len(docs)
    if "vocab_size" not in options:
        found = inspect_corpus(path, **options)
        assert (found.n_documents, found.n_tokens) == (len(docs), n_tokens)


@pytest.mark.parametrize("dtype", CODES)
@SETTINGS
@given(docs=documents(), data=st.data())
def test_megatron(dtype, docs, data):
    sequences, starts = [], [0]
    for doc in docs:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(doc)), max_size=3)))
        sequences += [doc[a:b] for a, b in zip([0, *cuts], [*cuts, len(doc)], strict=True)]
        starts.append(len(sequences))
    with tempfile.TemporaryDirectory() as folder:
        modes = data.draw(st.booleans())
        path = write_megatron(Path(folder, "x"), sequences, starts, dtype, modes=modes)
        corpus = open_corpus(path)
        assert corpus.known().n_documents == len(docs)
        check(folder, docs, data)


@SETTINGS
@given(docs=documents(), data=st.data())
def test_megatron_with_sequences_in_any_order(docs, data):
    gap = data.draw(st.integers(0, 3))
    places, place = [0] * len(docs), 0
    for number in data.draw(st.permutations(range(len(docs)))):
        # Some tools let empty sequences begin at 0, wherever they are.
        places[number] = place if docs[number] else 0
        place += len(docs[number]) + gap
    with tempfile.TemporaryDirectory() as folder:
        starts = range(len(docs) + 1)
        path = write_megatron(Path(folder, "x"), docs, starts, "uint16", places=places)
        with path.open("ab") as file:
            file.write(bytes(data.draw(st.integers(0, 100), label="padding")))
        check(path, docs, data)


@SETTINGS
@given(docs=documents(), data=st.data())
def test_megatron_without_its_images(docs, data):
    # Megatron-LM's tools/preprocess_mmdata.py writes a text and then an image, of mode 1.
    modes = data.draw(st.lists(st.integers(-1, 1), min_size=len(docs), max_size=len(docs)))
    texts = [[] if mode else doc for doc, mode in zip(docs, modes, strict=True)]
    starts = [0, *sorted(data.draw(st.lists(st.integers(0, len(docs)), max_size=4))), len(docs)]
    bounds = itertools.pairwise(starts)
    expected = [list(itertools.chain.from_iterable(texts[a:b])) for a, b in bounds]
    with tempfile.TemporaryDirectory() as folder:
        signed = [mode % 256 for mode in modes]
        path = write_megatron(Path(folder, "x"), docs, starts, "int32", modes=signed)
        check(path, expected, data)
        note = f"{len(docs) - modes.count(0)} of its {len(docs)} sequences are images"
        told = any(note in line for line in open_corpus(path).notes)
        assert told == any(modes)


@pytest.mark.parametrize("named", [False, True])
@SETTINGS
@given(docs=documents(least=1), data=st.data())
def test_npz(named, docs, data):
    # gpt-2's encode.py: np.savez_compressed(out, *chunks).
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    arrays = [np.array(doc, data.draw(st.sampled_from(["<u2", ">i4", "<i8"]))) for doc in docs]
    length = data.draw(st.integers(1, 5))
    rows = np.arange(length * 7).reshape(7, length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        if named:
            save(path, attention_mask=np.ones_like(rows), input_ids=rows)
            check(path, rows.tolist(), data)
        else:
            save(path, *arrays, rows)
            check(path, [*docs, *rows.tolist()], data)


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
@pytest.mark.parametrize("side", ["index", "metadata", "both", "neither"])
@SETTINGS
@given(docs=documents(top=60_000), data=st.data())
def test_datatrove(dtype, side, docs, data):
    ids = np.concatenate(docs).astype(dtype)
    if len(ids) == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "00000_x.ds")
        path.write_bytes(ids.tobytes())
        if side in ("index", "both"):
            ends = np.array(offsets(map(len, docs))[1:], "<u8")
            Path(f"{path}.index").write_bytes(ends.tobytes())
        if side in ("metadata", "both"):
            text = f"a|b|{ids.dtype.itemsize}\n{len(ids)}\n1 kT"
            Path(f"{path}.metadata").write_text(text)
        expected = docs if side in ("index", "both") else [ids.tolist()]
        options = {"dtype": dtype} if side == "neither" else {}
        check(folder, expected, data, **options)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<u8"])
@SETTINGS
@given(docs=documents(top=200), keys=st.text(max_size=6), data=st.data())
def test_dolma(dtype, docs, keys, data):
    ids = np.concatenate(docs).astype(dtype)
    if len(ids) == 0:
        return
    rows = io.StringIO(newline="")
    bounds = offsets(map(len, docs))
    for number in range(len(docs)):
        row = [bounds[number], bounds[number + 1], keys.replace("\0", ""), 'a"b', number]
        csv.writer(rows).writerow(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part-0-00000.npy")
        path.write_bytes(ids.tobytes())
        table = rows.getvalue().encode(errors="surrogatepass")
        path.with_name("part-0-00000.csv.gz").write_bytes(gzip.compress(table))
        check(folder, docs, data)


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
@SETTINGS
@given(docs=documents(top=100), data=st.data())
def test_llm_c(magic, version, dtype, docs, data):
    ids = [id_ for doc in docs for id_ in (*doc, 101)]
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.bin")
        path.write_bytes(header.tobytes() + np.array(ids, dtype).tobytes())
        check(folder, [[*doc, 101] for doc in docs], data, eod=101, vocab_size=102)
        check(folder, docs, data, eod=101, vocab_size=101)


def shards(docs, data):
    """The documents in consecutive pieces."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(docs)), max_size=3)))
    return [docs[a:b] for a, b in zip([0, *cuts], [*cuts, len(docs)], strict=True)]


def items_bytes(items, between=b""):
    first = 8 + 4 * len(items) + len(between)
    places = np.array(offsets(map(len, items), first), "<u4")
    return struct.pack("<I", len(items)) + places.tobytes() + between + b"".join(items)


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "uint32", "int32", "int64", "uint64"]
)
@pytest.mark.parametrize("how", ["ndarray", "ndarray:", "bytes"])
@SETTINGS
@given(docs=documents(least=1), data=st.data())
def test_mds(dtype, how, docs, data):
    codes = {
        "uint8": 8,
        "uint16": 16,
        "int16": 17,
        "uint32": 32,
        "int32": 33,
        "int64": 65,
        "uint64": 64,
    }
    if how == "bytes" and dtype in ("uint8", "int16", "uint64"):
        return
    encoding = {"ndarray": how, "ndarray:": how + dtype, "bytes": how}[how]
    columns = {
        "column_names": ["a", "n", "tokens", "z"],
        "column_encodings": ["str", "int", encoding, "pkl"],
        "column_sizes": [None, 8, None, None],
    }
    packed = data.draw(st.booleans(), label="packed")
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for number, part in enumerate(shards(docs, data)):
            items = []
            for doc in part:
                value = np.array(doc, np.dtype(dtype).newbyteorder("<")).tobytes()
                if how != "bytes":
                    width = data.draw(st.sampled_from([0, 1, 2, 3]))
                    shape = struct.pack("<" + "BHIQ"[width], len(doc))
                    value = bytes([1 << 2 | width]) + shape + value
                if how == "ndarray":
                    value = bytes([codes[dtype]]) + value
                text = ("é" * (len(doc) % 3)).encode()
                sizes = struct.pack("<III", len(text), len(value), 3)
                items.append(sizes + text + struct.pack("<q", len(doc)) + value + b"pkl")
            raw = items_bytes(items, json.dumps(columns).encode())
            name = f"shard.{number:05d}.mds"
            entry = {"format": "mds", "version": 2, "samples": len(part), "compression": None}
            entry |= {
                "raw_data": {"basename": name, "bytes": len(raw), "hashes": {}},
                "zip_data": None,
            }
            if packed:
                entry |= {"compression": "zstd:3", "zip_data": {"basename": f"{name}.zstd"}}
                raw = pa.Codec("zstd").compress(raw, asbytes=True)
                name = f"{name}.zstd"
            Path(folder, name).write_bytes(raw)
            entries.append(entry)
        Path(folder, "index.json").write_text(json.dumps({"version": 2, "shards": entries}))
        check(folder, docs, data, **({"dtype": dtype} if how == "bytes" else {}))


@pytest.mark.parametrize("loader", ["TokensLoader", "PyTreeLoader", None])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("tensor:15", "<i4"), ("tensor:18", "<i8"), ("tensor:20", "<u2"), ("numpy:6", "<u4")],
)
@SETTINGS
@given(docs=documents(top=60_000), data=st.data())
def test_litdata(loader, kind, dtype, docs, data):
    packed = data.draw(st.booleans(), label="packed")
    config = {
        "compression": "zstd" if packed else None,
        "data_format": [f"no_header_{kind}"],
        "data_spec": json.dumps([1, {"type": None, "context": None, "children_spec": []}]),
        **({} if loader is None else {"item_loader": loader}),
    }
    chunks = []
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(shards(docs, data)):
            items = [np.array(doc, dtype).tobytes() for doc in part]
            if loader == "PyTreeLoader":
                items = [struct.pack("<I", len(item)) + item for item in items]
            raw = items_bytes(items)
            name = f"chunk-0-{number}{'.zstd' if packed else ''}.bin"
            dim = None if loader == "PyTreeLoader" else sum(map(len, part))
            chunks.append(
                {"filename": name, "chunk_bytes": len(raw), "chunk_size": len(part), "dim": dim}
            )
            data_ = pa.Codec("zstd").compress(raw, asbytes=True) if packed else raw
            Path(folder, name).write_bytes(data_)
        index = {"chunks": chunks, "config": config}
        Path(folder, "index.json").write_text(json.dumps(index))
        check(folder, docs, data)
