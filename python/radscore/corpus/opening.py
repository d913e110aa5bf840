"""`open_corpus`: from paths and options to a corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import DamagedFileError, InputOptionError, OnError, Problems
from radscore.corpus.corpus import Corpus, boundaries_of
from radscore.corpus.detect import find_with_notes
from radscore.corpus.dtypes import notes_of_dtypes
from radscore.corpus.format import Options
from radscore.corpus.readers.ids import check_dtype
from radscore.corpus.records import Fields, choose_field, missing_field, needs_tokenizer, value_of
from radscore.corpus.registry import broken_formats
from radscore.corpus.text.tokenizer import Encoder, Engine, check_engine, load_encoder
from radscore.documents import MAX_VOCAB, check_width
from radscore.doubts import doubt_of_eod, doubt_of_tokenizer
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from radscore.corpus.format import Preview, Source

__all__ = ["open_corpus"]


def open_corpus(
    paths: Any,
    *,
    field: str | None = None,
    tokenizer: Any = None,
    prompt_field: str | None = None,
    format: str | None = None,
    dtype: Any = None,
    eod: int | None = None,
    vocab_size: int | None = None,
    on_error: OnError = "raise",
    batch_tokens: int = 2**22,
    add_special_tokens: bool = False,
    tokenizer_engine: Engine = "auto",
) -> Corpus:
    r"""A corpus of token ids or text in files.

    Parameters
    ----------
    paths : path, iterable of paths, or data set
        Files, folders (read recursively, sorted by name) and glob patterns (``**`` too) of any
        format that `radscore.corpus.all_formats` lists: JSON lines, Parquet, Arrow, numpy,
        headerless ids, Megatron, datatrove, dolma, llm.c, nanoGPT, MDS, litdata, folders saved by
        Hugging Face, CSV and TSV, plain text, and formats that other packages add. ``"-"`` is
        standard input, and addresses such as ``s3://`` and ``hf://`` go through fsspec (the extra
        ``remote``); both are copied to the system's temporary folder first. A `Dataset` or
        `IterableDataset` of the library `datasets` can be read as well, and so can a table of
        pyarrow, polars or pandas.
    field : str, optional
        The field or column that holds a document: text, or a list of token ids. By default the
        first of ``input_ids``, ``tokens``, ``text`` that the first file has; `Corpus.notes` says
        so if there was a choice. In JSON, a field within others is named as in ``data.text`` or
        ``turns.0.text``, unless there is one of just this name; so it is in structs and lists of
        columns, and in JSON that MDS holds.
    tokenizer : path, tokenizer or callable, optional
        For text: a Hugging Face folder, the path of a tokenizer.json or of a SentencePiece
        ``.model``, a tokenizer of tokenizers, transformers (fast or slow), tiktoken (special tokens
        in a text are read as text) or SentencePiece, or a function from a text to its ids.
        Truncation and padding are switched off.
    prompt_field : str, optional
        The field that holds the prompt of each document (text or ids). A record without one is
        bad; an empty prompt is not.
    format : str, optional
        The name of a format, for all files; by default each file's is detected from its name, the
        files beside it and its content. ``"nanogpt"`` must be named: nothing tells these files
        from other ids.
    dtype : {"uint16", "uint32", "int32", "int64"}, optional
        What headerless files hold (little-endian); required if no index tells.
    eod : int, optional
        The id that ends a document. Documents are cut after it, in every format, so that no
        window crosses it. It stays the last token of its document, unless it is outside the
        vocabulary; then it is removed. Without it, a headerless file is one document, unless an
        index beside it tells where documents end.
    vocab_size : int, optional
        All ids must be below it; every id is checked.
    on_error : {"raise", "skip"}
        What becomes of a bad record, and of the rest of a damaged file: an error naming file and
        line, or left out and counted in `Corpus.skipped`.
    batch_tokens : int
        About how many tokens a batch holds. A document is never cut: a batch with a larger one
        is larger.
    add_special_tokens : bool
        Whether the tokenizer adds its special tokens to each text. Not by default: they are
        in no generated text, so they only make windows that were never watermarked.
    tokenizer_engine : {"auto", "fast", "reference"}
        What tokenises text. ``"fast"`` is radscore's own implementation, which gives the ids of
        `tokenizers` for byte-pair tokenizers with the usual settings and refuses all others;
        ``"reference"`` is `tokenizers` itself; ``"auto"`` is the first if it covers the tokenizer,
        else the second. `Corpus.notes` says which one it was.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        If a path names nothing, a format cannot be detected, or the first file is damaged or
        lacks the field.
    ArgumentError
        If an option is not one of those allowed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "x.jsonl")
    ...     _ = file.write_text('{"input_ids": [5, 6, 7]}\n{"input_ids": [8]}\n')
    ...     for batch in open_corpus(file, vocab_size=100):
    ...         print(batch.documents)
    Documents(n_documents=2, n_tokens=4, dtype=uint32)
    """
    Problems(on_error)
    check_engine(tokenizer_engine)
    check_width("batch_tokens", batch_tokens, 1, 2**40)
    if vocab_size is not None:
        check_width("vocab_size", vocab_size, 1, MAX_VOCAB)
    if eod is not None:
        check_width("eod", eod, 0, 2**32 - 1)
    sources, found = find_with_notes(paths, format)
    encoder = None
    if tokenizer is not None:
        encoder = load_encoder(
            tokenizer, add_special_tokens=add_special_tokens, engine=tokenizer_engine
        )
    if eod is None:
        eod = _default_eod(sources)
    options = Options(None, check_dtype(dtype), eod, vocab_size, batch_tokens)
    notes = [*broken_formats(), *found]
    records: list[Source] = []
    bare: list[Source] = []
    for source in sources:
        (records if source.format.has_fields(source) else bare).append(source)
    if bare:
        if prompt_field is not None:
            raise ArgumentError(
                f"prompt_field needs files with named fields, which {bare[0].path} lacks"
            )
        _check(bare[0], options, on_error)
    if records:
        name, note = _field(records, field, prompt_field, encoder, on_error)
        options = replace(options, fields=Fields(name, prompt_field, encoder, batch_tokens))
        notes += [] if note is None else [note]
        size = None if encoder is None else encoder.vocab_size
        if size is not None and vocab_size is not None:
            doubt = doubt_of_tokenizer(size, vocab_size)
            notes += [] if doubt is None else [doubt]
    for kind in dict.fromkeys(source.format for source in sources):
        notes += kind.notes([source for source in sources if source.format == kind], options)
    notes += notes_of_dtypes(sources, options)
    boundaries = boundaries_of(sources, eod)
    doubt = doubt_of_eod(eod, vocab_size)
    notes += [note for note in (boundaries, doubt) if note is not None]
    return Corpus(sources, options, on_error, tuple(notes))


def _check(source: Source, options: Options, on_error: str) -> None:
    """Raises now what is wrong with the header or the index of a file of ids."""
    try:
        source.format.open(source, options, Problems("raise"))
    except DamagedFileError:
        if on_error == "raise" or source.format.always_checked:
            raise


def _default_eod(sources: list[Source]) -> int | None:
    """The end-of-document id of the files' format, if they all have the same."""
    ids = {source.format.eod for source in sources}
    return ids.pop() if len(ids) == 1 else None


