"""Random schemes, each as the pure-Python twin, in the compiled core, and as users write it.

All of them come from the families that the twins register.
"""

import os
from dataclasses import dataclass, field

import radscore as rs
from hypothesis import settings
from hypothesis import strategies as st
from radscore import _core

from tests.twin.schemes import Scheme, families

#: Random twins by family.
FAMILIES = {name: family.twins for name, family in families.FAMILIES.items()}


def examples(n):
    """So many examples, or RADSCORE_EXAMPLES times as many for a long search."""
    return settings(max_examples=n * int(os.environ.get("RADSCORE_EXAMPLES", "1")), deadline=None)


def core_of(twin: Scheme, **more) -> _core.Scheme:
    """The same scheme in the compiled core."""
    family = families.family_of(twin)
    parameters = family.core(twin) | more
    return _core.Scheme(family.scheme, vocab_size=twin.vocab_size, **parameters)


def public_of(twin: Scheme) -> rs.Scheme:
    """The same scheme as users write it."""
    return families.family_of(twin).public(twin)


def tokens(twin: Scheme, few: int = 3):
    """Token ids: a few, so that windows come again, and those at both ends."""
    top = twin.vocab_size - 1
    spread = [0, 1, 2, 3, top, top // 2, top - 1][:few] if few <= 7 else list(range(few))
    return st.one_of(st.sampled_from(spread), st.sampled_from(spread), st.integers(0, top))


@dataclass(frozen=True)
class Case:
    """What is added to a scorer, and under which rules."""

    documents: list
    prompts: list | None
    weights: list | None
    filter: frozenset | None
    start: int | None
    prompt_role: str
    combine: str
    threads: int
    damping: dict = field(default_factory=dict)


#: Sums of these are exact, so that the order of additions cannot show.
dyadic = st.integers(-16, 16).map(lambda x: x / 8)


@st.composite
def cases(draw, twin: Scheme, *, weighted: bool | None = None):
    few = draw(st.sampled_from([1, 2, 3, 7]))
    width = twin.window_width
    document = st.lists(tokens(twin, few), max_size=width + 12)
    documents = draw(st.lists(document, max_size=5))
    if draw(st.booleans()) and documents:  # whole passages come again
        documents.append(documents[0][draw(st.integers(0, 2)) :] + documents[-1])
    n = len(documents)
    prompts = None
    if draw(st.booleans()):
        piece = st.sampled_from([d[1:] for d in documents] or [[]])
        prompt = st.one_of(st.lists(tokens(twin, few), max_size=width + 4), piece)
        prompts = draw(st.lists(prompt, min_size=n, max_size=n))
    weights = None
    if draw(st.booleans()) if weighted is None else weighted:
        weights = [draw(st.lists(dyadic, min_size=len(d), max_size=len(d))) for d in documents]
    contexts = {tuple(d[i : i + width - 1]) for d in documents for i in range(len(d) - width + 2)}
    phi = None
    if 1 < width <= 17 and draw(st.booleans()):
        kept = st.sets(st.sampled_from(sorted(contexts))) if contexts else st.just(set())
        phi = frozenset(draw(kept))
    roles = ["exclude", "exclude", "context"] if twin.reaches_prompt else ["exclude"]
    prompt_role = draw(st.sampled_from(roles))
    earlier = twin.padding is not None or prompt_role == "context"
    starts = st.integers(0 if earlier else width - 1, width + 3)
    combine = draw(st.sampled_from(["one", "one", "sum"]))
    damping = {
        name: draw(st.sampled_from([0.5, 3.0, 30.0]))
        for name in ("saturation", "frequency")
        if combine == "sum" and draw(st.booleans())
    }
    return Case(
        documents=documents,
        prompts=prompts,
        weights=weights,
        filter=phi,
        start=draw(st.one_of(st.none(), st.none(), starts)),
        prompt_role=prompt_role,
        combine=combine,
        threads=draw(st.integers(1, 3)),
        damping=damping,
    )
