"""JSON lines of any kind, and separators outside the vocabulary, in shards of any size."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import Corpus
from radscore.corpus.base import Problems
from radscore.errors import CorpusError
from radscore.runs.shards import Shard, cut_shards
from run_schemes import VOCAB, keyed
from shard_files import (
    DOCS,
    PLAIN,
    WORDS,
    documents,
    documents_of_shards,
    score_of_shards,
    tokenizer,
    write,
)


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
    """What the shards hold, or the error that reading them ends with."""
    try:
        return documents_of_shards(corpus, size)
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
        assert documents_of_shards(corpus, size) == documents(corpus)
        strict = Corpus(corpus.sources, corpus.options, "raise")
        assert outcome(strict, size) == outcome(strict, 10**12)
        starts = [shard.start.get("byte", 0) for shard in cut_shards(corpus, size)]
        assert all(0 < start < len(text) for start in starts[1:])
        assert all(text[start - 1 : start] == b"\n" for start in starts[1:])


def test_lines_longer_than_a_shard(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    docs = [[1], list(range(50)) * 20, [2], list(range(40)) * 30, [3, 4]]
    path.write_text("\n".join(json.dumps({"tokens": doc}) for doc in docs))
    corpus = rs.open_corpus(path, **PLAIN)
    for size in (1, 100, 1_000, 3_000, 6_000):
        assert [doc for doc, _, _ in documents_of_shards(corpus, size)[0]] == docs
    assert len(cut_shards(corpus, 1)) == 5
    monkeypatch.setattr("radscore.corpus.formats.jsonl.MAX_LINE", 4_200)
    for size in (1, 1_000, 10**9):
        with pytest.raises(CorpusError, match=r"x\.jsonl:4: the line is longer than 4200 bytes"):
            documents_of_shards(corpus, size)
    path.write_text(json.dumps({"tokens": docs[1]}))
    assert cut_shards(rs.open_corpus(path), 10) == [Shard(0)]


def test_lines_are_counted_once_a_shard_and_only_where_one_is_named(tmp_path, monkeypatch):
    import radscore.corpus.formats.jsonl as module

    counted = []
    original = module._lines

    def count(path, stop):
        counted.append(stop)
        return original(path, stop)

    monkeypatch.setattr(module, "_lines", count)
    path, _ = write(tmp_path, "jsonl", DOCS)
    score_of_shards(rs.open_corpus(path, **PLAIN), keyed(), 500)
    assert counted == []
    text = path.read_text().splitlines()
    for i in range(0, len(text), 2):
        text[i] = "bad"
    path.write_text("\n".join(text))
    corpus = rs.open_corpus(path, on_error="skip", field="tokens", **PLAIN)
    shards = cut_shards(corpus, 500)
    score_of_shards(corpus, keyed(), 500)
    assert counted == [shard.start["byte"] for shard in shards[1:]]


def test_a_reader_of_lines_tells_no_line_that_it_does_not_know(tmp_path):
    path, _ = write(tmp_path, "jsonl", DOCS)
    corpus = rs.open_corpus(path, **PLAIN)
    (source,) = corpus.sources
    reader = source.format.open(source, corpus.options, Problems("raise"))
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
        found, skipped = documents_of_shards(corpus, size)
        assert (found, skipped) == (expected, report)
        corpus = rs.open_corpus(folder, eod=3, vocab_size=VOCAB, batch_tokens=1, on_error="skip")
        expected, report = documents(corpus)
        assert documents_of_shards(corpus, size) == (expected, report)
