"""Prompts that end in frequent contexts, chosen without a key."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.answers.choosing import choose_prompts
from radscore.errors import ArgumentError, CorpusError
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[2] / "demo"
LETTERS = "abcdefgh"


class Spelt:
    """A tokenizer of letters."""

    n_vocab = len(LETTERS)
    name = "letters"

    @staticmethod
    def encode_ordinary(text):
        return [LETTERS.index(letter) for letter in text]

    @staticmethod
    def decode(ids):
        return "".join(LETTERS[i] for i in ids)


texts = st.lists(st.text(LETTERS[:4], max_size=40), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 3), st.integers(3, 6), st.integers(1, 3), st.integers(0, 5))
def test_they_are_places_of_the_most_frequent_contexts(docs, width, length, each, seed):
    ids = [Spelt.encode_ordinary(text) for text in docs]
    counts = Counter(tuple(one[i : i + width]) for one in ids for i in range(len(one) - width + 1))
    options = {"context_width": width, "length": length, "per_context": each, "seed": seed}
    if max(counts.values(), default=0) < 2:
        with pytest.raises(CorpusError, match="occurs at least 2 times"):
            choose_prompts(ids, Spelt(), **options)
        return
    found = choose_prompts(ids, Spelt(), number=12, **options)
    places = {tuple(one[i : i + length]) for one in ids for i in range(len(one) - length + 1)}
    for one in found:
        assert one.tokens in places
        assert one.text == Spelt.decode(one.tokens)
        assert one.count == counts[one.tokens[-width:]] >= 2
    assert [one.count for one in found] == sorted((one.count for one in found), reverse=True)
    used = Counter(one.tokens[-width:] for one in found)
    assert max(used.values(), default=0) <= each
    # whoever has a place and is more frequent than the last is there
    possible = {place[-width:] for place in places if counts[place[-width:]] >= 2}
    if len(found) < 12 and len(counts) <= 2 * -(-12 // each):
        assert set(used) == possible


def test_how_the_text_comes_in_batches_does_not_matter(tmp_path):
    path = DEMO / "corpus.jsonl"
    words = DEMO / "tokenizer.json"
    options = {"context_width": 2, "number": 200, "length": 8, "per_context": 2}
    found = [
        choose_prompts(rs.open_corpus(path, tokenizer=words, batch_tokens=size), words, **options)
        for size in (2_000, 1 << 20)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 200
    assert len({one.tokens[-2:] for one in found[0]}) >= 100
    raw = Tokenizer.from_file(str(words))
    for one in found[0]:
        assert raw.encode(one.text, add_special_tokens=False).ids == list(one.tokens)
    corpus = rs.open_corpus(path, tokenizer=words)
    other = choose_prompts(corpus, words, **options, seed=1)
    assert other != found[0]
    assert [one.count for one in other[:20]] == [one.count for one in found[0][:20]]
    with pytest.raises(ArgumentError, match="length must be from 2"):
        choose_prompts(corpus, words, context_width=2, length=1)


def test_the_command(run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus, words = str(DEMO / "corpus.jsonl"), str(DEMO / "tokenizer.json")
    command = ["prompts", corpus, "--tokenizer", words, "--context-width", "2"]
    done = run_command(*command, "--number", 30, "--length", 8, "--out", "p.jsonl", "--json")
    assert done.code == 0, done.err
    assert done.json["n_prompts"] == done.json["n_contexts"] == 30
    rows = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert all(len(row["input_ids"]) == 8 for row in rows)
    chosen = choose_prompts(
        rs.open_corpus(corpus, tokenizer=words), words, context_width=2, number=30, length=8
    )
    assert [row["text"] for row in rows] == [one.text for one in chosen]
    ids = np.array([row["input_ids"] for row in rows])
    read = rs.open_corpus("p.jsonl")
    assert np.array_equal(np.array([list(ids) for one in read for ids in one.documents]), ids)
    assert run_command(*command, "--out", "p.jsonl").code != 0  # it is there
    for more, words_ in (
        (["--length", "1"], "--length must be at least --context-width"),
        (["--min-count", "1000000"], "occurs at least 1000000 times"),
    ):
        done = run_command(*command, *more, "--out", "q.jsonl")
        assert done.code != 0
        assert words_ in done.err
    done = run_command("prompts", corpus, "--context-width", "2", "--out", "q.jsonl")
    assert "--tokenizer PATH" in done.err
    done = run_command(*command[:1], "-", *command[2:], "--out", "q.jsonl")
    assert "cannot be read twice" in done.err
    assert not Path("q.jsonl").exists()
