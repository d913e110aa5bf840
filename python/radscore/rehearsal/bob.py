"""Bob: a base model is trained on records, resumably, with transformers' `Trainer`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from radscore.errors import ArgumentError, ModelError, StateError
from radscore.extras import need
from radscore.files import Lock, make_folder, write_atomically
from radscore.models.library import transformers_library
from radscore.models.loading import load_model
from radscore.progress import Progress
from radscore.rehearsal.bob_rows import IGNORED, Mixture, Rows, mix, padded, training_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from radscore.models.loading import LanguageModel
    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.settings import TrainingSettings

__all__ = ["Mixture", "Rows", "TrainingReport", "mix", "train", "training_rows"]

_RECIPE, _REPORT, _CHECKPOINTS, _SEAL = "recipe.json", "training.json", "checkpoints", "complete"


@dataclass(frozen=True)
class TrainingReport:
    """What training did.

    Attributes
    ----------
    path : str
        The folder of the model, or of the adapter.
    n_records, n_cut, n_empty, n_encoded : int
        Rows that were trained on; records that were longer; records without a token to learn; rows
        whose answers were encoded again.
    n_tokens, n_learned : int
        Tokens of the rows, and those of them that are learned, in one epoch.
    n_steps : int
        Updates of the weights.
    n_parameters, n_trained : int
        Weights of the model; those that were trained.
    losses : list of [int, float]
        Step, and the mean loss per learned token, in nats, since the entry before.
    loss : float
        Mean over the last tenth of the steps.
    seconds : float
        Wall time of the call that ended it.
    """

    path: str
    n_records: int
    n_cut: int
    n_empty: int
    n_encoded: int
    n_tokens: int
    n_learned: int
    n_steps: int
    n_parameters: int
    n_trained: int
    losses: list[list[float]]
    loss: float
    seconds: float


def train(
    base: Path,
    records: Sequence[Record],
    settings: TrainingSettings,
    out: Path,
    *,
    seed: int,
    tokenizer: Any = None,
    device: str | None = None,
    checkpoints: int = 10,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingReport:
    """Trains a model on records.

    After an error, Ctrl-C or ``kill -9`` the same call continues from the last checkpoint; on a CPU
    the weights are then the same as without, to the last bit. Once it is done, the same call only
    returns the same report. Under ``accelerate launch`` every process calls this.

    Parameters
    ----------
    base : path
        A model as `load_model` takes it; no adapter.
    records : sequence of Record
        See `mix`.
    settings : TrainingSettings
        The recipe.
    out : path
        Folder of the model (or of the LoRA adapter), its tokenizer, ``recipe.json`` and, once it is
        done, ``training.json``.
    seed : int
        Seed of the order of records, of adapters and of dropout.
    tokenizer : path or transformers tokenizer, optional
        By default the one beside the base's weights.
    device : str, optional
        ``"cpu"``, or by default every GPU that this process sees, else the CPU.
    checkpoints : int
        How many are made; the last two are kept until training is done.
    progress : callable, optional
        Called with a `Progress` after every step: steps done, all steps, and tokens read.

    Raises
    ------
    ArgumentError
        If there is nothing to learn, or the batch cannot be split.
    ModelError
        If the base has no tokenizer, or the loss is no number.
    StateError
        If `out` was begun with other data, settings, seed or base.
    """
    need("torch", "transformers", "accelerate", what="training")
    if settings.method == "lora":
        need("peft", what="training an adapter")
    if Path(base, "adapter_config.json").is_file():
        raise ModelError(f"base: {base} is an adapter; merge it into its base first")
    started, out = time.monotonic(), Path(out)
    with quiet():
        dtype = "bfloat16" if settings.method == "lora" and settings.bf16 else "float32"
        model = load_model(base, tokenizer=tokenizer, device="cpu", dtype=dtype)
        if model.tokenizer is None:
            raise ModelError(f"base: {base} has no tokenizer; give one with tokenizer=")
        rows = training_rows(records, model.tokenizer, settings)
        if not len(rows):
            raise ArgumentError("records: there is no token to learn")
        first = int(os.environ.get("RANK", "0")) == 0
        make_folder(out)
        with Lock(out / "training.lock") if first else nullcontext():
            report = _begin(model, rows, settings, out, seed)
            if report is not None:
                return report
            trainer, network = trainer_of(
                model, rows, settings, out, seed=seed, device=device, checkpoints=checkpoints
            )
            if progress is not None:
                trainer.add_callback(_watch(progress, rows, settings))
            trainer.train(resume_from_checkpoint=_last_checkpoint(out, clear=first))
            network.config.use_cache = True  # the trainer turns it off
            trainer.save_model(str(out))
            report = _report(out, rows, trainer, network, time.monotonic() - started)
            if first:
                write_atomically(out / _REPORT, json.dumps(asdict(report), indent=1))
                shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)
                (out / "training_args.bin").unlink(missing_ok=True)  # a pickle
        return report


def _begin(
    model: LanguageModel, rows: Rows, settings: TrainingSettings, out: Path, seed: int
) -> TrainingReport | None:
    """Notes what is trained, or compares it with what was noted; the report if it is done."""
    digest = hashlib.sha256()
    for part in (rows.ids, rows.labels):
        for row in part:
            digest.update(len(row).to_bytes(8, "little") + row.astype("<i8").tobytes())
    recipe = {
        "base": model.fingerprint,
        "data": digest.hexdigest(),
        "seed": seed,
        **asdict(settings),
    }
    path = out / _RECIPE
    if not path.exists():
        if (out / "config.json").exists() or (out / "adapter_config.json").exists():
            raise StateError(f"{out} holds a model already; name another folder")
        write_atomically(path, json.dumps(recipe, indent=1))
        return None
    then = _read(path)
    changed = [name for name in recipe if then.get(name) != recipe[name]]
    if changed:
        raise StateError(
            f"{path} was made with {changed[0]} {then.get(changed[0])!r}, not "
            f"{recipe[changed[0]]!r}; name another folder"
        )
    if not (out / _REPORT).exists():
        return None
    try:
        return TrainingReport(**{**_read(out / _REPORT), "path": str(out)})
    except TypeError:
        raise StateError(f"{out / _REPORT} is damaged; remove the folder to train again") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise StateError(f"{path} is damaged; remove the folder to train again")
    return found


def _last_checkpoint(out: Path, *, clear: bool) -> str | None:
    """The latest checkpoint that was written to its end; others are deleted if `clear`."""
    whole: list[tuple[int, Path]] = []
    for path in (out / _CHECKPOINTS).glob("checkpoint-*"):
        if (path / _SEAL).exists():
            whole.append((int(path.name.rpartition("-")[2]), path))
        elif clear:
            shutil.rmtree(path)
    return str(max(whole)[1]) if whole else None


def trainer_of(
    model: LanguageModel,
    rows: Rows,
    settings: TrainingSettings,
    out: Path,
    *,
    seed: int,
    device: str | None,
    checkpoints: int = 0,
    max_steps: int | None = None,
) -> tuple[Any, Any]:
    """A `Trainer`, and the network that it trains."""
    import torch

    library: Any = transformers_library()
    library.set_seed(seed % 2**32)
    network = model.model
    network.requires_grad_(requires_grad=True)
    network = adapted(network, settings)
    if settings.method == "lora":  # transformers would name a GGUF file's folder
        network.peft_config["default"].base_model_name_or_path = str(Path(model.name).absolute())
    common = {
        "output_dir": str(out / _CHECKPOINTS),
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _SCHEDULES[settings.schedule],
        "weight_decay": settings.weight_decay,
        "bf16": settings.bf16,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": seed % 2**32,
        "data_seed": seed % 2**32,
        "use_cpu": device == "cpu" or not torch.accelerator.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,
        "ddp_find_unused_parameters": False,
    }
    plain = library.TrainingArguments(**common)
    n_at_once = plain.world_size * max(plain.n_gpu, 1) * settings.accumulate
    if settings.batch_size % n_at_once:
        raise ArgumentError(
            f"batch_size must be a multiple of {n_at_once} (devices times accumulate), not "
            f"{settings.batch_size}"
        )
    share = settings.batch_size // n_at_once
    steps = max_steps or steps_of(len(rows), settings, settings.batch_size // settings.accumulate)
    pinned = plain.device.type == "cuda"
    arguments = library.TrainingArguments(
        **common,
        per_device_train_batch_size=share,
        max_steps=steps,
        warmup_steps=math.ceil(settings.warmup * steps),
        logging_steps=max(1, steps // 100),
        save_strategy="steps" if checkpoints else "no",
        save_steps=max(1, -(-steps // max(checkpoints, 1))),
        dataloader_pin_memory=pinned,
    )
    trainer = library.Trainer(
        model=network,
        args=arguments,
        train_dataset=_Dataset(rows),
        data_collator=_collate,
        processing_class=model.tokenizer,
        callbacks=[_seal()],
    )
    trainer.remove_callback(library.trainer_callback.PrinterCallback)
    return trainer, network


def adapted(network: Any, settings: TrainingSettings) -> Any:
    """The network, with an adapter on every linear layer if that is what is trained."""
    if settings.method != "lora":
        return network
    import peft

    how = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with quiet():
        return peft.get_peft_model(network, how)


def steps_of(n_rows: int, settings: TrainingSettings, at_once: int) -> int:
    """Updates of the weights, with so many rows in one forward pass over all devices."""
    forwards = -(-n_rows // at_once)
    return max(1, math.ceil(settings.epochs * -(-forwards // settings.accumulate)))


_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class _Dataset:
    """Rows by number, as a data loader asks for them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._rows.ids[index], self._rows.labels[index]


