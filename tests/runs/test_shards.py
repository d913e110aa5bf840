"""However small the shards, they hold what whole files hold, and name the same places."""

import json
from itertools import groupby

import pyarrow as pa
import pytest
import radscore as rs
from radscore.corpus.formats.arrow import ArrowReader
from radscore.runs.shards import Shard, ShardReading, cut_shards
from run_schemes import keyed
from shard_files import (
    CUT,
    DATA,
    DOCS,
    EOD,
    KINDS,
    PLAIN,
    RNG,
    SIZES,
    arrow,
    documents,
    documents_of_shards,
    score,
    score_of_shards,
    tokenizer,
    write,
)

# Files that the original libraries wrote. Of a packed file, what is one shard however large.
WHOLE = ("mds/packed", "litdata/tokens_zstd", "litdata/tree_chunk")
ORIGINALS = [
    *[("megatron/u2.bin", {}), ("megatron/i4.bin", {})],
    *[("datatrove/u2.ds", {}), ("datatrove/u4.ds", {}), ("datatrove/bare.ds", {})],
    *[("dolma/u2.npy", {}), ("dolma/u4.npy", {})],
    *[("llm_c/gpt2.bin", {"eod": EOD}), ("llm_c/llama.bin", {"eod": EOD})],
    ("llm_c/gpt2.bin", {"eod": EOD, "vocab_size": EOD}),
    ("nanogpt/train.bin", {"format": "nanogpt"}),
    ("nanogpt/train.bin", {"format": "nanogpt", "vocab_size": EOD}),
    *[(f"mds/{name}", {}) for name in ("ndarray_u4", "ndarray_any", "packed_zstd", "packed_gz")],
    ("mds/bytes_i8", {"dtype": "int64"}),
    *[(f"litdata/{name}", {}) for name in ("tokens_i4", "tokens_u2", "tokens_zstd", "items_i8")],
    *[(f"litdata/{name}", {}) for name in ("tree", "tree_chunk", "tree_batch", "tree_sample")],
    *[(f"litdata/{name}", {}) for name in ("shaped", "lists")],
    *[(f"hugging_face/{name}", {}) for name in ("plain", "picked")],
]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(("name", "options"), ORIGINALS, ids=str)
def test_files_of_the_original_writers(name, options, on_error):
    options = {"vocab_size": EOD + 1, "batch_tokens": 50, "on_error": on_error, **options}
    corpus = rs.open_corpus(DATA / name, **options)
    scheme = rs.VLLMGumbel(key=5, vocab_size=options["vocab_size"], context_width=2)
    expected = score(corpus, scheme)
    for size in SIZES:
        shards = cut_shards(corpus, size)
        result, skipped = score_of_shards(corpus, scheme, size)
        assert result == expected
        assert not skipped
        if not any(shard.tokens for shard in shards):
            assert documents_of_shards(corpus, size)[0] == documents(corpus)[0]
        numbers = [number for shard in shards for number in shard.sources]
        assert [number for number, _ in groupby(numbers)] == list(range(len(corpus.sources)))
    n_shards, n_files = len(cut_shards(corpus, 1)), len(corpus.sources)
    assert len(cut_shards(corpus, 10**9)) == 1
    kinds = set(corpus.formats)
    if name.startswith(WHOLE):
        assert n_shards == n_files
    elif on_error == "raise":
        one_batch = name in ("hugging_face/plain", "litdata/lists")
        assert one_batch or n_shards > n_files
    elif kinds & {"megatron", "datatrove", "dolma", "arrow", "datasets"}:
        assert n_shards == n_files


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_cut_and_comes_out_whole(tmp_path, kind):
    path, options = write(tmp_path, kind, DOCS)
    corpus = rs.open_corpus(path, **PLAIN, **options)
    expected = score(corpus, keyed(), start=3)
    for size in SIZES:
        assert score_of_shards(corpus, keyed(), size, start=3)[0] == expected
    n_shards = [len(cut_shards(corpus, size)) for size in SIZES]
    assert n_shards == sorted(n_shards, reverse=True)
    if kind not in CUT:
        assert set(n_shards) == {1}
        return
    assert n_shards[0] > n_shards[4] > n_shards[-1] == 1
    assert cut_shards(corpus, 333) == cut_shards(rs.open_corpus(path, **PLAIN, **options), 333)
    for shard in cut_shards(corpus, 333):
        assert Shard(**json.loads(json.dumps(shard.to_dict()))) == shard


