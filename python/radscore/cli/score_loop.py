"""`ScoreLoop`: scores a corpus batch by batch, and saves its state so that it can be continued."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscore import _core
from radscore.cli.exits import UsageError, writing
from radscore.cli.interrupts import Interrupts
from radscore.cli.output import count, note
from radscore.cli.parser import option
from radscore.cli.per_document import DocumentRows
from radscore.cli.report import KeyTest
from radscore.errors import RadscoreError, StateError
from radscore.progress import Progress
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from radscore.cli.progress import ProgressBar
    from radscore.corpus import Batch, Corpus
    from radscore.kgrams import KgramSet
    from radscore.results import DocumentScores
    from radscore.stats import DecoyResult

__all__ = ["ScoreLoop", "ScoreOptions"]

_VERSION = 2
#: How a state begins.
_MAGIC = b"RSST"
#: Largest share of the time that goes into saving, however large the state becomes.
_SAVING_SHARE = 0.05


@dataclass(frozen=True)
class ScoreOptions:
    """How to score: the options of ``radscore score`` that decide on the result."""

    dedup: Any
    filter: KgramSet | None
    start: int | None
    prompt_role: Any
    max_contexts: int | None
    threads: int | None
    per_document: bool
    max_sharing: int | None
    decoys: int | None = None


class ScoreLoop:
    """Scores a corpus; if it is interrupted, the same command continues with the same result.

    Used as a context manager. The state that is saved always holds whole batches, never a part of
    one. After an error that took long to reach, what was scored before it is saved as well.

    Parameters
    ----------
    corpus, schemes, options
        What to score, for what (one scheme under the keys to test, then under decoys), and how.
    state : path
        The state file. If it exists, the loop continues from it. Beside it, ``<state>.documents``
        holds the rows of single documents and ``<state>.sharing.0`` or ``.1``, in turn, what they
        share; the state says which.
    fresh : bool
        Whether to delete the state instead of continuing from it.
    """

    def __init__(
        self, corpus: Corpus, schemes: Any, options: ScoreOptions, state: str, *, fresh: bool
    ) -> None:
        self._corpus = corpus
        self._schemes = schemes
        self._options = options
        self._state = Path(state)
        self._rows_file = Path(f"{state}.documents")
        self._sharing_files = [Path(f"{state}.sharing.{turn}") for turn in (0, 1)]
        self._turn = 0  # of the file that is written next
        self._cursor: dict[str, Any] | None = None
        self._interrupts = Interrupts()
        self._long = False  # whether the work is worth saving after an error
        self._torn = False  # whether the scorer holds part of a batch
        self.documents = DocumentRows() if options.per_document else None
        self._sharing = None if options.max_sharing is None else _core.Sharing(options.max_sharing)
        _check_state(self._state)
        if fresh:
            self.discard_state()
        if self._state.exists():
            try:
                self._scorer = self._load()
            except StateError as error:
                raise StateError(f"{error}; start over with --fresh") from None
            return
        self._scorer = Scorer(
            schemes,
            dedup=options.dedup,
            filter=options.filter,
            start=options.start,
            threads=options.threads,
            prompt_role=options.prompt_role,
        )

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._interrupts.__exit__()
        if isinstance(error, KeyboardInterrupt):
            kept = f"the state saved before is still in {self._state}"
            raise KeyboardInterrupt(kept if self._state.exists() else "nothing was saved") from None
        if isinstance(error, (RadscoreError, OSError)) and self._long and not self._torn:
            self._save()
            note(
                f"everything scored before the error is saved in {self._state}; fix the command "
                "(--on-error skip, say) and rerun it to continue"
            )

    def score(self, bar: ProgressBar, *, save_every: float) -> bool:
        """Reads and scores to the end (True), or until Ctrl-C or SIGTERM (False)."""
        n_bytes, total = 0, self._corpus.total_bytes
        if self._cursor is not None:
            n_bytes = int(self._cursor["bytes"])
            done = count(self._cursor["documents"], "document")
            note(f"continuing from {self._state}, after {done}")
        bar.begin(Progress(n_bytes, total, self._scorer.n_tokens))
        wait, last = save_every, time.monotonic()
        batches = self._corpus.batches(self._cursor)
        try:
            for batch in batches:
                if self._interrupts.asked or not self._add(batch):
                    break
                n_bytes += batch.n_bytes
                bar.show(Progress(n_bytes, total, self._scorer.n_tokens))
                if time.monotonic() - last >= wait:
                    took = self._save()
                    self._long = True
                    wait, last = max(save_every, took / _SAVING_SHARE), time.monotonic()
            else:
                return True
        finally:
            bar.close()
            batches.close()
        self._interrupted()
        return False

    def _add(self, batch: Batch) -> bool:
        """Scores a batch; False if a signal came before it was taken in."""
        shared = None if self._sharing is None else self._sharing.n_documents
        taken = False
        try:
            scores = self._each_document(batch)
            before = self._scorer.n_tokens
            taken = self._take(batch) or (
                self._scorer.n_tokens == before + batch.documents.n_tokens
            )
            if not taken:
                self._torn = self._scorer.n_tokens != before
                return False
        except KeyboardInterrupt:
            if self._interrupts.again:
                raise
            return False
        finally:
            # What a batch shares counts only if the batch does.
            if not taken and self._sharing is not None and self._sharing.n_documents != shared:
                self._sharing.undo()
        if self.documents is not None and scores is not None:
            self.documents.add(batch, scores)
        self._cursor = batch.cursor
        return True

    def _take(self, batch: Batch) -> bool:
        """Adds a batch to the scorer; False after a signal, when its tokens tell what it took."""
        if batch.documents.n_tokens == 0:
            self._scorer.add(batch.documents, batch.prompts)
            return True
        try:
            with self._interrupts.raising():
                self._scorer.add(batch.documents, batch.prompts)
        except KeyboardInterrupt:
            if self._interrupts.again:
                raise
            return False
        return True

    def _each_document(self, batch: Batch) -> DocumentScores | None:
        if self.documents is None:
            return None
        from radscore.scoring.per_document import score_batch

        options = self._options
        with self._interrupts.raising():
            return score_batch(
                batch.documents,
                self._schemes[0],
                dedup=options.dedup,
                prompts=batch.prompts,
                filter=options.filter,
                start=options.start,
                threads=options.threads,
                prompt_role=options.prompt_role,
                max_contexts=options.max_contexts,
                max_sharing=options.max_sharing,
                sharing=self._sharing,
            )

    def tests(self, labels: Sequence[str]) -> list[KeyTest] | None:
        """The test of the whole corpus for each key; None if a signal came first.

        What comes after the keys are decoys.
        """
        try:
            with self._interrupts.raising():
                results = self._scorer.results(len(labels))
                decoys = [self._decoy_test(index) for index in range(len(labels))]
        except KeyboardInterrupt:
            if self._interrupts.again:
                raise
            self._interrupted()
            return None
        skipped = self._corpus.skipped.count
        return [
            KeyTest(replace(result, n_skipped=skipped), label, compared)
            for result, label, compared in zip(results, labels, decoys, strict=True)
        ]

    def _decoy_test(self, index: int) -> DecoyResult | None:
        if (n := self._options.decoys) is None:
            return None
        scheme, place = self._schemes[index], {one: i for i, one in enumerate(self._schemes)}
        return self._scorer.decoy_test(index, [place[decoy] for decoy in scheme.decoys(n)])

    def _interrupted(self) -> None:
        """Saves the state, and says how to continue."""
        if self._torn:
            earlier = "; the state saved before is kept" if self._state.exists() else ""
            text = f"inside a document of more than 2^24 tokens, which cannot be saved{earlier}"
        elif self._cursor is None:
            text = "before anything was scored"
        else:
            self._save()
            done = count(self._cursor["documents"], "document")
            text = f"after {done}; rerun the command to continue from {self._state}"
        note(f"interrupted {text}")

    def _save(self) -> float:
        """Saves the state; returns the seconds it took."""
        before = time.monotonic()
        if self.documents is not None:
            self.documents.save(self._rows_file)  # first, since the state says how many rows count
        with writing():
            if self._sharing is not None:  # not over the file that the last state names
                self._sharing.save(self._sharing_files[self._turn])
            self._scorer.save(self._state, extra=self._extra())
        self._turn = 1 - self._turn
        return time.monotonic() - before

    def _extra(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "manifest": self._corpus.manifest(),
            "settings": self._settings(),
            "cursor": self._cursor,
            "max_contexts": self._options.max_contexts,
            "rows": None if self.documents is None else self.documents.stamp,
            "max_sharing": self._options.max_sharing,
            "turn": self._turn,
        }

    def _settings(self) -> dict[str, Any]:
        # on_error may change, since that is how one gets past a bad record.
        settings = self._corpus.settings
        del settings["on_error"]
        return settings

    def _load(self) -> Scorer:
        options = self._options
        scorer = Scorer.load(
            self._state, self._schemes, filter=options.filter, threads=options.threads
        )
        extra = scorer.extra
        if (version := extra.get("version", 1)) != _VERSION:
            raise StateError(
                f"{self._state} has version {version}, but this radscore reads version {_VERSION}"
            )
        try:
            manifest, settings, rows = extra["manifest"], extra["settings"], extra["rows"]
            self._cursor = dict(extra["cursor"])
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{self._state} is not a state of radscore score") from None
        self._same("--dedup", options.dedup, scorer.rules.dedup)
        self._same("--start", options.start, scorer.rules.start)
        self._same("--prompt-role", options.prompt_role, scorer.rules.prompt_role)
        self._same("--per-document", options.per_document, rows is not None)
        self._same("--max-contexts", options.max_contexts, extra.get("max_contexts"))
        self._same("--max-sharing", options.max_sharing, extra.get("max_sharing"))
        for name, value in self._settings().items():
            self._same(option(name), value, settings.get(name))
        self._same_files(manifest)
        if self.documents is not None:
            self.documents.load(self._rows_file, rows)
            self._load_sharing(int(extra.get("turn", 0)) & 1)
        return scorer

    def _load_sharing(self, turn: int) -> None:
        """Takes what the documents of the state share."""
        if self._sharing is None or self.documents is None:
            return
        self._sharing = _core.Sharing.load(self._sharing_files[turn])
        if self._sharing.n_documents != len(self.documents):
            raise StateError(f"{self._sharing_files[turn]} does not belong to {self._state}")
        self._turn = 1 - turn

    def _same(self, name: str, now: Any, then: Any) -> None:
        if now != then:
            raise StateError(
                f"{self._state} is of a command with another {name} ({_shown(then)}, now "
                f"{_shown(now)})"
            )

    def _same_files(self, manifest: Any) -> None:
        now = self._corpus.manifest()
        for one, other in zip(now, manifest, strict=False):
            if one["path"] != other.get("path"):
                raise StateError(
                    f"{self._state} is of other files: {other.get('path')}, now {one['path']}"
                )
            if one != other:
                raise StateError(f"{one['path']} has changed since {self._state} was saved")
        if len(now) != len(manifest):
            raise StateError(f"{self._state} is of {len(manifest)} files, now there are {len(now)}")

    def discard_state(self) -> None:
        """Deletes the state."""
        self._state.unlink(missing_ok=True)
        for path in (self._rows_file, *self._sharing_files):
            path.unlink(missing_ok=True)


def _check_state(path: Path) -> None:
    """Raises if something else than a state is there, which must not be overwritten."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UsageError(f"--state: {path} is not a radscore state; name another file")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "not given" if value is None else str(value)
