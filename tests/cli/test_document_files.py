"""The files of single documents: rows that join with the records, and the records they pick."""

import datetime as dt
import gzip
import hashlib
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_setup import SCORE, VOCAB, write

ROWS = ("--per-document", "rows.jsonl")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(docs):
    """Documents as records with ids, a nested field and a null now and then."""
    return [
        {
            "doc": f"d-{i}",
            "tokens": doc,
            "meta": {"lang": "en", "n": i},
            "note": None if i % 3 else "x",
        }
        for i, doc in enumerate(docs)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "arrow"])
def test_rows_join_with_the_records_after_skips(cli, marked_corpus, tmp_path, kind):
    """Bad records lie between: an id out of range, another field, a line that is not JSON."""
    all_records = records(marked_corpus)
    all_records[4]["tokens"] = [VOCAB]
    all_records[11]["tokens"] = None
    path = tmp_path / f"c.{kind}"
    if kind.startswith("jsonl"):
        lines = [json.dumps(one) + "\n" for one in all_records]
        lines[11] = "broken\n"
        lines[20:20] = ["\n"]
        data = "".join(lines).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    else:
        table = pa.Table.from_pylist(all_records)
        if kind == "parquet":
            pq.write_table(table, path, row_group_size=7)
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=7)
    options = ("--on-error", "skip", "--id-field", "doc", "--keep", "meta.n,note")
    command = ("score", path.name, "--scheme", "scheme.toml", *options)
    assert cli(*command, *ROWS).code == 3
    rows = read(tmp_path / "rows.jsonl")
    kept = [one for i, one in enumerate(all_records) if i not in (4, 11)]
    assert [row["index"] for row in rows] == list(range(39))
    assert [row["id"] for row in rows] == [one["doc"] for one in kept]
    assert [row["meta.n"] for row in rows] == [one["meta"]["n"] for one in kept]
    assert [row["note"] for row in rows] == [one["note"] for one in kept]
    assert [row["n_tokens"] for row in rows] == [len(one["tokens"]) for one in kept]
    shift = 1 if kind.startswith("jsonl") else 0  # of the blank line
    numbers = [one["meta"]["n"] for one in kept]
    assert [row["row"] for row in rows] == [n + shift * (n >= 20) for n in numbers]
    if kind == "parquet":  # the join that the columns are for
        joined = pl.read_ndjson(tmp_path / "rows.jsonl").join(
            pl.read_parquet(path).with_row_index("row"), on="row"
        )
        assert joined["id"].to_list() == joined["doc"].to_list()
    assert cli(*command, "--per-document", "rows.parquet").code == 3
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table["meta.n"].type == pa.int64()
    assert table["id"].to_pylist() == [row["id"] for row in rows]


@pytest.mark.parametrize("which", ["found", "clean"])
@pytest.mark.parametrize("out", ["o.jsonl", "o.parquet"])
def test_the_records_of_found_and_of_clean_documents(cli, marked_corpus, tmp_path, which, out):
    all_records = records(marked_corpus)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in all_records))
    done = cli(*SCORE, "--select", which, "--out", out, "--json", *ROWS)
    assert done.code == 0, done.err
    rows = read(tmp_path / "rows.jsonl")
    expected = [
        record
        for record, row in zip(all_records, rows, strict=True)
        if (row["qvalue"] <= 0.05) == (which == "found")
    ]
    assert 8 <= len(expected) <= 33
    got = read(tmp_path / out) if out == "o.jsonl" else pq.read_table(tmp_path / out).to_pylist()
    assert got == expected
    assert done.json["per_document"]["n_selected"] == len(expected)
    assert "selected" in cli(*SCORE, "--select", which, "--out", out, "--force").out


def test_parquet_keeps_its_types(cli, marked_corpus, tmp_path):
    day = dt.date(2024, 2, 29)
    schema = pa.schema(
        [("input_ids", pa.large_list(pa.uint16())), ("day", pa.date32()), ("raw", pa.binary())]
    )
    columns = [marked_corpus, [day] * 41, [b"\xff"] * 41]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)
    for name, part in (("c/a.parquet", table[:20]), ("c/b.parquet", table[20:])):
        (tmp_path / "c").mkdir(exist_ok=True)
        pq.write_table(part, tmp_path / name)
    command = ("score", "c", *SCORE[2:], "--fdr", 1e-9, "--select", "found", "--out")
    assert cli(*command, "o.parquet").code == 0
    found = pq.read_table(tmp_path / "o.parquet")
    assert found.schema.equals(schema)
    assert found.to_pylist() == table[30:40].to_pylist()
    assert cli(*command, "o.jsonl").code == 0
    first = read(tmp_path / "o.jsonl")[0]
    assert (first["day"], first["raw"]) == ("2024-02-29", "/w==")


