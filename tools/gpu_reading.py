"""How fast text is read on a GPU, against the bare forward pass, and whether its weights are right.

It takes a few minutes on one GPU and downloads nothing: networks have random weights, unless
``--model FOLDER`` (and ``--reference FOLDER``) name others. First a few texts are read in float32
on the device and on the CPU, and their weights compared. Then, for each weighting, the same batches
go through `Reader` and through the networks alone, in turns; the ratio is printed, and ``--least``
is what is asked of it. Exits with 1 if weights differ or a ratio is too low.

    python tools/gpu_reading.py --json reading.json
    python tools/gpu_reading.py --device cpu --shape small --tokens 20000 --least 0
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from radscore.models import LanguageModel, Reader, Weighting, as_language_model, load_model
from radscore.models.batching import Pairs, Piece, batches
from radscore.models.passages import passages
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Docs = list[npt.NDArray[np.int64]]

WIDTH: Final = 2
WEIGHTINGS: Final = ("prediction", "mass", "contrast", "matched")
SHAPES: Final[dict[str, dict[str, int]]] = {
    "small": {
        "vocab_size": 4096,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
    },
    "1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
#: Texts that are read on both devices.
_N_CHECKED, _CHECKED_LENGTH = 4, 64
_TOLERANCE: Final = 2e-3


def main() -> int:
    """Checks, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=7.0, help="start nothing after these")
    parser.add_argument("--least", type=float, default=0.95)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    failed = False
    found: dict[str, Any] = {"torch": torch.__version__, "device": _device_name(args.device)}
    print(f"{found['device']}, torch {found['torch']}", flush=True)

    on_cpu = _models(args, "cpu")
    docs = _documents(on_cpu[0].vocab_size, args.tokens)
    short = [doc[:_CHECKED_LENGTH] for doc in docs[:_N_CHECKED]]
    expected = {kind: _pairs(on_cpu, short, kind) for kind in WEIGHTINGS}
    models = _moved(on_cpu, args.device, torch.float32)
    for kind in WEIGHTINGS:
        share, farthest = _agreement(_pairs(models, short, kind), expected[kind])
        good = share >= 0.99 and farthest <= _TOLERANCE
        failed |= not good
        print(f"{kind:10}  {share:.2%} of the targets, weights to {farthest:.1e}", _word(good))
        found[kind] = {"same_targets": share, "farthest": farthest}

    if args.device != "cpu":
        models = _moved(models, args.device, torch.bfloat16)
    for kind in WEIGHTINGS:
        if time.monotonic() > end:
            print(f"{kind:10}  not measured: {args.minutes:g} minutes are over")
            failed = True
            continue
        ratio, speed = _measure(models, docs, kind, args.repetitions, end)
        good = ratio >= args.least
        failed |= not good
        print(f"{kind:10}  {ratio:.3f} of the forward pass, {speed:,.0f} tokens/s", _word(good))
        found[kind].update(ratio=ratio, tokens_per_second=speed)
        if args.json:
            args.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(failed)


def _word(good: bool) -> str:
    return "" if good else "  <- FAILED"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _models(args: argparse.Namespace, device: str) -> list[LanguageModel]:
    """The suspect and the reference, in float32."""
    if args.model:
        paths = [args.model, args.reference or args.model]
        return [load_model(path, device=device, dtype="float32") for path in paths]
    return [as_language_model(_network(SHAPES[args.shape], seed)) for seed in range(2)]


def _network(shape: dict[str, int], seed: int) -> Any:
    torch.manual_seed(seed)
    network: Any = LlamaForCausalLM(
        LlamaConfig(**shape, max_position_embeddings=4096, tie_word_embeddings=True)  # type: ignore[arg-type]
    )
    with torch.no_grad():
        network.lm_head.weight.mul_(8.0)  # predictions that are not flat
    return network.eval()


def _moved(models: list[LanguageModel], device: str, dtype: torch.dtype) -> list[LanguageModel]:
    return [
        LanguageModel(
            one.model.to(device=device, dtype=dtype),
            one.tokenizer,
            one.name,
            one.vocab_size,
            one.max_length,
        )
        for one in models
    ]


def _documents(vocab_size: int, n_tokens: int) -> Docs:
    """Texts of 200 to 1,000 random ids."""
    rng = np.random.default_rng(0)
    docs: Docs = []
    while sum(map(len, docs)) < n_tokens:
        docs.append(rng.integers(1, vocab_size, rng.integers(200, 1001)))
    return docs


def _reader(models: list[LanguageModel], kind: str) -> Reader:
    weighting = Weighting(kind)
    reference = models[1] if weighting.needs_reference else None
    return Reader(models[0], reference, weighting, limit=models[0].vocab_size)


def _read(models: list[LanguageModel], docs: Docs, kind: str) -> Iterator[Pairs]:
    return _reader(models, kind).read(passages(docs, models[0], WIDTH))


def _pairs(models: list[LanguageModel], docs: Docs, kind: str) -> dict[tuple[int, int], float]:
    """Weights by place and target."""
    found: dict[tuple[int, int], float] = {}
    for pairs in _read(models, docs, kind):
        places = zip(pairs.occurrences.tolist(), pairs.targets.tolist(), strict=True)
        found.update(zip(places, pairs.weights.tolist(), strict=True))
    return found


def _agreement(
    ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float]
) -> tuple[float, float]:
    """The share of targets that both have, and how far their weights are apart at most."""
    both = ours.keys() & theirs.keys()
    assert both, "nothing was read"
    farthest = max(abs(ours[place] - theirs[place]) for place in both)
    return len(both) / max(len(ours), len(theirs)), farthest


def _measure(
    models: list[LanguageModel], docs: Docs, kind: str, repetitions: int, end: float
) -> tuple[float, float]:
    """The forward pass's time to ours (median of turns), and tokens a second."""
    reader = _reader(models, kind)
    used = models if Weighting(kind).needs_reference else models[:1]
    nothing = np.empty(0, np.int64)
    pool = reader.batch_tokens * 4
    made: list[list[Piece]] = []
    pieces: list[Piece] = []
    for doc in docs:
        pieces.append(Piece(doc, nothing, nothing))
        if sum(len(piece.ids) for piece in pieces) >= pool or doc is docs[-1]:
            made += batches(pieces, reader.batch_tokens)
            pieces = []

    def ours() -> None:
        for _ in _read(models, docs, kind):
            pass

    times: list[tuple[float, float]] = []
    for turn in range(repetitions + 1):
        mine = _seconds(ours, models[0].device)
        theirs = _seconds(lambda: _forward(used, made), models[0].device)
        if turn:  # the first warms up
            times.append((mine, theirs))
        if time.monotonic() > end and times:
            break
    ratio = statistics.median(other / one for one, other in times)
    return ratio, sum(map(len, docs)) / statistics.median(one for one, _ in times)


def _seconds(call: Any, device: Any) -> float:
    cuda = str(device).startswith("cuda")
    if cuda:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _forward(models: list[LanguageModel], made: list[list[Piece]]) -> None:
    """The same batches through the networks; their logits are dropped."""
    with torch.inference_mode():
        for batch in made:
            longest = len(batch[0].ids)
            ids = [np.pad(piece.ids, (0, longest - len(piece.ids)), mode="edge") for piece in batch]
            given = torch.from_numpy(np.stack(ids))
            for model in models:
                model.model(input_ids=given.to(model.device), use_cache=False)


if __name__ == "__main__":
    raise SystemExit(main())
