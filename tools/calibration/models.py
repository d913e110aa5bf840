"""Networks that need no training: one continues what it reads, one only knows its habits.

`Listing` tells of a network what an API would.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from radscore.answers.endpoint_forward import EndpointForward
from radscore.models.listed import Listed
from radscore.models.loading import LanguageModel
from transformers import PretrainedConfig, PreTrainedModel

if TYPE_CHECKING:
    from radscore.models.batching import Piece

    from tools.calibration.world import Rows

__all__ = ["Habits", "Induction", "Listing"]

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


class Listing(LanguageModel):
    """A network of which only the likeliest tokens are told, as `EndpointModel` reads a server's.

    Parameters
    ----------
    network : Induction or Habits
    n_listed : int
        How many tokens at each position.
    at_end : bool
        Whether only the token after each document is told.
    """

    pool_tokens = 1 << 16

    def __init__(self, network: _Network, n_listed: int = 20, *, at_end: bool = False) -> None:
        super().__init__(network, None, "listing", network.config.vocab_size, None)
        self._n_listed, self._at_end = n_listed, at_end
        self.lost: dict[str, int] = {}

    __setattr__ = object.__setattr__  # what it derives from is frozen

    @property
    def forward(self) -> Any:
        """What reads pieces by it."""
        return EndpointForward

    @property
    def fingerprint(self) -> str:
        """A name."""
        return f"listing of {self._n_listed}"

    @property
    def at_end(self) -> bool:
        """Whether only what follows a document is known."""
        return self._at_end

    def read(self, pieces: list[Piece]) -> list[Listed]:
        """The likeliest tokens at the wanted positions of some pieces."""
        ids = np.zeros((len(pieces), max(len(piece.ids) for piece in pieces)), dtype=np.int64)
        for row, piece in zip(ids, pieces, strict=True):
            row[: len(piece.ids)] = piece.ids
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(ids)).logits
        found = []
        for row, piece in zip(logits, pieces, strict=True):
            best = row[torch.from_numpy(piece.columns)].log_softmax(dim=-1).topk(self._n_listed)
            offsets = np.arange(len(piece.columns) + 1) * self._n_listed
            names, values = best.indices.flatten().numpy(), best.values.flatten().numpy()
            found.append(Listed(offsets, names, values))
        return found
