"""What ``predict`` and ``test open`` share: the models, and the text they read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.endpoint_options import (
    ENDPOINT_OPTIONS,
    add_budget_options,
    add_endpoint_options,
    budget_of,
    check_key_name,
    extra_of,
    key_name,
    limits_of,
    warn_open,
)
from radscore.cli.exits import UsageError
from radscore.cli.model_options import add_model_options
from radscore.cli.options import add_corpus_options, natural, open_inputs, real
from radscore.cli.parser import option
from radscore.cli.progress import ProgressBar
from radscore.doubts import is_doubt
from radscore.extras import need

if TYPE_CHECKING:
    from radscore.corpus import Corpus
    from radscore.kgrams import KgramSet
    from radscore.models.chats import Chats
    from radscore.models.loading import LanguageModel

__all__ = ["Given", "add_reading_options", "contexts_of", "load_given", "set_options"]

#: Options of a model behind an API, besides those of every endpoint.
_REMOTE_ONLY = ("logprobs", "one_token", "api", "reference_endpoint")
#: Options that say what a model reads, and how; a file of predictions has settled that.
_READING = (
    "model",
    "base",
    "reference",
    "reference_base",
    "device",
    "model_dtype",
    "weighting",
    "top",
    "max_weights",
    "min_weight",
    "transform",
    "centred",
    "text_watermarked",
    "batch_tokens",
    "max_length",
    "messages_field",
    "field",
    "prompt_field",
    "tokenizer",
    "special_tokens",
    "format",
    "dtype",
    "eod",
)


def add_reading_options(
    parser: argparse.ArgumentParser, *, required: bool, endpoint: bool = False
) -> None:
    """The text, the models, and how predictions become weights."""
    add_corpus_options(parser, required=required)
    parser.add_argument(
        "--messages-field",
        metavar="NAME",
        help="read chats: the field with the messages, which go through the model's chat template",
    )
    add_model_options(parser, tokenizer=False, required=required, endpoint=endpoint)
    if endpoint:
        _add_endpoint(parser)
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--reference",
        action="append",
        metavar="DIR",
        help="a model to compare with that was not trained on the watermarked text: ideally one "
        "fine-tuned like the suspect on similar text without the watermark, else the suspect's "
        "base; given several times, the mean of several (both is best)",
    )
    group.add_argument(
        "--reference-base",
        metavar="DIR",
        help="if a reference is an adapter: the model it belongs to",
    )
    group.add_argument(
        "--weighting",
        choices=("prediction", "mass", "contrast", "matched"),
        help="score the likeliest tokens (prediction), or weight all tokens by their probability "
        "(mass) or by their gain over the reference (contrast, or matched, which also keeps the "
        "reference's probabilities); default: contrast with --reference, else mass",
    )
    group.add_argument(
        "--top",
        type=natural,
        metavar="N",
        help="with prediction: the N likeliest tokens (default: 1)",
    )
    group.add_argument(
        "--max-weights",
        type=natural,
        metavar="N",
        help="keep the N largest weights after each context (default: 256), or with matched the N "
        "likeliest tokens (192)",
    )
    group.add_argument(
        "--min-weight",
        type=real,
        metavar="W",
        help="drop weights up to W (default: 0.0001)",
    )
    group.add_argument(
        "--transform", metavar="NAME", help="with contrast and matched: the function to use"
    )
    group.add_argument(
        "--centred",
        action=argparse.BooleanOptionalAction,
        help="with contrast and matched: subtract from the weights after a context their mean "
        "(default: with contrast)",
    )
    group.add_argument(
        "--contexts",
        metavar="FILE",
        help="weigh only positions after a context of this set, from radscore kgrams build "
        "--unmarked with --width as wide as the scheme's contexts",
    )
    group.add_argument(
        "--text-watermarked",
        action="store_true",
        help="the text carries the tested watermark: count each seed only once",
    )
    group.add_argument(
        "--batch-tokens",
        type=natural,
        metavar="N",
        help="tokens per forward pass (default: depends on the vocabulary)",
    )
    group.add_argument(
        "--max-length",
        type=natural,
        metavar="N",
        help="read longer documents in overlapping segments of N tokens (default: the model's "
        "context window)",
    )


def contexts_of(args: argparse.Namespace) -> KgramSet | None:
    """The set that --contexts names."""
    if args.contexts is None:
        return None
    from radscore.cli.kgrams.sets import load_kgrams

    return load_kgrams(args.contexts, "--contexts", None)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    """A model behind an API, and what it may cost."""
    group = parser.add_argument_group("the endpoint, if the model is behind an API")
    group.add_argument(
        "--endpoint",
        metavar="URL",
        help="base URL, such as http://HOST:PORT/v1; --model is then the model's name there, and "
        "--tokenizer its own",
    )
    group.add_argument(
        "--logprobs",
        type=natural,
        metavar="N",
        help="how many of the likeliest tokens to ask for at each position (default: 20)",
    )
    group.add_argument(
        "--one-token",
        action="store_true",
        help="read only what follows each document, by asking for one token",
    )
    group.add_argument(
        "--api",
        choices=("completions", "chat"),
        help="with --one-token: send a document as text to complete (default), or as a message",
    )
    group.add_argument(
        "--extra",
        metavar="JSON",
        help='further fields for each request, such as \'{"user": "me"}\'',
    )
    add_endpoint_options(group)
    group.add_argument(
        "--reference-endpoint",
        metavar="URL",
        help="base URL of the reference, if it is behind an API too; --reference is then its name "
        "there",
    )
    add_budget_options(parser.add_argument_group("budgets (of the model behind an API)"))


def set_options(args: argparse.Namespace) -> list[str]:
    """The options of reading that were given."""
    return [option(name) for name in _READING if getattr(args, name) not in (None, False)]


class Given:
    """The models and the text that the arguments name.

    Attributes
    ----------
    model : LanguageModel
    reference : list of LanguageModel, or None
    corpus : Corpus or Chats
        The text, its notes and what was skipped.
    bar : ProgressBar
    """

    bar: ProgressBar

    def __init__(
        self, model: LanguageModel, reference: list[LanguageModel] | None, args: argparse.Namespace
    ) -> None:
        self.model, self.reference = model, reference
        self.corpus: Corpus | Chats
        self.tokenizer: Any = None
        if args.messages_field is not None:
            self.corpus = _chats(args)
        else:
            if args.tokenizer is not None and model.forward is None:
                from radscore.models.tokenizer import load_tokenizer

                self.tokenizer = load_tokenizer(args.tokenizer)
            words = self.tokenizer
            named = argparse.Namespace(**vars(args))
            named.tokenizer = words if words is not None else _usable(model.tokenizer)
            size = model.vocab_size if self.tokenizer is None else len(self.tokenizer)
            self.corpus = open_inputs(named, vocab_size=size, on_error=args.on_error)
        self.bar = ProgressBar(quiet=args.quiet, asked=args.progress)

    @property
    def cost(self) -> float | None:
        """What reading over an API has cost so far, if prices were given."""
        budget = getattr(self.model, "budget", None)
        return None if budget is None else budget.cost

    def close(self) -> None:
        """Closes connections."""
        for model in (self.model, *(self.reference or ())):
            if model.forward is not None:
                model.close()  # an EndpointModel

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the corpus, except doubts, which the results have too."""
        return tuple(note for note in self.corpus.notes if not is_doubt(note))


