"""`ScoreLoop`: scores a corpus batch by batch, and saves its state so that it can be continued."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from radscore import _core
from radscore.cli.exits import writing
from radscore.cli.interrupts import Interrupts
from radscore.cli.output import count, note
from radscore.cli.parser import option
from radscore.cli.per_document import DocumentRows
from radscore.cli.report import KeyTest
from radscore.errors import RadscoreError, StateError, TokenError
from radscore.progress import Progress
from radscore.provenance import of_corpus
from radscore.scoring.anytime import with_anytime
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.cli.progress import ProgressBar
    from radscore.cli.state_files import StateFiles
    from radscore.corpus import Batch, Corpus
    from radscore.kgrams import KgramSet
    from radscore.results import DocumentScores
    from radscore.stats import DecoyResult

__all__ = ["ScoreLoop", "ScoreOptions"]

_VERSION = 3
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
    anytime: float | None = None


class ScoreLoop:
    """Scores a corpus; if it is interrupted, the same command continues with the same result.

    Used as a context manager. The state that is saved always holds whole batches, never a part of
    one. After an error that took long to reach, or that comes after the result (which could not be
    printed, say), what was scored is saved as well. A state that cannot be saved is a warning.

    Parameters
    ----------
    corpus, schemes, options
        What to score, for what (one scheme under the keys to test, then under decoys), and how.
    files : StateFiles
        The state, entered. If it exists, the loop continues from it. It says which of the two files
        of what documents share goes with it.
    fresh : bool
        Whether to delete the state instead of continuing from it.
    """

    def __init__(
        self, corpus: Corpus, schemes: Any, options: ScoreOptions, files: StateFiles, *, fresh: bool
    ) -> None:
        self._corpus = corpus
        self._schemes = schemes
        self._options = options
        self._files = files
        self._state = files.state
        self._turn = 0  # of the file that is written next
        self._cursor: dict[str, Any] | None = None
        self._saved: dict[str, Any] | None = None  # the cursor of the last state
        self._unsaved = ""  # why there is no newer one
        self._scored = False  # whether there is a result
        self._interrupts = Interrupts()
        self._long = False  # whether the work is worth saving after an error
        self._torn = False  # whether the scorer holds part of a batch
        self.documents = DocumentRows() if options.per_document else None
        self._sharing = None if options.max_sharing is None else _core.Sharing(options.max_sharing)
        if fresh:
            files.discard()
        if files.exist:
            try:
                self._scorer = self._load()
            except StateError as error:
                raise StateError(
                    f"{error}; start over with --fresh, or name another file with --state"
                ) from None
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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._interrupts.__exit__()
        if isinstance(error, KeyboardInterrupt):
            kept = f"the state saved before is still in {self._state}"
            raise KeyboardInterrupt(kept if self._files.exist else "nothing was saved") from None
        if not isinstance(error, (RadscoreError, OSError, MemoryError)) or self._torn:
            return
        if self._scored:
            if self._is_saved() and not isinstance(error, BrokenPipeError):
                note(f"the result is not lost: it is in {self._state}; rerun the command for it")
        elif self._long and self._is_saved():
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
        except TokenError as error:
            if not self._corpus.skipped:
                raise
            skipped = self._corpus.skipped
            raise TokenError(f"{error}; skipped {skipped}: {skipped.examples[0]}") from None
        self._scored = True
        n_skipped = self._corpus.skipped.count
        made = of_corpus(self._corpus.manifest(), self._corpus.settings)
        tests = []
        for index, (label, compared) in enumerate(zip(labels, decoys, strict=True)):
            result = with_anytime(results[index], self._schemes[index], self._options.anytime)
            about = {**result.provenance, **made}
            tests.append(
                KeyTest(replace(result, n_skipped=n_skipped, provenance=about), label, compared)
            )
        return tests

    def _decoy_test(self, index: int) -> DecoyResult | None:
        if (n := self._options.decoys) is None:
            return None
        scheme, place = self._schemes[index], {one: i for i, one in enumerate(self._schemes)}
        return self._scorer.decoy_test(index, [place[decoy] for decoy in scheme.decoys(n)])

    def _interrupted(self) -> None:
        """Saves the state, and says how to continue."""
        earlier = "; the state saved before is kept" if self._files.exist else ""
        if self._torn:
            text = f"inside a document of more than 2^24 tokens, which cannot be saved{earlier}"
        elif self._cursor is None:
            text = "before anything was scored"
        else:
            done = count(self._cursor["documents"], "document")
            if self._is_saved():
                text = f"after {done}; rerun the command to continue from {self._state}"
            else:
                text = f"after {done}, whose state cannot be saved: {self._unsaved}{earlier}"
        note(f"interrupted {text}")

    def _is_saved(self) -> bool:
        """Saves the state unless there is nothing new; whether it now holds all that was scored."""
        if self._saved is not self._cursor or not self._files.exist:
            self._save()
        return self._saved is self._cursor

    def _save(self) -> float:
        """Saves the state, or says why not; returns the seconds it took."""
        before = time.monotonic()
        try:
            self._files.check()
            with writing():
                if self.documents is not None:  # first, since the state says how many rows count
                    self.documents.save(self._files.rows)
                if self._sharing is not None:  # not over the file that the last state names
                    self._sharing.save(self._files.sharing[self._turn])
                self._scorer.save(self._state, extra=self._extra())
        except (RadscoreError, OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "out of memory"
            if reason != self._unsaved:
                self._files.warn(reason)
            self._unsaved = reason
        else:
            self._turn = 1 - self._turn
            self._saved, self._unsaved = self._cursor, ""
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
        self._saved = self._cursor
        if self.documents is not None:
            self.documents.load(self._files.rows, rows)
            self._load_sharing(int(extra.get("turn", 0)) & 1)
        return scorer

    def _load_sharing(self, turn: int) -> None:
        """Takes what the documents of the state share."""
        if self._sharing is None or self.documents is None:
            return
        self._sharing = _core.Sharing.load(self._files.sharing[turn])
        if self._sharing.n_documents != len(self.documents):
            raise StateError(f"{self._files.sharing[turn]} does not belong to {self._state}")
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


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "not given" if value is None else str(value)
