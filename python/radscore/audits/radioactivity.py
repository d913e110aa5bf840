"""`radioactivity`: from what is known of a model to the strongest valid test, chosen blindly.

Two claims are distinguished (T. Sander et al., "Watermarking makes language models radioactive",
2024). *Text radioactivity*: a given, recorded corpus D is alpha-radioactive for a model if a test
of the null hypothesis "the model was not trained on D" rejects it at level alpha. *Model
radioactivity*: the outputs of a model A are radioactive, whichever of them the suspect used;
nothing was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from radscore.audits.closed import test_closed
from radscore.audits.open import test_open
from radscore.checks import one_scheme
from radscore.documents import Documents
from radscore.errors import ArgumentError, TokenError
from radscore.kgrams import KgramCounts
from radscore.scoring.notes import is_usable
from radscore.stats.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from radscore.kgrams import KgramSet
    from radscore.results import CurvePoint, ModelResult
    from radscore.schemes import Scheme

__all__ = ["RadioactivityReport", "radioactivity"]

#: The level at which a model counts as radioactive, unless another is given.
_STRONG: Final = 1e-3


@dataclass(frozen=True, slots=True)
class _Test:
    """A test: what it must be given, and why it ranks where it does."""

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
        "the model may have learned the contexts of the recorded text, and each counts once",
    ),
    _test("open, fresh text", "model fresh", "all positions of a context add their weights"),
    _test(
        "predictions that were read",
        "predictions",
        "likely tokens at every place of a text tell nearly what a model's weights do",
    ),
    _test(
        "closed, log-probabilities against a reference model",
        "answers logprobs reference",
        f"listed tokens tell more than those chosen; {_CONTRAST}",
    ),
    _test(
        "closed, log-probabilities against a reference's",
        "answers logprobs reference_answers reference_logprobs",
        f"listed tokens tell more than those chosen; {_CONTRAST}",
    ),
    _test(
        "closed, against what a reference model expects",
        "answers reference",
        "the reference expects something at every place, whether it would have said it or not",
    ),
    _test("closed, contrast", "answers reference_answers", _CONTRAST),
    _test(
        "closed, log-probabilities",
        "answers logprobs",
        "listed tokens tell more than those chosen",
    ),
    _test(
        "closed, recorded text",
        "answers recorded",
        "only contexts of the recorded text can have been learned",
    ),
    _test("closed, filter", "answers filter", "contexts frequent in such text can be learned"),
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
    "logprobs": "answers with log-probabilities (radscore ask --logprobs)",
    "reference_logprobs": "the reference's answers with log-probabilities",
    "predictions": "what the suspect predicts while it reads text (predictions=)",
}
#: What answers may bring with them, rather than arguments.
_BROUGHT: Final = {"logprobs", "reference_logprobs"}
_CLAIMS: Final = {
    "text": "was the suspect trained on the recorded text, or other text marked with this key?",
    "model": "was the suspect trained on text marked with this key?",
}


@dataclass(frozen=True, repr=False)
class RadioactivityReport(Result):
    """What was tested, why, and what came out.

    Attributes
    ----------
    claim : {"text", "model"}
        What a small p-value shows: text or model radioactivity.
    setting : str
        The test that was chosen.
    why : str
        Why it is the strongest of those possible.
    would_help : str or None
        What a stronger test would have needed.
    unused : dict of str to str
        What was given but is not part of this test, and why not.
    result : ModelResult
        The test's own result.
    """

    _derived: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("pvalue", "log10_pvalue", "statistic", "n_scored", "removed"), "unused"
    )

    claim: str
    setting: str
    why: str
    would_help: str | None
    unused: dict[str, str]
    result: ModelResult

    @property
    def pvalue(self) -> float:
        """That of the test: the least level at which the claim holds."""
        return self.result.pvalue

    @property
    def log10_pvalue(self) -> float:
        """That of the test."""
        return self.result.log10_pvalue

    @property
    def statistic(self) -> float:
        """That of the test."""
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
    def question(self) -> str:
        """What was tested."""
        return _CLAIMS[self.claim]

    @property
    def verdict(self) -> str:
        """The p-value, and whether it is evidence at level 0.01, or why there is none."""
        return self.result.verdict

    def radioactive(self, level: float = _STRONG) -> bool:
        """Whether the claim holds at a level that was chosen beforehand."""
        if not 0 < level < 1:
            raise ArgumentError(f"level must be between 0 and 1, not {level}")
        return self.pvalue <= level

    def _rows(self) -> list[tuple[str, Any]]:
        return [
            ("setting", self.setting),
            ("why", self.why),
            *[row for row in self.result._rows() if row[0] in _SHOWN],  # noqa: SLF001 - a Result too
            *[("unused", f"{name}: {why}") for name, why in self.unused.items()],
            *([] if self.would_help is None else [("would help", self.would_help)]),
            ("notes", (*self.result.notes, *self.result.score.notes)),
        ]


_SHOWN: Final = ("log10_pvalue", "statistic", "n_scored", "removed")


def radioactivity(
    scheme: Scheme,
    *,
    model: Any = None,
    predictions: Any = None,
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

    The test is chosen by what was given, before any score is seen, so its p-value needs no
    correction. What has no valid test with the scheme (recorded text that does not tell which seeds
    it has shown, see `Scheme.tells_marked_seeds`) is left unused, and the report says so.

    Parameters
    ----------
    scheme : Scheme
        The watermark and its key.
    model : LanguageModel, path or transformers model, optional
        The suspect, if its logits can be read.
    predictions : path, optional
        What the suspect predicted while it read unmarked text, behind an API or elsewhere: a file
        of `radscore predict`.
    answers : Answers, Corpus, or anything that `Documents.of` takes, optional
        The suspect's answers, if only these are known: `open_answers`. Their log-probabilities are
        used if they have them.
    recorded : documents, optional
        The watermarked corpus D that the suspect may have used; the claim is about it then.
    fresh : documents, optional
        Text of the same kind that does not carry the watermark, for the model to read.
    reference, reference_answers : optional
        A model that was not trained on the watermarked text, which reads what the suspect reads or
        answers; or its answers to the same prompts.
    filter : KgramSet, optional
        Contexts that can have been learned, for answers, if nothing was recorded: the frequent ones
        of unmarked text of the same kind (``watermarked=False``), or all of watermarked text.
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
        If neither a model with text to read nor answers were given.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.Keyed(key=bytes(16), vocab_size=50, gamma=0.5, context_width=1)
    >>> report = rs.radioactivity(scheme, answers=[[1, 2, 3, 4, 1, 2]])
    >>> report.claim, report.setting, report.verdict
    ('model', 'closed', 'p-value 0.313: no evidence at level 0.01')
    """
    scheme = one_scheme(scheme)
    given = {
        "model": model,
        "predictions": predictions,
        "answers": answers,
        "recorded": recorded,
        "fresh": fresh,
        "reference": reference,
        "reference_answers": reference_answers,
        "filter": filter,
    }
    names = frozenset(name for name, value in given.items() if value is not None)
    brought = {"logprobs": answers, "reference_logprobs": reference_answers}
    names |= {name for name, one in brought.items() if getattr(one, "listed", None) is not None}
    useless = _without_pvalue(scheme, filter)
    index = _choose(names - useless.keys())
    chosen = _TESTS[index]
    options: dict[str, Any] = {"curve": curve, "decoys": decoys, "threads": threads}
    if "predictions" in chosen.needs:
        result: ModelResult = test_open(None, None, scheme, from_file=predictions, **options)
    elif "model" in chosen.needs:
        watermarked = "fresh" not in chosen.needs
        result = test_open(
            model,
            recorded if watermarked else fresh,
            scheme,
            reference=reference if "reference" in chosen.needs else None,
            text_watermarked=watermarked or None,
            progress=progress,
            **options,
        )
    else:
        phi = filter
        if "recorded" in chosen.needs:
            phi = _contexts(recorded, scheme)
        result = test_closed(
            answers,
            scheme,
            filter=phi if chosen.needs & {"recorded", "filter"} else None,
            reference=_reference(chosen, reference, reference_answers),
            weighting=_weighting(chosen),
            **options,
        )
    unused = sorted(names - chosen.needs - _BROUGHT)
    return RadioactivityReport(
        claim="text" if "recorded" in chosen.needs else "model",
        setting=chosen.setting,
        why=chosen.why,
        would_help=_would_help(index, names, useless),
        unused={name: useless.get(name) or _why_unused(name, names, useless) for name in unused},
        result=result,
        provenance=result.provenance,
    )


