"""Two tokenizers: scored positions hold the same text, and predictions are the same text."""

import json
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
import torch
from radscore.audits.open import test_open as open_test
from radscore.errors import ArgumentError, ModelError, TokenError
from radscore.models import LanguageModel, Reader, Weighting
from radscore.models.alignment import Alignment, surfaces
from radscore.models.live import Reading
from tiny import VOCAB, listed, tiny_llama, word_tokenizer
from transformers import PreTrainedTokenizerFast

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture(scope="module")
def texts():
    lines = (DEMO / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    return [json.loads(line)["text"][:600] for line in lines] + ["naïve — “日本語” 🙂 ok", ""]


@pytest.fixture(scope="module")
def theirs():
    """The watermark's: SmolLM2's."""
    return PreTrainedTokenizerFast(tokenizer_file=str(DEMO / "tokenizer.json"))


@pytest.fixture(scope="module")
def model(texts):
    """A tiny network with a byte-level tokenizer of its own, of 500 tokens."""
    from tokenizers import ByteLevelBPETokenizer

    raw = ByteLevelBPETokenizer(add_prefix_space=False)
    raw.train_from_iterator(texts, vocab_size=500, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw._tokenizer)
    network = tiny_llama(vocab_size=512, max_position_embeddings=2048)
    return LanguageModel(network, tokenizer, "tiny", 512, 2048)


def test_scored_positions_hold_the_same_text(model, theirs, texts):
    alignment = Alignment(model, theirs)
    passages = list(alignment.passages(texts, 2))
    assert len(passages) == len(texts)
    n_scored = n_positions = 0
    for text, one in zip(texts, passages, strict=True):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert one.tokens.tolist() == ids
        assert one.n_tokens == len(ids)
        for context, row, place in zip(one.contexts, one.rows, one.positions, strict=True):
            assert context.tolist() == ids[place - 1 : place + 1]
            n_positions += 1
            if row >= 0:
                n_scored += 1
                read = model.tokenizer.decode(one.ids[: row + 1])
                assert read == theirs.decode(ids[: place + 1])
    assert n_scored > 0.5 * n_positions
    assert alignment.usable_share == pytest.approx(n_scored / n_positions)
    assert (
        alignment.removed["positions where the model's tokens end elsewhere"]
        == n_positions - n_scored
    )
    (note,) = alignment.notes()
    assert f"{100 * n_scored / n_positions:.3g} % of the positions" in note


def test_predictions_that_count_are_the_same_text(model, theirs):
    translate = Alignment(model, theirs).translate
    assert translate.shape == (512,)
    known = np.flatnonzero(translate >= 0)
    assert len(known) > 300
    for index in known.tolist():
        mine = model.tokenizer.convert_ids_to_tokens(index)
        assert mine == theirs.convert_ids_to_tokens(int(translate[index]))
    # those that do not count are not tokens of the other
    vocabulary = theirs.get_vocab()
    for token, index in model.tokenizer.get_vocab().items():
        assert (translate[index] >= 0) == (token in vocabulary)


def test_surfaces_of_sentencepiece_and_of_bytes_are_the_same_text():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = Tokenizer(
        models.BPE({"▁the": 0, "é": 1, "<0xC3>": 2, "a": 3, "<unk>": 4}, [], unk_token="<unk>")
    )
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    level = Tokenizer(models.BPE({"Ġthe": 0, "Ã©": 1, "Ã": 2, "b": 3}, []))
    level.pre_tokenizer = pre_tokenizers.ByteLevel()
    one = surfaces(PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>"))
    other = surfaces(PreTrainedTokenizerFast(tokenizer_object=level))
    assert {text: (one[text], other[text]) for text in one.keys() & other.keys()} == {
        "Ġthe": (0, 0),
        "Ã©": (1, 1),
        "Ã": (2, 2),
    }
    assert 4 not in one.values()  # special


def test_ids_are_decoded_and_read_again(model, theirs, texts):
    ids = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    as_text = list(Alignment(model, theirs).passages(texts, 2))
    as_ids = list(Alignment(model, theirs).passages(ids, 2))
    for one, other in zip(as_text, as_ids, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.ids.tolist() == other.ids.tolist()
    # ids that no tokenizer would give for their text: nothing is scored, and that is reported
    alignment = Alignment(model, theirs)
    letters = theirs.convert_tokens_to_ids(["t", "h", "e"])
    assert theirs.decode(letters) == "the"
    strange, plain = alignment.passages([letters, ids[0]], 2)
    assert (strange.rows == -1).all()
    assert len(strange.contexts) == 2
    assert (plain.rows >= 0).any()
    assert alignment.removed["documents whose tokens are not those of their text"] == 1
    reader = Reader(model, None, Weighting("mass"), limit=49_152, translate=alignment.translate)
    pairs = list(reader.read(iter([strange, plain])))
    assert sum(map(len, pairs)) > 0
    assert min(int(p.occurrences.min()) for p in pairs) >= 3


def test_the_test_across_tokenizers(model, theirs, texts):
    scheme = rs.Keyed(key=bytes(16), vocab_size=len(theirs), gamma=0.25, context_width=2)
    result = open_test(
        model, texts, scheme, tokenizer=theirs, weighting="mass", max_weights=16, decoys=100
    )
    assert abs(result.score.zscore) < 5
    assert result.decoys.pvalue > 0.001
    assert result.decoys.standard_deviation == pytest.approx(1.0, abs=0.3)
    assert any("the model has another tokenizer" in note for note in result.notes)
    assert (
        result.removed["predictions that are not a single token of the watermark's tokenizer"] > 0
    )
    # the share of predictions that could be scored, by hand
    total = result.removed["predictions that are not a single token of the watermark's tokenizer"]
    assert result.score.n_windows > total
    # with the model's own tokenizer nothing is aligned
    own = rs.Keyed(key=bytes(16), vocab_size=512, gamma=0.25, context_width=2)
    how = {"weighting": "mass", "max_weights": 4}
    plain = open_test(model, texts, own, tokenizer=model.tokenizer, **how)
    assert plain.score == open_test(model, texts, own, **how).score


def test_watermarked_text_is_not_aligned(model, theirs, texts):
    """Which positions align depends on what follows, so in watermarked text on the key."""
    ids = theirs(texts[0], add_special_tokens=False)["input_ids"][:39]
    assert theirs.decode(ids).endswith("You were a large")
    aligned = []
    for token in ("Ġparty", "west"):
        whole = [*ids, theirs.convert_tokens_to_ids(token)]
        (one,) = Alignment(model, theirs).passages([whole], 1)
        aligned.append(bool(one.rows[38] >= 0))
    assert aligned == [True, False]
    how = {"context_width": 1, "weighting": Weighting("mass")}
    match = r"text_watermarked=True is not valid with tokenizer=.*depend on the key; read text"
    with pytest.raises(ArgumentError, match=match):
        Reading(model, texts, tokenizer=theirs, text_watermarked=True, **how)
    scheme = rs.Keyed(key=bytes(16), vocab_size=len(theirs), gamma=0.25, context_width=1)
    with pytest.raises(ArgumentError, match=match):
        open_test(model, texts, scheme, tokenizer=theirs, text_watermarked=True)
    # the model's own tokenizer, or one with the same tokens, needs no alignment
    own = Reading(model, texts, tokenizer=model.tokenizer, text_watermarked=True, **how)
    assert not own.header.aligned


@pytest.mark.parametrize("top", [1, 3])
def test_predictions_are_the_models_whatever_ids_the_watermark_has(top):
    """The watermark has fewer tokens, in another order: none of the model's is cut off."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{VOCAB - 4 - i}": i for i in range(60)} | {"<unk>": 60}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fewer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    model = LanguageModel(tiny_llama(), word_tokenizer(), "words", VOCAB, 256)
    rng = np.random.default_rng(4)
    docs = [rng.permutation(np.arange(65, VOCAB - 3))[:40] for _ in range(5)]
    reading = Reading(
        model,
        [" ".join(f"w{i}" for i in doc) for doc in docs],
        context_width=1,
        weighting=Weighting("prediction", top=top),
        tokenizer=fewer,
    )
    # positions without a prediction have a weight of 0
    found = [(number, context, target) for number, (context,), target, w in listed(reading) if w]
    expected, n_removed = [], 0
    for number, doc in enumerate(docs):
        logits = model.model(input_ids=torch.tensor(doc)[None]).logits[0]
        for place, line in enumerate(logits):
            best = [words.get(f"w{int(i)}") for i in line.topk(top).indices]
            targets = sorted(index for index in best if index is not None)
            n_removed += top - len(targets)
            context = words[f"w{doc[place]}"]
            expected += [(40 * number + place, context, target) for target in targets]
    assert found == expected
    assert 50 < n_removed < 200 * top - 50
    reason = "predictions that are not a single token of the watermark's tokenizer"
    assert reading.totals.removed[reason] == n_removed


def test_what_cannot_be_aligned(model, theirs):
    bare = LanguageModel(tiny_llama(), None, "bare", VOCAB, 256)
    with pytest.raises(ModelError, match="no tokenizer, which reading a text of another"):
        Alignment(bare, theirs)
    words = LanguageModel(tiny_llama(), word_tokenizer(), "words", VOCAB, 256)
    foreign = word_tokenizer()
    with pytest.raises(ModelError, match="do not have a single token in common"):
        Alignment(words, _renamed(foreign))
    alignment = Alignment(model, theirs)
    with pytest.raises(TokenError, match="chats cannot be read"):
        list(alignment.passages([[{"role": "user", "content": "x"}]], 2))
    with pytest.raises(TokenError, match="outside the vocabulary of 49152"):
        list(alignment.passages([[1, 49_152]], 2))


def _renamed(tokenizer):
    from tokenizers import Tokenizer, models

    vocabulary = {f"x{token}": index for token, index in tokenizer.get_vocab().items()}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="x<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw)
