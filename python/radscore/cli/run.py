"""One run of ``radscore score``: the loop over batches, its state file and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from radscore.cli.exits import UsageError
from radscore.cli.per_document import DocumentRows
from radscore.cli.progress import Progress
from radscore.errors import RadscoreError, StateError

if TYPE_CHECKING:
    from types import TracebackType

    from radscore.corpus import Batch, Corpus
    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult

__all__ = ["Rules", "ScoreRun"]

_VERSION = 1
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


class ScoreRun:
    """Scores a corpus; can be interrupted and taken up again, with the same result.

    Parameters
    ----------
    corpus, scheme, rules
        What is scored, and how.
    state : path
        The state file; beside it ``<state>.documents`` holds the rows of single documents.
    resume : bool
        Whether to go on from the state file.
    """

    def __init__(
        self, corpus: Corpus, scheme: Any, rules: Rules, state: str, *, resume: bool
    ) -> None:
        from radscore.scoring import Scorer

        self._corpus = corpus
        self._scheme = scheme
        self._rules = rules
        self._state = Path(state)
        self._rows_file = Path(f"{state}.documents")
        self._cursor: dict[str, Any] | None = None
        self.documents = DocumentRows() if rules.per_document else None
        if resume:
            self._scorer = self._load()
            return
        if self._state.exists():
            raise UsageError(
                f"{state} is there, of a run that was interrupted: add --resume to go on with it, "
                "remove it, or name another --state"
            )
        self._scorer = Scorer(
            scheme,
            rules.dedup,
            filter=rules.filter,
            start=rules.start,
            threads=rules.threads,
            prompt_role=rules.prompt_role,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After an error hours of work are not lost: what was read before it is saved."""
        if isinstance(error, RadscoreError) and self._long:
            self._save()
            print(
                f"radscore: what was scored before the error is saved in {self._state}; mend the "
                "command (as with --on-error skip) and add --resume",
                file=sys.stderr,
            )

    _long = False  # whether the run has lasted long enough for a state to be worth keeping

    def score(self, *, save_every: float, quiet: bool, show_progress: bool) -> bool:
        """Reads and scores to the end (True), or until Ctrl-C or SIGTERM (False)."""
        done_bytes = 0 if self._cursor is None else int(self._cursor["bytes"])
        progress = Progress(
            self._corpus.total_bytes, done_bytes=done_bytes, quiet=quiet, asked=show_progress
        )
        wait, last = save_every, time.monotonic()
        batches = self._corpus.batches(self._cursor)
        with _Interrupts() as interrupts:
            try:
                for batch in batches:
                    if interrupts.asked:
                        break
                    self._add(batch)
                    progress.add(batch.n_bytes, batch.documents.n_tokens)
                    if time.monotonic() - last >= wait:
                        took = self._save()
                        self._long = True
                        wait, last = max(save_every, took / _SAVING_SHARE), time.monotonic()
                    if interrupts.asked:
                        break
                else:
                    return True
            finally:
                progress.close()
                close = getattr(batches, "close", None)
                if close is not None:
                    close()
            if self._cursor is None:
                print("radscore: interrupted before anything was scored", file=sys.stderr)
                return False
            self._save()
        print(
            f"radscore: interrupted after {self._cursor['documents']} documents; the state is in "
            f"{self._state}, the same command with --resume goes on",
            file=sys.stderr,
        )
        return False

    def _add(self, batch: Batch) -> None:
        rules = self._rules
        self._scorer.add(batch.documents, batch.prompts)
        if self.documents is not None:
            from radscore.scoring import score_documents

            scores = score_documents(
                batch.documents,
                self._scheme,
                rules.dedup,
                prompts=batch.prompts,
                filter=rules.filter,
                start=rules.start,
                threads=rules.threads,
                prompt_role=rules.prompt_role,
                max_contexts=rules.max_contexts,
            )
            self.documents.add(batch, scores)
        self._cursor = batch.cursor

    def result(self) -> ScoreResult:
        """The test of the whole corpus."""
        result: ScoreResult = self._scorer.result()
        return replace(result, n_skipped=self._corpus.skipped.count)

    def _save(self) -> float:
        """Saves the state; returns the seconds it took."""
        before = time.monotonic()
        if self.documents is not None:
            self.documents.save(self._rows_file)  # first: the state says how many rows count
        self._scorer.save(self._state, extra=self._extra())
        return time.monotonic() - before

    def _extra(self) -> dict[str, Any]:
        return {
            "run": _VERSION,
            "manifest": self._corpus.manifest(),
            "settings": self._settings(),
            "cursor": self._cursor,
            "max_contexts": self._rules.max_contexts,
            "rows": None if self.documents is None else len(self.documents),
        }

    def _settings(self) -> dict[str, Any]:
        # A run may go on with another on_error: that is how one gets past a bad record.
        settings = self._corpus.settings
        del settings["on_error"]
        return settings

    def _load(self) -> Any:
        from radscore.scoring import Scorer

        if not self._state.exists():
            raise StateError(f"{self._state}: there is no state to resume from")
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
        self._same("--dedup", rules.dedup, scorer.dedup)
        self._same("--start", rules.start, scorer.start)
        self._same("--prompt-role", rules.prompt_role, scorer.prompt_role)
        self._same("--per-document", rules.per_document, rows is not None)
        self._same("--max-contexts", rules.max_contexts, extra.get("max_contexts"))
        for name, value in self._settings().items():
            self._same(f"--{name.replace('_', '-')}", value, settings.get(name))
        self._same_files(manifest)
        if self.documents is not None:
            self.documents.load(self._rows_file, rows)
        return scorer

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
        self._rows_file.unlink(missing_ok=True)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "not given" if value is None else str(value)


class _Interrupts:
    """Ctrl-C and SIGTERM end the work after the present batch; a second one at once."""

    asked = False

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print(): the signal may have come in the middle of one.
        os.write(2, b"\nradscore: stopping after this batch; again to stop at once\n")

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
