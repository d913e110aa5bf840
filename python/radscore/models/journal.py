"""The journal: an append-only file of texts that survives being killed.

`generate`, `ask` and `ask_local` write one. Every answer is one line of JSON, and on the disk
before its question counts as answered. A killed process leaves at most a torn last line, whose
question is simply asked again; a last record that only lacks its newline gets one.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscore.errors import ArgumentError, StateError
from radscore.files import append, lock_open, sync_folder
from radscore.models.sent import Sent, SentRequests
from radscore.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radscore.models.questions import Question

__all__ = ["Journal", "Usage"]

#: How every record begins.
_FIRST = b'{"prompt_id": '
#: What some readers take for ends of lines, and terminals for commands: escaped, as JSON can.
_BREAKS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass
class Usage:
    """What the records of a journal have cost.

    Attributes
    ----------
    requests : int
        Requests sent, failed ones included.
    prompt_tokens, completion_tokens : int
        As the server counted them; where it did not say, or the process was killed before it
        could, an upper bound.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Counts a record; `ValueError` or `TypeError` if it states no counts."""
        usage = record.get("usage") or {}
        self.requests += _count(record.get("attempts"))
        self.prompt_tokens += _count(usage.get("prompt_tokens"))
        self.completion_tokens += _count(usage.get("completion_tokens"))


def _count(value: Any) -> int:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(value)
    return value or 0


@dataclass
class _Content:
    """What a journal holds."""

    answered: dict[tuple[str, int], int] = field(default_factory=dict)
    settings: dict[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)
    probe: tuple[dict[str, Any], Any] | None = None
    end: int = 0  #: bytes of whole records
    unended: bool = False  #: whether the last record lacks its newline


class Journal:
    """Answers in a JSON lines file that has one writer at a time.

    Opening reads the whole file once; every answer then costs one `fsync`.

    Parameters
    ----------
    path : path
        Created if it does not exist. Its records stay and new ones are appended, except that a
        torn last line is cut off.
    settings : dict
        How the model is asked. Every record carries them, and version, date and command.
    fresh : bool
        Whether to start over: drops all records. A file that is not a journal is still refused.
    force : bool
        Whether to start over whatever the file holds.
    accept_changes : bool, optional
        Whether to append to records that were made with other settings. None is False, for
        callers that cannot mix settings: the error message then does not offer it.

    Attributes
    ----------
    answered : dict
        Keys of the questions that have an answer, with a hash of its text.
    usage : Usage
        Of all records.
    probe : Any
        What the last record of a probe says that was made with the same settings, if there is one.
    cut : bool
        Whether a torn last line was cut off.

    Raises
    ------
    ArgumentError
        If the records were made with other settings.
    StateError
        If the file is not a journal, is damaged, or another process is writing to it.

    Examples
    --------
    >>> import tempfile
    >>> from radscore.models.questions import questions_of
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
        fresh: bool = False,
        force: bool = False,
        accept_changes: bool | None = None,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self._made = provenance()
        self.cut = False
        self._sent = SentRequests(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _check_regular(self._fd, self.path)
            _lock(self._fd, self.path)
            self._sent.read(fresh=fresh or force)
            content = _Content() if force else self._read()
            if fresh:
                content = _Content()
            elif content.settings is not None and not accept_changes:
                offered = accept_changes is not None
                _check_same(self.path, content.settings, settings, offer_changes=offered)
            if content.end < os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, content.end)
                self.cut = not (content.unended or fresh or force)
            if content.unended:
                append(self._fd, b"\n")
            sync_folder(self.path.absolute().parent)
        except BaseException:
            self.close()
            raise
        for one in (one for some in self._sent.waiting.values() for one in some):
            content.usage.requests += 1
            content.usage.prompt_tokens += one.most_in
            content.usage.completion_tokens += one.most_out
        self.answered = content.answered
        self.usage = content.usage
        then, found = content.probe or ({}, None)
        self.probe = found if then == settings else None

    def _read(self) -> _Content:
        content = _Content()
        with open(os.dup(self._fd), "rb") as file:  # noqa: PTH123 - a descriptor
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self._take_last(content, line, number)
                    break
                if not line.isspace():
                    self._take(content, line, number)
                content.end += len(line)
        return content

    def _take_last(self, content: _Content, line: bytes, number: int) -> None:
        """Takes a line without a newline: a whole record, or what a killed writer left of one."""
        written = line.rstrip(b"\0")  # a power failure can leave these
        if not written.startswith(_FIRST[: len(written)]):
            raise self._not_a_record(number)
        try:
            json.loads(written)
        except (ValueError, RecursionError):
            return  # torn: the caller cuts it off
        self._take(content, written, number)
        content.end += len(written)
        content.unended = True

    def _not_a_record(self, number: int) -> StateError:
        return StateError(
            f"{self.path}:{number}: not a record of an answer, so the file is left as it is; name "
            "another one"
        )

    def _take(self, content: _Content, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            key = _key(record)
            settings = dict(record["settings"])
            content.usage.add(record)
            self._sent.settle(key, _count(record.get("attempts")), content.end)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._not_a_record(number) from None
        content.settings = content.settings or settings
        if "text" in record:
            content.answered[key] = hash(record["text"])
        if "probe" in record:
            content.probe = settings, record["probe"]

    def sent(self, question: Question, most_in: int, most_out: int) -> None:
        """Says, before a request is sent, how many tokens it can use at most.

        The next record of the question has what became of it. If there is none, since the process
        was killed, the request and these tokens count.
        """
        self._sent.add(question, Sent(os.fstat(self._fd).st_size, most_in, most_out))

    def answer(self, question: Question, content: dict[str, Any]) -> None:
        """Appends an answer (with ``text``) or a failure (with ``error``); on disk on return."""
        self.answers([(question, content)])

    def answers(self, items: list[tuple[Question, dict[str, Any]]]) -> None:
        """Appends several at once, in one write."""
        lines, at = [], os.fstat(self._fd).st_size
        for question, content in items:
            record = {
                "prompt_id": question.prompt_id,
                "sample": question.sample,
                "seed": question.seed,
                "prompt": question.prompt,
                **content,
                "settings": self.settings,
                "provenance": self._made,
            }
            line = json.dumps(record, ensure_ascii=False, allow_nan=False)
            lines.append(_BREAKS.sub(lambda found: json.dumps(found[0])[1:-1], line) + "\n")
        append(self._fd, "".join(lines).encode("utf-8", errors="backslashreplace"))
        for question, content in items:
            self.usage.add(content)
            self._sent.settle(question.key, _count(content.get("attempts")), at)
            if "text" in content:
                self.answered[question.key] = hash(content["text"])

    def missing(self, questions: list[Question]) -> list[Question]:
        """The questions without an answer, failed ones included."""
        return [question for question in questions if question.key not in self.answered]

    def texts(self) -> Iterator[tuple[str, int]]:
        """The prompt of each answer, and a hash of its text; answers without text are left out."""
        empty = hash("")
        for (name, _), text in self.answered.items():
            if text != empty:
                yield name.partition("-")[0], text  # the same prompt, however often it was given

    def close(self) -> None:
        """Closes the file, which lets others write to it."""
        self._sent.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _key(record: dict[str, Any]) -> tuple[str, int]:
    """What identifies a record's question; an error if it is none, or its text is no text."""
    name, sample = record["prompt_id"], record["sample"]
    if type(name) is not str or type(sample) is not int or sample < 0:
        raise ValueError(sample)
    if not isinstance(record.get("text", ""), str):
        raise TypeError(name)
    return name, sample


def _check_same(
    path: Path, then: dict[str, Any], now: dict[str, Any], *, offer_changes: bool
) -> None:
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if changed:
        name = changed[0]
        more = f" (also changed: {', '.join(changed[1:])})" if changed[1:] else ""
        mix = ", or accept_changes= to keep answers of both kinds" if offer_changes else ""
        raise ArgumentError(
            f"{path} was made with {name} {then.get(name)!r}, not {now.get(name)!r}{more}: name "
            f"another file, or use fresh= to start over{mix}"
        )


def _check_regular(fd: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise StateError(f"{path} is not a regular file; name another one")


def _lock(fd: int, path: Path) -> None:
    try:
        lock_open(fd)
    except BlockingIOError:
        raise StateError(f"{path}: another process is writing its answers to this file") from None
