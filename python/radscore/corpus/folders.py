"""What else a folder holds: files that are no data, data that nothing reads, and splits."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING

from radscore.corpus.base import counted
from radscore.corpus.compression import codec_of_name
from radscore.errors import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["bare_name", "is_no_data", "note_of_copies", "note_of_splits", "note_of_unread"]

#: Files that lie beside data sets, tokenizers and models, and hold no documents.
_NO_DATA = (
    *("readme*", "license*", "licence*", "copying*", "notice*", "authors*", "citation*"),
    *("changelog*", "contributing*", "requirements*.txt", "*.md", "*.rst", "*.html", "*.pdf"),
    *("*.lock", "*.log", "*.crc", "*.md5", "*.sha1", "*.sha256", "*.sha512", "*sums", "*sums.txt"),
    *("*.py", "*.ipynb", "*.sh", "*.yaml", "*.yml", "*.toml", "*.cfg", "*.ini"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "thumbs.db", "desktop.ini"),
    # The library `datasets` keeps what `map` and `filter` made beside the data.
    *("cache-*.arrow", "cache-*.arrow.*"),
    *("merges.txt", "vocab.txt", "vocab.json", "vocab.bpe", "encoder.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.json*"),
    *("generation_config.json", "preprocessor_config.json", "*.index.json"),
)
_IS_NO_DATA = re.compile("|".join(map(translate, _NO_DATA)))
#: What the usual splits are called.
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "eval",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_SHOWN = 4


def is_no_data(name: str) -> bool:
    """Whether a file of this name is no part of a data set.

    Examples
    --------
    >>> is_no_data("README.md"), is_no_data("b.jsonl.xz")
    (True, False)
    """
    if name.startswith((".", "_")):
        return True
    return _IS_NO_DATA.fullmatch(name.lower()) is not None


def note_of_unread(folder: Path, unread: list[Path]) -> str | None:
    """The files of a folder that are not read, by name."""
    if not unread:
        return None
    names = [str(path.relative_to(folder)) for path in unread]
    shown = some_of(names, _SHOWN)
    if len(names) > _SHOWN:
        kinds = Counter("".join(Path(name).suffixes[-2:]) or "no suffix" for name in names)
        counts = ", ".join(f"{kind}: {n}" for kind, n in kinds.most_common(_SHOWN))
        shown += f" ({counts})"
    return f"{folder}: {counted(len(names), 'file')} not read: {shown}"


def bare_name(path: Path) -> str:
    """A file's name without any suffix of a codec."""
    return ".".join(part for part in path.name.split(".") if codec_of_name(f".{part}")[1] is None)


def note_of_copies(folder: Path, paths: list[Path]) -> str | None:
    """Files that are there both compressed and not, as a tool that unpacks them leaves them."""
    if all(bare_name(path) == path.name for path in paths):
        return None
    names = Counter(path.with_name(bare_name(path)) for path in paths)
    copies = [path for path in paths if names[path.with_name(bare_name(path))] > 1]
    if not copies:
        return None
    shown = some_of([path.relative_to(folder) for path in copies], _SHOWN)
    return f"{folder}: read both compressed and not, maybe twice the same: {shown}"


def note_of_splits(folder: Path, paths: Iterable[Path]) -> str | None:
    """The splits of a data set that are read together, if there are several."""
    found = Counter(
        split for path in paths if (split := _split_of(path.relative_to(folder))) is not None
    )
    if len(found) < 2:
        return None
    counts = ", ".join(f"{split} ({counted(n, 'file')})" for split, n in sorted(found.items()))
    return f"{folder}: several splits are read together: {counts}; name files to read one"


def _split_of(path: Path) -> str | None:
    """The split that the name of a file, or of a folder it is in, tells."""
    words = re.split(r"[^a-z]+", codec_of_name(path.name)[0].lower().rpartition(".")[0])
    told = {_SPLITS[word] for word in (*words, *map(str.lower, path.parts[:-1])) if word in _SPLITS}
    return told.pop() if len(told) == 1 else None
