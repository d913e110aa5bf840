"""The files of buckets: their sums under one key, and the files they hand on."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from radscore import _core
from radscore.errors import StorageError
from radscore.files import write_atomically
from radscore.runs.markers import checksum_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = [
    "Stage",
    "bucket_path",
    "missing_buckets",
    "read_bucket",
    "read_buckets",
    "tallies_of",
    "write_bucket",
]

#: Windows are reduced first; schemes whose units are not windows then reduce their units.
Stage: TypeAlias = Literal["windows", "units"]
_VERSION = 2


def bucket_path(run: Run, scheme: Scheme, bucket: int, stage: Stage) -> Path:
    """The file of a bucket."""
    return run.buckets_folder(scheme) / f"{stage}-{bucket:05d}.json"


def _header(run: Run, scheme: Scheme, bucket: int, stage: Stage) -> dict[str, Any]:
    """What its file must say about itself."""
    return {
        "version": _VERSION,
        "configuration": run.content["configuration"],
        "scheme": scheme.fingerprint,
        "bucket": bucket,
        "partitions": list(run.partitions_of(bucket)),
        "stage": stage,
    }


def write_bucket(
    run: Run,
    scheme: Scheme,
    bucket: int,
    stage: Stage,
    *,
    tallies: Iterable[_core.Tally],
    exchange: Iterable[tuple[int, Path]],
) -> None:
    """Says that a bucket is reduced: its sums, and the files it hands on, with their groups."""
    content = {
        **_header(run, scheme, bucket, stage),
        "tallies": [base64.b64encode(tally.to_bytes()).decode() for tally in tallies],
        "exchange": [[group, Path(path).name] for group, path in exchange],
    }
    content["checksum"] = checksum_of(content)
    write_atomically(bucket_path(run, scheme, bucket, stage), json.dumps(content))


def read_bucket(run: Run, scheme: Scheme, bucket: int, stage: Stage) -> dict[str, Any] | None:
    """What a bucket's file says; None if there is none, or it is damaged or of another run."""
    path = bucket_path(run, scheme, bucket, stage)
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        checksum = content.pop("checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    header = _header(run, scheme, bucket, stage)
    if checksum != checksum_of(content) or not header.items() <= content.items():
        return None
    exchanged = [path.parent / name for _, name in content["exchange"]]
    return content if all(path.exists() for path in exchanged) else None


def read_buckets(run: Run, scheme: Scheme, stage: Stage) -> list[dict[str, Any]]:
    """What the files of all buckets say.

    Raises
    ------
    StorageError
        If a bucket is not reduced.
    """
    buckets = []
    for bucket in range(run.n_buckets):
        content = read_bucket(run, scheme, bucket, stage)
        if content is None:
            raise StorageError(
                f"bucket {bucket} ({stage}) of {run.folder} is not reduced yet under this scheme "
                "and key"
            )
        buckets.append(content)
    return buckets


def missing_buckets(run: Run, scheme: Scheme, stage: Stage) -> list[int]:
    """Buckets that are not reduced in this stage, under this key."""
    every = range(run.n_buckets)
    return [bucket for bucket in every if read_bucket(run, scheme, bucket, stage) is None]


def tallies_of(content: dict[str, Any]) -> list[_core.Tally]:
    """The sums that a bucket's file holds."""
    return [_core.Tally.from_bytes(base64.b64decode(packed)) for packed in content["tallies"]]
