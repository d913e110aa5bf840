"""Tiny real models for tests, made on the fly with random weights, and how tests look at them."""

import json
import shutil

VOCAB = 128
#: What small networks are compared on.
IDS = [[3, 1, 4, 1, 5, 9, 2, 6]]


def tiny_llama(vocab_size=VOCAB, seed=0, scale=4.0, **changes):
    """A Llama network of about 20,000 weights; `scale` makes its predictions less flat."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": vocab_size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "bos_token_id": None,
            "eos_token_id": None,
            **changes,
        }
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return model.eval()


def word_tokenizer(vocab_size=VOCAB, template=True):
    """A tokenizer of words: w0 w1 w2 ..., one id each."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(vocab_size - 3)}
    words |= {"<unk>": vocab_size - 3, "<user>": vocab_size - 2, "<assistant>": vocab_size - 1}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    if template:
        tokenizer.chat_template = (
            "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
        )
    return tokenizer


def starting(name="starting"):
    """A model whose tokenizer puts <user> before every text."""
    from radscore.models import LanguageModel
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<user> $A", special_tokens=[("<user>", VOCAB - 2)]
    )
    return LanguageModel(tiny_llama(), tokenizer, name, VOCAB, 256)


def logits(network, ids=IDS):
    """A network's logits, of `IDS` by default."""
    import torch

    with torch.inference_mode():
        return network(input_ids=torch.as_tensor(ids), use_cache=False).logits


def listed(portions):
    """Pairs as a list of (occurrence, context, target, weight)."""
    return [
        (int(o), tuple(c.tolist()), int(t), float(w))
        for p in portions
        for o, c, t, w in zip(p.occurrences, p.contexts, p.targets, p.weights, strict=True)
    ]


def altered(folder, path, change=dict, *, config="config.json", **settings):
    """A copy of a model's or an adapter's folder with other weights and settings."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, path)
    (file,) = path.glob("*.safetensors")
    weights = {k: v.contiguous().clone() for k, v in change(load_file(file)).items()}
    save_file(weights, file, {"format": "pt"})
    content = json.loads((path / config).read_text())
    (path / config).write_text(json.dumps(content | settings))
    return path


def renamed(old, new, where=""):
    """A change for `altered`: other names for the weights that have `where` in theirs."""
    return lambda w: {k.replace(old, new, 1) if where in k else k: v for k, v in w.items()}


def save_folder(path, model=None, tokenizer=None):
    """Saves a model's folder as transformers does."""
    (tiny_llama() if model is None else model).save_pretrained(path)
    if tokenizer is not None:
        tokenizer.save_pretrained(path)
    return path


def save_adapter(path, base, seed=1):
    """Saves a LoRA adapter for the model in the folder `base`, with weights that matter."""
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    torch.manual_seed(seed)
    with warnings.catch_warnings():  # peft uses names that transformers has changed
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(
            network, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(path)
    return path


def written(scheme, n, length, seed, share=1.0):
    """Documents of random tokens below 64, a `share` of them drawn from the green lists."""
    import numpy as np

    rng = np.random.default_rng(seed)
    green = None if scheme is None else scheme.green_mask(np.arange(64)[:, None])
    docs = []
    for _ in range(n):
        doc = [int(rng.integers(64))]
        while len(doc) < length:
            allowed = np.ones(64, bool) if green is None or rng.random() > share else green[doc[-1]]
            doc.append(int(rng.choice(np.flatnonzero(allowed))))
        docs.append(doc)
    return np.array(docs)


def trained(docs, steps=60, seed=0):
    """A tiny Llama network that has learned the documents' bigrams."""
    import torch
    from radscore.models import as_language_model

    network = tiny_llama(vocab_size=64, seed=seed, scale=1.0, num_hidden_layers=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    network.train()
    for step in range(steps):
        batch = torch.tensor(docs[(step * 16) % len(docs) :][:16])
        loss = network(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return as_language_model(network)
