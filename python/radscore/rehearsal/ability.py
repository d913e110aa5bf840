"""Does Bob's model work? Questions made from held-out text, and real benchmarks by lm-eval."""

from __future__ import annotations

import math
import random
import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.documents import Documents
from radscore.errors import ArgumentError, ModelError, line_of
from radscore.extras import need
from radscore.models.generating import write_texts
from radscore.models.loading import as_language_model
from radscore.models.losses import as_documents, cut, document_losses
from radscore.models.questions import questions_of
from radscore.models.writing import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from radscore.documents import DocumentsLike
    from radscore.models.loading import LanguageModel

__all__ = ["BENCHMARKS", "ability", "benchmarks", "side_by_side"]

#: The tasks of the paper's quality table, as lm-eval names them.
BENCHMARKS = ("nq_open", "triviaqa", "gsm8k", "humaneval", "mmlu")
N_CHOICES = 4
#: Pieces that the loss is measured on.
_MOST_PIECES = 500
#: Tokens in which a short answer must stand.
_MOST = 8
_WORD = re.compile(r"[^\W_]+(?:[-'’.,][^\W_]+)*")
_SENTENCE_END = re.compile(r"([^\W_]+(?:[-'’][^\W_]+)*)[.!?](?=\s|$)")
_CLOZE_WORDS, _CLOZE_CHARACTERS = 80, 1000


def ability(
    model: LanguageModel,
    texts: DocumentsLike,
    *,
    seed: int,
    n_questions: int = 200,
    passage: int = 64,
    continuation: int = 32,
) -> dict[str, Any]:
    """What a model makes of held-out text, without examples (0-shot).

    Parameters
    ----------
    model : LanguageModel
        With a tokenizer, for the short answers.
    texts : sequence of str, or of token ids
        Text that no model was trained on, at least four of them. Ids give no short answers unless
        the model has a tokenizer.
    seed : int
        Seed of which questions are asked: the same for every model to be compared.
    n_questions : int
        Of each kind, at most; there are fewer if the text is short.
    passage, continuation : int
        Tokens of a passage, and of the four continuations to choose from.

    Returns
    -------
    dict
        ``loss``: nats per token of the texts, in pieces of `passage` + `continuation` tokens;
        ``choice``: which of four continuations follows this passage (the others begin elsewhere,
        if possible in other texts), by the log-probability per token; chance is 1/4; ``cloze``: the
        last word of a sentence that stands in the passage before it, as LAMBADA's (Paperno et al.,
        2016), by the first word that the model writes. Each has ``value``, ``error`` (one standard
        error) and ``n``.
    """
    reader = as_language_model(model)
    ids = as_documents(texts, reader, "texts")
    longest = reader.max_length
    if longest is not None and passage + continuation > longest:
        raise ArgumentError(
            f"passage and continuation must have at most {longest} tokens together, which is what "
            f"{reader.name} reads, not {passage + continuation}"
        )
    found = {
        "loss": _loss(reader, ids, passage + continuation, seed),
        "choice": _choice(
            reader, ids, seed=seed, n=n_questions, passage=passage, continuation=continuation
        ),
    }
    if reader.tokenizer is not None:
        strings = [reader.tokenizer.decode(one.tolist(), skip_special_tokens=True) for one in ids]
        found["cloze"] = _cloze(reader, strings, seed, n_questions)
    return found


def _measured(values: Sequence[float]) -> dict[str, float | int]:
    n = len(values)
    if not n:
        return {"value": math.nan, "error": math.nan, "n": 0}
    error = float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return {"value": float(np.mean(values)), "error": error, "n": n}


def _loss(model: LanguageModel, texts: Documents, length: int, seed: int) -> dict[str, float | int]:
    pieces = cut(texts, length)
    rows = list(pieces.ids) or [np.asarray(one, dtype=np.int64) for one in texts if len(one) > 1]
    if len(rows) > _MOST_PIECES:
        rows = random.Random(f"loss/{seed}").sample(rows, _MOST_PIECES)  # noqa: S311
    losses = document_losses(model, Documents.of(rows))
    return _measured(losses[~np.isnan(losses)].tolist())


def _choice(
    model: LanguageModel,
    texts: Documents,
    *,
    seed: int,
    n: int,
    passage: int,
    continuation: int,
) -> dict[str, float | int]:
    pieces = cut(texts, passage + continuation)
    if len(pieces) < N_CHOICES:
        raise ArgumentError(
            f"texts must give at least {N_CHOICES} pieces of {passage + continuation} tokens to "
            f"choose among, not {len(pieces)}"
        )
    rng = random.Random(f"choice/{seed}")  # noqa: S311
    rows = []
    for right in rng.sample(range(len(pieces)), min(n, len(pieces))):
        mine = pieces.documents[right]
        others = np.flatnonzero(pieces.documents != mine)
        if len(others) < N_CHOICES - 1:
            others = np.array([i for i in range(len(pieces)) if i != right])
        wrong = rng.sample(others.tolist(), N_CHOICES - 1)
        head = pieces.ids[right, :passage]
        rows += [np.concatenate([head, pieces.ids[i, passage:]]) for i in (right, *wrong)]
    # The passage and the number of tokens are the same in all four, so the mean loss decides.
    losses = document_losses(model, Documents.of(rows)).reshape(-1, N_CHOICES)
    return _measured([float(one[0] < one[1:].min()) for one in losses])


