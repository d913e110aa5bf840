"""A small corpus in several formats, and runs over it."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import radscore as rs

sys.path.insert(0, str(Path(__file__).parent))

from run_schemes import VOCAB


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Ids with and without ends of documents, Parquet, Arrow, JSON lines."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 50, size=60_000).astype(np.uint16)
    ids[rng.random(len(ids)) < 0.02] = 7
    ids[20_000:30_000] = ids[:10_000]
    ids.tofile(folder / "a.bin")
    rows = [row.tolist() for row in rng.integers(0, 50, size=(900, 20))]
    table = pa.table({"input_ids": pa.array(rows, pa.list_(pa.int32()))})
    pq.write_table(table, folder / "b.parquet", row_group_size=100)
    lines = [json.dumps({"input_ids": row[:13]}) for row in rows[:300]]
    (folder / "c.jsonl").write_text("\n".join(lines) + "\n")
    np.save(folder / "d.npy", rng.integers(0, 50, size=(300, 31)).astype(np.uint16))
    with pa.ipc.new_stream(str(folder / "e.arrow"), table.schema) as writer:
        writer.write_table(table.slice(0, 300), max_chunksize=50)
    return folder


@pytest.fixture
def opened(files):
    """Opens the corpus in small batches."""

    def opened(eod=7, **options):
        return rs.open_corpus(
            files, dtype="uint16", eod=eod, vocab_size=VOCAB, batch_tokens=3000, **options
        )

    return opened