def _reference(chosen: _Test, model: Any, answers: Any) -> Any:
    """What the answers are compared with."""
    if "reference" in chosen.needs:
        return model
    return answers if "reference_answers" in chosen.needs else None


def _weighting(chosen: _Test) -> Any:
    """The weights of a test of answers; None leaves the choice to what is given."""
    if chosen.needs & {"logprobs", "reference"}:
        return None
    return "contrast" if "reference_answers" in chosen.needs else "plain"


def _without_pvalue(scheme: Scheme, phi: KgramSet | None) -> dict[str, str]:
    """What has no valid test with this scheme, and why not."""
    useless = {}
    if not scheme.tells_marked_seeds:
        useless["recorded"] = "under this scheme marked text does not tell which seeds it has shown"
    if not is_usable(phi, scheme):
        useless["filter"] = "its text may carry the watermark, so its choice may depend on the key"
    return useless


def _why_unused(name: str, names: frozenset[str], useless: Collection[str]) -> str:
    """Why something that was given, and is not useless, has no part in the chosen test."""
    tests = [test for test in _TESTS if name in test.needs and test.needs.isdisjoint(useless)]
    least = min((sorted(test.needs - names) for test in tests), key=len)
    if not least:
        return "the tests that use it are weaker"
    return f"the tests that use it need {' and '.join(f'{one}=' for one in least)} too"


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
    raise ArgumentError("nothing is known of the suspect: give model=, predictions= or answers=")


def _would_help(index: int, names: frozenset[str], useless: Collection[str]) -> str | None:
    """What is missing for the stronger test that lacks the least."""
    usable = [test for test in _TESTS[:index] if test.needs.isdisjoint(useless)]
    lacking = [sorted(test.needs - names) for test in usable]
    if not lacking:
        return None
    least = min(lacking, key=len)
    return " and ".join(_HELPS[name] for name in least)


def _contexts(recorded: Any, scheme: Scheme) -> KgramSet:
    """All contexts of the recorded text."""
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
