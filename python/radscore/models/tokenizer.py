"""Tokenizers of transformers whose ids are those of the folder's tokenizer.json, always.

`AutoTokenizer` may put the cutting of the class that a tokenizer_config.json names in the place of
the file's own, and adds tokens to it. The corpora read the file itself; so do the models here, and
only the chat template and the names of the special tokens come from transformers.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError, ModelError
from radscore.models.library import line_of, transformers_library

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["find_tokenizer", "load_tokenizer"]

_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
#: What a GGUF file may call the way in which GPT-2 cuts text, and that of digits one by one.
_GPT2: Final = ("gpt-2", "phi-2", "mpt", "olmo")
_DIGITS: Final = ("smollm", "starcoder", "refact", "codeshell")


def find_tokenizer(given: Any, places: Iterable[Path]) -> tuple[Any, str]:
    """The tokenizer that was given, or the first there is beside the weights.

    Returns
    -------
    tokenizer : transformers tokenizer or None
    reason : str
        Why there is none; empty where nothing more is known.
    """
    if given is not None and not isinstance(given, (str, os.PathLike)):
        if not hasattr(given, "convert_ids_to_tokens"):
            raise ArgumentError(
                "tokenizer must be a path or a tokenizer of transformers, not "
                f"{type(given).__name__}"
            )
        return _plain(given), ""
    if given is not None:
        return load_tokenizer(given), ""
    for place in places:
        if place.is_file():
            try:
                return load_tokenizer(place), ""
            except ModelError as error:  # the weights alone can read token ids
                return None, str(error)
        if any((place / name).is_file() for name in _FILES):
            return load_tokenizer(place), ""
    return None, ""


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    """A tokenizer of transformers from a folder, a tokenizer.json or a ``.gguf`` file.

    Where there is a tokenizer.json, the ids are its own, as the tokenizers library reads it
    (without truncation, padding and dropout).

    Raises
    ------
    ModelError
        If there is none, or it cannot be made what it is in the model.
    """
    place = Path(path)
    if not place.exists():
        raise ModelError(f"tokenizer: {path}: there is no such file or folder")
    library = transformers_library()
    try:
        if place.suffix == ".json":
            return _of_file(place, None)
        if place.is_file():
            return _of_gguf(place)
        file = place / "tokenizer.json"
        if not file.is_file():
            return _plain(library.AutoTokenizer.from_pretrained(place, local_files_only=True))
        # a folder without any configuration is not given to transformers, which would guess
        configured = any((place / f).is_file() for f in ("config.json", "tokenizer_config.json"))
        return _of_file(file, place if configured else None)
    except (ModelError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"tokenizer: {place} cannot be loaded: {line_of(error)}") from error


def _of_file(file: Path, folder: Path | None) -> Any:
    """A tokenizer.json, with the template and the special tokens of its folder's configuration."""
    from tokenizers import Tokenizer

    from radscore.corpus.text.plain import plain_tokenizer

    library = transformers_library()
    raw = plain_tokenizer(Tokenizer.from_file(str(file)))
    settings: dict[str, Any] = {}
    if folder is not None:
        named = library.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        settings = _settings(named, raw)
    made = library.PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(raw), **settings)
    made._tokenizer = raw  # noqa: SLF001 - making it may have added tokens to its own
    return made


def _settings(named: Any, raw: Any) -> dict[str, Any]:
    """What a configuration says beside the ids, without special tokens that the file lacks."""
    settings: dict[str, Any] = {}
    for name, token in named.special_tokens_map.items():
        if isinstance(token, str):
            if raw.token_to_id(token) is not None:
                settings[name] = token
        elif known := [one for one in token if raw.token_to_id(str(one)) is not None]:
            settings[name] = known
    for name in ("extra_special_tokens", "additional_special_tokens"):
        more = getattr(named, name, None)
        if isinstance(more, (list, tuple)):
            known = [str(one) for one in more if raw.token_to_id(str(one)) is not None]
            settings[name] = known
            break
    for name in ("chat_template", "model_max_length", "clean_up_tokenization_spaces"):
        if getattr(named, name, None) is not None:
            settings[name] = getattr(named, name)
    return settings


def _of_gguf(file: Path) -> Any:
    """The tokenizer that a GGUF file describes, if its way to cut text is known."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    library = transformers_library()
    fields = GGUFReader(file).fields

    def text(name: str) -> str | None:
        field = fields.get(f"tokenizer.ggml.{name}")
        return None if field is None else str(field.contents())

    cut = text("pre") or ""
    byte_level = text("model") == "gpt2"
    if byte_level and cut not in (*_GPT2, *_DIGITS, *_known_cuts()):
        raise ModelError(
            f"tokenizer: {file} cuts text as {cut!r}, which is not known here; give the model's "
            "tokenizer.json as tokenizer="
        )
    loaded = library.AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True
    )
    if byte_level and cut in _DIGITS:
        loaded.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    return _plain(loaded)


def _known_cuts() -> Iterable[str]:
    """The ways to cut text that transformers knows by the names that GGUF files use."""
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping
    except ImportError:  # an older release
        return ()
    return getattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS", ())


def _plain(tokenizer: Any) -> Any:
    """A tokenizer that neither truncates nor pads nor drops; the caller's own is not changed."""
    from radscore.corpus.text.plain import plain_tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    raw = plain_tokenizer(backend)
    if raw is backend:
        return tokenizer
    other = copy.copy(tokenizer)
    other._tokenizer = raw  # noqa: SLF001 - there is no other way in
    return other
