"""Who writes and who trains: the base model, Alice's and clean texts, and Bob's models.

Everything is kept in a cache folder, and made only if it is not there.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import radscore as rs

from tools.experiments.human import fetch, human_texts, make_tokenizer, stream
from tools.experiments.settings import MODELS, RECIPE, Recipe, alice
from tools.experiments.small import new_model, read_model, save_model, train, write

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["REFERENCE", "SHARES", "Bench", "Suspect", "export", "facts", "prepare"]

Ids = npt.NDArray[np.int64]
#: Shares of watermarked text in what Bob trains on, in percent.
SHARES = (0, 1, 5, 10, 100)
#: Pools of texts; their order gives seeds and human prompts that no two of them share.
_POOLS = ("marked", "unmarked", "reference", "fresh", "again", "spare", "asked")
_SMALL = ("fresh", "again", "spare")


@dataclass(frozen=True, slots=True)
class Suspect:
    """One of Bob's models: its share of watermarked text in percent, whose key, which seed."""

    share: int
    key: int = 0
    seed: int = 0
    clean: str = "unmarked"
    mark: str = "keyed"

    @property
    def name(self) -> str:
        """The folder's name."""
        if self.clean == "reference":
            return f"reference-{self.seed}" if self.seed else "reference"
        name = f"rho-{self.share}"
        name += f"-{self.mark}" if self.mark != "keyed" else ""
        name += f"-key-{self.key}" if self.key else ""
        return name + (f"-seed-{self.seed}" if self.seed else "")


