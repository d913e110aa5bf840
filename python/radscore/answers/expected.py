"""What a reference expects at every token of a model's answers: it reads them, and tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ModelError, line_of
from radscore.models.listed import Listed
from radscore.models.passages import Passage, check_ids, prefix_of
from radscore.models.teacher_forcing import Reader
from radscore.models.weighting import Weighting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.documents import Documents
    from radscore.models.loading import LanguageModel

__all__ = ["LIKELIEST", "expected", "prompt_ids"]

#: How many of the likeliest tokens are kept at each position.
LIKELIEST: Final = 128


def expected(
    model: LanguageModel,
    documents: Documents,
    prompts: Documents | None = None,
    *,
    vocab_size: int,
    likeliest: int = LIKELIEST,
    chat: bool | None = None,
) -> Listed:
    """What a model expects at each token of documents, which it reads after their prompts.

    Parameters
    ----------
    model : LanguageModel
        Reads the same ids as `documents` are made of.
    documents, prompts : Documents
        Answers, and the prompt of each.
    vocab_size : int
        Only ids below it are listed.
    likeliest : int
        The most tokens that a list has; those below 1e-4 are left out.
    chat : bool, optional
        Whether to put prompts into the tokenizer's chat template; by default if it has one.

    Returns
    -------
    Listed
        One list per token of `documents`, ids rising; an empty one where nothing precedes it.

    Raises
    ------
    TokenError
        If an id is outside of the model's vocabulary.
    ModelError
        If a chat template is asked for that does not exist, or fails.
    """
    for name, one in (("answers", documents), ("prompts", prompts)):
        if one is not None:
            check_ids(one, model, name)
    weighting = Weighting("mass", max_weights=likeliest)
    reader = Reader(model, None, weighting, limit=vocab_size)
    targets, weights, tokens = [], [], []
    for pairs in reader.read(_passages(model, documents, prompts, chat)):
        targets.append(pairs.targets)
        weights.append(pairs.weights.astype(np.float32))
        tokens.append(pairs.occurrences.astype(np.int64))
    sizes = np.zeros(documents.n_tokens, dtype=np.int64)
    for some in tokens:
        sizes += np.bincount(some, minlength=len(sizes))
    return Listed(
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([np.empty(0, np.uint32), *targets]),
        np.log(np.concatenate([np.empty(0, np.float32), *weights])),
    )


def _passages(
    model: LanguageModel, documents: Documents, prompts: Documents | None, chat: bool | None
) -> Iterator[Passage]:
    """Every document after its prompt; what precedes a token predicts it."""
    special = prefix_of(model)
    templated = _has_template(model) if chat is None else chat
    for i, document in enumerate(documents):
        before = np.empty(0, np.int64) if prompts is None else prompts[i].astype(np.int64)
        if templated and len(before):
            before = prompt_ids(model, before)
        if not len(special) or not np.array_equal(before[: len(special)], special):
            before = np.concatenate([special, before])
        n = len(document)
        yield Passage(
            ids=np.concatenate([before, document.astype(np.int64)]),
            contexts=np.empty((n, 0), dtype=np.uint32),
            rows=np.arange(n) + (len(before) - 1),
            positions=np.arange(n),
            n_tokens=n,
            tokens=document,
        )


def _has_template(model: LanguageModel) -> bool:
    return bool(getattr(model.tokenizer, "chat_template", None))


def prompt_ids(model: LanguageModel, prompt: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A prompt as a user's message in the model's chat template, up to where the answer begins."""
    tokenizer = model.tokenizer
    if tokenizer is None or not _has_template(model):
        raise ModelError(f"{model.name} has no chat template")
    message = [{"role": "user", "content": tokenizer.decode(prompt)}]
    try:
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001 - whatever a template raises
        raise ModelError(f"{model.name}'s chat template: {line_of(error)}") from None
    ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return np.array(ids, dtype=np.int64)
