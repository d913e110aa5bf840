"""Text in other files than JSON lines, and records of JSON that others wrote."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import load_encoder, open_corpus, remote
from radscore.corpus.readers import long_values
from radscore.errors import CorpusError, MissingExtraError


def code_points(text):
    return [ord(char) for char in text]


def documents(path, **options):
    corpus = open_corpus(path, **options)
    return ["".join(map(chr, ids)) for batch in corpus for ids in batch.documents], corpus


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6),
    tabs=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_is_read_as_it_was_written(tmp_path_factory, rows, tabs, end):
    """Cursors, too, stand where a row ends, whatever its quotes hold."""
    path = tmp_path_factory.mktemp("csv") / ("x.tsv" if tabs else "x.csv")
    text = io.StringIO(newline="")
    # By default the module does not quote a carriage return, which it then reads as an end.
    returns = any("\r" in value for row in rows for value in row)
    how = {"quoting": csv.QUOTE_ALL} if returns else {}
    writer = csv.writer(text, delimiter="\t" if tabs else ",", lineterminator=end, **how)
    writer.writerows([("note", "text"), *rows])
    path.write_bytes(text.getvalue().encode("utf-8-sig"))
    found, corpus = documents(path, tokenizer=code_points, batch_tokens=1)
    assert found == [row[1] for row in rows]
    for n, batch in enumerate(list(corpus)[:-1], 1):
        rest = [d for later in corpus.batches(batch.cursor) for d in later.documents]
        assert len(rest) == len(rows) - n


def test_csv_agrees_with_arrow_on_newlines_and_quotes(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id,text\n1,"a, b\nc ""d"""\n2,plain\n\n3,"é"\n', encoding="utf-8")
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(path, parse_options=options)
    found, corpus = documents(path, tokenizer=code_points)
    assert found == table["text"].to_pylist() == ['a, b\nc "d"', "plain", "é"]
    assert [batch.locate(2) for batch in corpus] == [f"{path}:6"]


def test_csv_with_lists_of_ids_and_bad_rows(tmp_path):
    path = tmp_path / "x.csv.gz"
    rows = b'input_ids,n\n"[5, 6]",1\n"[7]"\n"[8, ]",1\n"[-1]",1\nx\xff,2\n"[9]",2\n"[1],3\n'
    path.write_bytes(gzip.compress(rows))
    with pytest.raises(CorpusError, match=r"x\.csv\.gz:3: the row has 1 values, but the first"):
        list(open_corpus(path))
    corpus = open_corpus(path, on_error="skip")
    assert [d.tolist() for batch in corpus for d in batch.documents] == [[5, 6], [9]]
    assert corpus.skipped.count == 5
    assert "a quote is never closed" in corpus.skipped.examples[-1]


def test_a_text_file_is_a_document_or_has_one_per_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbffirst\r\n\n second\xe2\x80\xa8line\nlast")
    whole, corpus = documents(path, tokenizer=code_points)
    assert whole == ["first\r\n\n second\u2028line\nlast"]
    assert "each text file is one document" in corpus.boundaries
    lines, corpus = documents(path, tokenizer=code_points, format="lines", batch_tokens=1)
    assert lines == ["first", " second\u2028line", "last"]
    assert [batch.locate(0) for batch in corpus] == [f"{path}:{n}" for n in (1, 3, 4)]
    path.write_bytes(b"caf\xe9")
    with pytest.raises(CorpusError, match=r"x\.txt: not UTF-8 \(byte 3 is 0xe9\)"):
        list(open_corpus(path, tokenizer=code_points))


def test_text_beside_data_is_not_taken_for_data(tmp_path, jsonl):
    """lm_dataformat#4: what a folder also holds is named, or read where it is all there is."""
    (tmp_path / "about.txt").write_text("about")
    (tmp_path / "rows.csv").write_text("text\nrow\n")
    assert documents(tmp_path, tokenizer=code_points)[0] == ["about", "row"]
    jsonl("x.jsonl", [{"text": "data"}])
    assert documents(tmp_path, tokenizer=code_points)[0] == ["data"]
    assert documents(tmp_path, tokenizer=code_points, format="csv")[0] == ["row"]


def test_fields_within_fields(jsonl):
    path = jsonl("x.jsonl", [{"a": {"b": {"c": [1]}, "b.c": [2]}, "turns": [{"t": [3]}]}])
    for field, ids in (("a.b.c", [2]), ("turns.0.t", [3]), ("a.b", None), ("turns.1.t", None)):
        if ids is None:
            with pytest.raises(CorpusError, match=r"x\.jsonl:1: "):
                list(open_corpus(path, field=field))
        else:
            [batch] = open_corpus(path, field=field)
            assert batch.documents[0].tolist() == ids
    literal = jsonl("y.jsonl", [{"a.b": [5], "a": {"b": [6]}}])
    assert [b.documents[0].tolist() for b in open_corpus(literal, field="a.b")] == [[5]]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"tokens": [1], "tokens": [2]}', "field 'tokens' occurs twice"),
        ('[{"tokens": [1]}]', "this is a JSON array; .* jq -c"),
        ("{", r"a record must stand on one line: convert the file with jq -c \."),
        ('{"tokens": null}', "field 'tokens' is null"),
    ],
)
def test_what_libraries_read_differently_is_refused(jsonl, line, says):
    path = jsonl("x.jsonl", [line])
    with pytest.raises(CorpusError, match=rf"x\.jsonl:1: .*{says}"):
        list(open_corpus(path, field="tokens"))


