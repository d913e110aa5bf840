"""Places beyond what 32 bits hold; in files with holes, read from a cursor after these."""

import json
import struct

import numpy as np
import pytest
from radscore.corpus import open_corpus

DOCS = [[5, 6, 7, 8], [], [9], [1, 2, 3, 4, 5, 6, 7, 50_000], [3, 3]]
TAIL = np.array([id_ for doc in DOCS for id_ in doc])
LENGTHS = [len(doc) for doc in DOCS]
#: Documents that are holes: too long to be read here.
HOLES = [2**30, 2**30, 2**30 + 7]


def with_hole(path, head, size, tail):
    """`tail` after `size` bytes, of which only `head` is written; no disk is used for the rest."""
    with path.open("wb") as file:
        file.write(head)
        file.seek(size)
        file.write(tail)
        file.truncate()
    return path


def read_from(path, position, n_documents, **options):
    """Batches after a position, by a cursor as a run of hours leaves it."""
    corpus = open_corpus(path, batch_tokens=6, **options)
    cursor = {
        "version": 1,
        "source": 0,
        "path": str(corpus.sources[0].path),
        "position": position,
        "documents": n_documents,
        "bytes": 0,
        "skipped": corpus.skipped.to_dict(),
    }
    return corpus, list(corpus.batches(cursor))


def check(corpus, batches, first, unit):
    assert [doc.tolist() for batch in batches for doc in batch.documents] == DOCS
    places = [batch.locate(i) for batch in batches for i in range(len(batch))]
    assert places == [f"{corpus.sources[0].path}:{unit} {first + i}" for i in range(len(DOCS))]
    assert sum(batch.n_bytes for batch in batches) == corpus.total_bytes
    # Each batch's own cursor goes on behind all of this, too.
    for batch in batches[:-1]:
        rest = list(corpus.batches(json.loads(json.dumps(batch.cursor))))
        done = batch.first_document + len(batch) - first
        assert [doc.tolist() for one in rest for doc in one.documents] == DOCS[done:]


def test_megatron(tmp_path):
    path = with_hole(tmp_path / "x.bin", b"", 2 * sum(HOLES), TAIL.astype("<u2").tobytes())
    lengths = [*HOLES, *LENGTHS]
    places = np.cumsum([0, *lengths], dtype="<i8")[:-1] * 2
    count = len(lengths)
    (tmp_path / "x.idx").write_bytes(
        b"MMIDIDX\0\0"
        + struct.pack("<QBQQ", 1, 8, count, count + 1)
        + np.array(lengths, "<i4").tobytes()
        + places.tobytes()
        + np.arange(count + 1, dtype="<i8").tobytes()
    )
    n_tokens = sum(lengths)
    assert n_tokens > 2**31
    assert places[len(HOLES)] > 2**32
    corpus, batches = read_from(path, {"document": len(HOLES)}, len(HOLES), vocab_size=50_001)
    known = corpus.known()
    assert (known.n_tokens, known.n_documents) == (n_tokens, count)
    check(corpus, batches, len(HOLES), "document")


def test_datatrove(tmp_path):
    path = with_hole(tmp_path / "x.ds", b"", 4 * sum(HOLES), TAIL.astype("<u4").tobytes())
    ends = np.cumsum([*HOLES, *LENGTHS], dtype="<u8")
    assert ends[2] > 2**31
    (tmp_path / "x.ds.index").write_bytes(ends.tobytes())
    corpus, batches = read_from(path, {"document": len(HOLES)}, len(HOLES), vocab_size=50_001)
    known = corpus.known()
    assert (known.n_tokens, known.n_documents) == (int(ends[-1]), len(ends))
    check(corpus, batches, len(HOLES), "document")


def test_headerless_ids(tmp_path):
    ids = [id_ for doc in DOCS for id_ in (*doc, 0)]
    start = 2**32 + 3
    path = with_hole(tmp_path / "x.bin", b"", 2 * start, np.array(ids, "<u2").tobytes())
    corpus, batches = read_from(path, {"token": start}, 7, dtype="uint16", eod=0)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == [
        [*doc, 0] for doc in DOCS
    ]
    starts = start + np.cumsum([0, *(n + 1 for n in LENGTHS)])[:-1]
    places = [batch.locate(i) for batch in batches for i in range(len(batch))]
    assert places == [f"{path}:token {place}" for place in starts]
    assert corpus.known().n_tokens == start + len(ids)
    assert batches[-1].cursor["position"] == {"token": start + len(ids)}


@pytest.mark.parametrize("begin", [2**31 - 20, 2**31 + 3, 2**32 - 400])
def test_mds(tmp_path, begin):
    """Offsets are unsigned: the upper half of 32 bits is in use."""
    columns = {
        "column_names": ["tokens"],
        "column_encodings": ["ndarray:uint32"],
        "column_sizes": [None],
    }
    text = json.dumps(columns).encode()
    items = []
    for doc in DOCS:
        value = struct.pack("<BB", 1 << 2, len(doc)) + np.array(doc, "<u4").tobytes()
        items.append(struct.pack("<I", len(value)) + value)
    count = 1 + len(items)
    first = 8 + 4 * count + len(text)
    places = np.array([first, *(begin + np.cumsum([0, *map(len, items)]))])
    assert 2**31 < places[-1] < 2**32
    head = struct.pack("<I", count) + places.astype("<u4").tobytes() + text
    path = with_hole(tmp_path / "x.mds", head, begin, b"".join(items))
    corpus, batches = read_from(path, {"item": 1}, 1, vocab_size=50_001)
    check(corpus, batches, 1, "row")
