"""Who writes and who trains: the base model, Alice's and clean texts, and Bob's models.

Everything is kept in a cache folder, and made only where it is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tools.experiments.human import fetch, human_texts, make_tokenizer, stream
from tools.experiments.settings import RECIPE, Recipe, alice
from tools.experiments.small import new_model, read_model, save_model, train, write

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SHARES", "Bench", "Suspect"]

Ids = npt.NDArray[np.int64]
#: Shares of watermarked text among what Bob trains on, in percent.
SHARES = (0, 1, 5, 10, 100)
#: Offsets of seeds and of the human prompts, so that no two pools share either.
_POOLS = ("marked", "unmarked", "reference", "fresh", "again", "asked")


@dataclass(frozen=True, slots=True)
class Suspect:
    """One of Bob's models: its share of Alice's text (percent), whose key, which seed."""

    share: int
    key: int = 0
    seed: int = 0
    clean: str = "unmarked"

    @property
    def name(self) -> str:
        """The folder's name."""
        if self.clean == "reference":
            return f"reference-{self.seed}" if self.seed else "reference"
        name = f"rho-{self.share}"
        name += f"-key-{self.key}" if self.key else ""
        return name + (f"-seed-{self.seed}" if self.seed else "")


class Bench:
    """The texts and the models of the experiment, in `cache`."""

    def __init__(self, cache: Path, packages: Path, recipe: Recipe = RECIPE) -> None:
        self.cache = cache
        self.packages = packages
        self.recipe = recipe

    def human(self) -> Ids:
        """The stream of human text; makes the tokenizer, too."""
        path = self.cache / "human.npy"
        if not path.exists():
            fetch(self.packages)
            texts = human_texts(self.packages, self.recipe.seed)
            print(f"{len(texts)} pages, {sum(map(len, texts))} characters", flush=True)
            tokenizer = make_tokenizer(
                texts[::4], self.recipe.vocab_size, self.cache / "tokenizer" / "tokenizer.json"
            )
            np.save(path, stream(texts, tokenizer).astype(np.uint16))
        return np.load(path).astype(np.int64)

    def base(self) -> Any:
        """The base model: trained on human text alone, the last twentieth left out."""
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
        return read_model(folder)

    def prompts(self, pool: str, number: int) -> Ids:
        """Human prompts, from the part that no model was trained on; different ones a pool."""
        ids, width = self.human(), self.recipe.prompt
        ids = ids[int(0.95 * len(ids)) :]
        rows = ids[: len(ids) // width * width].reshape(-1, width)
        rows = np.random.default_rng(self.recipe.seed).permutation(rows)
        start = _POOLS.index(pool) * len(rows) // len(_POOLS)
        assert number <= len(rows) // len(_POOLS), (number, len(rows))
        return rows[start : start + number]

    def texts(self, pool: str, key: int = 0, number: int | None = None) -> Ids:
        """Prompt and continuation a row; "marked" and "again" carry the mark of key `key`."""
        name = pool + (f"-key-{key}" if key else "")
        path = self.cache / f"{name}.npy"
        if not path.exists():
            r = self.recipe
            number = number or (r.n_fresh if pool in {"fresh", "again"} else r.n_texts)
            prompts = self.prompts(pool, number)
            print(f"writing {name}: {number} texts", flush=True)
            written = write(
                self.base(),
                prompts,
                r.length - r.prompt,
                r.seed + 100 * _POOLS.index(pool) + key,
                scheme=alice(r, key) if pool in {"marked", "again"} else None,
                delta=r.delta,
            )
            np.save(path, np.hstack([prompts, written]).astype(np.uint16))
        return np.load(path).astype(np.int64)

    def suspect(self, who: Suspect) -> Any:
        """The base model, trained further on Alice's and on clean text."""
        folder = self.cache / "suspects" / who.name
        if not folder.exists():
            r = self.recipe
            n_marked = round(r.n_texts * who.share / 100)
            rows = self.texts(who.clean)[n_marked:]
            if n_marked:
                few = n_marked if who.key else None
                rows = np.vstack([self.texts("marked", who.key, few)[:n_marked], rows])
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
        return read_model(folder)

    def answers(self, who: Suspect, number: int, n_tokens: int) -> Ids:
        """What the suspect answers to `number` human prompts (see `prompts`, "asked")."""
        path = self.cache / "answers" / f"{who.name}-{number}-{n_tokens}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model = self.suspect(who)
            print(f"answers of {who.name}", flush=True)
            prompts = self.prompts("asked", number)
            seed = self.recipe.seed + 5000 + 10 * who.share + who.key + 1000 * who.seed
            written = write(model, prompts, n_tokens, seed + 7 * (who.clean == "reference"))
            np.save(path, written.astype(np.uint16))
        return np.load(path).astype(np.int64)


REFERENCE = Suspect(0, clean="reference")


def prepare(bench: Bench) -> None:
    """Makes all texts and models of the matrix."""
    torch.set_num_threads(1)
    for pool in ("marked", "unmarked", "reference", "fresh", "again"):
        bench.texts(pool)
    for share in SHARES:
        bench.suspect(Suspect(share))
    bench.suspect(REFERENCE)
