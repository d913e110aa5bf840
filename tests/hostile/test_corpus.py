"""Files made to hurt: each ends in a clear error or in the right documents."""

import gzip
import io
import json
import os
import pickle
import re
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from radscore.corpus import inspect_corpus, open_corpus
from radscore.errors import CorpusError, RadscoreError

pytestmark = pytest.mark.timeout(60)


def parquet_bytes(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def stream_bytes(table, new=pa.ipc.new_stream):
    sink = io.BytesIO()
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def npy_bytes(array, **options):
    sink = io.BytesIO()
    np.save(sink, array, **options)
    return sink.getvalue()


def npy_header(text):
    head = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


def broken_list(offsets):
    """A list array whose offsets lie, as a file may hold it."""
    values = pa.array(np.arange(6, dtype=np.int32))
    array = pa.ListArray.from_arrays(pa.array([0, 2, 6], pa.int32()), values)
    honest = np.array([0, 2, 6], np.int32).tobytes()
    data = stream_bytes(pa.table({"tokens": array}))
    assert data.count(honest) == 1
    return data.replace(honest, np.array(offsets, np.int32).tobytes())


def lying_header(descr, shape):
    return npy_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


IDS = pa.table({"tokens": pa.array([[1, 2], [3]], pa.list_(pa.int32()))})
IDS_PARQUET = parquet_bytes(IDS)
IDS_STREAM = stream_bytes(IDS)
IDS_FILE = stream_bytes(IDS, pa.ipc.new_file)

# name, content, options, what the message says
HOSTILE = [
    ("broken.jsonl", b'{"tokens": [1, 2', {}, "not JSON"),
    ("binary.jsonl", bytes(range(128, 256)), {}, "not UTF-8"),
    ("nul.jsonl", b"\0" * 1000, {}, "not JSON"),
    ("nested.jsonl", b'{"tokens": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", {}, "nested too"),
    ("objects.jsonl", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {}, "nested too"),
    ("nan.jsonl", b'{"tokens": [1, NaN]}', {}, "nan, not an integer"),
    ("infinity.jsonl", b'{"tokens": [1, -Infinity]}', {}, "-inf, not an integer"),
    ("float.jsonl", b'{"tokens": [1.0, 2.0]}', {}, "1.0, not an integer"),
    ("exponent.jsonl", b'{"tokens": [1e3]}', {}, "1000.0, not an integer"),
    ("negative.jsonl", b'{"tokens": [1, -1]}', {}, "-1, not from 0"),
    ("padding.jsonl", b'{"tokens": [4294967295]}', {}, "4294967295, not from 0"),
    ("huge.jsonl", b'{"tokens": [18446744073709551617]}', {}, "18446744073709551617, not from 0"),
    ("huger.jsonl", b'{"tokens": [1' + b"0" * 4000 + b"]}", {}, "a huge integer"),
    ("digits.jsonl", b'{"tokens": [1' + b"0" * 100_000 + b"]}", {}, "not JSON"),
    ("null.jsonl", b'{"tokens": null}', {}, "is null"),
    ("nulls.jsonl", b'{"tokens": [null]}', {}, "null, not an integer"),
    ("bool.jsonl", b'{"tokens": [true, false]}', {}, "true, not an integer"),
    ("words.jsonl", b'{"tokens": ["1", "2"]}', {}, "'1', not an integer"),
    ("pairs.jsonl", b'{"tokens": [[1, 2], [3]]}', {}, "[1, 2], not an integer"),
    ("object.jsonl", b'{"tokens": {"0": 1}}', {}, "not dict"),
    ("empty.jsonl", b"", {}, "no documents"),
    ("blank.jsonl", b"\n \n\n", {}, "no documents"),
    ("utf16.jsonl", '{"tokens": [1]}\n'.encode("utf-16"), {}, "not UTF-8"),
    ("array.json", b'[{"tokens": [1]}]', {}, "JSON array"),
    ("no.jsonl.gz", b"\x1f\x8b", {}, "no.jsonl.gz: "),
    ("cut.jsonl.gz", gzip.compress(b'{"tokens": [1]}\n' * 9)[:16], {}, "cut.jsonl.gz: "),
    ("flip.jsonl.gz", None, {}, "flip.jsonl.gz: "),
    ("no.jsonl.zst", b"\x28\xb5\x2f\xfd\xff\xff", {}, "no.jsonl.zst: "),
    ("double.jsonl.gz", gzip.compress(gzip.compress(b'{"tokens": [1]}\n')), {}, "not UTF-8"),
    ("packed.parquet.gz", gzip.compress(IDS_PARQUET), {}, "cannot be read compressed"),
    ("empty.parquet", b"", {}, "empty.parquet: "),
    ("cut.parquet", IDS_PARQUET[:-9], {}, "cut.parquet: "),
    ("half.parquet", IDS_PARQUET[: len(IDS_PARQUET) // 2], {}, "half.parquet: "),
    ("hole.parquet", IDS_PARQUET[:4] + bytes(60) + IDS_PARQUET[64:], {}, "hole.parquet: "),
    ("footer.parquet", IDS_PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1", {}, "footer.parquet: "),
    ("none.parquet", parquet_bytes(IDS.slice(0, 0)), {}, "no documents"),
    ("float.parquet", parquet_bytes(pa.table({"tokens": [[1.5]]})), {}, "not list<"),
    ("number.parquet", parquet_bytes(pa.table({"tokens": [1, 2]})), {}, "not int64"),
    ("nulls.parquet", parquet_bytes(pa.table({"tokens": [[1, None]]})), {}, "is null"),
    ("minus.parquet", parquet_bytes(pa.table({"tokens": [[1, -5]]})), {}, "token id -5"),
    ("cut.arrow", IDS_STREAM[: len(IDS_STREAM) - 80], {}, "cut.arrow: "),
    ("cut2.arrow", IDS_FILE[:-20], {}, "cut2.arrow: "),
    ("junk.arrow", b"\xff\xff\xff\xff" + b"\x7f" * 100, {}, "junk.arrow: "),
    ("decreasing.arrow", broken_list([0, 5, 2]), {}, "decreasing.arrow: "),
    ("beyond.arrow", broken_list([0, 2, 1_000_000]), {}, "beyond.arrow: "),
    ("minus.arrow", broken_list([-4, 2, 3]), {}, "minus.arrow: "),
    ("pickle.npy", npy_bytes(np.array([Bomb()]), allow_pickle=True), {}, "never loaded"),
    ("bare.npy", pickle.dumps(Bomb()), {}, "no numpy header"),
    ("float.npy", npy_bytes(np.ones(3)), {}, "float64, not integers"),
    ("bool.npy", npy_bytes(np.ones(3, bool)), {}, "bool, not integers"),
    ("text.npy", npy_bytes(np.array(["a"])), {}, "not integers"),
    ("fields.npy", npy_bytes(np.zeros(2, [("a", "i4")])), {}, "not integers"),
    ("cube.npy", npy_bytes(np.ones((2, 2, 2), int)), {}, "one or two dimensions"),
    ("scalar.npy", npy_bytes(np.int64(3)), {}, "one or two dimensions"),
    ("none.npy", npy_bytes(np.ones(0, np.int32)), {}, "no documents"),
    ("cut.npy", npy_bytes(np.arange(9))[:-3], {}, "the file has"),
    ("long.npy", npy_bytes(np.arange(9)) + b"\0", {}, "the file has"),
    ("head.npy", npy_bytes(np.arange(9))[:50], {}, "numpy header"),
    ("version.npy", b"\x93NUMPY\x09\x00" + bytes(100), {}, "numpy"),
    ("minus.npy", npy_bytes(np.array([1, -1], np.int16)), {}, "token id -1"),
    ("big.npy", npy_bytes(np.array([2**40])), {}, "token id 1099511627776"),
    *[
        (f"lie{i}.npy", lying_header(descr, shape), {}, "")
        for i, (descr, shape) in enumerate(
            [
                ("'<u2'", "(10,)"),
                ("'<u2'", "(-1,)"),
                ("'<u2'", "(4611686018427387904, 4611686018427387904)"),
                ("'<u2'", "(0, 10**9)"),
                ("'<u2'", "(True,)"),
                ("'<u2'", "'x'"),
                ("'|O'", "(1,)"),
                ("__import__('os').mkdir('evaluated')", "(1,)"),
            ]
        )
    ],
    ("odd.bin", b"\1\2\3", {"dtype": "uint16"}, "3 bytes are not a whole number of uint16 ids"),
    ("odd4.bin", b"\1\2\3\4\5\6", {"dtype": "uint32"}, "6 bytes are not a whole number"),
    ("empty.bin", b"", {"dtype": "uint16"}, "no documents"),
    ("minus.bin", b"\xff" * 4, {"dtype": "int32"}, "token id -1"),
    ("padding.bin", b"\xff" * 4, {"dtype": "uint32"}, "token id 4294967295"),
    ("untyped.bin", b"\1\2\3\4", {}, "give the dtype"),
]


@pytest.mark.parametrize("case", HOSTILE, ids=[case[0] for case in HOSTILE])
def test_a_hostile_file_ends_in_one_clear_line(tmp_path, monkeypatch, case):
    name, content, options, message = case
    monkeypatch.chdir(tmp_path)
    if content is None:  # one wrong byte in the packed data
        packed = bytearray(gzip.compress(json.dumps({"tokens": list(range(900))}).encode()))
        packed[len(packed) // 2] ^= 0x55
        content = bytes(packed)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RadscoreError) as caught:
        list(open_corpus(name, **options))
    text = str(caught.value)
    assert name in text
    assert message in text
    assert "\n" not in text
    assert len(text) < 500
    # Skipping finds nothing else to read, and says so.
    with pytest.raises(RadscoreError, match=re.escape(name)):
        list(open_corpus(name, on_error="skip", **options))
    if name != "untyped.bin":  # there it is the very thing to look at
        with pytest.raises(RadscoreError, match=re.escape(name)):
            inspect_corpus(name, **options)
    assert not (tmp_path / "unpickled").exists()
    assert not (tmp_path / "evaluated").exists()


def test_a_good_document_beside_every_bad_line(tmp_path):
    bad = [
        c[1] for c in HOSTILE if c[0].endswith(".jsonl") and c[1].strip() and c[0] != "utf16.jsonl"
    ]
    lines = [line for content in bad for line in (content.replace(b"\n", b" "), b'{"tokens": [7]}')]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    corpus = open_corpus(tmp_path / "x.jsonl", on_error="skip")
    documents = [doc.tolist() for batch in corpus for doc in batch.documents]
    assert documents == [[7]] * len(bad)
    assert corpus.skipped.count == len(bad)


def test_a_packed_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    import radscore.corpus.formats.jsonl as module

    monkeypatch.setattr(module, "MAX_LINE", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"tokens": [5]}\n')
        for _ in range(150):
            file.write(b" " * (1 << 20))
        file.write(b'\n{"tokens": [6]}\n')
    assert path.stat().st_size < 2_000_000
    corpus = open_corpus(path, on_error="skip")
    tracemalloc.start()
    documents = [doc.tolist() for batch in corpus for doc in batch.documents]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert documents == [[5], [6]]
    assert "the line is longer than 1048576 bytes" in corpus.skipped.examples[0]
    assert peak < 16_000_000


def test_a_highly_packed_file_is_read_as_a_stream(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(150):
            file.write(b'{"tokens": [5]}' + b" " * (1 << 20) + b"\n")
    tracemalloc.start()
    n_documents = sum(len(batch) for batch in open_corpus(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_documents == 150
    assert peak < 16_000_000


def test_folders_that_loop_and_links_that_lead_nowhere(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"tokens": [1]}')
    (tmp_path / "loop").symlink_to(tmp_path)
    assert sum(len(batch) for batch in open_corpus(tmp_path)) == 1
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing")
    with pytest.raises(CorpusError, match=r"gone\.jsonl: No such file"):
        open_corpus(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(CorpusError, match=r"pipe\.jsonl: not a regular file"):
        open_corpus(tmp_path / "pipe.jsonl")


def test_a_file_that_changes_its_mind_about_its_fields(tmp_path):
    rows = [{"tokens": [1]}, {"text": "x"}, {"tokens": "text"}, {"tokens": []}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: no field 'tokens'; the fields are: text"):
        list(open_corpus(tmp_path / "x.jsonl"))
    corpus = open_corpus(tmp_path / "x.jsonl", on_error="skip")
    assert [doc.tolist() for batch in corpus for doc in batch.documents] == [[1], []]


def test_two_columns_of_one_name(tmp_path):
    table = pa.table([pa.array([[1]]), pa.array([[2]])], names=["tokens", "tokens"])
    (tmp_path / "x.arrow").write_bytes(stream_bytes(table))
    with pytest.raises(CorpusError, match=r"two columns are named 'tokens'"):
        list(open_corpus(tmp_path / "x.arrow"))


@pytest.mark.parametrize("offsets", [[0, 2**30, 2**30], [0, -(2**31) + 1, 6], [0, 90, 6]])
def test_offsets_that_lie_are_refused_by_every_reader_of_arrow(tmp_path, offsets):
    """A corpus, a data set with picked rows, and records; each used to end in a signal."""
    data = broken_list(offsets)
    (tmp_path / "data.arrow").write_bytes(data)
    picked = stream_bytes(pa.table({"indices": pa.array([1, 0], pa.uint64())}))
    (tmp_path / "indices.arrow").write_bytes(picked)
    state = {name: [{"filename": f"{one}.arrow"}] for name, one in LISTED.items()}
    (tmp_path / "state.json").write_text(json.dumps(state))
    for path in (tmp_path, tmp_path / "data.arrow"):
        with pytest.raises(CorpusError, match=re.escape(str(path))):
            list(open_corpus(path))
    (source,) = open_corpus(tmp_path / "data.arrow").sources
    with pytest.raises(CorpusError, match=r"data\.arrow: "):
        list(source.format.records(source))


LISTED = {"_data_files": "data", "_indices_data_files": "indices"}


def test_a_list_of_rows_that_says_more_than_it_has(tmp_path):
    (tmp_path / "data.arrow").write_bytes(IDS_STREAM)
    picked = stream_bytes(pa.table({"indices": pa.array([0, 1] * 59, pa.uint64())}))
    picked = picked.replace((2).to_bytes(8, "little"), (2 * 10**9).to_bytes(8, "little"))
    (tmp_path / "indices.arrow").write_bytes(picked)
    state = {name: [{"filename": f"{one}.arrow"}] for name, one in LISTED.items()}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CorpusError, match=r"indices\.arrow: "):
        list(open_corpus(tmp_path))


def test_metadata_of_any_depth_says_nothing(tmp_path):
    table = pa.table({"tokens": [[1, 2]]})
    data = stream_bytes(table.replace_schema_metadata({"huggingface": "[" * 200_000}))
    (tmp_path / "x.arrow").write_bytes(data)
    (batch,) = open_corpus(tmp_path / "x.arrow")
    assert batch.documents[0].tolist() == [1, 2]
