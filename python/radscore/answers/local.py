"""`ask_local`: answers of a model on this machine, in a journal like those of `ask`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from radscore.answers.asking import AskReport
from radscore.answers.samples import repeats_note
from radscore.answers.settings import Api, Settings
from radscore.documents import check_width
from radscore.errors import ArgumentError, ModelError
from radscore.models.journal import Journal
from radscore.models.loading import as_language_model
from radscore.models.questions import questions_of
from radscore.models.writing import Sampling, TextWriter, check_tokenizer, identity
from radscore.progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

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
    fresh: bool = False,
    force: bool = False,
    accept_changes: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> AskReport:
    """Has a model on this machine answer prompts; like `ask`, with nothing sent anywhere.

    An answer depends on its question's seed, not on the batch that it was made in (except for
    rounding).

    Parameters
    ----------
    prompts, out, samples, fresh, force, accept_changes, progress
        As in `ask`.
    model : LanguageModel, path or transformers model
        With its tokenizer.
    name : str, optional
        What the records call the model; by default its path.
    api : {"chat", "completions"}
        Whether to put prompts into the tokenizer's chat template.
    system, top_p, max_tokens
        See `Settings`.
    temperature : float, optional
        1 by default; 0 takes the likeliest token.
    seed : int, optional
        The seed of each answer is derived from it; without one, from a random one.
    batch_size : int
        Answers made at once; halved whenever memory runs out.
    stop : callable, optional
        Asked between batches; once it returns True, the rest is left.

    Returns
    -------
    AskReport

    Raises
    ------
    ModelError
        If the model has no tokenizer, or no chat template where one is needed.
    ArgumentError
        If the journal was made with other settings, which includes another model, tokenizer, chat
        template or precision (float32, bfloat16).
    """
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    language = as_language_model(model)
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
    check_tokenizer(language)
    if api == "chat" and not getattr(language.tokenizer, "chat_template", None):
        raise ModelError(
            f"model: {language.name} has no chat template; with api='completions' it continues "
            "each prompt as it stands"
        )
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        chat=api == "chat",
        system=system,
    )
    writer = TextWriter(language, None, sampling, batch_size)
    whole = {**settings.to_dict(), **identity(language, chat=sampling.chat)}
    drawn = secrets.randbits(31) if seed is None else seed
    questions = questions_of(prompts, samples=check_width("samples", samples, 1, 10**6), seed=drawn)
    n_answered = 0
    with Journal(out, whole, fresh=fresh, force=force, accept_changes=accept_changes) as journal:
        missing = journal.missing(questions)
        before = len(questions) - len(missing)
        # similar lengths next to each other: padding costs time
        ordered = sorted(missing, key=lambda question: len(question.prompt))
        for texts in writer.write(ordered, stop):
            journal.answers([(one.question, one.record()) for one in texts])
            n_answered += len(texts)
            if progress is not None:
                done = before + n_answered
                progress(Progress(done, len(questions), journal.usage.completion_tokens))
        return AskReport(
            n_questions=len(questions),
            n_before=before,
            n_answered=n_answered,
            n_failed=0,
            n_left=len(missing) - n_answered,
            requests=journal.usage.requests,
            prompt_tokens=journal.usage.prompt_tokens,
            completion_tokens=journal.usage.completion_tokens,
            stopped="interrupted" if n_answered < len(missing) else None,
            cut=journal.cut,
            notes=tuple(filter(None, [repeats_note(journal.texts(), sampling.temperature)])),
        )
