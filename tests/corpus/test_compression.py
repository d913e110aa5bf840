"""Compressed files are read as the codecs' own tools read them, or refused by name and byte."""

import bz2
import gzip
import json
import lzma
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.compression import Unpacked, codec_of_head, codec_of_name, unpack
from radscore.errors import CorpusError

from tests.readers import ids_of

SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
PACK = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "lz4": lambda data: pa.Codec("lz4").compress(data, asbytes=True),
    "brotli": lambda data: pa.Codec("brotli").compress(data, asbytes=True),
}
SUFFIX = {
    "gzip": ".gz",
    "bz2": ".bz2",
    "xz": ".xz",
    "zstd": ".zst",
    "lz4": ".lz4",
    "brotli": ".br",
}
CODEC = pytest.mark.parametrize("codec", PACK)
PADDED = ["gzip", "bz2", "xz", "zstd"]
DOCS = [[i, i + 1, i % 7] for i in range(4000)]
LINES = "".join(json.dumps({"input_ids": doc}) + "\n" for doc in DOCS).encode()


def read(path, codec, size=1000):
    with Unpacked(path, codec) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


@CODEC
def test_lines_of_every_codec_and_by_its_first_bytes(tmp_path, codec):
    path = tmp_path / f"x.jsonl{SUFFIX[codec]}"
    path.write_bytes(PACK[codec](LINES))
    corpus = open_corpus(path)
    assert ids_of(corpus) == DOCS
    assert not any("in spite of its name" in note for note in corpus.notes)
    if codec == "brotli":
        return  # it has no magic
    for name in ("x.jsonl", "y.jsonl.zst", "y.jsonl.gz"):
        other = tmp_path / name
        if codec_of_name(name)[1] != codec:
            other.write_bytes(path.read_bytes())
            corpus = open_corpus(other)
            assert ids_of(corpus) == DOCS
            assert f"{other}: holds {codec} data, in spite of its name" in corpus.notes
            assert any("in spite of" in line for line in inspect_corpus(other).warnings)


def test_plain_lines_with_the_name_of_a_codec(tmp_path):
    paths = [tmp_path / "x.jsonl.gz", tmp_path / "y.jsonl.br"]
    for path in paths:
        path.write_bytes(LINES)
    corpus = open_corpus(paths)
    assert ids_of(corpus) == 2 * DOCS
    what = "holds plain data, in spite of its name (and 1 more file)"
    assert f"{paths[0]}: {what}" in corpus.notes
    (tmp_path / "z.jsonl.gz").write_bytes(b"")
    notes = open_corpus([*paths, tmp_path / "z.jsonl.gz"]).notes
    assert f"{tmp_path / 'z.jsonl.gz'}: holds nothing, in spite of its name" in notes


@settings(max_examples=60, deadline=None)
@given(
    codec=st.sampled_from(PADDED),
    pieces=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    zeros=st.integers(0, 200_000),
    size=st.sampled_from([1, 7, 1000, 1 << 20]),
)
def test_members_and_padding(tmp_path_factory, codec, pieces, zeros, size):
    # gzip and xz pad tapes with zeros; pigz, pzstd and bgzip write many members.
    path = tmp_path_factory.mktemp("x") / "x"
    path.write_bytes(b"".join(map(PACK[codec], pieces)) + bytes(4 * zeros))
    assert read(path, codec, size) == b"".join(pieces)


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=2000), where=st.sets(st.integers(0, 2)))
def test_skippable_frames_stand_anywhere(tmp_path_factory, data, where):
    # zstd#3255: pzstd begins each frame with a skippable one; those of lz4 look alike.
    for codec in ("zstd", "lz4"):
        path = tmp_path_factory.mktemp("x") / f"x{SUFFIX[codec]}"
        frames = [PACK[codec](data), PACK[codec](data)]
        parts = [*(SKIPPABLE if i in where else b"" for i in range(3))]
        path.write_bytes(parts[0] + frames[0] + parts[1] + frames[1] + parts[2])
        assert read(path, codec) == 2 * data
        if 0 in where:
            assert codec_of_head(path.read_bytes()[:16], codec) == codec


@pytest.mark.parametrize("codec", PADDED)
def test_what_follows_the_last_member_is_damage(tmp_path, codec):
    path = tmp_path / f"x.jsonl{SUFFIX[codec]}"
    data = PACK[codec](LINES)
    path.write_bytes(data + b"not a member of it")
    message = rf"what follows the last {codec} (member|frame), at byte {len(data)}, is neither"
    with pytest.raises(CorpusError, match=message):
        ids_of(open_corpus(path))
    corpus = open_corpus(path, on_error="skip")
    assert ids_of(corpus) == DOCS[: corpus.n_documents]
    assert corpus.n_documents > 3000
    assert corpus.skipped.files == 1


