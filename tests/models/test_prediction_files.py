"""Several files of predictions are one test: shards of a reading, and parts of a text."""

import dataclasses
import json
import math

import numpy as np
import pytest
import radscore as rs
from radscore.audits.open import test_open as open_test
from radscore.errors import ArgumentError, StateError
from radscore.models import LanguageModel, Predictions, Weighting, predict
from radscore.models.chats import Chats
from radscore.models.prediction_files import PredictionFiles, open_predictions
from tiny import VOCAB, listed, tiny_llama, word_tokenizer

SCHEME = rs.Keyed(key=bytes(range(16)), vocab_size=VOCAB, gamma=0.5, context_width=2)


@pytest.fixture(scope="module")
def words():
    return LanguageModel(tiny_llama(), word_tokenizer(), "words", VOCAB, 256)


@pytest.fixture(scope="module")
def docs():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 120, size=rng.integers(0, 40)).tolist() for _ in range(23)]


def write(model, docs, path, **options):
    usual = {"context_width": 2, "weighting": Weighting("mass", max_weights=6), "batch_tokens": 64}
    return predict(model, docs, path, **usual | options)


def given_as(kind, docs, folder):
    """The same documents as ids, strings, a corpus or chats in files."""
    strings = [" ".join(f"w{i}" for i in doc) for doc in docs]
    if kind == "ids":
        return docs
    if kind == "strings":
        return strings
    field, rows = "tokens", docs
    if kind == "chats":
        field = "messages"
        rows = [[{"role": "user", "content": text or "w1"}] for text in strings]
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps({field: row}) + "\n" for row in rows))
    if kind == "chats":
        return Chats([path], "messages")
    return rs.open_corpus(path, batch_tokens=64)


def bag(portions):
    """Pairs without their occurrences, sorted."""
    return sorted(one[1:] for one in listed(portions))


def assert_like(ours, whole):
    assert [one[:2] for one in ours] == [one[:2] for one in whole]
    np.testing.assert_allclose(
        [one[2] for one in ours], [one[2] for one in whole], rtol=3e-3, atol=1e-6
    )


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", ["ids", "strings", "corpus", "chats"])
def test_shards_are_the_whole_reading(words, docs, tmp_path, kind, aligned):
    text = given_as(kind, docs, tmp_path)
    how = {}
    if aligned:
        if kind == "chats":
            pytest.skip("chats have the model's own tokenizer")
        how["tokenizer"] = word_tokenizer(VOCAB + 1)
    whole = write(words, text, tmp_path / "whole", **how)
    seen = []
    parts = [
        write(words, text, tmp_path / f"{i}", shard=(i, 3), progress=seen.append, **how)
        for i in (1, 2, 3)
    ]
    assert [part.header.shard for part in parts] == [(1, 3), (2, 3), (3, 3)]
    assert [part.totals.n_documents for part in parts] == [8, 8, 7]
    together = open_predictions([part.path for part in parts])
    assert isinstance(together, PredictionFiles)
    assert_like(bag(together), bag(whole))
    assert dataclasses.replace(together.totals, text="", notes=()) == dataclasses.replace(
        whole.totals, text="", notes=()
    )
    assert together.header == whole.header
    places = [one[0] for one in listed(together)]
    assert places == sorted(places)
    assert max(places) < whole.totals.n_tokens
    assert all(0 <= one.done <= one.total for one in seen)
    if not aligned:
        one = open_test(None, None, SCHEME, from_file=tmp_path / "whole", text_watermarked=False)
        several = open_test(
            None, None, SCHEME, from_file=[part.path for part in parts], text_watermarked=False
        )
        assert several.n_scored == one.n_scored
        assert several.statistic == pytest.approx(one.statistic, rel=1e-3)
        assert several.log10_pvalue == pytest.approx(one.log10_pvalue, abs=1e-2)
        assert several.removed == one.removed


def test_more_shards_than_documents(words, docs, tmp_path):
    paths = [tmp_path / f"{i}" for i in range(1, 6)]
    parts = [write(words, docs[:3], path, shard=(i, 5)) for i, path in enumerate(paths, 1)]
    assert [part.totals.n_documents for part in parts] == [1, 1, 1, 0, 0]
    whole = write(words, docs[:3], tmp_path / "whole")
    assert_like(bag(open_predictions(paths)), bag(whole))


