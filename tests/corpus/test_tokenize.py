"""The fast path gives the ids of `tokenizers`, which is the oracle of every test here."""

import functools
import json
import random
import sys
from pathlib import Path

import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore._core import FastTokenizer
from radscore.corpus.text import fast as fast_module
from radscore.corpus.text.fast import sensitive_model
from radscore.corpus.text.tokenizer import TokenizerEncoder, load_encoder
from radscore.errors import ArgumentError
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from check_tokenizers import strange_texts

sys.path.pop(0)

DEMO = Path(__file__).parents[2] / "demo"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{ENDS}",
    "qwen3.5": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{ENDS}",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{ENDS}",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    rf"|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{ENDS}",
}
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(expression):
    return pre_tokenizers.Split(Regex(expression), "isolated")


PRE_TOKENIZERS = {
    **{name: [split(expression), BYTES] for name, expression in EXPRESSIONS.items()},
    "byte level": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "byte level, space before": [pre_tokenizers.ByteLevel(add_prefix_space=True)],
    "smollm2": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "runs of digits": [
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "three splits": [
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(EXPRESSIONS["deepseek"]),
        BYTES,
    ],
    "gaps": [split(r"\d+|[A-Z]\p{Ll}*(?=\s)|\P{L}\S"), BYTES],
    "not cut": [BYTES],
}
TEXTS = [json.loads(line)["text"] for line in (DEMO / "corpus.jsonl").read_text().splitlines()]


def of_sensitive_model(stages):
    """A tokenizer whose ids show every cut."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    state = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**state, "model": sensitive_model()}))


def fast_of(tokenizer, special=False):
    return FastTokenizer(tokenizer.to_str(), special)


def assert_equal(tokenizer, texts, *, special=False, most_refused=0.0):
    values, offsets, refused = fast_of(tokenizer, special).encode(texts)
    skipped = set(refused.tolist())
    assert len(skipped) <= most_refused * len(texts)
    expected = tokenizer.encode_batch_fast(texts, add_special_tokens=special)
    for i, encoding in enumerate(expected):
        if i not in skipped:
            assert values[offsets[i] : offsets[i + 1]].tolist() == encoding.ids, repr(texts[i])


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_texts_are_cut_at_the_same_places(name):
    tokenizer = of_sensitive_model(PRE_TOKENIZERS[name])
    assert_equal(tokenizer, FastTokenizer.probe())
    assert_equal(tokenizer, ["", *strange_texts(1500, seed=1)])


@pytest.mark.parametrize("name", ["smollm2", "qwen3.5", "three splits"])
def test_every_code_point_is_of_the_same_classes(name):
    tokenizer = of_sensitive_model(PRE_TOKENIZERS[name])
    known = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # Planes of private use and those without any character are covered by their borders.
    known = [chr(c) for c in known if c < 0x33480 or 0xDFFFF < c < 0xE0200]
    texts = [
        "".join(f"{c}a{c} {c}1{c}." for c in known[start : start + 500])
        for start in range(0, len(known), 500)
    ]
    assert_equal(tokenizer, texts)


@functools.cache
def any_cut(name):
    tokenizer = of_sensitive_model(PRE_TOKENIZERS[name])
    return tokenizer, fast_of(tokenizer)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(text=st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\r\t'sdlLre1.aA"))))
def test_any_text(name, text):
    tokenizer, fast = any_cut(name)
    values, _, refused = fast.encode([text])
    assert len(refused) == 0
    assert values.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def trained(stages, *, normalizer=None, size=600, texts=TEXTS, **options):
    tokenizer = Tokenizer(BPE(**options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    alphabet = pre_tokenizers.ByteLevel.alphabet() if not options.get("byte_fallback") else []
    trainer = BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[:100], trainer)
    return tokenizer


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_merges_of_a_trained_vocabulary(ignore_merges):
    tokenizer = trained(PRE_TOKENIZERS["llama3"], size=3000)
    state = json.loads(tokenizer.to_str())
    state["model"]["ignore_merges"] = ignore_merges
    if ignore_merges:  # tokens that no merges make
        state["model"]["vocab"] |= {"ĠzqxĠ": 9000, "zqx": 9001, "Ġzqx": 9002}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    texts = [*TEXTS, *strange_texts(500, seed=2), " zqx zqx", "zqx", "ab" * 5000, "a" * 40_000]
    assert_equal(tokenizer, texts)


def test_the_demonstration_tokenizer_on_text_of_many_scripts():
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    # The vocabulary lacks some bytes: text with those is not for the fast path.
    assert_equal(tokenizer, [*TEXTS, *strange_texts(1500, seed=3)], most_refused=0.25)


def of_characters(kind, *, byte_fallback=True):
    """A tokenizer as SentencePiece's are, trained on the demonstration corpus."""
    words = [text.replace(" ", "▁") for text in TEXTS[:60]] + ["▁▁▁▁", "▁▁x▁▁y"] * 9
    tokenizer = trained(
        [pre_tokenizers.Metaspace(split=True)], texts=words, byte_fallback=byte_fallback
    )
    state = json.loads(tokenizer.to_str())
    vocab = state["model"]["vocab"]
    if byte_fallback:
        for byte in range(256):
            vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    state["model"] |= {"unk_token": "<unk>", "fuse_unk": True}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    metaspace = pre_tokenizers.Metaspace
    replace = normalizers.Replace(" ", "▁")
    if kind == "llama2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([])
    elif kind == "gemma":
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        scheme, split_ = kind
        tokenizer.pre_tokenizer = metaspace(prepend_scheme=scheme, split=split_)
    return tokenizer


CHARACTER_KINDS = [
    "llama2",
    "gemma",
    *((scheme, cut) for scheme in ("first", "always", "never") for cut in (False, True)),
]


@pytest.mark.parametrize("kind", CHARACTER_KINDS, ids=str)
def test_models_of_characters(kind):
    tokenizer = of_characters(kind)
    texts = ["", " ", "▁", " a", "a <s> b", "<s> a", "a</s>", *strange_texts(1000, seed=4), *TEXTS]
    assert_equal(tokenizer, texts)
    assert_equal(tokenizer, ["x" * 5000, " " * 5000, "ab " * 3000, "語" * 3000])


def test_a_model_that_lacks_characters_hands_their_texts_back():
    tokenizer = of_characters("llama2", byte_fallback=False)
    _, offsets, refused = fast_of(tokenizer).encode(["the", "the 語", "語", "cat"])
    assert refused.tolist() == [1, 2]
    assert offsets[2] - offsets[1] == 0
    assert_equal(tokenizer, list(strange_texts(500, seed=5)), most_refused=1.0)


@pytest.mark.parametrize("kind", ["NFC", "NFKC"])
def test_text_that_normalization_may_change_is_handed_back(kind):
    tokenizer = of_sensitive_model(PRE_TOKENIZERS["qwen3.5"])
    tokenizer.normalizer = getattr(normalizers, kind)()
    texts = ["plain", "e\u0301", "a\u0334\u0345", "\u1112\u1161", "\u212b", *strange_texts(1500, 6)]
    assert_equal(tokenizer, [*texts, *FastTokenizer.probe()], most_refused=1.0)
    _, _, refused = fast_of(tokenizer).encode(texts[:5])
    assert refused.tolist() == [1, 2, 3, 4]
    accented = ["été", "漢字 한국어", "привет", "ไทย", "हिन्दी"]
    _, _, refused = fast_of(tokenizer).encode(accented)
    assert len(refused) == (0 if kind == "NFC" else 5)
    encoder = TokenizerEncoder(tokenizer, add_special_tokens=False, engine="fast")
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert [ids.tolist() for ids in encoder.documents(texts)] == expected
    assert "texts by tokenizers" in encoder.tokenised.note


def test_added_tokens():
    tokenizer = trained(PRE_TOKENIZERS["llama3"])
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    tokenizer.add_tokens(
        [
            AddedToken("<|end|>>", normalized=False),
            AddedToken("  ", normalized=False),
            AddedToken("<|", normalized=True),
            AddedToken("ends", normalized=True),
        ]
    )
    pieces = ["<|end|>", "<|end|>>", "  ", " ", "<|", "ends", "<|end", "x", "<s>", "\n", "|>"]
    rng = random.Random(1)
    texts = ["".join(rng.choices(pieces, k=rng.randrange(1, 9))) for _ in range(3000)]
    assert_equal(tokenizer, texts)
    for options in ({"lstrip": True}, {"rstrip": True}, {"single_word": True}):
        strict = Tokenizer.from_str(tokenizer.to_str())
        strict.add_tokens([AddedToken("zed", normalized=False, **options)])
        assert_equal(strict, [*texts[:300], "a zed b", "zedzed", "ze d"], most_refused=0.01)
        assert fast_of(strict).encode(["a zed b", "ze d"])[2].tolist() == [0]


@pytest.mark.parametrize("special", [False, True])
def test_special_tokens_around_the_text(special):
    tokenizer = trained(PRE_TOKENIZERS["llama3"])
    template = processors.TemplateProcessing(
        single="<s> $A </s> </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), template])
    assert_equal(tokenizer, ["", "one", "two <s> three"], special=special)


def change(tokenizer, **settings_):
    state = json.loads(tokenizer.to_str())
    for name, value in settings_.items():
        (state["model"] if name in state["model"] else state)[name] = value
    return Tokenizer.from_str(json.dumps(state))


REFUSED = {
    "affixes": lambda t: change(t, end_of_word_suffix="</w>"),
    "NFD": lambda t: change(t, normalizer={"type": "NFD"}),
    "normalizer": lambda t: change(t, normalizer={"type": "Prepend", "prepend": "_"}),
    "Lowercase": lambda t: change(t, normalizer={"type": "Lowercase"}),
    "Bert": lambda t: change(t, pre_tokenizer={"type": "BertPreTokenizer"}),
    "expression": lambda t: with_split(t, r"\w+|\W+"),
    "pre-tokenizer": lambda t: with_split(t, r"\p{L}+", "removed"),
    "Roberta": lambda t: with_processor(t, processors.RobertaProcessing(("a", 1), ("b", 2))),
    "WordPiece": lambda _: Tokenizer(WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")),
}


def with_split(tokenizer, expression, behavior="isolated"):
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(expression), behavior), BYTES]
    )
    return tokenizer


