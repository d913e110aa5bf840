"""The argument parser: errors in one line, which never show a value that may be a key."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from radscore.cli.exits import Exit
from radscore.cli.output import note, printable
from radscore.errors import near, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Parser", "as_options", "hide_keys", "looks_like_key", "option"]

_KEY = re.compile(r"\b(?:0[xX])?[0-9a-fA-F]{8,}\b")
_KEYS = re.compile(r"[0-9a-fA-FxX+\-,;\s\[\]]{8,}")
_REQUIRED = "the following arguments are required"
_CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", re.DOTALL)
#: How commands are called where argparse names the argument.
COMMAND = "COMMAND"


#: Commands that stood by themselves in earlier versions, and still may.
_STEPS = ("prepare", "map", "reduce", "merge")


class Parser(argparse.ArgumentParser):
    """Takes options in full only, and inputs anywhere between them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.set_defaults(parser=self, run=_help, debug=False)
        self._words: tuple[str, ...] = ()
        #: Sections of --help that take long to make, so are made only to be shown.
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
        """Prints one line, as all errors are, and exits."""
        if message.startswith(_REQUIRED):  # perhaps one of them was given, but misspelt
            names = (word.partition("=")[0] for word in self._words if word[:2] == "--" != word)
            wrong = [name for name in names if name not in self._option_string_actions]
            message = self.unknown(wrong[0]) if wrong else message
        elif found := _CHOICE.fullmatch(message):
            message = self._no_choice(*found.groups())
        note(f"error: {hide_keys(message)} (see {self.prog} --help)")
        raise SystemExit(Exit.USAGE)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints help."""
        super()._print_message(printable(message), file)

    def _no_choice(self, argument: str, value: str, choices: str) -> str:
        """What to say about a value that is none of those allowed."""
        if argument != COMMAND:
            allowed = choices.replace(chr(39), "")
            hint = near(value.strip("'"), allowed.split(", "))
            return f"{argument} must be one of {allowed}, not {value}{hint}"
        own = self.prog.split()[1:]
        paths = {path[-1]: " ".join(["radscore", *own, *path]) for path in self.commands()}
        hint = near(value.strip("'"), paths, paths)
        return f"there is no command {' '.join([*own, value])}{hint}"

    def commands(self) -> Iterator[tuple[str, ...]]:
        """The words of every command below this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - has no public name
                for name, parser in action.choices.items():
                    yield from ((name, *path) for path in [(), *parser.commands()])

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The arguments; inputs may follow options."""
        words = sys.argv[1:] if arguments is None else list(arguments)
        if words and words[0] in _STEPS:
            note(f"{words[0]} is now a command of run: radscore run {words[0]}")
            words.insert(0, "run")
        args: argparse.Namespace
        args, rest = self.parse_known_args(words)
        command: Parser = args.parser
        # A word after an unknown option may be its value, and so a key: only names are shown.
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
        """What to say about an option that does not exist."""
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if name == "--key":
            return (
                "there is no --key, since every user of the machine can read a command line; write "
                "the key to a file and give its name with --key-file"
            )
        return f"there is no option {name}{near(name, self._option_string_actions)}"


def _help(args: argparse.Namespace) -> int:
    """What a command does without its subcommand."""
    args.parser.print_help(sys.stderr)
    return Exit.USAGE


def hide_keys(message: str) -> str:
    """`message` without anything that may be a key, or secret in an address."""
    return _KEY.sub("(not shown, as it looks like a key)", without_secrets(message))


def looks_like_key(value: str) -> bool:
    """Whether a value may be a key, given instead of the name of its file."""
    return _KEYS.fullmatch(value) is not None


def option(name: str) -> str:
    """The option that sets an argument.

    Examples
    --------
    >>> option("key_file")
    '--key-file'
    """
    return f"--{name.replace('_', '-')}"


def as_options(text: str, names: Iterable[str]) -> str:
    """`text` with Python's arguments (``dtype=``, ``format='npy'``) written as options.

    Examples
    --------
    >>> as_options("read it with format='npy', not with dtype=", ["format", "dtype"])
    'read it with --format npy, not with --dtype'
    >>> as_options("start over with fresh=True", ["fresh"])
    'start over with --fresh'
    >>> as_options("max_requests=5 is used up", ["max_requests"])
    '--max-requests 5 is used up'
    """
    words = "|".join(names)
    text = re.sub(rf"^({words})(?= must| needs)", _option, text)
    return re.sub(rf"\b({words})=(?:'([^']*)'|True\b|(\d[\d.]*))?", _option, text)


def _option(found: re.Match[str]) -> str:
    name, *value = (group for group in found.groups() if group is not None)
    return " ".join([option(name), *value])
