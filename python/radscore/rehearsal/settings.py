"""What a rehearsal plays: the settings of Alice's data, Bob's training and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from radscore.checks import check_choice
from radscore.documents import check_width
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.models.writing import Sampling
    from radscore.schemes import Scheme

__all__ = ["DataSettings", "Mark", "TrainingSettings"]


@dataclass(frozen=True)
class Mark:
    """Alice's watermark: the scheme with its key, and what generation adds to it.

    Attributes
    ----------
    scheme : Scheme
    delta : float or None
        Added to the logit of a green token; None for schemes without green lists.
    """

    scheme: Scheme
    delta: float | None = None


@dataclass(frozen=True)
class DataSettings:
    """How Alice's records, and their unmarked twins, are written.

    Attributes
    ----------
    kind : {"continuations", "answers", "self-instruct"}
        What the base model is asked: to continue prompts, to answer them in its chat template, or
        to write the next instruction and answer after three examples (Y. Wang et al.,
        "Self-Instruct", 2023).
    n_records : int
        Records that Bob trains on.
    sampling : Sampling
        How tokens are chosen.
    min_tokens : int
        Shorter answers are dropped.
    max_overlap : float
        A record is a near-duplicate, and dropped, if this share of its instruction's 3-grams stands
        in one that was kept (self-instruct only).
    """

    kind: Literal["continuations", "answers", "self-instruct"]
    n_records: int
    sampling: Sampling
    min_tokens: int = 8
    max_overlap: float = 0.7

    def __post_init__(self) -> None:
        if self.kind not in {"continuations", "answers", "self-instruct"}:
            raise ArgumentError(
                f"kind must be continuations, answers or self-instruct, not {self.kind!r}"
            )
        check_width("n_records", self.n_records, 1, 2**31)
        check_width("min_tokens", self.min_tokens, 0, 2**31)
        if not 0 < self.max_overlap <= 1:
            raise ArgumentError(
                f"max_overlap must be above 0 and at most 1, not {self.max_overlap!r}"
            )


@dataclass(frozen=True)
class TrainingSettings:
    """Bob's recipe; learning rates fall along a cosine after a short warm-up.

    Attributes
    ----------
    method : {"full", "lora"}
        All weights, or a low-rank adapter of rank `lora_rank` on every linear layer.
    learning_rate : float
    epochs : float
    batch_size : int
        Records per step, over all accumulation.
    length : int
        Tokens of a record; longer ones are cut.
    loss_on : {"answers", "all"}
        Which tokens are learned.
    template : {"alpaca", "chat", "plain"}
        What stands around an instruction: Alpaca's text, the tokenizer's chat template, or nothing
        (records are then a text and how it goes on, with the ids that Alice's model read).
    schedule : {"cosine", "linear", "constant"}
    warmup : float
        Share of the steps over which the rate rises.
    weight_decay : float
    lora_rank : int
    accumulate : int
        Steps over which gradients of one batch are added up.
    bf16, gradient_checkpointing : bool
        As in `transformers.TrainingArguments`.
    """

    method: Literal["full", "lora"] = "full"
    learning_rate: float = 1e-5
    epochs: float = 3.0
    batch_size: int = 8
    length: int = 2048
    loss_on: Literal["answers", "all"] = "answers"
    template: Literal["alpaca", "chat", "plain"] = "alpaca"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    lora_rank: int = 16
    accumulate: int = 1
    bf16: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("method", "loss_on", "template", "schedule"):
            check_choice(name, getattr(self, name), _CHOICES[name])
        for name in ("batch_size", "lora_rank", "accumulate"):
            check_width(name, getattr(self, name), 1, 2**31)
        check_width("length", self.length, 2, 2**31)
        for name, least, most in (
            ("learning_rate", 0, 10),
            ("epochs", 0, 1e6),
            ("warmup", 0, 1),
            ("weight_decay", 0, 10),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ArgumentError(f"{name} must be a number, not {value!r}")
            if not least <= value <= most:
                raise ArgumentError(f"{name} must be from {least} to {most:g}, not {value!r}")


_CHOICES = {
    "method": ("full", "lora"),
    "loss_on": ("answers", "all"),
    "template": ("alpaca", "chat", "plain"),
    "schedule": ("cosine", "linear", "constant"),
}