def _has(found: Preview, name: str) -> bool:
    """Whether a record has a field, by its name or as a dotted path."""
    if name in (found.names or []) or (found.holds is not None and found.holds(name)):
        return True
    return found.record is not None and value_of(found.record, name)[0]


def _field(
    sources: list[Source],
    field: str | None,
    prompt_field: str | None,
    encoder: Encoder | None,
    on_error: str,
) -> tuple[str, str | None]:
    """The field to read and a note; checked, with the prompt's, in the first readable file."""
    if field is not None and on_error == "skip":
        return field, None
    flaw = ""
    for source in sources:
        try:
            found = source.format.preview(source)
        except CorpusError as error:
            if on_error == "raise":
                raise
            flaw = flaw or str(error)
            continue
        if found.names is None:
            flaw = flaw or found.where
            continue  # there is nothing in it, but there may be in others
        if field is None:
            name, note = choose_field(found.names, found.where)
        else:
            name, note = field, None
            if not _has(found, name):
                raise InputOptionError(f"{found.where}: {missing_field(name, found.names)}")
        if prompt_field is not None and not _has(found, prompt_field) and on_error == "raise":
            raise InputOptionError(f"{found.where}: {missing_field(prompt_field, found.names)}")
        if encoder is None and isinstance(value_of(found.record or {}, name)[1], str):
            raise ArgumentError(f"{found.where}: {needs_tokenizer(name)}")
        if "attention_mask" in found.names:
            padded = "field 'attention_mask' is not applied: padding counts as tokens"
            note = padded if note is None else f"{note}; {padded}"
        return name, note
    raise CorpusError(flaw or f"the corpus holds no documents: {sources[0].path}")
