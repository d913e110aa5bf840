"""Writes the fast tokenizer's table of character classes, which are those of `tokenizers`.

``python tools/make_unicode_tables.py`` asks the installed `tokenizers` about every code point: its
general category and white space according to its regular expressions, what its `Digits` splits at,
and how its NFC treats it. These come from three libraries with different Unicode versions, so no
other source would give the same table.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from tokenizers import Regex
from tokenizers.normalizers import NFC, NFD
from tokenizers.pre_tokenizers import Digits, Split

TABLE: Final = Path(__file__).parents[1] / "rust/tokenize/src/unicode_data.rs"
# In the order of their numbers in `unicode.rs`.
CATEGORIES: Final = (
    *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe"),
    *("Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cn", "Co"),
)
#: The kind of control characters that are white space; no category distinguishes them.
SPACE_CONTROL: Final = len(CATEGORIES)
NUMERIC: Final = 1 << 5
REORDERS: Final = 1 << 6
UNSTABLE: Final = 1 << 7
CODE_POINTS: Final = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT: Final = "".join(map(chr, CODE_POINTS))


def members(expression: str) -> set[int]:
    """The code points that a single-character `expression` matches."""
    pieces = Split(Regex(f"(?!{expression})(?:.|\\n)"), "removed").pre_tokenize_str(TEXT)
    return {ord(char) for piece, _ in pieces for char in piece}


def numeric() -> set[int]:
    """The code points that `Digits` splits at."""
    found: set[int] = set()
    text = "".join(f"{chr(c)}\0" for c in CODE_POINTS)
    for piece, _ in Digits(individual_digits=True).pre_tokenize_str(text):
        if len(piece) == 1 and piece != "\0":
            found.add(ord(piece))
    return found


def unstable() -> set[int]:
    """Code points that NFC changes, or may join to the one before."""
    nfc, nfd = NFC(), NFD()
    found: set[int] = set()
    for c in CODE_POINTS:
        char = chr(c)
        if nfc.normalize_str(char) != char:
            found.add(c)
        found.update(map(ord, nfd.normalize_str(char)[1:]))
    return found


def reordering() -> set[int]:
    """Code points with a combining class, which NFC may reorder."""
    nfd = NFD()
    low, high = "\u0334", "\u0345"  # of the lowest and the highest class
    return {
        c
        for c in CODE_POINTS
        if nfd.normalize_str(high + chr(c)) != high + nfd.normalize_str(chr(c))
        or nfd.normalize_str(chr(c) + low) != nfd.normalize_str(chr(c)) + low
    }


def kinds() -> bytearray:
    """The kind and flags of every code point, one byte each."""
    table = bytearray(0x110000)
    space = members(r"\s")
    for index, category in enumerate(CATEGORIES):
        for c in members(rf"\p{{{category}}}"):
            table[c] = SPACE_CONTROL if category == "Cc" and c in space else index
    for flag, code_points in (
        (NUMERIC, numeric()),
        (REORDERS, reordering()),
        (UNSTABLE, unstable()),
    ):
        for c in code_points:
            table[c] |= flag
    return table


def main() -> None:
    """Writes the table, as runs of equal bytes."""
    table = kinds()
    table[0xD800:0xE000] = bytes([CATEGORIES.index("Cn")]) * 0x800  # not in any text
    runs = [(c, table[c]) for c in range(len(table)) if c == 0 or table[c] != table[c - 1]]
    items = [f"(0x{start:x}, 0x{kind:x})" for start, kind in runs]
    lines = []
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 100:
            lines.append(line)
            line = "   "
        line += f" {item},"
    lines.append(line)
    TABLE.write_text(
        "//! Character classes as `tokenizers` has them; `tools/make_unicode_tables.py` writes\n"
        "//! this file.\n\n"
        "/// The release of `tokenizers` that was asked.\n"
        f'pub const TOKENIZERS_VERSION: &str = "{version("tokenizers")}";\n\n'
        "/// First code point of each run of equal kinds, and that kind.\n"
        "#[rustfmt::skip]\n"
        f"pub static RUNS: [(u32, u8); {len(runs)}] = [\n" + "\n".join(lines) + "\n];\n"
    )
    print(f"{TABLE}: {len(runs)} runs")


if __name__ == "__main__":
    main()