@pytest.mark.parametrize("kind", ["jsonl", "stream.arrow", "mds"])
def test_shards_are_about_as_large_as_they_should_be(tmp_path, kind):
    path, options = write(tmp_path, kind, DOCS)
    corpus = rs.open_corpus(path, **PLAIN, **options)
    size = 1_000
    totals = [
        sum(part.documents.n_tokens for part in ShardReading(corpus, shard, 5))
        for shard in cut_shards(corpus, size)
    ]
    share = sum(totals) * size / corpus.total_bytes
    assert len(totals) > 5
    assert max(totals) < 2 * share
    assert min(totals[:-1]) > share / 3


@pytest.mark.parametrize("kind", ["parquet", "packed-file.arrow"])
def test_sizes_are_those_of_packed_files(tmp_path, kind):
    docs = [[i % 50] * 200 for i in range(2_000)]
    path, _ = write(tmp_path, kind, docs)
    corpus = rs.open_corpus(path, **PLAIN)
    assert corpus.total_bytes < 8 * 200 * 2_000 / 10
    for n in (2, 4, 8):
        shards = cut_shards(corpus, -(-corpus.total_bytes // n))
        assert len(shards) == n
        totals = [
            sum(part.documents.n_tokens for part in ShardReading(corpus, shard, 5))
            for shard in shards
        ]
        assert max(totals) < 1.1 * sum(totals) / n


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_record_batches_are_measured_without_being_read(tmp_path, monkeypatch, stream, compression):
    """A dictionary, which each of them has, is no part of any."""
    texts = pa.array(["a " * 2_000, "b c"] * 70).dictionary_encode()
    table = pa.table({"text": texts, "tokens": pa.array(DOCS[:140], pa.list_(pa.int32()))})
    options = {} if compression is None else {"compression": compression}
    arrow(tmp_path / "x.arrow", table, stream=stream, **options)
    corpora = [
        rs.open_corpus(tmp_path / "x.arrow", field=field, tokenizer=tokenizer())
        for field in ("text", "tokens")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(ArrowReader, "_batches", None)
        shards = [cut_shards(corpus, 2_000) for corpus in corpora]
        many = cut_shards(corpora[0], 1)
    rows = 40 if stream and options else 7
    packed_stream = stream and compression is not None
    assert len(many) == (1 if packed_stream else 140 // rows)
    assert (len(shards[0]) == 1) == packed_stream
    assert shards[0] == shards[1]
    for corpus in corpora:
        assert documents_of_shards(corpus, 2_000) == documents(corpus)
    starts = [shard.start for shard in many[1:]]
    assert starts == [{"group": n + 1, "rows": rows * (n + 1)} for n in range(len(starts))]


@pytest.mark.parametrize("kind", ["object", "picked", "saved", "saved-picked", "stream"])
def test_data_sets(tmp_path, kind):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {"tokens": RNG.integers(0, 50, size=(2_500, 3)).tolist(), "p": [[1, 2]] * 2_500}
    made = datasets.Dataset.from_dict(rows)
    if "picked" in kind:
        made = made.shuffle(seed=1)
    if "saved" in kind:
        made.save_to_disk(tmp_path / "saved", num_shards=2)
        made = tmp_path / "saved"
    elif kind == "stream":
        made = made.to_iterable_dataset()
    corpus = rs.open_corpus(made, field="tokens", prompt_field="p", **PLAIN)
    expected = score(corpus, keyed())
    for size in (2_000, 9_000, 10**9):
        assert score_of_shards(corpus, keyed(), size)[0] == expected
        assert documents_of_shards(corpus, size) == documents(corpus)
    n_shards, n_files = len(cut_shards(corpus, 9_000)), len(corpus.sources)
    assert n_shards == 1 if kind == "stream" else n_shards > n_files
