"""`ask`: puts questions to a model behind an API, and keeps the answers in a journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radscore.answers.endpoint import Endpoint
from radscore.answers.limits import Budget, Limits
from radscore.answers.probing import Findings, StoppedError, probe
from radscore.answers.samples import repeats_note
from radscore.answers.settings import Api, Settings, api_key, endpoint_url
from radscore.answers.workers import Workers
from radscore.documents import check_width
from radscore.errors import ArgumentError
from radscore.models.journal import Journal, Usage
from radscore.models.questions import questions_of
from radscore.progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from radscore.models.questions import Question

__all__ = ["AskReport", "ask"]


@dataclass(frozen=True)
class AskReport:
    """What became of the questions.

    Attributes
    ----------
    n_questions : int
        Prompts times samples.
    n_before : int
        Questions that the journal had an answer to.
    n_answered, n_failed, n_left : int
        Questions that were answered now; that failed now, which the journal records; that were
        not asked, or not to the end.
    requests, prompt_tokens, completion_tokens : int
        Over all records of the journal.
    cost : float or None
        The same in money, if prices were given.
    stopped : str or None
        Why questions are left.
    failures : dict
        How often each reason for a failure occurred, the most frequent first.
    cut : bool
        Whether the journal's last line was torn, and cut off.
    n_empty, n_refused : int
        Answers of now without text (cut off in their reasoning, or calls of tools), and refusals
        by the model or its provider's filter. They are answers, and not asked for again.
    probe : dict or None
        What the endpoint's log-probabilities are, if they were asked for; see `Findings`.
    notes : tuple of str
        What is good to know about the answers in the journal.
    """

    n_questions: int
    n_before: int
    n_answered: int
    n_failed: int
    n_left: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None
    stopped: str | None = None
    failures: dict[str, int] = field(default_factory=dict)
    cut: bool = False
    n_empty: int = 0
    n_refused: int = 0
    probe: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def ask(
    prompts: Sequence[str],
    out: str | os.PathLike[str],
    *,
    endpoint: str,
    model: str,
    api: Api = "chat",
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int = 256,
    samples: int = 1,
    seed: int | None = 0,
    extra: dict[str, Any] | None = None,
    logprobs: int | None = None,
    limits: Limits | None = None,
    max_requests: int | None = None,
    max_tokens_total: int | None = None,
    max_cost: float | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    fresh: bool = False,
    force: bool = False,
    accept_changes: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> AskReport:
    """Asks a model behind an OpenAI-compatible endpoint, and writes its answers to a journal.

    What the journal holds is not asked again: after an error, Ctrl-C or ``kill -9`` the same call
    asks only what is missing. `open_answers` reads the journal.

    Parameters
    ----------
    prompts : sequence of str
        See `read_prompts`.
    out : path
        The journal, JSON lines; see `Journal`.
    endpoint : str
        Base URL, such as ``http://127.0.0.1:8000/v1``.
    model : str
        The model's name there.
    api, system, temperature, top_p, max_tokens, seed, extra
        See `Settings`.
    logprobs : int, optional
        How many of the likeliest tokens to ask for at each position of the answers, with their
        log-probabilities. A few requests before the first question find out what the endpoint's
        are (see `Findings`). Temperature and top_p are then 1, unless given.
    samples : int
        Answers per prompt, each with a seed of its own.
    limits : Limits, optional
        Concurrency, rates, retries and timeout.
    max_requests, max_tokens_total, max_cost, price_in, price_out : optional
        See `Budget`; they cover all runs that wrote to this journal.
    api_key_env : str
        Environment variable with the API key. The key is written nowhere; white space around it
        is ignored.
    fresh : bool
        Whether to start over, dropping the answers that are in `out`.
    force : bool
        The same, even if `out` is something else.
    accept_changes : bool
        Whether to continue although the journal's answers were asked for with other settings.
    progress : callable, optional
        Called with a `Progress` after every question: questions done, questions in all, and
        tokens of the journal's answers.
    stop : callable, optional
        Asked several times a second; once it returns True, nothing more is sent and requests
        under way are waited for.

    Returns
    -------
    AskReport

    Raises
    ------
    ArgumentError
        If an argument is not allowed, there are no prompts, or settings changed.
    MissingExtraError
        If the `openai` library is not installed.
    StateError
        If `out` is not a journal, or another process is writing to it.
    ModelError
        If the server gives no log-probabilities, or not as many as `logprobs`.
    """
    if logprobs is not None:
        temperature, top_p = (1.0 if one is None else one for one in (temperature, top_p))
    settings = Settings(
        model,
        api,
        endpoint_url(endpoint),
        system,
        temperature,
        top_p,
        check_width("max_tokens", max_tokens, 1, 2**31),
        seed,
        extra or {},
        logprobs,
    )
    limits = limits or Limits()
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    questions = questions_of(prompts, samples=check_width("samples", samples, 1, 10**6), seed=seed)
    # everything that can be wrong is found before there is a journal
    budget = Budget(Usage(), max_requests, max_tokens_total, max_cost, price_in, price_out)
    client = Endpoint(settings, api_key(api_key_env), limits.timeout)
    with Journal(
        out, settings.to_dict(), fresh=fresh, force=force, accept_changes=accept_changes
    ) as journal:
        budget.usage = journal.usage
        missing = journal.missing(questions)
        before = len(questions) - len(missing)

        def show() -> None:
            done = before + workers.n_answered + workers.n_failed
            if progress is not None:
                progress(Progress(done, len(questions), journal.usage.completion_tokens))

        workers = Workers(
            client, settings, journal=journal, budget=budget, limits=limits, progress=show
        )
        found = Findings.of(journal.probe)
        if missing:
            found = asyncio.run(_run(workers, client, missing, stop, found))
        return AskReport(
            n_questions=len(questions),
            n_before=before,
            n_answered=workers.n_answered,
            n_failed=workers.n_failed,
            n_left=len(missing) - workers.n_answered - workers.n_failed,
            requests=journal.usage.requests,
            prompt_tokens=journal.usage.prompt_tokens,
            completion_tokens=journal.usage.completion_tokens,
            cost=budget.cost,
            stopped=workers.stopped,
            failures=dict(workers.failures.most_common()),
            cut=journal.cut,
            n_empty=workers.n_empty,
            n_refused=workers.n_refused,
            probe=None if found is None else found.record(),
            notes=_notes(journal, settings, workers, found),
        )


def _notes(
    journal: Journal, settings: Settings, workers: Workers, findings: Findings | None
) -> tuple[str, ...]:
    found = [repeats_note(journal.texts(), settings.temperature)]
    if findings is not None:
        found += findings.notes(settings.temperature, settings.top_p)
    if workers.n_unlisted:
        found.append(
            f"{workers.n_unlisted:,} of {workers.n_answered:,} answers came without "
            "log-probabilities; behind a router, another provider may have answered"
        )
    if workers.n_empty:
        found.append(
            f"{workers.n_empty:,} of {workers.n_answered:,} answers have no text; where reasoning "
            "used up all tokens, a larger max_tokens= helps"
        )
    if workers.n_hidden:
        found.append(
            f"the server repeated the API key in {workers.n_hidden:,} answers; it is replaced by "
            "(key) there"
        )
    return tuple(filter(None, found))


async def _run(
    workers: Workers,
    client: Endpoint,
    missing: list[Question],
    stop: Callable[[], bool] | None,
    found: Findings | None,
) -> Findings | None:
    try:
        if found is None and workers.settings.logprobs is not None:
            try:
                found = await probe(client, workers, stop)
            except StoppedError as reason:
                workers.stopped = str(reason)
                return None
        client.ids = found is not None and found.ids
        await workers.run(missing, stop)
    finally:
        await client.close()
    return found
