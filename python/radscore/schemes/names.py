"""What others call the schemes: `understood` reads their names and fields as radscore's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from radscore.errors import SchemeError, near, shown
from radscore.schemes.registry import SCHEMES
from radscore.schemes.seeding import NAMED_SEEDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["scheme_name", "understood"]

#: Other names of one scheme, as `_plain` writes them.
_OTHER_NAMES: Final = {
    "maryland": "kgw",
    "greenlist": "kgw",
    "openai": "gumbel_max",
    "dualkeygumbel": "vllm_dual_key_gumbel",
}
_GUMBEL: Final = (
    "several tools have one, which do not read each other: gumbel_max (the radioactivity "
    "authors'), vllm_gumbel, vllm_dual_key_gumbel, sglang_gumbel"
)
#: Names of several schemes, or of none: what to write instead.
_FAMILIES: Final = {
    **dict.fromkeys(("gumbel", "aar", "aaronson", "exp", "expgumbel"), _GUMBEL),
    "synthidtext": "there are two forms, which do not read each other: synthid (with a sampling "
    "table: transformers, PyPI's synthid-text) and synthid_deepmind (DeepMind's repository, and "
    "SGLang)",
}
#: MarkLLM's algorithms that nothing here computes.
_MARKLLM: Final = (
    *(
        "unigram",
        "sweet",
        "upv",
        "ewd",
        "sir",
        "xsir",
        "unbiased",
        "expedit",
        "itsedit",
        "pf",
        "ts",
    ),
)


def scheme_name(name: object) -> str:
    """The name of `SCHEMES` that a name means, however it is spelt.

    Raises
    ------
    SchemeError
        If it means none of them, or several.

    Examples
    --------
    >>> scheme_name("KGW"), scheme_name("Gumbel-Max"), scheme_name("lefthash")
    ('kgw', 'gumbel_max', 'kgw')
    """
    if isinstance(name, str):
        if name in SCHEMES:
            return name
        plain = _plain(name)
        spelt = {_plain(one): one for one in SCHEMES} | _OTHER_NAMES
        if plain in spelt:
            return spelt[plain]
        if _is_seeding(name):
            return "kgw"
        if plain in _FAMILIES:
            raise SchemeError(f"scheme {name!r} is not one scheme: {_FAMILIES[plain]}")
        if plain in _MARKLLM:
            raise SchemeError(
                f"scheme {name!r} cannot be read here; scheme must be one of {', '.join(SCHEMES)}"
            )
    raise SchemeError(
        f"scheme must be one of {', '.join(SCHEMES)}, not {shown(name)}{near(name, SCHEMES)}"
    )


def understood(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the names and fields of radscore's own schemes.

    Raises
    ------
    SchemeError
        If there is no such scheme, or a name means several.

    Examples
    --------
    >>> understood({"scheme": "KGW", "vocab_size": 100, "greenlist_ratio": 0.5})["gamma"]
    0.5
    """
    if "algorithm_name" in values:
        raise SchemeError(
            "algorithm_name stands in MarkLLM's configurations; its algorithms seed their "
            "generators in ways of their own, which no scheme here computes"
        )
    name = values.get("scheme")
    if name is None:
        raise SchemeError(f"the scheme has no name: scheme must be one of {', '.join(SCHEMES)}")
    found = scheme_name(name)
    fields = {field: value for field, value in values.items() if field != "scheme"}
    if isinstance(name, str) and found == "kgw" and _is_seeding(name):
        if "seeding" in fields:
            raise SchemeError(f"scheme {name!r} is a seeding; leave out seeding")
        fields["seeding_scheme"] = name
    return {"scheme": found, **SCHEMES[found].translated(fields)}


def _plain(name: str) -> str:
    return "".join(one for one in name.lower() if one.isalnum())


def _is_seeding(name: str) -> bool:
    return name in NAMED_SEEDINGS or name.startswith("ff-")
