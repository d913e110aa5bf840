"""The tests of a suspect: open and closed, supervised or not, membership, and what is not valid."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from radscore.documents import Documents
from radscore.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radscore.models.loading import LanguageModel
    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.plan import Cell
    from radscore.rehearsal.playing import Play
    from radscore.rehearsal.stages import Part

__all__ = ["NAIVE", "SUITES", "Case", "Row", "Test"]

#: How weights are called where repetitions count as evidence: there is no valid p-value.
NAIVE: Final = "naive"
_OPEN: Final = (("prediction", None), ("mass", None), ("contrast", "base"), ("contrast", "matched"))
#: Of the texts read for membership, so many at least have a piece of the length compared.
_WHOLE: Final = 0.9
_LONGEST: Final = 256

Row: TypeAlias = dict[str, Any]
#: What is tested, in words, and what runs the test.
Test: TypeAlias = "tuple[Row, Callable[[], Row]]"


class Case:
    """What the tests of one suspect read."""

    def __init__(self, play: Play, cell: Cell, suspect: Part, reference: Part) -> None:
        self.play, self.cell = play, cell
        self.parts = {"suspect": suspect, "reference": reference}
        self.scheme = play.mark(cell.mark, cell.key).scheme
        self.tests = play.plan.tests

    @property
    def suspect(self) -> LanguageModel:
        """Bob's model."""
        return self.play.model(self.parts["suspect"], self.cell.base, self.cell.training)

    @property
    def references(self) -> dict[str | None, Any]:
        """By what a suspect is compared with."""
        matched = self.play.model(self.parts["reference"], self.cell.base, self.cell.training)
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

    def recorded_ids(self) -> list[Any]:
        """Those that are read, as the suspect read them while it was trained."""
        return self.ids(self.recorded(self.tests.n_texts))

    def text(self, name: str) -> list[Any]:
        """One of `texts`."""
        return self.texts()[name]

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


def _number(value: float) -> float | None:
    """A number for JSON."""
    return float(value) if math.isfinite(value) else None


def _row(result: Any, n_tokens: int | None = None) -> Row:
    """What is kept of a result."""
    score = result.score
    return {
        "valid": not math.isnan(result.log10_pvalue),
        "why": score.method.removeprefix("none: ") if score.method.startswith("none") else None,
        "zscore": _number(score.zscore),
        "log10_pvalue": _number(result.log10_pvalue),
        "method": score.method,
        "n_scored": int(score.n_scored),
        "n_tokens": int(score.n_tokens if n_tokens is None else n_tokens),
        "curve": [[one.n_tokens, one.n_scored, _number(one.log10_pvalue)] for one in score.curve],
    }


def _test(what: Row, run: Callable[..., Row], *arguments: Any) -> Test:
    """A test; one that has nothing to score has a row as well."""

    def guarded() -> Row:
        try:
            return run(*arguments)
        except TokenError as error:
            return _no_pvalue(str(error))

    return what, guarded


def _no_pvalue(why: str, **known: Any) -> Row:
    """A row where there is no p-value."""
    return {
        "valid": False,
        "why": why,
        "zscore": None,
        "log10_pvalue": None,
        "method": None,
        "n_scored": 0,
        "n_tokens": 0,
        "curve": [],
        **known,
    }


def _what(test: str, setting: str, weights: str, against: str | None, phi: str) -> Row:
    return {
        "test": test,
        "setting": setting,
        "weights": weights,
        "against": against,
        "filter": phi,
    }


def _open(case: Case) -> Iterator[Test]:
    """Reading recorded watermarked text, and text without the watermark."""
    texts: dict[str, Callable[[], list[Any]]] = {"supervised": cache(case.recorded_ids)}
    names = [f"unsupervised, {name}" for name in case.tests.texts] or ["unsupervised"]
    texts |= {name: cache(partial(case.text, name)) for name in names}
    for setting, rows in texts.items():
        for weighting, against in _OPEN:
            what = _what("open", setting, weighting, against, "none")
            yield _test(what, _read, case, rows, weighting, against, setting)
        yield _test(_what("open", setting, NAIVE, None, "none"), _naive_open, case, rows)


def _read(
    case: Case, rows: Callable[[], list[Any]], weighting: str, against: str | None, setting: str
) -> Row:
    from radscore.audits.open import test_open

    return _row(
        test_open(
            case.suspect,
            rows(),
            case.scheme,
            reference=case.references[against],
            weighting=weighting,
            text_watermarked=setting == "supervised",  # the rehearsal knows
            curve=case.tests.curve,
        )
    )


