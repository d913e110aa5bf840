"""Results of every kind: rows, tables, JSON, copies."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, dataclass, fields
from fractions import Fraction

import numpy as np
import pytest
import radscore as rs
from radscore.stats import (
    BernoulliLaw,
    Result,
    anytime_test,
    decoy_test,
    effect_limit,
    false_discovery,
    share_interval,
    smirnov_test,
    sum_test,
    weighted_test,
)

SCHEME = rs.Keyed(vocab_size=60, key=bytes(16), gamma=0.25, context_width=1)
TEXT = np.random.default_rng(0).integers(0, 60, (5, 40))
LAW = BernoulliLaw(Fraction(1, 4))
RESULTS = {
    "sum": lambda: sum_test(300, 1000, LAW),
    "weighted": lambda: weighted_test(3.0, [1.0, -2.0, 0.5], LAW),
    "impossible": lambda: weighted_test(9.0, [1.0], LAW),
    "interval": lambda: share_interval(3, 10),
    "limit": lambda: effect_limit(3, 10, 0.25),
    "any time": lambda: anytime_test(3, 10, LAW),
    "discoveries": lambda: false_discovery([-3.0, np.nan, -0.1]),
    "decoys": lambda: decoy_test(2.0, [1.0, 2.0, 3.0]),
    "two samples": lambda: smirnov_test([1, 2], [3, 4]),
    "text": lambda: rs.score(TEXT, SCHEME),
    "no rule": lambda: rs.score(TEXT, SCHEME, dedup="none"),
    "documents": lambda: rs.score_documents(TEXT, SCHEME),
    "positions": lambda: rs.score_positions(TEXT, SCHEME),
    "answers": lambda: rs.test_closed(TEXT, SCHEME, weighting="counts", curve=3, decoys=5),
    "report": lambda: rs.radioactivity(SCHEME, answers=TEXT, fresh=object()),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_is_rows_a_table_and_json(name):
    result = RESULTS[name]()
    assert isinstance(result, Result)
    first, *rows = repr(result).splitlines()
    assert first == type(result).__name__
    names, _ = zip(*(row.split(": ", 1) for row in rows), strict=True)
    assert len(set(map(len, names))) == 1
    table = result._repr_html_()
    assert table.count("<tr>") == len(rows)
    assert all(f">{one.strip()}</th>" in table for one in names)
    saved = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {field.name for field in fields(result)} <= saved.keys()
    with pytest.raises(FrozenInstanceError):
        setattr(result, fields(result)[0].name, 1)


def test_a_result_without_evidence_says_what_it_excludes():
    result = rs.score(TEXT, SCHEME)
    limit = effect_limit(result.n_green, result.n_scored, 0.25)
    assert result.excludes == limit
    assert f"excludes: green shares above {limit.high:.4g}" in repr(result)
    assert result.to_dict()["excludes"]["high"] == limit.high
    answers = rs.test_closed(TEXT, SCHEME)
    assert "excludes: green shares above" in repr(answers)
    for other in (
        result.replace(log10_pvalue=-2.1),
        rs.score(TEXT, SCHEME, dedup="none"),
        rs.score(TEXT, rs.Keyed(vocab_size=60, key=bytes(16), method="gumbel", context_width=1)),
    ):
        assert other.excludes is None
        assert "excludes" not in repr(other)


@dataclass(frozen=True, repr=False)
class Odd(Result):
    size: int
    share: Fraction
    numbers: tuple[float, ...]
    kind: np.float32
    text: str
    inner: Result
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def test_values_that_json_and_html_do_not_have():
    odd = Odd(
        10**6,
        Fraction(1, 3),
        (math.nan, math.inf, -math.inf),
        np.float32(0.5),
        "a < b",
        share_interval(1, 2),
        ("x & y",),
    )
    saved = odd.to_dict()
    assert saved["share"] == "1/3"
    assert saved["numbers"] == [None, "Infinity", "-Infinity"]
    assert (saved["kind"], saved["inner"]["n_green"], saved["notes"]) == (0.5, 1, ["x & y"])
    shown = repr(odd)
    assert "size: 1,000,000\n" in shown
    assert shown.endswith("note: x & y")
    assert "empty" not in shown
    assert "inner: 0.0125791 to 0.987421" in shown
    table = odd._repr_html_()
    assert "a &lt; b" in table
    assert "x &amp; y" in table
    other = odd.replace(size=2)
    assert (other.size, odd.size, other.text) == (2, 10**6, "a < b")


def test_a_report_says_why_something_was_not_used():
    phi = rs.KgramSet.from_documents(TEXT, 1, 60, watermarked=True, top=3)
    report = rs.radioactivity(SCHEME, answers=TEXT, filter=phi, fresh=object())
    assert report.setting == "closed"
    assert report.unused == {
        "filter": "its text may carry the watermark, so its choice may depend on the key",
        "fresh": "the tests that use it need model= too",
    }
    salted = rs.SBW(vocab_size=60, key=5, gamma=0.25)
    report = rs.radioactivity(salted, answers=TEXT, recorded=TEXT)
    assert "does not tell which seeds" in report.unused["recorded"]
