"""Token strings: from what a server calls a token back to its id, exactly or not at all.

Servers show tokens as text. A token that holds part of a character has no text, so they show
U+FFFD in its place, or nothing; some add the bytes, or the id. What a string stands for is decided
by the exact bytes of every token: a string that two tokens can have is none.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from radscore.errors import ModelError

__all__ = ["TokenStrings", "byte_characters", "token_bytes"]

_REPLACED: Final = "\ufffd".encode()
#: How vLLM names ids, and how OpenAI's completions name bytes.
_BY_ID: Final = re.compile(r"token_id:([0-9]{1,10})")
_BY_BYTES: Final = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2}|[^\\])+)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")
_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
#: Decoders that leave a token's own characters as they are.
_PLAIN: Final = {"Fuse", "Strip", "Sequence", "ByteLevel", "ByteFallback", "Metaspace", "Replace"}


def byte_characters() -> dict[int, str]:
    """The printable character that byte-level tokenizers use for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in names]
    return names | {byte: chr(256 + i) for i, byte in enumerate(others)}


class TokenStrings:
    r"""Recognises the tokens of a tokenizer by what servers call them.

    Parameters
    ----------
    tokenizer : tokenizer
        Of transformers, tokenizers, tiktoken or sentencepiece: the suspect's.
    spaces : bool
        Whether strings keep a token's leading space. Where a server decodes each token by itself
        and the tokenizer's decoder drops the first space (SentencePiece's), they do not: then a
        word that exists with and without a space is ambiguous.

    Attributes
    ----------
    n_ambiguous : int
        Tokens that no string identifies: parts of characters, and tokens whose text another token
        can have too. (Their exact bytes may.)
    strips : bool
        Whether the tokenizer's own decoder drops the first space.

    Raises
    ------
    ModelError
        If the bytes of the tokenizer's tokens cannot be told.

    Examples
    --------
    >>> import tiktoken
    >>> ranks = {bytes([i]): i for i in range(256)} | {b" a": 256}
    >>> strings = TokenStrings(tiktoken.Encoding("t", pat_str=".", mergeable_ranks=ranks,
    ...     special_tokens={"<|end|>": 257}))
    >>> strings.id_of(" a"), strings.id_of("<|end|>"), strings.id_of("\ufffd")
    (256, 257, None)
    >>> strings.id_of(b"\xe2"), strings.id_of(r"bytes:\xe2"), strings.id_of("token_id:97")
    (226, 226, 97)
    """

    def __init__(self, tokenizer: Any, *, spaces: bool = True) -> None:
        self.tokens = token_bytes(tokenizer)
        self.strips = _strips(tokenizer)
        self._exact: dict[bytes, int | None] = {}
        self._shown: dict[str, int | None] = {}
        for index, kinds in enumerate(self.tokens):
            for data in kinds:
                _note(self._exact, data, index)
                for text in _shown_as(data, spaces=spaces or not self.strips):
                    _note(self._shown, text, index)
        known = {index for text, index in self._shown.items() if index is not None and text}
        self.n_ambiguous = sum(bool(kinds) for kinds in self.tokens) - len(known)

    def bytes_of(self, index: int) -> bytes | None:
        """A token's exact bytes; None if there is no such token, or its bytes are ambiguous."""
        kinds = self.tokens[index] if 0 <= index < len(self.tokens) else ()
        return kinds[0] if len(kinds) == 1 else None

    def id_of(self, text: str | bytes) -> int | None:
        """The token that a server calls so; None if it is unknown, or can be more than one."""
        if isinstance(text, bytes):
            shown = _with_replacements(text)
            if shown is None:
                return self._exact.get(text)
            text = shown
        if not text:
            return None
        if text in self._shown:
            return self._shown[text]
        if (named := _BY_ID.fullmatch(text)) is not None:
            index = int(named[1])
            return index if index < len(self.tokens) and self.tokens[index] else None
        if (named := _BY_BYTES.fullmatch(text)) is not None and "\\x" in text:
            return self._exact.get(_unescaped(named[1]))
        if (named := _BYTE.fullmatch(text)) is not None:
            return self._exact.get(bytes([int(named[1], 16)]))
        return None

    def may_be(self, text: str, index: int) -> bool:
        """Whether a server can have called a certain token so, with or without a leading space."""
        kinds = self.tokens[index] if 0 <= index < len(self.tokens) else ()
        if self.id_of(text) == index:
            return True
        return any(text in _shown_as(data, spaces=not self.strips) for data in kinds)

    def __len__(self) -> int:
        return len(self.tokens)


def _with_replacements(data: bytes) -> str | None:
    """The text of bytes in which U+FFFD stands for what was lost, as in vLLM's chats; else None."""
    if _REPLACED not in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _note(known: dict[Any, int | None], name: Any, index: int) -> None:
    known[name] = index if known.get(name, index) == index else None


