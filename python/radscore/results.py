"""What a test returns: statistic, p-value, and everything that a sceptic asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.stats import FalseDiscoveryResult, ShareInterval, WeightedResult

__all__ = [
    "CurvePoint",
    "DocumentScores",
    "ModelResult",
    "Positions",
    "ScoreResult",
    "discoveries",
]


@dataclass(frozen=True)
class CurvePoint:
    """One point of the curve: after so many tokens, so many units scored, and the statistic."""

    n_tokens: int
    n_scored: int
    statistic: float
    log10_pvalue: float


@dataclass(frozen=True, repr=False)
class ScoreResult:
    """Result of a watermark test.

    Attributes
    ----------
    statistic : float
        Green units, sum of scores, or weighted sum of g-values (`method` names its law); with
        weights ``sum of w (score - mean)``.
    n_scored : int
        Distinct units that were scored.
    n_green : int or None
        Green units, for green-list schemes.
    pvalue, log10_pvalue : float
        Probability under H0 (the text does not depend on the key) of a statistic at least this
        large. `pvalue` underflows to 0 below 1e-308, `log10_pvalue` never. NaN under the rule
        ``none``, for which no valid p-value exists.
    method : str
        How the p-value was computed, and whether it is exact or a bound.
    expected, zscore : float
        The statistic's exact mean under H0, and the distance from it in standard deviations.
    scheme, fingerprint : str
        Name of the scheme, and the fingerprint of its parameters and key.
    parameters : dict
        The scheme's public parameters.
    version : str
        Of radscore.
    dedup, combine, start, prompt_role, filter : str, str, int or None, str, str or None
        The rules, and the fingerprint of the filter; with `start` None the scheme's
        `first_position` is the first that is scored.
    n_documents, n_short_documents, n_tokens, n_windows : int
        What was read; short documents have no window.
    n_excluded, n_filtered, n_duplicates, n_keyless : int
        Windows that the prompts, the filter and the deduplication removed, and distinct windows
        whose random draw does not depend on the key (a seed that is a product with token id 0,
        say), which the rule ``unit`` leaves out.
    n_skipped : int
        Records of a corpus that could not be read and were left out.
    notes : tuple of str
        What limits the validity of the p-value, if anything does.
    curve : tuple of CurvePoint
        The test after chosen numbers of tokens.
    weighted : WeightedResult or None
        With weights: the bound, and the normal and saddlepoint approximations beside it.
    """

    statistic: float
    n_scored: int
    n_green: int | None
    pvalue: float
    log10_pvalue: float
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
    weighted: WeightedResult | None = None

    def confidence_interval(self, confidence_level: float = 0.95) -> ShareInterval:
        """Clopper-Pearson interval of the share of green units, given the key.

        It takes units to be green independently with one probability, and does not cover the luck
        of the key; see `radscore.stats.share_interval`.

        Raises
        ------
        ArgumentError
            If the scheme has no green lists, or the units carry weights.
        """
        if self.n_green is None or self.weighted is not None or self.dedup == "none":
            raise ArgumentError(
                "only an unweighted count of distinct green units has a confidence interval"
            )
        from radscore.stats import share_interval

        return share_interval(self.n_green, self.n_scored, confidence_level)

    def without_pvalue(self, why: str) -> ScoreResult:
        """The same numbers where no p-value can be given."""
        return replace(
            self,
            pvalue=math.nan,
            log10_pvalue=math.nan,
            zscore=math.nan,
            method=f"none: {why}",
            weighted=None,
            curve=tuple(replace(point, log10_pvalue=math.nan) for point in self.curve),
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON (NaN as None)."""
        return {f.name: plain_value(getattr(self, f.name)) for f in fields(self)}

    def __repr__(self) -> str:
        names = [f.name for f in fields(self) if f.name not in ("curve", "notes", "weighted")]
        width = max(map(len, names))
        lines = [f"{name:>{width}}: {_show(getattr(self, name))}" for name in names]
        lines += [f"{'note':>{width}}: {note}" for note in self.notes]
        if self.curve:
            lines.append(f"{'curve':>{width}}: {len(self.curve)} points")
        return "\n".join([f"{type(self).__name__}:", *lines])


def plain_value(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, dict):
        return {key: plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(inner) for inner in value]
    # What JSON does not know (a Fraction, say) is shown as text.
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


