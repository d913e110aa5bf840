"""Compressed files: which codec, by their first bytes and their names, and what they hold.

A file may have several members (frames), which are read as one. Zeros after the last member only
pad the file, and the skippable frames of zstd and lz4 hold nothing; what else stands between or
after members is damage, and so is an end inside a member. Messages name the byte.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, TypeAlias

from radscore.corpus.base import DamagedFileError, reading

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "BY_MEMBER",
    "CODECS",
    "Codec",
    "Unpacked",
    "codec_of_head",
    "codec_of_name",
    "is_packed",
    "unpack",
]

Codec: TypeAlias = Literal["gzip", "zstd", "bz2", "xz", "lz4", "brotli", "snappy", "zip"]

#: Codecs of which everything before damage is handed on.
BY_MEMBER: tuple[Codec, ...] = ("gzip", "bz2", "xz")
#: Codecs of streams of lines; of snappy and zip only other formats have a use.
CODECS: tuple[Codec, ...] = ("gzip", "zstd", "bz2", "xz", "lz4", "brotli")
_SUFFIXES: dict[str, Codec] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bgz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lz4": "lz4",
    ".br": "brotli",
    ".snappy": "snappy",
    ".zip": "zip",
}
_MAGIC: tuple[tuple[bytes, Codec], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
)
_BZ2 = tuple(b"BZh%d" % level for level in range(1, 10))
_BZ2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
# The last three bytes of the magic of skippable frames, of zstd and of lz4.
_SKIPPABLE = b"\x2a\x4d\x18"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 16
#: What zstd's own tool decompresses without being asked.
_MAX_WINDOW = 1 << 27
#: What xz may take; its highest level takes 65 MB.
_MAX_XZ = 1 << 28


def codec_of_name(name: str) -> tuple[str, Codec | None]:
    """A file's name without the suffix of its codec, and the codec.

    Examples
    --------
    >>> codec_of_name("x.jsonl.gz")
    ('x.jsonl', 'gzip')
    """
    bare, dot, suffix = name.rpartition(".")
    codec = _SUFFIXES.get(f".{suffix.lower()}") if dot else None
    return (name, None) if codec is None else (bare, codec)


def codec_of_head(head: bytes, named: Codec | None = None) -> Codec | None:
    """The codec of a file by its first 16 bytes; a name settles what they leave open."""
    if head.startswith(_BZ2) and head[4:10] in _BZ2_BLOCKS:
        return "bz2"
    if 0x50 <= int.from_bytes(head[:1], "little") <= 0x5F and head[1:4] == _SKIPPABLE:
        return "lz4" if named == "lz4" else "zstd"
    return next((codec for magic, codec in _MAGIC if head.startswith(magic)), None)


def is_packed(path: Path, codec: Codec) -> bool:
    """Whether the beginning of a file can really be decompressed."""
    if codec == "zip":
        return zipfile.is_zipfile(path)
    try:
        with Unpacked(path, codec) as stream:
            return bool(stream.read(1))
    except DamagedFileError:
        return False


class Unpacked:
    """The bytes that a compressed file holds; as it is if there is no codec.

    Parameters
    ----------
    path : Path
        The file, for reading and for messages.
    codec : Codec or None
        How it is compressed.
    part : bytes-like, optional
        Bytes of the file to read instead of all of it.
    """

    def __init__(self, path: Path, codec: Codec | None, part: Any = None) -> None:
        self._path, self._codec = path, codec
        self._frames: _Frames | None = None
        with reading(path):
            self._file: BinaryIO = (
                path.open("rb", buffering=0) if part is None else io.BytesIO(part)
            )
        self._stream: Any = self._file
        try:
            if codec in BY_MEMBER:
                self._stream = _Members(self._file, path, codec)
            elif codec is not None:
                import pyarrow as pa

                inner: Any = self._file
                if codec == "zstd":
                    inner = self._frames = _Frames(self._file, path)
                name: Any = codec
                with reading(path):
                    self._stream = pa.CompressedInputStream(inner, name)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        try:
            self._stream.close()
        finally:
            self._file.close()

    def tell(self) -> int:
        """Bytes of the file itself that were read."""
        return self._file.tell()

    def seek(self, start: int) -> None:
        """Begins at a byte of a file without a codec."""
        self._file.seek(start)

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end.

        Raises
        ------
        DamagedFileError
            If the file is damaged, or needs more memory than a reader may take.
        """
        try:
            found: bytes = self._stream.read(size)
        except (OSError, EOFError) as error:  # pyarrow's are OSErrors, too
            raise self._damage(str(error)) from None
        if not found and self._frames is not None and self._frames.error is not None:
            raise self._frames.error
        return found

    def _damage(self, reason: str) -> DamagedFileError:
        where = f"{self._path}: " if self._codec is None else f"{self._path}: {self._codec} data "
        if self._codec is None:
            return DamagedFileError(f"{where}{reason}")
        if "Truncated" in reason:
            return DamagedFileError(f"{where}truncated at byte {self.tell()}")
        return DamagedFileError(f"{where}damaged near byte {self.tell()}: {reason}")


