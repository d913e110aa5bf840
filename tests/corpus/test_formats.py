"""The same documents come out of every format."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from radscore.corpus import open_corpus
from radscore.corpus.format import Known
from radscore.documents import Documents
from radscore.errors import ArgumentError, CorpusError

from tests.readers import ids_of

DOCS = [[5, 6, 7, 8], [], [9], [1, 2, 3, 4, 5, 6, 7, 70_000], [3, 3]]


@pytest.mark.parametrize("suffix", ["jsonl", "json.gz", "jsonl.gz", "jsonl.zst", "ndjson"])
@pytest.mark.parametrize("batch_tokens", [1, 5, 2**22])
def test_json_lines_of_ids(jsonl, suffix, batch_tokens):
    path = jsonl(f"x.{suffix}", [{"id": i, "input_ids": doc} for i, doc in enumerate(DOCS)])
    corpus = open_corpus(path, batch_tokens=batch_tokens)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == DOCS
    places = [batch.locate(i) for batch in batches for i in range(len(batch))]
    assert places == [f"{path}:{i}" for i in range(1, 6)]
    assert [batch.first_document for batch in batches] == np.cumsum(
        [0, *map(len, batches[:-1])]
    ).tolist()


def test_blank_lines_count_as_lines_but_not_as_records(jsonl):
    path = jsonl("x.jsonl", ['{"tokens": [1]}', "", "   ", '{"tokens": [2]}'])
    (batch,) = open_corpus(path)
    assert [doc.tolist() for doc in batch.documents] == [[1], [2]]
    assert batch.locate(1) == f"{path}:4"


def test_a_byte_order_mark_and_a_missing_last_newline_are_read(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"tokens": [1]}\r\n{"tokens": [2]}')
    assert ids_of(open_corpus(path)) == [[1], [2]]


def test_lines_longer_than_a_block(jsonl, monkeypatch):
    import radscore.corpus.formats.jsonl as module

    monkeypatch.setattr(module, "_COMPRESSED_BLOCK", 7)
    path = jsonl("x.jsonl.gz", [{"input_ids": doc} for doc in DOCS])
    assert ids_of(open_corpus(path)) == DOCS


@pytest.mark.parametrize("batch_tokens", [1, 2**22])
def test_parquet_of_ids(tmp_path, batch_tokens):
    path = tmp_path / "x.parquet"
    table = pa.table({"other": list(range(5)), "input_ids": DOCS})
    pq.write_table(table, path, row_group_size=2)
    corpus = open_corpus(path, batch_tokens=batch_tokens)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == DOCS
    assert [batch.locate(i) for batch in batches for i in range(len(batch))] == [
        f"{path}:row {i}" for i in range(5)
    ]
    assert len(batches) == (5 if batch_tokens == 1 else 3)


def test_npy_of_one_document_and_of_rows_is_read_batch_by_batch(tmp_path):
    path = tmp_path / "x.npy"
    ids = np.arange(1000, dtype=np.uint16)
    np.save(path, ids)
    (batch,) = open_corpus(path)
    assert len(batch.documents) == 1
    assert np.array_equal(batch.documents[0], ids)
    np.save(path, ids.reshape(10, 100))
    batches = list(open_corpus(path, batch_tokens=350))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert batches[1].locate(0) == f"{path}:row 3"
    assert np.array_equal(np.concatenate([b.documents.values for b in batches]), ids)
    assert all(held(batch.documents.values) <= 350 * 2 for batch in batches)


def held(array):
    """Bytes that are kept in memory for an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">u4", "<i8", ">i2", "u1"])
def test_npy_in_any_byte_and_memory_order(tmp_path, order, dtype):
    path = tmp_path / "x.npy"
    ids = np.arange(60).reshape(12, 5)
    np.save(path, np.asarray(ids, dtype=dtype, order=order))
    for batch_tokens in (1, 7, 1000):
        assert ids_of(open_corpus(path, batch_tokens=batch_tokens)) == ids.tolist()


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32"])
@pytest.mark.parametrize("batch_tokens", [1, 3, 2**22])
def test_headerless_ids_are_cut_after_the_end_of_document_id(tmp_path, dtype, batch_tokens):
    path = tmp_path / "x.bin"
    ids = np.array([1, 2, 0, 3, 0, 0, 4, 5, 6, 7, 8, 9, 0, 1], dtype=dtype)
    ids.tofile(path)
    expected = [[1, 2, 0], [3, 0], [0], [4, 5, 6, 7, 8, 9, 0], [1]]
    batches = list(open_corpus(path, dtype=dtype, eod=0, batch_tokens=batch_tokens))
    assert [doc.tolist() for batch in batches for doc in batch.documents] == expected
    assert [batch.locate(i) for batch in batches for i in range(len(batch))] == [
        f"{path}:token {i}" for i in (0, 3, 5, 6, 13)
    ]
    assert sum(batch.n_bytes for batch in batches) == path.stat().st_size
    assert ids_of(open_corpus(path, dtype=dtype)) == [ids.tolist()]


