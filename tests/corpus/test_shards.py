"""Shards that hold nothing, and files of which not every byte belongs to a document."""

import gzip
import struct

import numpy as np
import pytest
import radscore as rs
from radscore.corpus import open_corpus
from radscore.corpus.detect import find_sources
from radscore.corpus.formats import megatron as layout
from radscore.corpus.formats.megatron import megatron_index
from radscore.errors import CorpusError

from tests.readers import ids_of

DOCS = [[5, 6, 7, 8], [], [9], [1, 2, 3, 4, 5, 6, 7, 70_000], [3, 3]]
IDS = np.array([id_ for doc in DOCS for id_ in doc])
LENGTHS = [len(doc) for doc in DOCS]


def datatrove(path, ids, lengths, *, dtype="<u4"):
    path = path.with_suffix(".ds")
    path.write_bytes(ids.astype(dtype).tobytes())
    path.with_suffix(".ds.index").write_bytes(np.cumsum(lengths).astype("<u8").tobytes())
    return path


def dolma(path, ids, lengths, *, dtype="<u4"):
    ends = np.cumsum(lengths, dtype=int).tolist()
    rows = "".join(f"{a},{b},id,src,1\n" for a, b in zip([0, *ends[:-1]], ends, strict=bool(ends)))
    path.with_suffix(".npy").write_bytes(ids.astype(dtype).tobytes())
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(rows.encode()))
    return path.with_suffix(".npy")


def megatron(path, ids, lengths, *, dtype="<i4", places=None):
    """A document a sequence; `places` in ids."""
    path, dtype = path.with_suffix(".bin"), np.dtype(dtype)
    path.write_bytes(ids.astype(dtype).tobytes())
    places = np.cumsum([0, *lengths])[:-1] if places is None else places
    count = len(lengths)
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\0\0"
        + struct.pack("<QBQQ", 1, {"<u2": 8, "<i4": 4}[dtype.str], count, count + 1)
        + np.array(lengths, "<i4").tobytes()
        + (np.array(places, "<i8") * dtype.itemsize).tobytes()
        + np.arange(count + 1, dtype="<i8").tobytes()
    )
    return path


# Shards that hold nothing


@pytest.mark.parametrize("write", [datatrove, dolma, megatron])
@pytest.mark.parametrize("lengths", [[], [0, 0]], ids=["no document", "empty documents"])
def test_an_empty_shard_beside_full_ones(tmp_path, write, lengths):
    (tmp_path / "corpus").mkdir()
    empty = write(tmp_path / "corpus" / "a", IDS[:0], lengths)
    write(tmp_path / "corpus" / "b", IDS, LENGTHS)
    write(tmp_path / "corpus" / "c", IDS[:0], lengths)
    write(tmp_path / "corpus" / "d", IDS, LENGTHS)
    none = [[] for _ in lengths]
    expected = none + DOCS + none + DOCS
    corpus = open_corpus(tmp_path / "corpus", vocab_size=70_001, batch_tokens=3)
    assert ids_of(corpus) == expected
    known = corpus.known()
    assert (known.n_tokens, known.n_documents) == (2 * len(IDS), len(expected))
    assert not corpus.skipped
    scheme = rs.KGW(vocab_size=70_001, gamma=0.5, context_width=1, seeding="hash", seed=3)
    assert rs.score(corpus, scheme).n_scored == rs.score(DOCS * 2, scheme).n_scored
    alone = open_corpus(empty)
    if lengths:
        assert ids_of(alone) == none
    else:
        with pytest.raises(CorpusError, match="the corpus holds no documents"):
            ids_of(alone)


@pytest.mark.parametrize("write", [datatrove, dolma])
def test_a_dtype_that_is_given_is_that_of_empty_shards_too(tmp_path, write):
    write(tmp_path / "a", IDS[:0], [0])
    write(tmp_path / "b", IDS, LENGTHS)
    batches = list(open_corpus(tmp_path, dtype="uint32"))
    assert {batch.documents.values.dtype.name for batch in batches} == {"uint32"}
    assert [doc.tolist() for batch in batches for doc in batch.documents] == [[], *DOCS]


def test_a_table_of_no_bytes_is_one_of_no_documents(tmp_path):
    dolma(tmp_path / "a", IDS[:0], []).with_suffix(".csv.gz").write_bytes(b"")
    dolma(tmp_path / "b", IDS, LENGTHS)
    assert ids_of(open_corpus(tmp_path)) == DOCS


