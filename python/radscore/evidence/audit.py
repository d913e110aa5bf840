"""`Audit`: plan, commit, run. What is found depends on nothing that was chosen after a score."""

from __future__ import annotations

import json
import os
import platform
import secrets as random_source
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from radscore._core import __version__
from radscore.canonical import hash_of
from radscore.errors import ArgumentError, StateError
from radscore.evidence.chain import Log
from radscore.evidence.commitment import new_nonce, opens
from radscore.evidence.plan import Plan, check_planned
from radscore.evidence.scoring import (
    PREDICTIONS,
    answers_of,
    head_hash,
    load_lists,
    log10_pvalue,
    reaches,
    save_lists,
    score_answers,
    score_predictions,
)
from radscore.evidence.witness import sign, stamp
from radscore.files import drafted, make_folder, write_atomically
from radscore.provenance import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from radscore.models.listed import Listed
    from radscore.progress import Progress
    from radscore.schemes import Scheme

__all__ = ["Audit", "Outcome"]

PLAN, SECRET, LOG = "plan.json", "secret.json", "log.jsonl"
ITEMS: Final = {"prompts": "prompts.jsonl", "texts": "texts.jsonl"}
ANSWERS: Final = "answers.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What an audit found.

    Attributes
    ----------
    verdict : {"evidence", "no evidence", "none"}
        At the planned level; "none" if there is no p-value.
    look : int
        The look at which it stopped, from 1.
    log10_pvalue, level : float
        Of that look.
    reason : str
        Why it stopped.
    result : dict
        The test of that look.
    """

    verdict: str
    look: int
    log10_pvalue: float | None
    level: float
    reason: str
    result: dict[str, Any]


class Audit:
    """An audit in a folder of its own.

    Attributes
    ----------
    folder : Path
        With ``plan.json``, ``log.jsonl`` and what was asked, drawn and answered. ``secret.json``
        opens the commitment: keep it, and give it to nobody who must not try out keys.
    plan : Plan
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.plan = Plan.read(self.folder / PLAN)

    @classmethod
    def planned(
        cls,
        settings: dict[str, dict[str, Any]],
        scheme: Scheme,
        folder: str | os.PathLike[str],
        *,
        base: str | os.PathLike[str] = ".",
    ) -> Self:
        """Plans an audit, in a new folder.

        Parameters
        ----------
        settings : dict
            See `read_settings`; paths are relative to `base`.
        scheme : Scheme
            With its key, which goes into the commitment and nowhere else.
        folder : path
            Must not exist, or be empty.
        base : path
            The folder that paths in the settings are relative to.

        Raises
        ------
        ArgumentError
            If no valid test follows from the settings.
        StateError
            If the folder holds something.
        """
        root, nonce = Path(folder), new_nonce()
        base = Path(base).absolute()
        plan = Plan.make(settings, scheme, nonce, folder=base)
        make_folder(root)
        if any(root.iterdir()):
            raise StateError(f"{root} is not empty; name another folder")
        opening = {"nonce": nonce, "commitment": plan.content["scheme"]["commitment"]}
        fd = os.open(root / SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump({**opening, "base": str(base)}, file)
        with drafted(root / PLAN, replace=False) as temporary:
            temporary.write_bytes(plan.bytes())
        with Log(root / LOG) as log:
            log.add("planned", plan=plan.sha256)
        return cls(root)

    def commit(
        self,
        *,
        beacon: str | None = None,
        source: str | None = None,
        signing_key: str | os.PathLike[str] | None = None,
        timestamp: str | None = None,
    ) -> dict[str, Any]:
        """Commits to the plan, after which it counts; or adds public randomness to it, once.

        Parameters
        ----------
        beacon : str, optional
            Hexadecimal digits of public randomness that appeared after the hash was published:
            the subset and the decoys are drawn from it.
        source : str, optional
            Where everybody can look it up.
        signing_key : path, optional
            PEM file of an Ed25519 private key, to sign the plan's hash.
        timestamp : str, optional
            Address of an RFC 3161 authority, to have it time-stamped.

        Returns
        -------
        dict
            The line of the log, with the hash to publish.

        Raises
        ------
        ArgumentError
            If the randomness is not hexadecimal, or too short.
        StateError
            If it comes too late, or for the second time.
        """
        with Log(self.folder / LOG) as log:
            self._check_plan(log)
            committed = log.of("committed")
            if not committed:
                committed = [log.add("committed", plan=self.plan.sha256)]
            if signing_key is not None:
                log.add("signed", **sign(self.plan.sha256, signing_key))
            if timestamp is not None:
                log.add("timestamp", **stamp(self.plan.sha256, timestamp))
            if beacon is None:
                return {**committed[0], "head": log.head}
            if len(beacon) < 32 or any(one not in "0123456789abcdefABCDEF" for one in beacon):
                raise ArgumentError("beacon must have at least 32 hexadecimal digits")
            if log.of("beacon") or log.of("drawn"):
                raise StateError("the audit has its randomness already, or has begun")
            return {**log.add("beacon", value=beacon.lower(), source=source), "head": log.head}

    def run(
        self,
        key: Any,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        limits: Any = None,
        device: Any = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Outcome | None:
        """Asks or reads, and scores, as planned; goes on where it was interrupted.

        Returns
        -------
        Outcome or None
            None if it was stopped before the verdict.

        Raises
        ------
        ArgumentError
            If the key is not the committed one.
        StateError
            If the plan was not committed to, or a file is not the planned one.
        """
        scheme = self.plan.scheme(key)
        secret = self._secret()
        if not opens(self.plan.content["scheme"]["commitment"], scheme, secret["nonce"]):
            raise ArgumentError("key is not the one that the plan commits to")
        with Log(self.folder / LOG) as log:
            self._check_plan(log)
            if not log.of("committed"):
                raise StateError("the plan is not committed to yet: radscore audit commit")
            if log.of("stopped"):
                return outcome_of(log.entries)
            work = _Work(
                self,
                scheme,
                log,
                Path(secret["base"]),
                asking={"api_key_env": api_key_env, "limits": limits},
                device=device,
                progress=progress,
                stop=stop,
            )
            return work.finish()

    def _secret(self) -> dict[str, Any]:
        path = self.folder / SECRET
        try:
            found = json.loads(path.read_bytes())
            return {name: str(found[name]) for name in ("nonce", "base")}
        except (OSError, ValueError, KeyError, TypeError):
            raise StateError(f"{path}: missing or damaged; it opens the commitment") from None

    def _check_plan(self, log: Log) -> None:
        planned = log.of("planned")
        if not planned or planned[0]["plan"] != self.plan.sha256:
            raise StateError(f"{self.folder / PLAN} is not the plan that the log begins with")


class _Work:
    """One run of an audit."""

    def __init__(
        self,
        audit: Audit,
        scheme: Scheme,
        log: Log,
        base: Path,
        *,
        asking: dict[str, Any],
        device: Any,
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.folder, self.plan, self.log = audit.folder, audit.plan, log
        self.scheme, self.base = scheme, base
        self.asking, self.device = asking, device
        self.progress, self.stop = progress, stop
        self.test = self.plan.content["test"]

    def finish(self) -> Outcome | None:
        """All that is left to do."""
        self._check_files()
        self.log.add("started", session=random_source.token_hex(8), versions=versions())
        items = self._items()
        looks, levels = self.test["looks"], self.test["levels"]
        for look, (number, level) in enumerate(zip(looks, levels, strict=True), start=1):
            scored = [one for one in self.log.of("scored") if one["look"] == look]
            if not scored:
                found = self._look(look, number, items)
                if found is None:
                    return None
                scored = [self.log.add("scored", look=look, level=level, **found)]
            if reaches(scored[0]["result"], level):
                return self._stopped("the level of this look is reached")
            if (spent := stopped_by(scored[0])) is not None:
                return self._stopped(f"the budget: {spent}")
        return self._stopped("all looks are done")

    def _stopped(self, reason: str) -> Outcome | None:
        self.log.add("stopped", reason=reason)
        return outcome_of(self.log.entries)

    def _path(self, named: dict[str, str]) -> Path:
        return self.base / named["path"]

    def _check_files(self) -> None:
        """Raises unless every file is the one that was planned."""
        content = self.plan.content
        named = {"pool": content["pool"]}
        named |= {name: self.test[name] for name in ("tokenizer", "reference", "filter")}
        if "folder" in content["suspect"]:
            named["suspect"] = content["suspect"]
        for name, one in named.items():
            if one is not None:
                check_planned(name, self._path(one), one)

    def _sources(self) -> tuple[str, ...]:
        return tuple(one["value"] for one in self.log.of("beacon"))

    def _items(self) -> list[Any]:
        """The prompts or texts of the subset, in the order in which they were drawn."""
        pool = self.plan.content["pool"]
        path = self.folder / ITEMS[pool["kind"]]
        some, size = self.plan.subset(
            self._path(pool), self._path(self.test["tokenizer"]), self._sources()
        )
        if not self.log.of("drawn"):
            name = self.plan.item_field
            lines = [json.dumps({name: one}, ensure_ascii=False) + "\n" for one in some]
            write_atomically(path, "".join(lines))
            self.log.add("drawn", of=size, number=len(some), sha256=hash_of(some))
        elif self.log.of("drawn")[0]["sha256"] != hash_of(some):
            raise StateError("the subset is not the one that the log names")
        return some

    def _look(self, look: int, number: int, items: list[Any]) -> dict[str, Any] | None:
        if self.test["access"] == "open":
            return self._read(items)
        spent = self._ask(items[:number])
        if spent is None:
            return None
        journal = self.folder / ANSWERS
        size = journal.stat().st_size
        digest = head_hash(journal, size)
        answers = answers_of(journal, size, self._path(self.test["tokenizer"]), self.folder)
        lists, kept = self._expected(answers, look)
        phi = None if self.test["filter"] is None else self._path(self.test["filter"])
        sources = (*self._sources(), digest)
        result = score_answers(self.plan, self.scheme, answers, lists, phi, sources=sources)
        return {
            "answers": {"bytes": size, "sha256": digest, "number": len(answers), **spent},
            "reference": kept,
            "result": result,
        }

    def _ask(self, prompts: list[str]) -> dict[str, Any] | None:
        content = self.plan.content
        suspect, how = content["suspect"], dict(content["asking"])
        logprobs = how.pop("logprobs")
        common = {**how, "api": suspect["api"], "progress": self.progress, "stop": self.stop}
        out = self.folder / ANSWERS
        if "folder" in suspect:
            from radscore.answers.local import ask_local

            if logprobs is not None:
                raise ArgumentError("[asking] logprobs needs an endpoint")
            report = ask_local(prompts, out, model=self._model(suspect), name="suspect", **common)
        else:
            from radscore.answers import ask

            report = ask(
                prompts,
                out,
                endpoint=suspect["endpoint"],
                model=suspect["model"],
                logprobs=logprobs,
                **common,
                **content["budget"],
                **self.asking,
            )
        if report.stopped == "interrupted" or (self.stop is not None and self.stop()):
            return None
        return {
            "requests": report.requests,
            "failed": report.n_failed,
            "stopped": report.stopped,
            "prompt_tokens": report.prompt_tokens,
            "answer_tokens": report.completion_tokens,
        }

    def _model(self, named: dict[str, str]) -> Any:
        from radscore.models import load_model

        tokenizer = self._path(self.test["tokenizer"])
        return load_model(self._path(named), tokenizer=tokenizer, device=self.device)

    def _expected(self, answers: Any, look: int) -> tuple[list[Listed], list[dict[str, Any]]]:
        """What the reference expects at every token, kept: new answers are read at each look."""
        if self.test["reference"] is None:
            return [], []
        from radscore.answers.expected import expected
        from radscore.documents import Documents

        kept = [dict(one) for entry in self.log.of("scored") for one in entry["reference"][-1:]]
        lists = [load_lists(self.folder / one["file"]) for one in kept]
        first = sum(one["answers"] for one in kept)
        documents, prompts = (
            None if one is None else Documents(one.values, one.offsets[first:])
            for one in (answers.documents, answers.prompts)
        )
        assert documents is not None
        found = expected(
            self._model(self.test["reference"]),
            documents,
            prompts,
            vocab_size=self.scheme.vocab_size,
        )
        name = f"reference-{look}.npz"
        save_lists(self.folder / name, found)
        path = self.folder / name
        new = {"file": name, "sha256": digest_of(path), "answers": len(documents)}
        return [*lists, load_lists(path)], [*kept, new]

    def _read(self, texts: list[list[int]]) -> dict[str, Any]:
        from radscore.documents import Documents
        from radscore.models.predicting import predict

        out = self.folder / PREDICTIONS
        reference = self.test["reference"]
        predict(
            self._model(self.plan.content["suspect"]),
            Documents.of(texts),
            out,
            context_width=self.scheme.window_width - 1,
            vocab_size=self.scheme.vocab_size,
            reference=None if reference is None else self._model(reference),
            weighting=self.test["weighting"],
            progress=self.progress,
        )
        digest = digest_of(out)
        assert digest is not None  # just written
        sources = (*self._sources(), digest)
        result = score_predictions(self.plan, self.scheme, out, sources)
        return {"predictions": {"sha256": digest}, "result": result}


def stopped_by(scored: dict[str, Any]) -> str | None:
    """Which limit of asking was used up at a look."""
    found: str | None = scored.get("answers", {}).get("stopped")
    return found


def versions() -> dict[str, str]:
    """What the last bit of a number may depend on."""
    return {"radscore": __version__, "numpy": np.__version__, "python": platform.python_version()}


def outcome_of(entries: list[dict[str, Any]]) -> Outcome | None:
    """What the log says was found; None before the end."""
    stopped = [one for one in entries if one["event"] == "stopped"]
    scored = [one for one in entries if one["event"] == "scored"]
    if not stopped or not scored:
        return None
    last = scored[-1]
    log10, level = log10_pvalue(last["result"]), last["level"]
    verdict = "none" if log10 is None else "no evidence"
    verdict = "evidence" if reaches(last["result"], level) else verdict
    return Outcome(verdict, last["look"], log10, level, stopped[-1]["reason"], last["result"])
