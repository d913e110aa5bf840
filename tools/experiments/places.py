"""What models predict at places of a text, kept so that weights are compared without rereading.

A *place* is a position and what the models expect next there. Kept are the tokens with the largest
probability under any of the models, as half-precision floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Places", "read_places"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Places:
    """Predictions of several models at the same places.

    Attributes
    ----------
    contexts : ndarray of int64, shape (n, k)
        The last tokens before each place, as many as were asked for.
    targets : ndarray of int64, shape (n,)
        The token that stands there.
    ids : ndarray of int64, shape (n, m)
        The likeliest tokens, by the largest probability under any model.
    probabilities : dict of str to ndarray of float32, shape (n, m)
        By model.
    chosen : dict of str to ndarray of float32, shape (n,)
        The probability of the token that stands there, by model.
    """

    contexts: Ids
    targets: Ids
    ids: Ids
    probabilities: dict[str, npt.NDArray[np.float32]]
    chosen: dict[str, npt.NDArray[np.float32]]

    def first(self, n: int) -> Places:
        """The first places."""
        return Places(
            self.contexts[:n],
            self.targets[:n],
            self.ids[:n],
            {name: one[:n] for name, one in self.probabilities.items()},
            {name: one[:n] for name, one in self.chosen.items()},
        )

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "contexts": self.contexts.astype(np.uint16),
            "targets": self.targets.astype(np.uint16),
            "ids": self.ids.astype(np.uint16),
        }
        arrays |= {f"p {name}": one.astype(np.float16) for name, one in self.probabilities.items()}
        arrays |= {f"c {name}": one.astype(np.float32) for name, one in self.chosen.items()}
        draft = path.with_suffix(".draft.npz")
        np.savez(draft, **arrays)
        draft.rename(path)

    @classmethod
    def load(cls, path: Path) -> Places:
        """Reads what `save` wrote."""
        with np.load(path) as found:
            kept = {
                kind: {
                    name[2:]: found[name].astype(np.float32)
                    for name in found.files
                    if name.startswith(f"{kind} ")
                }
                for kind in "pc"
            }
            ids = {name: found[name].astype(np.int64) for name in ("contexts", "targets", "ids")}
            return cls(**ids, probabilities=kept["p"], chosen=kept["c"])


@torch.inference_mode()
def read_places(
    models: dict[str, Callable[[], Any]],
    rows: Ids,
    *,
    first: int,
    width: int,
    most: int = 256,
    at: Ids | None = None,
    batch: int = 16,
) -> Places:
    """What models expect at every place of some texts, from position `first` on.

    Parameters
    ----------
    models : dict of str to callable
        Makes each model.
    rows : ndarray of int64, shape (n, length)
        Texts of one length.
    first : int
        Tokens before it are read, but are no places; at least `width`.
    width : int
        Tokens in a context.
    most : int
        Tokens kept at each place.
    at : ndarray of int64, shape (n_places, m), optional
        These tokens instead, as in `Places.ids`.
    batch : int
        Texts at once.
    """
    assert first >= width > 0
    made = {name: make() for name, make in models.items()}
    parts: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), batch):
        some = torch.from_numpy(np.ascontiguousarray(rows[start : start + batch]))
        p = {
            name: model(input_ids=some).logits[:, first - 1 : -1].float().softmax(-1)
            for name, model in made.items()
        }
        flat = {name: one.reshape(-1, one.shape[-1]) for name, one in p.items()}
        if at is None:
            ids = torch.stack(list(flat.values())).amax(0).topk(most, dim=-1).indices
        else:
            n = some.shape[0] * (some.shape[1] - first)
            ids = torch.from_numpy(at[start * (some.shape[1] - first) :][:n])
        targets = some[:, first:].reshape(-1, 1)
        parts.append(
            (
                ids.numpy().astype(np.uint16),
                {
                    name: one.gather(-1, ids).numpy().astype(np.float16)
                    for name, one in flat.items()
                },
                {name: one.gather(-1, targets)[:, 0].numpy() for name, one in flat.items()},
            )
        )
    before = np.lib.stride_tricks.sliding_window_view(rows[:, first - width : -1], width, axis=1)
    return Places(
        before.reshape(-1, width),
        rows[:, first:].reshape(-1),
        np.concatenate([one[0] for one in parts]).astype(np.int64),
        {name: np.concatenate([one[1][name] for one in parts]).astype(np.float32) for name in made},
        {name: np.concatenate([one[2][name] for one in parts]) for name in made},
    )
