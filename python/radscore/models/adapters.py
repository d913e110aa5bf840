"""PEFT adapters: which kinds are supported, and whether all of a file went into the network.

peft goes on with a warning if weights have no place in the network, or the network has places that
nothing fills. Here what peft would save of the loaded network must be what the file holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ModelError, line_of, some_of
from radscore.models.checkpoints import own_weights
from radscore.models.library import check_fetched, read_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["READABLE_KINDS", "base_of", "check_network", "load_adapter"]

#: Kinds for which a test shows that a saved adapter predicts what it did in training.
# fmt: off
READABLE_KINDS: Final = frozenset(
    [
        "ADALORA", "ADAMSS", "ADAPTION_PROMPT", "BEFT", "BOFT", "C3A", "DEFT", "DELORA",
        "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LILY", "LN_TUNING",
        "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA",
        "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA",
        "VERA", "WAVEFT",
    ]
)
# fmt: on
#: Their predictions depend on virtual tokens, or on a cache or a prefix that is not text.
_VIRTUAL: Final = frozenset(
    ["CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"]
)
_OTHERS: Final = {
    "POLY": "needs a task's number with every text",
    "XLORA": "mixes other adapters, which are stored elsewhere",
}
#: LoRA options that make an adapter depend on certain tokens, or on other adapters.
_ROUTED: Final = {
    "alora_invocation_tokens": "switches itself on at certain tokens of a prompt",
    "arrow_config": "mixes other adapters, which are stored elsewhere",
}
#: Initialisations that change the base by data or at random, in a way that cannot be repeated.
_CHANGED_BASE: Final = ("pissa_niter", "corda", "lora_ga", "loftq")
_FILES: Final = ("adapter_model.safetensors", "adapter_model.bin")
#: Where some trainers save further weights that changed.
_BESIDE: Final = ("trainable_params.bin", "non_lora_trainables.bin", "new_embeddings.safetensors")
#: Entries that peft writes but that are not options of the kind.
_NOT_OPTIONS: Final = ("peft_version", "auto_mapping")


def base_of(adapter: Path, base: Any) -> Path:
    """The path of the adapter's base: the one given, or the one that the adapter names.

    Raises
    ------
    ModelError
        If it is not on this machine.
    """
    from pathlib import Path

    if base is not None:
        if not Path(base).exists():
            raise ModelError(f"base: {base}: no such file or folder")
        return Path(base)
    named = read_json(adapter / "adapter_config.json").get("base_model_name_or_path")
    places = [Path(str(named)), adapter / str(named)] if named else []
    for place in places:
        if place.exists():
            return place
    text = f"is {named!r}, which is not on this machine" if named else "is not named"
    raise ModelError(f"model: the base of the adapter {adapter} {text}; give it with base=")


def load_adapter(path: Path, base: Path, network: Any) -> Any:
    """Puts an adapter onto the network of its base.

    Raises
    ------
    ModelError
        If its kind is not supported, it does not fit the base, not all of its weights went into
        the network, or the network has places for more.
    """
    import torch
    from peft import PeftModel

    _check_kind(path)
    try:
        adapted = PeftModel.from_pretrained(network, path, local_files_only=True)
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"model: the adapter {path} does not fit {base}: {line_of(error)}"
        ) from error
    _check_placed(path, base, adapted)
    return adapted


def check_network(network: Any, name: str) -> None:
    """Raises if a network that was made elsewhere has an adapter of an unsupported kind."""
    for config in (getattr(network, "peft_config", None) or {}).values():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        _check_readable(kind, f"{name} has an adapter")
        _check_routes(vars(config), f"{name} has an adapter")


def _check_kind(path: Path) -> None:
    """Raises unless the configuration is of a supported kind, and peft knows all of it."""
    from dataclasses import fields

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    content = read_json(path / "adapter_config.json")
    what = f"the adapter {path} is"
    if both := own_weights(path):
        raise ModelError(
            f"model: {path} holds an adapter and {both[0]}: it is not clear which of them is the "
            "model; put them into separate folders"
        )
    names = {file.name for file in path.iterdir()}
    for name in names & set(_FILES):
        check_fetched(path / name)
    if not names & set(_FILES):
        raise ModelError(f"model: {what} without weights: it lacks {_FILES[0]}")
    if beside := names & set(_BESIDE):
        also = some_of(sorted(beside), 3)
        raise ModelError(f"model: {what} with {also} beside it, which is not supported")
    kind = str(content.get("peft_type"))
    _check_readable(kind, what)
    task = content.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(f"model: {what} for the task {task}, not for CAUSAL_LM")
    _check_routes(content, what)
    _check_start(content, what)
    by_name = {str(known.value): config for known, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in by_name:
        raise ModelError(f"model: {what} of kind {kind}, which the installed peft does not know")
    known = {field.name for field in fields(by_name[kind])}
    strange = {name for name in content if name not in known and content[name]}
    if strange := strange - set(_NOT_OPTIONS):
        raise ModelError(
            f"model: {what} made with {some_of(sorted(strange), 3)}, which the installed peft "
            "would ignore; install a newer one"
        )


def _check_readable(kind: str, what: str) -> None:
    if kind in READABLE_KINDS:
        return
    reason = "has not been checked to predict what it did in training"
    if kind in _VIRTUAL:
        reason = "puts virtual tokens before the text"
    raise ModelError(
        f"model: {what} of kind {kind}, which {_OTHERS.get(kind, reason)}, so is not supported"
    )


def _check_routes(content: Any, what: str) -> None:
    """Raises if what the network computes depends on more than the preceding tokens."""
    for name, reason in _ROUTED.items():
        if content.get(name):
            raise ModelError(f"model: {what} with {name}, which {reason}, so is not supported")


def _check_start(content: Any, what: str) -> None:
    """Raises if the base was changed before training, in a way that cannot be repeated."""
    start = content.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ModelError(
            f"model: {what} on a base that was changed in a way that cannot be repeated "
            f"(init_lora_weights={start!r}); save it as a plain LoRA, or merged into its base"
        )


def _check_placed(path: Path, base: Path, adapted: Any) -> None:
    """Raises unless what peft would save of the network is exactly what the file holds."""
    from peft.utils.save_and_load import get_peft_model_state_dict, load_peft_weights

    stored = load_peft_weights(str(path), device="cpu")
    if not stored:
        raise ModelError(f"model: the adapter {path} holds no weights")
    state = adapted.state_dict()
    held = get_peft_model_state_dict(adapted, state_dict=state, save_embedding_layers=False)
    lost = {name for name in stored if name not in held and name not in state}
    if lost:
        raise ModelError(
            f"model: {len(lost)} of the {len(stored)} weights of the adapter {path} have no place "
            f"on {base}: {some_of(sorted(lost), 3)} (a wrapper's prefix, or another base?)"
        )
    empty = {name for name in held if name not in stored}
    if empty:
        raise ModelError(
            f"model: the adapter {path} lacks weights that {base} has a place for: "
            f"{some_of(sorted(empty), 3)} (another base, or only partly saved?)"
        )
    for name, value in stored.items():
        place = held.get(name, state.get(name))
        assert place is not None
        if place.is_floating_point() and (not value.is_floating_point() or value.itemsize < 2):
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelError(
                f"model: the adapter {path} holds {name} as {kind}, without its scales"
            )
        if place.shape != value.shape or not _equal(place, value):
            raise ModelError(
                f"model: the adapter {path}: {name} is not what was loaded onto {base}"
            )


def _equal(place: Any, value: Any) -> bool:
    """Whether a parameter holds a value, up to the parameter's own type."""
    import torch

    return torch.equal(place.detach().cpu(), value.to(place.dtype).cpu())