def unpack(path: Path, codec: Codec, limit: int, part: Any = None) -> bytes:
    """All that a file (or a `part` of it) holds, but no more than `limit` + 1 bytes.

    Memory grows with what there is, not with the limit.
    """
    if codec == "snappy":
        with reading(path):
            data = path.read_bytes() if part is None else bytes(part)
        return _unpack_snappy(path, limit, data)
    pieces: list[bytes] = []
    room = limit + 1
    with Unpacked(path, codec, part) as stream:
        while room > 0 and (piece := stream.read(min(room, 1 << 22))):
            pieces.append(piece)
            room -= len(piece)
    return b"".join(pieces)


def _unpack_snappy(path: Path, limit: int, data: bytes) -> bytes:
    """A block of snappy, which begins with its size (7 bits a byte, the lowest first)."""
    import pyarrow as pa

    size = 0
    for shift, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            break
    if size > limit or size > 32 * len(data):  # two or three bytes stand for at most 64
        raise DamagedFileError(f"{path}: damaged: {len(data)} bytes of snappy cannot hold {size}")
    with reading(path):
        found: bytes = pa.Codec("snappy").decompress(pa.py_buffer(data), size, asbytes=True)
    return found


# ---- gzip, bz2, xz -----------------------------------------------------------------------------

_MEMBERS: dict[Codec | None, Any] = {
    "gzip": lambda: zlib.decompressobj(31),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ),
}


class _Members:
    """The members of a file, one after the other."""

    def __init__(self, file: BinaryIO, path: Path, codec: Codec | None) -> None:
        self._file, self._path = file, path
        self._codec = codec
        self._member: Any = None
        self._data = b""  # read, but not decompressed
        self._n_members = 0
        self._fresh = True  # nothing of the member has been decompressed

    def close(self) -> None:
        """Nothing is open."""

    def read(self, size: int) -> bytes:
        """The next bytes; at most `size`, and none at the end."""
        while True:
            if self._member is None and not self._begins():
                return b""
            found = self._decompressed(size)
            if self._member.eof:
                self._data = self._member.unused_data
                self._member = None
                self._n_members += 1
            if found:
                return found

    def _begins(self) -> bool:
        """Whether another member begins; zeros before it are passed over."""
        while True:
            if self._n_members:
                self._data = self._data.lstrip(b"\0")
            if self._data:
                self._member, self._fresh = _MEMBERS[self._codec](), True
                return True
            self._data = self._file.read(_BLOCK)
            if not self._data:
                if self._n_members == 0:
                    raise DamagedFileError(f"{self._path}: empty, so not {self._codec} data")
                return False

    def _decompressed(self, size: int) -> bytes:
        member, gzip = self._member, self._codec == "gzip"
        # bz2 and xz keep what they could not decompress yet; zlib hands it back.
        found: bytes
        if not self._data and (gzip or member.needs_input):
            self._data = self._file.read(_BLOCK)
            if not self._data and not (gzip and (found := member.decompress(b"", size))):
                raise DamagedFileError(
                    f"{self._path}: truncated at byte {self._file.tell()}, inside "
                    f"{self._codec} data"
                )
            if not self._data:
                return found
        before = len(self._data)
        try:
            found = member.decompress(self._data, size)
        except (zlib.error, OSError, lzma.LZMAError) as error:
            raise self._damage(error, before) from None
        self._data = member.unconsumed_tail if gzip else b""
        self._fresh = False
        return found

    def _damage(self, error: Exception, before: int) -> DamagedFileError:
        at = self._file.tell() - before
        if "emory" in str(error):
            return DamagedFileError(
                f"{self._path}: needs more than {_MAX_XZ >> 20} MiB to be decompressed; decompress "
                f"it first (xz -dk)"
            )
        if self._fresh and codec_of_head(self._data[:16]) != self._codec:
            if self._n_members == 0:
                return DamagedFileError(f"{self._path}: not {self._codec} data")
            return DamagedFileError(
                f"{self._path}: what follows the last {self._codec} member, at byte {at}, is "
                "neither padding nor another member"
            )
        return DamagedFileError(f"{self._path}: {self._codec} data damaged near byte {at}: {error}")


