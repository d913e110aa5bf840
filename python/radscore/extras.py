"""The libraries that only some functions need, and how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from radscore.errors import MissingExtraError, line_of

__all__ = ["lacking", "need"]

#: Title and extra of each library; those without an extra are needed always.
_LIBRARIES: Final[dict[str, tuple[str, str]]] = {
    "torch": ("PyTorch", "models"),
    "transformers": ("transformers", "models"),
    "accelerate": ("accelerate", "models"),
    "gguf": ("gguf", "models"),
    "peft": ("peft", "models"),
    "safetensors": ("safetensors", "models"),
    "lm_eval": ("lm-eval", "eval"),
    "openai": ("the openai library", "api"),
    "cryptography": ("cryptography", "audit"),
    "rfc3161_client": ("rfc3161-client", "audit"),
    "jinja2": ("Jinja2", "report"),
    "matplotlib": ("matplotlib", "report"),
    "ray": ("Ray", "ray"),
    "fsspec": ("fsspec", "remote"),
    **{name: (name, "") for name in ("numpy", "scipy", "pandas", "pyarrow", "tokenizers", "tqdm")},
}


def need(*names: str, what: str = "this") -> None:
    """Imports libraries, or says how to install the first that is not there.

    Parameters
    ----------
    names : str
        Modules such as ``"torch"``.
    what : str
        What needs them, for the message.

    Raises
    ------
    MissingExtraError
        If one of them is not installed, or cannot be imported.

    Examples
    --------
    >>> need("numpy")
    """
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise (lacking(error, what) or _broken(error, name, what)) from None


def lacking(error: ImportError, what: str = "this") -> MissingExtraError | None:
    """What to say where an import failed since a library of an extra is not installed.

    None where it failed for another reason.
    """
    name = (error.name or "").partition(".")[0]
    if name not in _LIBRARIES:
        return None
    if not isinstance(error, ModuleNotFoundError):
        return _broken(error, name, what)
    title, extra = _LIBRARIES[name]
    package = f"'radscore[{extra}]'" if extra else name
    return MissingExtraError(f"{what} needs {title}: pip install {package}", name=name)


def _broken(error: ImportError, name: str, what: str) -> MissingExtraError:
    title, _ = _LIBRARIES.get(name.partition(".")[0], (name, ""))
    why = line_of(error)
    return MissingExtraError(f"{what} needs {title}, which cannot be imported: {why}", name=name)
