"""However small the units, they hold what one unit of each file holds, and name the same places."""

import gzip
import json
import struct
import tempfile
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import Corpus, SkipReport
from radscore.corpus.base import Problems
from radscore.corpus.formats.columns import ArrowReader
from radscore.corpus.registry import reader_of
from radscore.errors import CorpusError
from radscore.runs.shards import WorkUnit, cut_units, read_unit
from radscore.runs.steps import parts_of, score_with_files
from run_schemes import VOCAB, keyed
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

DATA = Path(__file__).parents[1] / "corpus" / "data"
SIZES = [1, 5, 40, 333, 2_000, 10**9]
EOD = 50_256
RNG = np.random.default_rng(17)
DOCS = [RNG.integers(0, 50, size=n).tolist() for n in RNG.integers(0, 25, size=150)]
PLAIN = {"vocab_size": VOCAB, "batch_tokens": 60}


def documents(corpus):
    """Documents, prompts and places of whole files, and what was skipped."""
    return documents_in(corpus, map(WorkUnit, range(len(corpus.sources))))


def documents_of_units(corpus, size):
    """The same, unit by unit; of units that hold whole documents."""
    return documents_in(corpus, cut_units(corpus, size))


def documents_in(corpus, units):
    found, skipped = [], SkipReport()
    on_error = corpus.settings["on_error"]
    for unit in units:
        assert not unit.tokens
        problems = Problems(on_error)
        for source in map(corpus.sources.__getitem__, unit.sources):
            for chunk in corpus.checked_chunks(source, unit.start, problems, end=unit.end):
                skipped = skipped.plus(chunk.skipped)
                prompts = chunk.documents if chunk.prompts is None else chunk.prompts
                rows = enumerate(zip(chunk.documents, prompts, strict=True))
                locate = chunk.where.locate
                found += [(a.tolist(), b.tolist(), locate(i)) for i, (a, b) in rows]
        skipped = skipped.plus(problems.take())
    return found, skipped


def score_of_units(corpus, scheme, size, **options):
    """The result of all units, and what they left out."""
    skipped = SkipReport()

    def parts():
        nonlocal skipped
        for unit in cut_units(corpus, size):
            reading = read_unit(corpus, unit, 17)
            yield from reading
            skipped = skipped.plus(reading.skipped)

    rules = {"dedup": "unit", "start": None, "prompt_role": "exclude", "filter": None, **options}
    result = score_with_files(parts(), scheme, memory="64MiB", tmp=None, threads=None, **rules)
    return result, skipped


def score(corpus, scheme, **options):
    """The result of the corpus itself, without what a corpus adds to it."""
    return replace(rs.score(corpus, scheme, **options), notes=(), n_skipped=0)


# Files that the original libraries wrote. Of a packed file, what is one unit however large.
WHOLE = ("mds/packed", "litdata/tokens_zstd", "litdata/tree_chunk")
ORIGINALS = [
    *[("megatron/u2.bin", {}), ("megatron/i4.bin", {})],
    *[("datatrove/u2.ds", {}), ("datatrove/u4.ds", {}), ("datatrove/bare.ds", {})],
    *[("dolma/u2.npy", {}), ("dolma/u4.npy", {})],
    *[("llm_c/gpt2.bin", {"eod": EOD}), ("llm_c/llama.bin", {"eod": EOD})],
    ("llm_c/gpt2.bin", {"eod": EOD, "vocab_size": EOD}),
    ("nanogpt/train.bin", {"format": "nanogpt"}),
    ("nanogpt/train.bin", {"format": "nanogpt", "vocab_size": EOD}),
    *[(f"mds/{name}", {}) for name in ("ndarray_u4", "ndarray_any", "packed_zstd", "packed_gz")],
    ("mds/bytes_i8", {"dtype": "int64"}),
    *[(f"litdata/{name}", {}) for name in ("tokens_i4", "tokens_u2", "tokens_zstd", "items_i8")],
    *[(f"litdata/{name}", {}) for name in ("tree", "tree_chunk", "tree_batch", "tree_sample")],
    *[(f"litdata/{name}", {}) for name in ("shaped", "lists")],
    *[(f"hugging_face/{name}", {}) for name in ("plain", "picked")],
]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(("name", "options"), ORIGINALS, ids=str)
def test_files_of_the_original_writers(name, options, on_error):
    options = {"vocab_size": EOD + 1, "batch_tokens": 50, "on_error": on_error, **options}
    corpus = rs.open_corpus(DATA / name, **options)
    scheme = rs.VLLMGumbel(key=5, vocab_size=options["vocab_size"], context_width=2)
    expected = score(corpus, scheme)
    for size in SIZES:
        units = cut_units(corpus, size)
        result, skipped = score_of_units(corpus, scheme, size)
        assert result == expected
        assert not skipped
        if not any(unit.tokens for unit in units):
            assert documents_of_units(corpus, size)[0] == documents(corpus)[0]
        numbers = [number for unit in units for number in unit.sources]
        assert [number for number, _ in groupby(numbers)] == list(range(len(corpus.sources)))
    n_units, n_files = len(cut_units(corpus, 1)), len(corpus.sources)
    assert len(cut_units(corpus, 10**9)) == 1
    kinds = {source.format for source in corpus.sources}
    if name.startswith(WHOLE):
        assert n_units == n_files
    elif on_error == "raise":
        one_batch = name in ("hugging_face/plain", "litdata/lists")
        assert one_batch or n_units > n_files
    elif kinds & {"megatron", "datatrove", "dolma", "arrow", "datasets"}:
        assert n_units == n_files


