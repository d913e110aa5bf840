"""Files of predictions hold positions as rows; whatever pairs there are, they come back."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, StateError
from radscore.models import Predictions, Weighting
from radscore.models.batching import Pairs
from radscore.models.prediction_rows import columns_of, pairs_of, rows_of, schema_of
from radscore.models.predictions import Header, PredictionsWriter, Totals

DATA = Path(__file__).parent / "data"
#: How the numbers of `PAIRS` are stored.
TYPES = {"targets": "<u2", "weights": "<f2", "base": "<u4"}
#: Numbers that float16 cannot hold unless they are scaled.
numbers = st.one_of(
    st.just(0.0),
    st.floats(-1e6, 1e6),
    st.floats(-1e-6, 1e-6),
    st.sampled_from([1e300, -1e-300, 2 - 2**-30]),
)


@st.composite
def some_pairs(draw, width, base, vocab_size=70_000):
    """A portion: positions with lists of tokens, some of them empty."""
    contexts, occurrences, targets, weights, probabilities = [], [], [], [], []
    place = draw(st.integers(0, 2**40))
    for _ in range(draw(st.integers(0, 6))):
        place += draw(st.integers(1, 1000))
        context = draw(st.lists(st.integers(0, 2**20), min_size=width, max_size=width))
        tokens = sorted(draw(st.sets(st.integers(0, vocab_size - 1), max_size=5)))
        rows = [(token, draw(numbers), draw(st.floats(0, 1))) for token in tokens] or [(0, 0, 0)]
        for token, weight, probability in rows:
            contexts.append(context)
            occurrences.append(place)
            targets.append(token)
            weights.append(weight)
            probabilities.append(np.float32(probability))
    return Pairs(
        np.array(contexts, dtype=np.uint32).reshape(len(targets), width),
        np.array(targets, dtype=np.uint32),
        np.array(weights, dtype=np.float64),
        np.array(occurrences, dtype=np.uint64),
        draw(st.booleans()),
        np.array(probabilities, dtype=np.float64) if base else None,
    )


def assert_rounded(ours, given):
    """11 bits are kept of whatever is not below 2^-29 of the largest."""
    largest = np.abs(given).max(initial=0.0)
    np.testing.assert_allclose(ours, given, rtol=2**-11, atol=largest * 2**-38)


def assert_same(ours, given):
    for name in ("contexts", "targets", "occurrences"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(given, name))
        assert getattr(ours, name).dtype == getattr(given, name).dtype
    assert ours.last == given.last
    assert_rounded(ours.weights, given.weights)
    assert (ours.base is None) == (given.base is None)
    if given.base is not None:
        np.testing.assert_array_equal(ours.base, np.rint(given.base * 2**28) / 2**28)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 3), st.booleans())
def test_pairs_come_back(data, width, base):
    pairs = data.draw(some_pairs(width, base))
    schema = schema_of(width, 70_000, 1 << 32, base=base)
    batch, exponent = rows_of(pairs, schema)
    again = pairs_of(columns_of(batch), exponent, width, last=pairs.last)
    assert_same(again, pairs)
    # what was rounded once is not rounded again: a file that is continued stays as it is
    batch, exponent = rows_of(again, schema)
    twice = pairs_of(columns_of(batch), exponent, width, last=pairs.last)
    for name in ("contexts", "targets", "occurrences", "weights", "base"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(again, name))


def test_lists_are_ordered():
    """By target, weights and probabilities with them, and never across positions."""
    pairs = Pairs(
        np.array([[1], [1], [1], [2], [2]], dtype=np.uint32),
        np.array([9, 3, 5, 7, 1], dtype=np.uint32),
        np.array([0.5, 0.25, 2.0, -1.0, 0.0]),
        np.array([4, 4, 4, 6, 6], dtype=np.uint64),
        True,
        np.array([0.5, 0.25, 0.125, 0.0, 1.0]),
    )
    batch, exponent = rows_of(pairs, schema_of(1, 10, 10, base=True))
    lists = batch["tokens"].to_pylist()
    assert [[token["targets.0"] for token in tokens] for tokens in lists] == [[3, 2, 4], [1, 6]]
    again = pairs_of(columns_of(batch), exponent, 1, last=True)
    assert again.targets.tolist() == [3, 5, 9, 1, 7]
    assert again.weights.tolist() == [0.25, 2.0, 0.5, 0.0, -1.0]
    assert again.base.tolist() == [0.25, 0.125, 0.5, 1.0, 0.0]


def test_integers_are_narrow():
    def types(vocab_size, n_ids):
        schema = schema_of(2, vocab_size, n_ids, base=False)
        fields = [field.name for field in schema.field("tokens").type.value_type]
        n_bytes = sum(name.startswith("targets.") for name in fields)
        return [schema.field("contexts").type.value_type, n_bytes]

    assert types(65_536, 65_536) == [pa.uint16(), 2]
    assert types(4_096, 65_537) == [pa.uint32(), 2]
    assert types(151_936, 151_936) == [pa.uint32(), 4]


HEADER = Header(
    model="m",
    reference="r",
    tokenizer=None,
    weighting=Weighting("matched"),
    vocab_size=100,
    least_vocab_size=90,
    context_width=1,
    text_watermarked=False,
    aligned=False,
    max_length=None,
    prefix=(),
    radscore="0",
)
TOTALS = Totals("0" * 64, True, 1, 0, 3, 2, 3)
PAIRS = Pairs(
    np.array([[1], [1], [2]], dtype=np.uint32),
    np.array([3, 9, 7], dtype=np.uint32),
    np.array([0.5, 0.25, -1.0]),
    np.array([4, 4, 6], dtype=np.uint64),
    True,
    np.array([0.5, 0.25, 0.0]),
)


def written(path, change=lambda batch, about: (batch, about), header=HEADER):
    """A file with valid checksums, whose batch was changed before."""
    with PredictionsWriter(path, header) as writer:
        add = writer._add
        writer._add = lambda batch, number, about: add(*change(batch, number, about))
        writer.write(PAIRS)
        writer._add = add
        writer.good(TOTALS)
    return Predictions(path)


def test_files_hold_them(tmp_path):
    (again,) = written(tmp_path / "p", lambda *batch: batch)
    assert_same(again, PAIRS)
    plain = dataclasses.replace(HEADER, weighting=Weighting("contrast"))
    (again,) = written(tmp_path / "q", lambda *batch: batch, plain)
    assert_same(again, dataclasses.replace(PAIRS, base=None))


def test_files_of_version_5_are_read():
    """`data/` holds what the last radscore that wrote them made of `PAIRS`, with other bases."""
    matched = Predictions(DATA / "matched-5.arrow")
    assert (matched.header.has_base, matched.totals) == (True, TOTALS)
    (pairs,) = matched
    base = np.float32([0.1, 1e-12, 0.0]).astype(np.float64)
    np.testing.assert_array_equal(pairs.base, base)  # they were kept exactly
    assert_same(dataclasses.replace(pairs, base=None), dataclasses.replace(PAIRS, base=None))
    (pairs,) = Predictions(DATA / "contrast-5.arrow")
    assert_same(pairs, dataclasses.replace(PAIRS, base=None))


def _with(batch, name, rows):
    """The batch with other bytes in the lists of `tokens`; None is a null."""
    whole = batch["tokens"].to_pylist()
    lists = [None if one is None else list(one) for one in rows]
    for i, tokens in enumerate(lists):
        for j, value in enumerate(tokens or []):
            old = whole[i][j] if j < len(whole[i]) else whole[0][0]
            new = dict.fromkeys(old) if value is None else {}
            if value is not None:
                data = np.array(value, TYPES[name]).tobytes()
                new = {f"{name}.{k}": byte for k, byte in enumerate(data)}
            tokens[j] = old | new
    column = pa.array(lists, batch["tokens"].type)
    return pa.record_batch([*batch.columns[:2], column], schema=batch.schema)


@pytest.mark.parametrize(
    ("match", "name", "rows"),
    [
        ("wrong checksum", "base", [None, [1]]),
        ("wrong checksum", "targets", [None, [1]]),
        ("wrong checksum", "weights", [[1.0, None], [1.0]]),
        ("no valid weights", "weights", [[1.0, np.nan], [1.0]]),
        ("has target 140, outside the vocabulary of 100", "targets", [[70, 70], [1]]),
        ("has target 65538, outside", "targets", [[3, 65_535], [1]]),
    ],
)
def test_lists_that_make_no_sense_are_refused(tmp_path, match, name, rows):
    def changed(batch, number, about):
        return _with(batch, name, rows), number, about

    with pytest.raises(StateError, match=match):
        list(written(tmp_path / "p", changed))


@pytest.mark.parametrize("exponent", [None, {}, 1.5, 2000, True, [1, 2]])
def test_scales_that_make_no_sense_are_refused(tmp_path, exponent):
    def changed(batch, number, about):
        return batch, number, about | {"exponent": exponent}

    with pytest.raises(StateError, match="no valid"):
        list(written(tmp_path / "p", changed))


@pytest.mark.parametrize("shard", [[0, 3], [4, 3], [1], [1, 2, 3], ["1", 2], 1])
def test_shards_that_make_no_sense_are_refused(shard):
    header = json.loads(HEADER.to_json()) | {"shard": shard}
    with pytest.raises((ValueError, TypeError, ArgumentError)):
        Header.from_json(json.dumps(header))
    whole = dataclasses.replace(HEADER, shard=(2, 3), contexts="f")
    assert Header.from_json(whole.to_json()) == whole
