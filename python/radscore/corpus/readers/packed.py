"""Columns of compressed record batches, decompressed piece by piece.

pyarrow decompresses all of a batch at once, and a batch may be as large as its file: feather has
65,536 rows in each, whatever they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PackedColumn", "is_compressed", "packed_columns", "unpacked"]

#: Batches whose wanted columns have fewer bytes are left to pyarrow.
_LARGE = 1 << 26
_CODECS = {0: "lz4", 1: "zstd"}


class _Table:
    """A table of a flatbuffer that pyarrow has verified."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self._at = data, at

    def integer(self, at: int, size: int, *, signed: bool = True) -> int:
        """An integer of some bytes."""
        return int.from_bytes(self.data[at : at + size], "little", signed=signed)

    def field(self, number: int) -> int:
        """Where a field begins; 0 if it is not set."""
        entries = self._at - self.integer(self._at, 4)
        entry = entries + 4 + 2 * number
        if entry >= entries + self.integer(entries, 2, signed=False):
            return 0
        found = self.integer(entry, 2, signed=False)
        return self._at + found if found else 0

    def table(self, number: int) -> _Table:
        """The table that a field refers to."""
        at = self.field(number)
        return _Table(self.data, at + self.integer(at, 4, signed=False))

    def pairs(self, number: int) -> npt.NDArray[np.int64]:
        """A vector of structs of two 64-bit integers."""
        at = self.field(number)
        at += self.integer(at, 4, signed=False)
        count = self.integer(at, 4, signed=False)
        return np.frombuffer(self.data, "<i8", 2 * count, at + 4).reshape(-1, 2)


def _batch_of(message: Any) -> _Table:
    data = message.metadata.to_pybytes()
    return _Table(data, int.from_bytes(data[:4], "little")).table(2)  # Message.header


def is_compressed(message: Any) -> bool:
    """Whether the message of a record batch names a codec; pyarrow does not tell."""
    return _batch_of(message).field(3) != 0  # RecordBatch.compression


def packed_columns(message: Any, schema: Any, names: list[str]) -> list[PackedColumn] | None:
    """The columns of a large compressed batch; None where pyarrow should read it.

    That is where the batch is small, a column is of another type than lists of integers or text, or
    has nulls among its ids.
    """
    import pyarrow as pa

    try:
        return _packed_columns(message, schema, names)
    except (ValueError, IndexError, OverflowError) as error:
        raise pa.ArrowInvalid(f"a record batch is damaged: {error}") from None


def _packed_columns(message: Any, schema: Any, names: list[str]) -> list[PackedColumn] | None:
    batch = _batch_of(message)
    if not batch.field(3):
        return None
    compression = batch.table(3)
    at = compression.field(0)
    codec = _CODECS.get(batch.integer(at, 1) if at else 0)
    nodes, buffers = batch.pairs(1), batch.pairs(2)
    found: dict[str, PackedColumn] = {}
    node = buffer = 0
    for field in schema:
        size = _size(field.type)
        if size is None or codec is None:
            return None
        if field.name in names:
            column = _column(field.type, nodes[node:], buffers[buffer:], message.body, codec)
            if column is None:
                return None
            found[field.name] = column
        node, buffer = node + size[0], buffer + size[1]
    columns = [found[name] for name in names]
    return columns if sum(column.n_bytes for column in columns) >= _LARGE else None


