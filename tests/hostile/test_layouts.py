"""Token files and their side files, cut, altered and mismatched: one clear line, or documents."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from radscore.corpus import inspect_corpus, open_corpus
from radscore.errors import CorpusError, RadscoreError

from tests.readers import ids_of, refused

pytestmark = pytest.mark.timeout(120)

DATA = Path(__file__).parents[1] / "corpus" / "data"
DOCS = json.loads((DATA / "documents.json").read_text())


@pytest.fixture
def copy(tmp_path):
    """A copy of some of the files of other tools."""

    def make(name):
        shutil.copytree(DATA / name, tmp_path / name, dirs_exist_ok=True)
        return tmp_path / name

    return make


def altered(path, at, new):
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)


# ---- Megatron ----------------------------------------------------------------------------------

INDEXES = [
    (0, b"XXIDIDX", r"u2\.idx: not a Megatron index; to read u2\.bin without it give format"),
    (0, b"TNTIDX\0\0", r"u2\.idx: not a Megatron index \(the TNTIDX format"),
    (9, b"\2", r"u2\.idx: index version 2; only version 1 is supported"),
    (17, b"\7", r"u2\.idx: dtype code 7 is not an integer type; known are 1 \(uint8\)"),
    (17, b"\0", r"u2\.idx: dtype code 0 is not an integer type"),
    (17, b"\4", r"u2\.idx: .*(byte \d+, but u2\.bin has|its last sequence ends)"),
    (18, b"\xff" * 8, r"u2\.idx: its header says 18446744073709551615 sequences .* is it cut"),
    (26, b"\0" * 8, r"u2\.idx: its header says 13 sequences and 0 document indices"),
    (34, struct.pack("<i", -7), r"u2\.idx: sequence 0 has -7 tokens from byte 0"),
    (34, struct.pack("<i", 2**31 - 1), r"u2\.idx: sequence 0 has 2147483647 tokens"),
    (34 + 4 * 13, struct.pack("<q", -2), r"u2\.idx: sequence 0 has 3 tokens from byte -2"),
    (34 + 4 * 13, struct.pack("<q", 2**63 - 1), r"u2\.idx: sequence 0 .* from byte 92233720"),
    (34 + 4 * 13, struct.pack("<q", 1), r"u2\.idx: sequence 0 has 3 tokens from byte 1,"),
    (34 + 12 * 13, struct.pack("<q", 1), r"u2\.idx: its documents run from sequence 1 to 13"),
    (34 + 12 * 13 + 8, struct.pack("<q", 14), r"u2\.idx: document 0 runs from sequence 0 to 14"),
    (34 + 12 * 13 + 8, struct.pack("<q", -1), r"u2\.idx: document 0 runs from sequence 0 to -1"),
    (34 + 12 * 13 + 80, struct.pack("<q", 12), r"u2\.idx: its documents run from .* 0 to 12"),
]


@pytest.mark.parametrize(("at", "new", "match"), INDEXES, ids=[case[2][:40] for case in INDEXES])
def test_an_altered_index_of_megatron(copy, at, new, match):
    folder = copy("megatron")
    assert struct.unpack_from("<Q", (folder / "u2.idx").read_bytes(), 18)[0] == 13
    altered(folder / "u2.idx", at, new)
    refused(folder / "u2.bin", match)
    skipped = open_corpus([folder / "i4.bin", folder / "u2.bin"], on_error="skip")
    assert ids_of(skipped)[: len(DOCS)] == DOCS
    assert skipped.skipped.files == 1


def test_pairs_of_megatron_that_do_not_belong_together(copy):
    folder = copy("megatron")
    (folder / "i4.idx").write_bytes((folder / "u2.idx").read_bytes())
    refused(folder / "i4.bin", r"i4\.idx: its last sequence ends at byte 804, .* of another file\?")
    (folder / "u2.bin").write_bytes((folder / "u2.bin").read_bytes()[:-2])
    refused(folder / "u2.bin", r"u2\.idx: its last sequence ends at byte 804, but u2\.bin has 802")
    for size in (0, 5, 20, 33, 34, 60, 200, len((DATA / "megatron/u2.idx").read_bytes()) - 1):
        (folder / "u2.idx").write_bytes((DATA / "megatron/u2.idx").read_bytes()[:size])
        refused(folder / "u2.bin", r"u2\.idx: ")
    (folder / "u2.idx").unlink()
    refused(folder / "u2.bin", r"u2\.bin: give the dtype")
    refused(folder / "u2.bin", r"format 'megatron' needs u2\.idx beside it", format="megatron")
    (folder / "i4.bin").unlink()
    refused(folder / "i4.idx", r"i4\.bin: No such file")


def test_a_file_that_could_be_of_two_tools(copy, tmp_path):
    folder = copy("megatron")
    header = np.array([20240520, 1, 0], "<i4").tobytes().ljust(1024, b"\0")
    (folder / "u2.bin").write_bytes(header)
    refused(folder / "u2.bin", r"u2\.bin: could be megatron or llmc; say which with format=")
    refused(folder / "u2.bin", "holds no documents", format="llmc")


# ---- datatrove and dolma -----------------------------------------------------------------------


def test_side_files_of_datatrove_that_do_not_fit(copy):
    folder = copy("datatrove")
    path, index, metadata = (folder / f"u2.ds{end}" for end in ("", ".index", ".metadata"))
    good, lines = index.read_bytes(), metadata.read_text()

    def broken(file, content, match, **options):
        before = file.read_bytes()
        file.write_bytes(content)
        refused(path, match, **options)
        file.write_bytes(before)

    broken(index, good[:-1], r"u2\.ds\.index: 79 bytes are not a whole number of 8-byte ends")
    broken(index, good[:-8], r"u2\.ds\.index: its last document ends at token 400, but .* has 402")
    broken(index, b"", r"u2\.ds\.index: its last document ends at token 0, but u2\.ds has 402")
    jumps = good[:8] + struct.pack("<Q", 3) + good[16:]
    broken(index, jumps, r"u2\.ds\.index: document 1 runs from token 7 to 3")
    broken(index, struct.pack("<Q", 403) + good[8:], r"document 0 runs from token 0 to 403")
    broken(index, b"\xff" * 8 + good[8:], r"u2\.ds\.index: the end of a document is beyond 2\^62")
    for text in ("", "gpt2", "gpt2|2", "gpt2|x\n402\n", "gpt2|2\nmany\n", "\0\xff"):
        broken(metadata, text.encode(), r"u2\.ds\.metadata: not the metadata of a \.ds file")
    broken(metadata, b"gpt2|3\n402\n", r"says 402 ids of 3 bytes; ids have 2 or 4")
    broken(metadata, lines.replace("402", "401").encode(), r"metadata: says 401 ids of 2 bytes")
    broken(metadata, lines.replace("|2", "|4").encode(), r"metadata: says 402 ids of 4 bytes, but")
    broken(path, path.read_bytes()[:-2], r"u2\.ds\.metadata: says 402 ids of 2 bytes, but u2\.ds")
    refused(path, r"dtype= says uint32, but u2\.ds\.metadata says 2 bytes", dtype="uint32")
    metadata.unlink()
    broken(path, path.read_bytes()[:-2], r"u2\.ds\.index: its last document ends at token 402, whi")
    broken(index, struct.pack("<Q", 100), r"ends at token 100, which does not fit the 804 bytes")
    refused(path, r"dtype= says uint32, but u2\.ds\.index says 2 bytes", dtype="uint32")
    index.unlink()
    refused(path, r"neither u2\.ds\.metadata nor u2\.ds\.index tells the dtype; give the")
    assert "give its dtype=" in inspect_corpus(path).warnings[0]


def table(rows):
    return gzip.compress("".join(f"{row}\n" for row in rows).encode())


def test_tables_of_dolma_that_do_not_fit(copy):
    folder = copy("dolma")
    path, side = folder / "u2.npy", folder / "u2.csv.gz"
    rows = gzip.decompress(side.read_bytes()).decode()
    cases = [
        (side.read_bytes()[:-9], r"u2\.csv\.gz: .*[Tt]runcated"),
        (b"", r"u2\.csv\.gz: "),
        (b"start,end", r"u2\.csv\.gz:1: not a row"),
        (table(["0,7,a,b,1", "7,x,a,b,2"]), r"u2\.csv\.gz:2: not a row start,end,id,src,loc"),
        (table(["0"]), r"u2\.csv\.gz:1: not a row"),
        (table(["0,7,a,b,1", "8,402,a,b,2"]), r"u2\.csv\.gz:2: the document runs from token 8 to"),
        (table(["0,7,a,b,1", "7,5,a,b,2"]), r"u2\.csv\.gz:2: the document runs from token 7 to 5"),
        (table([f"0,{2**70},a,b,1"]), r"u2\.csv\.gz:1: the document runs from token 0 to"),
        (table(["0,7,a,b,1"]), r"u2\.csv\.gz: its last document ends at token 7, which does not"),
        (table(["0,134,a,b,1"]), r"ends at token 134, which does not fit the 804 bytes of u2\.npy"),
        (gzip.compress(b""), r"u2\.csv\.gz: its last document ends at token 0"),
        (
            gzip.compress(b'0,402,"' + b"x" * 200_000),
            r"u2\.csv\.gz:1: (field larger|unexpected end)",
        ),
    ]
    for content, match in cases:
        side.write_bytes(content)
        refused(path, match)
    side.write_bytes(gzip.compress(rows.encode()))
    assert ids_of(open_corpus(path)) == DOCS
    refused(path, r"dtype= says uint32, but u2\.csv\.gz says 2 bytes per id", dtype="uint32")
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, r"u2\.csv\.gz: .* does not fit the 801 bytes of u2\.npy")
    side.unlink()
    refused(path, r"u2\.npy: there is no u2\.csv\.gz; give the dtype", format="dolma")


def test_a_true_numpy_file_beside_a_table_is_one(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(5, dtype=np.uint16))
    (tmp_path / "x.csv.gz").write_bytes(table(["0,2,a,b,1", "2,5,a,b,1"]))
    assert ids_of(open_corpus(tmp_path / "x.npy")) == [[0, 1, 2, 3, 4]]


# ---- llm.c -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((20240522, 1, 5), r"x\.bin: holds evaluation questions of llm\.c"),
        ((20240520, 2, 5), r"x\.bin: magic 20240520 with version 2 is not llm\.c's"),
        ((1, 1, 5), r"x\.bin: magic 1 with version 1"),
        (
            (20240520, 1, 6),
            r"header says 6 ids of uint16, which is 1036 bytes, but the file has 1034",
        ),
        (
            (20240801, 7, 5),
            r"header says 5 ids of uint32, which is 1044 bytes, but the file has 1034",
        ),
        ((20240520, 1, -5), r"header says -5 ids of uint16"),
    ],
)
def test_headers_of_llm_c(tmp_path, words, match):
    header = np.array(words, "<i4").tobytes().ljust(1024, b"\0")
    (tmp_path / "x.bin").write_bytes(header + bytes(10))
    refused(tmp_path / "x.bin", match, format="llmc")
    (tmp_path / "x.bin").write_bytes(header[:100])
    refused(tmp_path / "x.bin", r"x\.bin: 100 bytes, less than the header", format="llmc")
    (tmp_path / "x.bin").write_bytes(np.array([20240520, 1, 0], "<i4").tobytes().ljust(1024, b"\0"))
    match = r"has the 1024-byte header of llm\.c; read it with format='llmc'"
    refused(tmp_path / "x.bin", match, format="bin", dtype="uint16")


# ---- MDS and litdata ---------------------------------------------------------------------------


def changed(folder, change):
    path = folder / "index.json"
    index = json.loads((DATA / folder.parent.name / folder.name / "index.json").read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_indexes_of_mds(copy):
    folder = copy("mds/ndarray_u4")
    cases = [
        (
            lambda i: i["shards"][0].update(samples=3),
            r"shard\.00000\.mds: has 2 samples, but index\.",
        ),
        (
            lambda i: i["shards"][1]["raw_data"].update(bytes=9),
            r"00001\.mds: has \d+ bytes, but ind",
        ),
        (lambda i: i["shards"][0]["raw_data"].update(bytes="x"), r"index\.json: says 'x' bytes of"),
        (lambda i: i["shards"].append(3), r"index\.json: damaged index: a shard is 3"),
        (lambda i: i["shards"][0].update(format="csv"), r"index\.json: a shard of format 'csv'"),
        (lambda i: i["shards"][0].update(version=1), r"of format 'mds' and version 1; only mds"),
        (
            lambda i: i["shards"][0]["raw_data"].update(basename="../x"),
            r"names a file '\.\./x', wh",
        ),
        (
            lambda i: i["shards"][0]["raw_data"].update(basename="/etc/passwd"),
            r"names a file '/etc",
        ),
        (lambda i: i["shards"][0]["raw_data"].update(basename=None), r"names a file None"),
        (
            lambda i: i["shards"][0]["raw_data"].update(basename="y.mds"),
            r"lists y\.mds, which does not",
        ),
    ]
    for change, match in cases:
        changed(folder, change)
        refused(folder, match)
    (folder / "index.json").write_text('{"shards": [')
    refused(folder, r"index\.json: damaged index, not JSON: ")
    (folder / "index.json").write_text("[" * 100_000)
    refused(folder, r"index\.json: damaged index, not JSON: ")
    (folder / "index.json").write_text("{}")  # of something else: the files speak for themselves
    assert ids_of(open_corpus(folder)) == [doc for doc in DOCS if doc]


def test_shards_of_mds_that_are_damaged(copy):
    folder = copy("mds/ndarray_u4")
    path = folder / "shard.00000.mds"
    (folder / "index.json").unlink()
    good = path.read_bytes()
    count = int.from_bytes(good[:4], "little")
    first = int.from_bytes(good[4:8], "little")
    cases = [
        (b"", r"shard\.00000\.mds: says 0 samples, which 0 bytes cannot hold"),
        (good[:6], r"shard\.00000\.mds: says 2 samples, which 6 bytes"),
        (good[:30], r"shard\.00000\.mds: not an MDS shard"),
        (good[:-1], r"shard\.00000\.mds: its 2 items run from byte \d+ to \d+ rather than from"),
        (b"\xff" * 4 + good[4:], r"says 4294967295 samples, which"),
        (
            good[:4] + b"\xff" * 4 + good[8:],
            r"not an MDS shard: its first sample begins at byte 42949",
        ),
        (good[:8] + b"\0" * 4 + good[12:], r"its 2 items run from byte"),
        (good[:16] + b"x" + good[17:], r"its configuration is not JSON of columns"),
        (good.replace(b'"tokens"', b"12345678"), r"its configuration has a column 12345678"),
    ]
    for content, match in cases:
        path.write_bytes(content)
        refused(path, match)
    # Inside of a sample: named with its row, and counted where that is asked for.
    for at, new, reason in [
        (first, b"\xff\xff\0\0", r"row 0: its fields add up to \d+ bytes, but the item has"),
        (first + 12, bytes([2 << 2]), r"row 0: field 'tokens': an array of shape"),
        (first + 13, bytes([99]), r"row 0: field 'tokens': an array of shape \[99\] in 28 bytes"),
    ]:
        path.write_bytes(good)
        altered(path, at, new)
        refused(path, rf"shard\.00000\.mds:{reason}")
        corpus = open_corpus(path, on_error="skip")
        assert len(ids_of(corpus)) == count - 1
        assert corpus.skipped.count == 1


def test_packed_shards_that_are_damaged(copy):
    for codec in ("zstd", "gz", "br", "snappy", "bz2"):
        folder = copy(f"mds/packed_{codec}")
        path = folder / f"shard.00002.mds.{codec}"
        good = path.read_bytes()
        for content in (b"", good[: len(good) // 2], good[:20] + b"\x55" * 9 + good[29:]):
            path.write_bytes(content)
            refused(folder, rf"shard\.00002\.mds\.{codec}: ")
        path.write_bytes(good)
        changed(folder, lambda i: i["shards"][0]["raw_data"].update(bytes=50))
        refused(folder, rf"shard\.00000\.mds\.{codec}: ")


def test_indexes_and_chunks_of_litdata(copy):
    folder = copy("litdata/tree")
    cases = [
        (lambda i: i["chunks"][0].update(chunk_size=9), r"chunk-0-0\.bin: has 3 items, but index"),
        (
            lambda i: i["chunks"][0].update(chunk_bytes=9),
            r"chunk-0-0\.bin: has \d+ bytes, but index",
        ),
        (lambda i: i["chunks"][0].update(chunk_bytes=None), r"index\.json: says None bytes of"),
        (lambda i: i["chunks"][0].update(filename="../x.bin"), r"names a file '\.\./x\.bin'"),
        (lambda i: i["chunks"][0].update(filename="x.bin"), r"lists x\.bin, which does not exist"),
        (lambda i: i["chunks"].append(None), r"index\.json: damaged index: a chunk is None"),
        (lambda i: i["config"].update(encryption={"a": 1}), r"the chunks are encrypted"),
        (lambda i: i["config"].update(data_spec="x"), r"its data_spec does not say what an item"),
        (lambda i: i["config"].update(data_spec=None), r"its data_spec does not say what an item"),
        (
            lambda i: i["config"].update(data_format=["int"]),
            r"data_format does not fit its data_sp",
        ),
        (
            lambda i: i["config"].update(data_format=["int", "pickle"]),
            r"field 'input_ids' is stored as 'pickle', which is neither text nor token ids",
        ),
        (
            lambda i: i["config"].update(data_format=["int", "no_header_tensor:1"]),
            r"is stored as 'no_header_tensor:1'",
        ),
    ]
    for change, match in cases:
        changed(folder, change)
        refused(folder, match)
    changed(folder, lambda i: None)
    path = folder / "chunk-0-1.bin"
    good = path.read_bytes()
    for content, match in [
        (good[:-1], r"chunk-0-1\.bin: has \d+ bytes, but index\.json says"),
        (b"\xff" * 4 + good[4:], r"chunk-0-1\.bin: says 4294967295 items, which"),
        (good[:8] + b"\0\0\0\0" + good[12:], r"chunk-0-1\.bin: its 3 items run from"),
        (good[:20] + b"\xff\0\0\0" + good[24:], r"chunk-0-1\.bin:row 0: its fields add up to"),
    ]:
        path.write_bytes(content)
        refused(folder, match)
    (folder / "index.json").unlink()
    refused(folder / "chunk-0-0.bin", r"needs the index\.json that lists this", format="litdata")
    frames = copy("litdata/tree_batch") / "chunk-0-0.bin"
    for at, new, match in [
        (8, b"\2", r"chunk-0-0\.bin: frames of version 2"),
        (12, b"\xff\xff\xff\xff", r"chunk-0-0\.bin: frames of version 1, 4294967295 items"),
        (24, b"\1", r"chunk-0-0\.bin: its table of frames does not fit its 5 items"),
        (48, b"\1", r"chunk-0-0\.bin: its table of frames is damaged at frame 0"),
        (56, b"\xff\xff\xff", r"chunk-0-0\.bin: its table of frames is damaged at frame 0"),
    ]:
        shutil.copy(DATA / "litdata/tree_batch/chunk-0-0.bin", frames)
        altered(frames, at, new)
        refused(frames.parent, match)


def test_a_bomb_in_a_shard_does_not_fill_the_memory(copy, monkeypatch):
    import radscore.corpus.readers.items as module

    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    folder = copy("mds/packed_zstd")
    (folder / "index.json").unlink()
    bomb = pa.Codec("zstd").compress(bytes(64 << 20), asbytes=True)
    (folder / "shard.00000.mds.zstd").write_bytes(bomb)
    refused(folder / "shard.00000.mds.zstd", r"decompresses to more than 1048576 bytes")


# ---- Hugging Face ------------------------------------------------------------------------------


def test_lists_of_saved_folders(copy):
    folder = copy("hugging_face/picked")
    state = json.loads((folder / "state.json").read_text())
    for change, match in [
        (
            {"_data_files": [{"filename": "x.arrow"}]},
            r"state\.json: lists x\.arrow, which does not",
        ),
        ({"_data_files": [{"filename": "../x"}]}, r"state\.json: names a file '\.\./x'"),
        ({"_data_files": ["x.arrow"]}, r"state\.json: names a file None"),
        (
            {"_indices_data_files": [{"filename": "i"}]},
            r"state\.json: lists i, which does not exist",
        ),
    ]:
        (folder / "state.json").write_text(json.dumps({**state, **change}))
        refused(folder, match)
    (folder / "state.json").write_text("{")
    refused(folder, r"state\.json: damaged index, not JSON")
    (folder / "state.json").write_text(json.dumps(state))
    for values, match in [
        (pa.array([0, 10], pa.uint64()), r"indices\.arrow: picks row 10 of 10"),
        (pa.array([0, -1]), r"indices\.arrow: picks row -1 of 10"),
        (pa.array([1, None]), r"indices\.arrow: does not hold a list of rows"),
        (pa.array(["a"]), r"indices\.arrow: does not hold a list of rows"),
    ]:
        with pa.ipc.new_stream(str(folder / "indices.arrow"), pa.schema({"i": values.type})) as out:
            out.write_table(pa.table({"i": values}))
        refused(folder, match)
    (folder / "indices.arrow").write_bytes(b"junk")
    refused(folder, r"(indices\.arrow|state\.json): ")


# ---- everything --------------------------------------------------------------------------------

FOLDERS = [
    ("megatron", {}),
    ("datatrove", {}),
    ("dolma", {}),
    ("llm_c", {"eod": 50_256}),
    ("nanogpt", {"format": "nanogpt"}),
    ("mds/ndarray_u4", {}),
    ("mds/ndarray_any", {}),
    ("mds/bytes_i8", {"dtype": "int64"}),
    ("mds/packed_zstd", {}),
    ("mds/packed_snappy", {}),
    ("litdata/tokens_u2", {}),
    ("litdata/tokens_zstd", {}),
    ("litdata/tree", {}),
    ("litdata/tree_batch", {}),
    ("litdata/tree_sample", {}),
    ("litdata/lists", {}),
    ("litdata/shaped", {}),
    ("hugging_face/plain", {}),
    ("hugging_face/picked", {}),
]


@pytest.mark.parametrize(("name", "options"), FOLDERS, ids=[name for name, _ in FOLDERS])
def test_whatever_is_altered_ends_in_one_line_or_in_documents(copy, name, options):
    folder = copy(name)
    rng = np.random.default_rng(len(name))
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        good = path.read_bytes()
        for trial in range(14):
            data = bytearray(good)
            if trial % 3 == 0:
                data = data[: rng.integers(0, len(data) + 1)]
            elif trial % 3 == 1:
                for at in rng.integers(0, min(len(data), 200), size=3):
                    data[at] = rng.integers(0, 256)
            else:
                at = int(rng.integers(0, max(len(data) - 8, 1)))
                data[at : at + 4] = rng.integers(0, 256, size=4, dtype=np.uint8).tobytes()
            path.write_bytes(data)
            for on_error in ("raise", "skip"):
                try:
                    docs = ids_of(
                        open_corpus(folder, on_error=on_error, vocab_size=50_257, **options)
                    )
                except RadscoreError as error:
                    text = str(error)
                    assert "\n" not in text
                    assert len(text) < 800
                    assert str(folder) in text
                else:
                    assert all(0 <= id_ < 50_257 for doc in docs for id_ in doc)
        path.write_bytes(good)


def test_errors_of_open_are_errors_of_the_corpus(copy):
    folder = copy("megatron")
    altered(folder / "u2.idx", 9, b"\2")
    with pytest.raises(CorpusError):
        open_corpus(folder / "u2.bin")  # before anything is read
    with pytest.raises(CorpusError):
        open_corpus(folder).known()
    assert open_corpus(folder, on_error="skip").known().n_tokens is None