def test_files_joined_with_their_marks(tmp_path):
    """A byte order mark stands before each of the files that were joined into one."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"tokens": [1], "m": {"tokens": 0}}\r\n\r\n\xef\xbb\xbf{"tokens": [2]}'
    )
    assert [d.tolist() for b in open_corpus(path) for d in b.documents] == [[1], [2]]
    path.write_bytes('{"tokens": [1]}'.encode("utf-16"))
    with pytest.raises(CorpusError, match="UTF-16; convert it to UTF-8"):
        list(open_corpus(path, field="tokens"))


ODD = [
    "7",
    " 0 ",
    "4294967294",
    "4294967295",
    "-1",
    "1.5",
    "1e3",
    "null",
    "true",
    "01",
    "",
    "1 2",
    "NaN",
    "+1",
    "nul",
    "-Infinity",
]
SCALARS = [*ODD, "1" * 25]


@settings(max_examples=200, deadline=None)
@given(
    before=st.lists(st.integers(0, 70_000), max_size=40),
    odd=st.lists(st.sampled_from(SCALARS), max_size=3),
    after=st.lists(st.integers(0, 9), max_size=40),
    rest=st.sampled_from(
        ["", ', "b": [1, 2]', ', "b": "\\": [1"', ', "b": {"a": [5]}', ', "b": "é"', ', "b": "\\']
    ),
    end=st.sampled_from(["]", " ]", ""]),
)
def test_long_values_are_read_as_json_reads_them(before, odd, after, rest, end):
    """The list in pieces gives the record, the flaw or the error that the whole line gives."""
    values = [*map(str, before), *odd, *map(str, after)]
    line = f'{{"a": [{",".join(values)}{end}{rest}}}'.encode()
    sizes = long_values._LONG_VALUE, long_values._PIECE
    long_values._LONG_VALUE, long_values._PIECE = 8, 16
    try:
        expected = json.loads(line)
    except ValueError:
        try:
            _, flaw = long_values.parse(line)
        except ValueError as error:
            flaw = str(error)
        assert flaw
    else:
        record, flaw = long_values.parse(line)
        assert flaw is None
        assert record.keys() == expected.keys()
        assert record.get("b") == expected.get("b") or "b" in record
        found = record["a"]
        ok = [type(value) is int and 0 <= value < 2**32 - 1 for value in expected["a"]]
        bad = [i for i, good in enumerate(ok) if not good]
        if isinstance(found, long_values.OddList):
            assert found.index == bad[0]
        else:
            assert np.asarray(found, dtype=object).tolist() == expected["a"]
            assert isinstance(found, list) or not bad
    finally:
        long_values._LONG_VALUE, long_values._PIECE = sizes


def test_standard_input(monkeypatch, tmp_path):
    class Pipe(io.BytesIO):
        buffer = property(lambda self: self)

    monkeypatch.setattr(remote, "_COPY", None)
    monkeypatch.setattr(sys, "stdin", Pipe(b'{"tokens": [1]}\n{"tokens": ["x"]}\n'))
    corpus = open_corpus("-", on_error="skip")
    for _ in range(2):  # it can be read again
        assert [d.tolist() for b in corpus for d in b.documents] == [[1]]
    assert "stdin:2: " in corpus.skipped.examples[0]


def test_addresses(monkeypatch, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    for name in ("a.jsonl", "deep/b.jsonl", "x.txt"):
        memory.pipe(f"/corpus/{name}", b'{"tokens": [1]}\n')

    def read(path):
        corpus = open_corpus(path)
        return [source.path.name for source in corpus.sources], sum(map(len, corpus)), corpus

    assert read("memory://corpus/a.jsonl")[:2] == (["a.jsonl"], 1)
    assert read("memory://corpus/**/*.jsonl")[1] == 2
    names, n, corpus = read("memory://corpus")
    assert (names, n) == (["a.jsonl", "b.jsonl"], 2)
    # What has not changed is not copied again, so that a run can go on; what is gone is not read.
    assert read("memory://corpus")[2].manifest() == corpus.manifest()
    memory.rm("/corpus/deep/b.jsonl")
    memory.pipe("/corpus/a.jsonl", b'{"tokens": [1]}\n' * 2)
    assert read("memory://corpus")[:2] == (["a.jsonl"], 2)
    path = tmp_path / "local.jsonl"
    path.write_text('{"tokens": [1]}\n')
    assert read(f"file://{path}")[:2] == (["local.jsonl"], 1)
    for url, says in (("memory://none.jsonl", "no such"), ("nothing://x", "Protocol not known")):
        with pytest.raises(CorpusError, match=f"{url}: {says}"):
            open_corpus(url)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        MissingExtraError, match=r"s3:// needs fsspec: pip install 'radscore\[remote\]'"
    ):
        open_corpus("s3://bucket/x.jsonl")


def test_an_encoder_is_made_once():
    encoder = load_encoder(code_points)
    assert load_encoder(encoder) is encoder


def test_secrets_of_addresses_are_not_shown():
    with pytest.raises(CorpusError) as caught:
        open_corpus("memory://id:hidden@nowhere/a.jsonl?sig=hidden")
    assert "hidden" not in str(caught.value)
    assert "memory://...@nowhere/a.jsonl" in str(caught.value)
