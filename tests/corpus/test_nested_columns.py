"""Fields within structs and lists of columns are read as JSON lines read those within objects.

The oracle is the reading of the same records as JSON lines. Situations: `--field meta.text` of
Parquet, Arrow, data sets and MDS's JSON, which was refused.
"""

import json

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.columnar import path_to, reached
from radscore.corpus import open_corpus
from radscore.corpus.records import value_of
from radscore.errors import CorpusError

RECORDS = [
    {
        "id": i,
        "a.b": "top " * i,
        "a": {"b": "inner", "ids": list(range(i, i + 5))},
        "meta": {"note": "x" * i, "text": f"the {i} cat", "deep": {"ids": [i] * (i % 4)}},
        "turns": [{"role": "user", "text": f"hello {i}"}, {"role": "model", "text": "there"}],
    }
    for i in range(50)
]


def code_points(text):
    return [ord(char) for char in text]


def write_jsonl(folder, records):
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def write_parquet(folder, records):
    table = pa.Table.from_pylist(records)
    pq.write_table(table, folder / "x.parquet", row_group_size=20)
    return folder / "x.parquet"


def write_arrow(folder, records, compression=None):
    table = pa.Table.from_pylist(records)
    path = folder / f"x{compression or ''}.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=20)
    return path


def write_packed(folder, records):
    return write_arrow(folder, records, "zstd")


def write_stream(folder, records):
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_stream(str(folder / "s.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    return folder / "s.arrow"


def write_saved(folder, records):
    datasets.Dataset.from_list(records).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def write_picked(folder, records):
    found = datasets.Dataset.from_list([records[-1], *records]).select(range(1, len(records) + 1))
    found.select(list(range(len(records)))[::-1]).select(list(range(len(records)))[::-1])
    found.save_to_disk(str(folder / "picked"))
    return folder / "picked"


def make_dataset(folder, records):
    return datasets.Dataset.from_list(records)


def make_stream(folder, records):
    return datasets.Dataset.from_list(records).to_iterable_dataset()


def make_untyped(folder, records):
    return datasets.IterableDataset.from_generator(lambda: iter(records))


def make_table(folder, records):
    return pa.Table.from_pylist(records)


MAKERS = [
    write_parquet,
    write_arrow,
    write_packed,
    write_stream,
    write_saved,
    write_picked,
    make_dataset,
    make_stream,
    make_untyped,
    make_table,
]
FIELDS = ["a.b", "a.ids", "meta.text", "meta.deep.ids", "turns.0.text", "turns.1.text"]


def documents(what, field, **options):
    corpus = open_corpus(what, field=field, tokenizer=code_points, **options)
    found = [(ids.tolist(), b.locate(i)) for b in corpus for i, ids in enumerate(b.documents)]
    return [ids for ids, _ in found], [where.rpartition(" ")[2] for _, where in found], corpus


@pytest.mark.parametrize("make", MAKERS)
def test_as_json_lines_read_it(tmp_path, make):
    lines = write_jsonl(tmp_path, RECORDS)
    made = make(tmp_path, RECORDS)
    for field in FIELDS:
        expected, _, _ = documents(lines, field)
        found, rows, corpus = documents(made, field, batch_tokens=64)
        assert found == expected, field
        assert rows == [str(i) for i in range(50)]
        assert corpus.known().n_documents in (None, 50)
        assert corpus.known().n_tokens in (None, sum(map(len, expected)))


@pytest.mark.parametrize("make", [write_parquet, write_arrow, make_dataset])
def test_nulls_on_the_way_are_missing_records(tmp_path, make):
    records = [
        {"meta": {"text": "a"}, "turns": [{"text": "b"}]},
        {"meta": None, "turns": []},
        {"meta": {"text": None}, "turns": None},
        {"meta": {"text": "c"}, "turns": [None]},
    ]
    made = make(tmp_path, records)
    for field, left in (("meta.text", ["a", "c"]), ("turns.0.text", ["b"])):
        found, _, corpus = documents(made, field, on_error="skip")
        assert ["".join(map(chr, ids)) for ids in found] == left
        assert corpus.skipped.count == 4 - len(left)
        assert f"field '{field}' is null" in corpus.skipped.examples[0]


@pytest.mark.parametrize("make", [write_parquet, write_arrow, write_saved, make_dataset])
@pytest.mark.parametrize("field", ["meta.nothing", "meta", "turns.text", "nothing.text", "id.x"])
def test_what_is_not_there_is_refused(tmp_path, make, field):
    with pytest.raises(CorpusError, match=r"no field '|must hold text or lists"):
        documents(make(tmp_path, RECORDS), field)


def test_only_the_wanted_part_of_a_struct_is_read(tmp_path, monkeypatch):
    """A struct's other columns may be huge, or encrypted."""
    from radscore.corpus.readers.footer import column_at, columns_of

    path = write_parquet(tmp_path, RECORDS)
    schema = pq.read_schema(path)
    found = column_at(columns_of(path), path_to("meta.text", schema))
    leaves = [
        pq.ParquetFile(path).metadata.row_group(0).column(i).path_in_schema for i in found.leaves
    ]
    assert leaves == ["meta.text"]


LEAF = st.none() | st.just("text")
VALUE = st.recursive(
    LEAF, lambda inner: st.fixed_dictionaries({}, optional={"a": inner, "b.c": inner}), max_leaves=5
)


@settings(max_examples=150, deadline=None)
@given(
    record=st.dictionaries(st.sampled_from(["a", "a.b", "b"]), VALUE, min_size=1, max_size=3),
    name=st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join),
)
def test_paths_lead_where_those_of_json_lead(record, name):
    try:
        batch = pa.RecordBatch.from_pylist([record])
    except pa.ArrowException:
        return
    path = path_to(name, batch.schema)
    there, value = value_of(record, name)
    if path is None:
        assert not there
    elif there:
        assert reached(batch, path).to_pylist()[0] in (value, None) or isinstance(value, dict)


@pytest.mark.filterwarnings("ignore:Feather V1:DeprecationWarning")
def test_feather_of_version_1_is_named(tmp_path):
    for name in ("x.feather", "x"):
        pyarrow.feather.write_feather(pa.table({"text": ["a"]}), str(tmp_path / name), version=1)
        with pytest.raises(
            CorpusError, match=r"a Feather file of version 1, .* write it again, by"
        ):
            documents(tmp_path / name, "text")
