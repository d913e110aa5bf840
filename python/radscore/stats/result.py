"""How results print: one field a line, arrays in short."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["result_repr"]


def result_repr(
    result: Any,
    after: Mapping[str, tuple[str, Any]] | None = None,
    hide: Collection[str] = (),
) -> str:
    """Name and fields of a dataclass, aligned.

    `after` adds (name, value) after a field; the fields in `hide` are left out.
    """
    rows: list[tuple[str, Any]] = []
    for entry in fields(result):
        if entry.name in hide:
            continue
        value = getattr(result, entry.name)
        rows.append((entry.name, value))
        if after and entry.name in after:
            rows.append(after[entry.name])
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:>{width}}: {_short(value)}" for name, value in rows]
    return "\n".join([type(result).__name__, *lines])


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        shown = np.array2string(value.ravel(), threshold=6, edgeitems=2, precision=5)
        return f"{shown} (shape {value.shape})"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
