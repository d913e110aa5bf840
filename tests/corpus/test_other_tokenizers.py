"""Tokenizers of other libraries, functions, long texts, and tokenizers that fail."""

import io
import json
import pickle

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import load_encoder, open_corpus
from radscore.corpus.text import tokenizer as module
from radscore.errors import ArgumentError, CorpusError, TokenError
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

TEXTS = ["The river runs by the mill.", "  two\n\nlines ", "naïve 東京", ""]


def tiktoken_encoding():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257}
    return tiktoken.Encoding(
        "small", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={"<|end|>": 258}
    )


def sentencepiece_model():
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:2] * 20), model_writer=model, vocab_size=24, minloglevel=2
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def slow_tokenizer():
    return pytest.importorskip("transformers").ByT5Tokenizer()


def fast_tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words())


def words():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "river": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def code_points(text):
    return [ord(char) for char in text]


KINDS = {
    "tiktoken": (tiktoken_encoding, lambda t: t.encode_ordinary),
    "sentencepiece": (sentencepiece_model, lambda t: lambda text: t.encode(text, out_type=int)),
    "slow": (slow_tokenizer, lambda t: lambda text: t.encode(text, add_special_tokens=False)),
    "fast": (fast_tokenizer, lambda t: lambda text: t.encode(text, add_special_tokens=False)),
    "tokenizers": (words, lambda t: lambda text: t.encode(text).ids),
    "function": (lambda: code_points, lambda t: t),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_are_the_librarys_own_also_in_another_process(kind, jsonl):
    make, encode = KINDS[kind]
    tokenizer = make()
    path = jsonl("x.jsonl", [{"text": text} for text in TEXTS])
    expected = [list(encode(tokenizer)(text)) for text in TEXTS]
    corpus = open_corpus(path, tokenizer=tokenizer)
    again = pickle.loads(pickle.dumps(corpus))
    for one in (corpus, again):
        assert [d.tolist() for batch in one for d in batch.documents] == expected
    assert again.settings == corpus.settings
    scheme = rs.Keyed(key=rs.Key(bytes(16)), vocab_size=2**16, gamma=0.25, context_width=1)
    result = rs.score(TEXTS, scheme, tokenizer=tokenizer)
    assert result.n_tokens == sum(map(len, expected))
    assert result.log10_pvalue == rs.score(corpus, scheme).log10_pvalue


def test_fingerprints_tell_tokenizers_apart():
    prints = {load_encoder(make()).fingerprint for make, _ in KINDS.values()}
    assert len(prints) == len(KINDS)
    assert load_encoder(code_points).fingerprint == load_encoder(code_points).fingerprint


def test_what_is_no_tokenizer(tmp_path):
    for wrong, says in ((5, "a function from a text to its ids, not int"), (str, "not type")):
        with pytest.raises(ArgumentError, match=says):
            load_encoder(wrong)
    with pytest.raises(ArgumentError, match="add_special_tokens= has no effect with a function"):
        load_encoder(code_points, add_special_tokens=True)
    with pytest.raises(ArgumentError, match="'fast' needs a tokenizer of the library tokenizers"):
        load_encoder(code_points, engine="fast")
    with pytest.raises(ArgumentError, match="cannot be sent to another process"):
        pickle.dumps(load_encoder(lambda text: [len(text)]))
    path = tmp_path / "x.model"
    path.write_bytes(b"no model")
    pytest.importorskip("sentencepiece")
    with pytest.raises(CorpusError, match=r"x\.model: not a SentencePiece model"):
        load_encoder(path)


def giving_up():
    """Its regular expression backtracks without end on some texts; tokenizers then panics."""
    tokenizer = Tokenizer(models.BPE({"u": 0, "a": 1, "b": 2}, [], unk_token="u"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    return tokenizer


@pytest.mark.parametrize("prompts", [False, True])
def test_a_text_that_the_tokenizer_fails_on_is_a_bad_record(jsonl, prompts):
    bad = "a" * 34 + "b"
    rows = [{"text": text, "prompt": "b"} for text in ("aab", "ab", "b")]
    rows[1]["prompt" if prompts else "text"] = bad
    path = jsonl("x.jsonl", rows)
    options = {"tokenizer": giving_up(), "prompt_field": "prompt" if prompts else None}
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: the tokenizer fails on this text: .*retry"):
        list(open_corpus(path, **options))
    corpus = open_corpus(path, **options, on_error="skip", vocab_size=10)
    assert [d.tolist() for batch in corpus for d in batch.documents] == [[1, 1, 2], [2]]
    assert corpus.skipped.count == 1
    scheme = rs.Keyed(key=rs.Key(bytes(16)), vocab_size=9, gamma=0.25, context_width=1)
    with pytest.raises(TokenError, match=r"documents\[1\]: the tokenizer fails on this text"):
        rs.score(["ab", bad], scheme, tokenizer=giving_up())


def test_a_function_that_fails(jsonl):
    path = jsonl("x.jsonl", [{"text": "5"}, {"text": "x"}])
    for function, says in (
        (lambda text: [int(text)], "invalid literal"),
        (lambda text: text if text == "x" else [1], "it returned str"),
        (lambda text: [-1] if text == "x" else [1], "it returned the id -1"),
    ):
        with pytest.raises(CorpusError, match=rf"x\.jsonl:2: .*{says}"):
            list(open_corpus(path, tokenizer=function))


def with_settings(pre=None, normalizer=None, model=None):
    tokenizer = Tokenizer(
        model
        or models.WordLevel({"<unk>": 0} | {f"w{i}": i + 1 for i in range(50)}, unk_token="<unk>")
    )
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


CHARS = {chr(c): i for i, c in enumerate(range(32, 127))} | {"▁": 95, "\n": 96, "Ġ": 97, "Ċ": 98}


def BPE():
    more = {"w1": 99, "1 ": 100, "▁w": 101, "Ġw": 102}
    return models.BPE(CHARS | more, [("w", "1"), ("1", " "), ("▁", "w"), ("Ġ", "w")])


PIECES = ["w1", "w2", " ", "  ", "\n", "\n\n", ".", " w1", "w17,"]
LONG_TEXTS = {
    "whitespace": lambda: with_settings(pre_tokenizers.WhitespaceSplit()),
    "bert": lambda: with_settings(pre_tokenizers.BertPreTokenizer(), normalizers.Lowercase()),
    "byte level": lambda: with_settings(
        pre_tokenizers.ByteLevel(add_prefix_space=True), model=BPE()
    ),
    "metaspace": lambda: with_settings(pre_tokenizers.Metaspace(), model=BPE()),
    "prepended": lambda: with_settings(None, normalizers.Prepend("▁"), BPE()),
    "stripped": lambda: with_settings(None, normalizers.Strip(), BPE()),
    "whole": lambda: with_settings(None, None, BPE()),
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
def test_long_texts_in_segments_have_the_ids_of_the_whole(kind, monkeypatch):
    """The oracle is tokenizers itself, on the whole text."""
    monkeypatch.setattr(module, "_PORTION", 40)
    monkeypatch.setattr(module, "_LONG", 80)
    tokenizer = LONG_TEXTS[kind]()
    encoder = load_encoder(tokenizer, engine="reference")

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(PIECES), max_size=150))
    def same(parts):
        texts = ["short", "".join(parts), "w1 w2"]
        found = encoder.documents(texts)
        assert [d.tolist() for d in found] == [tokenizer.encode(text).ids for text in texts]

    same()


def test_a_long_text_is_cut_where_it_can_be(monkeypatch):
    monkeypatch.setattr(module, "_PORTION", 40)
    monkeypatch.setattr(module, "_LONG", 80)
    text = "w1 w2 " * 200
    sizes = []
    encode = module.TokenizerEncoder._encode

    def noted(self, texts):
        sizes.extend(map(len, texts))
        return encode(self, texts)

    monkeypatch.setattr(module.TokenizerEncoder, "_encode", noted)
    encoder = load_encoder(LONG_TEXTS["whitespace"](), engine="reference")
    assert encoder.documents([text])[0].tolist() == [2, 3] * 200
    assert len(sizes) > 20  # segments, and what was tried at each cut
    failing = load_encoder(giving_up(), engine="reference")
    [ids] = failing.documents(["b " * 100 + "a" * 34 + "b"])
    assert "retry" in failing.failures.reason(ids)


def test_journals_and_tokenizers_that_fail(jsonl):
    chat = {
        "prompt": [{"role": "user", "content": "ab"}],
        "text": [{"role": "assistant", "content": "b"}],
    }
    rows = [{"prompt": "b", "text": text} for text in ("a", "a" * 34 + "b", None)]
    path = jsonl("x.jsonl", [*rows, chat])
    with pytest.raises(CorpusError, match=r"x\.jsonl:"):
        rs.open_answers(path, tokenizer=giving_up())
    found = rs.open_answers(path, tokenizer=giving_up(), on_error="skip")
    assert [d.tolist() for d in found.documents] == [[1], [2]]
    assert [d.tolist() for d in found.prompts] == [[2], [1, 2]]
    assert found.skipped.count == 2


def test_prompts_that_are_messages(jsonl):
    from radscore.answers import read_prompts

    user = {"role": "user", "content": [{"type": "text", "text": "Who?"}]}
    assert read_prompts(jsonl("x.jsonl", [{"prompt": [user]}])) == ["Who?"]
    for prompt, says in (
        ([user, user], "a chat of 2 messages"),
        ([{**user, "role": "system"}], "the system's"),
    ):
        with pytest.raises(CorpusError, match=rf"x\.jsonl:1: .*{says}"):
            read_prompts(jsonl("x.jsonl", [{"prompt": prompt}]))


def test_lone_surrogates_in_every_way_in(jsonl):
    """transformers#43459."""
    path = jsonl("x.jsonl", [json.dumps({"text": "a\ud83d"})])
    with pytest.raises(CorpusError, match=r"x\.jsonl:1: not valid text"):
        list(open_corpus(path, tokenizer=code_points))
    scheme = rs.Keyed(key=rs.Key(bytes(16)), vocab_size=9, gamma=0.25, context_width=1)
    with pytest.raises(TokenError, match=r"documents\[1\]: not valid text"):
        rs.score(["a", "a\ud83d"], scheme, tokenizer=code_points)
    assert np.array_equal(load_encoder(code_points).documents(["a"])[0], [97])
