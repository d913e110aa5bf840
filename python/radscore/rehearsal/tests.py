"""The tests of a suspect: open and closed, supervised or not, membership, and what is not valid."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from radscore.documents import Documents
from radscore.errors import TokenError
from radscore.files import write_atomically
from radscore.progress import Progress
from radscore.rehearsal.stages import Part, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.models.loading import LanguageModel
    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.plan import Cell
    from radscore.rehearsal.playing import Play

__all__ = ["NAIVE", "ROWS", "test_stages"]

#: The file of results in the folder of a stage.
ROWS: Final = "rows.json"
#: How weights are called where repetitions count as evidence: there is no valid p-value.
NAIVE: Final = "naive"
_OPEN: Final = (("prediction", None), ("mass", None), ("contrast", "base"), ("contrast", "matched"))
#: Of the texts read for membership, so many at least have a piece of the length compared.
_WHOLE: Final = 0.9
_LONGEST: Final = 256

Row = dict[str, Any]


def test_stages(play: Play, cell: Cell, suspect: Part) -> dict[str, Stage]:
    """The stages that test a suspect, by kind."""
    tests = play.plan.tests
    reference = play.trained(cell, "reference")
    mark = play.mark(cell.mark, cell.key)
    about: dict[str, Any] = {
        "fingerprint": mark.scheme.fingerprint,
        "share": cell.share,
        "supervision": cell.supervision,
        "seed": cell.seed,
        "training": cell.training.length,
        "template": cell.training.template,
        "n": tests.n_texts,
        "curve": list(tests.curve),
    }
    pools: dict[str, Part] = {
        "base": play.base_input(cell.base),
        "suspect": suspect,
        "reference": reference,
        "marked": play.records("marked", cell.base, cell.mark, cell.key),
        "again": play.records("again", cell.base, cell.mark, cell.key),
        "twins": play.records("twins", cell.base),
    }
    texts = tests.n_texts * 2 * play.plan.data.settings.sampling.max_tokens
    made: dict[str, Stage] = {}

    def add(kind: str, settings: dict[str, Any], more: dict[str, Part], cost: float) -> None:
        suite = _SUITES[kind]

        def make(work: Path, tell: Any) -> dict[str, Any]:
            return _run(work, tell, suite(_Case(play, cell, suspect, reference)))

        title = f"{kind}: share {cell.share:g}, {cell.mark}, key {cell.key}, seed {cell.seed}"
        made[kind] = play._stage(  # noqa: SLF001 - made for it
            Stage(kind, settings, {**pools, **more}, make, title, cost)
        )

    if tests.open:
        read: dict[str, Part] = {
            f"text {name}": play.input(path) for name, path in tests.texts.items()
        }
        add("open", about, read or {"fresh": play.records("fresh", cell.base)}, 12 * texts)
    if tests.closed:
        asked: dict[str, Part] = {
            "answers": play.answers(suspect, cell),
            "reference answers": play.answers(reference, cell),
        }
        cost = 4.0 * tests.n_answers * tests.answer_tokens
        add("closed", about | {"listed": tests.listed}, asked, cost)
    if tests.membership:
        add("membership", about, {}, 2 * texts)
    if tests.ability:
        fresh = {"suspect": suspect, "base": pools["base"]}
        read = {f"text {name}": play.input(path) for name, path in tests.texts.items()}
        fresh |= read or {"fresh": play.records("fresh", cell.base)}
        seed = play.plan.derived("ability")

        def make(work: Path, tell: Any) -> dict[str, Any]:
            return _ability(work, _Case(play, cell, suspect, reference), seed)

        settings = {"seed": seed, "n": tests.n_texts, "template": cell.training.template}
        made["ability"] = play._stage(  # noqa: SLF001
            Stage("ability", settings, fresh, make, "does Bob's model work?", texts)
        )
    return made


test_stages.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


class _Case:
    """What the tests of one suspect read."""

    def __init__(self, play: Play, cell: Cell, suspect: Part, reference: Part) -> None:
        self.play, self.cell = play, cell
        self._suspect, self._reference = suspect, reference
        self.scheme = play.mark(cell.mark, cell.key).scheme
        self.tests = play.plan.tests

    @property
    def suspect(self) -> LanguageModel:
        return self.play.model(self._suspect, self.cell.base, self.cell.training)

    @property
    def references(self) -> dict[str | None, Any]:
        """By what a suspect is compared with."""
        matched = self.play.model(self._reference, self.cell.base, self.cell.training)
        return {None: None, "base": self.play.base(self.cell.base), "matched": matched}

    def records(self, pool: str) -> list[Record]:
        """The records of a pool; Alice's are those of the cell's key."""
        if pool in {"marked", "again"}:
            return self.play.read(
                self.play.records(pool, self.cell.base, self.cell.mark, self.cell.key)
            )
        return self.play.read(self.play.records(pool, self.cell.base))

    def recorded(self, number: int) -> list[Record]:
        """Records of Alice's, of which Bob trained on the cell's degree of supervision.

        Of a suspect that trained on none, as many that it did not read.
        """
        from radscore.rehearsal.bob_rows import mix

        marked = self.records("marked")
        mine: list[Record] = []
        if self.cell.share:
            seed = self.play.plan.derived(f"bob/suspect/{self.cell.seed}")
            n = self.play.plan.data.settings.n_records
            mine = mix(marked, self.records("twins"), self.cell.share, seed, n_records=n).recorded
        known = {id(one) for one in mine}
        others = [one for one in marked if id(one) not in known] + self.records("again")
        if not mine:
            return others[:number]
        n_mine = min(len(mine), max(1, round(number * self.cell.supervision)))
        n_others = round(n_mine / self.cell.supervision) - n_mine
        order = np.random.default_rng(self.play.plan.derived("recorded"))
        found = mine[:n_mine] + others[:n_others]
        return [found[i] for i in order.permutation(len(found))]

    def ids(self, records: Sequence[Record]) -> list[Any]:
        """Records as the suspect read them while it was trained."""
        from radscore.rehearsal.bob_rows import training_rows

        return training_rows(records, self.suspect.tokenizer, self.cell.training).ids

    def texts(self) -> dict[str, list[Any]]:
        """Unmarked text to be read, by name."""
        from radscore.answers.prompts import read_prompts

        if not self.tests.texts:
            return {"unsupervised": self.ids(self.records("fresh")[: self.tests.n_texts])}
        tokenizer, length = self.suspect.tokenizer, self.cell.training.length
        assert tokenizer is not None
        return {
            f"unsupervised, {name}": [
                np.array(tokenizer(one)["input_ids"][:length], dtype=np.int64)
                for one in read_prompts(path)[: self.tests.n_texts]
            ]
            for name, path in self.tests.texts.items()
        }


def _run(
    work: Path, tell: Callable[[Progress], None], rows: Iterator[tuple[Row, Callable[[], Row]]]
) -> dict[str, Any]:
    """Runs tests one by one, but for those whose results are there already."""
    path = work / ROWS
    found: list[Row] = json.loads(path.read_text()) if path.exists() else []
    tests = list(rows)
    for i, (what, run) in enumerate(tests):
        if any(all(one.get(k) == v for k, v in what.items()) for one in found):
            continue
        started = time.monotonic()
        row = {**what, **run()}
        row["seconds"] = round(time.monotonic() - started, 3)
        found.append(row)
        write_atomically(path, json.dumps(found, indent=1, allow_nan=False))
        tell(Progress(i + 1, len(tests), 0))
    return {"n_tests": len(found)}


def _number(value: float) -> float | None:
    """A number for JSON."""
    return float(value) if math.isfinite(value) else None


def _row(result: Any, n_tokens: int | None = None) -> Row:
    """What is kept of a result."""
    score = result.score
    weighted = score.weighted
    saddle = getattr(weighted, "log10_saddlepoint", math.nan)
    return {
        "valid": not math.isnan(result.log10_pvalue),
        "why": score.method.removeprefix("none: ") if score.method.startswith("none") else None,
        "zscore": _number(score.zscore),
        "log10_pvalue": _number(result.log10_pvalue),
        "log10_saddlepoint": _number(saddle),
        "n_scored": int(score.n_scored),
        "n_tokens": int(score.n_tokens if n_tokens is None else n_tokens),
        "curve": [[one.n_tokens, one.n_scored, _number(one.log10_pvalue)] for one in score.curve],
    }


def _guarded(run: Callable[[], Row]) -> Callable[[], Row]:
    """A test that has nothing to score has a row as well."""

    def guarded() -> Row:
        try:
            return run()
        except TokenError as error:
            return {"valid": False, "why": str(error), "zscore": None, "log10_pvalue": None} | {
                "log10_saddlepoint": None,
                "n_scored": 0,
                "n_tokens": 0,
                "curve": [],
            }

    return guarded


def _what(test: str, setting: str, weights: str, against: str | None, phi: str) -> Row:
    return {
        "test": test,
        "setting": setting,
        "weights": weights,
        "against": against,
        "filter": phi,
    }


def _open(case: _Case) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Reading recorded watermarked text, and text without the watermark."""
    texts: dict[str, Callable[[], list[Any]]] = {
        "supervised": lambda: case.ids(case.recorded(case.tests.n_texts))
    }
    names = [f"unsupervised, {name}" for name in case.tests.texts] or ["unsupervised"]
    texts |= {name: lambda name=name: case.texts()[name] for name in names}
    for setting, rows in texts.items():
        for weighting, against in _OPEN:
            yield (
                _what("open", setting, weighting, against, "none"),
                _guarded(lambda r=rows, w=weighting, a=against, s=setting: _read(case, r, w, a, s)),
            )
        yield (
            _what("open", setting, NAIVE, None, "none"),
            _guarded(lambda rows=rows: _naive_open(case, rows())),
        )


