"""Options that name a model, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from radscore.models.loading import LanguageModel

__all__ = ["add_loading_options", "add_model_options", "add_prompts_options", "load_named_model"]


def add_model_options(
    parser: Any, *, tokenizer: bool = True, required: bool = True, endpoint: bool = False
) -> None:
    """The model, where it runs and at which precision."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=required,
        metavar="DIR",
        help="folder of a causal language model or of a PEFT adapter, or a .gguf file"
        + ("; with --endpoint, the model's name there" if endpoint else ""),
    )
    group.add_argument(
        "--base",
        metavar="DIR",
        help="for an adapter: the model it belongs to (default: the one it names)",
    )
    add_loading_options(group, tokenizer=tokenizer)


def add_loading_options(group: Any, *, tokenizer: bool = True) -> None:
    """Its tokenizer, where it runs and at which precision."""
    if tokenizer:
        group.add_argument(
            "--tokenizer",
            metavar="PATH",
            help="the model's tokenizer (default: the one next to the model)",
        )
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)"
    )
    group.add_argument(
        "--model-dtype",
        choices=("float32", "bfloat16", "float16"),
        help="precision of the weights (default: bfloat16 on a GPU, float32 on the CPU)",
    )


def add_prompts_options(parser: Any) -> None:
    """The file of prompts and its field."""
    parser.add_argument(
        "--prompts",
        required=True,
        metavar="FILE",
        help="file of prompts: JSON lines (also .gz, .zst), Parquet or Arrow",
    )
    parser.add_argument(
        "--prompt-field", metavar="NAME", help="field with the prompt (default: prompt, else text)"
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
