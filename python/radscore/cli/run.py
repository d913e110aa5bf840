"""One run of ``radscore score``: the loop over batches, its state file and Ctrl-C."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscore import _core
from radscore.cli.exits import UsageError, writing
from radscore.cli.interrupts import Interrupts
from radscore.cli.output import count
from radscore.cli.per_document import DocumentRows
from radscore.cli.progress import Progress
from radscore.errors import RadscoreError, StateError

if TYPE_CHECKING:
    from types import TracebackType

    from radscore.corpus import Batch, Corpus
    from radscore.kgrams import KgramSet
    from radscore.results import DocumentScores, ScoreResult

__all__ = ["Rules", "ScoreRun"]

_VERSION = 1
#: How a state begins.
_MAGIC = b"RSST"
# Saving may take this share of the time at most, however large the state has grown.
_SAVING_SHARE = 0.05


@dataclass(frozen=True)
class Rules:
    """How the corpus is scored."""

    dedup: Any
    filter: KgramSet | None
    start: int | None
    prompt_role: Any
    max_contexts: int | None
    threads: int | None
    per_document: bool
    max_sharing: int | None


class ScoreRun:
    """Scores a corpus; can be interrupted and taken up again, with the same result.

    Parameters
    ----------
    corpus, scheme, rules
        What is scored, and how.
    state : path
        The state file; beside it ``<state>.documents`` holds the rows of single documents, and
        ``<state>.sharing.0`` or ``.1``, which takes turns and is named in the state, what they
        share.
    resume : bool
        Whether to go on from the state file.
    """

    def __init__(
        self, corpus: Corpus, scheme: Any, rules: Rules, state: str, *, resume: bool
    ) -> None:
        from radscore.scoring.scorer import Scorer

        self._corpus = corpus
        self._scheme = scheme
        self._rules = rules
        self._state = Path(state)
        self._rows_file = Path(f"{state}.documents")
        self._sharing_files = [Path(f"{state}.sharing.{turn}") for turn in (0, 1)]
        self._turn = 0  # of the file that is written next
        _check_state(self._state, resume=resume)
        self._cursor: dict[str, Any] | None = None
        self._interrupts = Interrupts()
        self._long = False  # whether the run has lasted long enough for its state to be kept
        self._torn = False  # whether the scorer holds a part of a batch
        self.documents = DocumentRows() if rules.per_document else None
        self._sharing = None if rules.max_sharing is None else _core.Sharing(rules.max_sharing)
        if resume:
            self._scorer = self._load()
            return
        self._scorer = Scorer(
            scheme,
            dedup=rules.dedup,
            filter=rules.filter,
            start=rules.start,
            threads=rules.threads,
            prompt_role=rules.prompt_role,
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
        """After an error hours of work are not lost: what was read before it is saved."""
        self._interrupts.__exit__()
        if isinstance(error, KeyboardInterrupt):
            kept = f"the state saved before is kept in {self._state}"
            raise KeyboardInterrupt(kept if self._state.exists() else "nothing was saved") from None
        if isinstance(error, (RadscoreError, OSError)) and self._long and not self._torn:
            self._save()
            print(
                f"radscore: what was scored before the error is saved in {self._state}; mend the "
                "command (as with --on-error skip) and add --resume",
                file=sys.stderr,
            )

    def score(self, *, save_every: float, quiet: bool, show_progress: bool) -> bool:
        """Reads and scores to the end (True), or until Ctrl-C or SIGTERM (False)."""
        done_bytes = 0 if self._cursor is None else int(self._cursor["bytes"])
        progress = Progress(
            self._corpus.total_bytes, done_bytes=done_bytes, quiet=quiet, asked=show_progress
        )
        wait, last = save_every, time.monotonic()
        batches = self._corpus.batches(self._cursor)
        try:
            for batch in batches:
                if self._interrupts.asked or not self._add(batch):
                    break
                progress.add(batch.n_bytes, batch.documents.n_tokens)
                if time.monotonic() - last >= wait:
                    took = self._save()
                    self._long = True
                    wait, last = max(save_every, took / _SAVING_SHARE), time.monotonic()
            else:
                return True
        finally:
            progress.close()
            batches.close()
        self._interrupted()
        return False

    def _add(self, batch: Batch) -> bool:
        """Scores a batch; False where a signal came before it was taken in."""
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
            # What a batch shares counts if the batch does.
            if not taken and self._sharing is not None and self._sharing.n_documents != shared:
                self._sharing.undo()
        if self.documents is not None and scores is not None:
            self.documents.add(batch, scores)
        self._cursor = batch.cursor
        return True

    def _take(self, batch: Batch) -> bool:
        """Adds to the scorer; False after a signal, when the scorer's tokens tell what it took."""
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

        rules = self._rules
        with self._interrupts.raising():
            return score_batch(
                batch.documents,
                self._scheme,
                dedup=rules.dedup,
                prompts=batch.prompts,
                filter=rules.filter,
                start=rules.start,
                threads=rules.threads,
                prompt_role=rules.prompt_role,
                max_contexts=rules.max_contexts,
                max_sharing=rules.max_sharing,
                sharing=self._sharing,
            )

    def result(self) -> ScoreResult | None:
        """The test of the whole corpus; None where a signal came first."""
        try:
            with self._interrupts.raising():
                result: ScoreResult = self._scorer.result()
        except KeyboardInterrupt:
            if self._interrupts.again:
                raise
            self._interrupted()
            return None
        return replace(result, n_skipped=self._corpus.skipped.count)

    def _interrupted(self) -> None:
        """Saves the state, and says how to go on."""
        if self._torn:
            earlier = "; the state saved before is kept" if self._state.exists() else ""
            text = f"inside of a document of more than 2^24 tokens, which cannot be saved{earlier}"
        elif self._cursor is None:
            text = "before anything was scored"
        else:
            self._save()
            text = (
                f"after {count(self._cursor['documents'], 'document')}; the state is in "
                f"{self._state}, "
                "the same command with --resume goes on"
            )
        print(f"radscore: interrupted {text}", file=sys.stderr)

    def _save(self) -> float:
        """Saves the state; returns the seconds it took."""
        before = time.monotonic()
        if self.documents is not None:
            self.documents.save(self._rows_file)  # first: the state says how many rows count
        with writing():
            if self._sharing is not None:  # not over the file that the last state names
                self._sharing.save(self._sharing_files[self._turn])
            self._scorer.save(self._state, extra=self._extra())
        self._turn = 1 - self._turn
        return time.monotonic() - before

    def _extra(self) -> dict[str, Any]:
        return {
            "run": _VERSION,
            "manifest": self._corpus.manifest(),
            "settings": self._settings(),
            "cursor": self._cursor,
            "max_contexts": self._rules.max_contexts,
            "rows": None if self.documents is None else self.documents.stamp,
            "max_sharing": self._rules.max_sharing,
            "turn": self._turn,
        }

    def _settings(self) -> dict[str, Any]:
        # A run may go on with another on_error: that is how one gets past a bad record.
        settings = self._corpus.settings
        del settings["on_error"]
        return settings

    def _load(self) -> Any:
        from radscore.scoring.scorer import Scorer

        rules = self._rules
        scorer = Scorer.load(self._state, self._scheme, filter=rules.filter, threads=rules.threads)
        extra = scorer.extra
        try:
            manifest, settings, rows = extra["manifest"], extra["settings"], extra["rows"]
            self._cursor = dict(extra["cursor"])
            version = extra["run"]
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{self._state} is no state of radscore score") from None
        if version != _VERSION:
            raise StateError(f"{self._state} is of version {version}, not {_VERSION}")
        self._same("--dedup", rules.dedup, scorer.rules.dedup)
        self._same("--start", rules.start, scorer.rules.start)
        self._same("--prompt-role", rules.prompt_role, scorer.rules.prompt_role)
        self._same("--per-document", rules.per_document, rows is not None)
        self._same("--max-contexts", rules.max_contexts, extra.get("max_contexts"))
        self._same("--max-sharing", rules.max_sharing, extra.get("max_sharing"))
        for name, value in self._settings().items():
            self._same(f"--{name.replace('_', '-')}", value, settings.get(name))
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
                f"{self._state} was made with another {name} ({_shown(then)}, now {_shown(now)})"
            )

    def _same_files(self, manifest: Any) -> None:
        now = self._corpus.manifest()
        for one, other in zip(now, manifest, strict=False):
            if one["path"] != other.get("path"):
                raise StateError(
                    f"{self._state} was made of other files: {other.get('path')}, now {one['path']}"
                )
            if one != other:
                raise StateError(f"{one['path']} has changed since {self._state} was saved")
        if len(now) != len(manifest):
            raise StateError(
                f"{self._state} was made of {len(manifest)} files, now there are {len(now)}"
            )

    def discard_state(self) -> None:
        """Removes the state: the run is done."""
        self._state.unlink(missing_ok=True)
        for path in (self._rows_file, *self._sharing_files):
            path.unlink(missing_ok=True)


def _check_state(path: Path, *, resume: bool) -> None:
    """Raises unless there is a state where one is needed, and none where it would be lost."""
    if not path.exists():
        if resume:
            raise UsageError(f"--state: {path} is not there; there is no state to resume from")
        return
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UsageError(
                f"--state: {path} is there, and is no state of radscore; name another file"
            )
    if not resume:
        raise UsageError(
            f"--state: {path} is there, of a run that was interrupted: add --resume to go on with "
            "it, remove it, or name another file"
        )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "not given" if value is None else str(value)
