"""`inspect_corpus`: what is in a file, before anything is scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.corpus.base import NOTHING_SKIPPED, SkipReport
from radscore.corpus.detect import find_sources
from radscore.corpus.dtypes import notes_of_dtypes
from radscore.corpus.opening import open_corpus
from radscore.corpus.readers.ids import HEADERLESS_DTYPES
from radscore.corpus.text.tokenizer import Engine, Utf8Encoder, load_encoder
from radscore.documents import MAX_VOCAB
from radscore.doubts import doubt_of_eod
from radscore.errors import CorpusError

if TYPE_CHECKING:
    from radscore.corpus.corpus import Batch, Corpus
    from radscore.corpus.format import Source

__all__ = ["Inspection", "inspect_corpus"]

_SNIPPETS = 3
_SNIPPET_TOKENS = 24
#: Values of a byte, which text is read as without a tokenizer.
_BYTES = 256
# So many documents of one length, of so many tokens, are rows rather than documents.
_PACKED_ROWS = 4
_PACKED_TOKENS = 128


@dataclass(frozen=True)
class Inspection:
    """What is in a corpus.

    Attributes
    ----------
    files, total_bytes : int
        Number of files and their size.
    formats : tuple of str
        Formats of the files.
    field : str or None
        The field that is read, if the files have fields.
    dtype : str or None
        Integer type of the ids, as stored or as made by the tokenizer.
    boundaries : str or None
        What tells where documents end: an index, an end-of-document id or nothing; None if each
        is a record of its own.
    n_documents, n_tokens : int or None
        How many there are; None if the ids cannot be read without a dtype. Text without a
        tokenizer has no tokens: `n_tokens` is None, and `n_bytes_of_text` counts instead.
    n_bytes_of_text : int or None
        Bytes of text, if there was no tokenizer.
    shortest, longest : int or None
        Tokens (bytes of text) of the shortest and the longest document.
    largest_id : int or None
        The largest token id.
    snippets : tuple of str
        The beginnings of three documents: decoded, or as ids if there is no tokenizer.
    skipped : SkipReport
        Records that cannot be read.
    warnings : tuple of str
        What looks wrong.
    """

    files: int
    total_bytes: int
    formats: tuple[str, ...]
    field: str | None = None
    dtype: str | None = None
    boundaries: str | None = None
    n_documents: int | None = None
    n_tokens: int | None = None
    n_bytes_of_text: int | None = None
    shortest: int | None = None
    longest: int | None = None
    largest_id: int | None = None
    snippets: tuple[str, ...] = ()
    skipped: SkipReport = NOTHING_SKIPPED
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-able values."""
        return {**asdict(self), "skipped": self.skipped.to_dict()}


def inspect_corpus(
    paths: Any,
    *,
    field: str | None = None,
    tokenizer: Any = None,
    prompt_field: str | None = None,
    format: str | None = None,
    dtype: Any = None,
    eod: int | None = None,
    vocab_size: int | None = None,
    add_special_tokens: bool = False,
    tokenizer_engine: Engine = "auto",
) -> Inspection:
    r"""Reads all of a corpus and tells its format, documents, tokens, largest id, three snippets.

    Bad records are counted. The parameters are those of `open_corpus`, but ids outside
    `vocab_size` only give a warning, and a headerless file without `dtype` is tried with every
    dtype.

    Raises
    ------
    CorpusError
        If a path names nothing, or nothing in it can be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "x.jsonl")
    ...     _ = file.write_text('{"input_ids": [5, 6, 7]}\n')
    ...     found = inspect_corpus(file)
    >>> found.n_documents, found.n_tokens, found.largest_id
    (1, 3, 7)
    """
    sources = find_sources(paths, format)
    unknown = [source for source in sources if not source.format.tells_dtype(source)]
    if dtype is None and unknown:
        formats = tuple(dict.fromkeys(source.format.name for source in sources))
        warnings = tuple(line for source in unknown for line in _guess(source))
        return Inspection(
            len(sources), sum(source.size for source in sources), formats, warnings=warnings
        )
    encoder = (
        Utf8Encoder()
        if tokenizer is None
        else load_encoder(tokenizer, add_special_tokens=add_special_tokens, engine=tokenizer_engine)
    )
    corpus = open_corpus(
        paths,
        field=field,
        tokenizer=encoder,
        prompt_field=prompt_field,
        format=format,
        dtype=dtype,
        eod=eod,
        on_error="skip",
    )
    return _inspected(corpus, encoder, vocab_size, as_text=tokenizer is None)


