"""Human documents for the demonstration corpus, cut from texts in five Debian packages.

Each source names its package, the pages that are taken, and a licence compatible with Apache-2.0.
A document is a run of whole paragraphs from one page, of random length.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

__all__ = ["LEFT_OUT", "SOURCES", "Source", "read_pages", "read_source"]

Pages = Iterator[tuple[str, list[str]]]
_BLOCKS: Final = frozenset({
    "p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "dt", "dd", "tr", "td", "th",
    "blockquote", "div", "section", "table", "ul", "ol", "dl", "br",
})  # fmt: skip
_VOID: Final = frozenset({
    "br", "hr", "img", "input", "link", "meta", "col", "wbr", "area", "base", "source",
})  # fmt: skip
_DROPPED: Final = frozenset({"script", "style", "nav", "button", "svg"})
_DROPPED_CLASSES: Final = frozenset(
    {"navheader", "navfooter", "headerlink", "toc", "sphinxsidebar"}
)
_WORDS: Final = (110, 800)
# Texts that name registries or absolute paths: a search of the repository for these should find
# only the project's own.
LEFT_OUT: Final = re.compile(r"crates\.io|pypi\.org|PyPI|/(tmp|root|home|work)/")


@dataclass(frozen=True, slots=True)
class Source:
    """A package, how its pages are read, and how many documents are taken from it."""

    name: str
    package: str
    version: str
    license: str
    members: str
    read: Callable[[str, bytes], Pages]
    n_documents: int


class _PageText(HTMLParser):
    """The paragraphs of an HTML page, inside the element that holds its text."""

    def __init__(self, container: tuple[str, str | None]) -> None:
        super().__init__(convert_charrefs=True)
        self._container = container
        self._open: list[tuple[str, bool, bool]] = []  # tag, is the container, is dropped
        self._inside = self._dropped = self._pre = 0
        self._text: list[str] = []
        self.blocks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS and not self._pre:
            self._flush()
        if tag in _VOID:
            return
        given = dict(attrs)
        wanted, role = self._container
        container = tag == wanted and (role is None or given.get("role") == role)
        classes = set((given.get("class") or "").split())
        dropped = tag in _DROPPED or bool(classes & _DROPPED_CLASSES)
        self._open.append((tag, container, dropped))
        self._inside += container
        self._dropped += dropped
        self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag not in {name for name, _, _ in self._open}:
            return
        while True:  # also closes what the page left open
            name, container, dropped = self._open.pop()
            if name in _BLOCKS and (name == "pre" or not self._pre):
                self._flush()
            self._inside -= container
            self._dropped -= dropped
            self._pre -= name == "pre"
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._inside and not self._dropped:
            self._text.append(data)

    def _flush(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        text = text.strip("\n").rstrip() if self._pre else " ".join(text.split())
        if text.strip():
            self.blocks.append(text)


def _html(container: tuple[str, str | None]) -> Callable[[str, bytes], Pages]:
    def read(name: str, content: bytes) -> Pages:
        page = _PageText(container)
        page.feed(content.decode())
        page.close()
        yield name, page.blocks

    return read


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _gzipped_text(name: str, content: bytes) -> Pages:
    yield name, _paragraphs(gzip.decompress(content).decode())


def _novels(name: str, content: bytes) -> Pages:
    """The chapters of the novels in an R database of serialised character vectors.

    A record is the uncompressed length (four bytes) and a zlib stream. A string in it is the flag
    word of a CHARSXP (type 9), its length and its bytes: one line of the novel.
    """
    at = 0
    while at + 4 < len(content):
        stream = zlib.decompressobj()
        record = stream.decompress(content[at + 4 :])
        at = len(content) - len(stream.unused_data)
        text = "\n".join(_r_strings(record))
        for number, chapter in enumerate(re.split(r"(?im)^chapter [ivxl\d]+\.?$", text)[1:], 1):
            yield f"{name}:{at}:{number}", _paragraphs(chapter)


def _r_strings(record: bytes) -> Iterator[str]:
    at = 0
    flags = re.compile(rb"\x00[\x00-\x0f]\x00\x09")
    while (found := flags.search(record, at)) is not None:
        (size,) = struct.unpack_from(">i", record, found.end())
        start = found.end() + 4
        yield record[start : start + max(size, 0)].decode()
        at = start + max(size, 0)


_RUST: Final = "usr/share/doc/rust-doc/html"
_PYTHON: Final = "usr/share/doc/python3.11/html"
_POSTGRES: Final = "usr/share/doc/postgresql-doc-15/html"
_MAIN: Final = _html(("main", None))
SOURCES: Final = (
    Source(
        "The Rust Programming Language",
        "rust-doc",
        "1.63.0+dfsg1-2",
        "MIT OR Apache-2.0",
        rf"{_RUST}/book/ch\d\d-.*\.html",
        _MAIN,
        70,
    ),
    Source(
        "The Rustonomicon",
        "rust-doc",
        "1.63.0+dfsg1-2",
        "MIT OR Apache-2.0",
        rf"{_RUST}/nomicon/[^/]*\.html",
        _MAIN,
        25,
    ),
    Source(
        "Python 3.11 documentation",
        "python3.11-doc",
        "3.11.2-6+deb12u7",
        "PSF-2.0",
        rf"{_PYTHON}/(tutorial|howto|faq|reference|using|whatsnew)/[^/]*\.html",
        _html(("div", "main")),
        70,
    ),
    Source(
        "PostgreSQL 15 documentation",
        "postgresql-doc-15",
        "15.18-0+deb12u1",
        "PostgreSQL",
        rf"{_POSTGRES}/(?!index|bookindex|errcodes|release|acronyms|biblio|contrib)[^/]*\.html",
        _html(("body", None)),
        70,
    ),
    Source(
        "Novels by Jane Austen",
        "r-cran-janeaustenr",
        "1.0.0-1",
        "public domain",
        r"usr/lib/R/site-library/janeaustenr/data/Rdata\.rdb",
        _novels,
        60,
    ),
    Source(
        "Constitution and Declaration of Independence of the United States",
        "miscfiles",
        "1.5+dfsg-4",
        "public domain",
        r"usr/share/state/us-.*\.gz",
        _gzipped_text,
        8,
    ),
)


def read_source(source: Source, folder: Path, rng: random.Random) -> list[tuple[str, str]]:
    """``(page, text)`` of a source's documents, in page order.

    Raises
    ------
    SystemExit
        If the package is not in `folder`, in the version stated.
    """
    found: list[tuple[str, str]] = []
    for page, blocks in read_pages(source, folder):
        found += [(page, text) for text in _cut(blocks, rng) if not LEFT_OUT.search(text)]
    chosen = sorted(rng.sample(range(len(found)), source.n_documents))
    return [found[i] for i in chosen]


def read_pages(source: Source, folder: Path) -> Pages:
    """Name and paragraphs of each page of a source, sorted by name."""
    name = f"{source.package}_{source.version}_*.deb".replace(":", "%3a")
    packages = list(folder.glob(name))
    if len(packages) != 1:
        raise SystemExit(f"{len(packages)} files match {name} in {folder}; wanted one")
    unpacked = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", packages[0]],
        check=True,
        capture_output=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
        for path in sorted(filter(re.compile(source.members).fullmatch, members)):
            stream = tar.extractfile(members[path])
            assert stream is not None
            yield from source.read(Path(path).name, stream.read())


def _cut(blocks: list[str], rng: random.Random) -> Iterator[str]:
    """Cuts a page into documents of whole paragraphs, with a log-uniform number of words."""
    low, high = _WORDS
    taken: list[str] = []
    n_words = 0
    wanted = low * math.exp(rng.random() * math.log(high / low))
    for block in blocks:
        taken.append(block)
        n_words += len(block.split())
        if n_words >= wanted:
            yield "\n\n".join(taken)
            taken, n_words = [], 0
            wanted = low * math.exp(rng.random() * math.log(high / low))
