"""Pairs as rows of a file of predictions: a row is a position, with the list of its tokens.

The columns are `contexts` and `occurrences`, one entry per position, and `tokens`, a list of:

- `targets`: rising ids; each is stored as its distance from the one before it in its list, the
  first one from 0. Distances are small, so they compress to less than a byte.
- `weights`: float16, scaled by a power of two per batch (its `exponent`) that takes the largest to
  between 2^14 and 2^15. So 11 bits are kept of all weights down to 2^-29 of it.
- `base`, where it is known: whole multiples of 2^-28, as uint32. Which token a key's sampler
  chooses changes about as often as the errors of a position add up to, once in five million
  contexts. Floats would spend their bits on rare tokens, which are seldom chosen.

Every byte of a number is a field of its own (``weights.0`` the lowest): bytes of a kind compress
better together. Version 5 had one list each, with `base` as float32, and is still read.

An empty list is a position without any weight. Integers are as narrow as the vocabulary allows.

What rounding changes, and how large files are, was measured: see docs/models.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.models.batching import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["columns_of", "fits", "pairs_of", "rows_of", "schema_of"]

_FARTHEST: Final = 1100  # of the exponents of floats
_BASE: Final = 2.0**28
_TYPES: Final = {"weights": "<f2", "base": "<u4"}
_LARGEST: Final = 15  # values are scaled to below 2 to this power; float16 ends at 2^16


def schema_of(width: int, vocab_size: int, n_ids: int, *, base: bool) -> Any:
    """The Arrow schema for contexts of `width` ids below `n_ids` and targets below `vocab_size`."""
    import pyarrow as pa

    kinds = {"targets": _integers(vocab_size).bit_width // 8, "weights": 2}
    if base:
        kinds["base"] = 4
    planes = [(f"{name}.{i}", pa.uint8()) for name, size in kinds.items() for i in range(size)]
    return pa.schema([*_places(width, n_ids), ("tokens", pa.list_(pa.struct(planes)))])


def _old_schema(width: int, vocab_size: int, n_ids: int, *, base: bool) -> Any:
    """That of version 5."""
    import pyarrow as pa

    fields = [
        *_places(width, n_ids),
        ("targets", pa.list_(_integers(vocab_size))),
        ("weights", pa.list_(pa.float16())),
    ]
    return pa.schema([*fields, ("base", pa.list_(pa.float32()))] if base else fields)


def _places(width: int, n_ids: int) -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("contexts", pa.list_(_integers(n_ids), width)), ("occurrences", pa.uint64())]


def _integers(size: int) -> Any:
    import pyarrow as pa

    return pa.uint16() if size <= 1 << 16 else pa.uint32()


def fits(schema: Any, width: int, vocab_size: int, *, base: bool, old: bool = False) -> bool:
    """Whether a file's schema is one that `schema_of` makes, or version 5 made (`old`)."""
    make = _old_schema if old else schema_of
    return any(schema == make(width, vocab_size, n, base=base) for n in (1, 1 << 32))


def rows_of(pairs: Pairs, schema: Any) -> tuple[Any, int]:
    """Pairs as an Arrow batch, and the exponent that scales their weights."""
    import pyarrow as pa

    occurrences = pairs.occurrences
    new = np.ones(len(pairs), dtype=np.bool_)
    new[1:] = occurrences[1:] != occurrences[:-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(pairs)))
    columns: dict[str, Any] = {"targets": pairs.targets, "weights": pairs.weights}
    kind = schema.field("tokens").type.value_type
    if kind.get_field_index("base.0") >= 0:
        columns["base"] = pairs.base
    empty = lengths == 1
    for column in columns.values():
        empty &= column[starts] == 0
    if empty.any():
        keep = np.ones(len(pairs), dtype=np.bool_)
        keep[starts[empty]] = False
        lengths = np.where(empty, 0, lengths)
        columns = {name: column[keep] for name, column in columns.items()}
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    gaps = _gaps(columns["targets"], offsets)
    if (gaps < 0).any():
        order = np.lexsort((columns["targets"], np.repeat(np.arange(len(lengths)), lengths)))
        columns = {name: column[order] for name, column in columns.items()}
        gaps = _gaps(columns["targets"], offsets)
    halved, exponent = _halved(columns["weights"])
    size = sum(field.name.startswith("targets.") for field in kind)
    made = [gaps.astype(f"<u{size}"), halved]
    if "base" in columns:
        made.append(np.rint(columns["base"] * _BASE).astype(_TYPES["base"]))
    planes = [
        pa.array(np.ascontiguousarray(plane))
        for column in made
        for plane in column.view(np.uint8).reshape(len(column), column.itemsize).T
    ]
    listed: Any = pa.StructArray.from_arrays(planes, fields=list(kind))
    starts_of_lists: Any = pa.array(offsets)
    arrays = [
        _fixed(np.ascontiguousarray(pairs.contexts[starts]), schema.field("contexts").type),
        pa.array(occurrences[starts]),
        pa.ListArray.from_arrays(starts_of_lists, listed),
    ]
    return pa.record_batch(arrays, schema=schema), exponent


