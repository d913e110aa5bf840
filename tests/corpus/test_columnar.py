"""Every way in which Arrow holds text or lists of integers, in every container.

Oracle: `to_pylist` of the same array. Situations: arrow#38849 (views), ClickHouse#44878 (text
without UTF8), fastparquet#935 and arrow-rs#8443 (dots in names), arrow#51361 (encrypted columns).
"""

import base64
import io
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.columnar import checked, plain, weights
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.base import Problems
from radscore.corpus.text.tokenizer import Utf8Encoder
from radscore.documents import Documents
from radscore.errors import CorpusError, TokenError

IDS = [[1, 2], None, [3], [], [5, 6, 7], [9] * 40]
TEXTS = ["the cat", None, "", "a dog", "a mat that is longer than twelve bytes"]
PAIRS = [[1, 2], None, [3, 4], [5, 6]]


class Tagged(pa.ExtensionType):
    def __init__(self, storage):
        super().__init__(storage, "radscore.test.tagged")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls(storage)


pa.register_extension_type(Tagged(pa.list_(pa.int32())))


def runs(values):
    ends = pa.array(np.cumsum([1 + i % 3 for i in range(len(values))]).tolist(), pa.int32())
    return pa.RunEndEncodedArray.from_arrays(ends, values)


def picked(values, kind="int16"):
    return pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 1, 1, 3], kind), values)


def lists_of(values, cls=pa.ListArray):
    kind = pa.int32() if cls is pa.ListArray else pa.int64()
    return cls.from_arrays(pa.array([0, 2, 2, 3], kind), values)


def kinds_of_ids():
    makers = (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)
    integers = (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())
    yield from (pa.array(IDS, make(kind)) for make, kind in itertools.product(makers, integers))
    plain_lists = pa.array(IDS, pa.list_(pa.int32()))
    yield pa.array(PAIRS, pa.list_(pa.int32(), 2))
    yield pa.FixedSizeListArray.from_arrays(runs(pa.array([7, 8, 9])), 2)
    yield from (picked(plain_lists), picked(plain_lists, "uint64"), runs(plain_lists))
    yield runs(picked(plain_lists))
    yield picked(pa.array(IDS, pa.list_view(pa.int32())))
    for cls in (pa.ListArray, pa.LargeListArray):
        yield lists_of(pa.array([7, 8, None]).dictionary_encode(), cls)
        yield lists_of(runs(pa.array([7, 8])), cls)
    # Views that lie in any order, and overlap.
    for values in (pa.array([1, 2, 3]), pa.array([1, 2, 3]).dictionary_encode()):
        starts, sizes = pa.array([2, 0, 1, 0], pa.int32()), pa.array([1, 2, 0, 3], pa.int32())
        yield pa.ListViewArray.from_arrays(starts, sizes, values)
    yield pa.nulls(3)
    yield from (pa.array([[None], [], None], make(pa.null())) for make in makers)
    yield pa.ExtensionArray.from_storage(Tagged(plain_lists.type), plain_lists)


def kinds_of_text():
    text = pa.array(TEXTS)
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield from (text.cast(kind), text.cast(kind).cast(pa.binary_view()))
    yield from (text.cast(pa.binary()), text.cast(pa.large_binary()), text.dictionary_encode())
    yield from (picked(text), picked(text.cast(pa.string_view())), runs(text), runs(picked(text)))
    yield pa.array([b"the", None, b"dog"], pa.binary(3))


def named(arrays):
    return [pytest.param(array, id=str(array.type)[:60]) for array in arrays]


@pytest.mark.parametrize("array", named(itertools.chain(kinds_of_ids(), kinds_of_text())))
def test_plain_arrays_hold_the_same(array):
    """Slices as well: offsets of a slice are the classical mistake."""
    whole = array.to_pylist()
    for first, last in itertools.combinations_with_replacement(range(len(array) + 1), 2):
        part = checked(array.slice(first, last - first))
        made = plain(part)
        made.validate(full=True)
        is_text = pa.types.is_large_binary(made.type)
        assert is_text or pa.types.is_large_list(made.type)
        expected = [one.encode() if isinstance(one, str) else one for one in whole[first:last]]
        assert made.to_pylist() == expected
        lengths = [len(one) // 4 if is_text else len(one) for one in expected if one is not None]
        assert [w for w, one in zip(weights(part), expected, strict=True) if one is not None] == (
            lengths
        )


def written(array, folder):
    """The array as the column x of files of every container that can hold it."""
    table = pa.table({"other": list(range(len(array))), "x": array})
    for compression, (tag, new) in itertools.product(
        (None, "zstd"), (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream))
    ):
        path = folder / f"{tag}-{compression}.arrow"
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with new(str(path), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=4)
        yield path
    try:
        pq.write_table(table, folder / "x.parquet", row_group_size=4)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return  # Parquet has no such type
    yield folder / "x.parquet"