def test_an_end_of_document_id_outside_the_vocabulary_is_taken_out(tmp_path):
    path = tmp_path / "x.bin"
    np.array([1, 2, 100, 3, 100, 100, 4], dtype=np.uint16).tofile(path)
    corpus = open_corpus(path, dtype="uint16", eod=100, vocab_size=100)
    assert ids_of(corpus) == [[1, 2], [3], [], [4]]


def test_the_end_of_document_id_cuts_records_too(jsonl):
    path = jsonl("x.jsonl", [{"tokens": [1, 2, 0, 3]}, {"tokens": []}, {"tokens": [0, 4, 0]}])
    (batch,) = open_corpus(path, eod=0)
    assert [doc.tolist() for doc in batch.documents] == [[1, 2, 0], [3], [], [0], [4, 0]]
    lines = [int(batch.locate(i).rpartition(":")[2]) for i in range(5)]
    assert lines == [1, 1, 2, 3, 3]


def test_prompts_follow_their_documents_when_these_are_cut(jsonl):
    records = [{"tokens": [1, 0, 2], "prompt": [7, 8]}, {"tokens": [3], "prompt": []}]
    (batch,) = open_corpus(jsonl("x.jsonl", records), eod=0, prompt_field="prompt")
    assert [doc.tolist() for doc in batch.documents] == [[1, 0], [2], [3]]
    assert [doc.tolist() for doc in batch.prompts] == [[7, 8], [7, 8], []]


def test_text_is_tokenised_without_special_tokens(jsonl, tokenizer, tmp_path):
    texts = ["the cat sat", "", "a dog saw the mat"]
    path = jsonl("x.jsonl", [{"text": text} for text in texts])
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert ids_of(open_corpus(path, tokenizer=tokenizer)) == expected
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert ids_of(open_corpus(path, tokenizer=tmp_path)) == expected
    assert ids_of(open_corpus(path, tokenizer=tmp_path / "tokenizer.json")) == expected
    special = ids_of(open_corpus(path, tokenizer=tokenizer, add_special_tokens=True))
    assert special == [[1, *ids] for ids in expected]


def test_truncation_and_padding_of_a_tokenizer_are_not_applied(jsonl, tokenizer):
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    path = jsonl("x.jsonl", [{"text": "the cat sat on a mat"}, {"text": "cat"}])
    assert [len(ids) for ids in ids_of(open_corpus(path, tokenizer=tokenizer))] == [6, 1]
    assert tokenizer.truncation is not None  # the caller's own stays as it was


def test_a_tokenizer_of_transformers(jsonl, tokenizer):
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    path = jsonl("x.jsonl", [{"text": "the cat sat"}])
    assert ids_of(open_corpus(path, tokenizer=fast)) == [[2, 3, 4]]


def test_many_texts_in_portions_equal_texts_one_by_one(jsonl, tokenizer, monkeypatch):
    import radscore.corpus.text.tokenizer as module

    monkeypatch.setattr(module, "_PORTION", 20)
    texts = [" ".join(["the cat", "dog run saw"][: i % 3] * (i % 5)) for i in range(60)]
    path = jsonl("x.jsonl", [{"text": text} for text in texts])
    got = ids_of(open_corpus(path, tokenizer=tokenizer, batch_tokens=30))
    assert got == [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_in_parquet_with_prompts(tmp_path, tokenizer, kind):
    path = tmp_path / "x.parquet"
    table = pa.table(
        {
            "text": pa.array(["the cat", "dog", "the cat"]).cast(kind),
            "question": [[1, 2], [], [3]],
        }
    )
    pq.write_table(table, path)
    (batch,) = open_corpus(path, tokenizer=tokenizer, prompt_field="question")
    assert [doc.tolist() for doc in batch.documents] == [[2, 3], [11], [2, 3]]
    assert [doc.tolist() for doc in batch.prompts] == [[1, 2], [], [3]]


def test_text_and_ids_may_be_mixed_in_one_file(jsonl, tokenizer):
    path = jsonl("x.jsonl", [{"doc": "the cat"}, {"doc": [9, 9]}, {"doc": "dog"}])
    assert ids_of(open_corpus(path, field="doc", tokenizer=tokenizer)) == [[2, 3], [9, 9], [11]]


def test_the_prompt_may_be_the_field_itself(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"tokens": [[1, 2], [3]]}), path)
    (batch,) = open_corpus(path, prompt_field="tokens")
    assert [d.tolist() for d in batch.prompts] == [d.tolist() for d in batch.documents]


