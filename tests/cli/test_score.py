"""``radscore score``: results, rules, per-document rows, keys, errors."""

import csv
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.kgrams import KgramSet
from scipy.stats import false_discovery_control

KEY = "00112233445566778899aabbccddeeff"
VOCAB = 100


def marked(scheme, n, length, seed):
    """Documents whose every token is green."""
    rng = np.random.default_rng(seed)
    docs = []
    for _ in range(n):
        doc = rng.integers(0, VOCAB, size=2).tolist()
        while len(doc) < length:
            doc.append(int(rng.choice(np.flatnonzero(scheme.green_mask([doc[-2:]])[0]))))
        docs.append(doc)
    return docs


@pytest.fixture
def scheme():
    return rs.Keyed(key=rs.Key(KEY), vocab_size=VOCAB, gamma=0.25, context_width=2)


@pytest.fixture
def setup(tmp_path, monkeypatch, cli, scheme):
    """A scheme file, the key in the environment, and 40 documents of which 10 are marked."""
    monkeypatch.setenv("RADSCORE_KEY", KEY)
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ngamma = 0.25\ncontext_width = 2\n'
    )
    rng = np.random.default_rng(3)
    docs = rng.integers(0, VOCAB, size=(30, 60)).tolist() + marked(scheme, 10, 40, 4)
    docs.append([1, 2])  # too short
    write(tmp_path / "x.jsonl", docs)
    return docs