def load_given(args: argparse.Namespace) -> Given:
    """Loads what the arguments name, cheap things first."""
    from radscore.corpus.detect import find_sources
    from radscore.models.loading import load_model

    if args.reference is None and args.reference_base is not None:
        raise UsageError("--reference-base has no effect without --reference")
    if args.messages_field is not None:
        for name in ("field", "prompt_field", "tokenizer", "dtype", "eod"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} has no effect with --messages-field")
    remote = _check_endpoint(args)
    find_sources(args.inputs, args.format)  # finds a wrong path before a model is loaded
    if args.threads is not None and not (remote and args.reference is None):
        need("torch", what="reading a model")
        import torch

        torch.set_num_threads(args.threads)
    how = {"device": args.device, "dtype": args.model_dtype}
    if remote:
        model: LanguageModel = _behind(args, args.endpoint, args.model, budget_of(args))
    else:
        model = load_model(args.model, base=args.base, **how)
    reference = None
    if remote and args.reference_endpoint is not None:
        reference = [_behind(args, args.reference_endpoint, one, {}) for one in args.reference]
    elif args.reference is not None:
        adapters = [one for one in args.reference if Path(one, "adapter_config.json").is_file()]
        reference = []
        for one in args.reference:
            base = args.reference_base if one in (adapters or args.reference) else None
            reference.append(load_model(one, base=base, **how))
    return Given(model, reference, args)


def _check_endpoint(args: argparse.Namespace) -> bool:
    """Whether the model is behind an API; refuses what does not go together."""
    if getattr(args, "endpoint", None) is None:
        for name in (*ENDPOINT_OPTIONS, *_REMOTE_ONLY):
            if getattr(args, name, None) not in (None, False):
                raise UsageError(f"{option(name)} has no effect without --endpoint")
        return False
    if args.tokenizer is None:
        raise UsageError("--endpoint needs the model's tokenizer: --tokenizer PATH")
    if args.base is not None:
        raise UsageError("--base has no effect with --endpoint")
    if args.messages_field is not None:
        raise UsageError("--messages-field has no effect with --endpoint")
    if args.api is not None and not args.one_token:
        raise UsageError("--api has no effect without --one-token")
    if args.reference_endpoint is not None and args.reference is None:
        raise UsageError("--reference-endpoint needs the reference's name there: --reference NAME")
    check_key_name(args)
    return True


def _behind(
    args: argparse.Namespace, endpoint: str, name: str, budget: dict[str, Any]
) -> LanguageModel:
    """The model behind an API."""
    from radscore.answers import EndpointModel

    reads = "auto"
    if args.one_token:
        reads = "one-token-chat" if args.api == "chat" else "one-token"
    warn_open(endpoint, key_name(args))
    more = {} if args.logprobs is None else {"logprobs": args.logprobs}
    return EndpointModel(
        endpoint,
        name,
        tokenizer=args.tokenizer,
        reads=reads,  # type: ignore[arg-type] # one of those
        extra=extra_of(args.extra),
        limits=limits_of(args),
        api_key_env=key_name(args),
        **more,
        **budget,
    )


def _usable(tokenizer: Any) -> Any:
    """The tokenizer if corpora can use it, else None."""
    return tokenizer if getattr(tokenizer, "is_fast", False) else None


def _chats(args: argparse.Namespace) -> Chats:
    from radscore.models.chats import Chats

    return Chats(args.inputs, args.messages_field, on_error=args.on_error, format=args.format)