@pytest.mark.parametrize("array", named(kinds_of_ids()))
def test_ids_of_any_kind_are_read_from_any_container(tmp_path, array):
    expected = [one for one in array.to_pylist() if one is not None and None not in one]
    for path, batch_tokens in itertools.product(written(array, tmp_path), (1, 5, 2**22)):
        corpus = open_corpus(path, field="x", on_error="skip", batch_tokens=batch_tokens)
        if not expected:
            with pytest.raises(CorpusError, match="is null"):
                list(corpus)
            continue
        batches = list(corpus)
        found = [doc.tolist() for batch in batches for doc in batch.documents]
        assert found == expected, path
        assert corpus.skipped.count == len(array) - len(expected)
        # A cursor continues exactly, within a record batch too.
        middle = batches[len(batches) // 2].cursor
        if middle["documents"] < len(expected):
            rest = [doc.tolist() for b in corpus.batches(middle) for doc in b.documents]
            assert rest == expected[middle["documents"] :]


@pytest.mark.parametrize("array", named(kinds_of_text()))
def test_text_of_any_kind_is_read_from_any_container(tmp_path, tokenizer, array):
    whole = [t.decode() if isinstance(t, bytes) else t for t in array.to_pylist()]
    expected = [text for text in whole if text is not None]
    want = [tokenizer.encode(text, add_special_tokens=False).ids for text in expected]
    for path in written(array, tmp_path):
        corpus = open_corpus(path, field="x", tokenizer=tokenizer, on_error="skip")
        assert [doc.tolist() for batch in corpus for doc in batch.documents] == want, path
        assert corpus.skipped.count == len(whole) - len(expected)
        (source,) = corpus.sources
        assert [row["x"] for _, row, _ in source.format.records(source)] == whole


@pytest.mark.parametrize("array", named(kinds_of_ids()))
def test_ids_of_any_kind_are_documents(array):
    whole = array.to_pylist()
    if any(one is None or None in one for one in whole):
        with pytest.raises(TokenError, match="null"):
            Documents.of(array)
        array = array.slice(0, 1)
        whole = whole[:1]
    if whole[0] is not None and None not in whole[0]:
        for some in (array, pa.chunked_array([array, array]).slice(0, len(array))):
            assert [doc.tolist() for doc in Documents.of(some)] == whole


def test_tables_in_memory(tokenizer):
    table = pa.table({"n": range(6), "tokens": pa.array(IDS, pa.list_view(pa.int32()))})
    expected = [ids for ids in IDS if ids is not None]
    simple = table.set_column(1, "tokens", pa.array(IDS, pa.list_(pa.int32())))
    frames = (pl.from_arrow(simple), simple.to_pandas(types_mapper=pd.ArrowDtype))
    for one in (table, pa.concat_tables([table[:2], table[2:]]), table.to_batches()[0], *frames):
        corpus = open_corpus(one, on_error="skip", batch_tokens=3)
        batches = list(corpus)
        assert [doc.tolist() for batch in batches for doc in batch.documents] == expected
        assert [doc.tolist() for b in corpus.batches(batches[1].cursor) for doc in b.documents] == (
            expected[batches[1].first_document + len(batches[1]) :]
        )
        assert (corpus.skipped.count, corpus.known().n_documents) == (1, 6)
    text = pl.DataFrame({"text": ["the cat"]})
    (batch,) = open_corpus(text, tokenizer=tokenizer)
    assert batch.documents[0].tolist() == [2, 3]
    assert str(batch.locate(0)) == "DataFrame(1 rows):row 0"


def test_text_that_is_not_utf_8_is_named_by_its_row(tmp_path, tokenizer):
    rows = [b"the cat", b"a \xff dog", b"\x80", None]
    whole = pa.array(rows, pa.binary())
    text = whole.view(pa.string())
    kinds = [whole.cast(kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())]
    indices, ends = pa.array([0, 1, 2, 3], pa.int8()), pa.array([1, 2, 3, 4], pa.int16())
    kinds += [text, pa.DictionaryArray.from_arrays(indices, text)]
    kind = pa.run_end_encoded(ends.type, text.type)
    kinds += [pa.Array.from_buffers(kind, 4, [None], children=[ends, text])]
    kinds += [whole.cast(pa.binary_view()).view(pa.string_view())]
    for array in kinds:
        for path in written(array, tmp_path):
            with pytest.raises(CorpusError, match=r"row 1: field 'x' is not UTF-8 \(byte 2 "):
                list(open_corpus(path, field="x", tokenizer=tokenizer))
            corpus = open_corpus(path, field="x", tokenizer=tokenizer, on_error="skip")
            assert sum(len(batch) for batch in corpus) == 1
            assert corpus.skipped.count == 3


@pytest.mark.parametrize(
    "array",
    named(
        [
            pa.array([[1.5]]),
            pa.array([[True]]),
            pa.array([[[1]]]),
            pa.array([["a"]]),
            pa.array([1]),
            pa.array([1.5]),
            pa.array([{"a": 1}]),
            pa.array([[1]], pa.list_(pa.decimal128(5))),
            pa.array([[1]], pa.list_view(pa.float16())),
        ]
    ),
)
def test_other_types_are_refused_by_name(tmp_path, tokenizer, array):
    for path in written(array, tmp_path):
        with pytest.raises(CorpusError, match="'x' must hold text or lists of integers, not "):
            list(open_corpus(path, field="x", tokenizer=tokenizer))


def test_names_that_are_no_utf_8(tmp_path):
    table = pa.table({"tokens": [[1, 2]], "zzzz": [1]})
    for path in written(pa.array([[1, 2]]), tmp_path):
        path.unlink()
    pq.write_table(table, tmp_path / "x.parquet")
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"zzzz", b"zz\xffz"))
        with pytest.raises(CorpusError, match=rf"{path.name}: .*(UTF-8|damaged)"):
            list(open_corpus(path))


