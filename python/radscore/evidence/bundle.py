"""What a third party is given: the audit's files, what they are checked with, and the opening."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from radscore.canonical import canonical
from radscore.errors import StateError
from radscore.evidence.audit import ANSWERS, ITEMS, LOG, PLAN, Audit
from radscore.evidence.plan import check_planned
from radscore.evidence.scoring import PREDICTIONS
from radscore.evidence.witness import seal, unseal
from radscore.files import drafted
from radscore.schemes import Key

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from radscore.schemes import Scheme

__all__ = ["OPENING", "opened", "write_bundle"]

OPENING: Final = "opening.json"
#: Folder of the planned files that scoring needs.
FILES: Final = "files"
_MOST_BYTES: Final = 1 << 40


def write_bundle(
    audit: Audit,
    out: str | os.PathLike[str],
    *,
    scheme: Scheme | None = None,
    seal_for: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Writes a bundle, a .zip file.

    Parameters
    ----------
    audit : Audit
        Whose run is over.
    out : path
        The file to write.
    scheme : Scheme, optional
        The scheme with its key, to put the key into the bundle; without it, whoever verifies scores
        must be given the key.
    seal_for : path, optional
        PEM file of an expert's X25519 public key: only its holder can read the key then, and
        otherwise everybody.
    force : bool
        Whether to replace a file at `out`.

    Raises
    ------
    StateError
        If a file is missing, or is not the one that was planned.
    """
    secret = audit._secret()  # noqa: SLF001 - its own room
    opening: dict[str, Any] = {"nonce": secret["nonce"]}
    if scheme is not None:
        key = {name: _plain(getattr(scheme, name)) for name in scheme.secrets}
        opening |= {"key": key} if seal_for is None else {"sealed": seal(key, seal_for)}
    names = [PLAN, LOG, *ITEMS.values(), ANSWERS, PREDICTIONS, "report.html"]
    own = [audit.folder / name for name in names]
    own += sorted(audit.folder.glob("reference-*.npz"))
    path = Path(out)
    with (
        drafted(path, replace=force) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle,
    ):
        for one in own:
            if one.is_file():
                bundle.write(one, one.name)
        for name, planned in _needed(audit).items():
            found = Path(secret["base"]) / planned["path"]
            _add(bundle, name, found, planned)
        bundle.writestr(OPENING, canonical(opening))
    return path


def _needed(audit: Audit) -> dict[str, dict[str, str]]:
    content = audit.plan.content
    found = {name: content["test"][name] for name in ("tokenizer", "filter")}
    found["pool"] = content["pool"]
    return {name: one for name, one in found.items() if one is not None}


def _add(bundle: zipfile.ZipFile, name: str, path: Path, planned: dict[str, str]) -> None:
    check_planned(name, path, planned)
    # the same name, since its ending says what it is
    target = f"{FILES}/{name}/{path.name}"
    if path.is_file():
        bundle.write(path, target)
        return
    for one in sorted(path.rglob("*")):
        if one.is_file():
            bundle.write(one, f"{target}/{one.relative_to(path).as_posix()}")


def _plain(value: Any) -> Any:
    """A secret field as JSON knows it."""
    if isinstance(value, Key):
        (value,) = value.named("").values()
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        return [int(one) for one in value]
    return value if value is None or isinstance(value, str) else int(value)


def _restored(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


@contextmanager
def opened(
    path: str | os.PathLike[str], private_key: str | os.PathLike[str] | None = None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of a bundle, and its opening: the nonce, and the key if it is in there.

    A folder of an audit is taken as it is, a .zip file is unpacked to a temporary one. A sealed key
    is opened with the expert's private key, a PEM file.

    Raises
    ------
    StateError
        If it is no bundle.
    """
    root = Path(path)
    if root.is_dir():
        yield root, _opening(root, private_key)
        return
    with TemporaryDirectory(prefix="radscore-bundle-") as folder:
        inside = Path(folder)
        try:
            with zipfile.ZipFile(root) as bundle:
                _unpack(bundle, inside)
        except FileNotFoundError:
            raise StateError(f"{root}: there is no such file") from None
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise StateError(f"{root}: not a bundle of an audit: {error}") from None
        yield inside, _opening(inside, private_key)


def _unpack(bundle: zipfile.ZipFile, folder: Path) -> None:
    """Unpacks plain files below the folder, and never more than stated."""
    for one in bundle.infolist():
        target = folder / one.filename
        if one.is_dir():
            continue
        if not target.resolve().is_relative_to(folder.resolve()) or one.file_size > _MOST_BYTES:
            raise ValueError(f"it holds {one.filename!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(one) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)


def _opening(folder: Path, private_key: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The nonce, the key if it can be read, and where the planned files were; None for each."""
    path = next((p for n in (OPENING, "secret.json") if (p := folder / n).is_file()), None)
    if path is None:
        return {"nonce": None, "key": None, "base": None}
    try:
        found = json.loads(path.read_bytes())
        opening = {"nonce": str(found["nonce"]), "base": found.get("base")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StateError(f"{path}: damaged") from None
    key = found.get("key")
    if private_key is not None and "sealed" in found:
        key = unseal(found["sealed"], private_key)
    try:
        key = None if key is None else {name: _restored(one) for name, one in key.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StateError(f"{path}: its key is damaged") from None
    return opening | {"key": key}