def _read(
    case: _Case, rows: Callable[[], list[Any]], weighting: str, against: str | None, setting: str
) -> Row:
    from radscore.audits.open import test_open

    return _row(
        test_open(
            case.suspect,
            rows(),
            case.scheme,
            reference=case.references[against],
            weighting=weighting,
            text_watermarked=True if setting == "supervised" else None,
            curve=case.tests.curve,
        )
    )


def _naive(case: _Case, scorer: Any, n_tokens: int) -> Row:
    """The standard score where every window is one piece of evidence."""
    found = scorer.result()
    variance = found.n_scored * float(case.scheme.null_law.variance)
    return {
        "valid": False,
        "why": "repetitions were counted as evidence",
        "zscore": _number((found.statistic - found.expected) / math.sqrt(max(variance, 1e-300))),
        "log10_pvalue": None,
        "log10_saddlepoint": None,
        "n_scored": int(found.n_scored),
        "n_tokens": n_tokens,
        "curve": [],
    }


def _naive_open(case: _Case, rows: list[Any]) -> Row:
    """The suspect's likeliest token at every position, repetitions and all."""
    from radscore.models.live import Reading
    from radscore.models.weighting import Weighting
    from radscore.scoring.scorer import Scorer

    reading = Reading(
        case.suspect,
        rows,
        context_width=case.scheme.window_width - 1,
        weighting=Weighting("prediction"),
    )
    scorer = Scorer(case.scheme, dedup="none")
    size = case.scheme.vocab_size
    for pairs in reading:
        keep = (pairs.contexts < size).all(axis=1) & (pairs.targets < size)
        scorer.add_pairs(pairs.contexts[keep], pairs.targets[keep])
    return _naive(case, scorer, sum(map(len, rows)))


