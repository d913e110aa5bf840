"""A model's losses on texts, and texts cut into pieces of equal length to compare them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents, check_width
from radscore.errors import ModelError
from radscore.models.loading import as_language_model
from radscore.models.memory import out_of_memory, release_memory
from radscore.models.passages import begins_with, check_ids, encode, gathered, kind_of, prefix_of
from radscore.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.models.loading import LanguageModel

__all__ = ["Sentences", "as_documents", "cut", "document_losses", "zlib_lengths"]

_BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}
#: Logits that are held in float32 at once, beside the model's own.
_SLICE_LOGITS = 1 << 24


@dataclass(frozen=True, eq=False)
class Sentences:
    """Pieces of documents, all of the same length.

    Attributes
    ----------
    ids : ndarray of int64, shape (n, length)
        Their tokens.
    documents : ndarray of int64, shape (n,)
        The document that each comes from.
    lengths : ndarray of int64, shape (n_documents,)
        Tokens in each document before it was cut.
    n_short : int
        Documents shorter than a piece, which gave none.
    n_dropped : int
        Tokens at the ends of documents, too few for another piece; those of short documents
        included.
    """

    ids: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    n_short: int
    n_dropped: int

    def __len__(self) -> int:
        return len(self.ids)


def cut(documents: Documents, length: int) -> Sentences:
    """Cuts documents into pieces of `length` tokens from their start; the rest is dropped.

    Examples
    --------
    >>> pieces = cut(Documents.of([[1, 2, 3, 4, 5], [6], [7, 8]]), 2)
    >>> pieces.ids.tolist(), pieces.documents.tolist(), pieces.n_short, pieces.n_dropped
    ([[1, 2], [3, 4], [7, 8]], [0, 0, 2], 1, 2)
    """
    check_width("length", length, 2, 2**31)
    lengths = np.diff(documents.offsets)
    pieces = [
        np.asarray(one[: len(one) // length * length], dtype=np.int64).reshape(-1, length)
        for one in documents
    ]
    rows = np.concatenate(pieces) if pieces else np.empty((0, length), dtype=np.int64)
    owners = np.repeat(np.arange(len(documents)), lengths // length)
    short = int((lengths < length).sum())
    return Sentences(rows, owners, lengths, short, int((lengths % length).sum()))


def as_documents(documents: Any, model: LanguageModel, name: str) -> Documents:
    """The token ids of a corpus, of strings, or of anything that `Documents.of` takes.

    `name` is the argument, for messages.
    """
    if hasattr(documents, "batches"):
        parts = [ids.astype(np.int64) for batch in documents for ids in batch.documents]
        found = Documents.of(parts)
    elif kind_of(documents := gathered(documents, name)) == "string":
        found = encode([documents] if isinstance(documents, str) else documents, model)
    else:
        found = Documents.of(documents, name)
    check_ids(found, model, name)
    return found


def document_losses(
    model: Any,
    documents: Any,
    *,
    batch_tokens: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> npt.NDArray[np.float64]:
    """The mean loss of a model on each document, in nats per predicted token.

    Documents of similar length are read together; every token goes through the model once.

    Parameters
    ----------
    model : LanguageModel, path or transformers model
        If its tokenizer has start tokens, they are read before each document that does not bring
        them; their own loss does not count.
    documents : anything that `Documents.of` takes, strings or a corpus
        Each is read alone and must fit the model's window.
    batch_tokens : int, optional
        Tokens read at once, by default 1,024 on a CPU and 16,384 on a GPU; halved whenever memory
        runs out.
    progress : callable, optional
        Called with a `Progress` after every batch: documents read, and their tokens.

    Returns
    -------
    ndarray of float64, shape (n_documents,)
        NaN if no token is predicted.
    """
    reader = as_language_model(model)
    texts = as_documents(documents, reader, "documents")
    prefix = prefix_of(reader)
    lengths = np.diff(texts.offsets)
    # with the start tokens, which some documents bring along
    whole = lengths.copy()
    whole += np.array([not begins_with(ids, prefix) for ids in texts], dtype=bool) * len(prefix)
    longest = int(whole.max(initial=0))
    if reader.max_length is not None and longest > reader.max_length:
        raise ModelError(
            f"a text of {longest} tokens is beyond the {reader.max_length} that {reader.name} reads"
        )
    if batch_tokens is None:
        batch_tokens = _BATCH_TOKENS.get(reader.device.type, 1024)
    size = check_width("batch_tokens", batch_tokens, 1, 2**40)
    order = np.argsort(-whole, kind="stable")
    losses = np.full(len(texts), np.nan)
    first = n_tokens = 0
    while first < len(order):
        most = max(1, size // max(int(whole[order[first]]), 1))
        chosen = order[first : first + most]
        try:
            found = _losses(reader, [texts[int(i)] for i in chosen], prefix)
        except Exception as error:
            if not out_of_memory(error):
                raise
            found = None
        if found is None:  # outside of the handler, whose traceback holds the tensors
            if len(chosen) == 1:
                raise ModelError(
                    f"out of memory with a single text of {int(lengths[chosen[0]])} tokens"
                )
            size //= 2
            release_memory()
            continue
        losses[chosen] = found
        first += len(chosen)
        n_tokens += int(lengths[chosen].sum())
        if progress is not None:
            progress(Progress(first, len(order), n_tokens))
    return losses


def _losses(
    model: LanguageModel, texts: list[npt.NDArray[Any]], prefix: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Losses of texts of falling length, in one pass; start tokens are put before them."""
    import torch

    texts = [
        np.concatenate([prefix[: 0 if begins_with(text, prefix) else None], text]).astype(np.int64)
        for text in texts
    ]
    width = len(texts[0])
    ids = torch.zeros((len(texts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.from_numpy(text)
        mask[row, : len(text)] = 1
    # The first token of a text is predicted only if something precedes it.
    wanted = mask[:, 1:].bool()
    wanted[:, : max(len(prefix) - 1, 0)] = False
    if not wanted.any():
        return np.full(len(texts), np.nan)
    ids, wanted = ids.to(model.device), wanted.to(model.device)
    total = torch.zeros(ids.shape[0], dtype=torch.float64)
    with torch.inference_mode():
        logits = model.model(
            input_ids=ids, attention_mask=mask.to(model.device), use_cache=False
        ).logits
        step = max(1, _SLICE_LOGITS // (ids.shape[0] * logits.shape[2]))
        for begin in range(0, width - 1, step):
            end = min(begin + step, width - 1)
            part = logits[:, begin:end].float()
            right = part.gather(2, ids[:, begin + 1 : end + 1, None])[..., 0]
            lost = (part.logsumexp(-1) - right).double()
            # not a product: the loss at padding may be infinite
            total += lost.where(wanted[:, begin:end], 0.0).sum(-1).cpu()
    number = wanted.sum(-1).cpu()
    mean = torch.where(number > 0, total / number.clamp_min(1), torch.nan).numpy()
    bad = mean[(number.numpy() > 0) & ~np.isfinite(mean)]
    if len(bad):
        what = "is NaN" if np.isnan(bad).any() else "is infinite: it rules the text out"
        raise ModelError(f"{model.name} gives a loss that {what}")
    return mean


def zlib_lengths(sentences: Sentences, model: LanguageModel) -> npt.NDArray[np.int64]:
    """Size of each piece as UTF-8 text in bytes, shape (n, 2): after zlib, and before.

    Without a tokenizer the text is unknown, and its ids as 32-bit numbers stand in for it.
    """
    sizes = np.empty((len(sentences), 2), dtype=np.int64)
    for i, ids in enumerate(sentences.ids):
        if model.tokenizer is None:
            data = ids.astype("<u4").tobytes()
        else:
            data = model.tokenizer.decode(ids.tolist()).encode("utf-8", errors="replace")
        sizes[i] = len(zlib.compress(data)), len(data)
    return sizes
