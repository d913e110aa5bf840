"""A run's folder: its manifest, the files of its units and parts, and what says they are done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore import _core
from radscore.checks import check_reach, check_rules, check_start
from radscore.corpus.base import SkipReport
from radscore.corpus.text.tokenizer import Tokenised
from radscore.doubts import IdDoubt
from radscore.errors import ArgumentError, StorageError
from radscore.files import make_folder, write_atomically
from radscore.kgrams import KgramSet
from radscore.runs.shards import UNIT_BYTES, WorkUnit, cut_units

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from radscore.corpus import Corpus
    from radscore.schemes import Scheme

__all__ = ["Run", "prepare", "prepare_in"]

_MANIFEST = "run.json"
_LOCK = "run.lock"
_FILTER = "filter.rkg"
_FORMAT = "radscore run"
_VERSION = 3
#: What the windows in the files of units depend on.
_DECISIVE = ("files", "settings", "windows", "rules", "filter", "bits", "units", "version")
#: Bytes from which a corpus has more partitions.
_LARGE = 64_000_000_000
#: Units that a large corpus has about: each reduction opens the files of all.
_MOST_UNITS = 2000


@dataclass(frozen=True)
class Run:
    """A run over work units, as its manifest says.

    Attributes
    ----------
    folders : tuple of Path
        Where its files lie, units in turn; the manifest is in the first.
    content : dict
        The manifest.
    """

    folders: tuple[Path, ...]
    content: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Only the manifest travels: other processes load the filter themselves."""
        return Run, (self.folders, self.content)

    @property
    def folder(self) -> Path:
        """The folder of the manifest."""
        return self.folders[0]

    @property
    def configuration(self) -> bytes:
        """A hash of everything that the windows depend on; keys are not among it."""
        return bytes.fromhex(self.content["configuration"])

    @cached_property
    def units(self) -> list[WorkUnit]:
        """The work units, in reading order."""
        return [WorkUnit(**unit) for unit in self.content["units"]]

    @property
    def n_parts(self) -> int:
        """Parts that the partitions are reduced in."""
        return int(self.content["parts"])

    @property
    def bits(self) -> int:
        """Partitions, as bits."""
        return int(self.content["bits"])

    @property
    def rules(self) -> dict[str, Any]:
        """The arguments of a scorer that the run decides on."""
        return dict(self.content["rules"])

    def filter(self) -> KgramSet | None:
        """The filter, which is kept beside the manifest; it is loaded once."""
        return self._filter

    @cached_property
    def _filter(self) -> KgramSet | None:
        if self.content["filter"] is None:
            return None
        path = self.folder / _FILTER
        phi = KgramSet.load(path)
        if phi.fingerprint != self.content["filter"]:
            raise StorageError(f"{path} is not the filter that the run was prepared with")
        return phi

    def part_range(self, part: int) -> tuple[int, int]:
        """The partitions of a part."""
        if not 0 <= part < self.n_parts:
            raise ArgumentError(f"part must be from 0 to {self.n_parts - 1}, not {part}")
        total = 1 << self.bits
        return total * part // self.n_parts, total * (part + 1) // self.n_parts

    def unit_path(self, unit: int) -> Path:
        """The file of a unit."""
        return self.folders[unit % len(self.folders)] / "units" / f"unit-{unit:06d}.rsw"

    def marker_path(self, unit: int) -> Path:
        """What says that a unit is done."""
        return self.unit_path(unit).with_suffix(".done")

    def mark(
        self,
        unit: int,
        length: int,
        digest: bytes,
        skipped: SkipReport,
        tokenised: Tokenised | None,
        *,
        seen: tuple[int, int],
    ) -> None:
        """Says that a unit is done."""
        marker = {
            "unit": unit,
            "length": length,
            "checksum": digest.hex(),
            "configuration": self.content["configuration"],
            "skipped": skipped.as_dict(),
            "tokenised": None if tokenised is None else asdict(tokenised),
            "seen": list(seen),
        }
        write_atomically(self.marker_path(unit), json.dumps(marker))

    def marker(self, unit: int) -> dict[str, Any] | None:
        """What the marker of a unit says, where it fits the run, and the unit's file its length."""
        try:
            marker: dict[str, Any] = json.loads(self.marker_path(unit).read_text())
            SkipReport.from_dict(marker["skipped"])
            _tokenised(marker)
            _seen(marker)
            says = marker["unit"], marker["configuration"], marker["length"]
            length = self.unit_path(unit).stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return marker if says == (unit, self.content["configuration"], length) else None

    def is_done(self, unit: int) -> bool:
        """Whether the marker of a unit fits, and the header of its file, which is read."""
        marker = self.marker(unit)
        if marker is None:
            return False
        try:
            configuration, number, _, digest = _core.read_shard_header(self.unit_path(unit))
        except StorageError:
            return False
        found = (configuration, number, digest.hex())
        return found == (self.configuration, unit, marker.get("checksum"))

    def missing(self) -> list[int]:
        """Units that are not done."""
        return [unit for unit in range(len(self.units)) if not self.is_done(unit)]

    def markers(self) -> list[dict[str, Any]]:
        """The markers of all units, without a look into their files.

        Raises
        ------
        StorageError
            If a unit is not done.
        """
        markers = []
        for unit in range(len(self.units)):
            marker = self.marker(unit)
            if marker is None:
                raise StorageError(f"work unit {unit} of {self.folder} is not done; map it first")
            markers.append(marker)
        return markers

    def skipped(self) -> SkipReport:
        """What the units left out."""
        return self.read()[0]

    def read(self) -> tuple[SkipReport, tuple[str, ...]]:
        """What the units left out, and the notes on what was read."""
        total = SkipReport()
        # Machines may have several versions of tokenizers.
        tokenised: dict[str, Tokenised] = {}
        doubt = IdDoubt(self.content["settings"]["vocab_size"])
        for marker in self.markers():
            doubt.add(*_seen(marker))
            total = total.plus(SkipReport.from_dict(marker["skipped"]))
            own = _tokenised(marker)
            if own is not None:
                before = tokenised.get(f"{own.by} {own.rest}")
                tokenised[f"{own.by} {own.rest}"] = own if before is None else before.plus(own)
        every = (*(one.note for one in tokenised.values()), doubt.note)
        notes = [note for note in every if note is not None]
        return total, (*self.content["notes"], *notes)

    def tidy(self, parts: Path, exchange: Collection[str]) -> None:
        """Removes what attempts that were killed have left.

        Parameters
        ----------
        parts : Path
            The folder of the parts under one key. They must be done, and all units.
        exchange : collection of str
            The names of the files there that the parts hand on.
        """
        left = [folder.glob("units/*.tmp") for folder in self.folders]
        left += [folder.glob("units/*.piece") for folder in self.folders]
        left += [parts.glob("*.tmp"), parts.glob("radscore-*"), parts.glob("*.rsx")]
        for path in chain(*left):
            if path.name not in exchange:
                path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes its files, and its folders if nothing else is in them.

        The manifest goes when all else is gone, so that what another process prepares here from
        then on stays; what is missing before is made again. The lock goes last: see `alone`.
        """
        for folder in self.folders:
            shutil.rmtree(folder / "units", ignore_errors=True)
        for name in ("parts", "logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (_FILTER, _MANIFEST, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes of this machine from doing the whole run at the same time.

        Raises
        ------
        StorageError
            If another does it, or has just done it and removed the run.
        """
        import fcntl

        path = self.folder / _LOCK
        gone = StorageError(f"another process has just removed {self.folder}; run the same again")
        with ExitStack() as stack:
            while True:
                try:
                    file = stack.enter_context(path.open("w"))
                except FileNotFoundError:
                    raise gone from None
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise StorageError(
                        f"another process works on {self.folder}; wait for it, or name other "
                        "folders"
                    ) from None
                with suppress(FileNotFoundError):
                    if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                        break
            if not (self.folder / _MANIFEST).exists():
                with suppress(OSError):
                    path.unlink()
                    self.folder.rmdir()
                raise gone
            yield

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens the run of a folder.

        Raises
        ------
        StorageError
            If there is none, or its manifest is damaged or of another version.
        """
        path = Path(folder) / _MANIFEST
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise StorageError(f"{folder} holds no run: {error.strerror}: {path}") from None
        except ValueError:
            raise StorageError(f"{path} is damaged: it is not JSON") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise StorageError(f"{path} is no manifest of a run")
        if content.get("version") != _VERSION:
            raise StorageError(
                f"{path} is of version {content.get('version')}; this radscore reads {_VERSION}"
            )
        try:
            run = cls((Path(folder), *map(Path, content["more_folders"])), content)
            expected = _configuration(content)
        except (KeyError, TypeError, AttributeError):
            raise StorageError(f"{path} is damaged: something is missing") from None
        if content.get("configuration") != expected:
            raise StorageError(f"{path} was altered: its checksum does not fit")
        return run

    def check_scheme(self, scheme: Scheme) -> None:
        """Raises unless the scheme reads the windows that the run cut."""
        _check_seeds(scheme, self.content["settings"], self.content["rules"]["prompt_role"])
        shape = window_shape(scheme, self.content["rules"]["start"])
        if shape != self.content["windows"]:
            raise ArgumentError(
                f"the run cut windows of {_told(self.content['windows'])}; the scheme reads those "
                f"of {_told(shape)}"
            )


def _seen(marker: dict[str, Any]) -> tuple[int, int]:
    """The largest id of a unit and how many there were, where its marker tells."""
    largest, n_tokens = marker.get("seen", (-1, 0))
    return int(largest), int(n_tokens)


def _tokenised(marker: dict[str, Any]) -> Tokenised | None:
    said = marker["tokenised"]
    return None if said is None else Tokenised(**said)


def _told(shape: dict[str, Any]) -> str:
    padding = shape["padding"]
    padded = "" if padding is None else f", padded by {padding} from position {shape['start']} on"
    return f"{shape['width']} tokens over {shape['vocab_size']} ids{padded}"


def _check_seeds(scheme: Scheme, settings: dict[str, Any], prompt_role: str) -> None:
    """Raises where prompts exclude by what a run, which holds no key, cannot tell."""
    prompts = settings.get("prompt_field") is not None and prompt_role == "exclude"
    if prompts and scheme.seed_kind != "context":
        raise ArgumentError(
            f"prompts exclude by seed under scheme {scheme.name!r}, which a run cannot tell, since "
            "it cuts windows without the key; score in memory, or give no prompts"
        )


def window_shape(scheme: Scheme, start: int | None) -> dict[str, Any]:
    width, first = scheme.window_width, scheme.first_position if start is None else start
    padding = scheme.padding if first < width - 1 else None
    return {
        "width": width,
        "vocab_size": scheme.vocab_size,
        "padding": padding,
        "start": start if padding is None else first,
    }


def _configuration(content: dict[str, Any]) -> str:
    """The hash of what the windows in the units depend on."""
    text = json.dumps({name: content[name] for name in _DECISIVE}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(
    folder: str | Path,
    corpus: Corpus,
    scheme: Scheme,
    dedup: str = "unit",
    *,
    filter: KgramSet | None = None,
    start: int | None = None,
    prompt_role: str = "exclude",
    unit_bytes: int | None = None,
    parts: int = 16,
    bits: int | None = None,
    more_folders: Sequence[str | Path] = (),
    opening: dict[str, Any] | None = None,
    any_units: bool = False,
) -> Run:
    """Writes the manifest of a run, or opens the one that is there if it says the same.

    Parameters
    ----------
    folder : path
        Where the manifest and all files of the run go.
    corpus : Corpus
        What is read.
    scheme : Scheme
        Only the shape of its windows counts here; no key is written.
    dedup, filter, start, prompt_role
        As in `Scorer`.
    unit_bytes : int, optional
        About how many bytes of files are one work unit; by default 256 MB, or a 2,000th of a
        corpus that is larger than 2,000 of them: each reduction opens the files of all units.
    parts : int
        Parts that the partitions are reduced in.
    bits : int, optional
        There are ``2**bits`` partitions; by default 4,096, from 64 GB on 8,192, from 128 GB
        on 16,384: a partition should fit the memory of a reduction.
    more_folders : sequence of paths
        More folders for files of units, as on other disks; each for this run alone.
    opening : dict, optional
        How the command line opens the corpus again.
    any_units : bool
        Whether a run that is there may be cut into other units.

    Raises
    ------
    StorageError
        If the folder holds a run over another corpus or with other rules.
    """
    check_rules(dedup, prompt_role, filter)
    check_reach([scheme], prompt_role)
    _check_seeds(scheme, corpus.settings, prompt_role)
    if unit_bytes is None:
        unit_bytes = max(UNIT_BYTES, corpus.total_bytes // _MOST_UNITS)
    if bits is None:
        bits = 12 + min((corpus.total_bytes // _LARGE).bit_length(), 2)
    if not 1 <= bits <= 16:
        raise ArgumentError(f"bits must be from 1 to 16, not {bits}")
    if not 1 <= parts <= 1 << bits:
        raise ArgumentError(f"parts must be from 1 to {1 << bits}, not {parts}")
    base = Path(folder)
    found = Run.open(base) if (base / _MANIFEST).exists() else None
    if found is not None and any_units:
        units = found.content["units"]
    else:
        units = [unit.to_dict() for unit in cut_units(corpus, unit_bytes)]
    content: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "files": corpus.absolute().manifest(),
        "settings": corpus.settings,
        "windows": window_shape(scheme, start),
        "rules": {"dedup": dedup, "start": check_start(start), "prompt_role": prompt_role},
        "filter": None if filter is None else filter.fingerprint,
        "bits": bits,
        "parts": parts,
        "units": units,
        "more_folders": [str(Path(path).absolute()) for path in more_folders],
        "notes": list(corpus.notes_of_opening),
        "opening": opening,
    }
    content["configuration"] = _configuration(content)
    if found is not None:
        if found.content["configuration"] != content["configuration"]:
            raise StorageError(
                f"{base} holds a run {_difference(found.content, content)}; name another folder, "
                "or remove it"
            )
        # What is not decisive is the run's own, but for where a tokenizer lies now.
        content = {**found.content, "opening": opening or found.content["opening"]}
    run = Run((base, *map(Path, content["more_folders"])), content)
    for one in run.folders:
        make_folder(one / "units")
    kept = base / _FILTER
    if filter is not None and (found is None or not kept.exists()):
        filter.save(kept)
    if found != run:
        write_atomically(base / _MANIFEST, json.dumps(content, indent=1))
    return run


def prepare_in(
    folders: Sequence[Path],
    corpus: Corpus,
    scheme: Scheme,
    dedup: str = "unit",
    *,
    windows: int,
    **options: Any,
) -> Run:
    """`prepare` in folders named after the corpus, so that the same call finds its run again.

    Parameters
    ----------
    folders : sequence of Path
        Where those folders are made.
    windows : int
        Bytes of windows that fit the memory. A unit should fit at once: most files have two bytes
        an id, and eight a window.
    corpus, scheme, dedup, options
        As of `prepare`.
    """
    paths = "\n".join(str(source.path.absolute()) for source in corpus.sources)
    name = f"radscore-{hashlib.sha256(paths.encode()).hexdigest()[:12]}"
    first, *more = [folder.absolute() / name for folder in folders]
    unit_bytes = max(min(UNIT_BYTES, windows // 5), corpus.total_bytes // _MOST_UNITS)
    return prepare(
        first,
        corpus,
        scheme,
        dedup,
        unit_bytes=unit_bytes,
        more_folders=more,
        any_units=True,  # another limit makes other units; those of the run do under any
        **options,
    )


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    words = {
        "files": "over another corpus",
        "settings": "that reads the corpus in another way",
        "windows": "of other windows",
        "rules": "under other rules",
        "filter": "with another filter",
        "bits": "of another number of partitions",
        "units": "that is cut into other units",
        "version": "of another version",
    }
    return words[next(name for name in _DECISIVE if one.get(name) != other.get(name))]