def _collate(rows: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """A batch, filled up to its longest row with a token that nothing attends to."""
    import torch

    ids, labels = [one for one, _ in rows], [one for _, one in rows]
    lengths = np.array([len(one) for one in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    return {
        "input_ids": torch.from_numpy(padded(ids, 0)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "labels": torch.from_numpy(padded(labels, IGNORED)),
    }


def _callback(**methods: Any) -> Any:
    """A callback of transformers' that has these methods."""
    kind: Any = transformers_library().TrainerCallback
    return type("Callback", (kind,), methods)()


def _seal() -> Any:
    """A callback that marks whole checkpoints, and ends training once the loss is no number."""

    def on_save(_self: Any, args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _SEAL).touch()

    def on_log(_self: Any, _args: Any, state: Any, _control: Any, **more: Any) -> None:
        loss = more["logs"].get("loss", 0.0)
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss is {loss} at step {state.global_step}: lower learning_rate, or begin "
                "with other weights"
            )

    return _callback(on_save=on_save, on_log=on_log)


def _watch(progress: Callable[[Progress], None], rows: Rows, settings: TrainingSettings) -> Any:
    """A callback that tells how far training has come."""

    def on_step_end(_self: Any, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            done, total = state.global_step, state.max_steps
            tokens = round(rows.n_tokens * settings.epochs * done / total)
            progress(Progress(done, total, tokens))

    return _callback(on_step_end=on_step_end)


def _report(out: Path, rows: Rows, trainer: Any, network: Any, seconds: float) -> TrainingReport:
    state = trainer.state
    losses = [[int(one["step"]), float(one["loss"])] for one in state.log_history if "loss" in one]
    late = [loss for step, loss in losses if step > 0.9 * state.max_steps] or [math.nan]
    parameters = list(network.parameters())
    return TrainingReport(
        path=str(out),
        n_records=len(rows),
        n_cut=rows.n_cut,
        n_empty=rows.n_empty,
        n_encoded=rows.n_encoded,
        n_tokens=rows.n_tokens,
        n_learned=rows.n_learned,
        n_steps=int(state.global_step),
        n_parameters=sum(one.numel() for one in parameters),
        n_trained=sum(one.numel() for one in parameters if one.requires_grad),
        losses=losses,
        loss=float(np.mean(late)),
        seconds=seconds,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' bars, and what they tell each other."""
    logging: Any = transformers_library().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
