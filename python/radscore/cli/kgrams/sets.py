"""Sets of k-grams in files: loading them, and what to show of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.cli.exits import UsageError
from radscore.cli.output import count
from radscore.errors import StateError, TokenError

if TYPE_CHECKING:
    from radscore.kgrams import KgramCounts, KgramSet

__all__ = ["JSON", "facts", "load_counts", "load_kgrams", "rows"]

#: Names of files that hold k-grams as JSON.
JSON = (".json", ".jsonl", ".ndjson")
#: How a set that radscore saved begins.
_MAGIC = b"RSKG"


def load_kgrams(path: str, option: str, vocab_size: int | None) -> KgramSet:
    """The set in a file, whatever its name; messages name the option that it came from."""
    from radscore import _core
    from radscore.kgrams import KgramSet

    try:
        with Path(path).open("rb") as file:
            is_set = file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror}") from None
    if not is_set and Path(path).suffix not in JSON:
        raise UsageError(
            f"{option}: {path} is not a set of k-grams, as radscore kgrams build makes them, nor a "
            ".json or .jsonl file of k-grams"
        )
    if not is_set and vocab_size is None:
        raise UsageError(f"--vocab-size is needed for the k-grams in {path}")
    try:
        if is_set:
            return KgramSet(_core.KgramSet.load(Path(path)))
        return KgramSet.load(path, vocab_size=vocab_size)
    except (StateError, TokenError) as error:
        raise UsageError(f"{option}: {error}") from None


def load_counts(path: str, option: str) -> KgramCounts:
    """The counts in a file; messages name the option that it came from."""
    from radscore.kgrams import KgramCounts

    if Path(path).suffix in JSON or not Path(path).is_file():
        why = "is JSON" if Path(path).is_file() else "no such file"
        raise UsageError(
            f"{option}: {path}: {why}; make counts with radscore kgrams build --counts"
        )
    try:
        return KgramCounts.load(path)
    except StateError as error:
        raise UsageError(f"{option}: {error}") from None


def facts(kgrams: KgramSet) -> dict[str, Any]:
    """What JSON says about a set."""
    return {
        "n_kgrams": len(kgrams),
        "width": kgrams.width,
        "vocab_size": kgrams.vocab_size,
        "origin": asdict(kgrams.origin),
        "fingerprint": kgrams.fingerprint,
    }


def rows(kgrams: KgramSet) -> list[tuple[str, str]]:
    """What a table says about a set."""
    return [
        ("k-grams", count(len(kgrams))),
        ("width", count(kgrams.width)),
        ("vocabulary", count(kgrams.vocab_size)),
        ("made from", kgrams.origin.words),
        ("fingerprint", kgrams.fingerprint),
    ]
