"""Writing text with a model: how tokens are chosen, and batches that shrink when memory is short.

`generate` and `ask_local` keep what is written here in a journal.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError
from radscore.models.memory import out_of_memory, release_memory
from radscore.models.processors import DEFAULT_DELTA, logits_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from radscore.models.loading import LanguageModel
    from radscore.models.processors import Repeated
    from radscore.models.questions import Question
    from radscore.schemes import Scheme

__all__ = ["Sampling", "TextWriter", "Written", "check_tokenizer", "identity"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how a prompt is put to the model.

    Attributes
    ----------
    max_tokens : int
        Longest text, in tokens; the model may end it earlier.
    temperature, top_p, top_k
        Applied before the mark. Temperature 0 takes the best token.
    delta : float or None
        Added to the logit of a green token; None is 2 for schemes with green lists.
    repeated : {"engine", "mark", "skip", "all"}
        Whether contexts that repeat within a text are marked again; see `logits_processor`.
    chat : bool
        Whether to put prompts into the tokenizer's chat template.
    system : str or None
        With `chat`: the system message before the prompt.
    seed : int
        Seed of all draws. Each text derives its own from this, its prompt and its sample number.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    delta: float | None = None
    repeated: Repeated = "engine"
    chat: bool = False
    system: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_width("max_tokens", self.max_tokens, 1, 2**31)
        check_width("seed", self.seed, -(2**63), 2**64 - 1)
        if self.system is not None and not self.chat:
            raise ArgumentError("system has no effect without chat")

    def processor(
        self, scheme: Scheme | None, seeds: Sequence[int] | None, lengths: Sequence[int] | None
    ) -> Any:
        """The logits processor for prompts of these lengths."""
        return logits_processor(
            scheme,
            delta=self.delta,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repeated=self.repeated,
            seed=seeds,
            prompt_lengths=lengths,
        )


@dataclass(frozen=True)
class Written:
    """A text that a model wrote.

    Attributes
    ----------
    question : Question
        The prompt, which of its samples this is, and the seed.
    text : str
        The tokens as text, without special ones.
    tokens, prompt_tokens : list of int
        What was generated, without the token that ended it, and what preceded it.
    finish_reason : {"stop", "length"}
        Whether the model ended the text, or `max_tokens` did.
    """

    question: Question
    text: str
    tokens: list[int]
    prompt_tokens: list[int]
    finish_reason: str

    def record(self) -> dict[str, Any]:
        """What a journal keeps of it."""
        n_prompt, n_written = len(self.prompt_tokens), len(self.tokens)
        return {
            "text": self.text,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "finish_reason": self.finish_reason,
            "attempts": 1,
            "usage": {"prompt_tokens": n_prompt, "completion_tokens": n_written},
        }


class TextWriter:
    """A model that answers questions batch by batch.

    A text depends on the model, the sampling and its question, not on the rest of its batch
    (except for rounding), so batches can be of any size.

    Parameters
    ----------
    model : LanguageModel
        With a tokenizer.
    scheme : Scheme or None
        The mark, if any.
    sampling : Sampling
    batch_size : int
        Texts at once.

    Attributes
    ----------
    batch_size : int
        Halved whenever memory runs out.

    Raises
    ------
    ArgumentError
        If the sampling does not go with the scheme.
    ModelError
        If the model cannot write, or is not the scheme's.
    """

    def __init__(
        self, model: LanguageModel, scheme: Scheme | None, sampling: Sampling, batch_size: int
    ) -> None:
        self._model = model
        self._scheme = scheme
        self._sampling = sampling
        self.batch_size = check_width("batch_size", batch_size, 1, 2**20)
        sampling.processor(scheme, None, None)  # checks that they go together
        check_tokenizer(model)
        if scheme is not None and scheme.vocab_size > model.vocab_size:
            raise ModelError(
                f"model: {model.name} scores {model.vocab_size} tokens, fewer than the scheme's "
                f"vocab_size={scheme.vocab_size}: it is not the scheme's model"
            )
        if not hasattr(model.model, "generate"):
            raise ModelError(f"model: {model.name} cannot generate text")
        if sampling.chat and not getattr(model.tokenizer, "chat_template", None):
            raise ModelError(f"model: the tokenizer of {model.name} has no chat template")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the texts depend on except the questions and the key."""
        how = asdict(self._sampling)
        scheme = self._scheme
        if scheme is not None and scheme.core.score_kind == "green" and how["delta"] is None:
            how["delta"] = DEFAULT_DELTA
        public = None if scheme is None else json.loads(json.dumps(scheme.to_dict(), default=str))
        return {
            "model": self._model.fingerprint,
            "scheme": public,
            "fingerprint": None if scheme is None else scheme.fingerprint,
            **how,
            **identity(self._model, chat=self._sampling.chat),
        }

    def write(
        self, questions: Sequence[Question], stop: Callable[[], bool] | None = None
    ) -> Iterator[list[Written]]:
        """Yields the texts batch by batch, in the order of the questions, until `stop` is true."""
        prompts = [self._encode(question) for question in questions]
        first = 0
        while first < len(questions) and not (stop is not None and stop()):
            end = first + self.batch_size
            try:
                texts = self._batch(questions[first:end], prompts[first:end])
            except Exception as error:
                if not out_of_memory(error):
                    raise
                texts = None
            if texts is None:  # outside of the handler, whose traceback holds the tensors
                self._shrink(len(questions[first:end]), questions[first])
                continue
            first = end
            yield texts

    def check(self, questions: Sequence[Question]) -> None:
        """Raises what `write` would say of a prompt, before anything is written."""
        for question in questions:
            self._encode(question)

    def _shrink(self, size: int, question: Question) -> None:
        if size == 1:
            raise ModelError(
                f"out of memory with a single text of {self._sampling.max_tokens} tokens after "
                f"the prompt {question.prompt[:40]!r}; lower max_tokens"
            )
        self.batch_size = size // 2
        release_memory()

    def _encode(self, question: Question) -> list[int]:
        """The token ids of a prompt."""
        tokenizer, how = self._model.tokenizer, self._sampling
        assert tokenizer is not None
        if how.chat:
            messages = [{"role": "user", "content": question.prompt}]
            if how.system is not None:
                messages.insert(0, {"role": "system", "content": how.system})
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
        else:
            ids = tokenizer(question.prompt)["input_ids"]
        ids = [int(token) for token in ids]
        if not ids:
            start = tokenizer.bos_token_id
            start = tokenizer.eos_token_id if start is None else start
            if start is None:
                raise ArgumentError(
                    "prompts: a prompt is empty, and the tokenizer has no start token"
                )
            ids = [int(start)]
        if max(ids) >= self._model.vocab_size:
            raise ModelError(
                f"the tokenizer is not the model's: it gives the id {max(ids)}, but "
                f"{self._model.name} scores {self._model.vocab_size} tokens"
            )
        longest = self._model.max_length
        if longest is not None and len(ids) + how.max_tokens > longest:
            raise ArgumentError(
                f"prompts: {question.prompt[:40]!r} has {len(ids)} tokens, and {how.max_tokens} "
                f"more (max_tokens) exceed the model's {longest}"
            )
        return ids

    def _batch(self, questions: Sequence[Question], prompts: Sequence[list[int]]) -> list[Written]:
        import torch

        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        seeds = [self._sampling.seed if one.seed is None else one.seed for one in questions]
        network, ends = self._model.model, _end_tokens(self._model)
        with torch.inference_mode(), _plain_generation(network):
            out = network.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=self._sampling.max_tokens,
                do_sample=False,  # the processor draws
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else 0,
                logits_processor=[self._sampling.processor(self._scheme, seeds, lengths)],
            )
        rows = out[:, width:].tolist()
        return [self._written(*one, ends) for one in zip(questions, prompts, rows, strict=True)]

    def _written(
        self, question: Question, prompt: list[int], row: list[int], ends: list[int]
    ) -> Written:
        assert self._model.tokenizer is not None
        end = next((i for i, token in enumerate(row) if token in ends), None)
        tokens = row[:end]
        text = self._model.tokenizer.decode(tokens, skip_special_tokens=True)
        return Written(question, text, tokens, prompt, "length" if end is None else "stop")


