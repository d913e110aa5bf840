"""Answers as a test takes them, whatever they were given as."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.documents import Documents
from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.documents import DocumentsLike
    from radscore.models.listed import Listed

__all__ = ["AnswerTexts", "texts_of"]


@dataclass(frozen=True, eq=False)
class AnswerTexts:
    """Answers and their prompts, with what a test reports about them.

    If there are prompts, there is one per answer. See `Answers` for the attributes; `n_skipped` is
    the number of records that could not be read, `listed` what an API listed at each token.
    """

    documents: Documents
    prompts: Documents | None
    n_failed: int = 0
    n_skipped: int = 0
    prompt_ids: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    listed: Listed | None = None

    def check(self, vocab_size: int) -> None:
        """Raises `TokenError` unless all ids are in the vocabulary."""
        self.documents.check_vocab(vocab_size)
        if self.prompts is not None:
            self.prompts.check_vocab(vocab_size)

    def has_read(self, other: AnswerTexts) -> bool:
        """Whether these are the other's tokens, with what a model expects at each of them."""
        mine, theirs = self.documents, other.documents
        return (
            self.listed is not None
            and np.array_equal(np.diff(mine.offsets), np.diff(theirs.offsets))
            and np.array_equal(_tokens(mine), _tokens(theirs))
        )


def _tokens(documents: Documents) -> Any:
    return documents.values[documents.offsets[0] : documents.offsets[-1]]


def texts_of(name: str, answers: Any, prompts: DocumentsLike | None) -> AnswerTexts:
    """What a caller gave as argument `name`, with the prompts given beside it.

    Raises
    ------
    ArgumentError
        If prompts are given twice, or there are more or fewer than answers.
    """
    own = getattr(answers, "prompts", None)
    if hasattr(answers, "documents"):  # Answers
        found = AnswerTexts(
            answers.documents,
            own,
            answers.n_failed,
            answers.skipped.count,
            answers.prompt_ids,
            tuple(answers.notes),
            getattr(answers, "listed", None),
        )
    elif hasattr(answers, "batches"):  # a corpus
        from radscore.corpus.base import joined

        batches = list(answers)
        documents = joined([d for batch in batches for d in batch.documents])
        asked = [batch.prompts for batch in batches]
        before = None
        if all(one is not None for one in asked):
            before = joined([p for one in asked if one is not None for p in one])
        found = AnswerTexts(documents, before, 0, answers.skipped.count)
    else:
        found = AnswerTexts(Documents.of(answers, name), None)
    if prompts is not None:
        if found.prompts is not None:
            raise ArgumentError(f"the {name} come with prompts of their own; give no others")
        found = replace(found, prompts=Documents.of(prompts, "prompts"))
    if found.listed is not None and len(found.listed) != found.documents.n_tokens:
        raise ArgumentError(
            f"the {name} have {found.documents.n_tokens} tokens, but {len(found.listed)} lists of "
            "log-probabilities"
        )
    if found.prompts is not None and len(found.prompts) != len(found.documents):
        raise ArgumentError(
            f"there are {len(found.documents)} {name}, but {len(found.prompts)} prompts"
        )
    return found
