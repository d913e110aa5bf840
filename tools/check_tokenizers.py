"""Compares the fast tokenizer's ids with those of `tokenizers`, on real and on strange text.

``python tools/check_tokenizers.py --tokenizers FOLDER --text FOLDER [--megabytes 100] [--fuzz N]``
reads every ``*.json`` in the first folder as a tokenizer.json, and every UTF-8 file below the
second (also gzipped) as text. For each tokenizer it prints how much was compared, and differences;
it exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore._core import FastTokenizer
from radscore.errors import ArgumentError
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longer files are cut into documents of so many characters.
_LONGEST: Final = 60_000
_BATCH: Final = 2_000_000
#: Pieces that tokenizers are known to trip over.
_STRANGE: Final = (
    *("'s", "'S", "'t", "\t'd", "'ll", "'LL", "'ſ", "'re", "'VE", "''", "’s", "n't"),
    *("\n", "\r\n", "\r", "\n\n", " \n", "  \n", "\t", " ", "  ", "   ", "\u00a0", "\u3000"),
    *("\u2028", "\u0085", "\u200b", "\ufeff", "\0", "\x1c", "\x7f", "\u00ad", "\ufffd", "▁", "Ġ"),
    *("0", "7", "12", "123", "1234567", "½", "Ⅷ", "٣", "१", "²", "3.14", "1,000", "𝟘", "𑁦"),
    *("a", "Z", "the", " The", "HTTPServer", "camelCase", "é", "e\u0301", "ß", "ǅ", "ʰ", "ﬁ", "İ"),
    *("привет", "Ёлка", "αβγ", "שלום", "العربية", "हिन्दी", "ไทย", "ひらがな", "カタカナ", "漢字"),
    *("한국어", "\u1112\u1161\u11ab", "𠀀", "ក្រុម", "ქართული", "አማርኛ", "ᏣᎳᎩ", "ʼ", "ⴰ"),
    *("😀", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "\u20e3", "→", "€", "©", "…", "—", "«", "„"),
    *("!", "!!", "?!", "...", "(", "){", "</p>", "<|im_start|>", "<s>", "</s>", "<unk>", "[INST]"),
    *("<0x0A>", "\u0378", "\u2fe0", "\U000e0001", "\U0010ffff", "\ue000", "\u0345", "\u0334"),
    *("/", "//", "\\", "_", "__init__", "#", "@", "$1", "%", "&&", "*", "+=", "==", "~", "`", "^"),
)


def texts_below(folder: Path, limit: int) -> Iterator[str]:
    """The text files below a folder, cut into documents, up to `limit` bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    random.Random(1).shuffle(files)
    for path in files:
        data = path.read_bytes()
        if path.suffix == ".gz":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError):
                continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            continue
        text = text[: 20 * _LONGEST]  # no file dominates
        for start in range(0, len(text), _LONGEST):
            part = text[start : start + _LONGEST]
            yield part
            limit -= len(part.encode())
            if limit <= 0:
                return


def strange_texts(n: int, seed: int) -> Iterator[str]:
    """Strings of pieces that tokenizers trip over, of random code points, and of long runs."""
    rng = random.Random(seed)
    for i in range(n):
        length = rng.choice((1, 2, 3, 5, 8, 20, 60))
        kind = i % 8
        if kind == 0:
            yield "".join(_any_character(rng) for _ in range(length))
        elif kind == 1:
            yield rng.choice(_STRANGE) * rng.choice((17, 100, 400)) + rng.choice(_STRANGE)
        else:
            yield "".join(
                _any_character(rng) if kind == 2 and rng.random() < 0.2 else rng.choice(_STRANGE)
                for _ in range(length)
            )


def _any_character(rng: random.Random) -> str:
    limit = rng.choice((0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000))
    while 0xD800 <= (c := rng.randrange(limit)) < 0xE000:
        pass
    return chr(c)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def compare(tokenizer: Any, texts: Iterator[str]) -> tuple[str, bool]:
    """What was compared, and whether all ids are equal."""
    fast = FastTokenizer(tokenizer.to_str(), False)
    n_bytes = n_texts = n_tokens = n_referred = n_different = 0
    for batch in _batches(texts):
        values, offsets, refused = fast.encode(batch)
        referred = set(refused.tolist())
        for i, encoding in enumerate(tokenizer.encode_batch_fast(batch, add_special_tokens=False)):
            n_texts += 1
            n_bytes += len(batch[i].encode())
            n_tokens += len(encoding.ids)
            if i in referred:
                n_referred += 1
                continue
            ids = values[offsets[i] : offsets[i + 1]].tolist()
            if ids != encoding.ids:
                n_different += 1
                if n_different <= 3:
                    _show(batch[i], ids, encoding.ids)
    return (
        f"{n_texts:,} texts, {n_bytes / 1e6:.1f} MB, {n_tokens:,} tokens; "
        f"{n_referred:,} left to `tokenizers`, {n_different:,} different"
    ), n_different == 0


def _show(text: str, ours: list[int], theirs: list[int]) -> None:
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
    shown = repr(text[:200])
    print(f"    {shown}: from token {at} {ours[at : at + 9]}, not {theirs[at : at + 9]}")


def main() -> int:
    """Compares all tokenizers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    equal = True
    for path in sorted(args.tokenizers.glob("*.json")):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        sources = []
        if args.text is not None:
            sources.append(("real", texts_below(args.text, int(args.megabytes * 1e6))))
        if args.fuzz:
            sources.append(("strange", strange_texts(args.fuzz, args.seed)))
        for kind, texts in sources:
            try:
                found, same = compare(tokenizer, texts)
            except ArgumentError as error:
                print(f"{path.stem}: not covered: {str(error)[:200]}", flush=True)
                break
            print(f"{path.stem}, {kind}: {found}", flush=True)
            equal &= same
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