class Bench:
    """The texts and models of the experiment, in the folder `cache`."""

    def __init__(self, cache: Path, packages: Path, recipe: Recipe = RECIPE) -> None:
        self.cache = cache
        self.packages = packages
        self.recipe = recipe

    def human(self) -> Ids:
        """The stream of human text; also makes the tokenizer."""
        path = self.cache / "human.npy"
        if not path.exists():
            fetch(self.packages)
            texts = human_texts(self.packages, self.recipe.seed)
            print(f"{len(texts)} pages, {sum(map(len, texts))} characters", flush=True)
            tokenizer = make_tokenizer(
                texts[::4], self.recipe.vocab_size, self.cache / "tokenizer" / "tokenizer.json"
            )
            np.save(path, stream(texts, tokenizer).astype(np.uint16))
        return _load(path)

    def base(self) -> Any:
        """The base model, trained on human text alone, the last twentieth left out."""
        folder = self.cache / "base"
        if not folder.exists():
            ids, length = self.human(), self.recipe.length
            ids = ids[: int(0.95 * len(ids)) // length * length].reshape(-1, length)
            model = new_model(self.recipe, self.recipe.seed)
            print("base", flush=True)
            loss = train(
                model,
                ids,
                self.recipe,
                rate=self.recipe.base_rate,
                steps=self.recipe.base_steps,
                seed=self.recipe.seed,
            )
            print(f"base: loss {loss:.3f}", flush=True)
            save_model(model, folder)
            self._note("base", loss)
        return read_model(folder)

    def _note(self, name: str, loss: float) -> None:
        path = self.cache / "losses.json"
        losses = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**losses, name: loss}, indent=1))

    def prompts(self, pool: str, number: int) -> Ids:
        """Human prompts from the part that no model was trained on; each pool has its own."""
        ids, width = self.human(), self.recipe.prompt
        ids = ids[int(0.95 * len(ids)) :]
        rows = ids[: len(ids) // width * width].reshape(-1, width)
        rows = np.random.default_rng(self.recipe.seed).permutation(rows)
        sizes = [self.recipe.n_fresh if one in _SMALL else 2048 for one in _POOLS]
        start = sum(sizes[: _POOLS.index(pool)])
        assert number <= sizes[_POOLS.index(pool)], (number, sizes)
        assert sum(sizes) <= len(rows), (sizes, len(rows))
        return rows[start : start + number]

    def texts(self, pool: str, key: int = 0, number: int | None = None, mark: str = "keyed") -> Ids:
        """A prompt and its continuation per row; "marked" and "again" carry the mark of `key`."""
        name = pool + (f"-{mark}" if mark != "keyed" else "") + (f"-key-{key}" if key else "")
        path = self.cache / f"{name}.npy"
        if not path.exists():
            r = self.recipe
            number = number or (r.n_fresh if pool in _SMALL else r.n_texts)
            prompts = self.prompts(pool, number)
            print(f"writing {name}: {number} texts", flush=True)
            written = write(
                self.base(),
                prompts,
                r.length - r.prompt,
                r.seed + 100 * _POOLS.index(pool) + key,
                scheme=alice(r, key, mark) if pool in {"marked", "again"} else None,
                delta=r.delta,
                temperature=r.temperature,
            )
            np.save(path, np.hstack([prompts, written]).astype(np.uint16))
        return _load(path)

    def suspect(self, who: Suspect) -> Any:
        """The base model, trained further on Alice's and on clean text."""
        folder = self.cache / "suspects" / who.name
        if not folder.exists():
            r = self.recipe
            n_marked = round(r.n_texts * who.share / 100)
            rows = self.texts(who.clean)[n_marked:]
            if n_marked:
                few = None if who.mark == "keyed" and not who.key else n_marked
                rows = np.vstack([self.texts("marked", who.key, few, who.mark)[:n_marked], rows])
            model = self.base()
            print(who.name, flush=True)
            loss = train(
                model,
                rows,
                r,
                rate=r.bob_rate,
                steps=r.bob_steps,
                seed=r.seed + 1 + SHARES.index(who.share) + 10 * who.key + 1000 * who.seed,
            )
            print(f"{who.name}: loss {loss:.3f}", flush=True)
            save_model(model, folder)
            self._note(who.name, loss)
        return read_model(folder)

    def answers(self, who: Suspect, number: int, n_tokens: int) -> Ids:
        """The suspect's answers to `number` human prompts (those of the pool "asked")."""
        path = self.cache / "answers" / f"{who.name}-{number}-{n_tokens}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model = self.suspect(who)
            print(f"answers of {who.name}", flush=True)
            prompts = self.prompts("asked", number)
            seed = self.recipe.seed + 5000 + 10 * who.share + who.key + 1000 * who.seed
            written = write(model, prompts, n_tokens, seed + 7 * (who.clean == "reference"))
            np.save(path, written.astype(np.uint16))
        return _load(path)


REFERENCE = Suspect(0, clean="reference")


def _load(path: Path) -> Ids:
    """Ids that were kept as uint16."""
    ids: npt.NDArray[np.uint16] = np.load(path)
    return ids.astype(np.int64)


#: What the test suite reads: models, whose answers, and how many rows of each pool.
EXPORTED = {"rho-10": Suspect(10), "control": Suspect(0), "reference": REFERENCE}
ANSWERED = {"rho-100": Suspect(100), "control": Suspect(0), "reference": REFERENCE}
SAMPLES = {"marked": 102, "fresh": 128, "again": 256}
N_ANSWERS, ANSWER = 2048, 96


def prepare(bench: Bench) -> None:
    """Makes all texts and models of the matrix."""
    for pool in _POOLS[:-1]:
        bench.texts(pool)
    for share in SHARES:
        bench.suspect(Suspect(share))
    bench.suspect(REFERENCE)


def facts(bench: Bench) -> dict[str, str]:
    """What was made, for the top of the results."""
    r = bench.recipe
    losses = json.loads((bench.cache / "losses.json").read_text())
    marked = bench.texts("marked")[:, r.prompt :]
    green = rs.score(list(marked), alice(r)).n_green or 0
    n_scored = rs.score(list(marked), alice(r)).n_scored
    parameters = sum(one.numel() for one in bench.base().parameters())
    return {
        "model": f"Llama, {r.layers} layers of width {r.hidden}, {parameters:,} parameters",
        "vocabulary": f"{r.vocab_size:,}, byte-level BPE",
        "human text": f"{len(bench.human()):,} tokens",
        "base": f"{r.base_steps * r.batch * r.length:,} tokens read, loss {losses['base']:.2f}",
        "Alice's mark": f"keyed, k = {r.context_width}, gamma = {r.gamma}, delta = {r.delta}, "
        f"temperature {r.temperature}; "
        f"{green / n_scored:.0%} of the distinct windows of her text are green",
        "Bob's training": f"{r.n_texts:,} texts of {r.length} tokens, "
        f"{r.bob_steps * r.batch / r.n_texts:g} epochs; loss "
        + ", ".join(f"{losses[f'rho-{share}']:.2f} ({share} %)" for share in SHARES),
        "seed": str(r.seed),
        "versions": ", ".join(
            f"{name} {version(name)}"
            for name in ("radscore", "torch", "transformers", "tokenizers")
        ),
    }


def export(bench: Bench) -> None:
    """Copies what the test suite reads to ``experiments/models``."""
    for name, who in EXPORTED.items():
        bench.suspect(who)
        shutil.copytree(bench.cache / "suspects" / who.name, MODELS / name, dirs_exist_ok=True)
        (MODELS / name / "generation_config.json").unlink(missing_ok=True)
    shutil.copyfile(bench.cache / "tokenizer" / "tokenizer.json", MODELS / "tokenizer.json")
    samples = {name: bench.texts(name)[:number] for name, number in SAMPLES.items()}
    samples["prompts"] = bench.prompts("asked", N_ANSWERS)
    for name, who in ANSWERED.items():
        samples[f"answers_{name}"] = bench.answers(who, N_ANSWERS, ANSWER)
    small: dict[str, Any] = {name: rows.astype(np.uint16) for name, rows in samples.items()}
    np.savez_compressed(MODELS / "texts.npz", **small)
