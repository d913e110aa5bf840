"""Arrow arrays as they come from elsewhere: checked, and made plain.

Arrow has many ways to hold the same: views, dictionaries, run ends, extensions. `plain` makes large
lists of integers, or large binary, of all of them; `weights` tells how large they become, before.
An array read from a file must pass `checked` first: its offsets and lengths may lie.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "checked",
    "holds_ids",
    "holds_text",
    "path_to",
    "plain",
    "reached",
    "type_at",
    "weights",
]

#: Where a value is: a column, then fields of structs and elements of lists.
Path: TypeAlias = tuple[str | int, ...]

#: Values that a run may stand for in one list.
_MAX_RUNS = 1 << 31


def path_to(name: str, schema: Any) -> Path | None:
    """Where a field is: the column of that name, or else what a dotted path leads to in one.

    Examples
    --------
    >>> import pyarrow as pa
    >>> turn = pa.struct({"text": pa.string()})
    >>> schema = pa.schema({"a.b": pa.string(), "turns": pa.list_(turn)})
    >>> path_to("a.b", schema), path_to("turns.0.text", schema), path_to("turns.text", schema)
    (('a.b',), ('turns', 0, 'text'), None)
    """
    return _path_in(name, {one.name: one.type for one in reversed(list(schema))})


def _path_in(name: str, kinds: dict[str, Any]) -> Path | None:
    if name in kinds:
        return (name,)
    # The longest literal name comes first: names may have dots themselves.
    for end in (i for i in range(len(name) - 1, 0, -1) if name[i] == "."):
        if name[:end] in kinds:
            inner = _path_below(name[end + 1 :], kinds[name[:end]])
            if inner is not None:
                return (name[:end], *inner)
    return None


def _path_below(rest: str, kind: Any) -> Path | None:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return _path_in(rest, {one.name: one.type for one in reversed(fields)})
    index, _, rest = rest.partition(".")
    if not (_is_view(kind) or _is_list(kind)) or not (index.isascii() and index.isdigit()):
        return None
    inner = _path_below(rest, kind.value_type) if rest else ()
    return None if inner is None else (int(index), *inner)


def type_at(path: Path, schema: Any) -> Any:
    """The type of the values at a path that `path_to` found."""
    kind = schema.field(schema.names.index(path[0])).type
    for step in path[1:]:
        kind = kind.field(step).type if isinstance(step, str) else kind.value_type
    return kind


def reached(batch: Any, path: Path) -> Any:
    """The values at a path in a record batch, null where it leads nowhere; not yet checked.

    Raises
    ------
    pyarrow.ArrowInvalid
        If an offset or a length on the way leads outside of the array's memory.
    """
    import pyarrow.compute as pc

    array = batch.column(batch.schema.names.index(path[0]))
    for step in path[1:]:
        array.validate(full=isinstance(step, int))
        array = pc.struct_field(array, [step]) if isinstance(step, str) else _elements(array, step)
    return array


def _elements(array: Any, index: int) -> Any:
    """One element of each list, null where it is too short."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(array.type):
        starts = array.type.list_size * np.arange(array.offset, array.offset + len(array))
    else:
        starts = _offsets(array)[: len(array)]
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    there: Any = pa.array(starts + index, mask=lengths <= index)
    return array.values.take(there)


def checked(array: Any) -> Any:
    """The array after a full validation; text as binary, since bad UTF-8 is a row's own flaw.

    Raises
    ------
    pyarrow.ArrowInvalid
        If an offset, a length, an index or a run end leads outside of the array's memory.
    """
    array.validate()  # before any part of it is touched
    array = _as_binary(array) if holds_text(array.type) else array
    array.validate(full=True)
    return array


