"""The journal of answers: a file that only grows, and that loses nothing.

Every answer is one line of JSON, on the disk before its question counts as answered. A process
that is killed leaves at most a torn last line, whose question is simply asked again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscore.errors import ArgumentError, StateError

if TYPE_CHECKING:
    from types import TracebackType

    from radscore.answers.prompts import Question

__all__ = ["Journal", "Totals"]

#: How every record begins.
_FIRST = b'{"prompt_id": '


@dataclass
class Totals:
    """What the records of a journal have cost.

    Attributes
    ----------
    requests : int
        Requests that were sent, those that failed included.
    prompt_tokens, completion_tokens : int
        As the server counted them; where it did not say, the most that they can have been.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Counts a record."""
        usage = record.get("usage") or {}
        self.requests += int(record.get("attempts") or 0)
        self.prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self.completion_tokens += int(usage.get("completion_tokens") or 0)


@dataclass
class _Content:
    """What stands in a journal."""

    answered: set[tuple[str, int]] = field(default_factory=set)
    failed: set[tuple[str, int]] = field(default_factory=set)
    settings: dict[str, Any] | None = None
    totals: Totals = field(default_factory=Totals)
    end: int = 0


class Journal:
    """Answers in a file of JSON lines, one writer at a time.

    Parameters
    ----------
    path : path
        Made where it is not there. What is in it stays: lines are only added, but for a last
        line that was torn when a process was killed, which is cut off.
    settings : dict
        How the model is asked. Every record carries them.
    accept_changes : bool
        Whether to go on where the records were made with other settings.

    Raises
    ------
    StateError
        If the file is no journal, is damaged, is written to by another process, or was made with
        other settings.

    Examples
    --------
    >>> import tempfile
    >>> from radscore.answers.prompts import questions_of
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (question,) = questions_of(["Who?"])
    ...     with Journal(f"{folder}/answers.jsonl", {"model": "m"}) as journal:
    ...         journal.answer(question, {"text": "I."})
    ...     with Journal(f"{folder}/answers.jsonl", {"model": "m"}) as journal:
    ...         print(question.key in journal.answered)
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: dict[str, Any],
        *,
        accept_changes: bool = False,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self.cut = False  #: whether a torn last line was cut off
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(self._fd, self.path)
            content = self._read()
            if content.settings is not None and not accept_changes:
                _same(self.path, content.settings, settings)
            if content.end < os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, content.end)
                self.cut = True
            _sync_folder(self.path)
        except BaseException:
            os.close(self._fd)
            raise
        self.answered = content.answered
        self.failed = content.failed
        self.totals = content.totals

    def _read(self) -> _Content:
        content = _Content()
        with open(os.dup(self._fd), "rb") as file:  # noqa: PTH123 - of a descriptor
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self._check_torn(line, number)
                    break
                content.end += len(line)
                if not line.isspace():
                    self._take(content, line, number)
        return content

    def _check_torn(self, line: bytes, number: int) -> None:
        """A line without its end is cut off only if it is what a killed writer leaves."""
        written = line.rstrip(b"\0")  # after a power failure a file can end in these
        if not written.startswith(_FIRST[: len(written)]):
            raise self._no_record(number)

    def _no_record(self, number: int) -> StateError:
        return StateError(
            f"{self.path}:{number}: this is no record of an answer, so nothing is added to the "
            "file; name another one"
        )

    def _take(self, content: _Content, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            key = (str(record["prompt_id"]), int(record["sample"]))
            settings = dict(record["settings"])
            content.totals.add(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._no_record(number) from None
        content.settings = content.settings or settings
        if "text" in record:
            content.answered.add(key)
            content.failed.discard(key)
        elif key not in content.answered:
            content.failed.add(key)

    def answer(self, question: Question, content: dict[str, Any]) -> None:
        """Adds an answer (with a ``text``) or a failure (with an ``error``); on disk on return."""
        self.answers([(question, content)])

    def answers(self, items: list[tuple[Question, dict[str, Any]]]) -> None:
        """Adds several at once."""
        lines = []
        for question, content in items:
            record = {
                "prompt_id": question.prompt_id,
                "sample": question.sample,
                "seed": question.seed,
                "prompt": question.prompt,
                **content,
                "settings": self.settings,
            }
            lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        data = memoryview("".join(lines).encode("utf-8", errors="backslashreplace"))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)
        for question, content in items:
            self.totals.add(content)
            if "text" in content:
                self.answered.add(question.key)
                self.failed.discard(question.key)
            else:
                self.failed.add(question.key)

    def missing(self, questions: list[Question]) -> list[Question]:
        """The questions without an answer; those that failed are among them."""
        return [question for question in questions if question.key not in self.answered]

    def close(self) -> None:
        """Closes the file, and so lets others write to it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _same(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if changed:
        name = changed[0]
        more = f" (also changed: {', '.join(changed[1:])})" if changed[1:] else ""
        raise ArgumentError(
            f"{path} was made with {name} {then.get(name)!r}, not {now.get(name)!r}{more}: name "
            "another file, or accept_changes= to have answers of both kinds in it"
        )


def _lock(fd: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StateError(f"{path}: another process is writing its answers to this file") from None


def _sync_folder(path: Path) -> None:
    """A new file's name is on the disk too."""
    try:
        fd = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:  # some file systems cannot
        pass
    finally:
        os.close(fd)
