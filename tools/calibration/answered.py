"""Closed tests with weights: a reference reads the answers, or an API lists what is likely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs
from radscore.answers import Answers
from radscore.answers.expected import expected
from radscore.answers.places import DEFAULT_LISTED, DEFAULT_LISTED_ALONE, mean_lists
from radscore.answers.texts import texts_of
from radscore.audits.answer_scorer import AnswerScorer
from radscore.audits.closed import test_closed
from radscore.errors import TokenError
from radscore.models.loading import as_language_model

from tools.calibration.models import Habits, Induction
from tools.calibration.routes import LENGTH, N_TEXTS, answers_of
from tools.calibration.rows import Row
from tools.calibration.world import SUSPECTS, VOCAB, World, schemes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from radscore.models.listed import Listed
    from radscore.schemes import Scheme

__all__ = ["marked_answers", "unlike_prompts", "unmarked_answers"]

_AT_ONCE: Final = 25  # keys whose texts are read together
_LISTED: Final = 5


@dataclass(frozen=True)
class _Asked:
    """What a suspect said, and what was read of it.

    Attributes
    ----------
    said, prompts : Documents
        Of unmarked prompts the test is not told: so what was copied counts as well.
    listed : Listed
        The likeliest tokens of a model that continues what it reads.
    habits, both : Listed
        What a clean model expects that does not look back; its mean with one that does.
    other : Answers
        What another clean model of its kind said to the same prompts, with lists.
    counts : KgramCounts
        Of the contexts of unmarked text.
    """

    said: rs.Documents
    prompts: rs.Documents | None
    listed: Listed
    habits: Listed
    both: Listed
    other: Answers
    counts: rs.KgramCounts

    def read_by(self, expects: Listed) -> Answers:
        """The answers with what a reference expects at each token."""
        return Answers(self.said, self.prompts, listed=expects)

    @property
    def plain(self) -> Answers:
        """The answers without lists."""
        return Answers(self.said, self.prompts)


#: By route: the answers that are tested, and the other arguments.
_ROUTES: Final[dict[str, Callable[[_Asked], tuple[Answers, dict[str, Any]]]]] = {
    "expected": lambda a: (a.plain, {"reference": a.read_by(a.habits)}),
    "expected by two": lambda a: (a.plain, {"reference": a.read_by(a.both)}),
    "expected, counted contexts": lambda a: (
        a.plain,
        {"reference": a.read_by(a.habits), "contexts": a.counts},
    ),
    "listed": lambda a: (a.read_by(a.listed), {"reference": a.read_by(a.habits)}),
    "listed by two": lambda a: (a.read_by(a.listed), {"reference": a.read_by(a.both)}),
    "listed, counted contexts": lambda a: (
        a.read_by(a.listed),
        {"reference": a.read_by(a.habits), "contexts": a.counts},
    ),
    "listed, against another's": lambda a: (a.read_by(a.listed), {"reference": a.other}),
    "listed alone": lambda a: (a.read_by(a.listed), {}),
}


def _asked(
    world: World, suspect: str, keys: Sequence[Scheme | None], width: int
) -> Iterator[_Asked]:
    """Answers to prompts that each key has marked (None: unmarked), all read together."""
    counts = rs.KgramCounts(width, VOCAB, watermarked=False)
    counts.add(world.text(4 * N_TEXTS, LENGTH))
    asked = np.concatenate([world.text(N_TEXTS, LENGTH, key) for key in keys])
    said, others = (answers_of(world, suspect, asked) for _ in range(2))
    models = [as_language_model(one) for one in (_habits(world), Induction.of(VOCAB))]
    documents, theirs, prompts = map(rs.Documents.of, (said, others, asked))
    read = partial(expected, prompts=prompts, vocab_size=VOCAB)
    habits, looking = (read(one, documents) for one in models)
    listed = read(models[1], documents, likeliest=_LISTED)
    both = mean_lists([habits, looking])
    other = read(models[0], theirs, likeliest=_LISTED)
    for i in range(len(keys)):
        some = slice(i * N_TEXTS, (i + 1) * N_TEXTS)
        tokens = (some.start * LENGTH, some.stop * LENGTH)
        before = None if keys[i] is None else rs.Documents.of(asked[some])
        yield _Asked(
            said=rs.Documents.of(said[some]),
            prompts=before,
            listed=listed.positions(*tokens),
            habits=habits.positions(*tokens),
            both=both.positions(*tokens),
            other=Answers(rs.Documents.of(others[some]), before, listed=other.positions(*tokens)),
            counts=counts,
        )


def _habits(world: World) -> Habits:
    return Habits.of(world.habits, VOCAB)


def _world(suspect: str, n_keys: int) -> World:
    return World(np.random.default_rng([list(SUSPECTS).index(suspect), n_keys]))


def marked_answers(
    name: str, suspect: str, n_keys: int, only: Sequence[str] | None = None
) -> list[Row]:
    """Answers to prompts that each key has marked, which is declared.

    Under schemes without a seed before the target, which have no p-value then: none.
    """
    scheme = schemes()[name]
    if scheme.seed_kind == "target":
        return []
    world, routes = _world(suspect, n_keys), only or list(_ROUTES)
    found: dict[str, list[float]] = {route: [] for route in routes}
    keys = scheme.decoys(n_keys, seed=n_keys)
    for start in range(0, n_keys, _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        every = _asked(world, suspect, some, scheme.window_width - 1)
        for key, asked in zip(some, every, strict=True):
            for route in routes:
                answers, given = _ROUTES[route](asked)
                found[route].append(_log10(answers, key, {**given, "prompts_watermarked": True}))
    return [Row.of(name, f"{one}, marked prompts", suspect, found[one]) for one in routes]


def _log10(answers: Answers, key: Scheme, given: dict[str, Any]) -> float:
    try:
        return test_closed(answers, key, threads=1, **given).log10_pvalue
    except TokenError as error:
        if "nothing was scored" not in str(error):
            raise
        return math.nan


def unmarked_answers(
    name: str, suspect: str, n_keys: int, only: Sequence[str] | None = None
) -> list[Row]:
    """Answers to unmarked prompts: one text, whose weights all keys share."""
    scheme = schemes()[name]
    world = _world(suspect, n_keys)
    (asked,) = _asked(world, suspect, [None], scheme.window_width - 1)
    keys = scheme.decoys(n_keys, seed=n_keys)
    rows = []
    for route in only or _ROUTES:
        answers, given = _ROUTES[route](asked)
        other, counts = given.get("reference"), given.get("contexts")
        listed = answers.listed is not None
        transform = DEFAULT_LISTED_ALONE if other is None else DEFAULT_LISTED
        work = AnswerScorer(
            scheme,
            "listed" if listed else "residual",
            transform if listed else None,
            texts_of("answers", answers, None),
            None if other is None else texts_of("reference", other, None),
            prompts_watermarked=False,
            threads=1,
            contexts=counts,
        )
        log10s = [one.log10_pvalue for one in work.scorer_of(keys).results()]
        rows.append(Row.of(name, f"{route}, unmarked prompts", suspect, log10s))
    return rows


def unlike_prompts(name: str, n_keys: int) -> Row:
    """The planted mistake: prompts carry the mark, and the test of lists is not shown them."""
    scheme = schemes()[name]
    keys = scheme.decoys(n_keys, seed=n_keys)
    every = _asked(_world("copies", n_keys), "copies", keys, scheme.window_width - 1)
    found = [
        _log10(Answers(asked.said, None, listed=asked.listed), key, {})
        for key, asked in zip(keys, every, strict=True)
    ]
    return Row.of(name, "listed alone, hidden prompts", "copies", found)
