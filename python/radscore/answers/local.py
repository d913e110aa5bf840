"""Answers of a model on this machine, into the same journal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from radscore.answers.asking import AskReport
from radscore.answers.endpoint import Api, Settings
from radscore.answers.journal import Journal
from radscore.answers.prompts import questions_of
from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from radscore.answers.prompts import Question
    from radscore.models.loading import LanguageModel

__all__ = ["ask_local"]


def ask_local(
    prompts: Sequence[str],
    out: str | os.PathLike[str],
    *,
    model: Any,
    name: str | None = None,
    api: Api = "chat",
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int = 256,
    samples: int = 1,
    seed: int | None = 0,
    batch_size: int = 16,
    accept_changes: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> AskReport:
    """Lets a model of this machine answer prompts; as `ask`, with nothing sent anywhere.

    An answer depends on its question's seed alone, not on the batch that it was made in (but for
    the rounding of the model's arithmetic).

    Parameters
    ----------
    prompts, out, samples, accept_changes, progress, stop
        As in `ask`.
    model : LanguageModel, path or transformers model
        With its tokenizer.
    name : str, optional
        What the records call the model; by default its path.
    api : {"chat", "completions"}
        Whether the tokenizer's chat template is put around a prompt.
    system, top_p, max_tokens
        See `Settings`.
    temperature : float, optional
        1 by default; 0 takes the likeliest token.
    seed : int, optional
        Seeds of all answers are drawn from it; without one they are drawn at random.
    batch_size : int
        Answers made at once; halved where memory does not suffice.

    Returns
    -------
    AskReport

    Raises
    ------
    ModelError
        If the model has no tokenizer, or no chat template where one is needed.
    """
    from radscore.models.loading import as_language_model

    if not prompts:
        raise ArgumentError("prompts must not be empty")
    language = as_language_model(model)
    if language.tokenizer is None:
        raise ModelError(f"model: {language.name} has no tokenizer, so it cannot answer prompts")
    if api == "chat" and not getattr(language.tokenizer, "chat_template", None):
        raise ModelError(
            f"model: {language.name} has no chat template; with api='completions' it goes on with "
            "each prompt as it stands"
        )
    settings = Settings(
        name or language.name,
        api,
        f"local:{language.fingerprint}",
        system,
        temperature,
        top_p,
        check_width("max_tokens", max_tokens, 1, 2**31),
        seed,
    )
    questions = questions_of(prompts, samples=check_width("samples", samples, 1, 10**6), seed=seed)
    with Journal(out, settings.to_dict(), accept_changes=accept_changes) as journal:
        before = sum(question.key in journal.answered for question in questions)
        missing = journal.missing(questions)
        work = _Local(language, settings, journal, progress)
        stopped = work.run(missing, check_width("batch_size", batch_size, 1, 2**16), stop)
        return AskReport(
            n_questions=len(questions),
            n_before=before,
            n_answered=work.n_answered,
            n_failed=sum(work.failures.values()),
            n_left=len(missing) - work.n_answered - sum(work.failures.values()),
            requests=journal.totals.requests,
            prompt_tokens=journal.totals.prompt_tokens,
            completion_tokens=journal.totals.completion_tokens,
            cost=None,
            stopped=stopped,
            failures=dict(work.failures.most_common()),
            cut=journal.cut,
        )


class _Local:
    """One run of a model over the questions that are missing."""

    def __init__(
        self,
        language: LanguageModel,
        settings: Settings,
        journal: Journal,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._language = language
        self._tokenizer: Any = language.tokenizer
        self._settings = settings
        self._journal = journal
        self._progress = progress
        self.n_answered = 0
        self.failures: Counter[str] = Counter()

    def run(
        self, missing: list[Question], batch_size: int, stop: Callable[[], bool] | None
    ) -> str | None:
        """Answers all, or says why not."""
        import torch

        # Of one length or nearly so: what is padded is computed for nothing.
        waiting = sorted(
            ((question, self._ids(question.prompt)) for question in missing),
            key=lambda pair: len(pair[1]),
        )
        while waiting:
            if stop is not None and stop():
                return "interrupted"
            batch = waiting[:batch_size]
            try:
                self._batch(batch)
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    self._fail(*batch[0], "out of memory")
                    waiting = waiting[1:]
                batch_size = max(batch_size // 2, 1)
                continue
            waiting = waiting[batch_size:]
        return None

    def _ids(self, prompt: str) -> list[int]:
        if self._settings.api == "completions":
            return list(self._tokenizer(prompt)["input_ids"])
        messages = [{"role": "user", "content": prompt}]
        if self._settings.system is not None:
            messages.insert(0, {"role": "system", "content": self._settings.system})
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _fail(self, question: Question, ids: list[int], why: str) -> None:
        usage = {"prompt_tokens": len(ids), "completion_tokens": 0}
        self._journal.answer(question, {"error": why, "attempts": 1, "usage": usage})
        self.failures[why] += 1
        if self._progress is not None:
            self._progress(1, 0)

    def _batch(self, batch: list[tuple[Question, list[int]]]) -> None:
        longest = self._language.max_length
        fitting = []
        for question, ids in batch:
            if longest is not None and len(ids) + self._settings.max_tokens > longest:
                self._fail(question, ids, f"longer than the {longest} tokens that the model reads")
            elif not ids:
                self._fail(question, ids, "the prompt has no token to go on from")
            else:
                fitting.append((question, ids))
        if not fitting:
            return
        records = [
            (question, self._record(ids, out))
            for (question, ids), out in zip(fitting, self._generate(fitting), strict=True)
        ]
        self._journal.answers(records)
        self.n_answered += len(records)
        if self._progress is not None:
            n_tokens = sum(record["usage"]["completion_tokens"] for _, record in records)
            self._progress(len(records), n_tokens)

    def _record(self, ids: list[int], out: list[int]) -> dict[str, Any]:
        ends = set(self._ends())
        length = next((i for i, token in enumerate(out) if token in ends), len(out))
        answer = out[:length]
        usage = {"prompt_tokens": len(ids), "completion_tokens": min(length + 1, len(out))}
        return {
            "text": self._tokenizer.decode(answer, skip_special_tokens=True),
            "token_ids": answer,
            "finish_reason": "stop" if length < len(out) else "length",
            "attempts": 1,
            "usage": usage,
        }

    def _ends(self) -> list[int]:
        """The tokens that end an answer."""
        config = getattr(self._language.model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        if ends is None:
            ends = self._tokenizer.eos_token_id
        if ends is None:
            return []
        return [ends] if isinstance(ends, int) else list(ends)

    def _generate(self, batch: list[tuple[Question, list[int]]]) -> list[list[int]]:
        """The new tokens of each question, padded prompts on the left."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        width = max(len(ids) for _, ids in batch)
        ends = self._ends()
        pad = self._tokenizer.pad_token_id
        pad = pad if pad is not None else (ends[0] if ends else 0)
        device = self._language.device
        rows = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros_like(rows)
        for row, (_, ids) in enumerate(batch):
            rows[row, width - len(ids) :] = torch.tensor(ids)
            mask[row, width - len(ids) :] = 1
        processors = LogitsProcessorList(self._processors([question for question, _ in batch]))
        config = GenerationConfig(
            max_new_tokens=self._settings.max_tokens,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=ends or None,
        )
        with torch.inference_mode():
            out = self._language.model.generate(
                input_ids=rows.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=processors,
            )
        return [list(row) for row in out[:, width:].tolist()]

    def _processors(self, questions: list[Question]) -> list[Any]:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        temperature = self._settings.temperature
        temperature = 1.0 if temperature is None else float(temperature)
        if temperature == 0.0:
            return []
        processors: list[Any] = [TemperatureLogitsWarper(temperature)]
        if self._settings.top_p is not None and self._settings.top_p < 1.0:
            processors.append(TopPLogitsWarper(self._settings.top_p))
        return [*processors, _draws(questions)]


def _draws(questions: list[Question]) -> Any:
    """A processor after which the largest score is a draw from softmax, by each row's own seed.

    Adding independent Gumbel noise to logits and taking the largest is sampling.
    """
    import torch
    from transformers import LogitsProcessor

    generators = []
    for question in questions:
        generator = torch.Generator()
        if question.seed is None:
            generator.seed()
        else:
            generator.manual_seed(question.seed)
        generators.append(generator)

    class Draws(LogitsProcessor):
        """Adds the noise."""

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            del input_ids
            size = scores.shape[-1]
            noise = torch.stack(
                [
                    torch.empty(size).exponential_(generator=generator).log_()
                    for generator in generators
                ]
            )
            return scores.float() - noise.to(scores.device)

    return Draws()
