"""The plan of an audit: everything that could be chosen after seeing a score, fixed beforehand."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from radscore._core import __version__
from radscore.canonical import canonical, hash_of
from radscore.errors import ArgumentError, StateError, near
from radscore.evidence.commitment import commit
from radscore.evidence.drawing import drawn, seed_of
from radscore.provenance import digest_of
from radscore.schemes import SCHEMES, Scheme
from radscore.scoring.anytime import check_anytime
from radscore.tables import Table, read_tables

__all__ = ["Plan", "check_planned", "read_settings"]

FORMAT: Final = "radscore audit plan"
VERSION: Final = 1
QUESTIONS: Final = {
    "model": "Was the suspect trained on text marked with the committed key?",
    "text": "Was the suspect trained on the recorded text, or other text marked with the committed "
    "key?",
}
#: Tables of a settings file, and their fields with defaults; `...` has none.
_TABLES: Final[dict[str, dict[str, Any]]] = {
    "": {"question": "model", "alpha": 0.001},
    "suspect": {"endpoint": None, "model": None, "folder": None, "api": "chat"},
    "pool": {"prompts": None, "texts": None, "field": None, "drawn": ...},
    "asking": {
        "max_tokens": 256,
        "temperature": 1.0,
        "top_p": 1.0,
        "system": None,
        "logprobs": None,
        "seed": 0,
    },
    "test": {
        "tokenizer": None,
        "weighting": None,
        "reference": None,
        "filter": None,
        "looks": None,
        "anytime": None,
        "decoys": 100,
    },
    "budget": {
        "max_requests": None,
        "max_tokens_total": None,
        "max_cost": None,
        "price_in": None,
        "price_out": None,
    },
}
_CLOSED_WEIGHTINGS: Final = ("plain", "residual", "listed")
_OPEN_WEIGHTINGS: Final = ("mass", "contrast")


def read_settings(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The settings of a plan in a TOML file, complete with defaults.

    Raises
    ------
    ArgumentError
        If the file cannot be read, or a table or field is unknown or missing.
    """
    location = os.fspath(path)
    try:
        values = read_tables(Path(path))
    except OSError as error:
        raise ArgumentError(f"{location}: {error.strerror or 'cannot be read'}") from None
    tables = {name: one for name, one in values.items() if isinstance(one, dict)}
    tables[""] = {name: one for name, one in values.items() if not isinstance(one, dict)}
    for name in tables:
        if name not in _TABLES:
            known = [one for one in _TABLES if one]
            raise ArgumentError(
                f"{location}: there is no table [{name}]; known are {', '.join(known)}"
                f"{near(name, known)}"
            )
    return {name: _filled(location, name, tables.get(name, {})) for name in _TABLES}


def _filled(location: str, table: str, given: dict[str, Any]) -> dict[str, Any]:
    known = _TABLES[table]
    where = f"{location}: [{table}]" if table else f"{location}:"
    Table(where, given).check(known)
    filled = {**known, **given}
    missing = [name for name, value in filled.items() if value is ...]
    if missing:
        raise ArgumentError(f"{where} needs the field {missing[0]}")
    return filled