def _inspected(
    corpus: Corpus,
    encoder: Any,
    vocab_size: int | None,
    *,
    as_text: bool,
) -> Inspection:
    n_documents, n_tokens, largest, above = 0, 0, -1, 0
    shortest, longest = 2**62, 0
    snippets: list[str] = []
    dtypes: dict[str, None] = {}
    is_text = False
    for batch in corpus:
        documents = batch.documents
        n_documents += len(documents)
        n_tokens += documents.n_tokens
        largest = max(largest, documents.id_range[1])
        lengths = np.diff(documents.offsets)
        shortest, longest = min(shortest, int(lengths.min())), max(longest, int(lengths.max()))
        dtypes[documents.values.dtype.name] = None
        if vocab_size is not None and documents.id_range[1] >= vocab_size:
            used = documents.values[documents.offsets[0] : documents.offsets[-1]]
            above += int(np.count_nonzero(used >= vocab_size))
        is_text = is_text or (as_text and batch.from_text)
        plain = batch.from_text and documents.id_range[1] < _BYTES
        _add_snippets(snippets, batch, encoder, decode=not as_text or plain)
    warnings = [note for note in corpus.notes if note != corpus.boundaries]
    if n_documents >= _PACKED_ROWS and shortest == longest >= _PACKED_TOKENS and not is_text:
        warnings.append(
            f"all documents have {longest} tokens, as if documents had been cut into rows; windows "
            "across the ends of rows are lost"
        )
    if is_text and largest >= _BYTES:
        warnings.append(f"field {corpus.field!r} holds text in some records and ids in others")
    elif is_text:
        warnings.append("the documents are text; give a tokenizer (tokenizer=) to count tokens")
    elif above:
        warnings.append(
            f"{above} of {n_tokens} ids are above the vocabulary of {vocab_size} "
            f"(largest {largest}); is the dtype right?"
        )
    elif largest >= MAX_VOCAB:
        warnings.append(f"the largest id, {largest}, is beyond any vocabulary; is the dtype right?")
    doubt = doubt_of_eod(corpus.options.eod, vocab_size)
    warnings += [] if doubt is None else [doubt]
    if corpus.skipped:
        warnings.append(f"{corpus.skipped} cannot be read, first {corpus.skipped.examples[0]}")
    return Inspection(
        files=len(corpus.sources),
        total_bytes=corpus.total_bytes,
        formats=corpus.formats,
        field=corpus.field,
        dtype=None if is_text else ", ".join(dtypes),
        boundaries=corpus.boundaries,
        n_documents=n_documents,
        n_tokens=None if is_text else n_tokens,
        n_bytes_of_text=n_tokens if is_text else None,
        shortest=shortest,
        longest=longest,
        largest_id=None if is_text else largest,
        snippets=tuple(snippets),
        skipped=corpus.skipped,
        warnings=tuple(warnings),
    )


def _add_snippets(snippets: list[str], batch: Batch, encoder: Any, *, decode: bool) -> None:
    for document in batch.documents:
        if len(snippets) == _SNIPPETS:
            return
        if len(document) == 0:
            continue
        head = document[: _SNIPPET_TOKENS * (4 if isinstance(encoder, Utf8Encoder) else 1)].tolist()
        if decode:
            snippets.append(" ".join(encoder.decode(head).split()))
        else:
            snippets.append(" ".join(map(str, head[:_SNIPPET_TOKENS])))


def _guess(source: Source) -> list[str]:
    """What a headerless file would hold with each dtype."""
    if all(source.size % np.dtype(name).itemsize for name in HEADERLESS_DTYPES):
        return [f"{source.path}: {source.size} bytes are not a whole number of ids; is it cut off?"]
    lines = [f"{source.path}: headerless; give its dtype= ({', '.join(HEADERLESS_DTYPES)})"]
    for name in HEADERLESS_DTYPES:
        try:
            corpus = open_corpus(source.path, format=source.format.name, dtype=name)
            ranges = [batch.documents.id_range for batch in corpus]
        except CorpusError as error:
            lines.append(f"as {name}: {str(error).partition(': ')[2]}")
            continue
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        doubts = notes_of_dtypes([source], corpus.options)
        doubt = "".join(f"; {note.partition(': ')[2]}" for note in doubts)
        lines.append(f"as {name}: ids from {low} to {high}{doubt}")
    return lines
