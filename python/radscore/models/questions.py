"""`Question`: one prompt to be answered once, with a name and a seed that depend on it alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscore.errors import ArgumentError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Question", "questions_of"]


@dataclass(frozen=True)
class Question:
    """A prompt to be answered once.

    Attributes
    ----------
    prompt : str
    prompt_id : str
        16 hexadecimal digits of the prompt's SHA-256, followed by ``-2``, ``-3``, ... where the
        same prompt is repeated. Depends on the prompt, never on its position in a file.
    sample : int
        Which of several answers to the same prompt this is, from 0.
    seed : int or None
        Seed for drawing this answer, if there is one.
    """

    prompt: str
    prompt_id: str
    sample: int
    seed: int | None

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the question in a journal."""
        return self.prompt_id, self.sample


def questions_of(
    prompts: Sequence[str], *, samples: int = 1, seed: int | None = 0
) -> list[Question]:
    """Turns prompts into questions, the samples of each prompt next to each other.

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
            raise ArgumentError(f"prompt {index} is not text: {shown(prompt)}") from None
        times[digest] = times.get(digest, 0) + 1
        name = digest if times[digest] == 1 else f"{digest}-{times[digest]}"
        for sample in range(samples):
            drawn = None if seed is None else _seed(f"{seed}/{name}/{sample}")
            questions.append(Question(prompt, name, sample, drawn))
    return questions


def _seed(text: str) -> int:
    """A seed of 31 bits, which every server accepts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