def arrow(path, table, *, stream=False, **options):
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=40 if options and stream else 7)


def mds(folder, docs):
    """A shard of int32 arrays by hand; those of the library are above."""
    columns = {
        "column_names": ["tokens"],
        "column_encodings": ["ndarray:int32"],
        "column_sizes": [None],
    }
    items = []
    for doc in docs:
        value = struct.pack("<BB", 4, len(doc)) + np.array(doc, "<i4").tobytes()
        items.append(struct.pack("<I", len(value)) + value)
    text = json.dumps(columns).encode()
    first = 8 + 4 * len(items) + len(text)
    places = np.cumsum([first, *map(len, items)]).astype("<u4")
    data = struct.pack("<I", len(items)) + places.tobytes() + text + b"".join(items)
    folder.mkdir()
    (folder / "shard.00000.mds").write_bytes(data)
    entry = {"format": "mds", "version": 2, "samples": len(docs), "compression": None}
    entry |= {"raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}}}
    index = {"version": 2, "shards": [{**entry, "zip_data": None}]}
    (folder / "index.json").write_text(json.dumps(index))


def write(folder, kind, docs):
    """The documents in one file; the options to open it with."""
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in docs).encode()
    table = pa.table({"tokens": pa.array(docs, pa.list_(pa.int32()))})
    path = folder / f"x.{kind}"
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=9)
    elif kind in ("file.arrow", "stream.arrow"):
        arrow(path, table, stream=kind.startswith("stream"))
    elif kind in ("packed-file.arrow", "packed-stream.arrow"):
        arrow(path, table, stream=kind.startswith("packed-stream"), compression="zstd")
    elif kind == "bin":
        np.concatenate([[*doc, 58] for doc in docs]).astype("<u2").tofile(path)
        return path, {"dtype": "uint16", "eod": 58}
    elif kind == "mds":
        mds(path, docs)
    return path, {}