def _cloze(model: LanguageModel, texts: Sequence[str], seed: int, n: int) -> dict[str, float | int]:
    """Passages that end before a word which stands in them."""
    rng = random.Random(f"cloze/{seed}")  # noqa: S311
    found = [_blanks(text, rng) for text in rng.sample(list(texts), len(texts))]
    # one of each text, then another one of each, ...
    asked = [one for some in zip_longest(*found) for one in some if one is not None][:n]
    if not asked:
        return _measured([])
    room = (model.max_length or 2**31) - _MOST
    tokenizer = model.tokenizer
    assert tokenizer is not None
    asked = [one for one in asked if len(tokenizer(one[0])["input_ids"]) <= room]
    questions = questions_of([prompt for prompt, _ in asked], seed=seed)
    sampling = Sampling(max_tokens=_MOST, temperature=0.0)
    written = [
        one.text
        for batch in write_texts(model, questions, sampling=sampling, batch_size=32)
        for one in batch
    ]
    right = []
    for (_, word), text in zip(asked, written, strict=True):
        first = _WORD.search(text)
        right.append(float(first is not None and first[0].casefold() == word.casefold()))
    return _measured(right)


def _blanks(text: str, rng: random.Random) -> list[tuple[str, str]]:
    """Passages of a text, and the word after each, which ends a sentence."""
    ends = list(_SENTENCE_END.finditer(text))
    found = []
    for end in rng.sample(ends, len(ends)):
        word = end[1]
        first = max(end.start(1) - _CLOZE_CHARACTERS, 0)
        words = list(_WORD.finditer(text, first, end.start(1)))[-_CLOZE_WORDS:]
        if len(words) < 8 or not (len(word) > 3 or word.isdigit()):
            continue
        if word.casefold() in {one[0].casefold() for one in words}:
            found.append((text[words[0].start() : end.start(1)].rstrip(), word))
    return found


def side_by_side(
    models: Mapping[str, LanguageModel],
    prompts: Sequence[str],
    *,
    seed: int,
    sampling: Sampling | None = None,
) -> list[dict[str, str]]:
    """What several models answer to the same prompts: one dict a prompt, with a text by name."""
    how = sampling or Sampling(max_tokens=64, temperature=0.8)
    found = [{"prompt": one} for one in prompts]
    for name, model in models.items():
        if name == "prompt":
            raise ArgumentError("models: no model may be called 'prompt'")
        questions = questions_of(prompts, seed=seed)
        texts = [one.text for batch in write_texts(model, questions, sampling=how) for one in batch]
        for place, text in zip(found, texts, strict=True):
            place[name] = text
    return found


def benchmarks(
    model: LanguageModel,
    tasks: Sequence[str] = BENCHMARKS,
    *,
    n_examples: int = 0,
    limit: int | None = None,
    batch_size: int = 8,
    folder: Path | None = None,
    run_code: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Real benchmarks by EleutherAI's lm-eval, as in the paper's table of quality.

    lm-eval downloads the tasks' data sets where they are not in the cache of `datasets` yet.

    Parameters
    ----------
    model : LanguageModel
        With a tokenizer.
    tasks : sequence of str
        lm-eval's names.
    n_examples : int
        Solved examples before each question; the paper has none.
    limit : int, optional
        Questions of each task, by default all.
    batch_size : int
        Questions at once.
    folder : path, optional
        Where further tasks are defined (lm-eval's YAML files).
    run_code : bool
        HumanEval runs what the model writes: only where nothing can be harmed.
    seed : int
        Seed of the examples.

    Returns
    -------
    dict
        By task: its metrics, as lm-eval names them (with its filter, if any, after a comma), and
        their standard errors (``..._stderr``).

    Raises
    ------
    MissingExtraError
        If lm-eval is not installed.
    ArgumentError
        If a task runs code and `run_code` is false.
    ModelError
        If lm-eval fails, for instance since a data set cannot be had.
    """
    need("lm_eval", what="benchmarks")
    if "humaneval" in tasks and not run_code:
        raise ArgumentError("tasks: humaneval runs what the model writes; allow it with run_code=")
    from importlib import import_module

    evaluator: Any = import_module("lm_eval")
    interface: Any = import_module("lm_eval.models.huggingface")
    manager: Any = import_module("lm_eval.tasks")
    reader = as_language_model(model)
    if reader.tokenizer is None:
        raise ModelError(f"model: {reader.name} has no tokenizer, which lm-eval needs")
    try:
        found = evaluator.simple_evaluate(
            model=interface.HFLM(
                pretrained=reader.model,
                tokenizer=reader.tokenizer,
                batch_size=batch_size,
                max_length=reader.max_length,
            ),
            tasks=list(tasks),
            num_fewshot=n_examples,
            limit=limit,
            log_samples=False,
            task_manager=manager.TaskManager(include_path=None if folder is None else str(folder)),
            confirm_run_unsafe_code=run_code,
            fewshot_random_seed=seed,
        )
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"lm-eval failed: {line_of(error)}") from error
    return {
        task: {
            name.removesuffix(",none"): float(value)
            for name, value in numbers.items()
            if isinstance(value, (int, float)) and "," in name
        }
        for task, numbers in found["results"].items()
    }