def write(path, docs, **columns):
    rows = [
        {"tokens": doc, **{name: values[i] for name, values in columns.items()}}
        for i, doc in enumerate(docs)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


SCORE = ("score", "x.jsonl", "--scheme", "scheme.toml")


def test_json_has_the_fields_of_the_result(cli, setup, scheme):
    done = cli(*SCORE, "--json")
    assert (done.code, done.err) == (0, "")
    expected = rs.score(setup, scheme)
    found = done.json
    for name, value in expected.to_dict().items():
        assert found[name] == value, name
    assert found["log10_pvalue"] < -20
    assert found["n_documents"] == 41
    assert found["n_short_documents"] == 1
    assert found["n_files"] == 1
    assert found["field"] == "tokens"
    assert found["skipped"] == {"count": 0, "files": 0, "examples": [], "share": 0.0}


def test_the_table_says_the_same(cli, setup, scheme):
    done = cli(*SCORE)
    result = rs.score(setup, scheme)
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
def test_rules_reach_the_scorer(cli, setup, scheme, dedup, start):
    options = [] if start is None else ["--start", start]
    found = cli(*SCORE, "--json", "--dedup", dedup, "--threads", 1, *options).json
    expected = rs.score(setup, scheme, dedup=dedup, start=start)
    assert found["log10_pvalue"] == expected.log10_pvalue
    assert (found["n_scored"], found["dedup"], found["start"]) == (expected.n_scored, dedup, start)


def test_no_rule_gives_no_pvalue(cli, setup):
    done = cli(*SCORE, "--dedup", "none")
    assert done.code == 0
    assert "p-value  none: repetitions were counted\n" in done.out
    assert "note     --dedup none counts repetitions" in done.out
    assert "\nz " not in done.out
    found = cli(*SCORE, "--dedup", "none", "--json").json
    assert found["pvalue"] is None
    assert found["log10_pvalue"] is None


def test_filter_and_prompts(cli, setup, scheme, tmp_path):
    prompts = [doc[:10] for doc in setup]
    write(tmp_path / "x.jsonl", setup, prompt=prompts)
    done = cli(
        "kgrams", "build", "x.jsonl", "--width", 2, "--vocab-size", VOCAB, "--out", "phi.rkg"
    )
    assert done.code == 0
    phi = KgramSet.from_documents(setup[30:], width=2, vocab_size=VOCAB, watermarked=False)
    phi.save(tmp_path / "phi.rkg")
    options = ["--filter", "phi.rkg", "--prompt-field", "prompt"]
    found = cli(*SCORE, "--json", *options).json
    expected = rs.score(setup, scheme, prompts=prompts, filter=phi)
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
            {k: v if k == "source" else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_one_row_a_document(cli, setup, scheme, tmp_path, suffix):
    done = cli(*SCORE, "--per-document", f"out.{suffix}", "--fdr", 0.01)
    assert done.code == 0
    rows = read_rows(tmp_path / f"out.{suffix}")
    columns = [
        "index",
        "source",
        "n_scored",
        "n_green",
        "statistic",
        "pvalue",
        "log10_pvalue",
        "qvalue",
        "n_shared",
        "n_common",
        "copy_of",
    ]
    assert list(rows[0]) == columns
    expected = rs.score_documents(setup, scheme)
    assert [row["index"] for row in rows] == list(range(41))
    assert [row["source"] for row in rows] == [f"x.jsonl:{i}" for i in range(1, 42)]
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


def test_the_summary_says_what_the_documents_found_share(cli, setup, scheme, tmp_path):
    """A document that comes twelve times more, and its first half on its own."""
    docs = [*setup[:30], *[setup[30]] * 13, setup[30][: len(setup[30]) // 2]]
    write(tmp_path / "x.jsonl", docs)
    found = cli(*SCORE, "--per-document", "o.csv", "--max-sharing", 1)
    expected = rs.score_documents(docs, scheme, max_sharing=1)
    assert expected.n_scored[-1] == 0
    n = expected.false_discovery(0.05).n_rejected
    assert n >= 13
    assert f"{n} of 43 with windows are significant at q <= 0.05 (copies of others: 12" in found.out
    text = "; 1 holds only what 1 earlier document holds, and was not tested"
    assert text in found.out
    done = cli(*SCORE, "--per-document", "o.csv", "--max-sharing", 0, "--json")
    assert done.json["per_document"]["max_sharing"] is None
    assert done.json["per_document"]["n_copies"] == 0
    alone = rs.score_documents(docs, scheme, max_sharing=None)
    assert [row["n_scored"] for row in read_rows(tmp_path / "o.csv")] == alone.n_scored.tolist()


def test_rows_of_real_scores(cli, setup, tmp_path, monkeypatch):
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "sglang_gumbel"\nvocab_size = {VOCAB}\ncontext_width = 2\n'
    )
    (tmp_path / "k").write_text("abcdef12")
    done = cli(*SCORE, "--key-file", "k", "--per-document", "out.parquet", "--json")
    assert done.code == 0, done.err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[3] == "score"
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
    }
    assert done.json["n_green"] is None
    assert "mean score" in cli(*SCORE, "--key-file", "k").out


def test_many_files_keep_their_places(cli, setup, scheme, tmp_path):
    write(tmp_path / "a.jsonl", setup[:5])
    write(tmp_path / "b.jsonl", setup[5:9])
    done = cli(
        "score", "a.jsonl", "b.jsonl", "--scheme", "scheme.toml", "--per-document", "o.jsonl"
    )
    assert done.code == 0
    places = [row["source"] for row in read_rows(tmp_path / "o.jsonl")]
    assert places == [f"a.jsonl:{i}" for i in range(1, 6)] + [f"b.jsonl:{i}" for i in range(1, 5)]


def test_skipped_records_stand_beside_the_pvalue(cli, fails, setup, tmp_path):
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


def test_text_is_tokenised(cli, setup, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = [{"text": " ".join(f"w{i}" for i in doc)} for doc in setup]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    ids = cli(*SCORE, "--json").json
    arguments = ("score", "t.jsonl", "--scheme", "scheme.toml", "--json")
    text = cli(*arguments, "--tokenizer", "tokenizer.json").json
    assert text["field"] == "text"
    assert (text["n_scored"], text["log10_pvalue"]) == (ids["n_scored"], ids["log10_pvalue"])
    assert cli(*arguments).code == 2  # and says that a tokenizer is missing


def test_the_key_from_file_environment_and_nowhere(cli, fails, setup, tmp_path, monkeypatch):
    expected = cli(*SCORE, "--json").json
    monkeypatch.delenv("RADSCORE_KEY")
    (tmp_path / "alice.key").write_text(KEY + "\n")
    monkeypatch.setenv("ALICE", KEY)
    for options in (["--key-file", "alice.key"], ["--key-env", "ALICE"]):
        assert cli(*SCORE, "--json", *options).json == expected
    line = fails(*SCORE, code=2, match="scheme.toml: scheme 'keyed' needs its key (key)")
    assert all(word in line for word in ("--key-file", "--key-env", "RADSCORE_KEY"))
    fails(*SCORE, "--key-env", "BOB", code=2, match="no variable BOB")
    fails(*SCORE, "--key-file", "no.key", code=2, match="no.key")
    (tmp_path / "bob.key").write_text("ff" + KEY[2:])
    other = cli(*SCORE, "--json", "--key-file", "bob.key").json
    assert other["fingerprint"] != expected["fingerprint"]
    assert other["log10_pvalue"] > -6


def test_the_key_is_never_shown(cli, setup, tmp_path, monkeypatch):
    """Whatever goes right or wrong, with a traceback or without."""
    wrong = "deadbeefcafebabe0123456789"
    (tmp_path / "wrong.key").write_text(wrong)
    shown = ""
    for options in (
        [],
        ["--json"],
        ["--per-document", "out.parquet"],
        ["--key-file", "wrong.key", "--debug"],
        ["--key-file", "wrong.key"],
        ["--resume", "--debug"],
    ):
        done = cli(*SCORE, *options)
        shown += done.out + done.err
    assert "wrong" not in shown.replace("wrong.key", "")
    for secret in (KEY, wrong, KEY[:16], wrong[:12], str(int(KEY, 16))):
        assert secret not in shown
        for path in tmp_path.iterdir():
            if path.suffix != ".key":
                assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("scheme =", "scheme.toml"),
        ('scheme = "nonsense"\nvocab_size = 100', "nonsense"),
        ("vocab_size = 100", "scheme"),
        ('scheme = "keyed"', "vocab_size"),
        ('scheme = "keyed"\nvocab_size = "many"', "vocab_size"),
        ('scheme = "keyed"\nvocab_size = 100\nfoo = 1', "foo"),
        ('scheme = "keyed"\nvocab_size = 100\ngamma = 1.5', "gamma"),
        ('scheme = "keyed"\nvocab_size = 100\ncontext_width = 99', "context_width"),
        ('scheme = ["keyed"]\nvocab_size = 100', "scheme"),
    ],
)
def test_bad_scheme_files_are_named(fails, setup, tmp_path, content, match):
    (tmp_path / "scheme.toml").write_text(content)
    fails(*SCORE, code=2, match=match)


def test_inputs_that_are_wrong_are_named(fails, setup, tmp_path):
    fails(
        "score",
        "no.jsonl",
        "--scheme",
        "scheme.toml",
        code=2,
        match="no.jsonl: no such file or folder",
    )
    fails("score", "x.jsonl", "--scheme", "no.toml", code=2, match="no.toml")
    fails(*SCORE, "--filter", "no.rkg", code=2, match="no.rkg")
    fails(*SCORE, "--filter", "x.jsonl", code=2, match="--filter: x.jsonl")
    fails(*SCORE, "--filter", "scheme.toml", code=2, match="allowed are those of radscore kgrams")
    fails(
        *SCORE,
        "--field",
        "nothing",
        code=2,
        match="x.jsonl:1: no field 'nothing'; there is: tokens",
    )
    write(tmp_path / "x.jsonl", [[1, 2, 100]])
    fails(*SCORE, match="x.jsonl:1: token id 100 at position 2 is outside the vocabulary of 100")
    (tmp_path / "x.jsonl").write_text("")
    fails(*SCORE, match="no documents")


def test_nothing_scored_is_an_error_that_says_why(fails, setup, tmp_path):
    KgramSet.from_kgrams([[1, 1]], vocab_size=VOCAB).save(tmp_path / "phi.rkg")
    fails(*SCORE, "--filter", "phi.rkg", match="removed by the filter")
    fails(*SCORE, "--start", 1000, match="no document reaches start 1000")
    write(tmp_path / "x.jsonl", [[1, 2], [3], []])
    fails(*SCORE, match="all 3 documents are shorter than the 3 tokens of a window")
    write(tmp_path / "x.jsonl", [[1, 2]])
    fails(*SCORE, match="the only document is shorter than the 3 tokens of a window")
    write(tmp_path / "x.jsonl", [[1, 2, 3]], prompt=[[1, 2]])
    fails(*SCORE, "--prompt-field", "prompt", match="excluded by prompts")


def test_a_filter_of_another_width_or_vocabulary_is_refused(fails, setup, tmp_path):
    KgramSet.from_kgrams([[1, 2, 3]], vocab_size=VOCAB).save(tmp_path / "phi.rkg")
    fails(*SCORE, "--filter", "phi.rkg", code=2, match="filter")
    KgramSet.from_kgrams([[1, 2]], vocab_size=77).save(tmp_path / "phi.rkg")
    fails(
        *SCORE, "--filter", "phi.rkg", code=2, match="--filter: phi.rkg holds 2-grams over 77 ids"
    )


def test_a_corpus_twice_is_no_more_evidence(cli, setup, tmp_path):
    once = cli(*SCORE, "--json").json
    write(tmp_path / "x.jsonl", setup + setup)
    twice = cli(*SCORE, "--json").json
    assert (twice["n_scored"], twice["log10_pvalue"]) == (once["n_scored"], once["log10_pvalue"])
    assert twice["n_duplicates"] > once["n_duplicates"]


def test_progress_lines_without_a_terminal(cli, setup, monkeypatch):
    import radscore.cli.progress as module

    monkeypatch.setattr(module, "_LINE_SECONDS", 0.0)
    done = cli(*SCORE, "--progress")
    assert done.err.startswith("radscore: 100.0 %, ")
    assert " tokens/s, 0:00 left\n" in done.err
    assert cli(*SCORE, "--progress", "--quiet").err == ""


def test_a_bar_on_a_terminal(cli, setup, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    done = cli(*SCORE)
    assert "%|" in done.err
    assert cli(*SCORE, "--quiet").err == ""


def test_python_numbers_in_json_are_finite(cli, setup):
    def refuse(constant):
        raise AssertionError(constant)

    for options in ([], ["--dedup", "none"]):
        found = json.loads(cli(*SCORE, "--json", *options).out, parse_constant=refuse)
        assert math.isfinite(found["statistic"])


def test_prompts_as_contexts_and_a_limit_of_contexts(cli, fails, setup, scheme, tmp_path):
    prompts = [doc[:10] for doc in setup]
    write(tmp_path / "x.jsonl", setup, prompt=prompts)
    options = ["--prompt-field", "prompt", "--prompt-role", "context"]
    rows = ["--per-document", "out.parquet", "--max-contexts", 5]
    found = cli(*SCORE, "--json", *options, *rows).json
    expected = rs.score(setup, scheme, prompts=prompts, prompt_role="context")
    assert found["n_windows"] == expected.n_windows > rs.score(setup, scheme).n_windows
    assert found["log10_pvalue"] == expected.log10_pvalue
    alone = rs.score_documents(
        setup, scheme, prompts=prompts, prompt_role="context", max_contexts=5
    )
    n_scored = [row["n_scored"] for row in read_rows(tmp_path / "out.parquet")]
    assert n_scored == alone.n_scored.tolist()
    assert max(n_scored) < 10 < max(rs.score_documents(setup, scheme).n_scored)
    fails(*SCORE, "--max-sharing", 5, code=2, match="--max-sharing has no effect without")
    fails(*SCORE, *rows, "--max-sharing", 256, code=2, match="must be from 0 to 255")
    fails(*SCORE, "--max-contexts", 5, code=2, match="--max-contexts is for --per-document")


VLLM = 'scheme = "vllm_gumbel"\nvocab_size = 100\n'
KGW = 'scheme = "kgw"\nvocab_size = 100\n'


@pytest.fixture
def bare(corpus, tmp_path):
    """`corpus`, scheme files without a key, and a key file."""
    (tmp_path / "v.toml").write_text(VLLM)
    (tmp_path / "k.toml").write_text(KGW)
    (tmp_path / "int.key").write_text("42\n")
    return tmp_path


WITH_KEY = ("score", "x.jsonl", "--scheme", "v.toml", "--key-file", "int.key")


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
@pytest.mark.parametrize("option", ["--per-document", "--state"])
def test_output_never_goes_over_an_input(fails, bare, option, link):
    target = "x.jsonl"
    if link is not None:
        target = "other.jsonl"
        getattr(bare / target, link)(bare / "x.jsonl")
    before = (bare / "x.jsonl").read_bytes()
    fails(*WITH_KEY, option, target, code=2, match=f"{option} names an input: {target}")
    assert (bare / "x.jsonl").read_bytes() == before


def test_output_never_goes_over_what_else_is_read_or_written(fails, bare):
    KgramSet.from_kgrams([[1, 2, 3, 4]], vocab_size=VOCAB).save(bare / "phi.rkg")
    state = (*WITH_KEY, "--filter", "phi.rkg", "--state")
    fails(*state, "v.toml", code=2, match="--state names the scheme: v.toml")
    fails(*state, "int.key", code=2, match="--state names the key: int.key")
    fails(*state, "phi.rkg", code=2, match="--state names the filter: phi.rkg")
    both = ("--per-document", "o.csv", "--state", "./o.csv")
    fails(*WITH_KEY, *both, code=2, match="--state names the same file as --per-document")
    fails("kgrams", "build", "x.jsonl", "--width", 2, "--vocab-size", 100, "--out", "out.jsonl",
          code=2, match="name it phi.rkg")  # fmt: skip
    np.arange(9, dtype=np.uint16).tofile(bare / "x.bin")
    build = ("kgrams", "build", "x.bin", "--dtype", "uint16", "--width", 2, "--vocab-size", 100)
    fails(*build, "--out", "x.bin", code=2, match="--out names an input: x.bin")
    fails(*build, "--out", "no/x.rkg", code=2, match="--out: there is no folder")
    fails(*build, "--out", ".", code=2, match="--out must be a file")


def test_a_folder_that_takes_no_files_is_known_at_once(fails, bare):
    options = ("--per-document", "/proc/out.csv")
    line = fails(*WITH_KEY, *options, code=2, match="--per-document: nothing can be written to")
    assert ".part" not in line


@pytest.mark.parametrize("scheme", ["kgw", "gumbel_max"])
def test_a_public_default_key_must_be_asked_for(cli, fails, bare, scheme):
    for seeding, line in (
        ("hash", "seed = 0"),
        ("hash", "salt_key = 35317"),
        ("minhash", "hash_key = 15485863"),
    ):
        text = f'scheme = "{scheme}"\nvocab_size = 100\nseeding = "{seeding}"\n'
        (bare / "k.toml").write_text(text)
        score = ("score", "x.jsonl", "--scheme", "k.toml")
        assert line in fails(*score, code=2, match=f"scheme {scheme!r} needs its key")
        (bare / "k.toml").write_text(f"{text}{line}\n")
        done = cli(*score)
        assert done.code == 0
        name = line.partition(" ")[0]
        assert f"note: {name} is the tools' public default in k.toml\n" in done.err


def test_a_key_that_the_scheme_does_not_use_is_no_key(fails, bare):
    (bare / "k.toml").write_text(f"{KGW}hash_key = 15485863\n")
    score = ("score", "x.jsonl", "--scheme", "k.toml")
    fails(*score, code=2, match="needs its key (seed, salt_key)")
    (bare / "int.key").write_text('key_b = "2b"')
    (bare / "k.toml").write_text('scheme = "sglang_gumbel"\nvocab_size = 100\n')
    fails(*score, "--key-file", "int.key", code=2, match="needs its key (key): give it with")


def test_half_a_key_is_noted(cli, bare):
    score = ("score", "x.jsonl", "--scheme", "k.toml", "--key-file", "int.key")
    done = cli(*score)
    assert done.code == 0
    assert done.err == ("radscore: note: salt_key was not given, so has its public default 35317\n")
    (bare / "int.key").write_text("salt_key = 98765")
    done = cli(*score)
    assert done.err == "radscore: note: seed was not given, so has its public default 0\n"
    (bare / "int.key").write_text("seed = 4\nsalt_key = 98765")
    assert cli(*score).err == ""


def test_a_key_in_the_scheme_file(cli, fails, bare):
    (bare / "e.toml").write_text(f"{VLLM}key = 987654321\n")
    done = cli("score", "x.jsonl", "--scheme", "e.toml")
    assert done.code == 0
    assert done.err == (
        "radscore: note: key is secret but stands in e.toml; --key-file keeps it apart\n"
    )
    line = "key stands in e.toml and also comes from --key-file int.key; give it once"
    options = ("--scheme", "e.toml", "--key-file", "int.key")
    fails("score", "x.jsonl", *options, code=2, match=line)


def test_messages_about_keys_name_where_the_key_came_from(fails, bare, monkeypatch):
    (bare / "bad.key").write_text("2a")
    score = ("score", "x.jsonl", "--scheme", "v.toml")
    line = fails(*score, "--key-file", "bad.key", code=2, match="written as 0x2a")
    assert line.startswith("radscore: error: key file bad.key: key holds a letter")
    monkeypatch.setenv("ALICE", "-5")
    line = fails(*score, "--key-env", "ALICE", code=2, match="key must be from 0")
    assert line.startswith("radscore: error: environment variable ALICE: key must")
    (bare / "bad.key").write_text("sead = 3")
    line = fails(*score, "--key-file", "bad.key", code=2, match="the key names 'sead'")
    assert line.startswith("radscore: error: key file bad.key: ")
    (bare / "bad.key").write_text("seed = 3\nkey = = 3")
    fails(*score, "--key-file", "bad.key", code=2, match="not valid TOML (at line 2, column 7)")
    (bare / "v.toml").write_text(f"{VLLM}context_width = 99\n")
    fails(*score, "--key-file", "int.key", code=2, match="error: v.toml: context_width")
    (bare / "v.toml").write_text(f"{VLLM}key = = 99\n")
    fails(*score, "--key-file", "int.key", code=2, match="v.toml: not valid TOML (at line 3")


def test_no_rule_means_no_significant_documents(cli, setup):
    options = ("--dedup", "none", "--per-document", "o.csv")
    done = cli(*SCORE, *options)
    text = "documents  no p-values; rows in o.csv\n"
    assert done.out.endswith(text)
    assert cli(*SCORE, *options, "--json").json["per_document"]["n_significant"] is None


def test_options_without_effect_are_refused(fails, setup, tmp_path):
    rows = ("--per-document", "o.csv")
    for options, match in (
        (["--dtype", "uint16"], "--dtype has no effect: files of format jsonl say"),
        (["--special-tokens"], "--special-tokens has no effect"),
        (["--fdr", 0.1, "--dedup", "none", *rows], "--fdr has no effect with --dedup none"),
    ):
        fails(*SCORE, *options, code=2, match=match)
    np.save(tmp_path / "x.npy", np.arange(9, dtype=np.uint16))
    score = ("score", "x.npy", "--scheme", "scheme.toml")
    fails(*score, "--dtype", "uint16", code=2, match="--dtype has no effect")
    fails(*score, "--field", "tokens", code=2, match="--field has no effect")


def test_messages_name_options(fails, setup, tmp_path):
    np.arange(9, dtype=np.uint16).tofile(tmp_path / "x.bin")
    score = ("score", "x.bin", "--scheme", "scheme.toml")
    fails(*score, code=2, match="x.bin: give the dtype of its ids with --dtype (uint16, ")
    fails(*score, "--dtype", "uint16", "--eod", 70_000, code=2, match="--eod must be from 0 to")
    fails(*score, "--dtype", "uint16", "--prompt-field", "p", code=2, match="--prompt-field needs")
    fails(*SCORE, "--tokenizer", "none", code=2, match="; --tokenizer takes a folder")
    fails(*SCORE, "--threads", 5000, code=2, match="--threads must be")
    (tmp_path / "x.data").write_bytes(b"?")
    fails("score", "x.data", *score[2:], code=2, match="or give --format (jsonl, ")
    (tmp_path / "x.jsonl").write_text('{"other": 1}\n')
    fails(*SCORE, match="name one with --field of: other")
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    fails(*SCORE, code=2, match="give a tokenizer (--tokenizer)")
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "x.parquet")
    parquet = ("score", "x.parquet", *SCORE[2:])
    fails(*parquet, code=2, match="give a tokenizer (--tokenizer)")
    fails(*parquet, "--prompt-field", "p", code=2, match="no field 'p'; there is: text")


def test_ids_of_twice_the_size_are_noted(cli, setup, tmp_path):
    np.arange(1, 90, dtype=np.uint32).tofile(tmp_path / "x.bin")
    score = ("score", "x.bin", "--scheme", "scheme.toml", "--dtype")
    assert "note     x.bin: every second id is 0" in cli(*score, "uint16").out
    assert "every second id is 0" in cli(*score, "uint16", "--json").json["notes"][0]
    assert "every second" not in cli(*score, "uint32").out
    inspect = ("inspect", "x.bin", "--dtype", "uint16")
    assert "twice the size are read as --dtype uint16\n" in cli(*inspect).out


def test_a_filter_is_told_by_its_content(cli, fails, setup, tmp_path):
    KgramSet.from_kgrams([[1, 2], [3, 4]], vocab_size=VOCAB).save(tmp_path / "phi.json")
    assert cli("kgrams", "info", "phi.json", "--json").json["n_kgrams"] == 2
    fails(*SCORE, "--filter", "phi.json", match="removed by the filter")
    (tmp_path / "phi.jsonl").write_text("[1, 2]\n[3, 400]\n")
    fails(*SCORE, "--filter", "phi.jsonl", code=2, match="--filter: phi.jsonl:2: [3, 400]")
    fails("kgrams", "info", "phi.jsonl", code=2, match="--vocab-size is needed")
    fails(*SCORE, "--filter", ".", code=2, match="--filter: .: Is a directory")
