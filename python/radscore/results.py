"""What scoring and the tests of models return: statistic, p-value, and what a sceptic asks for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, overload

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError, shown
from radscore.extras import need
from radscore.stats.fdr import FalseDiscoveryResult, false_discovery
from radscore.stats.intervals import EffectLimit, ShareInterval, effect_limit, share_interval
from radscore.stats.result import LEVEL, Evidence, Result, in_words, power_of_ten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from radscore.stats import AnytimeResult, DecoyResult, MatchedResult, WeightedResult

__all__ = [
    "HIDDEN",
    "STATUS_NAMES",
    "CurvePoint",
    "DocumentScore",
    "DocumentScores",
    "ModelResult",
    "Positions",
    "ScoreResult",
    "discoveries",
]


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve: the test after so many tokens."""

    n_tokens: int
    n_scored: int
    statistic: float
    log10_pvalue: float


@dataclass(frozen=True, repr=False)
class ScoreResult(Evidence):
    """Result of a watermark test of text.

    Attributes
    ----------
    statistic : float
        Green units, sum of scores, or weighted sum of g-values (`method` names its law); with
        weights ``sum of w (score - mean)``.
    pvalue, log10_pvalue : float
        Probability under H0 (the text does not depend on the key) of a statistic at least this
        large. `pvalue` underflows to 0 below 1e-308, `log10_pvalue` never. NaN where no valid
        p-value exists: `method` says why.
    n_scored : int
        Distinct units that were scored.
    n_green : int or None
        Green units, for green-list schemes without weights.
    method : str
        How the p-value was computed, and whether it is exact or a bound.
    expected, zscore : float
        The statistic's exact mean under H0, and its distance from that in standard deviations.
    scheme, fingerprint : str
        Name of the scheme, and the fingerprint of its parameters and key.
    parameters : dict
        The scheme's public parameters.
    version : str
        Of radscore.
    dedup, combine, start, prompt_role, filter : str, str, int or None, str, str or None
        The rules, and the fingerprint of the filter. With `start` None scoring begins at the
        scheme's `first_position`.
    saturation, frequency : float or None
        How weights were made smaller, if they were; see `Scorer`.
    n_documents, n_short_documents, n_tokens, n_windows : int
        What was read; short documents have no window.
    n_excluded, n_filtered, n_duplicates, n_keyless : int
        Windows removed by the prompts, the filter and the deduplication, and distinct windows
        whose random draw does not depend on the key (if a seed is a product with token id 0, say),
        which the rule ``unit`` leaves out.
    n_skipped : int
        Records of a corpus that could not be read.
    notes : tuple of str
        What limits the validity of the p-value, if anything does.
    curve : tuple of CurvePoint
        The test after chosen numbers of tokens.
    weighted : WeightedResult, MatchedResult or None
        With weights: the bound, and the normal and saddlepoint approximations beside it.
    anytime : AnytimeResult or None
        If asked for: the e-value, and a p-value that holds however often one looks.
    """

    _derived: ClassVar[Mapping[str, str]] = {"pvalue": "statistic", "excludes": "zscore"}
    _hidden: ClassVar[tuple[str, ...]] = ("weighted", "version")
    _question: ClassVar[str] = "does the text carry the watermark of this key?"

    n_scored: int
    n_green: int | None
    method: str
    expected: float
    zscore: float
    scheme: str
    fingerprint: str
    parameters: dict[str, Any]
    version: str
    dedup: str
    combine: str
    start: int | None
    prompt_role: str
    filter: str | None
    n_documents: int
    n_short_documents: int
    n_tokens: int
    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    n_keyless: int
    n_skipped: int = 0
    notes: tuple[str, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    weighted: WeightedResult | MatchedResult | None = None
    saturation: float | None = None
    frequency: float | None = None
    anytime: AnytimeResult | None = None

    @property
    def excludes(self) -> EffectLimit | None:
        """What effects a result without evidence excludes at 95 %; see `effect_limit`.

        None where there is evidence, and without a count of green units and a p-value.
        """
        counted = self.n_green is not None and self.weighted is None and self.n_scored
        if not counted or not self.log10_pvalue > math.log10(LEVEL):
            return None
        assert self.n_green is not None
        return effect_limit(self.n_green, self.n_scored, self.expected / self.n_scored)

    def confidence_interval(self, confidence_level: float = 0.95) -> ShareInterval:
        """Clopper-Pearson interval of the share of green units, given the key.

        It assumes that units are green independently with one probability, and does not cover the
        luck of the key; see `radscore.stats.share_interval`.

        Raises
        ------
        ArgumentError
            If the scheme has no green lists, or the units carry weights.
        """
        if self.n_green is None or self.weighted is not None or self.dedup == "none":
            raise ArgumentError(
                "only an unweighted count of distinct green units has a confidence interval"
            )
        return share_interval(self.n_green, self.n_scored, confidence_level)

    def without_pvalue(self, why: str) -> ScoreResult:
        """The same numbers where no p-value can be given."""
        return self.replace(
            log10_pvalue=math.nan,
            zscore=math.nan,
            method=f"none: {why}",
            weighted=None,
            anytime=None,
            curve=tuple(replace(point, log10_pvalue=math.nan) for point in self.curve),
        )

    def _rows(self) -> list[tuple[str, Any]]:
        rows = dict(super()._rows())
        rows["curve"] = _points(self.curve)
        if self.may_hide_documents:
            rows["hint"] = f"{HIDDEN}: score_documents tests each"
        return [(name, value) for name, value in rows.items() if value or name not in _FEW]

    @property
    def may_hide_documents(self) -> bool:
        """Whether some documents may carry the watermark though all together show none."""
        return self.n_documents > 1 and self.log10_pvalue > math.log10(LEVEL)

    def _brief(self) -> str:
        return f"{self.verdict}, {self.n_scored:,} scored"


#: The false discovery rate of single documents, where none is given.
FDR: Final = 0.05
#: Why a p-value of many documents is not the last word.
HIDDEN: Final = "a few marked documents among many hardly show in one p-value"
#: Counts that are shown only if there is something to count.
_FEW: Final = (
    *("n_short_documents", "n_excluded", "n_filtered", "n_duplicates", "n_keyless"),
    *("n_skipped", "start"),
)


@dataclass(frozen=True, repr=False)
class ModelResult(Result):
    """Result of a test of whether a model was trained on watermarked text.

    Attributes
    ----------
    setting : str
        What was known ("open" or "closed"), and which text was read or asked for.
    weighting : str
        How windows were weighted: "prediction", "mass", "contrast", "plain" or "counts".
    score : ScoreResult
        The test of the watermark in what the model predicted or answered.
    pvalue, log10_pvalue : float
        Of the whole test: the score's, corrected for `n_tests`.
    n_tests : int
        Tests of which the smallest p-value was taken (Bonferroni's correction).
    model, reference : str or None
        Fingerprints of the suspect and of the reference.
    removed : dict
        What was not scored, by reason, in windows (or in what the reason names).
    notes : tuple of str
        What the result assumes, and what limits its validity.
    decoys : DecoyResult or None
        The same statistic under decoy keys, if asked for.
    """

    _derived: ClassVar[Mapping[str, str]] = {
        "statistic": "weighting",
        "n_scored": "weighting",
        "pvalue": "weighting",
    }
    _question: ClassVar[str] = "was the model trained on text marked with this key?"

    setting: str
    weighting: str
    score: ScoreResult
    log10_pvalue: float
    n_tests: int = 1
    model: str | None = None
    reference: str | None = None
    removed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decoys: DecoyResult | None = None

    def __post_init__(self) -> None:
        if not self.provenance:
            models = {"model": self.model, "reference": self.reference}
            named = {name: one for name, one in models.items() if one is not None}
            object.__setattr__(self, "provenance", {**self.score.provenance, **named})

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`."""
        return float(10.0**self.log10_pvalue)

    @property
    def verdict(self) -> str:
        """The p-value, and whether it is evidence at level 0.01, in words."""
        return in_words(self.log10_pvalue, self.score.method)

    @property
    def statistic(self) -> float:
        """That of the score."""
        return self.score.statistic

    @property
    def n_scored(self) -> int:
        """Distinct units that were scored."""
        return self.score.n_scored

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """How the score grew with the tokens read."""
        return self.score.curve

    def _rows(self) -> list[tuple[str, Any]]:
        rows = dict(super()._rows())
        del rows["score"]
        score = self.score
        rows["removed"] = {why: number for why, number in self.removed.items() if number}
        rows |= {"zscore": score.zscore, "excludes": score.excludes, "method": score.method}
        rows["scheme"] = score.scheme
        rows |= {"fingerprint": score.fingerprint, "curve": _points(score.curve)}
        return list((rows | {"notes": (*self.notes, *score.notes)}).items())


def _points(curve: tuple[CurvePoint, ...]) -> str | tuple[()]:
    """A curve as a row shows it."""
    return f"{len(curve)} points" if curve else ()


@dataclass(frozen=True, repr=False, eq=False)
class DocumentScores(Result):
    """Each document as a test of its own; arrays with one entry per document.

    Attributes
    ----------
    n_windows, n_excluded, n_filtered, n_duplicates, n_keyless, n_scored : ndarray of uint64
        As in `ScoreResult`; repetitions count once within a document.
    n_shared : ndarray of uint64
        Units left out because `max_sharing` earlier documents hold them.
    n_common : ndarray of uint64
        Scored units that at least one earlier document holds too.
    copy_of : ndarray of int64
        The first document with exactly the same units, whose test this one shares; -1 if there is
        none.
    statistic : ndarray of float64
        Green units, or the sum of scores.
    zscore : ndarray of float64
        The statistic's distance from its mean in standard deviations; NaN where nothing was scored.
    pvalue, log10_pvalue : ndarray of float64
        1 and 0 where nothing was scored; NaN where no p-value can be given: `method` says why.
    qvalue, log10_qvalue : ndarray of float64
        The least false discovery rate at which each document would be found, over all documents
        that were scored together, whichever of them are picked here; 1 and 0 where nothing was
        scored.
    index : ndarray of int64
        The number of each document among those.
    method : str
        How the p-values were computed.
    notes : tuple of str
        What limits their validity, if anything does.
    scheme, fingerprint, dedup, start, prompt_role, filter
        As in `ScoreResult`.
    max_contexts : int or None
        Most distinct contexts scored per document.
    max_sharing : int or None
        Number of documents in which a unit is evidence.

    Notes
    -----
    An integer picks one document, as a `DocumentScore`; a slice, a mask or an array of integers
    picks several. Iterating yields each document.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=50, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> scores = rs.score_documents([[1, 2, 3, 4], [7], [5, 6, 7]], scheme)
    >>> scores[0].n_scored, scores[scores.n_scored > 0].index.tolist()
    (3, [0, 2])
    """

    _derived: ClassVar[Mapping[str, str]] = {
        "pvalue": "statistic",
        "qvalue": "log10_pvalue",
        "log10_qvalue": "log10_pvalue",
    }
    _question: ClassVar[str] = "which documents carry the watermark of this key?"

    n_windows: npt.NDArray[np.uint64]
    n_excluded: npt.NDArray[np.uint64]
    n_filtered: npt.NDArray[np.uint64]
    n_duplicates: npt.NDArray[np.uint64]
    n_keyless: npt.NDArray[np.uint64]
    n_shared: npt.NDArray[np.uint64]
    n_scored: npt.NDArray[np.uint64]
    n_common: npt.NDArray[np.uint64]
    copy_of: npt.NDArray[np.int64]
    statistic: npt.NDArray[np.float64]
    zscore: npt.NDArray[np.float64]
    log10_pvalue: npt.NDArray[np.float64]
    method: str
    notes: tuple[str, ...]
    scheme: str
    fingerprint: str
    dedup: str
    start: int | None
    prompt_role: str
    filter: str | None
    max_contexts: int | None
    max_sharing: int | None
    index: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.index) != len(self.n_scored):
            object.__setattr__(self, "index", np.arange(len(self.n_scored)))

    @property
    def pvalue(self) -> npt.NDArray[np.float64]:
        """10 to the power of `log10_pvalue`."""
        return np.asarray(10.0**self.log10_pvalue)

    @cached_property
    def log10_qvalue(self) -> npt.NDArray[np.float64]:
        """The false discovery rates in the log domain, where they never underflow."""
        return np.where(self.n_scored > 0, self.false_discovery().log10_qvalues, 0.0)

    @property
    def qvalue(self) -> npt.NDArray[np.float64]:
        """10 to the power of `log10_qvalue`."""
        return np.asarray(10.0**self.log10_qvalue)

    @property
    def verdict(self) -> str:
        """How many documents are found at a false discovery rate of 0.05."""
        if why := self.method.partition("none: ")[2]:
            return f"no p-values: {why}"
        n_found = int((self.log10_qvalue <= np.log10(FDR) + 1e-14).sum())
        tested = (
            f"of {len(self):,} documents, {int((self.n_scored > 0).sum()):,} of them with windows"
        )
        return f"{n_found:,} {tested}, at a false discovery rate of {FDR:g}"

    def __len__(self) -> int:
        return len(self.n_scored)

    def __iter__(self) -> Iterator[DocumentScore]:
        return (self._one(i) for i in range(len(self)))

    @overload
    def __getitem__(self, which: int | np.integer[Any]) -> DocumentScore: ...
    @overload
    def __getitem__(self, which: slice | npt.ArrayLike) -> DocumentScores: ...
    def __getitem__(self, which: Any) -> DocumentScore | DocumentScores:
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            if not -len(self) <= which < len(self):
                raise IndexError(f"document {which} of {len(self)}")
            return self._one(int(which) % len(self))
        chosen = _chosen(which, len(self))
        places = np.full(len(self), -1)
        places[chosen] = np.arange(len(chosen))
        columns = {name: getattr(self, name)[chosen] for name in self._columns()}
        copies = np.where(columns["copy_of"] >= 0, places[columns["copy_of"]], -1)
        picked = self.replace(**columns | {"copy_of": copies})
        vars(picked)["log10_qvalue"] = self.log10_qvalue[chosen]  # among all, not those alone
        return picked

    def _columns(self) -> list[str]:
        values = vars(self)
        return [one.name for one in fields(self) if isinstance(values[one.name], np.ndarray)]

    def _one(self, i: int) -> DocumentScore:
        columns = self._columns()
        names = (one.name for one in fields(DocumentScore) if one.name in columns)
        values = {name: getattr(self, name)[i].item() for name in names}
        return DocumentScore(**values, log10_qvalue=float(self.log10_qvalue[i]), method=self.method)

    def _table(self) -> dict[str, npt.NDArray[Any]]:
        names = ["index", *(name for name in self._names() if name != "index")]
        columns = {name: getattr(self, name) for name in names}
        return {name: one for name, one in columns.items() if isinstance(one, np.ndarray)}

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with one row per document; its metadata says what made it."""
        import pyarrow as pa

        about = {k: v for k, v in self.to_dict().items() if not isinstance(v, list) or k == "notes"}
        table = pa.table({name: pa.array(column) for name, column in self._table().items()})
        return table.replace_schema_metadata({"radscore": json.dumps(about)})

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with one row per document, whose index is `index`.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        need("pandas", what="to_pandas()")
        return self.to_arrow().to_pandas().set_index("index")

    def false_discovery(self, level: float = FDR) -> FalseDiscoveryResult:
        """Which documents carry the watermark, at a false discovery rate of at most `level`.

        See `radscore.stats.false_discovery` (Benjamini and Hochberg). Documents without a scored
        unit are not tests. A document and its copies are one test (`n_tests`) and share its
        result, but `n_rejected` counts all of them.
        """
        return discoveries(self.log10_pvalue, self.n_scored > 0, self.copy_of, level)

    def _rows(self) -> list[tuple[str, Any]]:
        known = self.log10_pvalue[np.isfinite(self.log10_pvalue)]
        totals = [
            ("n_documents", len(self)),
            ("n_scored", int(self.n_scored.sum())),
            ("least log10_pvalue", float(known.min()) if len(known) else None),
        ]
        return totals + [row for row in super()._rows() if not isinstance(row[1], np.ndarray)]


@dataclass(frozen=True, repr=False)
class DocumentScore(Evidence):
    """One document of `DocumentScores`.

    Attributes
    ----------
    statistic, zscore, log10_pvalue, log10_qvalue, index, copy_of
        As in `DocumentScores`.
    n_windows, n_excluded, n_filtered, n_duplicates, n_keyless, n_shared, n_scored, n_common : int
        As there.
    method : str
        How the p-value was computed.
    """

    _question: ClassVar[str] = "does the document carry the watermark of this key?"

    index: int
    n_windows: int
    n_excluded: int
    n_filtered: int
    n_duplicates: int
    n_keyless: int
    n_shared: int
    n_scored: int
    n_common: int
    copy_of: int
    zscore: float
    log10_qvalue: float
    method: str

    @property
    def qvalue(self) -> float:
        """10 to the power of `log10_qvalue`."""
        return float(10.0**self.log10_qvalue)

    @property
    def verdict(self) -> str:
        """The p-value, and whether it is evidence among so many documents, in words."""
        if math.isnan(self.log10_pvalue):
            return super().verdict
        found = self.log10_qvalue <= math.log10(FDR) + 1e-14
        return (
            f"p-value {power_of_ten(self.log10_pvalue, 3)}, q-value "
            f"{power_of_ten(self.log10_qvalue, 3)}: {'' if found else 'no '}evidence at a false "
            f"discovery rate of {FDR:g}"
        )


def _chosen(which: Any, n: int) -> npt.NDArray[np.int64]:
    """The documents that a slice, a mask or numbers pick."""
    if isinstance(which, slice):
        return np.arange(n)[which]
    chosen = np.asarray(which)
    if chosen.ndim == 1 and not len(chosen):
        return np.empty(0, np.int64)
    if chosen.ndim != 1 or not (
        chosen.dtype == np.bool_ or np.issubdtype(chosen.dtype, np.integer)
    ):
        raise ArgumentError(
            "documents are picked by an integer, a slice, a mask or an array of integers, not "
            f"{shown(which)}"
        )
    if chosen.dtype == np.bool_ and len(chosen) != n:
        raise ArgumentError(f"the mask has {len(chosen)} entries for {n} documents")
    picked: npt.NDArray[np.int64] = np.arange(n)[chosen]
    return picked


def discoveries(
    log10_pvalues: npt.NDArray[np.float64],
    tested: npt.NDArray[np.bool_],
    copy_of: npt.NDArray[np.int64],
    level: float,
) -> FalseDiscoveryResult:
    """Benjamini and Hochberg's procedure over documents; copies are not further tests."""
    copies = tested & (copy_of >= 0)
    found = false_discovery(np.where(tested & ~copies, log10_pvalues, np.nan), level)
    for column in (found.log10_pvalues, found.log10_qvalues, found.rejected):
        column[copies] = column[copy_of[copies]]
    return found.replace(n_rejected=int(found.rejected.sum()))


#: Why a position is scored or not, by status code.
STATUS_NAMES: Final = ("scored", "no context", "excluded", "filtered", "duplicate", "keyless")


@dataclass(frozen=True, repr=False, eq=False)
class Positions(Result):
    """What became of every token of some documents as a target.

    Attributes
    ----------
    status : ndarray of uint8, shape (n_tokens,)
        0 scored, 1 no whole context (or before `start`), 2 excluded by the prompt, 3 removed by
        the filter, 4 a repetition, 5 a draw that does not depend on the key: see `STATUS_NAMES`.
    scores : ndarray of float64, shape (n_tokens,)
        The score if scored (1 green, 0 red; a real score; the mean g-value), else NaN.
    """

    status: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float64]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Which positions are scored, shape (n_tokens,)."""
        return np.equal(self.status, 0)

    def _rows(self) -> list[tuple[str, Any]]:
        counts = np.bincount(self.status, minlength=len(STATUS_NAMES)).tolist()
        return [("n_tokens", len(self.status)), *zip(STATUS_NAMES, counts, strict=True)]