# ---- zstd --------------------------------------------------------------------------------------


class _Frames:
    """A file of zstd without skippable frames and padding, for a decompressor of plain frames.

    Follows the headers of frames and blocks (RFC 8878, section 3.1.1).
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.closed = False
        self._file = io.BufferedReader(file, 1 << 18)  # type: ignore[type-var]
        self._path = path
        self._pending = bytearray()
        self._in_frame = False
        self._checksum = False
        self._n_frames = 0
        self.error: DamagedFileError | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Leaves the file open for its owner."""
        if not self.closed:
            self.closed = True
            self._file.detach()

    def tell(self) -> int:
        """Where the file is."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """The next bytes; at most `size`, and none at the end."""
        try:
            while len(self._pending) < size and self.error is None:
                if not (self._block() if self._in_frame else self._frame()):
                    break
        except DamagedFileError as error:  # raised after what comes before it
            self.error = error
        # What was decompressed of whole frames is handed on first.
        if self.error is not None and self._in_frame and not self._pending:
            raise self.error
        found = bytes(self._pending[:size])
        del self._pending[:size]
        return found

    def _take(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise DamagedFileError(
                f"{self._path}: truncated at byte {self._file.tell()}, inside zstd data"
            )
        return found

    def _frame(self) -> bool:
        """Takes the header of the next frame; False at the end of the file."""
        while True:
            at = self._file.tell()
            magic = self._file.read(4)
            if not magic and self._n_frames:
                return False
            if self._n_frames and not magic.strip(b"\0"):
                if self._is_padding():
                    return False
                raise self._unknown(at)
            if magic[1:] == _SKIPPABLE and 0x50 <= magic[0] <= 0x5F:
                self._skip(int.from_bytes(self._take(4), "little"))
            elif magic == _ZSTD:
                break
            elif len(magic) < 4 and (_ZSTD.startswith(magic) or _SKIPPABLE.startswith(magic[1:])):
                self._take(1)  # cut off
            else:
                raise self._unknown(at)
        self._pending += magic + self._header(at)
        self._in_frame = True
        return True

    def _is_padding(self) -> bool:
        """Whether there are only zeros up to the end of the file."""
        while block := self._file.read(_BLOCK):
            if block.strip(b"\0"):
                return False
        return True

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._take(min(size, _BLOCK)))
        self._n_frames += 1

    def _unknown(self, at: int) -> DamagedFileError:
        if self._n_frames == 0:
            return DamagedFileError(f"{self._path}: not zstd data")
        return DamagedFileError(
            f"{self._path}: what follows the last zstd frame, at byte {at}, is neither padding nor "
            "another frame"
        )

    def _header(self, at: int) -> bytes:
        """The header of a frame without its magic; refuses what needs too much."""
        first = self._take(1)
        flags = first[0]
        single = flags >> 5 & 1
        sizes = ((0, 1, 2, 4)[flags & 3], (single, 2, 4, 8)[flags >> 6])
        rest = self._take((1 - single) + sum(sizes))
        after = rest[1 - single :]
        if int.from_bytes(after[: sizes[0]], "little"):
            raise DamagedFileError(
                f"{self._path}: was compressed with a dictionary, which is not in the file; "
                "decompress it first (zstd -d -D DICTIONARY)"
            )
        if single:  # the window is the content, whose size of 2 bytes begins at 256
            window = int.from_bytes(after[sizes[0] :], "little") + 256 * (sizes[1] == 2)
        else:
            window = (1 << 10 + (rest[0] >> 3)) // 8 * (8 + (rest[0] & 7))
        if window > _MAX_WINDOW:
            raise DamagedFileError(
                f"{self._path}: the frame at byte {at} needs a window of {-(-window >> 20)} MiB, "
                f"more than {_MAX_WINDOW >> 20}; decompress it first "
                f"(zstd -d --long={max((window - 1).bit_length(), 28)})"
            )
        self._checksum = bool(flags & 4)
        return first + rest

    def _block(self) -> bool:
        """Takes a block; True, since a frame goes on until its last block."""
        header = self._take(3)
        fields = int.from_bytes(header, "little")
        size = 1 if fields >> 1 & 3 == 1 else fields >> 3
        if fields & 1:
            self._in_frame = False
            self._n_frames += 1
            size += 4 * self._checksum
        self._pending += header
        self._pending += self._take(size)
        return True