def _size(kind: Any) -> tuple[int, int] | None:
    """Nodes and buffers of a type in a batch; None if only the batch tells."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _size(kind.storage_type)
    if types.is_string_view(kind) or types.is_binary_view(kind) or types.is_union(kind):
        return None
    own, inner = 2, []
    if types.is_null(kind):
        own = 0
    elif types.is_dictionary(kind):
        pass  # its indices
    elif types.is_nested(kind):
        own = 0 if types.is_run_end_encoded(kind) else 1
        own += types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind)
        own += 2 * (types.is_list_view(kind) or types.is_large_list_view(kind))
        inner = [kind.field(i).type for i in range(kind.num_fields)]
        if types.is_run_end_encoded(kind):
            inner = [kind.run_end_type, kind.value_type]
    elif _is_text(kind):
        own = 3
    sizes = [_size(one) for one in inner]
    if None in sizes:
        return None
    told = [size for size in sizes if size is not None]
    return 1 + sum(size[0] for size in told), own + sum(size[1] for size in told)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _column(kind: Any, nodes: Any, buffers: Any, body: Any, codec: str) -> PackedColumn | None:
    import pyarrow as pa

    types = pa.types
    item: np.dtype[Any] = np.dtype(np.uint8)
    n_rows, n_nulls = map(int, nodes[0])
    wide = types.is_large_list(kind) or types.is_large_string(kind) or types.is_large_binary(kind)
    if _is_text(kind):
        values = buffers[2]
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if not types.is_integer(kind.value_type) or nodes[1][1]:
            return None
        values = buffers[2 if types.is_fixed_size_list(kind) else 3]
        item = np.dtype(str(kind.value_type))
    else:
        return None
    data = _Packed(body, values, codec)
    if types.is_fixed_size_list(kind):
        offsets = kind.list_size * np.arange(n_rows + 1, dtype=np.int64)
    else:
        packed = _Packed(body, buffers[1], codec)
        raw = packed.read(packed.size)
        offsets = np.frombuffer(raw, np.int64 if wide else np.int32, n_rows + 1).astype(np.int64)
    if (
        offsets[0] < 0
        or (np.diff(offsets) < 0).any()
        or int(offsets[-1]) * item.itemsize > data.size
    ):
        raise pa.ArrowInvalid("offsets lead outside of the values")
    valid = np.ones(n_rows, np.bool_)
    if n_nulls:
        packed = _Packed(body, buffers[0], codec)
        bits = np.frombuffer(packed.read(packed.size), np.uint8)
        valid = np.unpackbits(bits, count=n_rows, bitorder="little").astype(np.bool_)
    data.read(int(offsets[0]) * item.itemsize)
    return PackedColumn(offsets, valid, data, item, is_text=_is_text(kind))


class _Packed:
    """A buffer of a batch: its size, and its bytes in order."""

    def __init__(self, body: Any, where: Any, codec: Any) -> None:
        import pyarrow as pa

        begin, length = map(int, where)
        if begin < 0 or length < 0 or begin + length > body.size:
            raise pa.ArrowInvalid("a buffer lies outside of its batch")
        part = body.slice(begin, length)
        self.size = int.from_bytes(part.slice(0, 8).to_pybytes(), "little", signed=True)
        self._stream: Any = pa.BufferReader(part.slice(min(8, length)))
        if length == 0:
            self.size = 0
        elif self.size == -1:  # as it is
            self.size = length - 8
        elif self.size > 0:
            self._stream = pa.CompressedInputStream(self._stream, codec)
        if self.size < 0:
            raise pa.ArrowInvalid("a buffer has a negative size")

    def read(self, size: int) -> bytes:
        """The next bytes."""
        import pyarrow as pa

        found: bytes = self._stream.read(size) if 0 < size <= self.size else b""
        if len(found) != size:
            raise pa.ArrowInvalid(f"a compressed buffer ends {size - len(found)} bytes too early")
        return found


@dataclass
class PackedColumn:
    """A column whose rows can be taken once, in order.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n_rows + 1,)
        Where each row's values begin.
    valid : ndarray of bool, shape (n_rows,)
        Whether each row is there.
    """

    offsets: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    values: _Packed
    item: np.dtype[Any]
    is_text: bool

    @property
    def n_bytes(self) -> int:
        """Bytes of its values."""
        return self.values.size

    def weights(self) -> npt.NDArray[np.int64]:
        """About how many tokens each row holds."""
        lengths = np.diff(self.offsets)
        return lengths // 4 if self.is_text else lengths

    def take(self, first: int, last: int) -> Any:
        """Rows `first` to `last`, right after those taken before, as `columnar.plain` has them."""
        import pyarrow as pa

        offsets = self.offsets[first : last + 1] - self.offsets[first]
        data = self.values.read(int(offsets[-1]) * self.item.itemsize)
        valid = self.valid[first:last]
        if not self.is_text:
            mask: Any = None if valid.all() else pa.array(~valid)
            starts: Any = pa.array(offsets)
            values: Any = pa.array(np.frombuffer(data, self.item))
            return pa.LargeListArray.from_arrays(starts, values, mask=mask)
        bits = (
            None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
        )
        buffers = [bits, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_binary(), len(valid), buffers)


def unpacked(columns: list[PackedColumn], start: int, room: int) -> Iterator[tuple[int, list[Any]]]:
    """The rows from `start` in pieces of about `room` tokens, each with its first row."""
    ends = np.cumsum(sum(column.weights() for column in columns))
    row = before = 0
    while row < len(ends):
        end = max(int(np.searchsorted(ends, before + room, side="right")), row + 1)
        if row < start < end:
            end = start
        made = [column.take(row, end) for column in columns]
        if row >= start:
            yield row, made
        row, before = end, int(ends[end - 1])
