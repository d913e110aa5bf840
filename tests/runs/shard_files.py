"""Files of all formats, and what is in their shards."""

import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import radscore as rs
from radscore.corpus import SkipReport
from radscore.corpus.base import Problems
from radscore.runs.shards import Shard, ShardReading, cut_shards
from radscore.runs.stream import score_slices
from radscore.sizes import folders_of
from run_schemes import VOCAB
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

DATA = Path(__file__).parents[1] / "corpus" / "data"
SIZES = [1, 5, 40, 333, 2_000, 10**9]
EOD = 50_256
RNG = np.random.default_rng(17)
DOCS = [RNG.integers(0, 50, size=n).tolist() for n in RNG.integers(0, 25, size=150)]
PLAIN = {"vocab_size": VOCAB, "batch_tokens": 60}


def documents(corpus):
    """Documents, prompts and places of whole files, and what was skipped."""
    return documents_in(corpus, map(Shard, range(len(corpus.sources))))


def documents_of_shards(corpus, size):
    """The same, shard by shard; of shards that hold whole documents."""
    return documents_in(corpus, cut_shards(corpus, size))


def documents_in(corpus, shards):
    found, skipped = [], SkipReport()
    on_error = corpus.settings["on_error"]
    for shard in shards:
        assert not shard.tokens
        problems = Problems(on_error)
        for source in map(corpus.sources.__getitem__, shard.sources):
            for chunk in corpus.checked_chunks(source, shard.start, problems, end=shard.end):
                skipped = skipped.plus(chunk.skipped)
                prompts = chunk.documents if chunk.prompts is None else chunk.prompts
                rows = enumerate(zip(chunk.documents, prompts, strict=True))
                locate = chunk.locations.locate
                found += [(a.tolist(), b.tolist(), locate(i)) for i, (a, b) in rows]
        skipped = skipped.plus(problems.take())
    return found, skipped


def score_of_shards(corpus, scheme, size, **options):
    """The result of all shards, and what they left out."""
    skipped = SkipReport()

    def slices():
        nonlocal skipped
        for shard in cut_shards(corpus, size):
            reading = ShardReading(corpus, shard, 17)
            yield from reading
            skipped = skipped.plus(reading.skipped)

    rules = {"dedup": "unit", "start": None, "prompt_role": "exclude", **options}
    limits = {"memory": "64MiB", "folders": folders_of(None)}
    return score_slices(slices(), scheme, **limits, **rules), skipped


def score(corpus, scheme, **options):
    """The result of the corpus itself, without what a corpus adds to it."""
    return replace(rs.score(corpus, scheme, **options), notes=(), n_skipped=0)


def arrow(path, table, *, stream=False, **options):
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=40 if options and stream else 7)


def mds(folder, docs):
    """A file of int32 arrays, written by hand; the library's own are in the data folder."""
    columns = {
        "column_names": ["tokens"],
        "column_encodings": ["ndarray:int32"],
        "column_sizes": [None],
    }
    items = []
    for doc in docs:
        value = struct.pack("<BB", 4, len(doc)) + np.array(doc, "<i4").tobytes()
        items.append(struct.pack("<I", len(value)) + value)
    text = json.dumps(columns).encode()
    first = 8 + 4 * len(items) + len(text)
    places = np.cumsum([first, *map(len, items)]).astype("<u4")
    data = struct.pack("<I", len(items)) + places.tobytes() + text + b"".join(items)
    folder.mkdir()
    (folder / "shard.00000.mds").write_bytes(data)
    entry = {"format": "mds", "version": 2, "samples": len(docs), "compression": None}
    entry |= {"raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}}}
    index = {"version": 2, "shards": [{**entry, "zip_data": None}]}
    (folder / "index.json").write_text(json.dumps(index))


def write(folder, kind, docs):
    """The documents in one file; the options to open it with."""
    lines = "".join(json.dumps({"tokens": doc}) + "\n" for doc in docs).encode()
    table = pa.table({"tokens": pa.array(docs, pa.list_(pa.int32()))})
    path = folder / f"x.{kind}"
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=9)
    elif kind in ("file.arrow", "stream.arrow"):
        arrow(path, table, stream=kind.startswith("stream"))
    elif kind in ("packed-file.arrow", "packed-stream.arrow"):
        arrow(path, table, stream=kind.startswith("packed-stream"), compression="zstd")
    elif kind == "bin":
        np.concatenate([[*doc, 58] for doc in docs]).astype("<u2").tofile(path)
        return path, {"dtype": "uint16", "eod": 58}
    elif kind == "mds":
        mds(path, docs)
    return path, {}


CUT = ["jsonl", "parquet", "file.arrow", "stream.arrow", "packed-file.arrow", "mds", "bin"]
KINDS = [*CUT, "jsonl.gz", "packed-stream.arrow"]

SMALL = ["jsonl", "parquet", "file.arrow", "jsonl.gz", "packed-stream.arrow", "mds"]


def write_many(folder, docs):
    """Files of a few documents each, of several formats in turn, some empty; all in one folder."""
    for i in range(0, len(docs), 3):
        one = folder / f"{i:03}"
        one.mkdir(parents=True)
        write(one, SMALL[i // 3 % len(SMALL)], docs[i : i + 3])
        if i % 10 == 0:
            (one / "z.jsonl").touch()
    return folder


WORDS = ["a", "b", "é", "日本", "😀", "c"]


def tokenizer():
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(["?", *WORDS])}, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    return made