def test_default_field_order_is_reported(jsonl):
    path = jsonl("x.jsonl", [{"text": "x", "tokens": [1], "input_ids": [2]}])
    corpus = open_corpus(path)
    assert ids_of(corpus) == [[2]]
    assert corpus.field == "input_ids"
    assert corpus.notes == (
        "read field 'input_ids'; to read 'tokens' or 'text' instead, give field=",
    )
    two = open_corpus(jsonl("y.jsonl", [{"text": "x", "tokens": [1]}]))
    assert two.notes == ("read field 'tokens'; to read 'text' instead, give field='text'",)
    assert open_corpus(path, field="tokens").notes == ()


def test_folders_globs_and_lists(jsonl, tmp_path):
    jsonl("b/2.jsonl", [{"tokens": [2]}])
    jsonl("b/1.jsonl.gz", [{"tokens": [1]}])
    jsonl("a/z/0.jsonl", [{"tokens": [0]}])
    jsonl(".hidden/x.jsonl", [{"tokens": [9]}])
    jsonl("b/_tmp.jsonl", [{"tokens": [9]}])
    (tmp_path / "b" / "dataset_info.json").write_text("{}")
    (tmp_path / "b" / "notes.txt").write_text("no data")
    assert ids_of(open_corpus(tmp_path)) == [[0], [1], [2]]
    assert ids_of(open_corpus(str(tmp_path / "b" / "[12]*"))) == [[1], [2]]
    assert ids_of(open_corpus(str(tmp_path / "**" / "[0-9].jsonl"))) == [[0], [2]]
    twice = [tmp_path / "b" / "2.jsonl", tmp_path / "a", str(tmp_path / "b" / "2*")]
    assert ids_of(open_corpus(twice)) == [[2], [0]]


def test_formats_are_told_by_content_where_the_name_says_nothing(tmp_path):
    docs = pa.table({"tokens": DOCS})
    pq.write_table(docs, tmp_path / "part-0")
    assert ids_of(open_corpus(tmp_path / "part-0")) == DOCS
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in DOCS)
    (tmp_path / "lines").write_text(lines)
    assert ids_of(open_corpus(tmp_path / "lines")) == DOCS
    np.array([1, 2], dtype=np.uint16).tofile(tmp_path / "ids")
    with pytest.raises(CorpusError, match=r"ids: the format cannot be detected"):
        open_corpus(tmp_path / "ids")
    assert ids_of(open_corpus(tmp_path / "ids", format="bin", dtype="uint16")) == [[1, 2]]


def test_a_batch_holds_documents(jsonl):
    (batch,) = open_corpus(jsonl("x.jsonl", [{"tokens": [1]}]))
    assert isinstance(batch.documents, Documents)
    assert batch.prompts is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "xml"}, "format must be one of jsonl, parquet"),
        ({"dtype": "int8"}, "dtype must be one of uint16, uint32, int32, int64"),
        ({"dtype": "float32"}, "dtype must be one of"),
        ({"dtype": ">u2"}, "dtype must be one of"),
        ({"dtype": "nonsense"}, "dtype must be one of"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip'"),
        ({"batch_tokens": 0}, "batch_tokens must be from 1"),
        ({"vocab_size": "many"}, "vocab_size must be an integer"),
        ({"eod": -1}, "eod must be from 0"),
        ({"tokenizer": 3}, "tokenizer must be a folder"),
    ],
)
def test_bad_options_name_what_is_allowed(jsonl, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        open_corpus(jsonl("x.jsonl", [{"tokens": [1]}]), **arguments)


def test_an_end_of_document_id_must_fit_the_dtype(tmp_path):
    np.array([1, 2], dtype=np.uint16).tofile(tmp_path / "x.bin")
    with pytest.raises(ArgumentError, match="eod must be from 0 to 65535 for uint16 ids"):
        list(open_corpus(tmp_path / "x.bin", dtype="uint16", eod=100_000))


def test_the_footer_of_parquet_tells_tokens_and_documents(tmp_path):
    rows = pa.array([[1, 2], [], None, [3], [4, 5, 6], []], pa.list_(pa.int32()))
    table = pa.table({"other": [[7, 7]] * 6, "tokens": rows})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    known = open_corpus(tmp_path / "x.parquet", on_error="skip").known()
    assert (known.n_tokens, known.n_documents) == (6, 6)
    assert open_corpus(tmp_path / "x.parquet", eod=3).known().n_documents is None
    pq.write_table(table, tmp_path / "x.parquet", write_statistics=False)
    # Without statistics, the counts of levels tell; another writer leaves these out as well.
    assert open_corpus(tmp_path / "x.parquet").known().n_tokens == 6
    frame = pl.DataFrame({"tokens": [[1, 2], [3]]})
    frame.write_parquet(tmp_path / "x.parquet", statistics=False)
    assert open_corpus(tmp_path / "x.parquet").known() == Known(None, 2)
