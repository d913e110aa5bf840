"""Reports: one self-contained page, for a lawyer on top and for a statistician below."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from radscore.canonical import hash_of
from radscore.errors import StateError
from radscore.evidence.audit import LOG, outcome_of
from radscore.evidence.chain import read_log
from radscore.evidence.figures import decoy_figure
from radscore.evidence.plan import QUESTIONS
from radscore.evidence.scoring import log10_pvalue
from radscore.page import check_libraries, rendered
from radscore.stats.result import power_of_ten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radscore.evidence.audit import Audit, Outcome

__all__ = ["page_of_audit", "page_of_result"]

_COLOURS: Final = {"evidence": "#b3261e", "no evidence": "#2e7d32", "none": "#8a6d00"}
_EXPLORATORY: Final = (
    "Exploratory: not planned beforehand. A p-value is evidence only for a key, a text and a test "
    "that were fixed before any score was seen, and this page cannot show that they were. How many "
    "other tests were made is not known either."
)
_CHECKED: Final = (
    "The plan was fixed by its hash before anything was drawn, asked or scored; the log's lines "
    "carry the hashes of their predecessors. radscore audit verify checks both, and recomputes "
    "every number from the kept answers, offline."
)
#: What everybody who relies on the page has to know.
_LIMITS: Final = (
    (
        "The p-value is a statement about keys: of keys drawn at random, at most that share would "
        "score as high on the same text. It is not the probability that the suspect is innocent."
    ),
    (
        "It shows that the suspect's output depends on the key, and so on text marked with it; not "
        "who put that text into its training data, nor whether they knew."
    ),
    (
        "Paraphrase, translation and training that removes marks weaken what is left. A tokenizer "
        "that differs from the marked text's hides it."
    ),
    (
        "Whoever knew the key could have made text or a model that scores high. The key must have "
        "stayed secret until the plan was committed to."
    ),
)
#: By how a method's name begins.
_METHODS: Final = {
    "exact": "The law of the statistic over random keys is computed exactly.",
    "binomial": "The law of the statistic over random keys, a binomial one, is computed exactly.",
    "importance sampling": "The statistic is compared with draws of its law over random keys, some "
    "of them shifted to where it lies and weighted for it. The p-value is valid for any number of "
    "draws (Harrison 2012); their seed is a hash of the weights, so nobody could choose it. The "
    "bound beside it needs no draws.",
    "exponential-moment bound": "The probability is bounded by the exponential moment of the sum "
    "over random keys (Chernoff), which holds for any weights that do not depend on the key.",
    "martingale bound": "The probability is bounded for martingales: weights may depend on scores "
    "of earlier units, as they do where text carries the mark.",
}
#: The appendix: what is computed, in a statistician's words.
_FORMULAS: Final = (
    (
        "A unit u is what the scheme's random function reads of a window of tokens. Under the null "
        "hypothesis the scores s(u) of distinct units are independent draws of a known law with "
        "mean m and variance v, since only the key is random."
    ),
    "The statistic is T = sum of w(u) (s(u) - m) over distinct units; z is T over its deviation.",
    (
        "The p-value is the probability of T or more over keys: exactly, where the law of T is "
        "cheap; else by importance sampling, p = (w(T) + sum of w(T_i) [T_i >= T]) / (M + 1) with "
        "w = dP/dQ and draws T_i of Q, a mixture of the law tilted by fixed amounts; or by the "
        "bound min over l > 0 of exp(K(l) - l T), K the log moment function."
    ),
    (
        "Decoy keys: (1 + number of decoys that reach T) / (number of decoys + 1) is a p-value "
        "whatever the law of T is."
    ),
    (
        "An e-value is a likelihood ratio, averaged over alternatives that were fixed beforehand. "
        "Under the null hypothesis it reaches 1 / a with probability at most a, however often and "
        "whenever one looks (Ville 1939)."
    ),
    (
        "Looks at levels a_1, ..., a_K, which add up to the level: the probability that any look "
        "reaches its level is at most their sum."
    ),
)


@dataclass
class _Section:
    """A part of the page."""

    title: str
    text: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    svg: Any = None
    caption: str = ""
    code: bool = False


def page_of_audit(audit: Audit) -> str:
    """The page of an audit whose run is over.

    Raises
    ------
    StateError
        If it is not over, or its log is damaged.
    MissingExtraError
        If Jinja2 or matplotlib is not installed.
    """
    check_libraries("a report")
    entries = read_log(audit.folder / LOG)
    outcome = outcome_of(entries)
    if outcome is None:
        raise StateError("the audit is not over yet: radscore audit run")
    content = audit.plan.content
    rows = [list(row) for row in audit.plan.rows() if row[0] not in {"question", "SHA-256"}]
    sections = [
        _Section("What was tested", [_how()], rows=rows),
        _looks(entries),
        *_of_result(outcome.result),
        _Section(
            "How far it can be checked",
            [_CHECKED],
            rows=_custody(entries, audit.plan.sha256),
            code=True,
        ),
        _Section("The log", head=["time", "event", "line's SHA-256"], rows=_log(entries)),
        _Section("Appendix: formulas", points=list(_FORMULAS)),
    ]
    return _render(
        tag=f"Audit with radscore {content['radscore']}: a planned test",
        question=QUESTIONS[content["question"]],
        verdict=_verdict(outcome),
        warning=None,
        colour=_COLOURS[outcome.verdict],
        summary=_summary(outcome),
        sections=sections,
    )


def page_of_result(result: Any) -> str:
    """The page of a result with a p-value, marked as exploratory.

    Parameters
    ----------
    result : ModelResult or ScoreResult
        What a test or `score` returned.
    """
    check_libraries("a report")
    found = result.to_dict()
    provenance = found.get("provenance") or {}
    rows = [[name, str(value)] for name, value in provenance.items() if name != "inputs"]
    files = (provenance.get("inputs") or {}).get("files", [])
    rows += [[one["path"], f"{one['bytes']} bytes, SHA-256 {one['sha256']}"] for one in files]
    return _render(
        tag="A result of radscore",
        question=result.question or "Does the text carry the watermark?",
        verdict=f"{result.verdict[0].upper()}{result.verdict[1:]}.",
        warning=_EXPLORATORY,
        colour=_COLOURS["none"],
        summary=[],
        sections=[
            *_of_result(found),
            _Section("What made this result", rows=rows, code=True),
            _Section("Appendix: formulas", points=list(_FORMULAS)),
        ],
    )


def _render(**context: Any) -> str:
    title = context["question"]
    return rendered("radscore.evidence", "report.html.j2", title=title, **context)


def _verdict(outcome: Outcome) -> str:
    level = f"{outcome.level:.3g}"
    if outcome.log10_pvalue is None:
        return f"No verdict: the test gives no p-value ({outcome.result['score']['method']})."
    p = power_of_ten(outcome.log10_pvalue, 3)
    if outcome.verdict == "evidence":
        return (
            f"Yes, at the planned level: p = {p}, which does not exceed {level}. A suspect that "
            "was not trained on such text would score so high with at most that probability."
        )
    return (
        f"No evidence at the planned level: p = {p}, above {level}. This does not show that the "
        "suspect was not trained on such text; see what a negative result excludes, below."
    )


def _summary(outcome: Outcome) -> list[str]:
    return [f"The audit stopped at look {outcome.look}: {outcome.reason}."]


def _how() -> str:
    return (
        "Under the null hypothesis nothing that the suspect wrote or predicted depends on the key. "
        "Scores of distinct units are then independent draws of a known law, whatever the text, "
        "and any weights that do not depend on the key give a valid test. Prompts, subset, "
        "weights, looks and level were fixed by the plan; the key by a commitment."
    )


def _looks(entries: list[dict[str, Any]]) -> _Section:
    rows = []
    for one in entries:
        if one["event"] != "scored":
            continue
        result = one["result"]
        rows.append(
            [
                str(one["look"]),
                f"{one.get('answers', {}).get('number', result['score']['n_documents']):,}",
                f"{result['score']['n_tokens']:,}",
                f"{result['n_scored']:,}",
                _number(result["score"]["zscore"]),
                _p(log10_pvalue(result)),
                f"{one['level']:.3g}",
            ]
        )
    head = ["look", "documents", "tokens", "units", "z", "p-value", "level"]
    return _Section("The looks", head=head, rows=rows)


def _of_result(result: Mapping[str, Any]) -> list[_Section]:
    """What every result tells: the statistic, decoys, removals, notes."""
    score = result.get("score", result)
    weighted = score.get("weighted") or {}
    method = score["method"]
    rows = [["p-value", _p(result["log10_pvalue"])]]
    if (e := score.get("anytime")) is not None:
        rows.append(["e-value", f"{power_of_ten(e['log10_evalue'], 3)} ({e['method']})"])
        rows.append(["p-value however often one looks", _p(e["log10_pvalue"])])
    rows += [
        ["law", method],
        ["statistic", f"{_number(score['statistic'])} over {score['n_scored']:,} distinct units"],
        ["z", f"{_number(score['zscore'])} standard deviations above the mean over keys"],
    ]
    if weighted:
        if weighted.get("log10_bound") is not None:
            rows.append(["bound without draws", _p(weighted["log10_bound"])])
        rows.append(["normal approximation", _p(weighted.get("log10_normal"))])
    how = [text for name, text in _METHODS.items() if method.startswith(name)]
    sections = [_Section("The statistic", how, rows=rows)]
    decoys = result.get("decoys") or {}
    values = decoys.get("decoy_statistics") or []
    if len(values) > 1:
        reached, number = decoys["n_reached"], decoys["n_decoys"]
        text = (
            f"The same test under {number:,} other keys, drawn from a seed that nobody could "
            f"choose: {reached} of them reach the committed key's statistic. Their mean is "
            f"{_number(decoys['mean'])}, their standard deviation "
            f"{_number(decoys['standard_deviation'])}; a valid test has about 0 and 1."
        )
        svg = decoy_figure(values, decoys["statistic"], "statistic, in standard deviations")
        sections.append(_Section("Other keys", [text], svg=svg, caption="Statistic by key."))
    if (excluded := score.get("excludes")) is not None:
        sections.append(_Section("What a negative result excludes", [_excluded(excluded)]))
    sections.append(_removed(result, score))
    points = [*result.get("notes", []), *score.get("notes", [])]
    sections.append(_Section("Assumptions and limits", points=[*_sentences(points), *_LIMITS]))
    return sections


def _excluded(limit: Mapping[str, Any]) -> str:
    return (
        f"Shares of green units above {limit['high']:.4g}, which is an effect of "
        f"{limit['effect']:.3g} standard deviations a unit, are excluded at "
        f"{100 * limit['confidence_level']:g} %, if {limit['assumes']}. It does not exclude that "
        "the suspect was trained on less marked text, or in a way that leaves a smaller trace."
    )


def _removed(result: Mapping[str, Any], score: Mapping[str, Any]) -> _Section:
    removed = {name: n for name, n in (result.get("removed") or {}).items() if n}
    rows = [["tokens", f"{score['n_tokens']:,}"], ["windows", f"{score['n_windows']:,}"]]
    rows += [[name, f"{n:,}"] for name, n in removed.items()]
    rows.append(["distinct units scored", f"{score['n_scored']:,}"])
    return _Section("What was scored, and what was left out", rows=rows)


def _custody(entries: list[dict[str, Any]], plan: str) -> list[list[str]]:
    rows = [["plan", plan], ["log", hash_of(entries[-1])]]
    for one in entries:
        if one["event"] == "beacon":
            rows.append(["public randomness", f"{one['value']} ({one['source'] or 'no source'})"])
        if one["event"] == "scored":
            kept = one.get("answers") or one["predictions"]
            rows.append([f"answers, look {one['look']}", kept["sha256"]])
    return rows


def _log(entries: list[dict[str, Any]]) -> list[list[str]]:
    return [[one["time"], one["event"], hash_of(one)[:16] + "…"] for one in entries]


def _p(log10: float | None) -> str:
    return "none" if log10 is None or math.isnan(log10) else power_of_ten(log10, 3)


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:,.3f}"


def _sentences(notes: list[str]) -> list[str]:
    return [f"{one[0].upper()}{one[1:]}." if one else one for one in notes]