def _closed(case: _Case) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """What the suspect answers."""
    from radscore.audits.closed import test_closed

    play, cell = case.play, case.cell
    made: dict[str, Any] = {}

    def answers(who: str) -> Any:
        if who not in made:
            part = case._suspect if who == "suspect" else case._reference  # noqa: SLF001
            made[who] = _answers(case, play.store.path(play.answers(part, cell)))
        return made[who]

    def phi(name: str) -> Any:
        if name == "none":
            return None
        records = case.recorded(10**9) if name == "supervised" else case.records("again")
        return _contexts(case, records)

    def test(weighting: str, against: str | None, name: str, *, listed: bool = False) -> Row:
        suspect = answers("suspect")
        if listed:
            suspect = _with_lists(case, suspect)
        reference = case.references[against] if against != "answers" else answers("reference")
        return _row(
            test_closed(
                suspect,
                case.scheme,
                filter=phi(name),
                reference=reference,
                weighting=weighting,  # type: ignore[arg-type]
                curve=case.tests.curve,
            ),
            suspect.documents.n_tokens,
        )

    for name in ("none", "supervised", "unsupervised"):
        for weighting, against in (("plain", None), ("contrast", "answers")):
            yield (
                _what("closed", "text", weighting, against, name),
                _guarded(lambda w=weighting, a=against, n=name: test(w, a, n)),
            )
    yield (
        _what("closed", "text", "residual", "matched", "none"),
        _guarded(lambda: test("residual", "matched", "none")),
    )
    if case.tests.listed:
        yield (
            _what("closed", f"{case.tests.listed} listed", "listed", "matched", "none"),
            _guarded(lambda: test("listed", "matched", "none", listed=True)),
        )
    yield (
        _what("closed", "text", NAIVE, None, "none"),
        _guarded(lambda: _naive_closed(case, answers("suspect"))),
    )


