"""Documents in memory: token ids as `Documents.of` takes them, or texts and a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.columnar import holds_text
from radscore.corpus.text.failures import failed, flaw_of_text
from radscore.documents import Documents, is_missing, opened
from radscore.errors import ArgumentError, TokenError

if TYPE_CHECKING:
    from radscore.corpus.text.tokenizer import Encoder

__all__ = ["documents_of", "texts_in"]


def documents_of(
    documents: Any, encoder: Encoder | None = None, name: str = "documents"
) -> Documents:
    """Token ids, or texts as the ids that a tokenizer makes of them.

    Parameters
    ----------
    documents : anything that `Documents.of` takes, or texts in any of these containers
        The documents.
    encoder : Encoder, optional
        For texts; see `radscore.corpus.load_encoder`.
    name : str
        The argument, for messages.

    Raises
    ------
    TokenError
        If a document is neither text nor ids, or the tokenizer fails on it; it is named like
        ``documents[17]``.
    ArgumentError
        If there is a tokenizer, but no text.

    Examples
    --------
    >>> from radscore.corpus import load_encoder
    >>> documents_of(["ab", "c"], load_encoder(lambda text: [ord(c) for c in text]))[0].tolist()
    [97, 98]
    """
    found = opened(documents, name)
    texts = texts_in(found)
    if texts is None:
        first = found[0] if isinstance(found, (list, tuple)) and found else None
        if isinstance(first, dict) and "role" in first:
            raise TokenError(f"{name} is a chat, which only a model's template makes a text of")
        plain = Documents.of(found, name)
        if encoder is not None and len(plain):
            raise ArgumentError(f"tokenizer= has no effect: {name} holds token ids, not text")
        return plain
    if encoder is None:
        raise TokenError(f"{name} holds text; give tokenizer= to read it")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            what = f"must be text, not {type(text).__name__}"
            what = "is missing" if is_missing(text) else what
            raise TokenError(f"{name}[{i}] {what}")
        if (flaw := flaw_of_text(text)) is not None:
            raise TokenError(f"{name}[{i}]: {flaw}")
    made = encoder.documents(texts)
    if made.id_range[1] == 2**32 - 1:
        for i, ids in enumerate(made):
            if failed(ids):
                raise TokenError(f"{name}[{i}]: {encoder.failures.reason(ids)}")
    return made


def texts_in(found: Any) -> list[Any] | None:
    """What `opened` made as a list if the first that is not missing is text, else None."""
    if isinstance(found, np.ndarray) and found.dtype.kind in "SUT":
        return [_decoded(one) for one in found.tolist()]
    if type(found).__module__.partition(".")[0] == "pyarrow":
        import pyarrow as pa

        if isinstance(found, (pa.Array, pa.ChunkedArray)) and holds_text(found.type):
            return [_decoded(one) for one in found.to_pylist()]
        return None
    if not isinstance(found, (list, tuple, np.ndarray)):
        return None
    if isinstance(found, np.ndarray):
        found = found.tolist() if found.dtype == object else []
    first = next((one for one in found if one is not None), None)
    return [_decoded(one) for one in found] if isinstance(first, (str, bytes)) else None


def _decoded(value: Any) -> Any:
    """Bytes that are UTF-8 as text."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
