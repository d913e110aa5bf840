"""How each family of schemes changes the scores of the next token: bias, Gumbel-max, tournament.

What a scheme says about the vocabulary after a context always comes from the compiled core, on the
CPU, and is moved to where the scores are: marks on a GPU are those of a CPU bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from radscore.schemes import Scheme
    from radscore.schemes.generation import Rule

__all__ = ["Bias", "Gumbel", "Tournament", "decides", "rule_of"]

_Rows = npt.NDArray[np.int64]

#: What rows of masks, uniforms and g-values may take up beside the model.
CACHE_BYTES = 1 << 28
#: From this share of the vocabulary on, asking for all of it is cheaper than for single tokens.
_DENSE = 1 / 16


class RowCache:
    """The latest rows that were computed, by context, on the device where they are used."""

    def __init__(
        self, compute: Callable[[_Rows], torch.Tensor], max_bytes: int = CACHE_BYTES
    ) -> None:
        self._compute = compute
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0
        self._device: torch.device | None = None

    def rows(self, contexts: _Rows, device: torch.device) -> torch.Tensor:
        """One row a context, stacked; those that are not known are computed in one call."""
        import torch

        if device != self._device:
            self._rows.clear()
            self._bytes, self._device = 0, device
        keys = [context.tobytes() for context in contexts]
        known = {key: self._rows[key] for key in keys if key in self._rows}
        missing = {key: i for i, key in enumerate(keys) if key not in known}
        if missing:
            new = self._compute(contexts[list(missing.values())]).to(device)
            known |= dict(zip(missing, new, strict=True))
        for key in dict.fromkeys(keys):
            self._keep(key, known[key])
        return torch.stack([known[key] for key in keys])

    def _keep(self, key: bytes, row: torch.Tensor) -> None:
        if key in self._rows:
            self._rows.move_to_end(key)
            return
        # A row of a larger tensor would keep all of it alive.
        self._rows[key] = row.clone()
        self._bytes += row.nbytes
        while self._bytes > self._max_bytes and len(self._rows) > 1:
            self._bytes -= self._rows.popitem(last=False)[1].nbytes


class Bias:
    """Adds `delta` to the scores of green tokens.

    Parameters
    ----------
    scheme : Scheme
        One with green lists.
    delta : float
        What is added.
    candidates : int, optional
        Look at the tokens of the highest scores only: for schemes that hash the target too, where
        a whole green list costs one permutation a token.
    """

    samples = False

    def __init__(self, scheme: Scheme, delta: float, candidates: int | None = None) -> None:
        self._scheme = scheme
        self._delta = delta
        self._candidates = candidates
        self._cache = RowCache(self._masks)

    def _masks(self, contexts: _Rows) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._scheme.green_mask(contexts))

    def apply(self, scores: torch.Tensor, contexts: _Rows) -> torch.Tensor:
        """Scores with the bias."""
        vocab = self._scheme.vocab_size
        marked = scores.clone()
        tokens = possible(scores[:, :vocab])
        if self._candidates is not None and self._candidates < vocab:
            tokens = scores[:, :vocab].topk(self._candidates, dim=-1).indices
        if tokens is not None:
            green = window_scores(self._scheme, contexts, tokens)
            return marked.scatter_add_(1, tokens, green.to(scores.dtype) * self._delta)
        green = self._cache.rows(contexts, scores.device)
        marked[:, :vocab] += green.to(scores.dtype) * self._delta
        return marked


class Gumbel:
    """Gumbel-max: the winner is the token with the largest ``log p + g``, ``g = -ln(-ln u)``.

    The winner takes the whole probability of the scheme's vocabulary. With two keys (vLLM) the
    winner of the second takes the share `alpha`, as if a coin had been tossed.
    """

    samples = True

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._shares = list(enumerate(scheme.key_shares))
        self._cache = RowCache(self._noise)

    def _noise(self, contexts: _Rows) -> torch.Tensor:
        import torch

        keys = [self._scheme.uniforms(contexts, index) for index, _ in self._shares]
        uniforms = torch.from_numpy(np.stack(keys, axis=1))
        return uniforms.log_().neg_().log_().neg_()

    def apply(self, scores: torch.Tensor, contexts: _Rows) -> torch.Tensor:
        """The logarithm of what the rule leaves to chance: 0 for the winner of a single key."""
        import torch

        vocab = self._scheme.vocab_size
        logs = scores.float().log_softmax(-1)
        inside = logs[:, :vocab]
        left = logs.exp()
        left[:, :vocab] = 0
        mass = 1 if vocab == scores.shape[1] else inside.exp().sum(-1, keepdim=True)
        tokens = possible(inside) if len(self._shares) == 1 else None
        if tokens is not None:
            # From the score -ln(1 - u) to the noise.
            score = window_scores(self._scheme, contexts, tokens)
            noise = score.neg_().exp_().neg_().log1p_().neg_().log_().neg_()
            best = (inside.gather(1, tokens) + noise).argmax(-1, keepdim=True)
            winners = [tokens.gather(1, best)]
        else:
            rows = self._cache.rows(contexts, scores.device)
            winners = [(inside + row).argmax(-1, keepdim=True) for row in rows.unbind(1)]
        for winner, (_, share) in zip(winners, self._shares, strict=True):
            left.scatter_add_(1, winner, torch.full_like(winner, share, dtype=left.dtype) * mass)
        return left.log()


class Tournament:
    """SynthID-Text: at each depth the tokens with g = 1 win against those with g = 0."""

    samples = True

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._cache = RowCache(self._g_values)

    def _g_values(self, contexts: _Rows) -> torch.Tensor:
        import torch

        g = self._scheme.g_values(contexts)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(g, 2, 1)))

    def apply(self, scores: torch.Tensor, contexts: _Rows) -> torch.Tensor:
        """The logarithms of the probabilities after the tournament."""
        import torch

        vocab = self._scheme.vocab_size
        logs = scores.float().log_softmax(-1)
        inside = logs[:, :vocab].exp()
        mass = 1 if vocab == scores.shape[1] else inside.sum(-1, keepdim=True).clamp_min(1e-38)
        marked = logs.clone()
        tokens = possible(logs[:, :vocab])
        if tokens is not None:
            probs = (inside / mass).gather(1, tokens)
            g = window_scores(self._scheme, contexts, tokens).movedim(2, 1)
            marked[:, :vocab] = -torch.inf
            marked.scatter_(1, tokens, (_tournament(probs, g) * mass).log())
            return marked
        g = self._cache.rows(contexts, scores.device)
        marked[:, :vocab] = (_tournament(inside / mass, g) * mass).log()
        return marked


def _tournament(probs: torch.Tensor, g_values: torch.Tensor) -> torch.Tensor:
    """`probs` (n, tokens) after a two-way tournament at each depth of (n, depth, tokens) bits."""
    for depth in range(g_values.shape[1]):
        g = g_values[:, depth].to(probs.dtype)
        # Where nearly all probability has g = 1 its sum can be rounded to more than 1.
        probs = probs * (1 + g - (g * probs).sum(-1, keepdim=True)).clamp_min_(0)
    return probs


def possible(scores: torch.Tensor) -> torch.Tensor | None:
    """The tokens that any of the rows can still choose, (n, m), where they are few; else None.

    A row that can choose fewer has others among them.
    """
    import torch

    most = int(torch.isfinite(scores).sum(-1).max())
    return scores.topk(most, dim=-1).indices if 0 < most <= _DENSE * scores.shape[1] else None


def window_scores(scheme: Scheme, contexts: _Rows, tokens: torch.Tensor) -> torch.Tensor:
    """What the scheme says of single tokens, (n, m), after each of n contexts: (n, m, ...)."""
    import torch

    n, m = tokens.shape
    targets = tokens.cpu().numpy().reshape(-1, 1)
    windows = np.concatenate([np.repeat(contexts, m, axis=0), targets], axis=1)
    scores = scheme.scores(windows)
    return torch.from_numpy(scores).reshape(n, m, *scores.shape[1:]).to(tokens.device)


def decides(scheme: Scheme) -> bool:
    """Whether the mark leaves nothing to chance: a single key of Gumbel-max names the token."""
    return scheme.sampling == "gumbel" and max(scheme.key_shares) == 1


def rule_of(scheme: Scheme, delta: float, candidates: int | None) -> Rule:
    """The rule by which text with the scheme's mark is written.

    Raises
    ------
    ArgumentError
        If the scheme defines none.
    """
    rule = scheme.sampling
    if rule is None:
        raise ArgumentError(f"scheme {scheme.name!r} has no sampling rule: it can only be read")
    if rule == "bias":
        # Without a seed before the target every token has a green list of its own.
        return Bias(scheme, delta, candidates if scheme.seed_kind == "target" else None)
    if rule == "gumbel":
        return Gumbel(scheme)
    return Tournament(scheme) if rule == "tournament" else rule
