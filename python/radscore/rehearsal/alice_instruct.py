"""Self-instruct: three examples, the request for more, and what comes back taken apart.

Y. Wang et al., "Self-Instruct: Aligning Language Models with Self-Generated Instructions", 2023.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError, shown
from radscore.rehearsal.alice_records import Record, as_ids

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

__all__ = [
    "FORMATS",
    "N_EXAMPLES",
    "Format",
    "Parsed",
    "Seen",
    "examples_prompt",
    "parse",
    "seeds_of",
    "span_of",
]

N_EXAMPLES = 3


@dataclass(frozen=True)
class Format:
    """How a record stands in a prompt.

    Attributes
    ----------
    opening : str
        Before the examples.
    instruction, answer : str
        What introduces each.
    """

    opening: str
    instruction: str = "Instruction:"
    answer: str = "Answer:"


#: Three lines add another one.
FORMATS = {
    "plain": Format("Different tasks, each an instruction and its answer.\n\n"),
    "alpaca": Format("", "### Instruction:\n", "### Response:\n"),
    "questions": Format("Different questions and their answers.\n\n", "Question:", "Answer:"),
}

#: What introduces an instruction or an answer, whichever format was asked for: models mix them up.
_HEAD = (
    r"^[ \t]*(?:[#>*_-]+[ \t]*)?(?:\d{{1,3}}[.)][ \t]*)?[*_]*"
    r"(?:{})(?:[ \t]*\d{{1,3}})?[*_]*[ \t]*:[*_]*"
)
_INSTRUCTION = re.compile(
    _HEAD.format("instruction|task|question|prompt|Q"), re.MULTILINE | re.IGNORECASE
)
_ANSWER = re.compile(
    _HEAD.format("answer|response|output|completion|A"), re.MULTILINE | re.IGNORECASE
)
#: What may be the beginning of a head at the end of a text, and the words that it then begins.
_HALF = re.compile(r"\n[ \t#>*_]*(?:\d{1,3}[.)][ \t]*)?([A-Za-z]*)[ \t]*\d{0,3}$")
_HEADS = ("instruction", "task", "question", "prompt")
_WORD = re.compile(r"\w+")


def examples_prompt(
    seeds: Sequence[Record],
    kept: Sequence[Record],
    form: Format,
    name: str,
    number: int = N_EXAMPLES,
) -> str:
    """Examples, one in three of them an earlier record if there is one, and the next one's head.

    What is drawn depends on `name` and the records alone.
    """
    rng = random.Random(name)  # noqa: S311
    n_kept = min(number // 3, len(kept))
    chosen = rng.sample(seeds, min(number - n_kept, len(seeds))) + rng.sample(kept, n_kept)
    rng.shuffle(chosen)
    parts = [
        f"{_headed(form.instruction, one.prompt)}\n{_headed(form.answer, one.answer)}\n\n"
        for one in chosen
    ]
    return form.opening + "".join(parts) + form.instruction.rstrip(" ")


def _headed(head: str, text: str) -> str:
    return head + ("" if head.endswith("\n") else " ") + text.strip()


@dataclass(frozen=True)
class Parsed:
    """An instruction and its answer in a text.

    Attributes
    ----------
    instruction, answer : str
    start, end : int
        Where the answer stands, in characters.
    last : bool
        Whether nothing follows it, so that more of it may have been to come.
    """

    instruction: str
    answer: str
    start: int
    end: int
    last: bool


def parse(text: str, *, cut: bool = False) -> tuple[list[Parsed], int]:
    r"""The records of a text that goes on from an instruction's head, and how many are none.

    Where the text was `cut`, what it ends with is no record, and not counted, unless an answer has
    begun.

    Examples
    --------
    >>> found, broken = parse(" Add 1 and 2.\nAnswer: 3\n\nInstruction: Say a colour.\nAnswer: Red")
    >>> [(one.instruction, one.answer, one.last) for one in found], broken
    ([('Add 1 and 2.', '3', False), ('Say a colour.', 'Red', True)], 0)
    """
    half = _HALF.search(text) if cut else None
    if half is not None and any(one.startswith(half[1].lower()) for one in _HEADS):
        text = text[: half.start()]
    else:
        half = None
    heads = list(_INSTRUCTION.finditer(text))
    begins = [0, *(one.end() for one in heads)]
    ends = [*(one.start() for one in heads), len(text)]
    if heads and not text[: heads[0].start()].strip():  # it repeated the head
        begins, ends = begins[1:], ends[1:]
    found, broken = [], 0
    for begin, end in zip(begins, ends, strict=True):
        head = _ANSWER.search(text, begin, end)
        first = "" if head is None else text[begin : head.start()].strip()
        unfinished = cut and end == len(text)
        if head is None or not first:
            broken += not unfinished
            continue
        again = _ANSWER.search(text, head.end(), end)
        stop = end if again is None else again.start()
        body = text[head.end() : stop]
        start = head.end() + len(body) - len(body.lstrip())
        answer = body.strip()
        if not answer:
            broken += not unfinished
            continue
        last = end == len(text) and again is None and half is None
        found.append(Parsed(first, answer, start, start + len(answer), last))
    return found, broken


def span_of(tokenizer: Any, tokens: Sequence[int], start: int, end: int, text: str) -> array[int]:
    """The ids of `tokens` that write text[start:end]; none if no run of them does exactly that."""

    def shown_by(number: int) -> int:
        return len(tokenizer.decode(tokens[:number], skip_special_tokens=True))

    def first_beyond(position: int) -> int:
        """The fewest tokens that show more than `position` characters."""
        low, high = 0, len(tokens)
        while low < high:
            middle = (low + high) // 2
            if shown_by(middle) > position:
                high = middle
            else:
                low = middle + 1
        return low

    begin, stop = max(first_beyond(start) - 1, 0), first_beyond(end - 1)
    chosen = as_ids(tokens[begin:stop])
    written = tokenizer.decode(chosen.tolist(), skip_special_tokens=True)
    return chosen if written.strip() == text[start:end] else as_ids()


@dataclass
class Seen:
    """Instructions that were kept, to find near-duplicates of them.

    Two are compared by their 3-grams of words. An instruction shares t of its n 3-grams with
    another only if any n - t + 1 of them meet it, so only those on its n - t + 1 rarest are looked
    at.
    """

    most: float
    grams: list[frozenset[str]] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)

    def is_new(self, instruction: str) -> bool:
        """Whether too few of its 3-grams stand in one that was kept; keeps it then."""
        words = _WORD.findall(instruction.lower())
        grams = frozenset(" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 1)))
        least = max(1, math.ceil(self.most * len(grams)))
        rare = sorted(grams, key=lambda one: (len(self.places.get(one, ())), one))
        near = {i for one in rare[: len(grams) - least + 1] for i in self.places.get(one, ())}
        if any(len(grams & self.grams[i]) >= least for i in near):
            return False
        for one in grams:
            self.places.setdefault(one, []).append(len(self.grams))
        self.grams.append(grams)
        return True


def seeds_of(prompts: Sequence[str | Record], form: Format) -> list[Record]:
    """Seeds from records, or from texts with an instruction and its answer.

    Raises
    ------
    ArgumentError
        If a text has no answer, or there are fewer than three.
    """
    found = list(_seeds(prompts, form))
    if len(found) < N_EXAMPLES:
        raise ArgumentError(
            f"prompts: self-instruct needs at least {N_EXAMPLES} seeds, not {len(found)}"
        )
    return found


def _seeds(prompts: Sequence[str | Record], form: Format) -> Iterator[Record]:
    for index, one in enumerate(prompts):
        if isinstance(one, Record):
            yield Record(one.prompt, one.answer)
            continue
        found, _ = parse(one) if isinstance(one, str) else ([], 0)
        if not found:
            raise ArgumentError(
                f"prompts: seed {index} must be a Record, or a text such as "
                f"'{form.instruction.strip()} ... {form.answer.strip()} ...' on two lines, not "
                f"{shown(one)}"
            )
        yield from (Record(each.instruction, each.answer) for each in found)
