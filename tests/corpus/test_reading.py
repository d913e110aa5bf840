"""Cursors, reading ahead, skipping and what goes wrong."""

import gzip
import json
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from radscore.corpus import SkipReport, open_corpus
from radscore.errors import ArgumentError, CorpusError

from tests.readers import ids_of

RNG = np.random.default_rng(5)
DOCS = [RNG.integers(0, 500, size=n).tolist() for n in RNG.integers(0, 30, size=120)]


def write_all(folder):
    """The same documents six times, each in another format."""
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in DOCS).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines[:3000]) + gzip.compress(lines[3000:]))
    (folder / "c.jsonl.zst").write_bytes(pa.Codec("zstd").compress(lines, asbytes=True))
    table = pa.table({"tokens": pa.array(DOCS, pa.list_(pa.int32()))})
    pq.write_table(table, folder / "d.parquet", row_group_size=50)
    with pa.ipc.new_stream(str(folder / "e.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=17)
    with pa.ipc.new_file(str(folder / "f.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=17)
    np.concatenate([[*doc, 600] for doc in DOCS]).astype("<u2").tofile(folder / "g.bin")


@pytest.mark.parametrize("later_batch_tokens", [100, 333])
def test_every_cursor_resumes_exactly(tmp_path, later_batch_tokens):
    write_all(tmp_path)
    corpus = open_corpus(tmp_path, dtype="uint16", eod=600, batch_tokens=100, vocab_size=600)
    batches = list(corpus)
    everything = [doc.tolist() for batch in batches for doc in batch.documents]
    assert everything == DOCS * 7
    later = open_corpus(
        tmp_path, dtype="uint16", eod=600, batch_tokens=later_batch_tokens, vocab_size=600
    )
    done = 0
    for batch in batches[:: max(len(batches) // 60, 1)]:
        done = batch.first_document + len(batch)
        cursor = json.loads(json.dumps(batch.cursor))
        rest = list(later.batches(cursor)) if done < len(everything) else []
        assert [doc.tolist() for b in rest for doc in b.documents] == everything[done:]
        if rest:
            assert rest[0].first_document == done
            last = rest[-1]
            assert last.locate(len(last) - 1) == batches[-1].locate(len(batches[-1]) - 1)
    assert corpus.n_documents == len(everything)


def test_bytes_add_up_to_the_files(tmp_path):
    write_all(tmp_path)
    corpus = open_corpus(tmp_path, dtype="uint16", eod=600, batch_tokens=100)
    total = sum(batch.n_bytes for batch in corpus)
    assert 0.9 * corpus.total_bytes <= total <= corpus.total_bytes
    assert corpus.total_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_a_cursor_of_another_corpus_is_refused(tmp_path, jsonl):
    one = open_corpus(jsonl("1.jsonl", [{"tokens": [1]}]))
    two = open_corpus(jsonl("2.jsonl", [{"tokens": [1]}]))
    (batch,) = one
    with pytest.raises(CorpusError, match=r"start points into .*1\.jsonl"):
        two.batches(batch.cursor)
    with pytest.raises(CorpusError, match="not the cursor of a batch"):
        two.batches({"source": "x"})
    with pytest.raises(CorpusError, match="version 9"):
        one.batches({**batch.cursor, "version": 9})


BAD_LINES = [
    ('{"tokens": [1, 2', "not JSON"),
    ("[1, 2]", "a record must be a JSON object, not list"),
    ("null", "a record must be a JSON object, not null"),
    ('{"other": [1]}', "no field 'tokens'; the fields are: other"),
    ('{"tokens": null}', "field 'tokens' is null"),
    ('{"tokens": 5}', "not int"),
    ('{"tokens": {"a": 1}}', "not dict"),
    ('{"tokens": [1, 2.0]}', "token id 1 of field 'tokens' is 2.0, not an integer"),
    ('{"tokens": [NaN]}', "token id 0 of field 'tokens' is nan, not an integer"),
    ('{"tokens": [1, null]}', "token id 1 of field 'tokens' is null"),
    ('{"tokens": [true, 2]}', "token id 0 of field 'tokens' is true"),
    ('{"tokens": [[1]]}', "token id 0 of field 'tokens' is"),
    ('{"tokens": ["1"]}', "token id 0 of field 'tokens' is '1'"),
    ('{"tokens": [3, -1]}', "token id 1 of field 'tokens' is -1, not from 0"),
    ('{"tokens": [4294967296]}', "token id 0 of field 'tokens' is 4294967296"),
    ('{"tokens": [1' + "0" * 400 + "]}", "is a huge integer"),
    ('{"tokens": [1' + "0" * 9000 + "]}", "not JSON"),
    ('{"tokens": ' + "[" * 100_000, "nested too deeply"),
    ('["tokens", "tokens", 5]', "a record must be a JSON object, not list"),
    ('{"tokens": "text"}', "holds text; give a tokenizer"),
    ('{"tokens": [1, 100]}', "token id 100 at position 1 is outside the vocabulary of 100"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_a_bad_line_is_named_or_counted(jsonl, line, reason):
    path = jsonl("x.jsonl", ['{"tokens": [1]}', line, '{"tokens": [2, 3]}'])
    with pytest.raises(CorpusError) as caught:
        list(open_corpus(path, vocab_size=100))
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400
    corpus = open_corpus(path, vocab_size=100, on_error="skip")
    assert ids_of(corpus) == [[1], [2, 3]]
    assert corpus.skipped == SkipReport(1, 0, (message,))
    assert corpus.skipped.share(corpus.n_documents) == pytest.approx(1 / 3)


def test_bytes_that_are_no_text(tmp_path, tokenizer):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "the"}\n{"text": "\xff"}\n{"text": "\\ud800 cat"}\n')
    with pytest.raises(CorpusError, match=r":2: not UTF-8 \(byte 10 of the line is 0xff\)"):
        list(open_corpus(path, tokenizer=tokenizer))
    corpus = open_corpus(path, tokenizer=tokenizer, on_error="skip")
    assert ids_of(corpus) == [[2]]
    assert corpus.skipped.count == 2
    assert "lone surrogate" in corpus.skipped.examples[1]


def test_only_the_first_examples_are_kept(jsonl):
    path = jsonl("x.jsonl", ['{"tokens": [1]}'] + ["bad"] * 50)
    corpus = open_corpus(path, on_error="skip")
    list(corpus)
    assert corpus.skipped.count == 50
    assert [e.split(":")[1] for e in corpus.skipped.examples] == ["2", "3", "4", "5", "6"]
    list(corpus)  # a second reading counts anew
    assert corpus.skipped.count == 50


def test_what_was_skipped_survives_a_resume(jsonl):
    path = jsonl("x.jsonl", ["bad", '{"tokens": [1]}', "bad", '{"tokens": [2]}', "bad"])
    corpus = open_corpus(path, on_error="skip", batch_tokens=1)
    first = next(iter(corpus))
    assert first.cursor["skipped"]["count"] == 1
    later = open_corpus(path, on_error="skip", batch_tokens=1)
    assert ids_of(later, first.cursor) == [[2]]
    assert later.skipped.count == 3
    assert later.n_documents == 2


def test_parquet_rows_that_are_null_or_out_of_range(tmp_path):
    path = tmp_path / "x.parquet"
    docs = [[1, 2], None, [3, None], [4, -1], [5, 200], [6]]
    pq.write_table(pa.table({"tokens": pa.array(docs, pa.list_(pa.int32()))}), path)
    with pytest.raises(CorpusError, match=r"x\.parquet:row 1: field 'tokens' is null"):
        list(open_corpus(path))
    corpus = open_corpus(path, on_error="skip", vocab_size=100)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == [[1, 2], [6]]
    assert batches[0].locate(1) == f"{path}:row 5"
    assert corpus.skipped.count == 4
    reasons = " ".join(corpus.skipped.examples)
    assert "row 2: token id 1 of field 'tokens' is null" in reasons
    assert "row 3: token id -1 at position 1 is outside" in reasons
    assert "row 4: token id 200 at position 1 is outside the vocabulary of 100" in reasons


def test_prompts_are_checked_and_dropped_with_their_documents(jsonl):
    records = [
        {"tokens": [1], "prompt": [2]},
        {"tokens": [3], "prompt": [900]},
        {"tokens": [4]},
        {"tokens": [5], "prompt": None},
        {"tokens": [6], "prompt": []},
    ]
    corpus = open_corpus(
        jsonl("x.jsonl", records), prompt_field="prompt", vocab_size=100, on_error="skip"
    )
    (batch,) = corpus
    assert [d.tolist() for d in batch.documents] == [[1], [6]]
    assert [d.tolist() for d in batch.prompts] == [[2], []]
    assert "of the prompt is outside the vocabulary" in corpus.skipped.examples[-1]


def test_a_wrong_dtype_shows_as_ids_outside_the_vocabulary(tmp_path):
    path = tmp_path / "x.bin"
    np.arange(1, 1000, dtype=np.uint16).tofile(path)
    np.arange(1, 1001, dtype=np.uint16).tofile(path)
    with pytest.raises(CorpusError, match="is the dtype right"):
        list(open_corpus(path, dtype="uint32", vocab_size=32_000))
    np.array([5, 6, 70_000], dtype=np.uint32).tofile(path)
    with pytest.raises(CorpusError, match="token id 70000 at position 2"):
        list(open_corpus(path, dtype="uint32", vocab_size=32_000))


@pytest.mark.parametrize("packed", ["x.jsonl.gz", "x.jsonl.zst"])
def test_a_cut_packed_file_is_an_error_or_counted(jsonl, packed):
    noise = np.random.default_rng(0).integers(0, 500, size=(4000, 20)).tolist()
    path = jsonl(packed, [{"tokens": doc} for doc in noise])
    data = path.read_bytes()
    for cut in (len(data) // 2, len(data) - 3):
        path.write_bytes(data[:cut])
        with pytest.raises(CorpusError, match=r"x\.jsonl\.(gz|zst): .*[Tt]runcated"):
            list(open_corpus(path, batch_tokens=1000))
        corpus = open_corpus(path, batch_tokens=1000, on_error="skip")
        assert ids_of(corpus) == noise[: corpus.n_documents]
        assert corpus.skipped.files == 1


def test_a_cut_file_does_not_end_the_reading_of_the_others(tmp_path, jsonl):
    pq.write_table(pa.table({"tokens": [[1]]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-10])
    pq.write_table(pa.table({"other": [[1]]}), tmp_path / "c.parquet")
    jsonl("d.jsonl", [{"tokens": [4]}])
    with pytest.raises(CorpusError, match=r"b\.parquet: "):
        list(open_corpus(tmp_path))
    corpus = open_corpus(tmp_path, on_error="skip")
    assert ids_of(corpus) == [[1], [4]]
    assert corpus.skipped.files == 2
    assert "c.parquet: no field 'tokens'; the fields are: other" in corpus.skipped.examples[1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.bin", b"\1\2\3", "3 bytes are not a whole number of uint16 ids"),
        ("x.npy", b"\1\2\3\4", None),
        ("x.parquet", b"PAR1 nothing", "x.parquet: "),
        ("x.arrow", b"", "the file is empty"),
        ("x.arrow", b"ARROW1\0\0junk", "x.arrow: "),
        ("x.jsonl", b"", "holds no documents"),
        ("x.bin", b"", "holds no documents"),
        ("x.jsonl", b"[1, 2]", "this is a JSON array"),
        ("x.jsonl.gz", b"not packed", "not JSON"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    if message is None:
        assert ids_of(open_corpus(path, dtype="uint16")) == [[513, 1027]]
        with pytest.raises(CorpusError, match=r"has no numpy header.*give the dtype"):
            open_corpus(path)
        return
    with pytest.raises(CorpusError) as caught:
        list(open_corpus(path, dtype="uint16" if name.endswith("bin") else None))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_headerless_ids_need_a_dtype(tmp_path):
    (tmp_path / "x.bin").write_bytes(bytes(8))
    with pytest.raises(CorpusError, match=r"x\.bin: give the dtype of its ids"):
        open_corpus(tmp_path / "x.bin")


def test_missing_things_are_named(tmp_path, jsonl):
    with pytest.raises(CorpusError, match="nothing: no such file or folder"):
        open_corpus(tmp_path / "nothing")
    with pytest.raises(CorpusError, match="no file matches this pattern"):
        open_corpus(str(tmp_path / "*.jsonl"))
    with pytest.raises(CorpusError, match="no file in this folder"):
        open_corpus(tmp_path)
    with pytest.raises(CorpusError, match="no input was given"):
        open_corpus([])
    path = jsonl("x.jsonl", [{"a": 1, "b": 2}])
    with pytest.raises(
        CorpusError, match=r"x\.jsonl:1: no field input_ids, tokens or text.* one of: a, b"
    ):
        open_corpus(path)
    with pytest.raises(CorpusError, match=r"x\.jsonl:1: no field 'c'; the fields are: a, b"):
        open_corpus(path, field="c")
    with pytest.raises(CorpusError, match=r"tokenizer\.json: no such file"):
        open_corpus(path, field="a", tokenizer=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"not a tokenizer\.json"):
        open_corpus(path, field="a", tokenizer=tmp_path)


def test_text_without_a_tokenizer_is_said_at_once(jsonl, tmp_path):
    with pytest.raises(ArgumentError, match="holds text; give a tokenizer"):
        open_corpus(jsonl("x.jsonl", [{"text": "the"}]))
    pq.write_table(pa.table({"text": ["the"]}), tmp_path / "x.parquet")
    with pytest.raises(CorpusError, match="holds text; give a tokenizer"):
        list(open_corpus(tmp_path / "x.parquet"))


def test_a_corpus_without_a_good_record_is_an_error_that_says_why(jsonl):
    path = jsonl("x.jsonl", ['{"tokens": [-1]}', "bad"])
    with pytest.raises(CorpusError, match=r"no documents that can be read.*skipped 2 records.*:1:"):
        list(open_corpus(path, on_error="skip"))


def reader_threads():
    return [t for t in threading.enumerate() if t.name == "radscore-reader"]


def test_leaving_early_stops_the_reading_thread(jsonl):
    path = jsonl("x.jsonl", [{"tokens": [i]} for i in range(1000)])
    batches = open_corpus(path, batch_tokens=1).batches()
    next(batches)
    assert len(reader_threads()) == 1
    batches.close()
    assert reader_threads() == []


def test_only_one_batch_is_read_ahead(jsonl, monkeypatch):
    import radscore.corpus.corpus as module

    made = []
    original = module.Batch

    def counted(**fields):
        made.append(fields["first_document"])
        return original(**fields)

    monkeypatch.setattr(module, "Batch", counted)
    path = jsonl("x.jsonl", [{"tokens": [i]} for i in range(1000)])
    batches = open_corpus(path, batch_tokens=1).batches()
    next(batches)
    threading.Event().wait(0.5)
    assert 2 <= len(made) <= 3  # one waits, one is being handed over
    batches.close()


def test_settings_and_manifest_tell_corpora_apart(jsonl, tokenizer):
    path = jsonl("x.jsonl", [{"text": "the cat"}])
    one = open_corpus(path, tokenizer=tokenizer)
    two = open_corpus(path, tokenizer=tokenizer, add_special_tokens=True)
    assert one.settings != two.settings
    assert one.settings == open_corpus(path, tokenizer=tokenizer).settings
    assert json.loads(json.dumps(one.manifest())) == one.manifest()
    assert one.manifest()[0]["size"] == path.stat().st_size


def test_a_mask_of_padding_beside_the_ids_is_told(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"input_ids": [5, 0], "attention_mask": [1, 0]}\n')
    assert any("attention_mask" in note for note in open_corpus(path).notes)
    path.write_text('{"input_ids": [5, 0]}\n')
    assert open_corpus(path).notes == ()
