"""Arrays made to hurt: `Documents` refuses them or reads them rightly."""

import numpy as np
import pyarrow as pa
import pytest
from radscore.documents import Documents
from radscore.errors import TokenError

IDS = np.arange(6, dtype=np.int32)


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (IDS, [0, 4, 2], "offsets decrease after document 1"),
        (IDS, [0, 7], "outside the 6 values"),
        (IDS, [-1, 3], "outside the 6 values"),
        (IDS, [], "n_documents"),
        (IDS, [0.0, 6.0], "integer array"),
        (IDS, [[0, 6]], "1-D integer array"),
        (IDS[::2], [0, 3], "contiguous"),
        (IDS[::-1], [0, 6], "contiguous"),
        (IDS.astype(">i4"), [0, 6], "byte order"),
        (IDS.reshape(2, 3), [0, 2], "1-D array"),
        (IDS.astype(bool), [0, 6], "bool"),
        (IDS.astype(float), [0, 6], "float64"),
        (IDS.astype(object), [0, 6], "object"),
        ([1, 2], [0, 2], "not list"),
        (None, [0, 0], "not NoneType"),
    ],
)
def test_values_and_offsets_that_lie(values, offsets, message):
    with pytest.raises(TokenError, match=message):
        Documents(values, offsets)


@pytest.mark.parametrize(
    "documents",
    [
        "text",
        b"bytes",
        None,
        5,
        {1: 2},
        [[1.0, 2.0]],
        [["a"]],
        [[None]],
        [None],
        ["text"],
        [[[1, 2]]],
        [[2**70]],
        [1.5, 2.5],
        np.ones((2, 2, 2), int),
        np.ones(3),
        np.array([[1, 2], [3, "x"]], dtype=object),
        pa.array([1, 2]),
        pa.array([[1.0]]),
        pa.array([[1], None]),
        pa.array([[1, None]]),
        pa.array(["a"]),
        np.array(None),
        np.array(5),
        np.array([1, 2], dtype="m8[s]"),
        bytearray(b"bytes"),
        [bytearray(b"bytes")],
        pa.scalar("text"),
        [pa.array([1, None])],
        [[True, False]],
        [True, False],
        np.array([[True, False]]),
    ],
    ids=lambda value: repr(value)[:40].replace("\n", " "),
)
def test_containers_that_hold_no_ids(documents):
    with pytest.raises(TokenError) as caught:
        Documents.of(documents)
    assert len(str(caught.value)) < 400


def test_float_and_foreign_tensors():
    torch = pytest.importorskip("torch")
    for tensor in (torch.ones(3), torch.ones(2, 2, dtype=torch.bool)):
        with pytest.raises(TokenError):
            Documents.of(tensor)
    with pytest.raises(TokenError, match="meta"):
        Documents.of(torch.ones(3, dtype=torch.int64, device="meta"))
    rows = torch.arange(6).reshape(2, 3)
    assert [doc.tolist() for doc in Documents.of(rows.T)] == [[0, 3], [1, 4], [2, 5]]
    assert [doc.tolist() for doc in Documents.of(list(rows))] == [[0, 1, 2], [3, 4, 5]]


def test_odd_but_honest_containers_are_read():
    big_endian = [np.array([1, 70_000], dtype=">u4"), np.array([2], dtype=">u4")]
    assert [doc.tolist() for doc in Documents.of(big_endian)] == [[1, 70_000], [2]]
    sliced = pa.array([[9], [1, 2], [3], [9]]).slice(1, 2)
    assert [doc.tolist() for doc in Documents.of(sliced)] == [[1, 2], [3]]
    grid = np.arange(12).reshape(3, 4)
    assert [doc.tolist() for doc in Documents.of(grid[:2, ::2])] == [[0, 2], [4, 6]]
    assert [doc.tolist() for doc in Documents.of(grid.astype(object)[:1])] == [[0, 1, 2, 3]]
    assert [doc.tolist() for doc in Documents.of(np.arange(4, dtype=">i4")[::-2])] == [[3, 1]]
    arrow = pa.array([[9], [1, 2], [3]])
    assert [doc.tolist() for doc in Documents.of([arrow[1], pa.array([3])])] == [[1, 2], [3]]
    assert [doc.tolist() for doc in Documents.of(arrow[1])] == [[1, 2]]


@pytest.mark.parametrize("bad", [-1, 100, 2**40, -(2**62)])
def test_every_id_is_looked_at(bad):
    ids = np.arange(100)
    ids[61] = bad
    with pytest.raises(TokenError, match=f"token id {bad} at position 11 of document 1"):
        Documents(ids, [0, 50, 100]).check_vocab(100)
