"""Whether several answers to one prompt are samples at all, or one answer over and over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["repeats_note"]

#: Share of further answers that repeat an earlier one from which it is worth a note.
_MANY = 0.5


def repeats_note(answers: Iterable[tuple[Hashable, Hashable]], temperature: object = None) -> str:
    """What to say about answers that repeat an earlier one to their prompt; "" if few do.

    Parameters
    ----------
    answers : iterable of pairs
        Prompt and answer, or what stands for them, in any order; of each question once. Answers
        without text should be left out.
    temperature : float, optional
        The one that was asked for, if it is known.

    Examples
    --------
    >>> repeats_note([("Who?", "I."), ("Who?", "You."), ("Why?", "So.")])
    ''
    """
    seen: dict[Hashable, set[Hashable]] = {}
    further = repeated = 0
    for prompt, answer in answers:
        known = seen.setdefault(prompt, set())
        further += bool(known)
        repeated += answer in known
        known.add(answer)
    if not repeated or repeated < _MANY * further:
        return ""
    why = "the server seems to ignore temperature and seed"
    if temperature == 0:
        why = "at temperature 0 they all do"
    return (
        f"{repeated:,} of {further:,} further answers to a prompt repeat an earlier one word for "
        f"word ({why}); they add no evidence, since repeated text counts once"
    )
