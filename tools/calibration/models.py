"""Networks that need no training: one continues what it reads, one only knows its habits."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

if TYPE_CHECKING:
    from tools.calibration.world import Rows

__all__ = ["Habits", "Induction"]

_FLOOR = 1e-4


class _Config(PretrainedConfig):  # type: ignore[no-untyped-call]
    model_type = "calibration"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.max_position_embeddings = 4096


class _Network(PreTrainedModel):  # type: ignore[no-untyped-call]
    config_class = _Config

    def __init__(self, vocab_size: int) -> None:
        super().__init__(_Config(vocab_size=vocab_size))
        self.embedding = torch.nn.Embedding(vocab_size, 1)
        self.head = torch.nn.Linear(1, vocab_size, bias=False)
        self.all_tied_weights_keys: dict[str, str] = {}

    def get_input_embeddings(self) -> torch.nn.Module:
        """What transformers calls."""
        return self.embedding

    def get_output_embeddings(self) -> torch.nn.Module:
        """What transformers calls."""
        return self.head

    def _counts(self, ids: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(
        self, input_ids: torch.Tensor, logits_to_keep: Any = None, **options: Any
    ) -> SimpleNamespace:
        """Logits of the token after each position."""
        del options
        logits = torch.log(self._counts(input_ids) + _FLOOR)
        if logits_to_keep is not None:
            logits = logits[:, logits_to_keep]
        return SimpleNamespace(logits=logits)


class Induction(_Network):  # type: ignore[no-untyped-call]
    """An induction head: after a token, what followed it before in the same text."""

    @classmethod
    @cache
    def of(cls, vocab_size: int) -> Induction:
        """The model for a vocabulary, made once."""
        model = cls(vocab_size)
        model.train(mode=False)
        return model

    def _counts(self, ids: torch.Tensor) -> torch.Tensor:
        batch, length = ids.shape
        same = (ids[:, :, None] == ids[:, None, :]).float()
        same = same * torch.tril(torch.ones(length, length), -1)
        size = self.config.vocab_size
        following = torch.nn.functional.one_hot(ids[:, 1:], size).float()
        following = torch.cat([following, torch.zeros(batch, 1, size)], dim=1)
        return same @ following


class Habits(_Network):  # type: ignore[no-untyped-call]
    """After a token, what usually follows it in the language."""

    def __init__(self, vocab_size: int, habits: Rows) -> None:
        super().__init__(vocab_size)
        table = torch.zeros(vocab_size, vocab_size)
        table.scatter_add_(1, torch.from_numpy(habits), torch.ones(habits.shape))
        self.table = table

    @classmethod
    def of(cls, habits: Rows, vocab_size: int) -> Habits:
        """The model with these followers."""
        model = cls(vocab_size, habits)
        model.train(mode=False)
        return model

    def _counts(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids]