@dataclass(frozen=True, repr=False)
class ModelResult:
    """Result of a test whether a model was trained on watermarked text.

    Attributes
    ----------
    setting : str
        What was known: "open" or "closed", and the text that was read or asked for.
    weighting : str
        How windows were weighted: "prediction", "mass", "contrast", "plain", "counts".
    score : ScoreResult
        The test of the watermark in what the model predicted or answered.
    log10_pvalue, pvalue : float
        Of the whole test: the score's, after the correction for `n_tests`.
    n_tests : int
        Tests of which the smallest p-value was taken (Bonferroni's correction); 1 for one test.
    model, reference : str or None
        Fingerprints of the suspect and of the reference.
    removed : dict
        What was not scored, by reason, in windows (or positions, where the name says so).
    notes : tuple of str
        What the result assumes, and what limits its validity.
    """

    setting: str
    weighting: str
    score: ScoreResult
    log10_pvalue: float
    n_tests: int = 1
    model: str | None = None
    reference: str | None = None
    removed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`."""
        return float(10.0**self.log10_pvalue)

    @property
    def statistic(self) -> float:
        """The score's."""
        return self.score.statistic

    @property
    def n_scored(self) -> int:
        """Distinct units that were scored."""
        return self.score.n_scored

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """How the score grew with the tokens read."""
        return self.score.curve

    def to_dict(self) -> dict[str, Any]:
        """All fields, and the score's main ones, ready for JSON (NaN as None)."""
        main = {name: getattr(self, name) for name in ("statistic", "n_scored", "pvalue")}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "score"}
        return {**plain_value({**main, **own}), "score": self.score.to_dict()}

    def __repr__(self) -> str:
        shown: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("notes", "score")
        }
        shown |= {"pvalue": self.pvalue, "statistic": self.statistic, "n_scored": self.n_scored}
        shown |= {"zscore": self.score.zscore, "method": self.score.method}
        shown |= {"scheme": self.score.scheme, "fingerprint": self.score.fingerprint}
        width = max(map(len, shown))
        lines = [f"{name:>{width}}: {_show(value)}" for name, value in shown.items()]
        lines += [f"{'note':>{width}}: {note}" for note in (*self.notes, *self.score.notes)]
        return "\n".join([f"{type(self).__name__}:", *lines])


@dataclass(frozen=True, repr=False)
class DocumentScores:
    """Each document as a test of its own; arrays with one entry a document.

    Attributes
    ----------
    n_windows, n_excluded, n_filtered, n_duplicates, n_keyless, n_scored : ndarray of uint64
        As in `ScoreResult`; repetitions count once within a document.
    n_shared : ndarray of uint64
        Units that were left out because `max_sharing` earlier documents hold them.
    n_common : ndarray of uint64
        Of those scored, units that at least one earlier document holds too.
    copy_of : ndarray of int64
        The first document with exactly the same units, whose test this one shares; -1 where there
        is none.
    statistic : ndarray of float64
        Green units, or the sum of scores.
    pvalue, log10_pvalue : ndarray of float64
        1 and 0 where nothing was scored; NaN where none can be given; `method` says why.
    method : str
        How the p-values were computed.
    notes : tuple of str
        What limits their validity, if anything does.
    scheme, fingerprint, dedup, start, prompt_role, filter
        As in `ScoreResult`.
    max_contexts : int or None
        Distinct contexts of a document that were scored at most.
    max_sharing : int or None
        Documents in which a unit is evidence.
    """

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
    pvalue: npt.NDArray[np.float64]
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

    def __len__(self) -> int:
        return len(self.n_scored)

    def false_discovery(self, level: float = 0.05) -> FalseDiscoveryResult:
        """Which documents carry the watermark, at a false discovery rate of at most `level`.

        See `radscore.stats.false_discovery` (Benjamini and Hochberg). Documents without a scored
        unit are no tests, and a document and its copies are one (`n_tests`), whose result all of
        them have: `n_rejected` counts documents.
        """
        return discoveries(self.log10_pvalue, self.n_scored > 0, self.copy_of, level)

    def __repr__(self) -> str:
        finite = self.log10_pvalue[np.isfinite(self.log10_pvalue)]
        least = f"{finite.min():.6g}" if len(finite) else "none"
        notes = "".join(f"\n  note: {note}" for note in self.notes)
        return (
            f"DocumentScores(n_documents={len(self)}, n_scored={int(self.n_scored.sum())}, "
            f"least log10_pvalue={least}, scheme='{self.scheme}', "
            f"fingerprint='{self.fingerprint}', dedup='{self.dedup}'){notes}"
        )


def discoveries(
    log10_pvalues: npt.NDArray[np.float64],
    tested: npt.NDArray[np.bool_],
    copy_of: npt.NDArray[np.int64],
    level: float,
) -> FalseDiscoveryResult:
    """Benjamini and Hochberg's procedure over documents, of which copies are no further tests."""
    from radscore.stats import false_discovery

    copies = tested & (copy_of >= 0)
    found = false_discovery(np.where(tested & ~copies, log10_pvalues, np.nan), level)
    for column in (found.log10_pvalues, found.log10_qvalues, found.rejected):
        column[copies] = column[copy_of[copies]]
    return replace(found, n_rejected=int(found.rejected.sum()))


#: Why a position is scored or not; the index is the status code.
STATUS_NAMES = ("scored", "no context", "excluded", "filtered", "duplicate", "keyless")


@dataclass(frozen=True, repr=False)
class Positions:
    """The fate of every token of some documents as a target.

    Attributes
    ----------
    status : ndarray of uint8, shape (n_tokens,)
        0 scored, 1 no whole context (or before `start`), 2 excluded by the prompt, 3 removed by
        the filter, 4 a repetition, 5 a draw that does not depend on the key.
    scores : ndarray of float64, shape (n_tokens,)
        The score where scored (1 green, 0 red; a real score; the mean g-value), else NaN.
    """

    status: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float64]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Which positions are scored, shape (n_tokens,)."""
        return np.equal(self.status, 0)

    def __repr__(self) -> str:
        counts = np.bincount(self.status, minlength=len(STATUS_NAMES))
        inner = ", ".join(f"{name}={n}" for name, n in zip(STATUS_NAMES, counts, strict=True))
        return f"Positions(n_tokens={len(self.status)}, {inner})"
