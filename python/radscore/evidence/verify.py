"""Verifies a bundle offline, without the model: what holds, what does not, what is not known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.canonical import canonical, hash_of
from radscore.errors import RadscoreError, StateError, line_of
from radscore.evidence.audit import (
    ANSWERS,
    ITEMS,
    LOG,
    PLAN,
    Outcome,
    outcome_of,
    stopped_by,
    versions,
)
from radscore.evidence.bundle import FILES, opened
from radscore.evidence.chain import read_log
from radscore.evidence.commitment import opens
from radscore.evidence.plan import Plan, check_planned
from radscore.evidence.scoring import (
    PREDICTIONS,
    answers_of,
    head_hash,
    load_lists,
    reaches,
    score_answers,
    score_predictions,
)
from radscore.evidence.witness import signature_holds, stamped_at
from radscore.provenance import digest_of

if TYPE_CHECKING:
    import os

    from radscore.schemes import Scheme

__all__ = ["Verification", "verify"]

_ORDER = ("planned", "committed", "beacon", "started", "drawn", "scored", "stopped")


@dataclass
class Verification:
    """What was checked of a bundle.

    Attributes
    ----------
    holds : list of str
        What was checked and is right.
    wrong : list of str
        What is not: the bundle is no evidence then.
    unknown : list of str
        What could not be checked, and why.
    outcome : Outcome or None
        What the log says was found.
    recomputed : bool
        Whether the scores were computed again.
    """

    holds: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    recomputed: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong


def verify(
    path: str | os.PathLike[str],
    key: Any = None,
    *,
    plan_hash: str | None = None,
    head: str | None = None,
    private_key: str | os.PathLike[str] | None = None,
    roots: str | os.PathLike[str] | None = None,
) -> Verification:
    """Checks a bundle: hashes, order, commitment, draws, and every number from the kept answers.

    Parameters
    ----------
    path : path
        The bundle, or an audit's folder.
    key : Key, or what one is made of, optional
        By default the one in the bundle.
    plan_hash, head : str, optional
        The hash of the plan as published, and that of the log's last line, where it is known.
    private_key : path, optional
        PEM file of the expert's X25519 private key, for whom the key was sealed.
    roots : path, optional
        PEM file of the root certificates of trusted time-stamp authorities.

    Raises
    ------
    StateError
        If it is no bundle at all.
    """
    found = Verification()
    with opened(path, private_key) as (folder, opening):
        plan = Plan.read(folder / PLAN)
        found.holds.append(f"the plan is whole; its SHA-256 is {plan.sha256}")
        if plan_hash is not None:
            said = plan_hash.strip().lower()
            _say(found, said == plan.sha256, "the plan is the one whose hash was published")
        try:
            entries = read_log(folder / LOG)
        except (StateError, OSError) as error:
            found.wrong.append(f"the log: {line_of(error)}")
            return found
        found.holds.append(f"the log's {len(entries)} lines follow each other")
        if head is not None:
            last = hash_of(entries[-1]) if entries else ""
            _say(
                found,
                head.strip().lower() == last,
                "the log ends with the line whose hash is known",
            )
        check = _Check(found, folder, opening, plan, entries)
        check.roots = roots
        check.all(key)
        found.outcome = outcome_of(entries)
    return found


def _say(found: Verification, right: bool, what: str) -> None:
    (found.holds if right else found.wrong).append(what if right else f"not so: {what}")


class _Check:
    """Checks of one bundle."""

    roots: str | os.PathLike[str] | None = None

    def __init__(
        self,
        found: Verification,
        folder: Path,
        opening: dict[str, Any],
        plan: Plan,
        entries: list[dict[str, Any]],
    ) -> None:
        self.found, self.folder, self.opening = found, folder, opening
        self.plan, self.entries = plan, entries
        self.scored = [one for one in entries if one["event"] == "scored"]
        self.sources = tuple(one["value"] for one in entries if one["event"] == "beacon")

    def all(self, key: Any) -> None:
        """Every check; what fails is named, and the others go on."""
        for what, check in (
            ("the log", self._order),
            ("witnesses", self._witnesses),
            ("the looks", self._looks),
            ("the draw", self._drawn),
            ("the answers", self._answers),
        ):
            try:
                check()
            except Exception as error:  # noqa: BLE001 - a hostile bundle may raise anything
                self.found.wrong.append(f"{what}: {line_of(error)}")
        scheme = self._scheme(key)
        if scheme is None:
            return
        self.found.recomputed = bool(self.scored)
        for entry in self.scored:
            what = f"look {entry.get('look')}"
            try:
                again = self._again(scheme, entry)
            except Exception as error:  # noqa: BLE001
                self.found.wrong.append(f"{what}: {line_of(error)}")
                continue
            same = canonical(again) == canonical(entry["result"])
            other = "" if same else self._other_versions()
            said = f"{what}: every number comes out the same, to the last bit{other}"
            _say(self.found, same, said)

    def _other_versions(self) -> str:
        """What is of another version than in the run, since draws may depend on it."""
        ran: dict[str, str] = {}
        for one in self.entries:
            ran |= one.get("versions", {})
        other = [
            f"{name} {ran[name]}, here {now}"
            for name, now in versions().items()
            if ran.get(name, now) != now
        ]
        return f" (it was run with {'; '.join(other)}: verify with that)" if other else ""

    def _order(self) -> None:
        events = [one["event"] for one in self.entries]
        unknown = sorted(set(events) - set(_ORDER) - {"timestamp", "signed", "note"})
        if unknown:
            self.found.wrong.append(f"the log has lines of an unknown kind: {', '.join(unknown)}")
        first = {event: events.index(event) for event in _ORDER if event in events}
        known = [first[event] for event in _ORDER if event in first]
        _say(
            self.found,
            known == sorted(known) and "committed" in first and events[0] == "planned",
            "planned, committed, drawn and scored in this order",
        )
        named = [one["plan"] for one in self.entries if one["event"] in {"planned", "committed"}]
        _say(
            self.found,
            all(one == self.plan.sha256 for one in named) and events.count("planned") == 1,
            "the log is that of this plan",
        )
        for event in ("committed", "beacon", "drawn", "stopped"):
            if events.count(event) > 1:
                self.found.wrong.append(f"the log says {event!r} {events.count(event)} times")
        if "beacon" not in events:
            self.found.unknown.append(
                "that the subset was not chosen: no public randomness was mixed in, so plans could "
                "have been tried until one drew a subset that suits"
            )

    def _witnesses(self) -> None:
        """Who signed the plan, and when it was stamped."""
        plan, dated = self.plan.sha256, False
        for entry in self.entries:
            if entry["event"] == "signed":
                right = signature_holds(plan, entry["public_key"], entry["signature"])
                _say(self.found, right, f"the plan is signed by the key {entry['public_key']}")
            if entry["event"] == "timestamp":
                time = stamped_at(plan, entry["token"], self.roots).isoformat()
                dated = True
                if self.roots is None:
                    self.found.unknown.append(
                        f"that {entry['authority']} stamped the plan at {time}: give the "
                        "authority's root certificates (--roots)"
                    )
                else:
                    self.found.holds.append(f"the plan was stamped at {time}")
        if not dated:
            self.found.unknown.append(
                "when the plan was made: compare its hash with where it was published"
            )

    def _looks(self) -> None:
        """The looks are those planned, and it stopped where it had to."""
        test = self.plan.content["test"]
        right = [one["look"] for one in self.scored] == list(range(1, len(self.scored) + 1))
        levels = test["levels"][: len(self.scored)]
        right = right and [one["level"] for one in self.scored] == levels
        reached = [reaches(one["result"], one["level"]) for one in self.scored]
        last = len(self.scored) == len(test["looks"]) or any(map(stopped_by, self.scored))
        stopped = any(one["event"] == "stopped" for one in self.entries)
        if not stopped:
            self.found.unknown.append("the verdict: the audit is not over")
        ended = not stopped or (bool(reached) and (reached[-1] or last))
        _say(
            self.found,
            right and not any(reached[:-1]) and ended,
            "the looks and levels are the planned ones, and it stopped by the rule",
        )

    def _planned_file(self, name: str) -> Path | None:
        """A planned file that is in the bundle, or where it was; None if there is none."""
        content = self.plan.content
        planned = content["pool"] if name == "pool" else content["test"][name]
        if planned is None:
            return None
        inside = sorted((self.folder / FILES / name).glob("*"))
        places = inside or [Path(self.opening["base"] or ".") / planned["path"]]
        for one in places:
            if one.exists():
                check_planned(name, one, planned)
                return one
        return None

    def _drawn(self) -> None:
        entry = next((one for one in self.entries if one["event"] == "drawn"), None)
        if entry is None:
            return
        pool, tokenizer = self._planned_file("pool"), self._planned_file("tokenizer")
        items = self._items()
        _say(self.found, hash_of(items) == entry["sha256"], "the subset is the one in the log")
        if pool is None or tokenizer is None:
            self.found.unknown.append("the draw: the pool is not in the bundle")
            return
        some, _ = self.plan.subset(pool, tokenizer, self.sources)
        _say(self.found, some == items, "the subset is what the seed draws from the planned pool")

    def _items(self) -> list[Any]:
        path = self.folder / ITEMS[self.plan.content["pool"]["kind"]]
        lines = path.read_bytes().splitlines()
        return [json.loads(line)[self.plan.item_field] for line in lines]

    def _answers(self) -> None:
        """The kept answers are those that the log names, and answer the drawn prompts alone."""
        if self.plan.content["test"]["access"] == "open":
            for entry in self.scored:
                path = self.folder / PREDICTIONS
                same = digest_of(path) == entry["predictions"]["sha256"]
                _say(self.found, same, "the predictions are those in the log")
            return
        journal, end = self.folder / ANSWERS, 0
        for entry in self.scored:
            end = entry["answers"]["bytes"]
            same = head_hash(journal, end) == entry["answers"]["sha256"]
            _say(self.found, same, f"look {entry['look']}: the answers are those in the log")
            for one in entry["reference"]:
                path = self.folder / one["file"]
                if path.parent != self.folder or digest_of(path) != one["sha256"]:
                    self.found.wrong.append(f"{one['file']} is not the one in the log")
        if journal.exists() and journal.stat().st_size > end and self.scored:
            self.found.wrong.append(
                f"{ANSWERS} has {journal.stat().st_size - end:,} bytes that no look has scored: "
                "something was asked outside of the plan"
            )
        asked = set()
        for line in journal.read_bytes().splitlines() if journal.exists() else ():
            asked.add(json.loads(line)["prompt"])
        beyond = asked - set(self._items())
        _say(self.found, not beyond, "only prompts of the subset were asked")

    def _scheme(self, key: Any) -> Scheme | None:
        key = self.opening["key"] if key is None else key
        if key is None:
            self.found.unknown.append("the scores: the key is not in the bundle, and was not given")
            return None
        try:
            scheme = self.plan.scheme(key)
        except RadscoreError as error:
            self.found.wrong.append(f"the key: {line_of(error)}")
            return None
        nonce = self.opening["nonce"]
        if nonce is None:
            self.found.unknown.append("the commitment: the bundle does not open it")
            return scheme
        right = opens(self.plan.content["scheme"]["commitment"], scheme, nonce)
        _say(self.found, right, "scheme and key are those that were committed to")
        return scheme

    def _again(self, scheme: Scheme, entry: dict[str, Any]) -> dict[str, Any]:
        if self.plan.content["test"]["access"] == "open":
            sources = (*self.sources, entry["predictions"]["sha256"])
            return score_predictions(self.plan, scheme, self.folder / PREDICTIONS, sources)
        tokenizer = self._planned_file("tokenizer")
        if tokenizer is None:
            raise StateError("the tokenizer is not in the bundle")
        answers = answers_of(
            self.folder / ANSWERS, entry["answers"]["bytes"], tokenizer, self.folder
        )
        lists = [load_lists(self.folder / one["file"]) for one in entry["reference"]]
        phi = self._planned_file("filter")
        sources = (*self.sources, entry["answers"]["sha256"])
        return score_answers(self.plan, scheme, answers, lists, phi, sources=sources)
