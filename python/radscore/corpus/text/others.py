"""Tokenizers that are not of the library `tokenizers`: functions from a text to its ids."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import joined
from radscore.corpus.text.failures import Failures
from radscore.corpus.text.tokenised import Tokenised
from radscore.errors import ArgumentError, TokenError, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from radscore.corpus.room import Room
    from radscore.documents import Documents

__all__ = ["FunctionEncoder", "function_encoder"]

#: Texts whose ids tell one tokenizer from another.
_PROBES = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "  naïve café\n\n\t¿Qué? 東京タワー 🙂",
    "def f(x):\n    return x ** 2  # 3.14159",
)
_MAX_ID = 2**32 - 2


class FunctionEncoder:
    """An encoder made of a function, or of a method of a tokenizer.

    Parameters
    ----------
    encode : callable
        From a text to its token ids.
    decode : callable or None
        From token ids to their text.
    name : str
        What made the ids, for notes.
    vocab_size : int or None
        Number of its tokens, if it is known.
    """

    def __init__(
        self,
        encode: Callable[[str], Any],
        decode: Callable[[list[int]], str] | None,
        name: str,
        vocab_size: int | None,
    ) -> None:
        self._encode, self._decode, self._name = encode, decode, name
        self.vocab_size = vocab_size
        self.failures = Failures()
        self._n_texts = 0
        digest = hashlib.sha256(f"{name}/{vocab_size}".encode())
        for ids in self.documents(_PROBES):
            digest.update(ids.astype("<u4").tobytes() + b"/")
        self.fingerprint = digest.hexdigest()[:16]
        self.failures, self._n_texts = Failures(), 0

    def __getstate__(self) -> dict[str, Any]:
        """For another process; a function that cannot be sent there is an `ArgumentError`."""
        try:
            pickle.dumps((self._encode, self._decode))
        except Exception as error:  # noqa: BLE001 - whatever its pickling raises
            raise ArgumentError(
                f"tokenizer={self._name} cannot be sent to another process "
                f"({line_of(error)}); define the function at the top of a module, or "
                "give the path of a tokenizer.json"
            ) from None
        return {**self.__dict__, "failures": Failures(), "_n_texts": 0}

    @property
    def tokenised(self) -> Tokenised:
        """What encoded the texts so far."""
        return Tokenised(self._name, "", self._n_texts, 0)

    def documents(self, texts: Sequence[str], room: Room | None = None) -> Documents:
        """The token ids of the texts, one document each."""
        self._n_texts += len(texts)
        return joined([self._ids(text, room) for text in texts])

    def _ids(self, text: str, room: Room | None) -> npt.NDArray[np.uint32]:
        try:
            if room is not None:
                room.check(room.flaw_of_encoding(len(text), "function"))
            return _checked(self._encode(text))
        except BaseException as error:  # noqa: BLE001 - a panic is not an Exception
            return self.failures.document(error)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; the ids themselves if nothing tells it."""
        if self._decode is None:
            return " ".join(map(str, ids))
        return str(self._decode(list(ids)))


def _checked(found: Any) -> npt.NDArray[np.uint32]:
    """The ids that a tokenizer returned."""
    if isinstance(found, Mapping) or (hasattr(found, "keys") and "input_ids" in found):
        found = found["input_ids"]
    found = getattr(found, "ids", found)  # an Encoding of the library tokenizers
    ids = np.asarray(found)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise TokenError(
            f"it returned {type(found).__name__} ({ids.ndim}-D {ids.dtype}), not a list of ids"
        )
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) > _MAX_ID):
        raise TokenError(f"it returned the id {int(ids.min() if ids.min() < 0 else ids.max())}")
    return ids.astype(np.uint32)


def function_encoder(tokenizer: Any, *, add_special_tokens: bool) -> FunctionEncoder | None:
    """An encoder of a tiktoken encoding, a SentencePiece or slow tokenizer, or a function.

    None if it is none of these.
    """
    if isinstance(tokenizer, type):
        return None
    module = type(tokenizer).__module__.partition(".")[0]
    kind = f"{module}.{type(tokenizer).__name__}"
    if hasattr(tokenizer, "encode_ordinary"):
        _no_special(kind, add_special_tokens)
        name, size = f"tiktoken's {tokenizer.name}", int(tokenizer.n_vocab)
        return FunctionEncoder(tokenizer.encode_ordinary, tokenizer.decode, name, size)
    if hasattr(tokenizer, "EncodeAsIds"):
        special = _Bound(
            tokenizer, "EncodeAsIds", add_bos=add_special_tokens, add_eos=add_special_tokens
        )
        return FunctionEncoder(
            special, tokenizer.DecodeIds, "SentencePiece", int(tokenizer.GetPieceSize())
        )
    if hasattr(tokenizer, "convert_ids_to_tokens") and callable(tokenizer):
        options = {"add_special_tokens": add_special_tokens, "truncation": False, "padding": False}
        encode = _Bound(tokenizer, "__call__", verbose=False, **options)
        return FunctionEncoder(encode, tokenizer.decode, kind, len(tokenizer))
    if callable(tokenizer):
        _no_special("a function", add_special_tokens)
        name = getattr(tokenizer, "__qualname__", kind)
        return FunctionEncoder(tokenizer, None, f"the function {name}", None)
    if callable(getattr(tokenizer, "encode", None)) and not isinstance(tokenizer, (str, bytes)):
        _no_special(kind, add_special_tokens)
        decode = getattr(tokenizer, "decode", None)
        return FunctionEncoder(tokenizer.encode, decode, kind, None)
    return None


def _no_special(kind: str, wanted: bool) -> None:
    if wanted:
        raise ArgumentError(f"add_special_tokens= has no effect with {kind}")


class _Bound:
    """A method with some arguments; it pickles with its object."""

    def __init__(self, owner: Any, method: str, **options: Any) -> None:
        self._owner, self._method, self._options = owner, method, options

    def __call__(self, text: str) -> Any:
        return getattr(self._owner, self._method)(text, **self._options)
