"""`Plan`: what a rehearsal plays, from a TOML file, checked before anything is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.canonical import hash_of
from radscore.errors import ArgumentError, near, shown, some_of
from radscore.models.writing import Sampling
from radscore.rehearsal.settings import DataSettings, TrainingSettings
from radscore.tables import Table, as_list, is_number, is_whole, made_of, read_tables

if TYPE_CHECKING:
    from radscore.schemes import Scheme

__all__ = ["AXES", "POOLS", "Cell", "Data", "MarkPlan", "Plan", "TestPlan", "plain"]

#: Pools of records, no two of which share a prompt, unless there are too few. Alice's: `marked`,
#: and `again`, which nobody trains on. Unmarked: `twins` (of the prompts of `marked`), `others`
#: (what the reference trains on) and `fresh` (what the suspect reads).
POOLS: Final = ("marked", "twins", "others", "fresh", "again")
_TRAINED: Final = tuple(one.name for one in fields(TrainingSettings))
#: What a grid can vary.
AXES: Final = ("share", "supervision", "seed", "key", "mark", "base", *_TRAINED)
_TOP: Final = (
    "name",
    "seed",
    "device",
    "base",
    "tokenizer",
    "data",
    "marks",
    "training",
    "grid",
    "tests",
)
_DATA: Final = (
    "kind",
    "prompts",
    "prompt_words",
    "model",
    "n_records",
    "min_tokens",
    "max_overlap",
)
_SAMPLED: Final = ("max_tokens", "temperature", "top_p", "top_k", "repeated")
_LARGEST: Final = 2**31


@dataclass(frozen=True)
class MarkPlan:
    """One of Alice's watermarks: the files of its scheme and keys, and what is added to logits.

    Keys beyond those of files are decoys of the first.
    """

    name: str
    scheme: Path
    keys: tuple[Path, ...] = ()
    delta: float | None = None


@dataclass(frozen=True)
class Data:
    """Where prompts, or the seeds of self-instruct, come from, and how records are written.

    Attributes
    ----------
    settings : DataSettings
    prompts : tuple of Path
        Files; empty if all records are files of one's own.
    prompt_words : int or None
        Texts are cut into prompts of so many words.
    model : Path or None
        What writes, if it is not Bob's base.
    own : dict
        Files of records by pool, in place of what a model would write.
    """

    settings: DataSettings
    prompts: tuple[Path, ...] = ()
    prompt_words: int | None = None
    model: Path | None = None
    own: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class TestPlan:
    """What is tested, and on how much.

    Attributes
    ----------
    n_texts : int
        Texts that an open suspect reads.
    n_answers, answer_tokens : int
        Answers of a closed suspect, and the most tokens of each.
    temperature, top_p : float
        Of those answers.
    listed : int
        Likeliest tokens that the suspect's API is taken to list; 0 for none.
    open, closed, membership, ability, quality : bool
        Which tests are run, and whether Bob's models and Alice's text are looked at.
    curve : tuple of int
        Numbers of tokens at which p is noted.
    texts : dict
        Files of unmarked text that an open suspect reads, by name, in place of records of `fresh`.
    level : float
        The p-value that is to be reached.
    """

    n_texts: int = 128
    n_answers: int = 512
    answer_tokens: int = 96
    temperature: float = 1.0
    top_p: float = 1.0
    listed: int = 20
    open: bool = True
    closed: bool = True
    membership: bool = True
    ability: bool = True
    quality: bool = True
    curve: tuple[int, ...] = ()
    texts: Mapping[str, Path] = field(default_factory=dict)
    level: float = 1e-5


TestPlan.__test__ = False  # type: ignore[attr-defined] # not one of pytest's


@dataclass(frozen=True)
class Cell:
    """One suspect of the grid, and the degree of supervision at which it is tested."""

    base: str
    mark: str
    key: int
    share: float
    supervision: float
    seed: int
    training: TrainingSettings


@dataclass(frozen=True)
class Plan:
    """A rehearsal: models, Alice's marks and data, Bob's recipe, the grid of suspects, the tests.

    Attributes
    ----------
    name : str
    seed : int
        All seeds are derived from it.
    device : str or None
        Where models run.
    bases : dict
        Folders of base models by name.
    tokenizer : Path or None
        Theirs, if it is not beside their weights.
    data : Data
    marks : dict
        By name.
    training : TrainingSettings
        Where the grid does not vary it.
    grid : tuple of dict
        Axes and their values; all combinations of each, and together every cell once.
    tests : TestPlan
    suspects : dict
        Folders of models of one's own by name, which are tested besides.
    place : str
        How messages name it.
    folder : Path
        Which paths are written relative to.
    """

    name: str
    bases: Mapping[str, Path]
    data: Data
    marks: Mapping[str, MarkPlan]
    seed: int = 0
    device: str | None = None
    tokenizer: Path | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    grid: tuple[Mapping[str, tuple[Any, ...]], ...] = ({},)
    tests: TestPlan = field(default_factory=TestPlan)
    suspects: Mapping[str, Path] = field(default_factory=dict)
    place: str = "plan"
    folder: Path = field(default_factory=Path.cwd)

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], *, base: str | os.PathLike[str] | None = None
    ) -> Plan:
        """The plan in a TOML file; paths in it are relative to its folder.

        Parameters
        ----------
        path : path
            The file.
        base : path, optional
            The base model, in place of the plan's.

        Raises
        ------
        ArgumentError
            If it is no TOML, or a field is unknown, missing or out of range; the message names file
            and table.
        OSError
            If it cannot be read.
        """
        file = Path(path)
        values = read_tables(file)
        if base is not None:
            if isinstance(values.get("base"), Mapping) and len(values["base"]) != 1:
                raise ArgumentError(f"base has no effect: {file} names several")
            given = Path(base).absolute()
            names = list(values["base"]) if isinstance(values.get("base"), Mapping) else []
            values["base"] = {names[0] if names else given.name: str(given)}
        return cls.of(values, file.absolute().parent, str(file))

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path | None = None, place: str = "plan") -> Plan:
        """The plan of a dictionary, as `read` finds it in a file.

        Parameters
        ----------
        values : mapping
            Tables and fields, as TOML reads them.
        folder : path, optional
            Which paths are relative to; by default the working folder.
        place : str
            How messages name it.
        """
        top = Table(f"{place}:", values)
        top.check((*_TOP, "suspects"))
        at = Path.cwd() if folder is None else folder.absolute()
        bases = _paths(top, "base", at, required="the folder of a model, or a table of them")
        marks = {name: _mark(top.table("marks").table(name), name, at) for name in _names(top)}
        training = made_of(TrainingSettings, _checked(top.table("training"), _TRAINED))
        tests = _tests(top.table("tests"), at)
        return cls(
            name=top.text("name", Path(place).stem),
            seed=top.whole("seed", 0, 0, 2**63 - 1),
            device=top.text("device"),
            bases=bases,
            tokenizer=next(iter(_paths(top, "tokenizer", at).values()), None),
            data=_data(top.table("data"), at),
            marks=marks,
            training=training,
            grid=_grids(top, bases, marks),
            tests=tests,
            suspects=_paths(top, "suspects", at),
            place=place,
            folder=at,
        )

    def cells(self) -> list[Cell]:
        """Every cell of the grid once, in order, and for each the control that has share 0."""
        found: dict[Cell, None] = {}
        for grid in self.grid:
            every = {
                "share": (0.05,),
                "supervision": (1.0,),
                "seed": (0,),
                "key": (0,),
                "mark": tuple(self.marks),
                "base": tuple(self.bases),
                **grid,
            }
            for values in product(*every.values()):
                chosen = dict(zip(every, values, strict=True))
                recipe = {name: chosen.pop(name) for name in _TRAINED if name in chosen}
                cell = Cell(**chosen, training=replace(self.training, **recipe))
                found[cell] = None
        controls = [replace(one, share=0.0, supervision=1.0) for one in found if one.share]
        return list(dict.fromkeys([*found, *controls]))

    def scheme(self, mark: str, key: int) -> Scheme:
        """A mark's scheme under one of its keys."""
        from radscore.schemes import Key
        from radscore.schemes.configs import from_toml

        plan = self.marks[mark]
        own = plan.keys[min(key, len(plan.keys) - 1)] if plan.keys else None
        scheme = from_toml(plan.scheme, None if own is None else Key.from_file(own))
        beyond = key - max(len(plan.keys), 1) + 1
        return scheme if beyond <= 0 else scheme.decoys(beyond, seed=self.derived("keys"))[-1]

    def derived(self, name: str) -> int:
        """The seed of one stage, 31 bits of a SHA-256 over the plan's seed and the stage's name."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; no key is in it, only the names of files."""
        found: dict[str, Any] = plain(self, self.folder)
        del found["place"], found["folder"]
        return found

    @property
    def digest(self) -> str:
        """64 hexadecimal digits, the SHA-256 of the canonical JSON."""
        return hash_of(self.to_dict(), allow_nan=True)


