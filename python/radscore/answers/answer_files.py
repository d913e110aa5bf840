"""`open_answers`: reads a journal, or any other file of answers, as token ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.answers.listed_records import Listings, is_probe
from radscore.answers.samples import repeats_note
from radscore.corpus.base import NOTHING_SKIPPED, InputOptionError, Problems, joined
from radscore.documents import MAX_VOCAB
from radscore.errors import CorpusError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from radscore.corpus import SkipReport
    from radscore.corpus.base import OnError
    from radscore.corpus.format import Source
    from radscore.corpus.text.tokenizer import Encoder
    from radscore.documents import Documents
    from radscore.models.listed import Listed

__all__ = ["Answers", "open_answers"]

_TEXTS = ("text", "answer", "completion", "response", "output")
_IDS = ("token_ids", "input_ids", "tokens")
_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False, repr=False)
class Answers:
    """Answers of a model as token ids.

    Attributes
    ----------
    documents : Documents
        One per answer.
    prompts : Documents or None
        The prompt of each, preceded by the system prompt if there was one; None if the files name
        no prompts. If there are prompts, there is one per answer.
    n_failed : int
        Questions that got no answer.
    skipped : SkipReport
        Records that could not be read (``on_error="skip"``).
    models : tuple of str
        Names of the models that answered, if the records tell.
    prompt_ids : frozenset of str
        Which prompts were answered, if the records tell; see `Question`.
    field : str
        The field that was read.
    notes : tuple of str
        What is good to know about how they were read.
    listed : Listed or None
        The likeliest tokens at each token of `documents`, with their log-probabilities at
        temperature 1, where the records have any (`ask` with `logprobs`); else None.
    """

    documents: Documents
    prompts: Documents | None
    n_failed: int = 0
    skipped: SkipReport = field(default_factory=lambda: NOTHING_SKIPPED)
    models: tuple[str, ...] = ()
    prompt_ids: frozenset[str] = frozenset()
    field: str = ""
    notes: tuple[str, ...] = ()
    listed: Listed | None = None

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return (
            f"Answers(n_answers={len(self)}, n_tokens={self.documents.n_tokens}, "
            f"prompts={self.prompts is not None}, n_failed={self.n_failed}, "
            f"models={list(self.models)})"
        )


def open_answers(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    tokenizer: Any = None,
    field: str | None = None,
    prompt_field: str | None = "prompt",
    on_error: OnError = "raise",
    add_special_tokens: bool = False,
) -> Answers:
    r"""Reads the answers in a journal of `ask`, or in any JSON lines, Parquet or Arrow files.

    All answers are held in memory, as token ids. Where a journal has log-probabilities, the ids
    are those of the server's own tokens, if all of them are known and spell the answer; else those
    that the tokenizer makes of the text, as without them.

    Parameters
    ----------
    paths : path or iterable of paths
        As `open_corpus` takes them.
    tokenizer : path or tokenizer, optional
        The watermark's: a Hugging Face folder, a tokenizer.json, or a tokenizer. Needed for text.
    field : str, optional
        The field with the answer, text or ids. By default the first that the first record has: of
        ``text``, ``answer``, ``completion``, ``response``, ``output`` with a tokenizer, of
        ``token_ids``, ``input_ids``, ``tokens`` without one.
    prompt_field : str or None
        The field with the prompt of each answer, text or ids; None if there is none.
    on_error : {"raise", "skip"}
        Whether a record that cannot be read is an error naming file and line, or left out and
        counted in `Answers.skipped`. Questions that a journal says have failed are not such
        records; they are counted in `Answers.n_failed`.
    add_special_tokens : bool
        Whether the tokenizer puts its special tokens around each text.

    Returns
    -------
    Answers

    Raises
    ------
    CorpusError
        If there is no answer, or a record is bad.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "answers.jsonl")
    ...     _ = file.write_text('{"prompt": [1, 2], "tokens": [5, 6, 7]}\n')
    ...     open_answers(file)
    Answers(n_answers=1, n_tokens=3, prompts=True, n_failed=0, models=[])
    """
    from radscore.corpus.detect import find_sources
    from radscore.corpus.text.tokenizer import load_encoder

    encoder = (
        None
        if tokenizer is None
        else load_encoder(tokenizer, add_special_tokens=add_special_tokens)
    )
    sources = find_sources(paths)
    collector = _Collector(encoder, tokenizer, field, prompt_field, Problems(on_error))
    for source in sources:
        collector.read(source)
    return collector.answers(", ".join(str(source.path) for source in sources))


class _Collector:
    """Takes records, and turns them into answers."""

    def __init__(
        self,
        encoder: Encoder | None,
        tokenizer: Any,
        field: str | None,
        prompt_field: str | None,
        problems: Problems,
    ) -> None:
        from radscore.corpus.records import ValueColumn

        self._encoder = encoder
        self._field = field
        self._prompt_field = prompt_field
        self._problems = problems
        self._columns = [ValueColumn(encoder), ValueColumn(encoder)]
        self._locations: list[str] = []  # of what waits in the columns
        self._parts: list[list[Any]] = [[], []]
        self._skipped = NOTHING_SKIPPED
        self._models: dict[str, None] = {}
        self._answered_by: dict[str, None] = {}
        self._prompt_ids: set[str] = set()
        self._failed: dict[Any, None] = {}  # by question, if the record tells
        self._notes: dict[str, None] = {}
        self._said: dict[Any, tuple[int, int]] = {}  # prompt and answer, by question
        self._temperature: Any = None
        self._n_empty = 0
        self._listings = None
        if encoder is not None:
            self._listings = Listings(getattr(encoder, "tokenizer", tokenizer))

    def read(self, source: Source) -> None:
        """All records of a file."""
        for where, record, flaw in source.format.records(source):
            if flaw is not None:
                self._problems.record(where, flaw)
            else:
                self._take(record, where)
        self._skipped = self._skipped.plus(self._problems.take())

    def _take(self, record: Any, location: str) -> None:
        from radscore.corpus.records import missing_field, read_value, value_of
        from radscore.models.chats import is_chat, text_of

        if not isinstance(record, dict):
            self._problems.record(location, "a record must be a JSON object")
            return
        if "text" not in record and ("sent" in record or is_probe(record)):
            if self._listings is not None:
                self._listings.take_probe(record)
            return
        if record.get("error") is not None and not any(record.get(name) for name in _TEXTS):
            self._failed[_question(record) or location] = None
            return
        if (name := self._name(record, location)) is None:
            return
        items = []
        for wanted in (name, self._prompt_field):
            if wanted is None:
                continue
            there, value = value_of(record, wanted)
            if not there:
                self._problems.record(location, missing_field(wanted, record))
                return
            if is_chat(value):
                roles = None if wanted == self._prompt_field else ("assistant",)
                value, flaw = text_of(value, roles)
                if flaw is not None:
                    self._problems.record(location, f"field {wanted!r}: {flaw}")
                    return
            if wanted == self._prompt_field:
                value = _whole_prompt(value, record)
            item, flaw = read_value(value, wanted, self._encoder)
            if item is None or flaw is not None:
                self._problems.record(location, flaw or "unreadable")
                return
            items.append(item)
        if self._listings is not None:
            flaw = self._listings.take(record, name, items[0])
            if flaw is not None:
                self._problems.record(location, flaw)
                return
        self._about(record, record[name], location)
        for column, item in zip(self._columns, items, strict=False):
            column.add(item)
        self._locations.append(location)
        if sum(column.weight for column in self._columns) > _AT_ONCE:
            self._encode()

    def _name(self, record: dict[str, Any], location: str) -> str | None:
        """The field with the answer; the first record that has one decides for all."""
        from radscore.corpus.records import missing_field

        if self._field is None:
            order = _IDS if self._encoder is None else (*_TEXTS, *_IDS)
            found = [name for name in order if record.get(name) is not None]
            if not found and self._encoder is None:
                found = [
                    name for name in _TEXTS if name in record
                ]  # read_value then asks for a tokenizer
            if not found and any(name in record for name in order):
                self._problems.record(location, "it has no answer (null)")
                return None
            if not found:
                raise InputOptionError(f"{location}: {missing_field(order[0], record)}")
            self._field = found[0]
            if self._encoder is not None and found[0] in _IDS:
                self._notes[f"read the token ids in field {found[0]!r}; there is no text"] = None
        return self._field

    def _about(self, record: dict[str, Any], answer: Any, location: str) -> None:
        settings = record.get("settings")
        settings = settings if isinstance(settings, dict) else {}
        model = settings.get("model", record.get("model"))
        if isinstance(model, str):
            self._models[model] = None
        if isinstance(answered_by := record.get("answered_by", model), str):
            self._answered_by[answered_by] = None
        self._temperature = settings.get("temperature", self._temperature)
        question = _question(record)
        prompt = record.get(self._prompt_field) if self._prompt_field is not None else None
        if question is not None:
            self._prompt_ids.add(question[0])
            self._failed.pop(question, None)  # it was asked again
            prompt = question[0].partition("-")[0]
        self._n_empty += not answer
        if answer and prompt is not None:
            self._said[question or location] = _hash(prompt), _hash(answer)

    def _encode(self) -> None:
        from radscore.corpus.base import select
        from radscore.corpus.records import ValueColumn
        from radscore.corpus.text.failures import failed

        made = [column.documents() for column in self._columns if column.items]
        bad: dict[int, str] = {}
        for documents in made:
            if self._encoder is not None and documents.id_range[1] > MAX_VOCAB:
                for i, ids in enumerate(documents):
                    if failed(ids):
                        bad.setdefault(i, self._encoder.failures.reason(ids) or "")
        for i, reason in bad.items():
            self._problems.record(self._locations[i], reason)
        kept = np.array([i for i in range(len(self._locations)) if i not in bad], dtype=np.int64)
        if self._listings is not None and made:
            made[0] = self._listings.resolved(made[0], bad)
        for documents, parts in zip(made, self._parts, strict=False):
            parts.append(select(documents, kept) if bad else documents)
        self._columns = [ValueColumn(self._encoder), ValueColumn(self._encoder)]
        self._locations = []
        self._skipped = self._skipped.plus(self._problems.take())

    def answers(self, paths: str) -> Answers:
        """Everything that was read."""
        self._encode()
        documents, prompts = (_joined(parts) for parts in self._parts)
        if not len(documents):
            failed = f"; {len(self._failed)} questions failed" if self._failed else ""
            raise CorpusError(f"there are no answers in {paths}{failed}")
        if len(self._models) > 1:
            names = ", ".join(self._models)
            self._notes[f"the answers come from several models: {names}"] = None
        elif len(self._answered_by) > 1:
            names = ", ".join(self._answered_by)
            self._notes[f"the server says that several models answered: {names}"] = None
        if repeats := repeats_note(self._said.values(), self._temperature):
            self._notes[repeats] = None
        listed = None
        if self._listings is not None and (listed := self._listings.listed()) is not None:
            self._notes.update(dict.fromkeys(self._listings.notes()))
        if self._n_empty:
            self._notes[f"{self._n_empty:,} of {len(documents):,} answers are empty"] = None
        return Answers(
            documents=documents,
            prompts=None if self._prompt_field is None else prompts,
            n_failed=len(self._failed),
            skipped=self._skipped,
            models=tuple(self._models),
            prompt_ids=frozenset(self._prompt_ids),
            field=self._field or "",
            notes=tuple(self._notes),
            listed=listed,
        )


def _question(record: dict[str, Any]) -> tuple[str, str] | None:
    name = record.get("prompt_id")
    return (name, repr(record.get("sample"))) if isinstance(name, str) else None


def _hash(value: Any) -> int:
    return hash(value if isinstance(value, str) else repr(value))


def _whole_prompt(prompt: Any, record: dict[str, Any]) -> Any:
    """The prompt with the system prompt before it: a model copies from either."""
    settings = record.get("settings")
    system = settings.get("system") if isinstance(settings, dict) else None
    if isinstance(system, str) and isinstance(prompt, str):
        return f"{system}\n{prompt}"
    return prompt


def _joined(parts: list[Documents]) -> Documents:
    if len(parts) == 1:
        return parts[0]
    return joined([np.asarray(document) for part in parts for document in part])