CUT = ["jsonl", "parquet", "file.arrow", "stream.arrow", "packed-file.arrow", "mds", "bin"]
KINDS = [*CUT, "jsonl.gz", "packed-stream.arrow"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_cut_and_comes_out_whole(tmp_path, kind):
    path, options = write(tmp_path, kind, DOCS)
    corpus = rs.open_corpus(path, **PLAIN, **options)
    expected = score(corpus, keyed(), start=3)
    for size in SIZES:
        assert score_of_units(corpus, keyed(), size, start=3)[0] == expected
    n_units = [len(cut_units(corpus, size)) for size in SIZES]
    assert n_units == sorted(n_units, reverse=True)
    if kind not in CUT:
        assert set(n_units) == {1}
        return
    assert n_units[0] > n_units[4] > n_units[-1] == 1
    assert cut_units(corpus, 333) == cut_units(rs.open_corpus(path, **PLAIN, **options), 333)
    for unit in cut_units(corpus, 333):
        assert WorkUnit(**json.loads(json.dumps(unit.to_dict()))) == unit


@pytest.mark.parametrize("kind", ["jsonl", "stream.arrow", "mds"])
def test_units_are_about_as_large_as_they_should_be(tmp_path, kind):
    path, options = write(tmp_path, kind, DOCS)
    corpus = rs.open_corpus(path, **PLAIN, **options)
    size = 1_000
    totals = [
        sum(part.documents.n_tokens for part in read_unit(corpus, unit, 5))
        for unit in cut_units(corpus, size)
    ]
    share = sum(totals) * size / corpus.total_bytes
    assert len(totals) > 5
    assert max(totals) < 2 * share
    assert min(totals[:-1]) > share / 3


@pytest.mark.parametrize("kind", ["parquet", "packed-file.arrow"])
def test_sizes_are_those_of_packed_files(tmp_path, kind):
    docs = [[i % 50] * 200 for i in range(2_000)]
    path, _ = write(tmp_path, kind, docs)
    corpus = rs.open_corpus(path, **PLAIN)
    assert corpus.total_bytes < 8 * 200 * 2_000 / 10
    for n in (2, 4, 8):
        units = cut_units(corpus, -(-corpus.total_bytes // n))
        assert len(units) == n
        totals = [
            sum(part.documents.n_tokens for part in read_unit(corpus, unit, 5)) for unit in units
        ]
        assert max(totals) < 1.1 * sum(totals) / n


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_record_batches_are_measured_without_being_read(tmp_path, monkeypatch, stream, compression):
    """A dictionary, which each of them has, is no part of any."""
    texts = pa.array(["a " * 2_000, "b c"] * 70).dictionary_encode()
    table = pa.table({"text": texts, "tokens": pa.array(DOCS[:140], pa.list_(pa.int32()))})
    options = {} if compression is None else {"compression": compression}
    arrow(tmp_path / "x.arrow", table, stream=stream, **options)
    corpora = [
        rs.open_corpus(tmp_path / "x.arrow", field=field, tokenizer=tokenizer())
        for field in ("text", "tokens")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(ArrowReader, "_batches", None)
        units = [cut_units(corpus, 2_000) for corpus in corpora]
        many = cut_units(corpora[0], 1)
    rows = 40 if stream and options else 7
    packed_stream = stream and compression is not None
    assert len(many) == (1 if packed_stream else 140 // rows)
    assert (len(units[0]) == 1) == packed_stream
    assert units[0] == units[1]
    for corpus in corpora:
        assert documents_of_units(corpus, 2_000) == documents(corpus)
    starts = [unit.start for unit in many[1:]]
    assert starts == [{"group": n + 1, "rows": rows * (n + 1)} for n in range(len(starts))]


@pytest.mark.parametrize("kind", ["object", "picked", "saved", "saved-picked", "stream"])
def test_data_sets(tmp_path, kind):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {"tokens": RNG.integers(0, 50, size=(2_500, 3)).tolist(), "p": [[1, 2]] * 2_500}
    made = datasets.Dataset.from_dict(rows)
    if "picked" in kind:
        made = made.shuffle(seed=1)
    if "saved" in kind:
        made.save_to_disk(tmp_path / "saved", num_shards=2)
        made = tmp_path / "saved"
    elif kind == "stream":
        made = made.to_iterable_dataset()
    corpus = rs.open_corpus(made, field="tokens", prompt_field="p", **PLAIN)
    expected = score(corpus, keyed())
    for size in (100, 9_000, 10**9):
        assert score_of_units(corpus, keyed(), size)[0] == expected
        assert documents_of_units(corpus, size) == documents(corpus)
    n_units, n_files = len(cut_units(corpus, 9_000)), len(corpus.sources)
    assert n_units == 1 if kind == "stream" else n_units > n_files


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
            score_of_units(corpus, keyed(), size)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_records_are_counted_once(tmp_path, kind):
    docs = [[*doc[:3], VOCAB] if i % 11 == 4 else doc for i, doc in enumerate(DOCS)]
    path, options = write(tmp_path, kind, docs)
    corpus = rs.open_corpus(path, on_error="skip", **PLAIN, **options)
    expected, report = documents(corpus)
    assert report.count == 14
    for size in SIZES:
        found, skipped = documents_of_units(corpus, size)
        assert found == expected
        assert skipped == report
        assert score_of_units(corpus, keyed(), size) == (score(corpus, keyed()), skipped)
    several = len(cut_units(corpus, 100)) > 1
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
        found, skipped = documents_of_units(corpus, size)
        assert found == expected
        assert skipped == report
    if kind in ("parquet", "file.arrow", "stream.arrow"):
        with pytest.raises(CorpusError, match=kind):
            score_of_units(rs.open_corpus(path, **PLAIN), keyed(), 50)


def test_a_bad_end_of_an_index_in_the_middle(tmp_path):
    """What stands after it is lost, so this file is not cut where damage is skipped."""
    path = tmp_path / "x.ds"
    np.arange(3_000).astype("<u2").tofile(path)
    ends = np.arange(30, 3_001, 30)
    ends[50] = 7
    Path(f"{path}.index").write_bytes(ends.astype("<u8").tobytes())
    corpus = rs.open_corpus(path, batch_tokens=100, on_error="skip")
    expected, report = documents(corpus)
    assert (report.files, len(cut_units(corpus, 1_000))) == (1, 1)
    found, skipped = documents_of_units(corpus, 1_000)
    assert (found, skipped) == (expected, report)
    with pytest.raises(CorpusError, match=r"document 50 runs from token 1500 to 7"):
        documents_of_units(rs.open_corpus(path, batch_tokens=100), 1_000)


# Many small files

SMALL = ["jsonl", "parquet", "file.arrow", "jsonl.gz", "packed-stream.arrow", "mds"]


def write_many(folder, docs):
    """Files of a few documents each, of several formats in turn, some empty; all in one folder."""
    for i in range(0, len(docs), 3):
        one = folder / f"{i:03}"
        one.mkdir(parents=True)
        write(one, SMALL[i // 3 % len(SMALL)], docs[i : i + 3])
        if i % 10 == 0:
            (one / "z.jsonl").touch()
    return folder


def test_many_small_files_are_few_units(tmp_path):
    corpus = rs.open_corpus(write_many(tmp_path, DOCS), **PLAIN)
    expected = score(corpus, keyed(), start=3)
    n_files, sizes = len(corpus.sources), [source.size for source in corpus.sources]
    assert n_files == 55
    for size in (1, 200, max(sizes), 5_000, 20_000, corpus.total_bytes - 1, 10**9):
        units = cut_units(corpus, size)
        assert documents_of_units(corpus, size) == documents(corpus)
        assert score_of_units(corpus, keyed(), size, start=3) == (expected, SkipReport())
        if size >= max(sizes):
            assert [number for unit in units for number in unit.sources] == list(range(n_files))
            assert all(sum(sizes[i] for i in unit.sources) <= size for unit in units)
            assert len(units) <= 2 * corpus.total_bytes / size + 1
        for unit in units:
            assert WorkUnit(**json.loads(json.dumps(unit.to_dict()))) == unit
    assert len(cut_units(corpus, 10**9)) == 1


def test_small_files_around_large_ones(tmp_path):
    """Neither a piece of a file that is cut nor what tells no size is joined with others."""
    small, large = DOCS[:2], DOCS * 4
    for i, docs in enumerate([small, small, large, [], small, large, small]):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), "bin" if i == 5 else "jsonl", docs)
    corpus = rs.open_corpus(tmp_path, dtype="uint16", eod=58, **PLAIN)
    expected = score(corpus, keyed())
    units = cut_units(corpus, 2_000)
    assert units[0] == WorkUnit(0, n_sources=2)
    assert WorkUnit(3, n_sources=2) in units
    assert units[-1] == WorkUnit(6)
    assert {unit.source for unit in units if unit.start or unit.end} == {2, 5}
    assert score_of_units(corpus, keyed(), 2_000)[0] == expected
    assert score_of_units(corpus, keyed(), 10**9)[0] == expected


def test_objects_that_tell_no_size_are_units_of_their_own(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"tokens": DOCS[:20]})
    other = datasets.Dataset.from_dict({"tokens": DOCS[20:40]})
    path, _ = write(tmp_path, "jsonl", DOCS[40:])
    streams = [made.to_iterable_dataset(), other.to_iterable_dataset()]
    corpus = rs.open_corpus([path, streams[0], made, other, path, streams[1]], **PLAIN)
    units = cut_units(corpus, 10**9)
    numbers = {str(source.path): i for i, source in enumerate(corpus.sources)}
    alone = [i for name, i in numbers.items() if name.startswith("Iterable")]
    assert all(WorkUnit(i) in units for i in alone)
    assert any(unit.n_sources > 1 for unit in units)
    assert score_of_units(corpus, keyed(), 10**9)[0] == score(corpus, keyed())


def test_prompts_of_small_files(tmp_path):
    for i, doc in enumerate(DOCS[:40]):
        records = [{"tokens": doc, "p": doc[:i]}, {"tokens": doc[:i], "p": doc}]
        path = tmp_path / f"{i:02}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = rs.open_corpus(tmp_path, field="tokens", prompt_field="p", **PLAIN)
    for role in ("exclude", "context"):
        expected = score(corpus, keyed(), prompt_role=role)
        for size in (100, 700, 10**9):
            found = score_of_units(corpus, keyed(), size, prompt_role=role)[0]
            assert replace(found, notes=()) == expected
            assert documents_of_units(corpus, size) == documents(corpus)


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
        assert documents_of_units(corpus, size) == (expected, report)
        assert score_of_units(corpus, keyed(), size) == (score(corpus, keyed()), report)


@pytest.mark.parametrize("bad", [1, 19, 23, 132])
def test_an_error_names_its_small_file(tmp_path, bad):
    corpus = rs.open_corpus(write_many(tmp_path, [*DOCS[:bad], [VOCAB], *DOCS[bad + 1 :]]), **PLAIN)
    with pytest.raises(CorpusError) as expected:
        list(corpus)
    assert f"/{bad // 3 * 3:03}/x." in str(expected.value)
    for size in (1, 700, 10**9):
        with pytest.raises(CorpusError) as found:
            score_of_units(corpus, keyed(), size)
        assert str(found.value) == str(expected.value)


# JSON lines

WORDS = ["a", "b", "é", "日本", "😀", "c"]


def tokenizer():
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(["?", *WORDS])}, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    return made


def texts():
    return st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)


def records():
    value = st.one_of(texts(), st.lists(st.integers(0, 9), max_size=9))
    made = st.builds(lambda text, prompt: {"text": text, "p": prompt}, value, value)
    return st.builds(
        lambda record, ascii_: json.dumps(record, ensure_ascii=ascii_).encode(),
        made,
        st.booleans(),
    )


def lines():
    flawed = st.sampled_from([b"{", b'{"p": "a"}', b"\xff", b'{"text": "a", "p": 5}', b"[]"])
    blank = st.sampled_from([b"", b" ", b"\t \x0b"])
    return st.lists(st.one_of(records(), records(), blank, flawed), min_size=1, max_size=25)


def outcome(corpus, size):
    """What the units hold, or the error that reading them ends with."""
    try:
        return documents_of_units(corpus, size)
    except CorpusError as error:
        return str(error)


@st.composite
def texts_of_lines(draw):
    mark, newline = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), draw(newlines())
    return mark + newline.join(draw(lines())) + draw(st.sampled_from([b"", newline]))


def newlines():
    return st.sampled_from([b"\n", b"\r\n"])


@settings(max_examples=80, deadline=None)
@given(text=texts_of_lines(), prompts=st.booleans(), data=st.data())
def test_lines_of_any_kind(text, prompts, data):
    size = data.draw(st.integers(1, len(text) + 5), label="size")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jsonl")
        path.write_bytes(text)
        options = {
            "field": "text",
            "prompt_field": "p" if prompts else None,
            "tokenizer": tokenizer() if data.draw(st.booleans(), label="text") else None,
            "batch_tokens": data.draw(st.sampled_from([1, 7, 1000]), label="batch_tokens"),
        }
        corpus = rs.open_corpus(path, on_error="skip", **options)
        assert documents_of_units(corpus, size) == documents(corpus)
        strict = Corpus(corpus.sources, corpus.options, "raise")
        assert outcome(strict, size) == outcome(strict, 10**12)
        starts = [unit.start.get("byte", 0) for unit in cut_units(corpus, size)]
        assert all(0 < start < len(text) for start in starts[1:])
        assert all(text[start - 1 : start] == b"\n" for start in starts[1:])


def test_lines_longer_than_a_unit(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    docs = [[1], list(range(50)) * 20, [2], list(range(40)) * 30, [3, 4]]
    path.write_text("\n".join(json.dumps({"tokens": doc}) for doc in docs))
    corpus = rs.open_corpus(path, **PLAIN)
    for size in (1, 100, 1_000, 3_000, 6_000):
        assert [doc for doc, _, _ in documents_of_units(corpus, size)[0]] == docs
    assert len(cut_units(corpus, 1)) == 5
    monkeypatch.setattr("radscore.corpus.formats.jsonl.MAX_LINE", 4_200)
    for size in (1, 1_000, 10**9):
        with pytest.raises(CorpusError, match=r"x\.jsonl:4: the line is longer than 4200 bytes"):
            documents_of_units(corpus, size)
    path.write_text(json.dumps({"tokens": docs[1]}))
    assert cut_units(rs.open_corpus(path), 10) == [WorkUnit(0)]


def test_lines_are_counted_once_a_unit_and_only_where_one_is_named(tmp_path, monkeypatch):
    import radscore.corpus.formats.jsonl as module

    counted = []
    original = module._lines

    def count(path, stop):
        counted.append(stop)
        return original(path, stop)

    monkeypatch.setattr(module, "_lines", count)
    path, _ = write(tmp_path, "jsonl", DOCS)
    score_of_units(rs.open_corpus(path, **PLAIN), keyed(), 500)
    assert counted == []
    text = path.read_text().splitlines()
    for i in range(0, len(text), 2):
        text[i] = "bad"
    path.write_text("\n".join(text))
    corpus = rs.open_corpus(path, on_error="skip", field="tokens", **PLAIN)
    units = cut_units(corpus, 500)
    score_of_units(corpus, keyed(), 500)
    assert counted == [unit.start["byte"] for unit in units[1:]]


def test_a_reader_of_lines_tells_no_line_that_it_does_not_know(tmp_path):
    path, _ = write(tmp_path, "jsonl", DOCS)
    corpus = rs.open_corpus(path, **PLAIN)
    (source,) = corpus.sources
    reader = reader_of(source, corpus.options, Problems("raise"))
    start = next(reader.edges(500))
    assert all("line" not in chunk.position for chunk in reader.chunks(start))
    assert all("line" in chunk.position for chunk in reader.chunks({}))


# Ids whose documents are not cut


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.sampled_from([1, 2, 3, 99]), min_size=1, max_size=80),
    size=st.integers(1, 170),
    shape=st.tuples(st.sampled_from([None, 1, 4]), st.sampled_from("CF")),
    on_error=st.sampled_from(["raise", "skip"]),
    batch_tokens=st.sampled_from([1, 3, 1000]),
)
def test_separators_that_are_no_ids(ids, size, shape, on_error, batch_tokens):
    array = np.array(ids, np.uint16)
    row, order = shape
    if row is not None:
        array = np.resize(array, (-(-len(ids) // row), row)).copy(order=order)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), array)
        options = {"batch_tokens": batch_tokens, "on_error": on_error}
        corpus = rs.open_corpus(folder, eod=99, vocab_size=VOCAB, **options)
        expected, report = documents(corpus)
        found, skipped = documents_of_units(corpus, size)
        assert (found, skipped) == (expected, report)
        corpus = rs.open_corpus(folder, eod=3, vocab_size=VOCAB, batch_tokens=1, on_error="skip")
        expected, report = documents(corpus)
        assert documents_of_units(corpus, size) == (expected, report)


def test_a_corpus_in_memory_counts_its_documents(tmp_path, monkeypatch):
    import radscore.runs.shards as module

    for kind in CUT[:-1]:
        (tmp_path / kind).mkdir()
        write(tmp_path / kind, kind, DOCS)
    corpus = rs.open_corpus(tmp_path, **PLAIN)
    expected = score(corpus, keyed())
    for size in (200, 10**9):
        monkeypatch.setattr(module.cut_units, "__defaults__", (size,))
        seen = []
        parts = parts_of(corpus, None, seen.append)
        assert sum(part.documents.n_tokens for part in parts) == expected.n_tokens
        assert not parts.skipped
        seen.clear()
        assert score(corpus, keyed(), memory="64MiB", progress=seen.append) == expected
        assert sum(part.documents.n_tokens for part in seen) == expected.n_tokens
        assert sum(len(part.documents) for part in seen) == expected.n_documents
