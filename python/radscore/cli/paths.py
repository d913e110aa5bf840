"""Where output goes: checked before hours of work to be writable, and not to be an input."""

from __future__ import annotations

import glob
import os
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from radscore.cli.exits import UsageError
from radscore.cli.parser import option

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from radscore.corpus import Corpus
    from radscore.models.chats import Chats

__all__ = ["check_new", "check_outputs", "check_run_folders", "named_folders"]

#: Options that name what is read: files, or folders with all that is in them.
_INPUTS = {
    "scheme": "the scheme",
    "key_file": "the key",
    "filter": "the filter",
    "model": "the model",
    "base": "the base of the model",
    "local": "the model",
    "prompts": "the prompts",
    "reference": "the reference",
    "reference_base": "the base of the reference",
    "tokenizer": "the tokenizer",
    "inputs": "an input",
    "members": "a file of members",
    "nonmembers": "a file of nonmembers",
    "unseen": "a file of unseen documents",
}


def check_outputs(args: argparse.Namespace, corpus: Corpus | Chats | None = None) -> None:
    """Raises unless every output is writable, and neither an input nor another output.

    Without a corpus only the options are checked.
    """
    inputs: dict[str, str] = {}
    if corpus is not None:
        for source in corpus.sources:
            inputs |= dict.fromkeys(map(str, (source.path, *source.sides)), "an input")
    for name, what in _INPUTS.items():
        given = getattr(args, name, None) or []
        inputs |= dict.fromkeys([given] if isinstance(given, str) else given, what)
    inputs |= dict.fromkeys(getattr(args, "more_keys", ()), "a key")
    for name, path in _outputs(args):
        if Path(path).is_dir():
            raise UsageError(f"{name} must be a file, but {path} is a folder")
        folder = Path(path).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{name}: there is no folder {folder}")
        for other, what in inputs.items():
            if _same(path, other) or (what != "an input" and _is_within(path, other)):
                raise UsageError(f"{name} names {what}: {path}")
        if os.path.lexists(path) and not (Path(path).is_file() or Path(path).is_symlink()):
            raise UsageError(f"{name}: {path} is not a file that can be replaced")
        if corpus is None:
            _check_folder(name, folder)
        inputs[path] = f"the same file as {name}"


def check_new(args: argparse.Namespace, *names: str) -> None:
    """Raises if an output exists already, unless --force says to replace it."""
    for name in names:
        path = getattr(args, name)
        if path is not None and not args.force and os.path.lexists(path):
            raise UsageError(
                f"{option(name)}: {path} already exists; add --force to replace it, or name "
                "another file"
            )


def named_folders(text: str) -> list[str]:
    """The folders of an option that takes several."""
    return [folder.strip() for folder in text.split(",")]


def check_run_folders(folders: Iterable[str], inputs: Iterable[str]) -> None:
    """Raises if a folder of a run is inside a folder that is read, and so would be read too."""
    for text in inputs:
        named = glob.glob(text, recursive=True) if glob.has_magic(text) else [text]  # noqa: PTH207
        for folder in folders:
            read = [one for one in named if Path(one).is_dir() and _reads(one, folder)]
            if fnmatch(os.path.realpath(folder), os.path.realpath(text)):  # even before it exists
                read.append(text)
            if read:
                raise UsageError(
                    f"the folder {folder} of the run is inside the input {read[0]}, so its files "
                    "would be read as part of the corpus; name a folder elsewhere"
                )


def _reads(one: str, other: str) -> bool:
    """Whether reading one folder includes the other, which may not exist yet."""
    try:
        inside = Path(os.path.realpath(other)).relative_to(os.path.realpath(one))
    except ValueError:
        return False
    return not any(name.startswith((".", "_")) for name in inside.parts)


def _check_folder(name: str, folder: Path) -> None:
    """Tries to write there: permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{name}: cannot write to the folder {folder}: {error.strerror}") from None


def _outputs(args: argparse.Namespace) -> list[tuple[str, str]]:
    given = vars(args)
    outputs = [
        (option(name), given[name])
        for name in ("out", "per_document", "state", "plot", "report")
        if given.get(name) is not None
    ]
    if given.get("per_document") is not None and given.get("state") is not None:
        beside = ("documents", "sharing.0", "sharing.1")
        outputs += [("--state", f"{args.state}.{name}") for name in beside]
    return outputs


def _is_within(path: str, folder: str) -> bool:
    """Whether a file that exists is one of those in a folder, under whatever names and links."""
    try:
        own = os.stat(path)  # noqa: PTH116
        inside = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)  # noqa: PTH118
        return any(_has(one, own) for one in inside)
    except OSError:
        return False


def _has(path: str, own: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), own)  # noqa: PTH116
    except OSError:
        return False


def _same(one: str, other: str) -> bool:
    """Whether two paths are one file, under whatever names and links."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)
