"""transformers tokenizers whose ids are always those of the folder's tokenizer.json.

`AutoTokenizer` may replace the file's own splitting by that of the class that
tokenizer_config.json names, and add tokens to it. Corpora read the file itself, and so do models
here: only the chat template and the names of the special tokens come from transformers.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError, ModelError, line_of
from radscore.extras import need
from radscore.models.library import check_fetched, transformers_library

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["find_tokenizer", "load_tokenizer"]

_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
#: Names in GGUF files for GPT-2's way to split text, and for the one that separates all digits.
_GPT2: Final = ("gpt-2", "phi-2", "mpt", "olmo")
_DIGITS: Final = ("smollm", "starcoder", "refact", "codeshell")


def find_tokenizer(given: Any, places: Iterable[Path]) -> tuple[Any, str]:
    """The tokenizer that was given, or the first one found beside the weights.

    Returns
    -------
    tokenizer : transformers tokenizer or None
    reason : str
        Why there is none; empty if nothing more is known.
    """
    if given is not None and not isinstance(given, (str, os.PathLike)):
        if not hasattr(given, "convert_ids_to_tokens"):
            raise ArgumentError(
                f"tokenizer must be a path or a transformers tokenizer, not {type(given).__name__}"
            )
        return _plain(given), ""
    if given is not None:
        return load_tokenizer(given), ""
    for place in places:
        if place.is_file():
            try:
                return load_tokenizer(place), ""
            except ModelError as error:  # the weights alone still read token ids
                return None, str(error)
        if any((place / name).is_file() for name in _FILES):
            return load_tokenizer(place), ""
    return None, ""


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    """A transformers tokenizer from a folder, a tokenizer.json or a ``.gguf`` file.

    If there is a tokenizer.json, the ids are its own, as the tokenizers library reads it (without
    truncation, padding and dropout).

    Raises
    ------
    ModelError
        If there is none, or it cannot be made to split text as the model's does.
    """
    place = Path(path)
    if not place.exists():
        raise ModelError(f"tokenizer: {path}: no such file or folder")
    library = transformers_library()
    for file in (place, *(place / name for name in _FILES)):
        check_fetched(file)
    try:
        if place.suffix == ".json":
            return _of_file(place, None)
        if place.is_file():
            return _of_gguf(place)
        file = place / "tokenizer.json"
        if not file.is_file():
            return _plain(library.AutoTokenizer.from_pretrained(place, local_files_only=True))
        # transformers would guess about a folder without any configuration
        configured = any((place / f).is_file() for f in ("config.json", "tokenizer_config.json"))
        return _of_file(file, place if configured else None)
    except (ModelError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"tokenizer: {place} cannot be loaded: {line_of(error)}") from error


def _of_file(file: Path, folder: Path | None) -> Any:
    """A tokenizer.json, with the template and the special tokens that its folder configures."""
    from tokenizers import Tokenizer

    from radscore.corpus.text.plain import plain_tokenizer

    library = transformers_library()
    raw = plain_tokenizer(Tokenizer.from_file(str(file)))
    settings: dict[str, Any] = {}
    if folder is not None:
        named = library.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        settings = _settings(named, raw)
    made = library.PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(raw), **settings)
    made._tokenizer = raw  # noqa: SLF001 - the constructor may have added tokens
    return made


def _settings(named: Any, raw: Any) -> dict[str, Any]:
    """What a configuration adds to the ids, without special tokens that the file lacks."""
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
    """The tokenizer that a GGUF file describes, if its way to split text is known."""
    need("gguf", what="a GGUF file")
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    library = transformers_library()
    fields = GGUFReader(file).fields

    def text(name: str) -> str | None:
        field = fields.get(f"tokenizer.ggml.{name}")
        return None if field is None else str(field.contents())

    split = text("pre") or ""
    byte_level = text("model") == "gpt2"
    if byte_level and split not in (*_GPT2, *_DIGITS, *_known_splits()):
        raise ModelError(
            f"tokenizer: {file} splits text in the way {split!r}, which is unknown here; give the "
            "model's tokenizer.json as tokenizer="
        )
    loaded = library.AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True
    )
    if byte_level and split in _DIGITS:
        loaded.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    return _plain(loaded)


def _known_splits() -> Iterable[str]:
    """The ways to split text that transformers knows by their names in GGUF files."""
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping
    except ImportError:  # an older release
        return ()
    return getattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS", ())


def _plain(tokenizer: Any) -> Any:
    """A tokenizer without truncation, padding and dropout; the caller's own is not changed."""
    from radscore.corpus.text.plain import plain_tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    raw = plain_tokenizer(backend)
    if raw is backend:
        return tokenizer
    other = copy.copy(tokenizer)
    other._tokenizer = raw  # noqa: SLF001 - there is no public way
    return other
