"""The files of parts: the sums of some partitions under one key, and what is handed on."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from radscore import _core
from radscore.errors import StorageError
from radscore.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = [
    "Stage",
    "folder_of",
    "path_of",
    "read_part",
    "read_parts",
    "tallies_of",
    "write_part",
]

#: Windows are reduced first; schemes whose units are not windows then reduce their units.
Stage: TypeAlias = Literal["windows", "units"]


def folder_of(run: Run, scheme: Scheme) -> Path:
    """Where the parts under a key lie."""
    return run.folder / "parts" / scheme.fingerprint


def path_of(run: Run, scheme: Scheme, part: int, stage: Stage) -> Path:
    """The file of a part."""
    return folder_of(run, scheme) / f"{stage}-{part:05d}.json"


def _header(run: Run, scheme: Scheme, part: int, stage: Stage) -> dict[str, Any]:
    """What its file must say of itself."""
    return {
        "configuration": run.content["configuration"],
        "scheme": scheme.fingerprint,
        "part": part,
        "range": list(run.part_range(part)),
        "stage": stage,
    }


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_part(
    run: Run,
    scheme: Scheme,
    part: int,
    stage: Stage,
    *,
    tallies: Iterable[_core.Tally],
    exchange: Iterable[tuple[int, Path]],
) -> None:
    """Says that a part is done: its sums, and the files that it hands on (with their schemes)."""
    content = {
        **_header(run, scheme, part, stage),
        "tallies": [base64.b64encode(tally.to_bytes()).decode() for tally in tallies],
        "exchange": [[index, Path(path).name] for index, path in exchange],
    }
    content["checksum"] = _checksum(content)
    write_atomically(path_of(run, scheme, part, stage), json.dumps(content))


def read_part(run: Run, scheme: Scheme, part: int, stage: Stage) -> dict[str, Any] | None:
    """What a part's file says, if it is there; one that is damaged or foreign is not."""
    path = path_of(run, scheme, part, stage)
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        checksum = content.pop("checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    header = _header(run, scheme, part, stage)
    if checksum != _checksum(content) or not header.items() <= content.items():
        return None
    exchanged = [path.parent / name for _, name in content["exchange"]]
    return content if all(path.exists() for path in exchanged) else None


def read_parts(run: Run, scheme: Scheme, stage: Stage) -> list[dict[str, Any]]:
    """What the files of all parts say.

    Raises
    ------
    StorageError
        If one is not there.
    """
    parts = []
    for part in range(run.n_parts):
        content = read_part(run, scheme, part, stage)
        if content is None:
            raise StorageError(
                f"part {part} ({stage}) of {run.folder} is not reduced under this scheme and key; "
                "do that first"
            )
        parts.append(content)
    return parts


def tallies_of(content: dict[str, Any]) -> list[_core.Tally]:
    """The sums that a part's file holds."""
    return [_core.Tally.from_bytes(base64.b64decode(packed)) for packed in content["tallies"]]
