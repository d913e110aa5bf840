"""What `plan_corpus` says, held against what is true."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs
from radscore.corpus import open_corpus
from radscore.documents import Documents
from radscore.errors import ArgumentError, TokenError
from radscore.runs.planning import (
    WINDOW_BYTES,
    estimate_distinct,
    plan_corpus,
    window_keys,
)

RNG = np.random.default_rng(17)


def zipf(n, vocab, power=1.0):
    shares = 1 / np.arange(1, vocab + 1) ** power
    ids = np.searchsorted(np.cumsum(shares / shares.sum()), RNG.random(n))
    return np.minimum(ids, vocab - 1).astype(np.uint16)


def pieces_of(keys, n_places, share):
    step = len(keys) // n_places
    return np.concatenate([keys[i * step : i * step + step // share] for i in range(n_places)])


@pytest.mark.parametrize(
    ("vocab", "power", "width", "tolerance"),
    [
        (50_000, 1.0, 2, 0.15),
        (50_000, 1.0, 3, 0.10),
        (50_000, 1.2, 2, 0.15),
        (50_000, 1.2, 3, 0.10),
        (1000, 1.0, 2, 0.35),  # a small vocabulary fills up, which a sample hardly shows
        (300, 0.0, 2, 0.02),
    ],
)
def test_distinct_windows_of_zipf_text(vocab, power, width, tolerance):
    ids = zipf(2**20, vocab, power)
    keys = window_keys([Documents(ids, np.array([0, len(ids)]))], width, vocab)
    truth = len(np.unique(keys))
    for share in (4, 32):
        found = estimate_distinct(pieces_of(keys, 32, share), len(keys), float(vocab) ** width)
        assert found.low <= found.value <= found.high
        assert found.low < 1.02 * truth
        assert found.high > 0.98 * truth
        assert found.value == pytest.approx(truth, rel=tolerance)


def test_bounds_hold_where_documents_are_copied():
    ids = zipf(2**18, 50_000).reshape(-1, 512)
    ids = np.tile(ids, (5, 1))[RNG.permutation(5 * len(ids))].ravel()
    keys = window_keys([Documents(ids, np.array([0, len(ids)]))], 3, 50_000)
    truth = len(np.unique(keys))
    found = estimate_distinct(pieces_of(keys, 64, 8), len(keys))
    assert found.low <= 1.35 * truth  # copies come in runs, so this is no strict bound
    assert found.high >= truth


def test_degenerate_samples():
    none = np.empty(0, dtype=np.uint64)
    assert estimate_distinct(none, 10).value == 0
    same = np.zeros(5000, dtype=np.uint64)
    assert estimate_distinct(same, 10**9).value == 1
    own = np.arange(5000, dtype=np.uint64)
    assert estimate_distinct(own, 10**6).value == 10**6
    assert estimate_distinct(own, 10**6, support=20_000).value == 20_000
    assert estimate_distinct(own[:1], 10).value == 10


@pytest.mark.parametrize(("width", "vocab"), [(1, 7), (2, 7), (3, 50_257), (5, 50_257), (17, 9)])
def test_keys_are_equal_where_windows_are(width, vocab):
    docs = [RNG.integers(0, min(vocab, 4), size=n).tolist() for n in RNG.integers(0, 40, size=30)]
    windows = [tuple(doc[i : i + width]) for doc in docs for i in range(len(doc) - width + 1)]
    documents = [Documents.of(docs[:11]), Documents.of(docs[11:])]
    keys = window_keys(documents, width, vocab).tolist()
    assert len(keys) == len(windows)
    pairs = set(zip(windows, keys, strict=True))
    assert len(pairs) == len(set(windows)) == len(set(keys))


DOCS = [zipf(int(n), 5000) for n in RNG.integers(0, 400, size=4000)]
N_TOKENS = sum(map(len, DOCS))


def write(folder, name):
    ids = np.concatenate(DOCS)
    path = folder / f"x.{name}"
    if name == "jsonl":
        path.write_text("".join(json.dumps({"tokens": doc.tolist()}) + "\n" for doc in DOCS))
    elif name == "jsonl.zst":
        lines = "".join(json.dumps({"tokens": doc.tolist()}) + "\n" for doc in DOCS).encode()
        path.write_bytes(pa.Codec("zstd").compress(lines, asbytes=True))
    elif name == "parquet":
        lists = pa.array([doc.tolist() for doc in DOCS], pa.list_(pa.int32()))
        pq.write_table(pa.table({"tokens": lists}), path, row_group_size=100)
    elif name == "arrow":
        rows = pa.table({"tokens": pa.array([doc.tolist() for doc in DOCS], pa.list_(pa.int32()))})
        with pa.ipc.new_stream(str(path), rows.schema) as writer:
            writer.write_table(rows, max_chunksize=50)
    elif name == "ds":
        path.write_bytes(ids.tobytes())
        ends = np.cumsum([len(doc) for doc in DOCS]).astype("<u8")
        (folder / "x.ds.index").write_bytes(ends.tobytes())
    elif name == "bin":
        np.concatenate([np.append(doc, 5000) for doc in DOCS]).astype("<u2").tofile(path)
    elif name == "npy":
        np.save(path, ids[: len(ids) // 512 * 512].reshape(-1, 512))
    return path


@pytest.mark.parametrize("name", ["jsonl", "jsonl.zst", "parquet", "arrow", "ds", "bin", "npy"])
@pytest.mark.parametrize("sample_tokens", [40_000, 10**7])
def test_plans_of_all_formats_hold(tmp_path, name, sample_tokens):
    path = write(tmp_path, name)
    options = {"dtype": "uint16", "eod": 5000} if name == "bin" else {}
    corpus = open_corpus(path, **options)
    scheme = rs.Keyed(key=rs.Key.generate(), vocab_size=5001, gamma=0.25, context_width=1)
    truth = rs.score(corpus, scheme)
    plan = plan_corpus(corpus, scheme, sample_tokens=sample_tokens, threads=1)
    whole = sample_tokens > N_TOKENS + len(DOCS)
    assert plan.sample_tokens <= truth.n_tokens if whole else plan.sample_tokens < 150_000
    known = corpus.known()
    assert plan.exact_tokens == (whole or known.n_tokens is not None)
    assert plan.exact_documents == (whole or known.n_documents is not None)
    # A packed file is read by blocks, so that its size a token is known of many tokens only.
    rough = 0.6 if name == "jsonl.zst" else 0.1
    tolerance = 0 if plan.exact_tokens else rough
    assert plan.n_tokens == pytest.approx(truth.n_tokens, rel=tolerance)
    tolerance = 0 if plan.exact_documents else 0.05 + rough
    assert plan.n_documents == pytest.approx(truth.n_documents, rel=tolerance)
    assert plan.n_windows == pytest.approx(truth.n_windows, rel=0 if whole else rough)
    assert plan.distinct.value == pytest.approx(truth.n_scored, rel=0 if whole else 0.15 + rough)
    assert plan.seconds > 0
    assert plan.window_width == 2
    assert json.loads(json.dumps(plan.to_dict()))["n_tokens"] == plan.n_tokens


def test_a_path_is_no_corpus():
    with pytest.raises(ArgumentError, match=r"open_corpus\(paths\) gives, not 'x.jsonl'"):
        plan_corpus("x.jsonl")


def test_a_scheme_is_made_up_where_none_is_given(tmp_path):
    path = write(tmp_path, "ds")
    plan = plan_corpus(open_corpus(path), context_width=2)
    assert (plan.window_width, plan.vocab_size) == (3, int(max(map(max, filter(len, DOCS)))) + 1)
    assert "assuming a vocabulary of" in plan.notes[-1]
    assert plan_corpus(open_corpus(path), vocab_size=6000).vocab_size == 6000
    with pytest.raises(TokenError, match="outside the vocabulary"):
        plan_corpus(open_corpus(path), vocab_size=50)
    with pytest.raises(ArgumentError, match="sample_tokens must be from 1"):
        plan_corpus(open_corpus(path), sample_tokens=0)
    (tmp_path / "short.jsonl").write_text('{"tokens": [1]}\n')
    with pytest.raises(
        TokenError, match=r"short\.jsonl: no document of the sample is as long as a"
    ):
        plan_corpus(open_corpus(tmp_path / "short.jsonl"))


def test_a_large_file_without_documents_is_not_read_in_whole(tmp_path):
    path = tmp_path / "x.bin"
    with path.open("wb") as file:
        file.truncate(8 << 30)  # sparse
    for eod in (None, 7):
        corpus = open_corpus(path, dtype="uint16", eod=eod)
        plan = plan_corpus(corpus, vocab_size=100, sample_tokens=100_000, threads=1)
        assert (plan.n_tokens, plan.exact_tokens) == (4 << 30, True)
        assert 90_000 < plan.sample_tokens < 110_000
        assert plan.distinct.value == 1


def test_pieces_do_not_overlap(tmp_path):
    from radscore.corpus.sampling import sample_corpus

    # Every id is another one, so that what is read twice is seen.
    docs = np.split(np.arange(60_000, dtype=np.uint16), np.sort(RNG.integers(0, 60_000, 40)))
    lists = pa.array([doc.tolist() for doc in docs], pa.list_(pa.int32()))
    pq.write_table(pa.table({"tokens": lists}), tmp_path / "x.parquet", row_group_size=3)
    lines = "".join(json.dumps({"tokens": doc.tolist()}) + "\n" for doc in docs)
    (tmp_path / "x.jsonl").write_text(lines)
    np.concatenate(docs).tofile(tmp_path / "x.bin")
    for name, options in (
        ("x.parquet", {}),
        ("x.jsonl", {}),
        ("x.bin", {"dtype": "uint16"}),
        ("x.bin", {"dtype": "uint16", "eod": 30_000}),
    ):
        sample = sample_corpus(open_corpus(tmp_path / name, **options), 40_000)
        documents = [piece.documents for piece in sample.pieces]
        ids = np.concatenate([one.values[one.offsets[0] : one.offsets[-1]] for one in documents])
        assert len(ids) > 30_000
        assert len(np.unique(ids)) == len(ids)


CODE = """
import sys, tempfile, pathlib
import numpy as np, radscore as rs
width, n = int(sys.argv[1]), int(sys.argv[2])

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