@pytest.mark.parametrize("write", [datatrove, dolma])
@pytest.mark.parametrize("lengths", [[], [0]], ids=["no document", "an empty document"])
def test_an_index_of_nothing_beside_ids_is_damage(tmp_path, write, lengths):
    """Not an empty shard; where damage is skipped, the others are read."""
    bad = write(tmp_path / "a", IDS, lengths)
    write(tmp_path / "b", IDS, LENGTHS)
    with pytest.raises(CorpusError, match="its last document ends at token 0, which does not fit"):
        open_corpus(bad)
    corpus = open_corpus(tmp_path, on_error="skip")
    assert ids_of(corpus) == DOCS
    assert corpus.skipped.files == 1


@pytest.mark.parametrize("write", [datatrove, dolma])
def test_an_index_of_documents_beside_an_empty_file_is_damage(tmp_path, write):
    with pytest.raises(CorpusError, match=r"ends at token 15, which does not fit the 0 bytes of a"):
        open_corpus(write(tmp_path / "a", IDS[:0], LENGTHS))


# Sequences of Megatron, and the bytes that are in none


def test_sequences_need_not_end_the_file(tmp_path):
    """Reordered; with an empty one at the end that begins at 0; with bytes after the last."""
    first = np.concatenate((IDS[5:], IDS[:5]))
    places = [10, 0, 14, 0, 8, 0]
    path = megatron(tmp_path / "a", first, [*LENGTHS, 0], places=places)
    corpus = open_corpus(path, vocab_size=70_001)
    assert ids_of(corpus) == [*DOCS, []]
    assert layout.FORMAT.notes(corpus.sources, corpus.options) == ()
    assert sum(batch.n_bytes for batch in open_corpus(path, batch_tokens=3)) <= corpus.total_bytes
    padded = np.concatenate((IDS, np.zeros(64 - len(IDS))))
    path = megatron(tmp_path / "b", padded, LENGTHS)
    corpus = open_corpus(path, vocab_size=70_001)
    assert ids_of(corpus) == DOCS
    (source,) = corpus.sources
    assert megatron_index(source).extent() == (15, 60)
    assert megatron_index(source).n_tokens == 15
    (note,) = layout.FORMAT.notes([source], corpus.options)
    assert note == (
        f"{tmp_path / 'b.idx'}: 196 of the 256 bytes of b.bin are in no sequence and are not read; "
        "is this the index of another file?"
    )
    megatron(tmp_path / "c", padded, LENGTHS)
    (tmp_path / "d.idx").write_bytes(b"damaged")
    (tmp_path / "d.bin").write_bytes(b"")
    (note,) = layout.FORMAT.notes(find_sources(tmp_path), corpus.options)
    assert "b.bin are in no sequence and are not read (and so in 1 more file)" in note


def test_every_sequence_must_lie_in_the_file(tmp_path):
    path = megatron(tmp_path / "a", IDS, LENGTHS, places=[0, 4, 4, 8, 2])
    match = r"a\.idx: sequence 3 has 8 tokens from byte 32, but a\.bin has 60 bytes"
    with pytest.raises(CorpusError, match=match):
        ids_of(open_corpus(path))
    path = megatron(tmp_path / "a", IDS[:-1], LENGTHS)
    with pytest.raises(CorpusError, match=r"ends at byte 60, but a\.bin has 56; is this the index"):
        open_corpus(path)


def test_an_index_of_ids_of_another_size(tmp_path):
    """Padding is zeros; what else doubles the file is the same ids, twice as wide."""
    match = r"a\.idx: its last sequence ends at byte 30, but a\.bin has 60; is this the index of"
    ids = np.minimum(IDS, 60_000)
    path = megatron(tmp_path / "a", ids, LENGTHS, dtype="<u2")
    path.write_bytes(ids.astype("<u4").tobytes())
    with pytest.raises(CorpusError, match=match):
        open_corpus(path)
    path.write_bytes(ids.astype("<u2").tobytes() + bytes(30))
    assert [id_ for doc in ids_of(open_corpus(path)) for id_ in doc] == ids.tolist()
    path = megatron(tmp_path / "b", IDS, [])
    with pytest.raises(CorpusError, match=r"ends at byte 0, but b\.bin has 60; is this the index"):
        open_corpus(path)
    path.write_bytes(bytes(60))
    with pytest.raises(CorpusError, match="the corpus holds no documents"):
        ids_of(open_corpus(path))


def test_megatron_documents_that_share_bytes_are_told(tmp_path):
    ids = np.arange(1, 101)
    shared, apart, shuffled = ([0, 10, 80], 1), ([0, 40, 80], 0), ([80, 0, 40], 0)
    for places, n_notes in (shared, apart, shuffled):
        megatron(tmp_path / "x", ids, [20, 40, 20], places=places)
        notes = [one for one in open_corpus(tmp_path / "x.bin").notes if "begin within" in one]
        assert len(notes) == n_notes
        if notes:
            assert "x.idx: 1 of its 3 sequences begin within another one" in notes[0]