def check_tokenizer(model: LanguageModel) -> None:
    """Raises `ModelError` if a model has no tokenizer."""
    if model.tokenizer is None:
        raise ModelError(
            f"model: {model.name} has no tokenizer, which prompts need; give one with tokenizer="
        )


def identity(model: LanguageModel, *, chat: bool) -> dict[str, Any]:
    """What a model's texts depend on besides its weights, for the settings of journals."""
    return {
        "tokenizer": _tokenizer_hash(model.tokenizer, chat=chat),
        "end_tokens": _end_tokens(model),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _tokenizer_hash(tokenizer: Any, *, chat: bool) -> str:
    """64 hexadecimal digits, a SHA-256 over how text becomes ids and back."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        words = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
    else:
        words = json.loads(backend.to_str())
        for state in ("truncation", "padding"):  # left over from the latest call
            words.pop(state, None)
    template = tokenizer.chat_template if chat else None
    whole = [words, tokenizer.special_tokens_map, template]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _end_tokens(model: LanguageModel) -> list[int]:
    """The ids that end a text: the model's own and the tokenizer's."""
    found: list[int] = []
    for holder in (getattr(model.model, "generation_config", None), model.tokenizer):
        ends = getattr(holder, "eos_token_id", None)
        found += ends if isinstance(ends, (list, tuple)) else [ends] if ends is not None else []
    return sorted({int(end) for end in found if 0 <= int(end) < model.vocab_size})


@contextmanager
def _plain_generation(network: Any) -> Iterator[None]:
    """Without the model's own penalties and cuts, which would silently change the draws."""
    import transformers

    library: Any = transformers
    inner = network.get_base_model() if hasattr(network, "get_base_model") else None
    kept = [
        (holder, holder.generation_config)
        for holder in (network, inner)
        if holder is not None and getattr(holder, "generation_config", None) is not None
    ]
    try:
        for holder, _ in kept:
            holder.generation_config = library.GenerationConfig()
        yield
    finally:
        for holder, config in kept:
            holder.generation_config = config
