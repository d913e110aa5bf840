"""The fast path of a tokenizer, if it has one that agrees with the installed `tokenizers`."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from radscore._core import FastTokenizer
from radscore.errors import ArgumentError

__all__ = ["fast_equal", "sensitive_model"]


def fast_equal(tokenizer: Any, state: str, *, add_special_tokens: bool) -> FastTokenizer:
    """The fast tokenizer that gives the same ids as `tokenizer`, whose `to_str()` is `state`.

    Raises
    ------
    ArgumentError
        If there is none; the message names what is not covered.
    """
    if getattr(tokenizer, "encode_special_tokens", False):
        raise ArgumentError("special tokens that are encoded as text")
    fast = FastTokenizer(state, add_special_tokens)
    installed = version("tokenizers")
    if installed != FastTokenizer.TOKENIZERS_VERSION and (odd := _differing_text(state)):
        raise ArgumentError(f"tokenizers {installed}, which splits {odd!r} differently")
    return fast


def _differing_text(state: str) -> str | None:
    """A text that the installed `tokenizers` splits differently, as with other Unicode tables.

    The texts contain the borders of all character classes; the ids of the model show each split.
    """
    from tokenizers import Tokenizer

    settings = json.loads(state)
    if "ByteLevel" not in json.dumps(settings["pre_tokenizer"]):
        return None  # text is not split by character class
    settings.update(model=sensitive_model(), added_tokens=[], post_processor=None)
    probed = json.dumps(settings)
    texts = FastTokenizer.probe()
    values, offsets, refused = FastTokenizer(probed, False).encode(texts)
    skipped = set(refused.tolist())
    expected = Tokenizer.from_str(probed).encode_batch_fast(texts, add_special_tokens=False)
    for i, text in enumerate(texts):
        if i not in skipped and values[offsets[i] : offsets[i + 1]].tolist() != expected[i].ids:
            return text
    return None


def sensitive_model() -> dict[str, Any]:
    """A byte-level model in which any byte merges with a letter, digit, space or dot beside it.

    So the ids of a text show where it was split.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    chars = {byte: chr(byte) for byte in printable}
    chars |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    anchors = [chars[ord(c)] for c in "a1 .\n'"]
    merges = [(char, anchor) for anchor in anchors for char in chars.values()]
    merges += [(anchor, char) for anchor in anchors for char in chars.values()]
    tokens = dict.fromkeys([*chars.values(), *(left + right for left, right in merges)])
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": list(dict.fromkeys(merges)),
    }
