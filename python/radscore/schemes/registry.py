"""Which schemes there are: radscore's own, and those of other packages.

Another package adds a scheme by an entry point of the group ``radscore.schemes``, whose name is the
scheme's and whose value is its class; it is imported when the scheme is first asked for. In its
``pyproject.toml``::

    [project.entry-points."radscore.schemes"]
    toy = "toy_marks.scheme:Toy"
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from radscore.errors import SchemeError
from radscore.schemes.base import Scheme
from radscore.schemes.gumbel import GumbelMax
from radscore.schemes.keyed import Keyed
from radscore.schemes.kgw import KGW
from radscore.schemes.sbw import SBW
from radscore.schemes.sglang import SGLangGumbel
from radscore.schemes.synthid import SynthID, SynthIDDeepMind
from radscore.schemes.textseal import TextSeal
from radscore.schemes.vllm import VLLMDualKeyGumbel, VLLMGumbel

__all__ = ["BUILT_IN", "GROUP", "SCHEMES", "SchemeRegistry", "register_scheme"]

#: The group of entry points.
GROUP = "radscore.schemes"

#: radscore's own schemes, one line each.
BUILT_IN: tuple[type[Scheme], ...] = (
    KGW,
    GumbelMax,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMGumbel,
    VLLMDualKeyGumbel,
    SGLangGumbel,
    SBW,
    Keyed,
)


class SchemeRegistry(Mapping[str, type[Scheme]]):
    """Scheme classes by name: radscore's own first, then registered ones, then other packages'.

    Iterating yields names and imports nothing; looking a name up imports its package. Entry points
    are looked for each time, but never for a name that is known already.
    """

    def __init__(self, schemes: tuple[type[Scheme], ...]) -> None:
        self._known = {scheme.name: scheme for scheme in schemes}

    def __getitem__(self, name: str) -> type[Scheme]:
        """The class of a scheme.

        Raises
        ------
        KeyError
            If there is no scheme of that name.
        SchemeError
            If the package that has it cannot be imported, or does not have what it promises.
        """
        if name not in self._known:
            entries = self._entries()
            self._known[name] = _load(entries[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from [name for name in self._entries() if name not in self._known]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._entries()

    def register(self, scheme: type[Scheme]) -> None:
        """Adds a scheme; see `register_scheme`."""
        if (why := _flaw(scheme)) is not None:
            raise SchemeError(f"only a scheme can be registered: {scheme!r} {why}")
        known = self._known.get(scheme.name)
        if known is not None and _place(known) != _place(scheme):
            raise SchemeError(f"the name {scheme.name!r} is taken by {_place(known)}")
        self._known[scheme.name] = scheme

    def _entries(self) -> dict[str, EntryPoint]:
        """The entry points of other packages, by name, in alphabetical order."""
        found: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            taken = found.get(entry.name)
            by = None if taken is None else _origin(taken)
            by = "radscore" if entry.name in {one.name for one in BUILT_IN} else by
            if by is None:
                found[entry.name] = entry
            elif by != _origin(entry):
                warnings.warn(
                    f"the scheme {entry.name!r} of {_origin(entry)} is left out: {by} has one of "
                    "that name",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return found


def register_scheme(scheme: type[Scheme]) -> type[Scheme]:
    """Makes a scheme known by its name for as long as the process lives; a class decorator, too.

    A package that is to be found without being imported has an entry point instead.

    Parameters
    ----------
    scheme : type
        A subclass of `Scheme`.

    Raises
    ------
    SchemeError
        If it is no such class, or its name is taken by another one.

    Examples
    --------
    >>> from radscore.schemes import Keyed
    >>> register_scheme(Keyed) is Keyed
    True
    """
    SCHEMES.register(scheme)
    return scheme


def _load(entry: EntryPoint) -> type[Scheme]:
    where = f"scheme {entry.name!r} comes from {_origin(entry)}"
    try:
        scheme = entry.load()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise SchemeError(f"{where}, which cannot be loaded: {text}") from error
    why = _flaw(scheme)
    if why is None and scheme.name != entry.name:
        why = f"is named {scheme.name!r}"
    if why is not None:
        raise SchemeError(f"{where}, whose {entry.value} {why}")
    found: type[Scheme] = scheme
    return found


def _flaw(scheme: object) -> str | None:
    """Why something is no scheme that can be registered; None where it is one."""
    if not isinstance(scheme, type) or not issubclass(scheme, Scheme):
        return "is no subclass of radscore.schemes.Scheme"
    if inspect.isabstract(scheme):
        return f"does not define {', '.join(sorted(scheme.__abstractmethods__))}"
    lacking = [name for name in ("name", "description") if not hasattr(scheme, name)]
    return f"has no {lacking[0]}" if lacking else None


def _place(scheme: type[Scheme]) -> str:
    return f"{scheme.__module__}.{scheme.__qualname__}"


def _origin(entry: EntryPoint) -> str:
    if entry.dist is None:
        return "an installed package"
    return f"the distribution {entry.dist.name} {entry.dist.version}"


#: Every scheme by its name in configuration files.
SCHEMES = SchemeRegistry(BUILT_IN)