BESIDE = {
    "struct": pa.array([{"x": [1], "y": "z"}] * 6),
    "null": pa.nulls(6),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([6]), pa.array(["x"])),
    "map": pa.array([[("k", 1)]] * 6, pa.map_(pa.string(), pa.int8())),
    "list view": pa.array(IDS, pa.list_view(pa.int32())),
    "bool": pa.array([True] * 6),
    "dictionary": pa.array(["a", "b", None] * 2).dictionary_encode(),
    "view": pa.array(["a"] * 6, pa.string_view()),
}


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("last", [0, 3, len(BESIDE) - 2, len(BESIDE) - 1, len(BESIDE)])
def test_large_compressed_batches_are_read_piece_by_piece(tmp_path, monkeypatch, last, codec):
    """Whatever stands before them; dictionaries and views are left to pyarrow."""
    import radscore.corpus.readers.packed as module

    monkeypatch.setattr(module, "_LARGE", 0)
    seen = []
    monkeypatch.setattr(module.PackedColumn, "take", counted(module.PackedColumn.take, seen))
    texts = [None if ids is None else "é".join(map(str, ids)) for ids in IDS]
    arrays = [pa.array(IDS, make(pa.uint16())) for make in (pa.list_, pa.large_list)]
    arrays += [pa.array([[1, 2], None] * 3, pa.list_(pa.int64(), 2))]
    arrays += [pa.array(texts, kind) for kind in (pa.string(), pa.large_binary())]
    beside = dict(itertools.islice(BESIDE.items(), last))
    for array, new, rows in itertools.product(
        arrays, (pa.ipc.new_file, pa.ipc.new_stream), (2, 100)
    ):
        table = pa.table({**beside, "x": array, "last": ["q"] * 6})
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with new(str(tmp_path / "x.arrow"), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rows)
        whole = [one.encode() if isinstance(one, str) else one for one in array.to_pylist()]
        expected = [list(one) for one in whole if one is not None]
        options = {"field": "x", "on_error": "skip", "tokenizer": Utf8Encoder()}
        corpus = open_corpus(tmp_path / "x.arrow", batch_tokens=3, **options)
        batches = list(corpus)
        assert [doc.tolist() for batch in batches for doc in batch.documents] == expected
        middle = batches[1]
        rest = [doc.tolist() for b in corpus.batches(middle.cursor) for doc in b.documents]
        assert rest == expected[middle.first_document + len(middle) :]
    assert bool(seen) == (last < len(BESIDE) - 1)


def counted(function, seen):
    def call(*arguments):
        seen.append(arguments)
        return function(*arguments)

    return call


# ---- what footers say -----------------------------------------------------------------------

DOCS = st.lists(st.none() | st.lists(st.integers(0, 99), max_size=5), max_size=12)
NAMES = ("x", "x.ids", "x.list.element", "x.", ".x", "list", "a b")


