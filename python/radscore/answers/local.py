"""Answers of a model on this machine, into the same journal."""

from __future__ import annotations

import secrets
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

    from radscore.models.generating import Written

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
    from radscore.models.generating import Sampling, write_texts
    from radscore.models.loading import as_language_model

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
    if api == "chat" and not getattr(language.tokenizer, "chat_template", None):
        raise ModelError(
            f"model: {language.name} has no chat template; with api='completions' it goes on with "
            "each prompt as it stands"
        )
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        chat=api == "chat",
        system=system,
    )
    drawn = secrets.randbits(31) if seed is None else seed
    questions = questions_of(prompts, samples=check_width("samples", samples, 1, 10**6), seed=drawn)
    n_answered = 0
    with Journal(out, settings.to_dict(), accept_changes=accept_changes) as journal:
        missing = journal.missing(questions)
        # Of one length or nearly so: what is padded is computed for nothing.
        ordered = sorted(missing, key=lambda question: len(question.prompt))
        for texts in write_texts(
            language, ordered, sampling=sampling, batch_size=batch_size, stop=stop
        ):
            journal.answers([(one.question, _record(one)) for one in texts])
            n_answered += len(texts)
            if progress is not None:
                progress(len(texts), sum(len(one.tokens) for one in texts))
        return AskReport(
            n_questions=len(questions),
            n_before=len(questions) - len(missing),
            n_answered=n_answered,
            n_failed=0,
            n_left=len(missing) - n_answered,
            requests=journal.totals.requests,
            prompt_tokens=journal.totals.prompt_tokens,
            completion_tokens=journal.totals.completion_tokens,
            cost=None,
            stopped="interrupted" if n_answered < len(missing) else None,
            failures={},
            cut=journal.cut,
        )


def _record(one: Written) -> dict[str, Any]:
    return {
        "text": one.text,
        "token_ids": one.tokens,
        "finish_reason": one.finish,
        "attempts": 1,
        "usage": {
            "prompt_tokens": len(one.prompt_tokens),
            "completion_tokens": len(one.tokens),
        },
    }