def hash_of_path(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, or of a folder's files and their names.

    Raises
    ------
    ArgumentError
        If there is no such file or folder, or one cannot be read.
    """
    root = Path(path)
    if root.is_file():
        found = digest_of(root)
        if found is None:
            raise ArgumentError(f"{root} cannot be read")
        return found
    files = sorted(one for one in root.rglob("*") if one.is_file())
    if not files:
        raise ArgumentError(f"{root}: there is no such file, and no folder with files")
    listed = []
    for one in files:
        digest = digest_of(one)
        if digest is None:
            raise ArgumentError(f"{one} cannot be read")
        listed.append([one.relative_to(root).as_posix(), digest])
    return hash_of(listed)


def check_planned(name: str, path: Path, planned: dict[str, str]) -> None:
    """Raises `StateError` unless a file or folder is the one that was planned."""
    try:
        same = hash_of_path(path) == planned["sha256"]
    except ArgumentError as error:
        raise StateError(f"the {name}: {error}") from None
    if not same:
        raise StateError(f"the {name} {planned['path']} is not the one that was planned")


def _pool_items(
    kind: str, path: Path, field: str | None, tokenizer: Path, vocab_size: int
) -> list[Any]:
    """All prompts of a pool, or all its texts as token ids."""
    if kind == "prompts":
        from radscore.answers.prompts import read_prompts

        return read_prompts(path, field)
    from radscore.corpus import open_corpus

    corpus = open_corpus(path, field=field, tokenizer=tokenizer, vocab_size=vocab_size)
    return [document.tolist() for batch in corpus for document in batch.documents]


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan; what it says is all in `content`, its canonical form is what is committed to.

    Attributes
    ----------
    content : dict
        JSON-able. Files and folders are named by path, for convenience, and by SHA-256, which
        counts.
    sha256 : str
        Of the canonical form.
    """

    content: dict[str, Any]

    @classmethod
    def make(
        cls, settings: dict[str, dict[str, Any]], scheme: Scheme, nonce: str, *, folder: Path
    ) -> Plan:
        """A plan from settings, whose paths are relative to `folder`.

        Raises
        ------
        ArgumentError
            If no valid test follows from them, or a file is missing.
        """
        top, test, pool = settings[""], dict(settings["test"]), dict(settings["pool"])
        if top["question"] != "model":
            raise ArgumentError(
                "question must be 'model': a test on recorded text is not planned yet"
            )
        alpha = _alpha(top["alpha"])
        suspect = _suspect(settings["suspect"], folder)
        kind = "texts" if pool["texts"] is not None else "prompts"
        if (pool["texts"] is None) == (pool["prompts"] is None):
            raise ArgumentError("[pool] needs prompts or texts, and not both")
        closed = kind == "prompts"
        if not closed and "folder" not in suspect:
            raise ArgumentError(
                "[pool] texts are read by a model at hand ([suspect] folder); an endpoint is asked "
                "prompts"
            )
        reference = _named(test["reference"], folder)
        weighting = _weighting(test["weighting"], settings["asking"], reference, closed=closed)
        phi = _named(test["filter"], folder)
        if phi is not None and not closed:
            raise ArgumentError("[test] filter is for answers; a reading takes all contexts")
        tokenizer = _named(test["tokenizer"], folder)
        if tokenizer is None:
            raise ArgumentError("[test] needs the watermark's tokenizer")
        number = _whole("[pool] drawn", pool["drawn"])
        size = len(
            _pool_items(
                kind,
                folder / pool[kind],
                pool["field"],
                folder / tokenizer["path"],
                scheme.vocab_size,
            )
        )
        if number > size:
            raise ArgumentError(f"[pool] drawn is {number:,}, but {pool[kind]} has {size:,} {kind}")
        looks = _looks(test["looks"], number, closed=closed)
        anytime = _anytime(test["anytime"], scheme, weighting)
        share = 1 if anytime is not None else len(looks)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "radscore": __version__,
            "question": top["question"],
            "alpha": alpha,
            "suspect": suspect,
            "scheme": {"parameters": scheme.to_dict(), "commitment": commit(scheme, nonce)},
            "pool": {
                "kind": kind,
                **_needed(pool[kind], folder),
                "field": pool["field"],
                "number": size,
                "drawn": number,
                "rule": "least SHA-256 of seed and index",
            },
            "asking": settings["asking"] if closed else None,
            "test": {
                "access": "closed" if closed else "open",
                "weighting": weighting,
                "tokenizer": tokenizer,
                "reference": reference,
                "filter": phi,
                "looks": looks,
                "levels": [alpha / share] * len(looks),
                "anytime": anytime,
                "spending": _spending(looks, anytime),
            },
            "budget": settings["budget"] if closed else None,
            "decoys": {
                "number": _whole("[test] decoys", test["decoys"], least=0),
                "seed": "SHA-256 of plan, public randomness and answers or predictions",
            },
        }
        return cls(json.loads(canonical(content)))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """A plan from its file.

        Raises
        ------
        StateError
            If it is not one of this version.
        """
        try:
            data = path.read_bytes()
            content = json.loads(data)
            known = content["format"] == FORMAT and content["version"] == VERSION
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or 'cannot be read'}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            known = False
        if not known or data != canonical(content) + b"\n":
            raise StateError(f"{path}: not a plan of version {VERSION}, or changed by hand")
        return cls(content)

    @property
    def sha256(self) -> str:
        """The hash to publish."""
        return hash_of(self.content)

    def subset(
        self, path: Path, tokenizer: Path, sources: tuple[str, ...]
    ) -> tuple[list[Any], int]:
        """What is drawn of the pool at a path, in the order of the draw, and how much there is."""
        pool = self.content["pool"]
        size = self.content["scheme"]["parameters"]["vocab_size"]
        every = _pool_items(pool["kind"], path, pool["field"], tokenizer, size)
        seed = seed_of("subset", self.sha256, *sources)
        return [every[i] for i in drawn(pool["drawn"], len(every), seed)], len(every)

    @property
    def item_field(self) -> str:
        """Where a line of the kept subset has its prompt, or its token ids."""
        return "prompt" if self.content["pool"]["kind"] == "prompts" else "tokens"

    def bytes(self) -> bytes:
        """What its file holds."""
        return canonical(self.content) + b"\n"

    def scheme(self, key: Any) -> Scheme:
        """The planned scheme under a key."""
        parameters = dict(self.content["scheme"]["parameters"])
        return SCHEMES[parameters.pop("scheme")].from_fields(parameters, key)

    def rows(self) -> list[tuple[str, str]]:
        """What is planned, in words."""
        content, test = self.content, self.content["test"]
        suspect, pool = content["suspect"], content["pool"]
        who = (
            f"the model in {suspect['path']}"
            if "folder" in suspect
            else f"{suspect['model']} at {suspect['endpoint']}"
        )
        rows = [
            ("question", QUESTIONS[content["question"]]),
            ("suspect", who),
            ("scheme", ", ".join(f"{k} {v}" for k, v in content["scheme"]["parameters"].items())),
            ("level", f"{content['alpha']:g}"),
            ("test", _in_words(test)),
            ("pool", f"{pool['drawn']:,} of {pool['number']:,} {pool['kind']} in {pool['path']}"),
        ]
        if len(test["looks"]) > 1:
            looks = ", ".join(f"{one:,}" for one in test["looks"])
            level = f"each at level {test['levels'][0]:.3g}"
            how = level if test["anytime"] is None else f"by {test['spending']}"
            rows.append(("looks", f"after {looks} {pool['kind']}, {how}"))
        if (asking := content["asking"]) is not None:
            most = pool["drawn"] * asking["max_tokens"]
            rows.append(("at most", f"{pool['drawn']:,} answers, {most:,} answered tokens"))
        rows.append(("SHA-256", self.sha256))
        return rows