@settings(max_examples=60, deadline=None)
@given(docs=DOCS, data=st.data())
def test_what_is_known_of_parquet_is_what_is_read(docs, data):
    """Dotted, repeated and nested names, empty row groups, nulls."""
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    wanted = data.draw(st.sampled_from(names))
    make = data.draw(st.sampled_from([pa.list_, pa.large_list]))
    columns, fields = [], []
    at = names.index(wanted)
    for i, name in enumerate(names):
        if i == at:
            columns.append(pa.array(docs, make(pa.int32())))
        else:
            struct = pa.array([{"x": [7], "list": {"element": 1}}] * len(docs))
            nested = pa.array([[[1, 2], [3]]] * len(docs), pa.list_(pa.list_(pa.int64())))
            columns.append(data.draw(st.sampled_from([struct, nested, nested.flatten()[:0]])))
            if len(columns[-1]) != len(docs):
                columns[-1] = pa.array([[7, 7, 7]] * len(docs), pa.list_(pa.int32()))
        fields.append(pa.field(name, columns[-1].type))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(docs)), max_size=3)))
    sink = io.BytesIO()
    options = {
        "use_dictionary": data.draw(st.booleans()),
        "write_statistics": data.draw(st.booleans()),
    }
    with pq.ParquetWriter(sink, pa.schema(fields), **options) as writer:
        table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
        for first, last in zip([0, *cuts], [*cuts, len(docs)], strict=True):
            writer.write_table(table.slice(first, last - first))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.parquet")
        path.write_bytes(sink.getvalue())
        corpus = open_corpus(path, field=wanted, on_error="skip", batch_tokens=7)
        if names.count(wanted) > 1:
            with pytest.raises(CorpusError, match="two columns are named"):
                list(corpus)
            with pytest.raises(CorpusError, match="two columns are named"):
                open_corpus(path, field=wanted).known()
            return
        expected = [doc for doc in docs if doc is not None]
        known = corpus.known()
        assert known.n_documents == len(docs)
        assert known.n_tokens in (None, sum(map(len, expected)))
        if expected:
            assert [doc.tolist() for batch in corpus for doc in batch.documents] == expected
            assert corpus.skipped.count == len(docs) - len(expected)
            found = inspect_corpus(path, field=wanted)
            assert (found.n_documents, found.n_tokens) == (
                len(expected),
                sum(map(len, expected)),
            )
            problems = Problems("skip")
            reader = corpus.sources[0].format.open(corpus.sources[0], corpus.options, problems)
            edges = [*reader.edges(40), None]
            parts = [reader.chunks(a, b) for a, b in itertools.pairwise([{}, *edges])]
            assert [
                doc.tolist() for c in itertools.chain(*parts) for doc in c.documents
            ] == expected


def test_batches_are_of_a_size_whatever_names_there_are(tmp_path):
    lists = pa.ListArray.from_arrays(
        np.arange(0, 2001, dtype=np.int32) * 500, np.arange(10**6, dtype=np.int32) % 9999
    )
    for names in (["meta.ids"], ["ids", "ids.raw"], ["a.b", "a"]):
        pq.write_table(
            pa.Table.from_arrays([lists] * len(names), names=names), tmp_path / "x.parquet"
        )
        corpus = open_corpus(tmp_path / "x.parquet", field=names[0], batch_tokens=2**14)
        sizes = [batch.documents.n_tokens for batch in corpus]
        assert corpus.known().n_tokens == sum(sizes) == 10**6
        assert max(sizes) <= 2**14


class Kms(pe.KmsClient):
    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key, master):
        return base64.b64encode(key)

    def unwrap_key(self, key, master):
        return base64.b64decode(key)


def encrypted(path, column, *, plain_footer=True):
    factory = pe.CryptoFactory(Kms)
    config = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": [column]}, plaintext_footer=plain_footer
    )
    table = pa.table({"tokens": [[i, i + 1] for i in range(50)], "secret": ["x"] * 50})
    how = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, table.schema, encryption_properties=how) as writer:
        writer.write_table(table)


CODE = """
import sys
from radscore.corpus import open_corpus
corpus = open_corpus(sys.argv[1], field="tokens", on_error="skip")
known = corpus.known()
(source,) = corpus.sources
rows = sum(1 for _ in source.format.records(source))
print(known.n_tokens, sum(batch.documents.n_tokens for batch in corpus), rows)
"""


