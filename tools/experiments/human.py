"""Human text: pages of Debian's documentation packages, as ids of a tokenizer trained on them."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.demo_texts import LEFT_OUT, SOURCES, read_pages

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fetch", "human_texts", "make_tokenizer", "stream"]

END = "<|end|>"


def fetch(folder: Path) -> None:
    """Downloads the packages that are missing from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        (one.package, one.version)
        for one in SOURCES
        if not list(folder.glob(f"{one.package}_{one.version}_*.deb"))
    }
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise SystemExit("the human texts come from Debian packages, and apt-get is missing")
    names = [f"{package}={version}" for package, version in sorted(wanted)]
    subprocess.run(["apt-get", "download", *names], cwd=folder, check=True, capture_output=True)


def human_texts(folder: Path, seed: int) -> list[str]:
    """The text of every page, shuffled, without paragraphs on registries or local folders."""
    pages: list[str] = []
    for source in SOURCES:
        for _, blocks in read_pages(source, folder):
            text = "\n\n".join(block for block in blocks if not LEFT_OUT.search(block))
            if len(text) > 500:
                pages.append(text)
    random.Random(seed).shuffle(pages)
    return pages


def make_tokenizer(texts: list[str], vocab_size: int, path: Path) -> Any:
    """Trains a byte-level BPE tokenizer and saves it as ``tokenizer.json``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path), pretty=False)
    return tokenizer


def stream(texts: list[str], tokenizer: Any) -> npt.NDArray[np.int64]:
    """The ids of all texts, one after the other, each preceded by an end mark."""
    end = tokenizer.token_to_id(END)
    ids: list[int] = []
    for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        ids += [end, *encoded.ids]
    return np.array(ids)
