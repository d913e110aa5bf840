"""Where the steps of a run are carried out: one file per executor, one line here for each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError, near, shown
from radscore.runs.executors.base import Executor, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radscore.runs.manifest import Run
    from radscore.schemes import Scheme

__all__ = ["EXECUTORS", "SCRIPTS", "Executor", "Resources", "executor_of", "script_of"]

#: Executors, which do the work while the caller waits: name, and where its class is.
EXECUTORS: Final = {
    "local": "local:Local",
    "processes": "processes:Processes",
    "ray": "ray:Ray",
}
#: Writers of scripts that submit the work to another system: name, and where its function is.
SCRIPTS: Final = {
    "slurm": "slurm:slurm_script",
}


def executor_of(text: str | None, resources: Resources) -> Executor:
    """The executor that ``"name"`` or ``"name:target"`` means; ``local`` by default.

    Raises
    ------
    ArgumentError
        If there is none of that name, or its target makes no sense to it.
    """
    kind, target = _entry("executor", EXECUTORS, text or "local")
    executor: Executor = kind(target, resources)
    return executor


def script_of(
    text: str, run: Run, scheme: Scheme, secret: Sequence[str], resources: Resources
) -> str:
    """The script that ``"name"`` or ``"name:target"`` means, to carry out a run with.

    Raises
    ------
    ArgumentError
        As for `executor_of`.
    """
    write, target = _entry("script", SCRIPTS, text)
    script: str = write(run, scheme, secret, target, resources)
    return script


def _entry(what: str, entries: Mapping[str, str], text: str) -> tuple[Any, str | None]:
    name, colon, target = text.partition(":")
    if name not in entries:
        raise ArgumentError(
            f"{what} must be one of {', '.join(entries)}, not {shown(name)}{near(name, entries)}"
        )
    module, _, attribute = entries[name].partition(":")
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found, target if colon else None
