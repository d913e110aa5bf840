"""``radscore score``: results, rules, rows of single documents."""

import csv
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.kgrams import KgramSet
from scipy.stats import false_discovery_control
from score_setup import SCORE, VOCAB, write


def test_json_has_the_fields_of_the_result(cli, marked_corpus, scheme):
    done = cli(*SCORE, "--json")
    assert (done.code, done.err) == (0, "")
    expected = rs.score(marked_corpus, scheme)
    found = done.json
    for name, value in expected.to_dict().items():
        assert name == "provenance" or found[name] == value, name
    assert found["log10_pvalue"] < -20
    assert found["n_documents"] == 41
    assert found["n_short_documents"] == 1
    assert found["n_files"] == 1
    assert found["field"] == "tokens"
    assert found["skipped"] == {"count": 0, "files": 0, "examples": [], "share": 0.0}


def test_the_table_says_the_same(cli, marked_corpus, scheme):
    done = cli(*SCORE)
    result = rs.score(marked_corpus, scheme)
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(None, 1) for line in done.out.splitlines())
    assert lines["input"] == "41 documents and 2,202 tokens in 1 file, field 'tokens'"
    assert lines["scheme"] == f"keyed (fingerprint {scheme.fingerprint})"
    assert lines["windows"].startswith(f"{result.n_windows:,}")
    assert "none in 1 short document" in lines["windows"]
    assert lines["scored"] == f"{result.n_scored:,} (each unit once)"
    assert lines["green"].startswith(f"{result.n_green:,}, ")
    assert lines["green"].endswith("expected 25 %")
    assert f"(log10 {result.log10_pvalue:.3f}), {result.method}" in lines["p-value"]


@pytest.mark.parametrize("dedup", ["unit", "window", "context"])
@pytest.mark.parametrize("start", [None, 3, 10])
def test_rules_reach_the_scorer(cli, marked_corpus, scheme, dedup, start):
    options = [] if start is None else ["--start", start]
    found = cli(*SCORE, "--json", "--dedup", dedup, "--threads", 1, *options).json
    expected = rs.score(marked_corpus, scheme, dedup=dedup, start=start)
    assert found["log10_pvalue"] == expected.log10_pvalue
    assert (found["n_scored"], found["dedup"], found["start"]) == (expected.n_scored, dedup, start)


def test_no_rule_gives_no_pvalue(cli, marked_corpus):
    done = cli(*SCORE, "--dedup", "none")
    assert done.code == 0
    assert "p-value  none: repetitions were counted\n" in done.out
    assert "note     --dedup none counts repetitions" in done.out
    assert "\nz " not in done.out
    found = cli(*SCORE, "--dedup", "none", "--json").json
    assert found["pvalue"] is None
    assert found["log10_pvalue"] is None


def test_filter_and_prompts(cli, marked_corpus, scheme, tmp_path):
    prompts = [doc[:10] for doc in marked_corpus]
    write(tmp_path / "x.jsonl", marked_corpus, prompt=prompts)
    done = cli(
        "kgrams", "build", "x.jsonl", "--width", 2, "--vocab-size", VOCAB, "--out", "phi.rkg"
    )
    assert done.code == 0
    phi = KgramSet.from_documents(marked_corpus[30:], width=2, vocab_size=VOCAB, watermarked=False)
    phi.save(tmp_path / "phi.rkg")
    options = ["--filter", "phi.rkg", "--prompt-field", "prompt"]
    found = cli(*SCORE, "--json", *options).json
    expected = rs.score(marked_corpus, scheme, prompts=prompts, filter=phi)
    assert expected.n_excluded > 0
    assert expected.n_filtered > 0
    for name in ("n_scored", "n_green", "n_excluded", "n_filtered", "log10_pvalue", "filter"):
        assert found[name] == getattr(expected, name)
    table = cli(*SCORE, *options).out
    assert f"{expected.n_excluded:,} by prompts" in table
    assert f"{expected.n_filtered:,} by the filter" in table


