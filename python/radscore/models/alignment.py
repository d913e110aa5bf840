"""Two tokenizers: whether they are the same, and where both cut a text at the same characters.

The watermark's windows are made of its own tokenizer's tokens. If the model has another tokenizer,
a position counts if one of these ends at a character at which a token of the model ends too: there
the model has read exactly the text of the context, and no more. Its prediction counts if the text
of the predicted token is a single token of the watermark's tokenizer as well.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.documents import Documents
from radscore.errors import ModelError, TokenError
from radscore.models.passages import (
    Passage,
    check_strings,
    in_shard,
    kind_of,
    tokenizer_of,
    windows_of,
)
from radscore.models.token_strings import byte_characters, token_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.models.loading import LanguageModel

__all__ = ["Alignment", "check_same_tokenizer", "same_vocabulary", "surfaces", "vocabulary_hash"]

_STRINGS_AT_ONCE: Final = 256
_UNALIGNED: Final = "positions where the model's tokens end elsewhere"
_CHANGED: Final = "documents whose tokens are not those of their text"


def vocabulary_hash(tokenizer: Any) -> str:
    """64 hexadecimal digits, a SHA-256 over a tokenizer's tokens and ids."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]):
        digest.update(f"{index} {len(token)} {token}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def same_vocabulary(one: Any, other: Any) -> bool:
    """Whether two tokenizers give each token the same id."""
    return other is not None and (one is other or one.get_vocab() == other.get_vocab())


def check_same_tokenizer(model: LanguageModel, reference: LanguageModel) -> None:
    """Raises `ModelError` if a text would be other ids to the reference than to the model."""
    mine, theirs = model.tokenizer, reference.tokenizer
    if mine is not None and theirs is not None:
        if same_vocabulary(mine, theirs):
            return
        ours, others = mine.get_vocab(), theirs.get_vocab()
        n = sum(others.get(token) != index for token, index in ours.items())
        # padding, and tokens that fine-tuning appended, do no harm
        if n <= len(ours) // 100 and abs(len(ours) - len(others)) <= len(ours) // 100:
            return
        raise ModelError(
            f"the reference {reference.name} has another tokenizer than {model.name}: {n} of "
            f"{len(ours)} tokens have other ids there; a reference must read the same ids (the "
            "suspect's base, an earlier checkpoint, or a model trained from the same base)"
        )
    small, large = sorted((model.vocab_size, reference.vocab_size))
    if small < 0.9 * large:
        raise ModelError(
            f"the reference {reference.name} predicts {reference.vocab_size} tokens and "
            f"{model.name} {model.vocab_size}, so they do not share a tokenizer"
        )


def surfaces(tokenizer: Any) -> dict[str, int]:
    """The text that each token stands for, with the smallest id that stands for it.

    Text is spelt in the characters that byte-level tokenizers use for bytes, so parts of a
    character are told apart; a leading space is part of a token. Special tokens stand for no text.
    """
    special = set(tokenizer.all_special_ids)
    level = byte_characters()
    found: dict[str, int] = {}
    for index, kinds in enumerate(token_bytes(tokenizer)):
        if kinds and index not in special:
            found.setdefault("".join(level[byte] for byte in kinds[0]), index)
    return found


class Alignment:
    """Reads text with a model at the positions that its tokenizer and the watermark's share.

    Every string is tokenised once by each tokenizer.

    Parameters
    ----------
    model : LanguageModel
        With a tokenizer.
    tokenizer : transformers tokenizer
        The watermark's.

    Attributes
    ----------
    translate : ndarray of int64, shape (V,)
        The watermark's id of each of the model's, -1 where there is none.
    removed : dict
        What was not scored, by reason.
    """

    def __init__(self, model: LanguageModel, tokenizer: Any) -> None:
        self._model = model
        self._own = tokenizer_of(model, "a text of another tokenizer")
        self._theirs = tokenizer
        for one in (self._own, tokenizer):
            if not getattr(one, "is_fast", False):
                raise ModelError(
                    "aligning two tokenizers needs fast ones (of the tokenizers library), which "
                    f"know a token's offset in the text; {type(one).__name__} is not"
                )
        known = surfaces(tokenizer)
        self.translate = np.full(model.vocab_size, -1, dtype=np.int64)
        for text, index in surfaces(self._own).items():
            if index < model.vocab_size:
                self.translate[index] = known.get(text, -1)
        if not (self.translate >= 0).any():
            raise ModelError(
                f"{model.name} and the watermark's tokenizer do not have a single token in common"
            )
        self.removed: dict[str, int] = {_UNALIGNED: 0, _CHANGED: 0}
        self._n_positions = 0

    @property
    def usable_share(self) -> float:
        """The share of positions at which both tokenizers end a token."""
        unaligned = self.removed[_UNALIGNED]
        return 1.0 - unaligned / self._n_positions if self._n_positions else 0.0

    def notes(self) -> tuple[str, ...]:
        """How much was usable, in words."""
        common = int((self.translate >= 0).sum())
        text = (
            f"the model has another tokenizer than the watermark: {100 * self.usable_share:.3g} % "
            f"of the positions end a token of both, and {common} of the model's "
            f"{len(self.translate)} tokens are a single token of the watermark's"
        )
        return (text,)

    def passages(
        self, documents: Any, width: int, shard: tuple[int, int] | None = None
    ) -> Iterator[Passage]:
        """The passages of strings, or of documents and corpora of the watermark's token ids.

        Ids are decoded and tokenised again; documents that come out differently are left out.
        Only those of the shard are read, if one is given.
        """
        if hasattr(documents, "batches"):
            for batch in documents:
                if batch.prompts is not None:
                    raise TokenError("with another tokenizer, documents cannot have prompts")
                yield from self._documents(batch.documents, width, batch.first_document, shard)
            return
        kind = kind_of(documents)
        if kind == "chat":
            raise TokenError("with another tokenizer, chats cannot be read; give strings or ids")
        if kind == "ids":
            yield from self._documents(Documents.of(documents), width, 0, shard)
            return
        strings = [documents] if isinstance(documents, str) else documents
        for first in range(0, len(strings), _STRINGS_AT_ONCE):
            some = strings[first : first + _STRINGS_AT_ONCE]
            check_strings(some, first)
            some = [one for i, one in enumerate(some, first) if in_shard(i, shard)]
            yield from self._strings(some, None, width)

    def _documents(
        self, documents: Documents, width: int, before: int, shard: tuple[int, int] | None
    ) -> Iterator[Passage]:
        documents.check_vocab(len(self._theirs))
        chosen = [i for i in range(len(documents)) if in_shard(before + i, shard)]
        for first in range(0, len(chosen), _STRINGS_AT_ONCE):
            some = [documents[i].tolist() for i in chosen[first : first + _STRINGS_AT_ONCE]]
            strings = self._theirs.batch_decode(some, clean_up_tokenization_spaces=False)
            yield from self._strings(strings, some, width)

    def _strings(
        self, strings: list[str], expected: list[list[int]] | None, width: int
    ) -> Iterator[Passage]:
        if not strings:
            return
        theirs, mine = (
            one(
                strings,
                add_special_tokens=False,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            for one in (self._theirs, self._own)
        )
        for i in range(len(strings)):
            ids = np.array(theirs["input_ids"][i], dtype=np.int64)
            if expected is not None and expected[i] != theirs["input_ids"][i]:
                self.removed[_CHANGED] += 1
                # whoever wrote the text has read its contexts nevertheless
                given = np.array(expected[i], dtype=np.int64)
                yield _unread(given, width)
                continue
            rows = _ends_together(theirs["offset_mapping"][i], mine["offset_mapping"][i])
            contexts = windows_of(ids, width)
            first = max(width - 1, 0)
            rows = rows[first : first + len(contexts)]
            self._n_positions += len(rows)
            self.removed[_UNALIGNED] += int((rows < 0).sum())
            positions = np.arange(first, first + len(contexts), dtype=np.int64)
            own = np.array(mine["input_ids"][i], dtype=np.int64)
            if len(own) and own.max() >= self._model.vocab_size:
                raise ModelError(
                    f"{self._model.name}'s tokenizer gives the id {own.max()}, but the model has "
                    f"only {self._model.vocab_size}"
                )
            yield Passage(own, contexts, rows, positions, len(ids), ids)


def _unread(ids: npt.NDArray[np.int64], width: int) -> Passage:
    """A document of which nothing is scored."""
    contexts = windows_of(ids, width)
    first = max(width - 1, 0)
    positions = np.arange(first, first + len(contexts), dtype=np.int64)
    nothing = np.full(len(contexts), -1, dtype=np.int64)
    return Passage(np.empty(0, np.int64), contexts, nothing, positions, len(ids), ids)


def _ends_together(
    theirs: list[tuple[int, int]], mine: list[tuple[int, int]]
) -> npt.NDArray[np.int64]:
    """For each of the watermark's tokens, the model's token that ends with it, else -1."""
    if not theirs or not mine:
        return np.full(len(theirs), -1, dtype=np.int64)
    ends, own = np.array(theirs)[:, 1], np.array(mine)[:, 1]
    # Several tokens can end at one character, being parts of it: only the last has read it all.
    last = np.append(ends[1:] != ends[:-1], [True])
    at = np.searchsorted(own, ends, side="right") - 1
    together = last & (at >= 0)
    together[together] = own[at[together]] == ends[together]
    return np.where(together, at, -1).astype(np.int64)
