"""Large files are read in little memory: what was read is given back."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)

SIZE = 128 << 20
TABLE = 192 << 20

CODE = """
import sys
import pyarrow.parquet, radscore.corpus

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024

before = peak()
corpus = radscore.corpus.open_corpus(sys.argv[1], batch_tokens=2**20, **eval(sys.argv[2]))
n_tokens = 0
for batch in corpus:
    n_tokens += batch.documents.n_tokens
    batch.documents.id_range  # looks at every id
print(n_tokens, peak() - before)
"""


def sparse(path, size=SIZE, head=b""):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)


def megatron(folder):
    sparse(folder / "x.bin")
    n, length = SIZE // 2 // 1024, 1024
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, n, n + 1)
    lengths, places = np.full(n, length, "<i4"), np.arange(n, dtype="<i8") * 2 * length
    starts = np.arange(n + 1, dtype="<i8")
    arrays = (array.tobytes() for array in (lengths, places, starts))
    (folder / "x.idx").write_bytes(head + b"".join(arrays))
    return folder / "x.bin", SIZE // 2


def datatrove(folder):
    sparse(folder / "x.ds")
    (folder / "x.ds.metadata").write_text(f"a|4\n{SIZE // 4}\n1 T")
    ends = np.arange(1, 257, dtype="<u8") * (SIZE // 4 // 256)
    (folder / "x.ds.index").write_bytes(ends.tobytes())
    return folder / "x.ds", SIZE // 4


def rows(folder):
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({SIZE // 2 // 4096}, 4096), }}"
    head = text.encode().ljust(117) + b"\n"
    sparse(folder / "x.npy", head=b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head)
    return folder / "x.npy", SIZE // 2


def table():
    n = TABLE // 4
    values = pa.array(np.arange(n, dtype=np.int32) % 50_000)
    lists = pa.ListArray.from_arrays(np.arange(0, n + 1, 1024, dtype=np.int32), values)
    return pa.table({"tokens": lists}), n


def parquet(folder):
    rows_, n = table()
    options = {"use_dictionary": False, "compression": "none"}
    pq.write_table(rows_, folder / "x.parquet", row_group_size=10**9, **options)
    return folder / "x.parquet", n


def arrow(folder):
    rows_, n = table()
    with pa.ipc.new_stream(str(folder / "x.arrow"), rows_.schema) as writer:
        writer.write_table(rows_, max_chunksize=1000)
    return folder / "x.arrow", n


def mds(folder):
    import json

    n = SIZE // 8192
    columns = {
        "column_names": ["tokens"],
        "column_encodings": ["ndarray:uint32:2048"],
        "column_sizes": [8192],
    }
    text = json.dumps(columns).encode()
    places = 8 + 4 * n + len(text) + 8192 * np.arange(n + 1, dtype="<u4")
    head = struct.pack("<I", n) + places.astype("<u4").tobytes() + text
    sparse(folder / "x.mds", size=n * 8192, head=head)
    return folder / "x.mds", SIZE // 4


def one_list(folder):
    n = 8_000_000
    numbers = ", ".join(map(str, range(1000))).encode()
    (folder / "x.jsonl").write_bytes(
        b'{"tokens": [' + b", ".join([numbers] * (n // 1000)) + b'], "m": "\xc3\xa9"}\n'
    )
    return folder / "x.jsonl", n


@pytest.mark.parametrize(
    ("make", "room"),
    [(megatron, 40), (datatrove, 40), (rows, 40), (mds, 60), (parquet, 160), (arrow, 160)],
)
def test_a_file_larger_than_the_memory_it_is_read_in(tmp_path, make, room):
    path, n_tokens = make(tmp_path)
    assert path.stat().st_size >= max(room + 32, 2 * room - 128) << 20
    command = [sys.executable, "-c", CODE, str(path), "{}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found, megabytes = map(int, done.stdout.split())
    assert found == n_tokens
    assert megabytes < room
    path.unlink()


def test_one_line_with_millions_of_ids(tmp_path):
    """As Python lists of ints they would take 40 bytes each."""
    path, n_tokens = one_list(tmp_path)
    command = [sys.executable, "-c", CODE, str(path), "{}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found, megabytes = map(int, done.stdout.split())
    assert found == n_tokens
    assert megabytes < 3 * path.stat().st_size >> 20
    path.unlink()


def test_one_line_with_millions_of_words(tmp_path):
    """tokenizers needs over 100 bytes per token of a text."""
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import make_tokenizer

    sys.path.pop(0)
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    n = 2_000_000
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "' + "the cat sat on " * (n // 4) + '"}\n')
    options = str({"tokenizer": str(tmp_path / "tokenizer.json")})
    command = [sys.executable, "-c", CODE, str(path), options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found, megabytes = map(int, done.stdout.split())
    assert found == n
    assert megabytes < 150