def read_rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [
            {k: v if k in ("source", "location") else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_one_row_a_document(cli, marked_corpus, scheme, tmp_path, suffix):
    done = cli(*SCORE, "--per-document", f"out.{suffix}", "--fdr", 0.01)
    assert done.code == 0
    rows = read_rows(tmp_path / f"out.{suffix}")
    columns = [
        "index",
        "source",
        "row",
        "location",
        "n_tokens",
        "n_scored",
        "n_green",
        "statistic",
        "zscore",
        "pvalue",
        "log10_pvalue",
        "qvalue",
        "n_shared",
        "n_common",
        "copy_of",
    ]
    assert list(rows[0]) == columns
    expected = rs.score_documents(marked_corpus, scheme)
    assert [row["index"] for row in rows] == list(range(41))
    assert {row["source"] for row in rows} == {"x.jsonl"}
    assert [row["row"] for row in rows] == list(range(41))
    assert [row["location"] for row in rows] == [f"x.jsonl:{i}" for i in range(1, 42)]
    assert [row["n_tokens"] for row in rows] == list(map(len, marked_corpus))
    zscores = [math.nan if row["zscore"] is None else row["zscore"] for row in rows]
    assert np.allclose(zscores, expected.zscore, rtol=1e-12, equal_nan=True)
    for name in ("n_scored", "statistic", "log10_pvalue", "pvalue", *columns[-3:]):
        assert np.allclose([row[name] for row in rows], getattr(expected, name), rtol=1e-12), name
    assert [row["n_green"] for row in rows] == expected.statistic.tolist()
    # The short document is no test, so not one of the 40 that are corrected for.
    qvalues = [row["qvalue"] for row in rows]
    assert np.allclose(qvalues[:40], false_discovery_control(expected.pvalue[:40]), rtol=1e-9)
    assert (rows[40]["pvalue"], qvalues[40]) == (1, 1)
    significant = sum(q <= 0.01 for q in qvalues)
    assert 10 <= significant <= 12
    assert all(q <= 0.01 for q in qvalues[30:40])
    assert f"documents  {significant} of 40 with windows are significant at q <= 0.01" in done.out
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob("radscore.state*"))


def test_the_verdict_of_all_does_not_gainsay_a_document(cli, marked_corpus, tmp_path):
    write(tmp_path / "x.jsonl", [*marked_corpus[:30], marked_corpus[30][:20]])
    text = cli(*SCORE).out
    assert "verdict   no evidence at level 0.01\n" in text
    assert "excludes  more than " in text
    done = cli(*SCORE, "--per-document", "o.csv")
    assert "1 of 31 with windows are significant" in done.out
    assert "verdict    no evidence at level 0.01 in all documents together\n" in done.out


def test_the_summary_says_what_the_documents_found_share(cli, marked_corpus, scheme, tmp_path):
    """A document that comes twelve times more, and its first half on its own."""
    docs = [
        *marked_corpus[:30],
        *[marked_corpus[30]] * 13,
        marked_corpus[30][: len(marked_corpus[30]) // 2],
    ]
    write(tmp_path / "x.jsonl", docs)
    rows = ("--per-document", "o.csv", "--force")
    found = cli(*SCORE, *rows, "--max-sharing", 1)
    expected = rs.score_documents(docs, scheme, max_sharing=1)
    assert expected.n_scored[-1] == 0
    n = expected.false_discovery(0.05).n_rejected
    assert n >= 13
    assert f"{n} of 43 with windows are significant at q <= 0.05 (copies of others: 12" in found.out
    text = "; 1 holds only units of 1 earlier document and was not tested"
    assert text in found.out
    done = cli(*SCORE, *rows, "--max-sharing", 0, "--json")
    assert done.json["per_document"]["max_sharing"] is None
    assert done.json["per_document"]["n_copies"] == 0
    alone = rs.score_documents(docs, scheme, max_sharing=None)
    assert [row["n_scored"] for row in read_rows(tmp_path / "o.csv")] == alone.n_scored.tolist()


def test_rows_of_real_scores(cli, marked_corpus, tmp_path, monkeypatch):
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "sglang_gumbel"\nvocab_size = {VOCAB}\ncontext_width = 2\n'
    )
    (tmp_path / "k").write_text("abcdef12")
    done = cli(*SCORE, "--key-file", "k", "--per-document", "out.parquet", "--json")
    assert done.code == 0, done.err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[6] == "score"
    assert done.json["per_document"] == {
        "path": "out.parquet",
        "n_documents": 41,
        "n_tested": 40,
        "n_copies": 0,
        "n_all_shared": 0,
        "n_significant": done.json["per_document"]["n_significant"],
        "n_significant_copies": 0,
        "n_significant_common": done.json["per_document"]["n_significant_common"],
        "fdr": 0.05,
        "max_sharing": 8,
        "select": None,
        "out": None,
        "n_selected": None,
    }
    assert done.json["n_green"] is None
    assert "mean score" in cli(*SCORE, "--key-file", "k").out


def test_many_files_keep_their_places(cli, marked_corpus, scheme, tmp_path):
    write(tmp_path / "a.jsonl", marked_corpus[:5])
    write(tmp_path / "b.jsonl", marked_corpus[5:9])
    done = cli(
        "score", "a.jsonl", "b.jsonl", "--scheme", "scheme.toml", "--per-document", "o.jsonl"
    )
    assert done.code == 0
    places = [row["location"] for row in read_rows(tmp_path / "o.jsonl")]
    assert places == [f"a.jsonl:{i}" for i in range(1, 6)] + [f"b.jsonl:{i}" for i in range(1, 5)]


def test_skipped_records_stand_beside_the_pvalue(cli, fails, marked_corpus, tmp_path):
    good = cli(*SCORE, "--json").json
    with (tmp_path / "x.jsonl").open("a") as file:
        file.write('broken\n{"tokens": [100]}\n{"other": 1}\n')
    fails(*SCORE, match="x.jsonl:42: not JSON")
    done = cli(*SCORE, "--on-error", "skip")
    assert done.code == 3
    assert "skipped  3 records (6.82 %)" in done.out
    assert "x.jsonl:43: token id 100 at position 0 is outside the vocabulary of 100" in done.out
    found = cli(*SCORE, "--on-error", "skip", "--json").json
    assert found["n_skipped"] == 3
    assert found["skipped"]["share"] == pytest.approx(3 / 44)
    assert found["log10_pvalue"] == good["log10_pvalue"]


def test_text_is_tokenised(cli, marked_corpus, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = [{"text": " ".join(f"w{i}" for i in doc)} for doc in marked_corpus]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    ids = cli(*SCORE, "--json").json
    arguments = ("score", "t.jsonl", "--scheme", "scheme.toml", "--json")
    text = cli(*arguments, "--tokenizer", "tokenizer.json").json
    assert text["field"] == "text"
    assert (text["n_scored"], text["log10_pvalue"]) == (ids["n_scored"], ids["log10_pvalue"])
    assert cli(*arguments).code == 2  # and says that a tokenizer is missing


def test_a_corpus_twice_is_no_more_evidence(cli, marked_corpus, tmp_path):
    once = cli(*SCORE, "--json").json
    write(tmp_path / "x.jsonl", marked_corpus + marked_corpus)
    twice = cli(*SCORE, "--json").json
    assert (twice["n_scored"], twice["log10_pvalue"]) == (once["n_scored"], once["log10_pvalue"])
    assert twice["n_duplicates"] > once["n_duplicates"]


def test_progress_lines_without_a_terminal(cli, marked_corpus, monkeypatch):
    import radscore.cli.progress as module

    monkeypatch.setattr(module, "_LINE_SECONDS", 0.0)
    done = cli(*SCORE, "--progress")
    assert done.err.startswith("radscore: 100.0 %, ")
    assert " tokens/s, 0:00 left\n" in done.err
    assert cli(*SCORE, "--progress", "--quiet").err == ""


def test_a_bar_on_a_terminal(cli, marked_corpus, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    done = cli(*SCORE)
    assert "%|" in done.err
    assert cli(*SCORE, "--quiet").err == ""


def test_python_numbers_in_json_are_finite(cli, marked_corpus):
    def refuse(constant):
        raise AssertionError(constant)

    for options in ([], ["--dedup", "none"]):
        found = json.loads(cli(*SCORE, "--json", *options).out, parse_constant=refuse)
        assert math.isfinite(found["statistic"])


def test_prompts_as_contexts_and_a_limit_of_contexts(cli, fails, marked_corpus, scheme, tmp_path):
    prompts = [doc[:10] for doc in marked_corpus]
    write(tmp_path / "x.jsonl", marked_corpus, prompt=prompts)
    options = ["--prompt-field", "prompt", "--prompt-role", "context"]
    rows = ["--per-document", "out.parquet", "--max-contexts", 5]
    found = cli(*SCORE, "--json", *options, *rows).json
    expected = rs.score(marked_corpus, scheme, prompts=prompts, prompt_role="context")
    assert found["n_windows"] == expected.n_windows > rs.score(marked_corpus, scheme).n_windows
    assert found["log10_pvalue"] == expected.log10_pvalue
    alone = rs.score_documents(
        marked_corpus, scheme, prompts=prompts, prompt_role="context", max_contexts=5
    )
    n_scored = [row["n_scored"] for row in read_rows(tmp_path / "out.parquet")]
    assert n_scored == alone.n_scored.tolist()
    assert max(n_scored) < 10 < max(rs.score_documents(marked_corpus, scheme).n_scored)
    fails(*SCORE, "--max-sharing", 5, code=2, match="--max-sharing has no effect without")
    fails(*SCORE, *rows, "--max-sharing", 256, code=2, match="must be from 0 to 255")
    fails(*SCORE, "--max-contexts", 5, code=2, match="--max-contexts is for --per-document")
