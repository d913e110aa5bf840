"""Tables and JSON on stdout, notes on stderr: the one way to the terminal.

Names of files, fields and models, answers of servers and snippets of text may hold anything. What
could command a terminal, or show text in another order than it has, is escaped here and only here.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from radscore.provenance import listed, of_corpus, provenance
from radscore.stats.result import power_of_ten, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.corpus import SkipReport
    from radscore.stats.result import Result

__all__ = [
    "STDOUT",
    "count",
    "duration",
    "finite",
    "json_out",
    "made_by",
    "note",
    "power_of_ten",
    "printable",
    "say",
    "share",
    "show",
    "skipped_text",
    "sync_stdout",
    "table",
    "verdict_row",
]


#: Takes the place of a file's name if stdout cannot be written.
STDOUT = "stdout"


#: Controls of C0 and C1 but for tabs and line feeds, marks of direction, separators of lines,
#: annotations and tags that nobody sees, and halves of surrogate pairs, which no stream takes.
_UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""`text` with escapes for what is not to reach a terminal.

    Examples
    --------
    >>> print(printable("a\x1b[2J\u202e"))
    a\x1b[2J\u202e
    """
    return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show(text: str) -> None:
    """Writes to stdout and flushes it, so that a full disk is reported as stdout's."""
    text = printable(text)
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from None


def say(text: str) -> None:
    """Writes lines to stderr. What cannot be written there changes nothing else."""
    with suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def sync_stdout() -> None:
    """Waits until a file that stdout goes to is on the disk: then its origin may be deleted."""
    try:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
    except (OSError, ValueError, AttributeError) as error:  # it may be no file at all
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise OSError(error.errno, error.strerror, STDOUT) from None


def note(text: str) -> None:
    """Tells the user something on stderr, in one line."""
    say(f"radscore: {text}".replace("\n", "\\n"))


def table(rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and values in two columns; further lines of a value go below it."""
    rows = [row for row in rows if row[1]]
    width = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, value in rows:
        first, *rest = value.rstrip("\n").split("\n")
        lines.append(f"{name:<{width}}  {first}\n")
        lines += [f"{'':<{width}}  {line}\n" for line in rest]
    show("".join(lines))


def json_out(value: Any) -> None:
    """Prints JSON that every reader accepts: numbers that are not finite become null or text."""
    try:
        "\xe9\u0394".encode(sys.stdout.encoding or "utf-8")
        plain = False
    except UnicodeEncodeError:
        plain = True
    text = json.dumps(finite(value), indent=2, ensure_ascii=plain, allow_nan=False)
    show(_UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")


def finite(value: Any) -> Any:
    """A value for JSON: NaN becomes null, infinities text, and numbers of numpy Python's."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        return finite(value.item())
    return value


def count(number: int, thing: str = "") -> str:
    """A number with grouped digits, and what it counts."""
    if not thing:
        return f"{number:,}"
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):,g} {unit}"
    return f"{seconds:.2g} seconds"


def share(part: float, whole: float) -> str:
    """A share as a percentage."""
    return f"{100 * part / whole:.3g} %" if whole else "0 %"


def verdict_row(log10_pvalue: float) -> tuple[str, str]:
    """The row of a table after the p-value; nothing where there is none."""
    return "verdict", "" if math.isnan(log10_pvalue) else verdict(log10_pvalue)


def made_by(result: Result, corpus: Any, paths: Iterable[str]) -> dict[str, Any]:
    """The provenance of a result of a corpus, or of files that are none."""
    if hasattr(corpus, "manifest"):
        return {**result.provenance, **of_corpus(corpus.manifest(), corpus.settings)}
    return {**result.provenance, **provenance(files=listed(list(paths)))}


def skipped_text(skipped: SkipReport, n_documents: int) -> str:
    """What was skipped in a corpus; "" if nothing was."""
    if not skipped:
        return ""
    parts = []
    if skipped.count:
        part = share(skipped.count, skipped.count + n_documents)
        parts.append(f"{count(skipped.count, 'record')} ({part})")
    if skipped.files:
        parts.append(f"the rest of {count(skipped.files, 'file')}")
    return "\n".join([" and ".join(parts), *skipped.examples])