def _as_binary(array: Any) -> Any:
    """Text as the bytes that it is stored in, without a look at them."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _as_binary(array.storage)
    if types.is_dictionary(kind):
        values = _as_binary(array.dictionary)
        return pa.DictionaryArray.from_arrays(array.indices, values, safe=False)
    if types.is_run_end_encoded(kind):
        values = _as_binary(array.values)
        made: Any = pa.RunEndEncodedArray.from_arrays(array.run_ends, values)
        return made.slice(array.offset, len(array))
    plainer = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    plainer[pa.string_view()] = pa.binary_view()
    return array.view(plainer[kind]) if kind in plainer else array


def holds_text(kind: Any) -> bool:
    """Whether `plain` makes large binary of this type."""
    import pyarrow as pa

    kind, types = _inner(kind), pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)  # of variable length
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def holds_ids(kind: Any) -> bool:
    """Whether `plain` makes large lists of integers of this type."""
    import pyarrow as pa

    kind = _inner(kind)
    if pa.types.is_null(kind):
        return True
    if not (_is_view(kind) or _is_list(kind)):
        return False
    values = _inner(kind.value_type)
    return pa.types.is_integer(values) or pa.types.is_null(values)


def plain(array: Any) -> Any:
    """A checked array as large lists of integers or as large binary; unchanged if it is neither.

    Null stays null; an array of nulls becomes lists. Nothing is copied that need not be.
    """
    import pyarrow as pa

    if holds_text(array.type):
        return _expanded(array, lambda values: values.cast(pa.large_binary()))
    if holds_ids(array.type):
        return _expanded(array, _lists)
    return array


def weights(array: Any) -> npt.NDArray[np.int64]:
    """About how many tokens each row of a checked array holds once it is plain."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return weights(array.storage)
    if types.is_dictionary(kind):
        indices = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        inner = weights(array.dictionary)
        return inner[indices] if len(inner) else np.zeros(len(indices), np.int64)
    if types.is_run_end_encoded(kind):
        return weights(array.values)[_runs(array)]
    if types.is_string_view(kind) or types.is_binary_view(kind):
        # A view has 16 bytes, of which the first four are its length.
        views = _numbers(array, np.int32, 4 * array.offset, 4 * len(array))
        return views[::4].astype(np.int64) // 4
    if _is_view(kind):
        return np.asarray(array.sizes.to_numpy(), np.int64)
    if types.is_fixed_size_list(kind):
        return np.full(len(array), kind.list_size, np.int64)
    if types.is_fixed_size_binary(kind):
        return np.full(len(array), kind.byte_width // 4, np.int64)
    if _is_list(kind):
        return np.diff(_offsets(array))
    if holds_text(kind):
        wide = types.is_large_string(kind) or types.is_large_binary(kind)
        offsets = _numbers(array, np.int64 if wide else np.int32, array.offset, len(array) + 1)
        lengths = np.diff(offsets)
        return lengths.astype(np.int64) // 4
    return np.zeros(len(array), np.int64)


def _numbers(array: Any, dtype: Any, first: int, count: int) -> npt.NDArray[Any]:
    """Some of the numbers in the second buffer of a checked array: offsets, or views."""
    if len(array) == 0:  # it may come without a buffer
        return np.zeros(count, dtype)
    return np.frombuffer(array.buffers()[1], dtype, count, first * np.dtype(dtype).itemsize)


def _is_view(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _inner(kind: Any) -> Any:
    """What extensions, dictionaries and run ends stand for."""
    import pyarrow as pa

    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def _expanded(array: Any, finish: Any) -> Any:
    """`finish` of the array without extensions, dictionaries and run ends."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _expanded(array.storage, finish)
    if pa.types.is_dictionary(kind):
        return _expanded(array.dictionary, finish).take(array.indices)
    if pa.types.is_run_end_encoded(kind):
        rows: Any = pa.array(_runs(array))
        return _expanded(array.values, finish).take(rows)
    return finish(array)


def _runs(array: Any) -> npt.NDArray[np.int64]:
    """For each row of a run-end encoded array, which of its values it has."""
    import pyarrow as pa

    if len(array) > _MAX_RUNS:
        raise pa.ArrowInvalid(f"runs of {len(array)} values are too long to be read")
    ends = array.run_ends.to_numpy().astype(np.int64)
    rows = np.arange(array.offset, array.offset + len(array), dtype=np.int64)
    return np.searchsorted(ends, rows, side="right")


def _offsets(array: Any) -> npt.NDArray[np.int64]:
    # An array without rows may come without a buffer.
    if len(array) == 0:
        return np.zeros(1, np.int64)
    return np.asarray(array.offsets.to_numpy(zero_copy_only=False), np.int64)


def _lists(array: Any) -> Any:
    """Lists of any kind, or nulls, as large lists of integers."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.large_list(pa.int32()))
    if not _is_view(kind) and pa.types.is_integer(kind.value_type):
        return array.cast(pa.large_list(kind.value_type))
    values = array.values
    if _is_view(kind):
        offsets, rows = _in_order(array)
        values = values if rows is None else values.take(pa.array(rows))
    elif pa.types.is_fixed_size_list(kind):
        offsets = kind.list_size * np.arange(array.offset, array.offset + len(array) + 1)
    else:
        offsets = _offsets(array)
    first, last = int(offsets[0]), int(offsets[-1])
    values = _expanded(values.slice(first, last - first), _integers)
    mask: Any = array.is_null() if array.null_count else None
    offsets_from_0: Any = pa.array(offsets - first)
    return pa.LargeListArray.from_arrays(offsets_from_0, values, mask=mask)


def _integers(array: Any) -> Any:
    import pyarrow as pa

    return pa.nulls(len(array), pa.int32()) if pa.types.is_null(array.type) else array


def _in_order(array: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Offsets of a view's lists one after the other, and which values they then are (None: all).

    pyarrow's own cast loses lists that do not lie in order.
    """
    starts = np.array(array.offsets.to_numpy(), np.int64)
    sizes = np.array(array.sizes.to_numpy(), np.int64)
    if array.null_count:
        sizes[array.is_null().to_numpy(zero_copy_only=False)] = 0
    ends = np.cumsum(sizes)
    if len(starts) and (starts[1:] == (starts + sizes)[:-1]).all():
        return np.append(starts, starts[-1] + sizes[-1]), None
    rows = np.repeat(starts - (ends - sizes), sizes) + np.arange(sizes.sum())
    return np.concatenate((np.zeros(1, np.int64), ends)), rows