scheme = rs.Keyed(key=rs.Key.generate(), vocab_size=50_257, gamma=0.25, context_width=width - 1)
scorer = rs.Scorer(scheme, threads=1)
rng = np.random.default_rng(0)
scorer.add([[1] * width])
before = peak()
for _ in range(0, n, 2**18):
    scorer.add([rng.integers(0, 50_257, size=2**18).astype(np.uint16)])
grown = peak() - before
distinct = scorer.result().n_scored
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "state")
    scorer.save(path)
    print(distinct, grown, path.stat().st_size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("kind", "width"), [(0, 2), (1, 5), (2, 9)])
def test_constants_are_those_of_the_core(kind, width):
    command = [sys.executable, "-c", CODE, str(width), str(2**20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    distinct, grown, state = map(int, done.stdout.split())
    assert state / distinct == pytest.approx(WINDOW_BYTES[kind], rel=0.05)
    # Beside the windows there are buffers, whose size does not grow with them.
    assert WINDOW_BYTES[kind] < grown / distinct < 1.1 * WINDOW_BYTES[kind] + 32


@pytest.mark.parametrize(
    "scheme",
    [
        rs.VLLMGumbel(vocab_size=50, key=1, context_width=3),
        rs.SynthIDDeepMind(vocab_size=50, keys=(1, 2), context_width=3),
        rs.Keyed(vocab_size=50, key=bytes(16), context_width=30),
    ],
    ids=lambda scheme: scheme.name,
)
def test_windows_of_a_plan_are_those_of_the_score(tmp_path, scheme):
    rows = [RNG.integers(0, 5, n).tolist() for n in RNG.integers(1, 60, 200)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input_ids": row}) for row in rows))
    plan = plan_corpus(open_corpus(path), scheme)
    result = rs.score(rows, scheme, dedup="window")
    assert (plan.n_windows, plan.distinct.value) == (result.n_windows, result.n_scored)
    assert plan.vocab_size == 50
