"""``radscore score``: keys, wrong input, options without effect, output over input."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from radscore.kgrams import KgramSet
from score_setup import KEY, SCORE, VOCAB, write


def test_the_key_from_file_environment_and_nowhere(
    cli, fails, marked_corpus, tmp_path, monkeypatch
):
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


def test_the_key_is_never_shown(cli, marked_corpus, tmp_path, monkeypatch):
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
        ["--fresh", "--debug"],
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
def test_bad_scheme_files_are_named(fails, marked_corpus, tmp_path, content, match):
    (tmp_path / "scheme.toml").write_text(content)
    fails(*SCORE, code=2, match=match)


def test_inputs_that_are_wrong_are_named(fails, marked_corpus, tmp_path):
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
    fails(
        *SCORE,
        "--filter",
        "scheme.toml",
        code=2,
        match="is not a set of k-grams, as radscore kgrams build",
    )
    fails(
        *SCORE,
        "--field",
        "nothing",
        code=2,
        match="x.jsonl:1: no field 'nothing'; the fields are: tokens",
    )
    write(tmp_path / "x.jsonl", [[1, 2, 100]])
    fails(*SCORE, match="x.jsonl:1: token id 100 at position 2 is outside the vocabulary of 100")
    (tmp_path / "x.jsonl").write_text("")
    fails(*SCORE, match="no documents")


def test_nothing_scored_is_an_error_that_says_why(fails, marked_corpus, tmp_path):
    KgramSet.from_kgrams([[1, 1]], vocab_size=VOCAB).save(tmp_path / "phi.rkg")
    fails(*SCORE, "--filter", "phi.rkg", match="removed by the filter")
    fails(*SCORE, "--start", 1000, match="no document reaches start 1000")
    write(tmp_path / "x.jsonl", [[1, 2], [3], []])
    fails(*SCORE, match="all 3 documents are shorter than the 3 tokens of a window")
    write(tmp_path / "x.jsonl", [[1, 2]])
    fails(*SCORE, match="the only document is shorter than the 3 tokens of a window")
    write(tmp_path / "x.jsonl", [[1, 2, 3]], prompt=[[1, 2]])
    fails(*SCORE, "--prompt-field", "prompt", match="excluded by prompts")


def test_a_filter_of_another_width_or_vocabulary_is_refused(fails, marked_corpus, tmp_path):
    KgramSet.from_kgrams([[1, 2, 3]], vocab_size=VOCAB).save(tmp_path / "phi.rkg")
    fails(*SCORE, "--filter", "phi.rkg", code=2, match="filter")
    KgramSet.from_kgrams([[1, 2]], vocab_size=77).save(tmp_path / "phi.rkg")
    fails(
        *SCORE, "--filter", "phi.rkg", code=2, match="--filter: phi.rkg holds 2-grams over 77 ids"
    )


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
    line = fails(*WITH_KEY, *options, code=2, match="--per-document: cannot write to the folder")
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


def test_no_rule_means_no_significant_documents(cli, marked_corpus):
    options = ("--dedup", "none", "--per-document", "o.csv", "--force")
    done = cli(*SCORE, *options)
    text = "documents  no p-values; rows in o.csv\n"
    assert done.out.endswith(text)
    assert cli(*SCORE, *options, "--json").json["per_document"]["n_significant"] is None


def test_options_without_effect_are_refused(fails, marked_corpus, tmp_path):
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


def test_messages_name_options(fails, marked_corpus, tmp_path):
    np.arange(9, dtype=np.uint16).tofile(tmp_path / "x.bin")
    score = ("score", "x.bin", "--scheme", "scheme.toml")
    fails(*score, code=2, match="x.bin: give the dtype of its ids with --dtype (uint16, ")
    fails(*score, "--dtype", "uint16", "--eod", 70_000, code=2, match="--eod must be from 0 to")
    fails(*score, "--dtype", "uint16", "--prompt-field", "p", code=2, match="--prompt-field needs")
    fails(*SCORE, "--tokenizer", "none", code=2, match="; --tokenizer takes a folder")
    fails(*SCORE, "--threads", 5000, code=2, match="--threads must be")
    (tmp_path / "x.data").write_bytes(b"?")
    fails("score", "x.data", *score[2:], code=2, match="name it with --format, one of jsonl, ")
    (tmp_path / "x.jsonl").write_text('{"other": 1}\n')
    fails(*SCORE, match="give --field, one of: other")
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    fails(*SCORE, code=2, match="give a tokenizer (--tokenizer)")
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "x.parquet")
    parquet = ("score", "x.parquet", *SCORE[2:])
    fails(*parquet, code=2, match="give a tokenizer (--tokenizer)")
    fails(*parquet, "--prompt-field", "p", code=2, match="no field 'p'; the fields are: text")


def test_a_scheme_is_a_file(fails, marked_corpus):
    says = "radscore schemes keyed --toml > scheme.toml"
    fails("score", "x.jsonl", "--scheme", "keyed", code=2, match=says)


def test_where_nothing_is_left_what_was_skipped_is_told(fails, marked_corpus, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"tokens": [1]}\n{"tokens": 5}\n')
    line = fails(*SCORE, "--on-error", "skip", match="nothing was scored: the only document")
    assert "x.jsonl:2: " in line


def test_ids_of_twice_the_size_are_noted(cli, marked_corpus, tmp_path):
    np.arange(1, 90, dtype=np.uint32).tofile(tmp_path / "x.bin")
    score = ("score", "x.bin", "--scheme", "scheme.toml", "--dtype")
    assert re.search(r"note +x\.bin: every second id is 0", cli(*score, "uint16").out)
    assert "every second id is 0" in cli(*score, "uint16", "--json").json["notes"][0]
    assert "every second" not in cli(*score, "uint32").out
    inspect = ("inspect", "x.bin", "--dtype", "uint16")
    assert "twice the size were read as --dtype uint16\n" in cli(*inspect).out


def test_a_filter_is_told_by_its_content(cli, fails, marked_corpus, tmp_path):
    KgramSet.from_kgrams([[1, 2], [3, 4]], vocab_size=VOCAB).save(tmp_path / "phi.json")
    assert cli("kgrams", "info", "phi.json", "--json").json["n_kgrams"] == 2
    fails(*SCORE, "--filter", "phi.json", match="removed by the filter")
    (tmp_path / "phi.jsonl").write_text("[1, 2]\n[3, 400]\n")
    fails(*SCORE, "--filter", "phi.jsonl", code=2, match="--filter: phi.jsonl:2: [3, 400]")
    fails("kgrams", "info", "phi.jsonl", code=2, match="--vocab-size is needed")
    fails(*SCORE, "--filter", ".", code=2, match="--filter: .: Is a directory")