def test_documents_of_token_files_are_selected_as_ids(cli, marked_corpus, scheme, tmp_path):
    ids = np.concatenate([[*doc, 0] for doc in ([x or 1 for x in d] for d in marked_corpus)])
    ids.astype(np.uint16).tofile(tmp_path / "x.bin")
    command = ("score", "x.bin", "--dtype", "uint16", "--eod", 0, *SCORE[2:], *ROWS)
    assert cli(*command, "--select", "found", "--out", "o.jsonl").code == 0
    rows, got = read(tmp_path / "rows.jsonl"), read(tmp_path / "o.jsonl")
    ends = np.flatnonzero(ids == 0) + 1
    docs = np.split(ids, ends[:-1])
    found = [row for row in rows if row["qvalue"] <= 0.05]
    assert 8 <= len(found) <= 12
    assert [one["input_ids"] for one in got] == [docs[row["index"]].tolist() for row in found]
    assert [one["row"] for one in got] == [row["row"] for row in found]
    says = "--keep needs records with fields, but x.bin is of format bin; join by source and row"
    assert says in cli(*command, "--force", "--keep", "day").err


def test_drafts_of_killed_commands_are_removed(cli, marked_corpus, tmp_path):
    write(tmp_path / "x.jsonl", marked_corpus)
    draft = tmp_path / f".rows.jsonl.{'0' * 32}.tmp"
    draft.write_text("half")
    assert cli(*SCORE, *ROWS).code == 0
    assert not draft.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((*ROWS, "--id-field", "doc"), "--id-field: no field 'doc'; the fields are: tokens"),
        ((*ROWS, "--keep", "tokens,token"), "--keep: no field 'token'; the fields are: tokens"),
        (("--fdr", "0.1"), "--fdr has no effect without --per-document or --select"),
        (("--id-field", "doc"), "--id-field has no effect without --per-document"),
        (("--keep", "doc"), "--keep has no effect without --per-document"),
        (("--keep",), "--keep has no effect without --memory"),
        ((*ROWS, "--keep", "zscore"), "--keep: the rows have a column 'zscore' of their own"),
        (("--select", "found"), "--select and --out go together"),
        (("--out", "o.jsonl"), "--select and --out go together"),
        (
            ("--select", "found", "--out", "o.csv"),
            "--out must end in .parquet or .jsonl, not o.csv",
        ),
        (("--select", "clean", "--out", "x.jsonl"), "--out names an input: x.jsonl"),
        (("--select", "clean", "--out", "x.jsonl", "--force"), "--out names an input: x.jsonl"),
        ((*ROWS, "--select", "found", "--out", "rows.jsonl"), "--per-document names the same file"),
        (("--select", "found", "--out", "o.jsonl", "--dedup", "none"), "which gives no p-values"),
        (("--select", "found", "--out", "o.jsonl", "--memory", "1GiB"), "does not go together"),
    ],
)
def test_what_cannot_be_is_refused(cli, marked_corpus, tmp_path, options, says):
    write(tmp_path / "x.jsonl", marked_corpus)
    done = cli(*SCORE, *options)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert not (tmp_path / "o.jsonl").exists()
    assert not (tmp_path / "radscore.state").exists()  # it was refused before scoring


def test_rows_of_remote_files_name_their_addresses(cli, marked_corpus, tmp_path, monkeypatch):
    """Not the copies that were read."""
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    memory = fsspec.filesystem("memory")
    for name in ("a.jsonl", "deep/b.jsonl"):
        memory.pipe(f"/rows/{name}", (tmp_path / "x.jsonl").read_bytes())
    rest = [one for one in SCORE if one != "x.jsonl"]
    rest.insert(1, "memory://rows")
    done = cli(*rest, *ROWS)
    assert done.code == 0, done.err
    rows = read(tmp_path / "rows.jsonl")
    names = ["memory:///rows/a.jsonl", "memory:///rows/deep/b.jsonl"]
    assert sorted({row["source"] for row in rows}) == names
    assert rows[0]["location"] == f"{names[0]}:1"
    scored = cli(*rest, "--json")
    assert scored.code == 0, scored.err
    inputs = scored.provenance["inputs"]["files"]
    assert [one["path"] for one in inputs] == names
    digest = hashlib.sha256((tmp_path / "x.jsonl").read_bytes()).hexdigest()
    assert [one["sha256"] for one in inputs] == [digest, digest]