_WORDS: Final = {
    "plain": "each distinct unit of the answers counts once, with its exact law",
    "residual": "what the suspect says, less what the reference expects at every token",
    "listed": "the suspect's listed probabilities against the reference's",
    "mass": "the suspect's probabilities while it reads, summed over all places of a context",
    "contrast": "the suspect's probabilities while it reads, against the reference's",
}


def _in_words(test: dict[str, Any]) -> str:
    words = f"{test['access']}, {test['weighting']}: {_WORDS[test['weighting']]}"
    return words + ("" if test["filter"] is None else "; contexts of the filter only")


def _alpha(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < 0.5 or not math.isfinite(value):
        raise ArgumentError(f"alpha must be above 0 and below 0.5, not {value!r}")
    return float(value)


def _whole(name: str, value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def _suspect(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    if (given["folder"] is None) == (given["endpoint"] is None):
        raise ArgumentError("[suspect] needs endpoint and model, or folder")
    if given["folder"] is not None:
        return {"folder": True, "api": given["api"], **_needed(given["folder"], folder)}
    if given["model"] is None:
        raise ArgumentError("[suspect] needs the model's name at the endpoint: model")
    return {name: given[name] for name in ("endpoint", "model", "api")}


def _needed(path: str, folder: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hash_of_path(folder / path)}


def _named(path: str | None, folder: Path) -> dict[str, str] | None:
    return None if path is None else _needed(path, folder)


def _weighting(name: str | None, asking: dict[str, Any], reference: Any, *, closed: bool) -> str:
    """The weighting asked for, or the strongest valid one."""
    if name is None:
        if not closed:
            return "mass" if reference is None else "contrast"
        if asking["logprobs"] is not None:
            return "listed"
        return "plain" if reference is None else "residual"
    known = _CLOSED_WEIGHTINGS if closed else _OPEN_WEIGHTINGS
    if name not in known:
        raise ArgumentError(
            f"[test] weighting must be one of {', '.join(known)}, not {name!r}{near(name, known)}"
        )
    if name in {"residual", "contrast"} and reference is None:
        raise ArgumentError(f"[test] weighting {name!r} needs a reference")
    if name == "listed" and asking["logprobs"] is None:
        raise ArgumentError("[test] weighting 'listed' needs [asking] logprobs")
    if name in {"plain", "mass"} and reference is not None:
        raise ArgumentError(f"[test] a reference has no effect with weighting {name!r}")
    return name


def _anytime(given: Any, scheme: Scheme, weighting: str) -> float | None:
    """The effect that an e-value is planned for; None without one."""
    if given is None or given is False:
        return None
    if weighting != "plain":
        raise ArgumentError(
            "[test] anytime is for weighting 'plain': with others, weights of units that were "
            "scored grow from look to look"
        )
    if given is not True and (not isinstance(given, (int, float)) or not given > 0):
        raise ArgumentError(f"[test] anytime must be true or an effect above 0, not {given!r}")
    return check_anytime(given if given is True else float(given), scheme, "unit", None)


def _spending(looks: list[int], anytime: float | None) -> str:
    if anytime is not None:
        return "an e-value, which may be looked at as often as one likes"
    return "equal shares of alpha (Bonferroni)" if len(looks) > 1 else "one look"


def _looks(given: Any, drawn: int, *, closed: bool) -> list[int]:
    if given is None:
        return [drawn]
    if not isinstance(given, list) or not given:
        raise ArgumentError("[test] looks must be a list of whole numbers")
    looks = [_whole("[test] looks", one) for one in given]
    if any(later <= one for one, later in pairwise(looks)) or looks[-1] != drawn:
        raise ArgumentError(f"[test] looks must grow, and end with [pool] drawn ({drawn})")
    if not closed and len(looks) > 1:
        raise ArgumentError("[test] looks are for answers; a reading is tested once")
    return looks