def with_processor(tokenizer, processor):
    tokenizer.post_processor = processor
    return tokenizer


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_covered_is_left_to_tokenizers(why):
    tokenizer = REFUSED[why](trained(PRE_TOKENIZERS["llama3"], size=300))
    with pytest.raises(ArgumentError, match=f"does not cover .*{why}"):
        TokenizerEncoder(tokenizer, add_special_tokens=False, engine="fast")
    encoder = TokenizerEncoder(tokenizer, add_special_tokens=False)
    assert encoder.engine == "reference"
    assert encoder.tokenised.note is None
    encodings = tokenizer.encode_batch(["a", "aa"], add_special_tokens=False)
    expected = [encoding.ids for encoding in encodings]
    assert [ids.tolist() for ids in encoder.documents(["a", "aa"])] == expected
    assert why in encoder.tokenised.note


def test_special_tokens_that_are_encoded_as_text_are_left_to_tokenizers():
    tokenizer = trained(PRE_TOKENIZERS["llama3"], size=300)
    tokenizer.encode_special_tokens = True
    assert TokenizerEncoder(tokenizer, add_special_tokens=False).engine == "reference"


def test_another_release_of_tokenizers_is_compared_first(monkeypatch):
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    monkeypatch.setattr(fast_module, "version", lambda _: "9.9")
    assert TokenizerEncoder(tokenizer, add_special_tokens=False).engine == "fast"
    other = tokenizer.to_str()
    cut = json.loads(other)["pre_tokenizer"]
    assert fast_module._differing_text(other) is None
    real = Tokenizer.from_str

    class Other:
        @staticmethod
        def from_str(text):  # a release that takes digits for something else
            digits = {"type": "Digits", "individual_digits": True}
            stages = {"type": "Sequence", "pretokenizers": [digits, cut]}
            return real(json.dumps({**json.loads(text), "pre_tokenizer": stages}))

    monkeypatch.setattr("tokenizers.Tokenizer", Other)
    with pytest.raises(ArgumentError, match=r"splits .* differently"):
        fast_module.fast_equal(tokenizer, other, add_special_tokens=False)


