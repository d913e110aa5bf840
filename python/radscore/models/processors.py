"""Writing the mark: a logits processor for every scheme, for the `generate` of transformers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from radscore.checks import check_choice
from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError
from radscore.extras import need
from radscore.models.marking import rule_of
from radscore.schemes import Scheme
from radscore.schemes.generation import UNBOUNDED, Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import LogitsProcessor

__all__ = ["DEFAULT_DELTA", "Repeated", "logits_processor"]

Repeated: TypeAlias = Literal["engine", "mark", "skip", "all"]

#: What a green token's logit gains.
DEFAULT_DELTA = 2.0
#: As many candidates as transformers and lm-watermarking look at under self-salted seedings.
DEFAULT_CANDIDATES = 40

_NONE = -1  # no token: left of the text
# Below it a division can overflow, or give 0/0; 0 itself means the best token.
_COLDEST = 1e-6
# Nearly every nucleus is found among so many tokens, far cheaper than by sorting the vocabulary.
_NUCLEUS = (256, 2048)


def logits_processor(
    scheme: Scheme | None,
    *,
    delta: float | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int | Sequence[int] | None = None,
    prompt_lengths: Sequence[int] | None = None,
    pad_token_id: int | None = None,
    repeated: Repeated = "engine",
    history: int | None = None,
    reach_prompt: bool | None = None,
    candidates: int | None = DEFAULT_CANDIDATES,
) -> LogitsProcessor:
    """A logits processor that makes `generate` of transformers write the scheme's mark.

    Parameters
    ----------
    scheme : Scheme or None
        The mark. Green lists (`KGW`, `SBW`, `Keyed`, `TextSeal`) bias logits; `GumbelMax`,
        `VLLMGumbel`, `VLLMDualKeyGumbel`, `SGLangGumbel` and the method ``gumbel`` of `Keyed`
        and `TextSeal` choose the token; `SynthID` and `SynthIDDeepMind` let tokens compete. None
        writes no mark (of use with `seed`).
    delta : float, optional
        What a green token's logit gains, 2 by default. For schemes of green lists only.
    temperature, top_k, top_p : float, int or None, float
        Applied here, *before* the mark, because those of `generate` come after its processors:
        leave `generate`'s at ``temperature=1.0, top_k=0, top_p=1.0``. With temperature 0 the
        best token is taken after the bias; others are at least 1e-6.
    seed : int or sequence of int, optional
        With it the processor also draws the token, and all others get a score of -inf: a text
        then depends on its seed and prompt alone, and not on what stands beside it in the batch
        (but for rounding). An int is for all rows, each with its own draws; a sequence has one
        seed a row. Without it `generate` draws: use ``do_sample=True``.
    prompt_lengths : sequence of int, optional
        Tokens of each prompt without padding, for batches that are padded on the left. Padding
        never enters contexts.
    pad_token_id : int, optional
        Instead of lengths: what stands on the left of a prompt and equals this is padding.
    repeated : {"engine", "mark", "skip", "all"}
        Whether a context that was already marked in the same text is marked again: as the scheme's
        own engine does (SynthID leaves out the latest 1,024 contexts, vLLM those of 8,192
        positions, SGLang every repetition and all but 4,096 contexts of a text, `Keyed` with
        method ``gumbel`` every repetition; the others mark again), always, or never; ``"all"``:
        nor where the prompt holds it, and never where a context is not all generated. vLLM's
        `deduplicate_contexts` calls these ``single_turn``, ``none``, and ``all``.
    history : int, optional
        How many latest positions count for ``"engine"`` and ``"all"`` (vLLM's
        `deduplicate_contexts_max_history`), by default as the engine does it, all for ``"all"``.
    reach_prompt : bool, optional
        Whether the contexts of the first tokens reach into the prompt; by default as the engine
        does it (`Scheme.reaches_prompt`: vLLM's contexts begin with -1 and SynthID's with 0). Text
        that is marked in another way cannot be read from its first token on.
    candidates : int or None
        For schemes that hash the target too (`self_salt`): only so many tokens, those of the
        highest scores, are looked at, as in transformers and lm-watermarking; None: all, which
        takes `KGW` a permutation for every token of the vocabulary.

    Returns
    -------
    transformers.LogitsProcessor
        For one call of `generate` at a time; batches, also padded on the left, and several
        sequences a prompt are fine. What it does depends on the ids alone that it is given, so a
        new generation needs no reset. Beams of sampling schemes make no sense and are not stopped.

    Raises
    ------
    ArgumentError
        If an option is out of range or has no effect on this scheme.
    ModelError
        When it is called: if the scheme's vocabulary is larger than the model's (ids that the
        model has beyond it are never marked), or if the model's logits are no numbers.

    Examples
    --------
    >>> import torch
    >>> from radscore.schemes import Keyed
    >>> scheme = Keyed(key=bytes(16), vocab_size=6, gamma=0.5, context_width=1)
    >>> scheme.green_mask([[2]])[0].astype(int).tolist()
    [1, 0, 0, 1, 0, 1]
    >>> logits_processor(scheme, delta=3.0)(torch.tensor([[5, 2]]), torch.zeros(1, 6)).tolist()
    [[3.0, 0.0, 0.0, 3.0, 0.0, 3.0]]
    """
    need("torch", "transformers", what="watermarking")
    from transformers import LogitsProcessor

    kind = type("WatermarkProcessor", (Processor, LogitsProcessor), {"__doc__": Processor.__doc__})
    made: LogitsProcessor = kind(
        _Options(
            scheme=scheme,
            delta=delta,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            prompt_lengths=prompt_lengths,
            pad_token_id=pad_token_id,
            repeated=repeated,
            history=history,
            reach_prompt=reach_prompt,
            candidates=candidates,
        )
    )
    return made


@dataclass(frozen=True)
class _Options:
    """The arguments of `logits_processor`, checked."""

    scheme: Scheme | None
    delta: float | None
    temperature: float
    top_k: int | None
    top_p: float
    seed: int | Sequence[int] | None
    prompt_lengths: Sequence[int] | None
    pad_token_id: int | None
    repeated: Repeated
    history: int | None
    reach_prompt: bool | None
    candidates: int | None

    def __post_init__(self) -> None:
        if self.scheme is not None and not isinstance(self.scheme, Scheme):
            kind = type(self.scheme).__name__
            raise ArgumentError(f"scheme must be a Scheme or None, not {kind}")
        green = self.scheme is not None and self.scheme.core.score_kind == "green"
        if self.delta is not None:
            if not green:
                name = "no scheme" if self.scheme is None else self.scheme.name
                raise ArgumentError(f"delta has no effect with {name}: there are no green lists")
            _number("delta", self.delta, -1e4, 1e4)
        _number("temperature", self.temperature, 0, 1e4)
        if 0 < self.temperature < _COLDEST:
            raise ArgumentError(
                f"temperature must be 0 (the best token) or from {_COLDEST:g} to 10000, not "
                f"{self.temperature!r}"
            )
        if self.temperature == 0 and self.scheme is not None and not green:
            raise ArgumentError(
                f"temperature must be above 0: {self.scheme.name} marks the choice between tokens, "
                "and without chance there is none"
            )
        _number("top_p", self.top_p, 0, 1)
        if self.top_k is not None:
            check_width("top_k", self.top_k, 1, UNBOUNDED)
        if self.candidates is not None:
            check_width("candidates", self.candidates, 1, UNBOUNDED)
        if self.pad_token_id is not None:
            check_width("pad_token_id", self.pad_token_id, 0, 2**32 - 1)
        check_choice("repeated", self.repeated, get_args(Repeated))
        if self.history is not None:
            check_width("history", self.history, 1, UNBOUNDED)
            if self.repeated in ("mark", "skip"):
                raise ArgumentError(f"history has no effect with repeated={self.repeated!r}")

    @property
    def engine(self) -> Engine:
        """What is done with contexts."""
        engine = Engine() if self.scheme is None else self.scheme.engine
        history = {"engine": engine.history, "mark": 0}.get(self.repeated, UNBOUNDED)
        history = history if self.history is None else self.history
        reach = engine.reach_prompt if self.reach_prompt is None else self.reach_prompt
        distinct = UNBOUNDED if self.repeated == "mark" else engine.distinct
        return Engine(history, distinct, reach, engine.fill, self.repeated == "all")


def _number(name: str, value: object, low: float, high: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not low <= value <= high
        or math.isnan(value)
    ):
        raise ArgumentError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


class Processor:
    """Marks the scores of the next token; see `logits_processor`."""

    def __init__(self, options: _Options) -> None:
        self._options = options
        self._scheme = options.scheme
        self._engine = options.engine
        delta = DEFAULT_DELTA if options.delta is None else options.delta
        self._rule = None
        if self._scheme is not None:
            self._rule = rule_of(self._scheme, delta, options.candidates)
        self._prompt: npt.NDArray[np.int64] | None = None
        self._padding: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._length = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores after temperature, top-k, top-p and the mark.

        Parameters
        ----------
        input_ids : LongTensor, shape (n, length)
            Prompts, padded on the left, and what was generated.
        scores : FloatTensor, shape (n, vocabulary of the model)
            Logits.
        """
        import torch

        options = self._options
        ids = input_ids.detach().cpu().numpy()
        self._follow(ids)
        if scores.dtype in (torch.float16, torch.bfloat16):
            scores = scores.float()
        scores = warp(scores, options.temperature, options.top_k, options.top_p)
        _check_numbers(scores)
        if self._rule is not None and self._scheme is not None:
            if scores.shape[1] < self._scheme.vocab_size:
                raise ModelError(
                    f"the model scores {scores.shape[1]} tokens, fewer than the scheme's "
                    f"vocab_size={self._scheme.vocab_size}: it is not the scheme's model"
                )
            contexts, marked = self._contexts(ids)
            if marked.all():
                scores = self._rule.apply(scores, contexts)
            elif marked.any():
                rows = torch.from_numpy(np.flatnonzero(marked)).to(scores.device)
                scores = scores.clone()
                scores[rows] = self._rule.apply(scores[rows], contexts[marked])
        if options.temperature == 0:
            return _only(scores, scores.argmax(-1))
        if options.seed is not None:
            return _only(scores, draw(scores, self._uniforms(len(ids))))
        return scores

    def _follow(self, ids: npt.NDArray[np.int64]) -> None:
        """Finds out where the generated text begins: where the first call of a generation was."""
        n, length = ids.shape
        prompt = self._prompt
        goes_on = prompt is not None and (
            length == self._length + 1
            and n == len(prompt)
            and np.array_equal(ids[:, : prompt.shape[1]], prompt)
        )
        self._length = length
        if goes_on:
            return
        self._prompt = ids.copy()
        lengths = self._options.prompt_lengths
        if lengths is not None:
            array = np.asarray(lengths, dtype=np.int64)
            if array.ndim != 1 or not len(array) or n % len(array):
                raise ArgumentError(
                    f"prompt_lengths must have one entry a prompt; the batch has {n} rows"
                )
            if (array < 0).any() or (array > length).any():
                raise ArgumentError(
                    f"prompt_lengths must be from 0 to {length}, the prompts' width"
                )
            self._padding = length - np.repeat(array, n // len(array))
        elif self._options.pad_token_id is not None:
            real = ids != self._options.pad_token_id
            self._padding = np.where(real.any(1), real.argmax(1), length)
        else:
            self._padding = np.zeros(n, dtype=np.int64)

    def _contexts(
        self, ids: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The context of the next token of each row, and whether it is to be marked."""
        assert self._scheme is not None
        assert self._prompt is not None
        width = self._scheme.window_width - 1
        begin = self._prompt.shape[1]
        n, length = ids.shape
        text = np.full((n, width + length), _NONE, dtype=np.int64)
        text[:, width:] = ids
        text[:, width:][np.arange(length) < self._padding[:, None]] = _NONE
        whole_text = text
        if not self._engine.reach_prompt:
            text = text.copy()
            text[:, width : width + begin] = _NONE
        if self._engine.fill is not None:
            text[text == _NONE] = self._engine.fill
        context = np.ascontiguousarray(text[:, length:])
        low = 0 if self._engine.fill is None else min(self._engine.fill, 0)
        whole = (context >= low) & (context < self._scheme.vocab_size)
        marked: npt.NDArray[np.bool_] = np.all(whole, axis=1)
        if width == 0:  # all contexts are one
            return context, marked
        begun = 0 if self._engine.over_prompt else begin
        if self._engine.over_prompt:
            marked &= length - begin >= width
        if self._engine.history and length > begun:
            first = max(begun, length - self._engine.history)
            past = np.lib.stride_tricks.sliding_window_view(
                (whole_text if self._engine.over_prompt else text)[:, first : length + width - 1],
                width,
                axis=1,
            )
            marked &= ~(past == context[:, None]).all(axis=2).any(axis=1)
        if length - begin >= self._engine.distinct:
            past = np.lib.stride_tricks.sliding_window_view(
                text[:, begin : length + width - 1], width, axis=1
            )
            for row in np.flatnonzero(marked):
                marked[row] = len(np.unique(past[row], axis=0)) < self._engine.distinct
        return context, marked

    def _uniforms(self, n: int) -> list[float]:
        """One number a row that depends on its seed and the number of tokens so far alone."""
        assert self._prompt is not None
        step = self._length - self._prompt.shape[1]
        seed = self._options.seed
        if isinstance(seed, (int, np.integer)):
            names = [f"{seed}/{row}" for row in range(n)]
        else:
            assert seed is not None
            if n != len(seed):
                raise ArgumentError(f"seed must have one entry a row: {n}, not {len(seed)}")
            names = [str(one) for one in seed]
        return [uniform(name, step) for name in names]


def uniform(name: str, step: int) -> float:
    """A number in [0, 1) that depends on a name and a step alone."""
    digest = hashlib.sha256(f"radscore draw/{name}/{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def warp(scores: torch.Tensor, temperature: float, top_k: int | None, top_p: float) -> torch.Tensor:
    """Scores after temperature, top-k and top-p, in this order; what is cut has -inf."""
    import torch

    if temperature not in (0, 1):
        scores = scores / temperature
    vocab = scores.shape[1]
    if top_k is not None and top_k < vocab:
        least = scores.topk(top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p >= 1:
        return scores
    probs = scores.softmax(-1)
    mask = torch.ones_like(scores, dtype=torch.bool)
    rows = torch.arange(len(scores), device=scores.device)
    for size in (*_NUCLEUS, vocab):
        best, order = probs[rows].topk(min(size, vocab), dim=-1)
        found = best.sum(-1) >= top_p
        if size >= vocab:
            found.fill_(value=True)
        # The smallest set of the best tokens that has at least top_p; never an empty one.
        cut = (best.cumsum(-1) - best >= top_p)[found]
        cut[:, 0] = False
        done = torch.ones((len(cut), vocab), dtype=torch.bool, device=scores.device)
        mask[rows[found]] = done.scatter_(1, order[found], cut)
        rows = rows[~found]
        if not len(rows):
            break
    return scores.masked_fill(mask, -torch.inf)


def _check_numbers(scores: torch.Tensor) -> None:
    """Raises unless each row has a finite maximum: no NaN, no +inf, and something to choose."""
    import torch

    wrong = ~torch.isfinite(scores.amax(-1))  # the maximum of a row with a NaN is NaN
    if wrong.any():
        what = "NaN" if scores[wrong].isnan().any() else "infinite, or all of them -inf"
        raise ModelError(
            f"the model's logits are no numbers ({what}), so no token can be chosen: its weights "
            "are damaged, or its arithmetic overflows (float16?)"
        )


def draw(scores: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """A token of each row by the inverse of its distribution function.

    Raises
    ------
    ModelError
        If a row is no distribution; counting what lies below a NaN would choose token 0.
    """
    import torch

    total = scores.double().softmax(-1).cumsum(-1)
    end = total[:, -1]
    if not (torch.isfinite(end) & (end > 0)).all():
        raise ModelError("no token can be drawn: the probabilities of the next token are NaN")
    point = torch.tensor(uniforms, dtype=total.dtype, device=total.device) * end
    point = torch.minimum(point, torch.nextafter(end, torch.zeros_like(end)))
    return (total <= point[:, None]).sum(-1)


def _only(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Scores under which nothing but one token of each row can be chosen."""
    import torch

    return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)
