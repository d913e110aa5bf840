"""Alice: a model writes records, marked or not, to a file that survives being killed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.documents import check_width
from radscore.errors import ArgumentError, StateError
from radscore.models.journal import Journal
from radscore.models.loading import as_language_model
from radscore.models.questions import Question, questions_of
from radscore.models.writing import TextWriter
from radscore.progress import Progress
from radscore.rehearsal.alice_instruct import (
    FORMATS,
    N_EXAMPLES,
    Format,
    Seen,
    examples_prompt,
    parse,
    seeds_of,
    span_of,
)
from radscore.rehearsal.alice_records import Record, read_records, records_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from radscore.models.loading import LanguageModel
    from radscore.models.writing import Written
    from radscore.rehearsal.settings import DataSettings, Mark

__all__ = ["FORMATS", "Format", "Record", "RecordsReport", "read_records", "write_records"]

_BATCH = {"cpu": 32, "cuda": 128}
#: Batches in a row without anything new, after which there is no use in going on.
_PATIENCE = 8
#: Tokens that a chat template may put around a prompt.
_ROOM = 64


@dataclass(frozen=True)
class RecordsReport:
    """What `write_records` did.

    Attributes
    ----------
    n_records, n_left : int
        Records in the file; missing to those asked for.
    n_texts, n_before : int
        Texts that the model wrote in all; those that were in the file before.
    n_tokens : int
        Tokens of all texts.
    n_parsed, n_broken : int
        Of self-instruct: records found in the texts, before any is dropped, and what was none.
    dropped : dict
        How many records were left out, by reason: ``short``, ``duplicate``.
    notes : tuple of str
    """

    n_records: int
    n_left: int
    n_texts: int
    n_before: int
    n_tokens: int
    n_parsed: int
    n_broken: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parsed_share(self) -> float:
        """The share of what the model wrote as records that is one."""
        return self.n_parsed / max(self.n_parsed + self.n_broken, 1)


def write_records(
    model: LanguageModel,
    prompts: Sequence[str | Record],
    settings: DataSettings,
    mark: Mark | None,
    out: Path,
    *,
    seed: int,
    format: str = "plain",
    batch_size: int | None = None,
    fresh: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RecordsReport:
    """Writes records until there are enough, to an append-only file of JSON lines.

    After an error, Ctrl-C or ``kill -9`` the same call continues, and the file then holds the same
    records as without: batches are cut at the same places.

    Parameters
    ----------
    model : LanguageModel
        With a tokenizer.
    prompts : sequence of str or Record
        What is continued or answered, the first of them first; each is used again, with other
        draws, once all were. For self-instruct the seeds: records, or texts with an instruction and
        its answer.
    settings : DataSettings
        With the sampling's seed replaced by `seed`, and its delta by the mark's.
    mark : Mark or None
        None for unmarked twins.
    out : path
        A file that was made with other settings is refused.
    seed : int
        Seed of all draws.
    format : str
        Of self-instruct: which of `FORMATS` the examples have.
    batch_size : int, optional
        Texts at once, by default 32 on a CPU and 128 on a GPU. Of self-instruct also those that
        are asked for before new records can be examples, so that records depend on it.
    fresh : bool
        Whether to start over.
    progress : callable, optional
        Called with a `Progress` after every batch: records in the file, those asked for, and the
        tokens of all texts.
    stop : callable, optional
        Asked between batches; once it returns True, the rest is left.

    Returns
    -------
    RecordsReport

    Raises
    ------
    ArgumentError, ModelError, StateError
        As `radscore.models.generate`.
    """
    if format not in FORMATS:
        raise ArgumentError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    if not prompts:
        raise ArgumentError("prompts must not be empty")
    sampling = replace(
        settings.sampling,
        seed=seed,
        delta=None if mark is None else mark.delta or settings.sampling.delta,
        chat=settings.sampling.chat or settings.kind == "answers",
    )
    reader = as_language_model(model)
    if batch_size is None:
        batch_size = _BATCH.get(reader.device.type, 32)
    check_width("batch_size", batch_size, 1, 2**20)
    scheme = None if mark is None else mark.scheme
    writer = TextWriter(reader, scheme, sampling, batch_size)
    source = _source(reader, prompts, settings, seed=seed, form=FORMATS[format], n=batch_size)
    if isinstance(source, _Texts):
        writer.check(source.every[: settings.n_records])
    with Journal(out, {**writer.settings, **source.settings}, fresh=fresh) as journal:
        work = _Work(writer, source, journal, Path(out))
        for _ in work.batches(settings.n_records):
            if progress is not None:
                done = min(len(source.kept), settings.n_records)
                progress(Progress(done, settings.n_records, work.n_tokens))
            if stop is not None and stop():
                break
        n_left = max(settings.n_records - len(source.kept), 0)
        return RecordsReport(
            n_records=len(source.kept),
            n_left=n_left,
            n_texts=work.n_texts,
            n_before=work.n_before,
            n_tokens=work.n_tokens,
            n_parsed=source.n_parsed,
            n_broken=source.n_broken,
            dropped=dict(sorted(source.dropped.items())),
            notes=tuple(_notes(work, n_left)),
        )


def _notes(work: _Work, n_left: int) -> Iterator[str]:
    if work.idle >= _PATIENCE:
        yield (
            f"{n_left} records are missing: the last {work.idle} batches of texts brought nothing "
            "new (texts of marks that leave nothing to chance are the same after the same prompt; "
            "small models seldom keep to a format); give more prompts"
        )


class _Work:
    """Asks, writes and judges, batch by batch; what the file holds already is not written again."""

    def __init__(self, writer: TextWriter, source: _Source, journal: Journal, out: Path) -> None:
        self._writer, self._source, self._journal, self._out = writer, source, journal, out
        self._lines = {
            (line["prompt_id"], line["sample"]): (number, line) for number, line in _lines(out)
        }
        self.n_before = len(self._lines)
        self.n_texts = self.idle = 0

    @property
    def n_tokens(self) -> int:
        return self._journal.usage.completion_tokens

    def batches(self, n_records: int) -> Iterator[None]:
        """Until there are so many records, or nothing new comes any more."""
        kept = self._source.kept
        while len(kept) < n_records and self.idle < _PATIENCE:
            before = len(kept)
            self._batch(self._source.questions(n_records - before))
            self.idle = 0 if len(kept) > before else self.idle + 1
            yield

    def _batch(self, questions: list[Question]) -> None:
        found = [self._lines.pop(one.key, None) for one in questions]
        written: dict[tuple[str, int], Written] = {}
        if None in found:  # a batch that is there in part is written again as a whole
            for texts in self._writer.write(questions):
                written |= {one.question.key: one for one in texts}
        new = []
        for question, there in zip(questions, found, strict=True):
            if there is not None:
                self._source.take(there[1], f"{self._out}:{there[0]}")
                continue
            content = written[question.key].record()
            content |= self._source.judge(question, content)
            line = {"prompt_id": question.prompt_id, "prompt": question.prompt, **content}
            self._source.take(line, str(self._out))
            new.append((question, content))
        if new:
            self._journal.answers(new)
        self.n_texts += len(questions)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a journal that was just opened, with their numbers."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.isspace():
                line = json.loads(raw)
                del line["settings"], line["provenance"]
                yield number, line


class _Source:
    """What is asked, batch by batch, and which answers are kept.

    Every decision depends on the earlier texts alone, so that reading them again from the file
    leads to the same.
    """

    def __init__(self, model: LanguageModel, settings: DataSettings) -> None:
        self._model = model
        self._least = settings.min_tokens
        self.settings: dict[str, Any] = {"kind": settings.kind, "min_tokens": settings.min_tokens}
        self.kept: list[Record] = []
        self.dropped: Counter[str] = Counter()
        self.n_parsed = self.n_broken = 0

    def questions(self, wanted: int) -> list[Question]:
        """The next ones, of which `wanted` records are needed."""
        raise NotImplementedError

    def judge(self, question: Question, text: dict[str, Any]) -> dict[str, Any]:
        """What a text's line says about its records, beside the text."""
        raise NotImplementedError

    def take(self, line: dict[str, Any], where: str) -> None:
        """Counts a line, and keeps its records."""
        found = list(records_of(line, where))
        self.kept += found
        dropped = line.get("dropped") or {}
        if not isinstance(dropped, dict):
            raise StateError(f"{where}: dropped must be an object")
        self.dropped.update({str(name): int(number) for name, number in dropped.items()})


