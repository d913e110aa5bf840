"""`radioactivity`: from what is known of a model to the strongest valid test, chosen blindly.

Two claims are told apart (T. Sander et al., "Watermarking makes language models radioactive",
2024). *Text radioactivity*: a given, recorded corpus D is alpha-radioactive for a model if a test
whose null hypothesis is "the model was not trained on D" rejects at the level alpha. *Model
radioactivity*: the outputs of a model A are radioactive, whichever of them the suspect took;
nothing was recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from radscore.checks import one_scheme
from radscore.errors import ArgumentError, TokenError
from radscore.results import ModelResult, plain_value
from radscore.scoring.evidence import is_usable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radscore.kgrams import KgramSet
    from radscore.results import CurvePoint
    from radscore.schemes import Scheme

__all__ = ["RadioactivityReport", "radioactivity"]


@dataclass(frozen=True, slots=True)
class _Test:
    """A test: what it needs to be given, and why it stands where it stands."""

    setting: str
    needs: frozenset[str]
    why: str


def _test(setting: str, needs: str, why: str) -> _Test:
    return _Test(setting, frozenset(needs.split()), why)


_CONTRAST: Final = "natural language and the luck of the key cancel, what the suspect learned stays"

#: The strongest first. The order was fixed by experiments on models of our own (see
#: experiments/RESULTS.md), never by the scores at hand.
_TESTS: Final = (
    _test(
        "open, recorded text, contrast",
        "model recorded reference",
        f"{_CONTRAST}, most of all after the very contexts of the recorded text",
    ),
    _test("open, fresh text, contrast", "model fresh reference", _CONTRAST),
    _test(
        "open, recorded text",
        "model recorded",
        "the model has met the contexts of the recorded text, each counts once",
    ),
    _test("open, fresh text", "model fresh", "all places of a context add their weights"),
    _test("closed, contrast", "answers reference_answers", _CONTRAST),
    _test(
        "closed, recorded text",
        "answers recorded",
        "only contexts of the recorded text can have been learned",
    ),
    _test(
        "closed, filter",
        "answers filter",
        "what is frequent in such text can have been learned",
    ),
    _test("closed", "answers", "every context of the answers may have been learned"),
)
_HELPS: Final = {
    "model": "the suspect's logits (model=)",
    "fresh": "text of the same kind without the watermark, for the suspect to read (fresh=)",
    "recorded": "the recorded watermarked text (recorded=)",
    "reference": "a model not trained on the text, such as the suspect's base (reference=)",
    "reference_answers": "such a model's answers to the same prompts (reference_answers=)",
    "filter": "the frequent k-grams of unmarked text of the same model (filter=)",
    "answers": "the suspect's answers (answers=)",
}
_CLAIMS: Final = {
    "text": "whether the suspect was trained on the recorded corpus, or on other text with this "
    "key (text radioactivity)",
    "model": "whether the suspect was trained on text with this key (model radioactivity)",
}


@dataclass(frozen=True, repr=False)
class RadioactivityReport:
    """What was tested, why so, and what came out.

    Attributes
    ----------
    claim : str
        "text" or "model": what a small p-value shows.
    setting : str
        The test that was chosen.
    why : str
        Why it is the strongest of those that were possible.
    would_help : str or None
        What a stronger test would have needed.
    unused : tuple of str
        What was given and is no part of this test.
    result : ModelResult
        The test's own result.
    """

    claim: str
    setting: str
    why: str
    would_help: str | None
    unused: tuple[str, ...]
    result: ModelResult

    @property
    def alpha(self) -> float:
        """The least level at which the claim holds: the p-value."""
        return self.result.pvalue

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`."""
        return self.result.pvalue

    @property
    def log10_pvalue(self) -> float:
        """Of the test."""
        return self.result.log10_pvalue

    @property
    def statistic(self) -> float:
        """Of the test."""
        return self.result.statistic

    @property
    def n_scored(self) -> int:
        """Distinct units that were scored."""
        return self.result.n_scored

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """How the test grew with the tokens, for display."""
        return self.result.curve

    @property
    def removed(self) -> dict[str, int]:
        """What was not scored, by reason."""
        return self.result.removed

    @property
    def _alpha(self) -> str:
        """The p-value, or why there is none."""
        if math.isnan(self.log10_pvalue):
            return self.result.score.method
        return f"{self.alpha:.6g} (log10 {self.log10_pvalue:.6g})"

    def radioactive(self, level: float = 1e-3) -> bool:
        """Whether the claim holds at a level that was chosen beforehand."""
        if not 0 < level < 1:
            raise ArgumentError(f"level must be between 0 and 1, not {level}")
        return self.pvalue <= level

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON (NaN as None)."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "result"}
        main = ("alpha", "log10_pvalue", "statistic", "n_scored", "removed")
        return {
            **own,
            **{name: plain_value(getattr(self, name)) for name in main},
            "result": self.result.to_dict(),
        }

    def __repr__(self) -> str:
        lines = [
            "RadioactivityReport:",
            f"     tested: {_CLAIMS[self.claim]}",
            f"    setting: {self.setting}",
            f"        why: {self.why}",
            f"      alpha: {self._alpha}",
            f"  statistic: {self.statistic:.6g}",
            f"   n_scored: {self.n_scored}",
            *[f"    removed: {number} {why}" for why, number in self.removed.items() if number],
        ]
        if self.unused:
            lines.append(f"     unused: {', '.join(self.unused)}")
        if self.would_help is not None:
            lines.append(f"would help: {self.would_help}")
        lines += [f"       note: {note}" for note in (*self.result.notes, *self.result.score.notes)]
        return "\n".join(lines)