def test_an_encrypted_column_that_nobody_wants_is_left_alone(tmp_path):
    """pyarrow ends the process where metadata of any encrypted column are asked for."""
    encrypted(tmp_path / "x.parquet", "secret")
    command = [sys.executable, "-c", CODE, str(tmp_path / "x.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["100", "100", "50"]


def test_an_encrypted_column_that_is_wanted_is_said(tmp_path):
    encrypted(tmp_path / "x.parquet", "tokens.list.element")
    with pytest.raises(CorpusError, match=r"x\.parquet: column 'tokens' is encrypted; decrypt the"):
        list(open_corpus(tmp_path / "x.parquet"))
    encrypted(tmp_path / "y.parquet", "secret", plain_footer=False)
    with pytest.raises(CorpusError, match=r"y\.parquet: .*encrypt"):
        list(open_corpus(tmp_path / "y.parquet"))


def test_damage_to_the_metadata_of_a_column_is_an_error(tmp_path):
    """Level histograms of a wrong length end pyarrow's process when the metadata are asked for."""
    pq.write_table(pa.table({"tokens": [[1, 2], [3]], "t": ["a", "b"]}), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    rng = np.random.default_rng(0)
    (tmp_path / "m").mkdir()
    for i in range(300):
        bad = bytearray(data)
        bad[-8 - int(rng.integers(1, length))] ^= 1 << int(rng.integers(8))
        (tmp_path / "m" / f"{i}.parquet").write_bytes(bad)
    code = CODE.replace("print", "#").partition("known")[0] + "corpus.known(); list(corpus)\n"
    code += "print(corpus.skipped.files)"
    command = [sys.executable, "-c", code, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert 0 < int(done.stdout) < 300


# ---- memory ---------------------------------------------------------------------------------

PEAK = """
import sys
import pyarrow.parquet
from radscore.corpus import open_corpus
from radscore.corpus.text.tokenizer import Utf8Encoder

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024

before = peak()
n = 0
for batch in open_corpus(sys.argv[1], batch_tokens=2**20, tokenizer=Utf8Encoder()):
    n += batch.documents.n_tokens
print(n, peak() - before)
"""
N = 100_000_000


def huge():
    text = "the cat sat on the mat " * 5000
    rows = np.zeros((N // 2048, 2048), np.int32)
    rows[:, :9] = 7
    lists = pa.FixedSizeListArray.from_arrays(rows.reshape(-1), 2048)
    yield "padded.parquet", lists, rows.size
    yield "padded.arrow", lists, rows.size
    yield "padded.feather", lists, rows.size
    one = pa.array([list(range(5000))], pa.list_(pa.int32()))
    ends = pa.array([N // 5000], pa.int32())
    yield "runs.arrow", pa.RunEndEncodedArray.from_arrays(ends, one), N
    # Nearly all values in a few rows, which the average does not show.
    lengths = np.zeros(400_000, np.int64)
    lengths[200_000:200_500] = N // 500
    ends = np.concatenate(([0], np.cumsum(lengths)))
    yield "uneven.parquet", pa.LargeListArray.from_arrays(ends, np.full(N, 7, np.int32)), N
    zeros = pa.array(np.zeros(N // len(text), np.int32))
    same = pa.DictionaryArray.from_arrays(zeros, pa.array([text]))
    yield "same.parquet", same, len(zeros) * len(text)
    yield "same.arrow", same, len(zeros) * len(text)
    inner = pa.RunEndEncodedArray.from_arrays(pa.array([N], pa.int32()), pa.array([7], pa.int32()))
    offsets = pa.array(np.arange(0, N + 1, 10_000, dtype=np.int32))
    yield "inner.arrow", pa.ListArray.from_arrays(offsets, inner), N


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_columns_that_stand_for_far_more_than_they_take(tmp_path):
    for name, array, n_tokens in huge():
        path = tmp_path / name
        is_text = pa.types.is_dictionary(array.type)
        table = pa.table({"text" if is_text else "tokens": array})
        if path.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=10**9)
        else:
            codec = "lz4" if path.suffix == ".feather" else None
            options = pa.ipc.IpcWriteOptions(compression=codec)
            with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
                writer.write_table(table)
        command = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
        found, megabytes = map(int, done.stdout.split())
        assert found == n_tokens, name
        assert megabytes < (250 if name.startswith("uneven") else 150), name
        path.unlink()


def test_what_follows_a_stream_is_not_lost(tmp_path):
    # cat a.arrow b.arrow: pyarrow stops at the end of the first stream without a word
    table = pa.table({"input_ids": [[1, 2], [3]]})
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()
    for rest in (b"", bytes(70_000)):
        path.write_bytes(whole + rest)
        assert sum(len(batch) for batch in open_corpus(path)) == 2
    for rest in (whole, bytes(9) + b"x"):
        path.write_bytes(whole + rest)
        with pytest.raises(CorpusError, match=f"ends at byte {len(whole)}, but the file goes on"):
            list(open_corpus(path))