def _answers(case: _Case, folder: Path) -> Any:
    """Answers as the tokens that the model wrote, with their prompts."""
    from radscore.answers.answer_files import open_answers

    path = folder / "answers.jsonl"
    if case.cell.training.template != "chat":
        return open_answers(path, field="tokens", prompt_field="prompt_tokens")
    # what reads along puts prompts into the chat template itself
    return open_answers(path, field="tokens", tokenizer=case.suspect.tokenizer)


def _with_lists(case: _Case, answers: Any) -> Any:
    """Answers with the likeliest tokens that an API would list of them."""
    from radscore.answers.expected import expected

    listed = expected(
        case.suspect,
        answers.documents,
        answers.prompts,
        vocab_size=case.scheme.vocab_size,
        likeliest=case.tests.listed,
    )
    return replace(answers, listed=listed)


def _contexts(case: _Case, records: Sequence[Record]) -> Any:
    """All contexts of marked records."""
    from radscore.kgrams import KgramSet

    return KgramSet.from_documents(
        Documents.of(case.ids(records)),
        case.scheme.window_width - 1,
        case.scheme.vocab_size,
        watermarked=True,
    )


def _naive_closed(case: _Case, answers: Any) -> Row:
    """All windows of the answers, repetitions and those of prompts too."""
    from radscore.scoring.scorer import Scorer

    scorer = Scorer(case.scheme, dedup="none")
    scorer.add(answers.documents)
    return _naive(case, scorer, answers.documents.n_tokens)


def _membership(case: _Case) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Records of Alice's against others by her that nobody trained on."""
    for calibration in ("zlib", "none"):
        yield (
            _what("membership", "records", calibration, None, "none"),
            _guarded(lambda calibration=calibration: _members(case, calibration)),
        )


def _members(case: _Case, calibration: Any) -> Row:
    from radscore.audits.membership import test_membership

    members = case.ids(case.recorded(case.tests.n_texts))
    others = case.ids(case.records("again")[-len(members) :])
    lengths = sorted(len(one) for one in (*members, *others))
    length = min(_LONGEST, lengths[int((1 - _WHOLE) * len(lengths))])
    found = test_membership(
        case.suspect,
        members,
        others,
        supervision=case.cell.supervision,
        calibration=calibration,
        length=max(length, 2),
    )
    return {
        "valid": not math.isnan(found.log10_pvalue),
        "why": None,
        "zscore": None,
        "log10_pvalue": _number(found.log10_pvalue),
        "log10_saddlepoint": None,
        "statistic": _number(found.statistic),
        "n_scored": found.n_members,
        "n_tokens": sum(map(len, members)),
        "curve": [],
    }


def _ability(work: Path, case: _Case, seed: int) -> dict[str, Any]:
    from radscore.rehearsal.ability import ability

    found = {}
    for name, rows in case.texts().items():
        passage, continuation = _passage(rows)
        found[name] = ability(
            case.suspect, rows, seed=seed, passage=passage, continuation=continuation
        )
    write_atomically(work / "ability.json", json.dumps(_finite(found), indent=1))
    return _finite(found)


def _passage(rows: Sequence[Any]) -> tuple[int, int]:
    """Tokens of passages and of what may follow them, so that texts are long enough."""
    lengths = sorted(len(one) for one in rows)
    whole = max(min(96, lengths[len(lengths) // 2]), 3)
    return whole - whole // 3, whole // 3


def _finite(value: Any) -> Any:
    """NaN becomes None."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return _number(value) if isinstance(value, float) else value


_SUITES: Final[dict[str, Callable[[_Case], Iterator[tuple[Row, Callable[[], Row]]]]]] = {
    "open": _open,
    "closed": _closed,
    "membership": _membership,
}
