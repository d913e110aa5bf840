"""One tokenizer per folder: its ids are those of tokenizer.json, whoever reads it."""

import json
import shutil

import numpy as np
import pytest
import radscore as rs
from gguf_files import write_gguf
from radscore.corpus.text.tokenizer import load_encoder
from radscore.errors import ModelError
from radscore.models import load_model
from radscore.models.texts import encode, prefix_of
from radscore.models.tokenizer import load_tokenizer
from tiny import save_adapter, save_folder, tiny_llama
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, processors, trainers
from tokenizers import pre_tokenizers as pre
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TEXT = "In 2023 there were 650841 of them, in 1999 only 12345 <s> (don't ask)\n\n. " * 5
BY_THREES = r"\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}{% endfor %}"


def trained(*, dropout=None, truncation=False):
    """A byte-level tokenizer that takes digits in threes, as Llama 3's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    bytes_ = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre.Sequence([pre.Split(Regex(BY_THREES), "isolated"), bytes_])
    alphabet = pre.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet)
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    single = [("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=single)
    if truncation:
        tokenizer.enable_truncation(7)
        tokenizer.enable_padding(length=300)
    tokenizer.model.dropout = dropout
    return tokenizer


CONFIGURATIONS = {
    "none": None,
    "another class": {"tokenizer_class": "Qwen2Tokenizer", "bos_token": "<s>"},
    "Llama's class": {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": True},
    "GPT-2's class": {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True},
    "further tokens": {
        "pad_token": "don",
        "unk_token": "<unk>",
        "additional_special_tokens": ["ask"],
    },
    "split special tokens": {"split_special_tokens": True, "bos_token": "<s>"},
    "length": {"model_max_length": 5},
}


def folder_with(path, tokenizer, configuration):
    model = tiny_llama(vocab_size=400, max_position_embeddings=4096)
    save_folder(path, model)
    tokenizer.save(str(path / "tokenizer.json"))
    if configuration is not None:
        content = json.dumps(configuration | {"chat_template": TEMPLATE})
        (path / "tokenizer_config.json").write_text(content)
    return path


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_the_model_reads_what_its_tokenizer_json_makes(kind, tmp_path):
    raw = trained()
    folder = folder_with(tmp_path / "m", raw, CONFIGURATIONS[kind])
    right = raw.encode(TEXT, add_special_tokens=False).ids
    model = load_model(folder)
    assert encode([TEXT], model)[0].tolist() == right
    assert load_encoder(folder).documents([TEXT])[0].tolist() == right
    assert model.tokenizer(TEXT)["input_ids"] == raw.encode(TEXT).ids
    assert model.tokenizer(TEXT, add_special_tokens=False)["input_ids"] == right
    assert prefix_of(model).tolist() == [raw.token_to_id("<s>")]
    assert len(model.tokenizer) == raw.get_vocab_size()
    assert None not in model.tokenizer.all_special_ids
    if CONFIGURATIONS[kind] is not None:
        chat = [{"role": "user", "content": "don't ask"}]
        text = model.tokenizer.apply_chat_template(chat, tokenize=False)
        assert text == "<s>don't ask"
        if "bos_token" in CONFIGURATIONS[kind]:
            assert model.tokenizer.bos_token_id == raw.token_to_id("<s>")


def test_transformers_itself_reads_other_tokens(tmp_path):
    # the reason for the tests above
    folder = folder_with(tmp_path / "m", trained(), CONFIGURATIONS["another class"])
    theirs = AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]
    assert theirs != trained().encode(TEXT, add_special_tokens=False).ids


def test_commands_agree_on_the_ids_of_a_text(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / "m", trained(), CONFIGURATIONS["another class"])
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": TEXT, "prompt": "In 2023"}))
    scheme = 'scheme = "keyed"\nvocab_size = 400\ncontext_width = 1\ngamma = 0.25\n'
    (tmp_path / "s.toml").write_text(scheme)
    (tmp_path / "key").write_text("00" * 15 + "07")
    rule = ["--scheme", "s.toml", "--key-file", "key", "--json"]

    def run(*command):
        done = run_command(*command)
        assert done.code == 0, done.err
        return done.json

    n = len(trained().encode(TEXT, add_special_tokens=False).ids)
    assert run("score", "x.jsonl", "--tokenizer", "m", *rule)["n_tokens"] == n
    assert run("test", "open", "x.jsonl", "--model", "m", *rule)["score"]["n_tokens"] == n
    width = ["--context-width", "1", "--out", "p.arrow", "--json"]
    assert run("predict", "x.jsonl", "--model", "m", *width)["n_tokens"] == n


def test_what_lies_beside_an_adapter_and_a_gguf_file(tmp_path):
    raw = trained()
    base = folder_with(tmp_path / "base", raw, CONFIGURATIONS["another class"])
    adapter = save_adapter(tmp_path / "adapter", base)
    right = raw.encode(TEXT, add_special_tokens=False).ids
    assert encode([TEXT], load_model(adapter))[0].tolist() == right
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, adapter / name)
    assert encode([TEXT], load_model(adapter))[0].tolist() == right
    path = write_gguf(tmp_path / "m.gguf", tiny_llama(vocab_size=400))
    for given in (base, base / "tokenizer.json"):
        assert encode([TEXT], load_model(path, tokenizer=given))[0].tolist() == right


def test_a_gguf_file_that_splits_text_in_an_unknown_way(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", tiny_llama(), pre="someone's own")
    with pytest.raises(
        ModelError, match=r"splits text in the way \"someone's own\", which is unknown"
    ):
        load_tokenizer(path)
    model = load_model(path)  # ids can be read
    assert model.tokenizer is None
    with pytest.raises(ModelError, match=r"has no tokenizer \(.*someone's own.*strings needs"):
        encode(["a"], model)


@pytest.mark.parametrize("form", ["file", "object", "transformers"])
def test_dropout_truncation_and_padding_are_switched_off(form, tmp_path):
    raw = trained(dropout=0.5, truncation=True)
    right = trained().encode(TEXT, add_special_tokens=False).ids
    given, state = raw, raw.to_str()
    if form == "file":
        given = tmp_path / "tokenizer.json"
        raw.save(str(given))
    elif form == "transformers":
        given = PreTrainedTokenizerFast(tokenizer_object=raw)
        given.backend_tokenizer.model.dropout = 0.5
    for engine in ("auto", "reference", "fast"):
        encoder = load_encoder(given, engine=engine)
        for _ in range(3):
            assert encoder.documents([TEXT])[0].tolist() == right
    if form != "object":
        model = load_model(save_folder(tmp_path / "m", tiny_llama(400)), tokenizer=given)
        for _ in range(3):
            assert encode([TEXT], model)[0].tolist() == right
            assert model.tokenizer([TEXT, "a"])["input_ids"][0][1:] == right
    # the caller's own is unchanged
    assert raw.to_str() == state
    if form == "transformers":
        assert given.backend_tokenizer.model.dropout == 0.5


def test_unigram_sampling_is_switched_off():
    pieces = [("<unk>", 0.0), ("a", -2.0), ("b", -2.0), ("ab", -3.9), ("aba", -5.8)]
    raw = Tokenizer(models.Unigram(pieces, 0))
    right = raw.encode("abab" * 9).ids
    raw.model.alpha, raw.model.nbest_size = 0.5, 10
    encoder = load_encoder(raw)
    assert all(encoder.documents(["abab" * 9])[0].tolist() == right for _ in range(9))
    assert raw.model.alpha == 0.5


def test_a_tokenizer_that_does_not_fit_the_vocabulary_is_doubted(tmp_path):
    scheme = rs.Keyed(vocab_size=1000, context_width=1, gamma=0.25, key=bytes(16))
    rng = np.random.default_rng(0)
    low, wide = rng.integers(0, 400, (20, 200)), rng.integers(0, 1000, (20, 200))

    def doubts(result):
        return [note for note in result.notes if "right tokenizer?" in note]

    (note,) = doubts(rs.score(low, scheme))
    assert note.endswith("the largest of 4000 is 399, but the vocabulary has 1000")
    assert not rs.score(low, scheme).method.startswith("approximate")
    assert not doubts(rs.score(wide, scheme))
    assert not doubts(rs.score(low[:5], scheme))  # 1000 tokens are too few
    file = tmp_path / "ids.jsonl"
    file.write_text("\n".join(json.dumps({"input_ids": ids.tolist()}) for ids in low))
    assert doubts(rs.score(rs.open_corpus(file, vocab_size=1000), scheme))
    assert doubts(rs.test_closed(low, scheme))
    assert not doubts(rs.test_closed(wide, scheme))
    # for text, the size of the tokenizer is enough
    trained().save(str(tmp_path / "tokenizer.json"))
    file.write_text(json.dumps({"text": "In 1999 only"}))
    corpus = rs.open_corpus(file, tokenizer=tmp_path, vocab_size=1000)
    (note,) = doubts(rs.score(corpus, scheme))
    assert "tokens, but the vocabulary has 1000" in note
    n = trained().get_vocab_size()
    corpus = rs.open_corpus(file, tokenizer=tmp_path, vocab_size=n)
    assert not doubts(
        rs.score(corpus, rs.Keyed(vocab_size=n, context_width=1, gamma=0.25, key=bytes(16)))
    )


def test_a_model_that_reads_ids_of_another_is_doubted(tmp_path):
    model = load_model(save_folder(tmp_path, tiny_llama(vocab_size=400)))
    scheme = rs.Keyed(vocab_size=400, context_width=1, gamma=0.25, key=bytes(16))
    rng = np.random.default_rng(0)
    result = rs.test_open(model, rng.integers(0, 100, (20, 128)), scheme)
    assert any(note.startswith("are these ids of the right") for note in result.notes)
    result = rs.test_open(model, rng.integers(0, 400, (20, 128)), scheme)
    assert not any("right tokenizer?" in note for note in result.notes)
