"""`open_corpus`: from paths and options to a corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from radscore.corpus.base import InputOptionError, OnError, Problems
from radscore.corpus.corpus import Corpus, Options
from radscore.corpus.formats.columns import column_names
from radscore.corpus.formats.jsonl import first_record
from radscore.corpus.formats.tokens import check_dtype, doubt_of, token_layout
from radscore.corpus.records import Fields, choose_field, flaw_without_encoder, missing_field
from radscore.corpus.registry import boundaries, end_of_document, has_fields
from radscore.corpus.sources import find_sources
from radscore.corpus.text.tokenizer import Encoder, Engine, check_engine, load_encoder
from radscore.documents import MAX_VOCAB, check_width
from radscore.doubts import doubt_of_tokenizer
from radscore.errors import ArgumentError, CorpusError

if TYPE_CHECKING:
    from radscore.corpus.sources import Source

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
        Files, folders (read recursively, sorted by name) and glob patterns (``**`` too). Formats:
        JSON lines (``.jsonl``, ``.ndjson``, ``.json``; also ``.gz``, ``.zst``), Parquet
        (``.parquet``), Arrow IPC file or stream (``.arrow``), numpy (``.npy``: one document, or
        one a row), headerless ids (``.bin``), and those of Megatron (``.bin`` with ``.idx``),
        datatrove (``.ds``), dolma (headerless ``.npy`` with ``.csv.gz``), llm.c, nanoGPT, MDS and
        litdata (folders with an ``index.json``), and folders that Hugging Face saved. A `Dataset`
        or `IterableDataset` of the library `datasets` is read as it is.
    field : str, optional
        The field or column that holds a document: text, or a list of token ids. By default the
        first of ``input_ids``, ``tokens``, ``text`` that the first file has; `Corpus.notes` says
        so where there was a choice.
    tokenizer : path or tokenizer, optional
        For text: a Hugging Face folder, the path of a tokenizer.json, a `tokenizers.Tokenizer`
        or a fast tokenizer of transformers. Truncation and padding are switched off.
    prompt_field : str, optional
        The field that holds the prompt of each document (text or ids). A record without one is
        bad; an empty prompt is not.
    format : {"jsonl", "parquet", "arrow", "npy", "bin", "megatron", "datatrove", "dolma", "llmc", \
"nanogpt", "mds", "litdata"}, optional
        The format of all files; by default told from their names, the files beside them and their
        content. ``"nanogpt"`` must be named: nothing tells these files from other ids.
    dtype : {"uint16", "uint32", "int32", "int64"}, optional
        What headerless files hold (little-endian); required for those of which no index tells it.
    eod : int, optional
        The id that ends a document. Documents are cut after it, in every format, so that no
        window crosses it. It stays the last token of its document, unless it is outside the
        vocabulary; then it is taken out. Without it, a headerless file is one document, unless an
        index beside it tells where documents end.
    vocab_size : int, optional
        All ids must be below it; every id is looked at.
    on_error : {"raise", "skip"}
        What becomes of a bad record, and of the rest of a damaged file: an error naming file and
        line, or left out and counted in `Corpus.skipped`.
    batch_tokens : int
        About how many tokens a batch holds. A document is never cut: a batch with a larger one
        is larger.
    add_special_tokens : bool
        Whether the tokenizer puts its special tokens around each text. Not by default: they are
        in no generated text, so they only make windows that were never watermarked.
    tokenizer_engine : {"auto", "fast", "reference"}
        What makes ids of text. ``"fast"`` is radscore's own implementation, which gives the ids
        of `tokenizers` for byte-pair tokenizers with the usual settings and refuses all others;
        ``"reference"`` is `tokenizers` itself; ``"auto"`` is the first where it can be, else the
        second. `Corpus.notes` says which one it was.

    Returns
    -------
    Corpus

    Raises
    ------
    CorpusError
        If a path names nothing, a format is not known, or the first file is damaged or lacks the
        field.
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
    sources = find_sources(paths, format)
    encoder = (
        None
        if tokenizer is None
        else load_encoder(tokenizer, add_special_tokens=add_special_tokens, engine=tokenizer_engine)
    )
    eod = end_of_document(sources, eod)
    options = Options(None, check_dtype(dtype), eod, vocab_size, batch_tokens)
    notes: tuple[str, ...] = ()
    with_fields: list[Source] = []
    bare: list[Source] = []
    for source in sources:
        (with_fields if has_fields(source) else bare).append(source)
    if bare:
        if prompt_field is not None:
            raise ArgumentError(
                f"prompt_field needs files with named fields, which {bare[0].path} lacks"
            )
        if on_error == "raise" or bare[0].format in ("bin", "nanogpt"):
            _look_at(bare[0], options.dtype)
    if with_fields:
        name, note = _field(with_fields, (field, prompt_field), encoder, on_error)
        notes = () if note is None else (note,)
        options = replace(options, fields=Fields(name, prompt_field, encoder, batch_tokens))
        known = None if encoder is None else encoder.vocab_size
        if known is not None and vocab_size is not None:
            doubt = doubt_of_tokenizer(known, vocab_size)
            notes = notes if doubt is None else (*notes, doubt)
    first_bin = next((source for source in sources if source.format == "bin"), None)
    if first_bin is not None and (note := doubt_of(first_bin, options.dtype, vocab_size)):
        notes = (*notes, note)
    if any(source.format == "megatron" for source in sources):
        from radscore.corpus.formats.megatron import megatron_notes

        notes = (*notes, *megatron_notes(sources))
    if (cut_by := boundaries(sources, options.eod)) is not None:
        notes = (*notes, cut_by)
    return Corpus(sources, options, on_error, notes)


def _look_at(source: Source, dtype: Any) -> None:
    """Raises now what is wrong with the header or index of a file."""
    if source.format == "megatron":
        from radscore.corpus.formats.megatron import megatron_index

        megatron_index(source)
    elif source.format != "litdata":
        token_layout(source, dtype)


def _field(
    sources: list[Source],
    wanted: tuple[str | None, str | None],
    encoder: Encoder | None,
    on_error: str,
) -> tuple[str, str | None]:
    """The field to read; looked up, with the prompt's, in the first file that can be read."""
    field, prompt_field = wanted
    flaw = ""
    if field is not None and on_error == "skip":
        return field, None
    for source in sources:
        try:
            names, record, place = _names(source)
        except CorpusError as error:
            if on_error == "raise":
                raise
            flaw = flaw or str(error)
            continue
        if names is None:
            flaw = flaw or place
            continue  # nothing in it; the others may hold something
        if field is None:
            name, note = choose_field(names, place)
        else:
            name, note = field, None
            if name not in names:
                raise InputOptionError(f"{place}: {missing_field(name, names)}")
        if prompt_field is not None and prompt_field not in names and on_error == "raise":
            raise InputOptionError(f"{place}: {missing_field(prompt_field, names)}")
        if encoder is None and record is not None and isinstance(record.get(name), str):
            raise ArgumentError(f"{place}: {flaw_without_encoder(name)}")
        return name, note
    raise CorpusError(flaw or f"the corpus holds no documents: {sources[0].path}")


def _names(source: Source) -> tuple[list[str] | None, dict[str, Any] | None, str]:
    """Field names, a record to look at, and its place; or None and what is wrong."""
    if source.format != "jsonl":
        return column_names(source), None, str(source.path)
    record, place = first_record(source)
    return (None if record is None else list(record)), record, place
