"""`generate`: a text after each prompt, marked or not, in a journal that survives being killed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radscore.documents import check_width
from radscore.errors import ArgumentError
from radscore.models.journal import Journal
from radscore.models.loading import as_language_model
from radscore.models.marking import decides
from radscore.models.questions import questions_of
from radscore.models.writing import Sampling, TextWriter, Written
from radscore.progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from radscore.models.questions import Question
    from radscore.schemes import Scheme

__all__ = ["GenerateReport", "generate", "write_texts"]

DEFAULT_BATCH = 16


@dataclass(frozen=True)
class GenerateReport:
    """What `generate` did.

    Attributes
    ----------
    n_texts : int
        Prompts times samples.
    n_before, n_written, n_left : int
        Texts that were in the file already; written now; missing, because it was stopped.
    n_tokens : int
        Tokens written now.
    batch_size : int
        At the end; smaller than asked for if memory was short.
    cut : bool
        Whether a torn last line was cut off the file.
    notes : tuple of str
        What is good to know about the texts.
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
    fresh: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> GenerateReport:
    """Writes a text after each prompt, to an append-only file.

    Texts that are in the file already are not written again: after an error, Ctrl-C or ``kill
    -9`` the same call continues. Every line holds the prompt, the text, its token ids (``tokens``,
    and ``prompt_tokens``), the seed, and the settings: fingerprints of model, tokenizer and scheme
    and how tokens were chosen; never the key. A text depends on model, settings and prompt, not on
    the rest of its batch, except for rounding.

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        It needs a tokenizer: give a path, or what `load_model` returns.
    prompts : sequence of str
        See `radscore.answers.read_prompts`.
    out : path
        JSON lines. A file that was made with other settings is refused.
    scheme : Scheme, optional
        The mark; without it the text is not marked.
    sampling : Sampling, optional
        How tokens are chosen.
    samples : int
        Texts per prompt. Schemes with a single Gumbel-max key leave nothing to chance after a
        context, so they write the same text again and again, at least until a context repeats:
        see the report's notes. There, more prompts give more text; more samples do not.
    batch_size : int
        Texts at once; halved whenever memory runs out.
    fresh : bool
        Whether to start over, dropping the texts that are in `out`.
    force : bool
        The same, even if `out` is something else.
    progress : callable, optional
        Called with a `Progress` after every batch: texts done, texts in all, and tokens in `out`.
    stop : callable, optional
        Asked between batches; once it returns True, the rest is left.

    Raises
    ------
    ArgumentError
        If an argument is not allowed, a prompt is too long, or `out` has other settings.
    ModelError
        If the model cannot write.
    StateError
        If `out` is not such a file, or another process is writing to it.
    """
    how = sampling or Sampling()
    check_width("samples", samples, 1, 10**6)
    writer = TextWriter(as_language_model(model), scheme, how, batch_size)
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    questions = questions_of(prompts, samples=samples, seed=how.seed)
    written = tokens = 0
    with Journal(out, writer.settings, fresh=fresh, force=force) as journal:
        missing = journal.missing(questions)
        before = len(questions) - len(missing)
        for texts in writer.write(missing, stop):
            journal.answers([(one.question, one.record()) for one in texts])
            written += len(texts)
            tokens += sum(len(one.tokens) for one in texts)
            if progress is not None:
                done = before + written
                progress(Progress(done, len(questions), journal.usage.completion_tokens))
        return GenerateReport(
            n_texts=len(questions),
            n_before=before,
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
    """Like `generate`, but yields the texts batch by batch instead of keeping them.

    Parameters
    ----------
    questions : sequence of Question
        See `radscore.models.questions.questions_of`; their seeds are used.
    model, scheme, sampling, batch_size, stop
        As in `generate`.
    """
    writer = TextWriter(as_language_model(model), scheme, sampling or Sampling(), batch_size)
    return writer.write(questions, stop)


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
