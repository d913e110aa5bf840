"""`Result`: the base of everything that a test returns, and what a p-value is in words.

A result is a frozen dataclass. It prints as aligned rows, shows as a table in a notebook, and
becomes plain JSON by `Result.to_dict`. A subclass says with three class variables what differs from
"one row and one key per field"; one that summarises its fields overrides `_rows`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

__all__ = ["LEVEL", "Evidence", "Result", "in_words", "plain_value", "power_of_ten", "verdict"]

#: The level at which results say whether there is evidence.
LEVEL = 0.01


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Base class of results.

    Subclasses are decorated with ``dataclass(frozen=True, repr=False)``, and with ``eq=False`` if a
    field is an array, which has no single truth value.

    Attributes
    ----------
    provenance : dict
        What made it: inputs, scheme, version, date (`radscore.provenance`). It is saved, but
        neither shown nor compared.
    """

    #: What the test asks, in words; "" for results that answer no question.
    _question: ClassVar[str] = ""

    #: Properties to show and save as well, each with the field that it follows.
    _derived: ClassVar[Mapping[str, str]] = {}
    #: Fields that are not shown.
    _hidden: ClassVar[tuple[str, ...]] = ()
    #: Fields that `to_dict` leaves out.
    _unsaved: ClassVar[tuple[str, ...]] = ()

    provenance: dict[str, Any] = field(default_factory=dict, compare=False, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values.

        Arrays become lists, NaN becomes None, infinities the strings ``"Infinity"`` and
        ``"-Infinity"``, nested results dictionaries, and what JSON lacks (fractions, say) text.
        """
        names = (name for name in self._names() if name not in self._unsaved)
        values = {name: plain_value(getattr(self, name)) for name in names}
        return {**values, "provenance": plain_value(self.provenance)}

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def _names(self) -> list[str]:
        """Fields in order, each followed by the properties derived from it."""
        names = []
        for one in fields(self):
            if one.name != "provenance":
                names.append(one.name)
                names += [name for name, after in self._derived.items() if after == one.name]
        return names

    @property
    def question(self) -> str:
        """What the test asks, in words; "" for results that answer no question."""
        return self._question

    @property
    def verdict(self) -> str:
        """The p-value, and whether it is evidence, in words; "" where there is no question."""
        return ""

    def _rows(self) -> list[tuple[str, Any]]:
        """What is shown, in order."""
        return [(name, getattr(self, name)) for name in self._names() if name not in self._hidden]

    def _brief(self) -> str:
        """In a few words, where this is a field of another result."""
        return type(self).__name__

    def _texts(self) -> list[tuple[str, str]]:
        """Names and texts of the rows; empty collections are left out, notes come last."""
        rows: list[tuple[str, str]] = []
        notes: list[tuple[str, str]] = []
        if self.question:
            rows += [("tested", self.question), ("verdict", self.verdict)]
        for name, value in self._rows():
            if name == "notes":
                notes += [("note", note) for note in value]
            elif value is not None and not (isinstance(value, (tuple, dict)) and not value):
                rows.append((name, _text(value)))
        return rows + notes

    def __repr__(self) -> str:
        rows = self._texts()
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"  {name:>{width}}: {text}" for name, text in rows]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        """A table without colours of its own, so that it suits light and dark pages."""
        cell = 'style="text-align: left; vertical-align: top"'
        rows = "".join(
            f"<tr><th {cell}>{html.escape(name)}</th><td {cell}>{html.escape(text)}</td></tr>"
            for name, text in self._texts()
        )
        return f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"


@dataclass(frozen=True, repr=False, eq=False)
class Evidence(Result):
    """Base class of results that have one statistic and its p-value.

    Attributes
    ----------
    statistic : float
    log10_pvalue : float
        log10 of the probability under H0 of a statistic at least as large; at most 0, NaN where no
        p-value can be given. It never underflows.
    """

    _derived: ClassVar[Mapping[str, str]] = {"pvalue": "statistic"}

    statistic: float
    log10_pvalue: float

    @property
    def pvalue(self) -> float:
        """10 to the power of `log10_pvalue`; underflows to 0 where the logarithm does not."""
        return float(10.0**self.log10_pvalue)

    @property
    def verdict(self) -> str:
        """The p-value, and whether it is evidence at level 0.01, in words."""
        return in_words(self.log10_pvalue, getattr(self, "method", ""))


def in_words(log10_pvalue: float, method: str = "") -> str:
    """A p-value with its `verdict`, or the method's reason why there is none.

    Examples
    --------
    >>> in_words(-0.3), in_words(math.nan, "none: repetitions were counted")
    ('p-value 0.501: no evidence at level 0.01', 'no p-value: repetitions were counted')
    """
    if math.isnan(log10_pvalue):
        return f"no p-value{f': {why}' if (why := method.removeprefix('none: ')) else ''}"
    return f"p-value {power_of_ten(log10_pvalue, 3)}: {verdict(log10_pvalue)}"


def power_of_ten(log10: float, digits: int = 4) -> str:
    """A probability or an e-value, given its logarithm, however small or large: 1.23e-4567."""
    if math.isnan(log10) or math.isinf(log10):
        return "0" if log10 < 0 else str(log10)
    if -4 < log10 < digits:
        return f"{10**log10:.{digits}g}"
    exponent = math.floor(log10)
    factor = f"{10 ** (log10 - exponent):.3g}"
    if factor == "10":
        factor, exponent = "1", exponent + 1
    return f"{factor}e{exponent}"


def verdict(log10_pvalue: float, level: float = LEVEL) -> str:
    """What a p-value says at a level, in words.

    Examples
    --------
    >>> verdict(-0.3), verdict(-40.0), verdict(math.nan)
    ('no evidence at level 0.01', 'evidence at level 0.01', 'none: there is no p-value')
    """
    if math.isnan(log10_pvalue):
        return "none: there is no p-value"
    return (
        f"{'' if log10_pvalue <= math.log10(level) + 1e-14 else 'no '}evidence at level {level:g}"
    )


def plain_value(value: Any) -> Any:
    """A value as JSON knows it: see `Result.to_dict`."""
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value):
        return {one.name: plain_value(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_value(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain_value(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _text(value: Any) -> str:
    """A value as a row shows it."""
    if isinstance(value, Result):
        return value._brief()  # noqa: SLF001 - its own class
    if isinstance(value, np.ndarray):
        shown = np.array2string(value.ravel(), threshold=6, edgeitems=2, precision=5)
        return f"{shown} (shape {value.shape})"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return str(value)
