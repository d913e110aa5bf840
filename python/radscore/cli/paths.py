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

_INPUTS = {
    "scheme": "the scheme",
    "key_file": "the key",
    "filter": "the filter",
    "model": "the model",
    "base": "the base of the model",
    "prompts": "the prompts",
    "reference": "the reference",
    "reference_base": "the base of the reference",
}


def check_outputs(args: argparse.Namespace, corpus: Corpus | Chats | None = None) -> None:
    """Raises unless every output is writable, and neither an input nor another output.

    Without a corpus only the options are checked.
    """
    inputs = {} if corpus is None else {str(one.path): "an input" for one in corpus.sources}
    given = vars(args)
    inputs |= {given[name]: what for name, what in _INPUTS.items() if given.get(name) is not None}
    if args.tokenizer is not None:
        inputs |= {args.tokenizer: "the tokenizer"}
        inputs |= {f"{args.tokenizer}/tokenizer.json": "the tokenizer"}
    for name, path in _outputs(args):
        if Path(path).is_dir():
            raise UsageError(f"{name} must be a file, but {path} is a folder")
        folder = Path(path).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{name}: there is no folder {folder}")
        if corpus is None:
            _check_folder(name, folder)
        for other, what in inputs.items():
            if _same(path, other):
                raise UsageError(f"{name} names {what}: {path}")
        inputs[path] = f"the same file as {name}"


def check_new(args: argparse.Namespace, *names: str) -> None:
    """Raises if an output exists already, unless --fresh says to replace it."""
    for name in names:
        path = getattr(args, name)
        if path is not None and not args.fresh and Path(path).exists():
            raise UsageError(
                f"{option(name)}: {path} already exists; add --fresh to replace it, or name "
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
        for name in ("out", "per_document", "state", "plot")
        if given.get(name) is not None
    ]
    if given.get("per_document") is not None and given.get("state") is not None:
        beside = ("documents", "sharing.0", "sharing.1")
        outputs += [("--state", f"{args.state}.{name}") for name in beside]
    return outputs


def _same(one: str, other: str) -> bool:
    """Whether two paths are one file, under whatever names and links."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)
