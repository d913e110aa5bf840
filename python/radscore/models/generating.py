"""Writing text with a model, marked or not: in batches, seeded, into a journal that survives."""

from __future__ import annotations

import gc
import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError
from radscore.models.loading import as_language_model
from radscore.models.marking import decides
from radscore.models.processors import DEFAULT_DELTA, logits_processor

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from radscore.answers.prompts import Question
    from radscore.models.loading import LanguageModel
    from radscore.models.processors import Repeated
    from radscore.schemes import Scheme

__all__ = ["GenerateReport", "Sampling", "Written", "generate", "write_texts"]

DEFAULT_BATCH = 16


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how a prompt is put to the model.

    Attributes
    ----------
    max_tokens : int
        Tokens of a text at most; it ends earlier where the model ends it.
    temperature, top_p, top_k
        Applied before the mark. Temperature 0 takes the best token.
    delta : float or None
        What a green token's logit gains; None: 2 for schemes of green lists.
    repeated : {"engine", "mark", "skip", "all"}
        Whether contexts that come again in a text are marked; see `logits_processor`.
    chat : bool
        Whether prompts are put into the chat template of the tokenizer.
    system : str or None
        With `chat`: the system message before the prompt.
    seed : int
        Of all draws. Each text has its own, from this, its prompt and its number.
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
        The prompt, which of its texts this is, and the seed.
    text : str
        The tokens as text, without special ones.
    tokens, prompt_tokens : list of int
        What was generated, without the token that ended it, and what stood before it.
    finish_reason : {"stop", "length"}
        Whether the model ended the text, or `max_tokens` did.
    """

    question: Question
    text: str
    tokens: list[int]
    prompt_tokens: list[int]
    finish_reason: str


@dataclass(frozen=True)
class GenerateReport:
    """What `generate` did.

    Attributes
    ----------
    n_texts : int
        Prompts times samples.
    n_before, n_written, n_left : int
        Stood in the file already; were written now; are missing, because it was stopped.
    n_tokens : int
        Tokens written now.
    batch_size : int
        At the end; smaller than asked for where memory was short.
    cut : bool
        Whether the file's last line was torn, and cut off.
    notes : tuple of str
        What one may want to know about the texts: that samples of a prompt are alike.
    """

    n_texts: int
    n_before: int
    n_written: int
    n_left: int
    n_tokens: int
    batch_size: int
    cut: bool
    notes: tuple[str, ...] = ()


def generate(
    model: Any,
    prompts: Sequence[str],
    out: str | os.PathLike[str],
    scheme: Scheme | None = None,
    *,
    sampling: Sampling | None = None,
    samples: int = 1,
    batch_size: int = DEFAULT_BATCH,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> GenerateReport:
    """Writes a text after each prompt, into a file that only grows.

    What stands in the file is not written again: after an error, Ctrl-C or ``kill -9`` the same
    call goes on. Every line has the prompt, the text, its token ids (``tokens``, and
    ``prompt_tokens``), the seed, and the settings: fingerprints of model, tokenizer and scheme
    and how tokens were chosen; never the key. A text depends on model, settings and prompt, not on
    the others of its batch, but for rounding.

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        It needs its tokenizer: give a path, or what `load_model` returns.
    prompts : sequence of str
        See `radscore.answers.read_prompts`.
    out : path
        JSON lines. A file that was made with other settings is refused.
    scheme : Scheme, optional
        The mark; without it the text is not marked.
    sampling : Sampling, optional
        How tokens are chosen.
    samples : int
        Texts after each prompt. Schemes of a single Gumbel-max key leave nothing to chance after
        a context, so write the same text again and again, at least until a context repeats: see
        the report's notes. More prompts give more text there, not more samples.
    batch_size : int
        Texts at once; halved where memory does not suffice.
    progress : callable, optional
        Called with the number of texts just written and of their tokens.
    stop : callable, optional
        Looked at between batches: where it returns True the rest is left.

    Raises
    ------
    ArgumentError
        If an argument is not allowed, a prompt is too long, or `out` has other settings.
    ModelError
        If the model cannot write.
    StateError
        If `out` holds something else, or another process writes to it.
    """
    from radscore.answers.journal import Journal
    from radscore.answers.prompts import questions_of

    how = sampling or Sampling()
    check_width("samples", samples, 1, 10**6)
    check_width("batch_size", batch_size, 1, 2**20)
    writer = _Writer(as_language_model(model), scheme, how, batch_size)
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    questions = questions_of(prompts, samples=samples, seed=how.seed)
    written = tokens = 0
    with _journal(Journal, out, writer.settings) as journal:
        missing = journal.missing(questions)
        for texts in writer.write(missing, stop):
            journal.answers([(one.question, record_of(one)) for one in texts])
            written += len(texts)
            tokens += sum(len(one.tokens) for one in texts)
            if progress is not None:
                progress(len(texts), sum(len(one.tokens) for one in texts))
        return GenerateReport(
            n_texts=len(questions),
            n_before=len(questions) - len(missing),
            n_written=written,
            n_left=len(missing) - written,
            n_tokens=tokens,
            batch_size=writer.batch_size,
            cut=journal.cut,
            notes=() if samples == 1 else tuple(_alike(scheme, how)),
        )


def write_texts(
    model: Any,
    questions: Sequence[Question],
    scheme: Scheme | None = None,
    *,
    sampling: Sampling | None = None,
    batch_size: int = DEFAULT_BATCH,
    stop: Callable[[], bool] | None = None,
) -> Iterator[list[Written]]:
    """As `generate`, but gives the texts batch by batch instead of keeping them.

    Parameters
    ----------
    questions : sequence of Question
        See `radscore.answers.prompts.questions_of`; their seeds are used.
    model, scheme, sampling, batch_size, stop
        As in `generate`.
    """
    writer = _Writer(as_language_model(model), scheme, sampling or Sampling(), batch_size)
    return writer.write(questions, stop)


def record_of(one: Written) -> dict[str, Any]:
    """What a journal keeps of a text."""
    return {
        "text": one.text,
        "tokens": one.tokens,
        "prompt_tokens": one.prompt_tokens,
        "finish_reason": one.finish_reason,
        "attempts": 1,
        "usage": {"prompt_tokens": len(one.prompt_tokens), "completion_tokens": len(one.tokens)},
    }


def identity(model: LanguageModel, *, chat: bool) -> dict[str, Any]:
    """What else of a model than its weights its texts depend on, for the settings of journals."""
    return {
        "tokenizer": _tokenizer_hash(model.tokenizer, chat=chat),
        "end_tokens": end_tokens(model),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _tokenizer_hash(tokenizer: Any, *, chat: bool) -> str:
    """16 hexadecimal digits of a SHA-256 over how text becomes ids and back."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        words = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
    else:
        words = json.loads(backend.to_str())
        for state in ("truncation", "padding"):  # of the latest call
            words.pop(state, None)
    template = tokenizer.chat_template if chat else None
    whole = [words, tokenizer.special_tokens_map, template]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def check_tokenizer(model: LanguageModel) -> None:
    """Raises a ModelError where a model has no tokenizer."""
    if model.tokenizer is None:
        raise ModelError(
            f"model: {model.name} has no tokenizer, which the prompts need; give one with "
            "tokenizer="
        )


