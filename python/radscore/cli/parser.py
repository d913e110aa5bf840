"""The argument parser: one line for what is wrong, and never a value that may be a key."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from radscore.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Parser", "as_options", "hide_keys", "looks_like_key", "near"]

_KEY = re.compile(r"\b(?:0[xX])?[0-9a-fA-F]{8,}\b")
_REQUIRED = "the following arguments are required"
_KEYS = re.compile(r"[0-9a-fA-FxX+\-,;\s\[\]]{8,}")


class Parser(argparse.ArgumentParser):
    """Takes options in full only, and inputs between them too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.set_defaults(parser=self, run=_help, debug=False)
        self._words: tuple[str, ...] = ()
        #: Sections of --help that take long to make: called when it is shown.
        self.late_help: list[Callable[[], str]] = []

    def format_help(self) -> str:
        """As argparse's, with the late sections before the epilog."""
        epilog = self.epilog
        self.epilog = "\n\n".join([*(make() for make in self.late_help), epilog or ""])
        try:
            return super().format_help()
        finally:
            self.epilog = epilog

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; remembers the words for `error`."""
        self._words = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One line, as all of radscore's errors are."""
        if message.startswith(_REQUIRED):  # perhaps one of them was given, but misspelt
            names = (word.partition("=")[0] for word in self._words if word[:2] == "--" != word)
            wrong = [name for name in names if name not in self._option_string_actions]
            message = self.unknown(wrong[0]) if wrong else message
        print(f"radscore: error: {hide_keys(message)} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(Exit.USAGE)

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The arguments; inputs may stand after options."""
        args: argparse.Namespace
        args, rest = self.parse_known_args(arguments)
        command: Parser = args.parser
        # A word after an unknown option may be its value, and that a key: only names are shown.
        options = [word for word in rest if word.startswith("-") and word != "--"]
        if options:
            command.error(command.unknown(options[0]))
        inputs = [word for word in rest if word != "--"]
        if inputs and not hasattr(args, "inputs"):
            number = len(inputs)
            command.error(f"{number} argument{'' if number == 1 else 's'} too many")
        if inputs:
            args.inputs = [*args.inputs, *inputs]
        return args

    def unknown(self, word: str) -> str:
        """What to say of an option that there is not."""
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name == "--key":
            return (
                "there is no --key: every user of the machine can read a command line; write the "
                "key to a file and name it with --key-file"
            )
        return f"there is no option {name}{near(name, self._option_string_actions)}"


def _help(args: argparse.Namespace) -> int:
    """What a command without its subcommand does."""
    args.parser.print_help(sys.stderr)
    return Exit.USAGE


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...` where a known name is near, else nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def hide_keys(message: str) -> str:
    """`message` without what may be a key."""
    return _KEY.sub("(not shown, as it looks like a key)", message)


def looks_like_key(value: str) -> bool:
    """Whether a value may be a key that was given in place of the name of its file."""
    return _KEYS.fullmatch(value) is not None


def as_options(text: str, names: Iterable[str]) -> str:
    """`text` with Python's arguments (``dtype=``, ``format='npy'``) written as options.

    Examples
    --------
    >>> as_options("read it with format='npy', not with dtype=", ["format", "dtype"])
    'read it with --format npy, not with --dtype'
    """
    words = "|".join(names)
    text = re.sub(rf"^({words})(?= must| needs)", _option, text)
    return re.sub(rf"\b({words})=(?:'([^']*)')?", _option, text)


def _option(found: re.Match[str]) -> str:
    name, *value = (group for group in found.groups() if group is not None)
    return " ".join([f"--{name.replace('_', '-')}", *value])