@CODEC
@pytest.mark.parametrize("share", [0.3, 0.9, 1])
def test_a_truncated_file_names_its_last_byte(tmp_path, codec, share):
    path = tmp_path / f"x.jsonl{SUFFIX[codec]}"
    data = PACK[codec](np.random.default_rng(0).bytes(300_000))
    cut = min(int(len(data) * share), len(data) - 2)
    path.write_bytes(data[:cut])
    with pytest.raises(CorpusError, match=rf"x\.jsonl.*truncated at byte {cut}"):
        read(path, codec)


@CODEC
def test_altered_bytes_end_in_one_line(tmp_path, codec):
    rng = np.random.default_rng(1)
    good = PACK[codec](LINES[:30_000])
    path = tmp_path / "x"
    for _ in range(300):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(data[: len(data) - rng.integers(0, 3)])
        message = ""
        try:
            assert len(read(path, codec)) < 1 << 27
        except CorpusError as error:
            message = str(error)
        assert message == "" or (str(path) in message and "\n" not in message)


def frame(descriptor, rest, block=b"\x01\0\0"):
    """A frame of zstd: its header, and an empty last block."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + rest + block


def test_what_zstd_cannot_take_says_the_way_out(tmp_path):
    # zstd#2023: --long=31 needs a window of 2 GiB, and the same option to decompress.
    path = tmp_path / "x.jsonl.zst"
    for header, match in (
        (frame(0, bytes([(31 - 10) << 3])), r"a window of 2048 MiB.*zstd -d --long=31"),
        (frame(0, bytes([(27 - 10) << 3 | 1])), r"a window of 144 MiB.*zstd -d --long=28"),
        (frame(0xA0, (2**28).to_bytes(4, "little")), r"a window of 256 MiB.*--long=28"),
        (frame(0x21, b"\x07\0"), r"compressed with a dictionary.*zstd -d -D DICTIONARY"),
    ):
        path.write_bytes(header)
        with pytest.raises(CorpusError, match=rf"x\.jsonl\.zst: .*{match}"):
            ids_of(open_corpus(path))
    path.write_bytes(frame(0, bytes([(27 - 10) << 3])) + PACK["zstd"](LINES))
    assert ids_of(open_corpus(path)) == DOCS


def test_xz_may_not_take_all_memory(tmp_path):
    path = tmp_path / "x.jsonl.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 3 << 28}]
    path.write_bytes(lzma.compress(LINES, filters=filters))
    with pytest.raises(CorpusError, match=r"more than 256 MiB to be decompressed.*xz -dk"):
        ids_of(open_corpus(path))


def test_memory_grows_with_what_there_is_not_with_what_is_said(tmp_path):
    path = tmp_path / "x"
    for codec, pack in PACK.items():
        path.write_bytes(pack(b"abc"))
        assert unpack(path, codec, 2**62) == b"abc"
        path.write_bytes(pack(bytes(1 << 20)))
        assert len(unpack(path, codec, 1000)) == 1001
    snappy = pa.Codec("snappy").compress(b"abc" * 100, asbytes=True)
    assert unpack(path, "snappy", 300, snappy) == b"abc" * 100
    with pytest.raises(CorpusError, match=r"bytes of snappy cannot hold 4294967295"):
        unpack(path, "snappy", 2**33, b"\xff\xff\xff\xff\x0f" + snappy[2:])


@pytest.mark.parametrize("name", ["x.bin", "x.npy", "x.ds"])
def test_bare_ids_that_are_compressed_in_spite_of_their_name(tmp_path, name):
    path = tmp_path / name
    ids = np.arange(1000, dtype=np.uint16)
    for codec in ("gzip", "zstd", "bz2", "xz"):
        path.write_bytes(PACK[codec](ids.tobytes()))
        with pytest.raises(CorpusError, match=rf"cannot be read compressed \({codec}\)"):
            open_corpus(path, dtype="uint16")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", ids.tobytes())
    with pytest.raises(CorpusError, match=r"cannot be read compressed \(zip\)"):
        open_corpus(path, dtype="uint16")
    # Ids may begin with any bytes.
    for magic in (b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh91AY&SY"):
        path.write_bytes(magic + ids.tobytes())
        expected = np.frombuffer(magic + ids.tobytes(), np.uint16).tolist()
        assert ids_of(open_corpus(path, dtype="uint16")) == [expected]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.7z", "x.jsonl.zip"])
def test_archives_are_refused(tmp_path, name):
    path = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.jsonl", LINES)
    else:
        path.write_bytes(b"no matter what")
    with pytest.raises(CorpusError, match="unpack it first"):
        open_corpus(path)