def plain(value: Any, folder: Path | None = None) -> Any:
    """Dataclasses, and paths relative to a folder, as JSON values."""
    if hasattr(value, "__dataclass_fields__"):
        return {one.name: plain(getattr(value, one.name), folder) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one, folder) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, folder) for one in value]
    if isinstance(value, Path):
        return str(value) if folder is None else os.path.relpath(value, folder)
    return value


def _checked(table: Table, known: tuple[str, ...]) -> Table:
    table.check(known)
    return table


def _names(top: Table) -> list[str]:
    """Names of the marks."""
    names = list(top.table("marks").values)
    if not names:
        raise ArgumentError(f"{top.place} there must be a mark: [marks.NAME] with its scheme")
    return names


def _there(table: Table, name: str, text: Any, at: Path) -> Path:
    """A file or folder that is named, which must be there."""
    if not isinstance(text, str) or not text:
        raise table.wrong(name, "must be the name of a file or folder")
    path = at / text
    if not path.exists():
        more = "; --base names another" if name == "base" else ""
        raise ArgumentError(f"{table.place} {name}: there is no {path}{more}")
    return path


def _paths(table: Table, name: str, at: Path, required: str = "") -> dict[str, Path]:
    """A path, or a table of paths by name."""
    value = table.values.get(name)
    if value is None and required:
        raise ArgumentError(f"{table.place} {name} is missing: {required}")
    if isinstance(value, Mapping):
        inner = table.table(name)
        return {one: _there(inner, one, text, at) for one, text in value.items()}
    if value is None:
        return {}
    path = _there(table, name, value, at)
    return {path.name: path}