def _naive(case: Case, scorer: Any, n_tokens: int) -> Row:
    """The standard score where every window is one piece of evidence."""
    found = scorer.result()
    variance = found.n_scored * float(case.scheme.null_law.variance)
    return _no_pvalue(
        "repetitions were counted as evidence",
        zscore=_number((found.statistic - found.expected) / math.sqrt(max(variance, 1e-300))),
        n_scored=int(found.n_scored),
        n_tokens=n_tokens,
    )


def _naive_open(case: Case, rows: Callable[[], list[Any]]) -> Row:
    """The suspect's likeliest token at every position, repetitions and all."""
    from radscore.models.live import Reading
    from radscore.models.weighting import Weighting
    from radscore.scoring.scorer import Scorer

    texts = rows()
    reading = Reading(
        case.suspect,
        texts,
        context_width=case.scheme.window_width - 1,
        weighting=Weighting("prediction"),
    )
    scorer = Scorer(case.scheme, dedup="none")
    size = case.scheme.vocab_size
    for pairs in reading:
        keep = (pairs.contexts < size).all(axis=1) & (pairs.targets < size)
        scorer.add_pairs(pairs.contexts[keep], pairs.targets[keep])
    return _naive(case, scorer, sum(map(len, texts)))


def _closed(case: Case) -> Iterator[Test]:
    """What the suspect answers."""
    from radscore.audits.closed import test_closed

    play, cell = case.play, case.cell

    @cache
    def answers(who: str) -> Any:
        return _answers(case, play.store.path(play.answers(case.parts[who], cell)))

    @cache
    def phi(name: str) -> Any:
        if name == "none":
            return None
        records = case.recorded(10**9) if name == "supervised" else case.records("again")
        return _contexts(case, records)

    def naive() -> Row:
        return _naive_closed(case, answers("suspect"))

    def test(weighting: Any, against: str | None, name: str) -> Row:
        suspect = answers("suspect")
        if weighting == "listed":
            suspect = _with_lists(case, suspect)
        reference = case.references[against] if against != "answers" else answers("reference")
        found = test_closed(
            suspect,
            case.scheme,
            filter=phi(name),
            reference=reference,
            weighting=weighting,
            curve=case.tests.curve,
        )
        return _row(found, suspect.documents.n_tokens) | {"n_answers": len(suspect.documents)}

    for name in ("none", "supervised", "unsupervised"):
        for weighting, against in (("plain", None), ("contrast", "answers")):
            what = _what("closed", "text", weighting, against, name)
            yield _test(what, test, weighting, against, name)
    what = _what("closed", "text", "residual", "matched", "none")
    yield _test(what, test, "residual", "matched", "none")
    if case.tests.listed:
        what = _what("closed", f"{case.tests.listed} listed", "listed", "matched", "none")
        yield _test(what, test, "listed", "matched", "none")
    yield _test(_what("closed", "text", NAIVE, None, "none"), naive)


def _answers(case: Case, folder: Path) -> Any:
    """Answers as the tokens that the model wrote, with their prompts."""
    from radscore.answers.answer_files import open_answers

    path = folder / "answers.jsonl"
    if case.cell.training.template != "chat":
        return open_answers(path, field="tokens", prompt_field="prompt_tokens")
    # what reads along puts prompts into the chat template itself
    return open_answers(path, field="tokens", tokenizer=case.suspect.tokenizer)


def _with_lists(case: Case, answers: Any) -> Any:
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


def _contexts(case: Case, records: Sequence[Record]) -> Any:
    """All contexts of marked records."""
    from radscore.kgrams import KgramSet

    return KgramSet.from_documents(
        Documents.of(case.ids(records)),
        case.scheme.window_width - 1,
        case.scheme.vocab_size,
        watermarked=True,
    )


def _naive_closed(case: Case, answers: Any) -> Row:
    """All windows of the answers, repetitions and those of prompts too."""
    from radscore.scoring.scorer import Scorer

    scorer = Scorer(case.scheme, dedup="none")
    scorer.add(answers.documents)
    return _naive(case, scorer, answers.documents.n_tokens)


def _membership(case: Case) -> Iterator[Test]:
    """Records of Alice's against others by her that nobody trained on."""
    for calibration in ("zlib", "none"):
        what = _what("membership", "records", calibration, None, "none")
        yield _test(what, _members, case, calibration)


def _members(case: Case, calibration: Any) -> Row:
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
        "method": found.method,
        "statistic": _number(found.statistic),
        "n_scored": found.n_members,
        "n_tokens": sum(map(len, members)),
        "curve": [],
    }


#: What there is to test, and how, by kind of stage.
SUITES: Final[dict[str, Callable[[Case], Iterator[Test]]]] = {
    "open": _open,
    "closed": _closed,
    "membership": _membership,
}