def _alike(scheme: Scheme | None, how: Sampling) -> Iterator[str]:
    """Why several texts after one prompt are the same, if they are."""
    if how.temperature == 0:
        yield "temperature 0 leaves nothing to chance: all samples of a prompt are the same text"
    elif scheme is not None and decides(scheme):
        yield (
            f"{scheme.name} leaves nothing to chance where it marks: the samples of a prompt are "
            "the same text, at least up to the first context that is not marked (more prompts "
            "give more text, more samples do not)"
        )


@contextmanager
def _journal(kind: Any, path: Any, settings: dict[str, Any]) -> Iterator[Any]:
    try:
        journal = kind(path, settings)
    except ArgumentError as error:  # which offers to mix; texts of one file are of one kind
        message = str(error).partition(": name another")[0]
        raise ArgumentError(f"{message}: name another out, or the same settings") from None
    with journal:
        yield journal


class _Writer:
    """A model that writes batches of texts."""

    def __init__(
        self, model: LanguageModel, scheme: Scheme | None, sampling: Sampling, batch_size: int
    ) -> None:
        self._model = model
        self._scheme = scheme
        self._sampling = sampling
        self.batch_size = batch_size
        sampling.processor(scheme, None, None)  # which checks them
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
        """What the texts depend on, without the key."""
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
        """The texts, batch by batch, in the order of the questions."""
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
                raise ArgumentError("prompts: a prompt is empty, and the tokenizer has no start")
            ids = [int(start)]
        if max(ids) >= self._model.vocab_size:
            raise ModelError(
                f"the tokenizer is not the model's: it gives the id {max(ids)}, but "
                f"{self._model.name} scores {self._model.vocab_size} tokens"
            )
        longest = self._model.max_length
        if longest is not None and len(ids) + how.max_tokens > longest:
            raise ArgumentError(
                f"prompts: {question.prompt[:40]!r} has {len(ids)} tokens, and with "
                f"{how.max_tokens} more (max_tokens) it is beyond the model's {longest}"
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
        network, ends = self._model.model, end_tokens(self._model)
        with torch.inference_mode(), plain_generation(network):
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


def end_tokens(model: LanguageModel) -> list[int]:
    """The ids that end a text: the model's own, and the tokenizer's."""
    found: list[int] = []
    for holder in (getattr(model.model, "generation_config", None), model.tokenizer):
        ends = getattr(holder, "eos_token_id", None)
        found += ends if isinstance(ends, (list, tuple)) else [ends] if ends is not None else []
    return sorted({int(end) for end in found if 0 <= int(end) < model.vocab_size})


@contextmanager
def plain_generation(network: Any) -> Iterator[None]:
    """Without a model's own penalties and cuts, which would change the draws unseen."""
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on a GPU or on the CPU."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def release_memory() -> None:
    """Gives back what a failed attempt held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
