"""What `inspect_corpus` says of real files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.corpus import inspect_corpus, open_corpus
from radscore.errors import CorpusError, TokenError
from radscore.runs.planning import _score, plan_corpus


def test_ids_in_parquet(tmp_path):
    docs = [[1, 2, 3], [400] * 50, [7, 9]]
    pq.write_table(pa.table({"input_ids": docs}), tmp_path / "x.parquet")
    found = inspect_corpus(tmp_path, vocab_size=100)
    assert (found.n_documents, found.n_tokens, found.largest_id) == (3, 55, 400)
    assert (found.shortest, found.longest) == (2, 50)
    assert (found.formats, found.field, found.dtype) == (("parquet",), "input_ids", "int64")
    assert found.snippets[0] == "1 2 3"
    assert found.snippets[1].split() == ["400"] * 24
    assert found.warnings == (
        "50 of 55 ids are above the vocabulary of 100 (largest 400); is the dtype right?",
    )


def test_text_with_and_without_a_tokenizer(jsonl, tokenizer):
    path = jsonl("x.jsonl.gz", [{"text": "the cat sat"}, {"text": "a dog\nrun"}, "broken"])
    found = inspect_corpus(path, tokenizer=tokenizer)
    assert (found.n_documents, found.n_tokens, found.n_bytes_of_text) == (2, 6, None)
    assert found.snippets == ("the cat sat", "a dog run")
    assert found.skipped.count == 1
    assert ":3: not JSON" in found.warnings[-1]
    plain = inspect_corpus(path)
    assert (plain.n_documents, plain.n_tokens, plain.n_bytes_of_text) == (2, None, 20)
    assert (plain.largest_id, plain.dtype) == (None, None)
    assert plain.snippets == ("the cat sat", "a dog run")
    assert "give a tokenizer" in plain.warnings[0]


def test_headerless_ids_under_every_dtype(tmp_path):
    path = tmp_path / "x.bin"
    np.array([1, 2, 50_256], dtype=np.uint16).tofile(path)
    found = inspect_corpus(path)
    assert found.n_documents is None
    assert found.warnings[1] == "as uint16: ids from 1 to 50256"
    assert "6 bytes are not a whole number of uint32 ids" in found.warnings[2]
    with_dtype = inspect_corpus(path, dtype="uint16", eod=2)
    assert (with_dtype.n_documents, with_dtype.n_tokens, with_dtype.largest_id) == (2, 3, 50_256)


def test_nothing_readable_is_an_error(jsonl):
    with pytest.raises(CorpusError, match=r"x\.jsonl"):
        inspect_corpus(jsonl("x.jsonl", ["broken"]))


def test_a_field_of_ids_and_text(jsonl):
    path = jsonl("x.jsonl", [{"input_ids": [1, 99_999]}, {"input_ids": "abc"}])
    found = inspect_corpus(path)
    assert found.n_documents == 2
    assert any("text in some records and ids in others" in line for line in found.warnings)


def test_what_hints_at_another_dtype_or_end_of_document_id(tmp_path):
    path = tmp_path / "x.bin"
    np.array([5, 6, 7, 60_000, 5, 6], dtype="<u2").tofile(path)
    found = inspect_corpus(path, dtype="uint16", eod=40_000)
    assert any("no document ends with id 40000" in line for line in found.warnings)
    assert not inspect_corpus(path, dtype="uint16", eod=7).warnings
    assert any(
        "beyond any vocabulary" in line for line in inspect_corpus(path, dtype="uint32").warnings
    )
    with pytest.raises(TokenError, match=r"x.bin: the largest id .* is the dtype right\?"):
        plan_corpus(open_corpus(path, dtype="uint32"))


def test_scoring_that_is_put_off_is_planned_for():
    ids = np.random.default_rng(0).integers(0, 500, 40_000).astype(np.uint32)
    documents = rs.Documents(ids, np.arange(0, 40_001, 400))
    scheme = rs.KGW(vocab_size=500, gamma=0.25, context_width=2, seeding="hash", seed=3)
    adding, scoring = _score([documents], scheme, 1)
    assert scoring > adding