def _mark(table: Table, name: str, at: Path) -> MarkPlan:
    table.check(("scheme", "key", "delta"))
    if "scheme" not in table.values:
        raise ArgumentError(f"{table.place} scheme is missing: the TOML file of the watermark")
    keys = as_list(table.values["key"]) if "key" in table.values else []
    return MarkPlan(
        name,
        _there(table, "scheme", table.values["scheme"], at),
        tuple(_there(table, "key", one, at) for one in keys),
        table.number("delta", None, 0.0, 100.0),
    )


def _data(table: Table, at: Path) -> Data:
    table.check((*_DATA, *_SAMPLED, *POOLS))
    own = {one: _there(table, one, table.values[one], at) for one in POOLS if one in table.values}
    prompts = tuple(
        _there(table, "prompts", one, at) for one in as_list(table.values.get("prompts", []))
    )
    if not prompts and (missing := [one for one in POOLS if one not in own]):
        raise ArgumentError(
            f"{table.place} prompts is missing: files of prompts (of records, for self-instruct), "
            f"or files of records for each of {some_of(missing)}"
        )
    inner = Table(table.place, {k: v for k, v in table.values.items() if k in _SAMPLED})
    sampling = made_of(Sampling, inner)
    rest = {name: table.values[name] for name in _DATA[4:] if name in table.values}
    rest = {"n_records": 1024, **rest}
    kind = table.text("kind", "continuations")
    given = {"kind": kind, "sampling": sampling}
    model = table.values.get("model")
    return Data(
        made_of(DataSettings, Table(table.place, rest), **given),
        prompts,
        table.whole("prompt_words", None, 1, 10_000),
        None if model is None else _there(table, "model", model, at),
        own,
    )


def _tests(table: Table, at: Path) -> TestPlan:
    table.check(tuple(one.name for one in fields(TestPlan)))
    rest = {k: v for k, v in table.values.items() if k not in {"curve", "texts"}}
    for name, low in (("n_texts", 1), ("n_answers", 1), ("answer_tokens", 1), ("listed", 0)):
        table.whole(name, None, low, _LARGEST)
    table.number("temperature", None, 0.0, 100.0)
    table.number("top_p", None, 0.0, 1.0)
    table.number("level", None, 1e-300, 0.5)
    curve = as_list(table.values.get("curve", []))
    if any(not is_whole(one) or one < 1 for one in curve):
        raise table.wrong("curve", "must be numbers of tokens")
    texts = _paths(table, "texts", at)
    return made_of(TestPlan, Table(table.place, rest), curve=tuple(sorted(curve)), texts=texts)


def _grids(
    top: Table,
    bases: Mapping[str, Path],
    marks: Mapping[str, MarkPlan],
) -> tuple[Mapping[str, tuple[Any, ...]], ...]:
    given = top.values.get("grid", {})
    tables = as_list(given) or [{}]
    found = []
    for i, one in enumerate(tables, start=1):
        if not isinstance(one, Mapping):
            raise top.wrong("grid", "must be a table, or an array of tables ([[grid]])")
        number = f" {i}" if len(tables) > 1 else ""
        found.append(_grid(Table(f"{top.place} [grid]{number}", one), bases, marks))
    return tuple(found)


def _grid(
    table: Table,
    bases: Mapping[str, Path],
    marks: Mapping[str, MarkPlan],
) -> dict[str, tuple[Any, ...]]:
    table.check(AXES)
    found: dict[str, tuple[Any, ...]] = {}
    for name, given in table.values.items():
        values = as_list(given)
        if not values:
            raise table.wrong(name, "must have a value at least")
        if name in {"share", "supervision"}:
            if not all(is_number(one) and 0 <= one <= 1 for one in values):
                raise table.wrong(name, "must be numbers from 0 to 1 (5 % is 0.05)")
            if name == "supervision" and not all(values):
                raise table.wrong(name, "must be above 0")
            values = [float(one) for one in values]
        elif name in {"seed", "key"}:
            if not all(is_whole(one) and 0 <= one < 1000 for one in values):
                raise table.wrong(name, "must be numbers from 0 to 999")
        elif name in {"mark", "base"}:
            known = marks if name == "mark" else bases
            for one in values:
                if one not in known:
                    hint = near(one, known) or f"; there are {some_of(known)}"
                    raise ArgumentError(f"{table.place} {name}: there is no {shown(one)}{hint}")
        else:
            made = [made_of(TrainingSettings, Table(table.place, {name: one})) for one in values]
            values = [getattr(one, name) for one in made]
        found[name] = tuple(values)
    return found