def _shown_as(data: bytes, *, spaces: bool) -> set[str]:
    """Every text by which a token can be shown: parts of characters are replaced or left out."""
    found = {data.decode(errors="replace"), data.decode(errors="ignore")}
    return found if spaces else found | {text[1:] for text in found if text[:1] == " "}


def _unescaped(text: str) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def token_bytes(tokenizer: Any) -> list[tuple[bytes, ...]]:
    """The exact bytes of every token, by id; empty where there is no token.

    A token has two entries where libraries differ about it (added tokens of a byte-level
    tokenizer that are not ASCII). Byte tokens (``<0x41>``) have none where an ordinary token
    stands for the same byte: the tokenizer itself never writes them.

    Raises
    ------
    ModelError
        If they cannot be told.
    """
    raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(raw, "get_added_tokens_decoder"):
        found = _of_tokenizers(raw)
    elif hasattr(raw, "decode_single_token_bytes"):
        found = _of_tiktoken(raw)
    else:
        pieces = getattr(raw, "sp_model", raw)
        if not hasattr(pieces, "IdToPiece"):
            raise ModelError(
                f"tokenizer: the bytes of the tokens of {type(tokenizer).__name__} cannot be told; "
                "give a tokenizer of transformers (a fast one), tokenizers, tiktoken or "
                "sentencepiece"
            )
        found = _of_sentencepiece(pieces)
    size = max((index for index, _, _ in found), default=-1) + 1
    ordinary = {data for _, data, is_byte in found if not is_byte}
    tokens: list[tuple[bytes, ...]] = [()] * size
    for index, data, is_byte in found:
        if data not in tokens[index] and not (is_byte and data in ordinary):
            tokens[index] += (data,)
    return tokens


#: Tokens as id, bytes, and whether it is a byte token.
_Found = list[tuple[int, bytes, bool]]


def _of_tokenizers(raw: Any) -> _Found:
    about = json.loads(raw.to_str())
    steps = _steps(about.get("decoder"))
    kinds = {step["type"] for step in steps}
    byte_level = "ByteLevel" in kinds | {one["type"] for one in _steps(about["pre_tokenizer"])}
    fallback = "ByteFallback" in kinds or bool(about["model"].get("byte_fallback"))
    if strange := kinds - _PLAIN:
        raise ModelError(
            f"tokenizer: the bytes of its tokens cannot be told (decoder {min(strange)})"
        )
    level = {name: byte for byte, name in byte_characters().items()}
    added = raw.get_added_tokens_decoder()
    found: _Found = []
    for token, index in raw.get_vocab(with_added_tokens=True).items():
        if index in added or not byte_level:
            text = token if index in added else _spaced(token, steps)
            is_byte = fallback and index not in added and bool(_BYTE.fullmatch(token))
            data = bytes([int(token[3:5], 16)]) if is_byte else text.encode()
            found.append((index, data, is_byte))
        if byte_level and all(letter in level for letter in token):
            found.append((index, bytes(level[letter] for letter in token), False))
        elif byte_level and index not in added:
            found.append((index, token.encode(), False))
    return found


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A decoder's or pre-tokenizer's parts."""
    if part is None:
        return []
    inner = part.get("decoders") or part.get("pretokenizers") or []
    return [part, *(step for one in inner for step in _steps(one))]


def _spaced(token: str, steps: list[dict[str, Any]]) -> str:
    """A token with the spaces that its marks stand for."""
    for step in steps:
        if step["type"] == "Metaspace":
            token = token.replace(step["replacement"], " ")
        elif step["type"] == "Replace" and "String" in step["pattern"]:
            token = token.replace(step["pattern"]["String"], step["content"])
    return token


def _of_tiktoken(raw: Any) -> _Found:
    special = {raw.encode_single_token(text): text for text in raw.special_tokens_set}
    found: _Found = [(index, text.encode(), False) for index, text in special.items()]
    for index in range(raw.n_vocab):
        if index not in special:
            try:
                found.append((index, raw.decode_single_token_bytes(index), False))
            except KeyError:  # ids between the ordinary tokens and the special ones
                continue
    return found


def _of_sentencepiece(pieces: Any) -> _Found:
    found: _Found = []
    for index in range(pieces.GetPieceSize()):
        piece = pieces.IdToPiece(index)
        if pieces.IsByte(index):
            found.append((index, bytes([int(piece[3:5], 16)]), True))
        elif not pieces.IsUnused(index):
            found.append((index, piece.replace("▁", " ").encode(), False))
    return found


def _strips(tokenizer: Any) -> bool:
    """Whether a tokenizer's decoder drops the space before the first word."""
    raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(raw, "get_added_tokens_decoder"):
        return not hasattr(raw, "decode_single_token_bytes")
    return any(
        step["type"] == "Strip"
        or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
        for step in _steps(json.loads(raw.to_str()).get("decoder"))
    )
