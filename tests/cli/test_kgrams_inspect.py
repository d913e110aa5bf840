"""``radscore kgrams`` and ``radscore inspect``."""

import itertools
from collections import Counter

import numpy as np
from radscore.kgrams import KgramSet


def test_a_set_of_all_bigrams(cli, corpus):
    done = cli("kgrams", "build", "x.jsonl", "--width", 2, "--vocab-size", 100, "--out", "phi.rkg")
    assert (done.code, done.err) == (0, "")
    expected = {pair for doc in corpus for pair in itertools.pairwise(doc)}
    assert set(KgramSet.load("phi.rkg")) == expected
    assert f"k-grams      {len(expected):,}\n" in done.out
    assert "documents    100\n" in done.out
    info = cli("kgrams", "info", "phi.rkg", "--json").json
    assert info["n_kgrams"] == len(expected)
    assert (info["width"], info["vocab_size"]) == (2, 100)
    assert info["fingerprint"] in cli("kgrams", "info", "phi.rkg").out


def test_the_most_frequent_and_those_that_occur_twice(cli, corpus):
    counts = Counter(pair for doc in corpus for pair in itertools.pairwise(doc))
    options = ["--width", 2, "--vocab-size", 100, "--out", "phi.rkg", "--json"]
    done = cli("kgrams", "build", "x.jsonl", "--top", 40, *options)
    ranked = sorted(counts, key=lambda pair: (-counts[pair], pair))
    assert set(KgramSet.load("phi.rkg")) == set(ranked[:40])
    assert done.json["n_total"] == counts.total()
    assert done.json["n_distinct"] == len(counts)
    cli("kgrams", "build", "x.jsonl", "--min-count", 2, *options, "--force")
    assert set(KgramSet.load("phi.rkg")) == {pair for pair, n in counts.items() if n >= 2}


def test_errors_of_kgrams(fails, corpus, tmp_path):
    options = ["--vocab-size", 100, "--out", "phi.rkg"]
    fails(
        "kgrams",
        "build",
        "no.jsonl",
        "--width",
        2,
        *options,
        code=2,
        match="no.jsonl: no such file",
    )
    fails("kgrams", "build", "x.jsonl", "--width", 17, *options, code=2, match="width must be")
    fails(
        "kgrams",
        "build",
        "x.jsonl",
        "--width",
        16,
        "--min-count",
        9,
        *options,
        match="occurs at least 9 times",
    )
    fails("kgrams", "info", "no.rkg", code=2, match="no.rkg")
    (tmp_path / "short.jsonl").write_text('{"tokens": [1, 2]}\n')
    fails(
        "kgrams",
        "build",
        "short.jsonl",
        "--width",
        3,
        *options,
        match="none of 1 document has 3 tokens",
    )
    small = ["--width", 2, "--vocab-size", 50, "--out", "phi.rkg"]
    fails("kgrams", "build", "x.jsonl", *small, match="x.jsonl:1: token id")
    assert not (tmp_path / "phi.rkg").exists()


def test_skipped_records_are_reported(cli, corpus, tmp_path):
    with (tmp_path / "x.jsonl").open("a") as file:
        file.write("broken\n")
    options = ["--width", 1, "--vocab-size", 100, "--out", "phi.rkg", "--on-error", "skip"]
    done = cli("kgrams", "build", "x.jsonl", *options)
    assert done.code == 3
    assert "1 record (0.99 %)" in done.out
    assert "x.jsonl:101: not JSON" in done.out


def test_inspect_shows_what_is_there(cli, corpus):
    done = cli("inspect", "x.jsonl", "--vocab-size", 50)
    assert done.code == 0
    ids = np.array(corpus)
    for line in (
        "files       1 (jsonl, ",
        "field       tokens",
        "documents   100, from 50 to 50 tokens",
        "tokens      5,000",
        f"largest id  {ids.max()}",
        f"snippet     {' '.join(map(str, corpus[0][:24]))}",
        f"warning     {(ids >= 50).sum()} of 5000 ids are above the vocabulary of 50",
    ):
        assert f"\n{line}" in f"\n{done.out}"
    found = cli("inspect", "x.jsonl", "--json").json
    assert found["n_documents"] == 100
    assert found["largest_id"] == ids.max()
    assert found["skipped"] == {"count": 0, "files": 0, "examples": []}
    assert len(found["snippets"]) == 3


def test_inspect_counts_bad_records(cli, corpus, tmp_path):
    (tmp_path / "y.jsonl").write_text('{"tokens": [1]}\n{"tokens": [-1]}\n')
    done = cli("inspect", "y.jsonl")
    assert done.code == 3
    assert "1 record cannot be read, first y.jsonl:2: token id 0" in done.out


def test_inspect_headerless_ids(cli, tmp_path):
    np.array([1, 2, 3, 0, 5], dtype=np.uint16).tofile(tmp_path / "x.bin")
    done = cli("inspect", "x.bin", "--dtype", "uint16", "--eod", 0)
    assert "documents   2, from 1 to 4 tokens" in done.out
    bare = cli("inspect", "x.bin")
    assert (bare.code, bare.err) == (2, "")
    assert "as uint16: ids from 0 to 5" in bare.out
    assert "give its --dtype (uint16, uint32, int32, int64)" in bare.out
    (tmp_path / "odd.bin").write_bytes(b"123")
    odd = cli("inspect", "odd.bin")
    assert odd.code == 2
    assert odd.out.count("warning") == 1
    assert "3 bytes are not a whole number of ids; is it cut off?" in odd.out


def test_a_set_that_cannot_be_written_is_named(fails, corpus, monkeypatch):
    from radscore.errors import StateError

    def full(self, path):
        raise StateError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(KgramSet, "save", full)
    options = ("--width", 2, "--vocab-size", 100, "--out", "phi.rkg")
    fails("kgrams", "build", "x.jsonl", *options, code=1, match="cannot write phi.rkg: No space")