def test_a_shard_is_continued(words, docs, tmp_path):
    class Interrupt:
        left = 16

        def __call__(self, progress):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(words, docs * 6, tmp_path / "p", shard=(2, 3), progress=Interrupt())
    with pytest.raises(StateError, match="was made with another shard"):
        write(words, docs * 6, tmp_path / "p", shard=(1, 3))
    made = write(words, docs * 6, tmp_path / "p", shard=(2, 3))
    assert made.n_before > 0
    whole = write(words, docs * 6, tmp_path / "q", shard=(2, 3))
    assert made.totals == whole.totals
    assert_like(bag(made), bag(whole))


def test_what_is_missing_is_said(words, docs, tmp_path):
    for i in (1, 3):
        write(words, docs, tmp_path / f"{i}", shard=(i, 4))
    result = open_test(None, None, SCHEME, from_file=[tmp_path / "1", tmp_path / "3"])
    assert "2 of 4 shards of the text are missing: 2, 4" in result.notes
    alone = open_test(None, None, SCHEME, from_file=[tmp_path / "3"])
    assert "3 of 4 shards of the text are missing: 1, 2, 4" in alone.notes


def test_watermarked_text_in_files_that_follow_one_another(words, docs, tmp_path):
    """What counts of them is what counts of the whole text, in the order given."""
    how = {"text_watermarked": True}
    text = [doc for doc in docs if doc] * 2
    write(words, text, tmp_path / "whole", **how)
    whole = open_test(None, None, SCHEME, from_file=tmp_path / "whole", curve=[100, 300])
    for name, part in (("a", text[:9]), ("b", text[9:20]), ("c", text[20:])):
        write(words, part, tmp_path / name, **how)
    parts = [tmp_path / name for name in "abc"]
    result = open_test(None, None, SCHEME, from_file=parts, curve=[100, 300])
    assert (result.n_scored, result.removed) == (whole.n_scored, whole.removed)
    assert result.statistic == pytest.approx(whole.statistic, rel=1e-3)
    for mine, theirs in zip(result.curve, whole.curve, strict=True):
        assert (mine.n_tokens, mine.n_scored) == (theirs.n_tokens, theirs.n_scored)
    assert math.isfinite(result.log10_pvalue)
    with pytest.raises(ArgumentError, match="shard= has no valid test with text_watermarked"):
        write(words, docs, tmp_path / "d", shard=(1, 2), **how)


def test_files_that_are_not_of_one_reading_are_refused(words, docs, tmp_path):
    def refused(match, *names):
        with pytest.raises(ArgumentError, match=match):
            open_test(None, None, SCHEME, from_file=[tmp_path / name for name in names])

    write(words, docs, tmp_path / "a")
    write(words, docs, tmp_path / "same")
    write(words, docs[:5], tmp_path / "other", weighting="prediction")
    write(words, docs[:5], tmp_path / "wide", context_width=3)
    for i in (1, 2):
        write(words, docs, tmp_path / f"{i}", shard=(i, 3))
    write(words, docs, tmp_path / "of4", shard=(3, 4))
    write(words, docs[::-1], tmp_path / "again", shard=(1, 3))
    refused("a and .*same are both of text", "a", "same")
    refused("a and .*a are both of text", "a", "a")
    refused("1 and .*again are both of shard 1 of 3, and no text counts twice", "1", "2", "again")
    refused("not of one reading: they differ in weighting", "a", "other")
    refused("not of one reading: they differ in context_width", "a", "wide")
    refused(r"differ in number of shards \(3 and 4\)", "1", "of4")
    refused(r"differ in number of shards \(None and 3\)", "a", "1")
    refused("there are no files of predictions")
    (tmp_path / "bad").write_bytes((tmp_path / "2").read_bytes()[:-9])
    with pytest.raises(StateError, match="bad is not a file of predictions"):
        PredictionFiles([tmp_path / "1", tmp_path / "bad"])
    # one text may be empty twice
    for name in ("x", "y"):
        write(words, [], tmp_path / name)
    assert PredictionFiles([tmp_path / "x", tmp_path / "y"]).totals.n_documents == 0
    assert isinstance(open_predictions(tmp_path / "a"), Predictions)


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0), (1,), 1, (1.5, 2)])
def test_shards_that_make_no_sense(words, docs, tmp_path, shard):
    with pytest.raises(ArgumentError, match="shard"):
        write(words, docs, tmp_path / "p", shard=shard)