class _Texts(_Source):
    """Continuations of prompts, or answers to them."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[str],
        settings: DataSettings,
        seed: int,
        n: int,
    ) -> None:
        super().__init__(model, settings)
        self._prompts, self._seed, self._n = prompts, seed, n
        self._sample = self._next = 0
        self.every = questions_of(prompts, seed=seed)
        self._seen: set[tuple[str, str]] = set()

    def questions(self, wanted: int) -> list[Question]:
        """The next prompts; after the last one come other samples of the first ones."""
        if self._next == len(self.every):
            self._sample, self._next = self._sample + 1, 0
            again = questions_of(self._prompts, samples=self._sample + 1, seed=self._seed)
            self.every = [one for one in again if one.sample == self._sample]
        first = self._next
        self._next = min(first + min(self._n, wanted), len(self.every))
        return self.every[first : self._next]

    def judge(self, question: Question, text: dict[str, Any]) -> dict[str, Any]:
        if len(text["tokens"]) < self._least:
            return {"dropped": {"short": 1}}
        key = question.prompt, text["text"]
        if key in self._seen:
            return {"dropped": {"duplicate": 1}}
        return {}

    def take(self, line: dict[str, Any], where: str) -> None:
        super().take(line, where)
        self._seen.add((line["prompt"], line["text"]))


class _Instructions(_Source):
    """The next records after three examples."""

    def __init__(
        self,
        model: LanguageModel,
        seeds: Sequence[Record],
        settings: DataSettings,
        *,
        seed: int,
        n: int,
        form: Format,
    ) -> None:
        super().__init__(model, settings)
        self._seeds, self._seed, self._n, self._form = seeds, seed, n, form
        self._tokens = settings.sampling.max_tokens
        self._batch = 0
        self._seen = Seen(settings.max_overlap)
        for one in seeds:
            self._seen.is_new(one.prompt)
        whole = json.dumps([[one.prompt, one.answer] for one in seeds])
        self.settings |= {
            "max_overlap": settings.max_overlap,
            "format": asdict(form),
            "seeds": hashlib.sha256(whole.encode()).hexdigest(),
            "batch_size": n,
        }

    def questions(self, wanted: int) -> list[Question]:  # noqa: ARG002
        """As many as a batch has: how many records they bring nobody knows."""
        names = [f"{self._seed}/{self._batch}/{i}" for i in range(self._n)]
        self._batch += 1
        made = []
        for name in names:
            prompt = self._prompt(name)
            digest = hashlib.sha256(f"{name}/{prompt}".encode()).digest()
            number = int.from_bytes(digest[:4], "big") >> 1
            made.append(Question(prompt, digest.hex()[:16], 0, number))
        return made

    def _prompt(self, name: str) -> str:
        """With as many examples as the model can read, at most three."""
        prompt = ""
        for number in range(N_EXAMPLES, 0, -1):
            prompt = examples_prompt(self._seeds, self.kept, self._form, name, number)
            longest = self._model.max_length
            if longest is None or self._length(prompt) + _ROOM + self._tokens <= longest:
                break
        return prompt

    def judge(self, question: Question, text: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        cut = text["finish_reason"] == "length"
        found, broken = parse(text["text"], cut=cut)
        records: list[dict[str, Any]] = []
        dropped: Counter[str] = Counter()
        for one in found:
            tokens = span_of(
                self._model.tokenizer, text["tokens"], one.start, one.end, text["text"]
            )
            n_tokens = len(tokens) or self._length(one.answer)
            if n_tokens < self._least:
                dropped["short"] += 1
            elif not self._seen.is_new(one.instruction):
                dropped["duplicate"] += 1
            else:
                records.append(
                    {
                        "prompt": one.instruction,
                        "answer": one.answer,
                        "tokens": tokens.tolist(),
                        "ended": not (cut and one.last),
                    }
                )
        parsed = {"parsed": len(found), "broken": broken}
        return {"records": records, "dropped": dict(dropped), **parsed}

    def _length(self, text: str) -> int:
        assert self._model.tokenizer is not None
        return len(self._model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def take(self, line: dict[str, Any], where: str) -> None:
        before = len(self.kept)
        super().take(line, where)
        for one in self.kept[before:]:
            self._seen.is_new(one.prompt)
        self.n_parsed += int(line.get("parsed", 0))
        self.n_broken += int(line.get("broken", 0))


def _source(
    model: LanguageModel,
    prompts: Sequence[str | Record],
    settings: DataSettings,
    *,
    seed: int,
    form: Format,
    n: int,
) -> _Source:
    if settings.kind == "self-instruct":
        return _Instructions(model, seeds_of(prompts, form), settings, seed=seed, n=n, form=form)
    texts = [one.prompt if isinstance(one, Record) else one for one in prompts]
    return _Texts(model, texts, settings, seed, n)