def _fixed(contexts: npt.NDArray[np.uint32], kind: Any) -> Any:
    import pyarrow as pa

    if not contexts.shape[1]:
        return pa.array([[]] * len(contexts), kind)
    values = pa.array(contexts.reshape(-1).astype(kind.value_type.to_pandas_dtype()))
    return pa.FixedSizeListArray.from_arrays(values, contexts.shape[1])


def _gaps(targets: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How far each target is from the one before it in its list, or from 0."""
    gaps = targets.astype(np.int64)
    gaps[1:] -= targets[:-1]
    firsts = offsets[:-1][np.diff(offsets) > 0]
    gaps[firsts] = targets[firsts]
    return gaps


def _halved(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float16], int]:
    """Values times two to the power of an exponent, and that."""
    largest = float(np.abs(values).max(initial=0.0))
    part, power = np.frexp(largest)
    # what rounds up to the next power of two counts as that, so rounding twice changes nothing
    power += np.float16(part) == 1
    exponent = _LARGEST - int(power) if largest else 0
    return np.ldexp(values, exponent).astype(np.float16), exponent


def columns_of(batch: Any) -> list[npt.NDArray[Any]] | None:
    """All that a valid batch holds, as arrays: contexts, occurrences, offsets, and the lists'.

    None if it has nulls, or lists of unequal lengths. What the arrays hold is read from the file
    once.
    """
    import pyarrow as pa

    columns: list[npt.NDArray[Any]] = []
    for column in batch.columns:
        values = column
        if pa.types.is_fixed_size_list(column.type):
            values = column.flatten()
        elif pa.types.is_list(column.type):
            offsets = np.array(column.offsets.to_numpy(), dtype=np.int32)
            if not len(offsets):
                offsets = np.zeros(1, dtype=np.int32)
            values = column.values.slice(offsets[0], offsets[-1] - offsets[0])
            offsets -= offsets[0]
            if len(columns) == 2:
                columns.append(offsets)
            elif not np.array_equal(offsets, columns[2]):
                return None
        parts = [values]
        if pa.types.is_struct(values.type):
            parts = [values.field(i) for i in range(values.type.num_fields)]
        if any(part.null_count for part in (column, values, *parts)):
            return None
        if pa.types.is_struct(values.type):
            columns += _numbers(parts, [field.name for field in values.type])
        elif pa.types.is_primitive(values.type):
            columns.append(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)))
        else:
            return None
    return columns


def _numbers(planes: list[Any], names: list[str]) -> list[npt.NDArray[Any]]:
    """The numbers whose bytes are in `planes`, which are named after them."""
    numbers: list[npt.NDArray[Any]] = []
    for name in dict.fromkeys(one.partition(".")[0] for one in names):
        mine = [plane for plane, of in zip(planes, names, strict=True) if of.startswith(f"{name}.")]
        whole = np.empty((len(mine[0]), len(mine)), np.uint8)
        for i, plane in enumerate(mine):
            whole[:, i] = plane.to_numpy(zero_copy_only=False)
        numbers.append(whole.reshape(-1).view(_TYPES.get(name, f"<u{len(mine)}")))
    return numbers


def pairs_of(
    columns: Sequence[npt.NDArray[Any]], exponent: int, width: int, *, last: bool
) -> Pairs:
    """The pairs that `columns_of` a batch are.

    Raises
    ------
    ValueError
        If the exponent is absurd, a weight is not finite, or targets exceed 32 bits.
    """
    contexts, occurrences, offsets, gaps, weights, *base = columns
    if type(exponent) is not int or abs(exponent) > _FARTHEST:
        raise ValueError("exponent")
    if not all(np.isfinite(column).all() for column in (weights, *base)):
        raise ValueError("weights")
    lengths = np.diff(offsets)
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(gaps, dtype=np.uint64)])
    targets = ends[1:] - np.repeat(ends[offsets[:-1]], lengths)
    if targets.max(initial=0) >= 1 << 32:
        raise ValueError("targets")
    listed = [targets.astype(np.uint32), np.ldexp(weights.astype(np.float64), -exponent)]
    scale = 1.0 if base and base[0].dtype.kind == "f" else _BASE
    listed += [column.astype(np.float64) / scale for column in base]
    if not lengths.all():  # a position without weights has one of 0
        shown = np.maximum(lengths, 1)
        inside = np.repeat(lengths > 0, shown)
        lengths = shown
        spread = [np.zeros(len(inside), column.dtype) for column in listed]
        for column, there in zip(listed, spread, strict=True):
            there[inside] = column
        listed = spread
    rows = contexts.reshape(len(lengths), width).astype(np.uint32)
    return Pairs(
        np.repeat(rows, lengths, axis=0),
        listed[0],
        listed[1],
        np.repeat(occurrences, lengths),
        last,
        listed[2] if len(listed) > 2 else None,
    )