@pytest.mark.parametrize("engine", ["auto", "fast", "reference"])
def test_a_corpus_says_what_tokenised_it(tmp_path, jsonl, engine):
    path = jsonl("x.jsonl", [{"text": text} for text in TEXTS[:50]])
    corpus = rs.open_corpus(path, tokenizer=DEMO / "tokenizer.json", tokenizer_engine=engine)
    assert corpus.notes == ()
    ids = [document.tolist() for batch in corpus for document in batch.documents]
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    assert ids == [encoding.ids for encoding in tokenizer.encode_batch(TEXTS[:50])]
    (note,) = corpus.notes
    assert ("fast path" in note) == (engine != "reference")
    assert "as asked" in note or engine != "reference"


def test_an_unknown_engine_is_refused(jsonl):
    with pytest.raises(ArgumentError, match="tokenizer_engine must be one of auto, fast"):
        rs.open_corpus(jsonl("x.jsonl", [{"tokens": [1]}]), tokenizer_engine="slow")


def test_threads_and_portions_do_not_matter():
    encoder = load_encoder(DEMO / "tokenizer.json")
    together = encoder.documents(TEXTS)
    for i in range(0, len(TEXTS), 37):
        assert together[i].tolist() == encoder.documents([TEXTS[i]])[0].tolist()
