"""Options that name a model, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from radscore.models.loading import LanguageModel

__all__ = ["add_model_options", "load_named_model"]


def add_model_options(parser: Any, *, tokenizer: bool = True, required: bool = True) -> None:
    """The model, where it runs and in which numbers."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=required,
        metavar="DIR",
        help="folder of a causal language model or of a PEFT adapter, or a .gguf file",
    )
    group.add_argument(
        "--base",
        metavar="DIR",
        help="with an adapter: the model that it belongs to (default: the one that it names)",
    )
    if tokenizer:
        group.add_argument(
            "--tokenizer", metavar="PATH", help="the model's tokenizer (default: beside the model)"
        )
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)"
    )
    group.add_argument(
        "--model-dtype",
        choices=("float32", "bfloat16", "float16"),
        help="numbers to compute with (default: bfloat16 on a GPU, float32 on the CPU)",
    )


def load_named_model(args: argparse.Namespace) -> LanguageModel:
    """The model that the arguments name."""
    from radscore.models.loading import load_model

    return load_model(
        args.model,
        base=args.base,
        tokenizer=args.tokenizer,
        device=args.device,
        dtype=args.model_dtype,
    )