def radioactivity(
    scheme: Scheme,
    *,
    model: Any = None,
    answers: Any = None,
    recorded: Any = None,
    fresh: Any = None,
    reference: Any = None,
    reference_answers: Any = None,
    filter: KgramSet | None = None,
    curve: Sequence[int] = (),
    decoys: int = 0,
    threads: int | None = None,
    progress: Callable[[Any], None] | None = None,
) -> RadioactivityReport:
    """Tests a suspect with the strongest valid test that what is known allows.

    The test is chosen by what was given, before any score is looked at, so that its p-value needs
    no correction. What has no valid test with the scheme (recorded text that does not tell which
    seeds it has shown, see `Scheme.tells_marked_seeds`) is left unused.

    Parameters
    ----------
    scheme : Scheme
        The watermark and its key.
    model : LanguageModel, path or transformers model, optional
        The suspect, where its logits can be read.
    answers : Answers, Corpus, or anything that `Documents.of` takes, optional
        The suspect's answers, where they cannot: `open_answers`.
    recorded : documents, optional
        The watermarked corpus D that the suspect may have taken: the claim is about it then.
    fresh : documents, optional
        Text of the same kind that does not carry the watermark, to be read by the model.
    reference, reference_answers : optional
        A model that was not trained on the watermarked text, or its answers to the same prompts.
    filter : KgramSet, optional
        Contexts that can have been learned, for answers, where nothing was recorded: the frequent
        ones of unmarked text of the same kind (``watermarked=False``), or all of watermarked text.
    curve, decoys, threads
        As in `test_open` and `test_closed`.
    progress : callable, optional
        As in `test_open`; answers are scored at once.

    Returns
    -------
    RadioactivityReport

    Raises
    ------
    ArgumentError
        If neither a model with a text to read nor answers were given.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.Keyed(key=bytes(16), vocab_size=50, gamma=0.5, context_width=1)
    >>> report = rs.radioactivity(scheme, answers=[[1, 2, 3, 4, 1, 2]])
    >>> report.claim, report.setting, report.n_scored
    ('model', 'closed', 4)
    """
    scheme = one_scheme(scheme)
    given = {
        "model": model,
        "answers": answers,
        "recorded": recorded,
        "fresh": fresh,
        "reference": reference,
        "reference_answers": reference_answers,
        "filter": filter,
    }
    names = frozenset(name for name, value in given.items() if value is not None)
    useless = _without_pvalue(scheme, filter)
    index = _choose(names - useless)
    chosen = _TESTS[index]
    options: dict[str, Any] = {"curve": curve, "decoys": decoys, "threads": threads}
    if "model" in chosen.needs:
        from radscore.audits.open import test_open

        watermarked = "fresh" not in chosen.needs
        result: ModelResult = test_open(
            model,
            recorded if watermarked else fresh,
            scheme,
            reference=reference if "reference" in chosen.needs else None,
            text_watermarked=watermarked or None,
            progress=progress,
            **options,
        )
    else:
        from radscore.audits.closed import test_closed

        phi = filter
        if "recorded" in chosen.needs:
            phi = _contexts(recorded, scheme)
        result = test_closed(
            answers,
            scheme,
            filter=phi if chosen.needs & {"recorded", "filter"} else None,
            reference=reference_answers if "reference_answers" in chosen.needs else None,
            **options,
        )
    return RadioactivityReport(
        claim="text" if "recorded" in chosen.needs else "model",
        setting=chosen.setting,
        why=chosen.why,
        would_help=_would_help(index, names, useless),
        unused=tuple(sorted(names - chosen.needs)),
        result=result,
    )


def _without_pvalue(scheme: Scheme, phi: KgramSet | None) -> frozenset[str]:
    """What no test can use with this scheme, since it depends on the key."""
    useless = set() if scheme.tells_marked_seeds else {"recorded"}
    if not is_usable(phi, scheme):
        useless.add("filter")
    return frozenset(useless)


def _choose(names: frozenset[str]) -> int:
    """The first test whose needs are met."""
    for index, test in enumerate(_TESTS):
        if test.needs <= names:
            return index
    if "model" in names:
        raise ArgumentError(
            "a model needs text to read: fresh= (without the watermark) or recorded= (only with a "
            "scheme under which marked text tells its seeds)"
        )
    raise ArgumentError("nothing is known of the suspect: give model= or answers=")


def _would_help(index: int, names: frozenset[str], useless: frozenset[str]) -> str | None:
    """What the next stronger test that differs by the least lacks."""
    usable = [test for test in _TESTS[:index] if not test.needs & useless]
    lacking = [sorted(test.needs - names) for test in usable]
    if not lacking:
        return None
    least = min(lacking, key=len)
    return " and ".join(_HELPS[name] for name in least)


def _contexts(recorded: Any, scheme: Scheme) -> KgramSet:
    """All contexts of the recorded text."""
    from radscore.documents import Documents
    from radscore.kgrams import KgramCounts

    width = scheme.window_width - 1
    if width == 0:
        raise ArgumentError("recorded has no effect with a scheme that reads no context")
    counts = KgramCounts(width, scheme.vocab_size, watermarked=True)
    if hasattr(recorded, "batches"):
        for batch in recorded:
            counts.add(batch.documents)
    else:
        counts.add(Documents.of(recorded))
    if not len(counts):
        raise TokenError("recorded holds no context: all its documents are too short")
    return counts.top()
