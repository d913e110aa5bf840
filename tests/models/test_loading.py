"""Loading: a folder, an adapter, a GGUF file; what is wrong is said in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from radscore.errors import ArgumentError, ModelError
from radscore.models import as_language_model, load_model
from tiny import VOCAB, logits, save_adapter, save_folder, tiny_llama, word_tokenizer
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, base):
    return save_adapter(tmp_path_factory.mktemp("adapter"), base)


def test_a_folder_gives_what_transformers_gives(base):
    model = load_model(base)
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert torch.equal(logits(model.model), logits(plain))
    assert (model.vocab_size, model.max_length, model.name) == (VOCAB, 256, str(base))
    assert model.tokenizer("w3 w1 w4")["input_ids"] == [3, 1, 4]
    assert model.device.type == "cpu"
    assert model.dtype == torch.float32
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert "vocab_size=128" in repr(model)


def test_an_adapter_changes_the_base_and_has_its_tokenizer(base, adapter):
    plain, model = load_model(base), load_model(adapter)
    right = logits(model.model)
    assert not torch.allclose(logits(plain.model), right, atol=1e-3)
    assert model.vocab_size == VOCAB
    assert model.tokenizer is not None
    assert model.fingerprint != plain.fingerprint
    assert load_model(adapter, base=base).fingerprint == model.fingerprint
    # the adapter's own arithmetic: merged weights give the same predictions
    merged = load_model(adapter).model.merge_and_unload()
    torch.testing.assert_close(logits(merged), right, atol=1e-4, rtol=1e-4)


def test_fingerprints_are_of_the_weights_alone(base, tmp_path):
    first = load_model(base).fingerprint
    copied = shutil.copytree(base, tmp_path / "copy")
    assert load_model(copied).fingerprint == first
    assert len(first) == 64
    assert int(first, 16) >= 0
    other = tiny_llama()
    assert as_language_model(other).fingerprint == first
    with torch.no_grad():
        other.model.norm.weight[3] += 1e-6
    assert as_language_model(other).fingerprint != first
    # bfloat16 holds these values exactly: the same model in both types
    rounded = tiny_llama().to(torch.bfloat16)
    bf16 = as_language_model(rounded).fingerprint
    assert as_language_model(rounded.to(torch.float32)).fingerprint == bf16 != first


def test_dtype_and_what_is_already_loaded(base):
    model = load_model(base, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert as_language_model(model) is model
    assert as_language_model(str(base)).name == str(base)
    network = tiny_llama().train()
    loaded = as_language_model(network)
    assert loaded.model is network
    assert loaded.tokenizer is None
    assert not network.training
    with pytest.raises(ArgumentError, match="suspect must be a LanguageModel, a path or"):
        as_language_model(17, "suspect")
    with pytest.raises(ArgumentError, match="dtype must be one of float32, bfloat16, float16"):
        load_model(base, dtype="int8")
    with pytest.raises(ArgumentError, match="device"):
        load_model(base, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="no GPU"):
            load_model(base, device="cuda")


def test_a_tokenizer_can_be_given(base, tmp_path):
    word_tokenizer(template=False).save_pretrained(tmp_path / "words")
    model = load_model(base, tokenizer=tmp_path / "words")
    assert model.tokenizer.chat_template is None
    model = load_model(base, tokenizer=tmp_path / "words" / "tokenizer.json")
    assert model.tokenizer("w7")["input_ids"] == [7]
    words = word_tokenizer()
    assert load_model(base, tokenizer=words).tokenizer is words
    with pytest.raises(ModelError, match=r"tokenizer: .*nowhere: no such"):
        load_model(base, tokenizer=tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="tokenizer must be a path"):
        load_model(base, tokenizer=3)


def test_what_is_wrong_is_said_in_one_line(base, adapter, tmp_path):
    def refused(path, match, **options):
        with pytest.raises(ModelError, match=match) as caught:
            load_model(path, **options)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"has no config.json .* and no adapter_config.json")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "is not a model: give")
    (tmp_path / "x.gguf").write_bytes(b"GGUF nothing of the kind")
    refused(tmp_path / "x.gguf", "x.gguf cannot be loaded")
    refused(base, "base is for PEFT adapters", base=base)
    refused(adapter, "base: .*no such file", base=tmp_path / "nowhere")

    broken = shutil.copytree(base, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(broken, "broken cannot be loaded")
    weights.unlink()
    refused(broken, "broken cannot be loaded")
    (broken / "config.json").write_text("{")
    refused(broken, "config.json cannot be read")

    lost = shutil.copytree(adapter, tmp_path / "lost")
    config = json.loads((lost / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/some-model"
    (lost / "adapter_config.json").write_text(json.dumps(config))
    refused(lost, "the base of the adapter .* is 'somebody/some-model', which is not on this")
    assert load_model(lost, base=base).fingerprint == load_model(adapter).fingerprint
    (lost / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    refused(lost, "the adapter .* does not fit", base=base)


def test_weights_that_are_not_all_there(base, tmp_path):
    # transformers puts random numbers in place of what is missing
    model = tiny_llama(num_hidden_layers=1)
    path = save_folder(tmp_path / "short", model)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"the weights in .* lack model.layers.1.* and \d+ more"):
        load_model(path)


def test_models_that_do_not_predict_the_next_token(tmp_path):
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = BertLMHeadModel(config)
    model.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="looks ahead"):
        load_model(tmp_path / "bert")
    from transformers import LlamaForSequenceClassification

    classifier = LlamaForSequenceClassification(tiny_llama().config)
    classifier.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ModelError, match="holds LlamaForSequenceClassification, which is not"):
        load_model(tmp_path / "classifier")


def test_a_gguf_file(smollm2):
    model = smollm2
    assert (model.vocab_size, model.max_length) == (49152, 8192)
    text = "The capital of France is"
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        best = model.model(input_ids=ids).logits[0, -1].argmax()
    assert model.tokenizer.decode(best) == " Paris"
    right = Tokenizer.from_file(str(Path(__file__).parents[2] / "demo" / "tokenizer.json"))
    for text in ("In 2023 there were 650841, or 3.5 %", "don't\n\n  x = [1,22]\tä 你好 🙂"):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == right.encode(text, add_special_tokens=False).ids
    assert model.tokenizer.chat_template


def test_nothing_is_imported_before_it_is_needed():
    code = (
        "import sys, radscore.models as m; m.LanguageModel; m.load_model; "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
