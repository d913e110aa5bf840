"""Documents: which containers are taken, what is copied, what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.documents import Documents
from radscore.errors import TokenError

ragged = st.lists(st.lists(st.integers(0, 127), max_size=8), max_size=8)
dtypes = st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])


def as_lists(documents):
    return [document.tolist() for document in documents]


@given(ragged, dtypes, st.integers(0, 3))
def test_every_container_says_the_same(lists, dtype, lead):
    values = np.array([9] * lead + [t for one in lists for t in one], dtype=dtype)
    offsets = lead + np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=int)])
    arrow = pa.array(lists, type=pa.list_(pa.from_numpy_dtype(dtype)))
    for container in (
        Documents(values, offsets),
        lists if not (lists and all(isinstance(x, int) for x in lists)) else [lists],
        [np.array(one, dtype=dtype) for one in lists],
        arrow,
        arrow.cast(pa.large_list(arrow.type.value_type)),
        pa.chunked_array([arrow.slice(0, len(lists) // 2), arrow.slice(len(lists) // 2)]),
    ):
        assert as_lists(Documents.of(container)) == lists
    assert Documents.of(Documents(values, offsets)).n_tokens == len(values) - lead


def test_nothing_is_copied():
    values = np.arange(10, dtype=np.uint16)
    assert np.shares_memory(Documents(values, [0, 4, 10]).values, values)
    grid = values.reshape(5, 2)
    assert np.shares_memory(Documents.of(grid).values, values)
    assert as_lists(Documents.of(grid))[1] == [2, 3]
    arrow = pa.array([[1, 2], [3]], type=pa.list_(pa.int32()))
    taken = Documents.of(arrow).values
    assert taken.__array_interface__["data"][0] == arrow.values.buffers()[1].address


def test_torch_tensors_are_read_in_place():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    documents = Documents.of(tensor)
    assert as_lists(documents) == [[1, 2], [3, 4]]
    assert documents.values.__array_interface__["data"][0] == tensor.data_ptr()
    assert as_lists(Documents.of([tensor[0], tensor[1]])) == [[1, 2], [3, 4]]
    assert as_lists(Documents.of(tensor.T)) == [[1, 3], [2, 4]]
    for dtype in (torch.float32, torch.bfloat16, torch.bool):
        with pytest.raises(TokenError, match=r"integers|bfloat16"):
            Documents.of(torch.tensor([1.5], dtype=dtype))
    with pytest.raises(TokenError, match="meta"):
        Documents.of(torch.ones(3, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("text", "give a list of documents, or open files with radscore.open_corpus"),
        (7, "not int"),
        ([[1.5]], r"documents\[0\] holds float64"),
        ([[1], ["a"]], r"documents\[1\]"),
        ([[1], [[2]]], r"documents\[1\] is not a list of token ids but 2-D"),
        ([[2**70]], r"documents\[0\] holds a token id beyond 2\^63"),
        ([[True, 2]], r"documents\[0\] holds bool"),
        (np.array([1.0]), "float64"),
        (np.zeros((2, 2, 2), dtype=int), "not 3"),
        (np.array([True]), "bool"),
        (pa.array([[1], None]), r"documents\[1\] is null"),
        (pa.array([[1, None]]), "a token id is null"),
        (pa.array([["a"]]), "lists of integers"),
        (pa.array([1]), "lists of integers"),
        (b"bytes", "give a list of documents"),
        (None, "not NoneType"),
        ({1: 2}, "without 'input_ids'"),
        ([[None]], r"documents\[0\] holds object"),
        ([None], r"documents\[0\] is missing"),
        (["text"], r"documents\[0\] is text"),
        ([1.5, 2.5], r"documents\[0\]"),
        (np.array([[1, 2], [3, "x"]], dtype=object), "documents"),
        (np.array(None), "a single value"),
        (np.array(5), "a single value"),
        (np.array([1, 2], dtype="m8[s]"), "timedelta64"),
        (bytearray(b"bytes"), "is a bytearray"),
        ([bytearray(b"bytes")], "is bytes, not token ids"),
        (pa.scalar("text"), "is a str"),
        ([pa.array([1, None])], "holds object"),
        ([True, False], "documents holds bool"),
    ],
)
def test_what_is_refused(bad, says):
    with pytest.raises(TokenError, match=says) as caught:
        Documents.of(bad)
    assert len(str(caught.value)) < 400


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


def test_an_id_outside_the_vocabulary_is_located():
    documents = Documents(np.array([0, 1, 2, 9, 1]), [1, 2, 2, 5])
    documents.check_vocab(10)
    with pytest.raises(TokenError, match=r"token id 9 at position 1 of document 2 .* of 9"):
        documents.check_vocab(9)


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
