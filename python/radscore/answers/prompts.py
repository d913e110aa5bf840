"""Prompts, and the questions that they make: one a prompt and sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence


__all__ = ["Question", "questions_of", "read_prompts"]

_FIELDS = ("prompt", "text")


@dataclass(frozen=True)
class Question:
    """A prompt that is to be answered once.

    Attributes
    ----------
    prompt : str
    prompt_id : str
        16 hexadecimal digits of a SHA-256 of the prompt; with ``-2``, ``-3``, ... where the same
        prompt occurs again. It depends on the prompt alone, not on its place in a file.
    sample : int
        Which of several answers to the same prompt, from 0.
    seed : int or None
        The seed of this answer's draws, where there is one.
    """

    prompt: str
    prompt_id: str
    sample: int
    seed: int | None

    @property
    def key(self) -> tuple[str, int]:
        """What tells questions apart in a journal."""
        return self.prompt_id, self.sample


def questions_of(
    prompts: Sequence[str], *, samples: int = 1, seed: int | None = 0
) -> list[Question]:
    """The questions of some prompts, each prompt's samples together.

    Examples
    --------
    >>> one, two = questions_of(["Who?", "Who?"])
    >>> one.prompt_id, two.prompt_id
    ('d991a24e8e04231c', 'd991a24e8e04231c-2')
    """
    times: dict[str, int] = {}
    questions = []
    for index, prompt in enumerate(prompts):
        try:
            digest = hashlib.sha256(prompt.encode()).hexdigest()[:16]
        except (UnicodeEncodeError, AttributeError):
            raise ArgumentError(f"prompt {index} is no text: {prompt!r:.60}") from None
        times[digest] = times.get(digest, 0) + 1
        name = digest if times[digest] == 1 else f"{digest}-{times[digest]}"
        for sample in range(samples):
            drawn = None if seed is None else _seed(f"{seed}/{name}/{sample}")
            questions.append(Question(prompt, name, sample, drawn))
    return questions


def _seed(text: str) -> int:
    """31 bits: servers differ in what they take, and this is within all of it."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def read_prompts(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], field: str | None = None
) -> list[str]:
    """The prompts in JSON lines (also packed), Parquet or Arrow files.

    Parameters
    ----------
    paths : path or iterable of paths
        As `open_corpus` takes them.
    field : str, optional
        The field with the prompt's text; by default ``prompt``, else ``text``.

    Raises
    ------
    CorpusError
        If there is no prompt, or one is not text; the message names file and line.
    """
    from radscore.corpus.detect import find_sources

    sources = find_sources(paths)
    prompts: list[str] = []
    for source in sources:
        for where, record, flaw in source.format.records(source):
            if flaw is not None:
                raise CorpusError(f"{where}: {flaw}")
            prompts.append(_prompt(record, field, where))
    if not prompts:
        raise CorpusError(f"there are no prompts in {', '.join(str(s.path) for s in sources)}")
    return prompts


def _prompt(record: Any, field: str | None, place: str) -> str:
    from radscore.corpus.records import missing_field
    from radscore.corpus.text.tokenizer import flaw_of_text

    if not isinstance(record, dict):
        raise CorpusError(f"{place}: a record must be a JSON object")
    name = field or next((name for name in _FIELDS if name in record), _FIELDS[0])
    if name not in record:
        raise InputOptionError(f"{place}: {missing_field(name, record)}")
    prompt = record[name]
    if not isinstance(prompt, str):
        raise CorpusError(f"{place}: field {name!r} must hold text, not {type(prompt).__name__}")
    flaw = flaw_of_text(prompt)
    if flaw is not None:
        raise CorpusError(f"{place}: {flaw}")
    return prompt
