"""The stages of a plan: what Alice writes, what Bob trains, what is asked and tested."""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from radscore.errors import ArgumentError
from radscore.rehearsal.plan import plain
from radscore.rehearsal.settings import Mark
from radscore.rehearsal.stages import Input, Inputs, Part, Stage, Store

if TYPE_CHECKING:
    from pathlib import Path

    from radscore.models.loading import LanguageModel
    from radscore.rehearsal.alice import RecordsReport
    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.plan import Cell, Plan
    from radscore.rehearsal.settings import TrainingSettings
    from radscore.schemes import Scheme

__all__ = ["Play", "public"]

#: Models that are held at once: a suspect, its reference and their base.
_HELD = 3
#: How much longer a token takes to write than to read, and to learn.
_WRITTEN, _LEARNED = 10.0, 3.0
_RECORDS = "records.jsonl"


class Play:
    """Turns a plan into stages, and makes what they need.

    Parameters
    ----------
    plan : Plan
    store : Store
        The folder.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self._inputs = Inputs(store.folder / ".inputs.json")
        self._models: OrderedDict[tuple[str, ...], LanguageModel] = OrderedDict()
        self._stages: dict[str, Stage] = {}
        self._schemes: dict[tuple[str, int], Scheme] = {}

    def input(self, *paths: Path) -> Input:
        """Files of one's own, with their hash."""
        return self._inputs.of(*paths)

    def known(self, stage: Stage) -> Stage:
        """The stage, or the equal one that is known already."""
        return self._stages.setdefault(stage.digest, stage)

    def mark(self, name: str, key: int) -> Mark:
        """A mark under one of its keys."""
        if (name, key) not in self._schemes:
            self._schemes[name, key] = self.plan.scheme(name, key)
        return Mark(self._schemes[name, key], self.plan.marks[name].delta)

    @cached_property
    def prompts(self) -> dict[str, list[Any]]:
        """The prompts of each pool; those of self-instruct are seeds, and the same everywhere."""
        from radscore.answers.prompts import read_prompts
        from radscore.rehearsal.alice_records import read_records

        data, tests = self.plan.data, self.plan.tests
        if data.settings.kind == "self-instruct":
            seeds: list[Any] = [one for path in data.prompts for one in read_records(path)]
            return dict.fromkeys(("marked", "twins", "others", "fresh", "again"), seeds)
        if not data.prompts:
            return {}
        texts = read_prompts(data.prompts)
        if data.prompt_words is not None:
            texts = [one for text in texts for one in _pieces(text, data.prompt_words)]
        every = list(dict.fromkeys(texts))
        random.Random(self.plan.derived("prompts")).shuffle(every)  # noqa: S311
        n = data.settings.n_records
        wanted = {"marked": n, "others": n, "fresh": self._n_fresh, "again": n}
        wanted["asked"] = tests.n_answers
        least = len(wanted)
        if len(every) < least:
            raise ArgumentError(
                f"{self.plan.place}: [data] prompts holds {len(every)} different prompts; at least "
                f"{least} are needed, and {sum(wanted.values()):,} if none is to be used twice"
            )
        share = min(1.0, len(every) / sum(wanted.values()))
        found: dict[str, list[Any]] = {}
        start = 0
        for name, number in wanted.items():
            end = start + max(1, int(number * share))
            found[name] = every[start:end]
            start = end
        return found | {"twins": found["marked"]}

    @property
    def _n_fresh(self) -> int:
        return self.plan.tests.n_texts

    def records(self, pool: str, base: str, mark: str | None = None, key: int = 0) -> Part:
        """The records of a pool, Alice's with her mark."""
        data = self.plan.data
        if pool in data.own:
            return self.input(data.own[pool])
        n = self._n_fresh if pool == "fresh" else data.settings.n_records
        settings = replace(data.settings, n_records=n)
        chosen = None if mark is None else self.mark(mark, key)
        fingerprint = "" if chosen is None else chosen.scheme.fingerprint
        about = None
        if chosen is not None:
            about = {"scheme": public(chosen.scheme), "fingerprint": fingerprint}
            about["delta"] = chosen.delta
        name = f"records/{pool}/{base}/{fingerprint}"
        seed = self.plan.derived(name)

        def make(work: Path, tell: Any) -> dict[str, Any]:
            from radscore.rehearsal.alice import write_records

            report = write_records(
                self.writer(base),
                self.prompts[pool],
                settings,
                chosen,
                work / _RECORDS,
                seed=seed,
                progress=tell,
            )
            if report.n_left:
                raise ArgumentError(f"{self.plan.place}: [data] {'; '.join(report.notes)}")
            return asdict(report)

        most = settings.sampling.max_tokens
        what = f"{mark}, key {key}" if mark is not None else "unmarked"
        return self.known(
            Stage(
                "records",
                {
                    "pool": pool,
                    "seed": seed,
                    "mark": about,
                    "data": plain(settings),
                    "prompt_words": data.prompt_words,
                },
                {
                    "base": self.base_input(base) if data.model is None else self.input(data.model),
                    "prompts": self.input(*data.prompts),
                },
                make,
                f"{n:,} records ({pool}, {what}) by {base}",
                _WRITTEN * n * most,
            )
        )

    def read(self, part: Part) -> list[Record]:
        """The records of a stage or a file."""
        from radscore.rehearsal.alice_records import read_records

        path = self.store.path(part)  # type: ignore[arg-type]
        return read_records(path / _RECORDS if isinstance(part, Stage) else path)

    def writing_report(self, part: Part) -> RecordsReport | None:
        """What writing the records of a stage reported."""
        from radscore.rehearsal.alice import RecordsReport

        if not isinstance(part, Stage):
            return None
        found = self.store.report(part)
        return RecordsReport(**{**found, "notes": tuple(found["notes"])})

    def base_input(self, base: str) -> Input:
        """A base model's folder, and its tokenizer."""
        more = [] if self.plan.tokenizer is None else [self.plan.tokenizer]
        return self.input(self.plan.bases[base], *more)

    def writer(self, base: str) -> LanguageModel:
        """What writes records: Alice's model, or the base."""
        own = self.plan.data.model
        return self.base(base) if own is None else self._loaded(own)

    def base(self, base: str) -> LanguageModel:
        """A base model."""
        return self._loaded(self.plan.bases[base], tokenizer=self.plan.tokenizer)

    def model(self, part: Part, base: str, training: TrainingSettings) -> LanguageModel:
        """A trained model."""
        path = self.store.path(part)  # type: ignore[arg-type]
        adapter = (path / "adapter_config.json").exists()
        found = self._loaded(path, self.plan.bases[base] if adapter else None)
        if training.template != "chat" and found.tokenizer is not None:
            found.tokenizer.chat_template = None  # prompts are put as Bob's training put them
        return found

    def _loaded(
        self, path: Path, base: Path | None = None, tokenizer: Path | None = None
    ) -> LanguageModel:
        from radscore.models.loading import load_model

        name = (str(path), str(base))
        if name not in self._models:
            while len(self._models) >= _HELD:
                self._models.popitem(last=False)
            self._models[name] = load_model(
                path, base=base, tokenizer=tokenizer, device=self.plan.device
            )
        self._models.move_to_end(name)
        return self._models[name]

    def trained(self, cell: Cell, who: str = "suspect") -> Part:
        """A model that Bob trained: the suspect, the matched reference or the clean control."""
        share = cell.share if who == "suspect" else 0.0
        clean = self.records("others" if who == "reference" else "twins", cell.base)
        inputs: dict[str, Part] = {"base": self.base_input(cell.base), "clean": clean}
        if share:
            inputs["marked"] = self.records("marked", cell.base, cell.mark, cell.key)
        if share == 1:
            del inputs["clean"]
        n = self.plan.data.settings.n_records
        # with the same seed for all, what one draws for reference and control is the same
        seed = self.plan.derived(f"bob/{who if who == 'reference' else 'suspect'}/{cell.seed}")
        training = cell.training

        def make(work: Path, tell: Any) -> dict[str, Any]:
            from radscore.rehearsal.bob import mix, train

            marked = self.read(inputs["marked"]) if "marked" in inputs else []
            rest = self.read(inputs["clean"]) if "clean" in inputs else []
            mixture = mix(marked, rest, share, seed, n_records=n)
            report = asdict(
                train(
                    self.plan.bases[cell.base],
                    mixture.records,
                    training,
                    work,
                    seed=seed,
                    tokenizer=self.plan.tokenizer,
                    device=self.plan.device,
                    progress=tell,
                )
            )
            del report["path"]
            return report | {"n_marked": mixture.n_marked, "token_share": mixture.token_share}

        length = min(training.length, 2 * self.plan.data.settings.sampling.max_tokens)
        name = f"{who}, share {share:g}" if who == "suspect" else who
        return self.known(
            Stage(
                "bob",
                {"share": share, "n": n, "seed": seed, "training": asdict(training)},
                inputs,
                make,
                f"Bob's training: {name}, seed {cell.seed}",
                _LEARNED * training.epochs * n * length,
            )
        )

    @cached_property
    def asked(self) -> list[str] | None:
        """What suspects are asked; None if it is the instructions of `fresh`."""
        if self.plan.data.settings.kind == "self-instruct" or not self.plan.data.prompts:
            return None
        return list(self.prompts["asked"])

    def answers(self, model: Part, cell: Cell) -> Stage:
        """A model's answers."""
        tests = self.plan.tests
        fresh = self.records("fresh", cell.base)
        seed = self.plan.derived("answers")
        template = cell.training.template
        settings = {
            "n": tests.n_answers,
            "tokens": tests.answer_tokens,
            "temperature": tests.temperature,
            "top_p": tests.top_p,
            "template": template,
            "seed": seed,
            "prompts": self.plan.derived("prompts"),
            "data": self.plan.data.settings.n_records,
            "prompt_words": self.plan.data.prompt_words,
        }
        inputs: dict[str, Part] = {"model": model, "base": self.base_input(cell.base)}
        if self.plan.data.settings.kind == "self-instruct" or not self.plan.data.prompts:
            inputs["fresh"] = fresh
        else:
            inputs["prompts"] = self.input(*self.plan.data.prompts)
            settings["fresh"] = self._n_fresh

        def make(work: Path, tell: Any) -> dict[str, Any]:
            from radscore.answers.local import ask_local
            from radscore.rehearsal.bob_rows import ALPACA

            prompts = self.asked or [one.prompt for one in self.read(fresh)]
            prompts = prompts[: tests.n_answers]
            samples = -(-tests.n_answers // len(prompts))
            if template == "alpaca":
                prompts = [ALPACA.format(one) for one in prompts]
            report = ask_local(
                prompts,
                work / "answers.jsonl",
                model=self.model(model, cell.base, cell.training),
                name="model",
                api="chat" if template == "chat" else "completions",
                temperature=tests.temperature,
                top_p=tests.top_p,
                max_tokens=tests.answer_tokens,
                samples=samples,
                seed=seed,
                batch_size=64,
                progress=tell,
            )
            return {"n_answers": report.n_questions, "n_tokens": report.completion_tokens}

        cost = _WRITTEN * tests.n_answers * tests.answer_tokens
        return self.known(Stage("answers", settings, inputs, make, "answers", cost))


def _pieces(text: str, n_words: int) -> list[str]:
    """A text cut into pieces of so many words; the rest of it is left out."""
    words = text.split()
    ends = range(n_words, len(words) + 1, n_words)
    return [" ".join(words[end - n_words : end]) for end in ends]


def public(scheme: Scheme) -> Any:
    """A scheme without its key."""
    return json.loads(json.dumps(scheme.to_dict(), default=str))
