"""What a p-value rests on: the notes of results, and the reasons why there is no p-value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radscore import _core
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme

__all__ = [
    "PUBLIC_KEY",
    "depends_on_key",
    "filter_notes",
    "is_usable",
    "notes_of",
    "nothing_scored",
    "prompt_notes",
    "why_no_pvalue",
]

_SHARED_UNITS = (
    "under this scheme different {what}s can share one random draw, or have one that does not "
    "depend on the key, so dedup='{dedup}' counts some evidence more than once and the p-value is "
    "approximate; dedup='unit' does not"
)
PUBLIC_KEY = (
    "the key is the public default of a tool, so any text marked with that tool will score. The "
    "key was not drawn at random either: the p-value is this key's rank among all keys and not a "
    "frequency. Texts in one language share units, and with them the luck of the key, so a second "
    "corpus confirms nothing"
)
_CONTEXT_PROMPTS = (
    "contexts reach into the prompts: valid if the prompts do not carry the tested watermark, or "
    "the documents do not repeat them"
)
_SALTED_PROMPTS = (
    "assumes that the prompts do not carry the tested watermark: under this scheme no seed is "
    "known before the target, so only the units that occur in the prompts were excluded"
)
_NO_FILTER = (
    "there is no valid p-value: the filter is {}, and which contexts a watermarked text has "
    "depends on the key; make it from unmarked text (watermarked=False, --unmarked), or test a "
    "model's answers with test_closed (radscore test closed)"
)
_NO_RULE = (
    "dedup='none' counts repetitions as new evidence, so there is no valid p-value; dedup='unit' "
    "gives one"
)


def notes_of(
    scheme: Scheme, dedup: str, *, key: bool = True, counted: bool = False
) -> tuple[str, ...]:
    """What limits the validity of a p-value of this scheme under a deduplication rule.

    Parameters
    ----------
    scheme : Scheme
        What was tested for.
    dedup : str
        The rule.
    key : bool
        Whether to say that the key is public.
    counted : bool
        Whether the p-value comes from the law over keys given the counts of residues, which
        neither shared units nor dependent draws affect.
    """
    notes = []
    if dedup == "none":
        notes.append(_NO_RULE)
    elif dedup != "unit" and not scheme.core.unit_is_window and not counted:
        notes.append(_SHARED_UNITS.format(what=dedup, dedup=dedup))
    if scheme.dependence and not counted:
        notes.append(f"the p-value is approximate: {scheme.dependence}")
    if key and scheme.has_public_key:
        notes.append(PUBLIC_KEY)
    return tuple(notes)


def prompt_notes(scheme: Scheme, prompt_role: str, n_excluded: int) -> tuple[str, ...]:
    """What a p-value assumes of the prompts; if no window was excluded, there may be none."""
    if prompt_role == "context":
        return (_CONTEXT_PROMPTS,)
    return (_SALTED_PROMPTS,) if n_excluded and scheme.seed_kind == "target" else ()


def depends_on_key(phi: KgramSet | None) -> bool:
    """Whether a filter was, or may have been, made from text with the tested watermark."""
    return phi is not None and phi.origin.may_depend_on_key


def is_usable(phi: KgramSet | None, scheme: Scheme) -> bool:
    """Whether a model's answers behind this filter have a valid p-value."""
    if phi is None or not depends_on_key(phi):
        return True
    return scheme.tells_marked_seeds and phi.origin.is_whole


def filter_notes(phi: KgramSet | None) -> tuple[str, ...]:
    """Why text behind this filter has no p-value; empty if it has one."""
    if phi is None or not depends_on_key(phi):
        return ()
    return (_NO_FILTER.format(phi.origin.words),)


def why_no_pvalue(dedup: str, phi: KgramSet | None) -> str | None:
    """In a few words, why text has no p-value under these rules; None if it has one."""
    if dedup == "none":
        return "repetitions were counted"
    return "the filter may depend on the key" if depends_on_key(phi) else None


def nothing_scored(tally: _core.Tally, scheme: Scheme, start: int | None) -> str:
    """Why there is nothing to test, as an error message."""
    if tally.n_windows == 0:
        if tally.n_documents == 0:
            return "nothing was scored: there are no documents"
        if start is not None and start >= scheme.window_width:
            return f"nothing was scored: no document reaches start {start}"
        if start == 0 or (start is None and scheme.first_position == 0):
            return "nothing was scored: the documents hold no tokens"
        least = scheme.window_width if start is None else start + 1
        many = f"all {tally.n_documents} documents are"
        return (
            f"nothing was scored: {'the only document is' if tally.n_documents == 1 else many} "
            f"shorter than the {least} tokens of a window"
        )
    return (
        f"nothing was scored: of {tally.n_windows} windows {tally.n_excluded} were excluded by "
        f"prompts, {tally.n_filtered} removed by the filter, {tally.n_zero_weight} have weight 0, "
        f"{tally.n_keyless} do not depend on the key"
    )
