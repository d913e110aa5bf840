"""Text to token ids, all cores: the fast path and the whole pipeline, against `encode_batch`.

``python -m benches.bench_tokenize [--text FOLDER] [--tokenizers FOLDER]`` measures other text and
other tokenizers than the default ones.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import radscore as rs
from radscore.corpus.text.tokenizer import TokenizerEncoder
from tokenizers import Tokenizer

from benches.common import Row, compare, table

if TYPE_CHECKING:
    from collections.abc import Iterator


DEMO: Final = Path(__file__).parents[1] / "demo"
#: Llama 3's expression; without {1,3} it is Qwen's.
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LONGEST: Final = 60_000
#: Characters of a file that takes seconds, so that opening it does not matter.
_LONG: Final = 24_000_000


def texts_of(folder: Path, limit: int) -> list[str]:
    """The text files below a folder as documents, about `limit` characters."""
    texts: list[str] = []
    for path in sorted(folder.rglob("*")):
        if limit <= 0:
            break
        if path.is_file() and path.suffix in (".py", ".txt", ".md", ".rst", ".html", ".xml"):
            try:
                text = path.read_text()
            except (UnicodeDecodeError, OSError):
                continue
            parts = [text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)]
            texts += parts
            limit -= len(text)
    return texts


def english(limit: int) -> list[str]:
    """The demonstration corpus, repeated with different first words, up to `limit`."""
    lines = (DEMO / "corpus.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    size = sum(map(len, texts))
    return [f"{i} {text}" for i in range(max(limit // size, 1)) for text in texts]


def tokenizers() -> Iterator[tuple[str, Any]]:
    """The demonstration tokenizer, and one with its vocabulary and another pre-tokenizer."""
    data = json.loads((DEMO / "tokenizer.json").read_text())
    yield "GPT-2's expression", Tokenizer.from_str(json.dumps(data))
    byte_level = {**data["pre_tokenizer"], "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _LLAMA3}, "behavior": "Isolated"}
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{**split, "invert": False}, byte_level],
    }
    yield "Llama 3's expression", Tokenizer.from_str(json.dumps(data))


def alone(name: str, tokenizer: Any, texts: list[str]) -> Row:
    """The fast path against `encode_batch`, from strings to ids."""
    encoder = TokenizerEncoder(tokenizer, add_special_tokens=False, engine="fast")
    n_characters = sum(map(len, texts))
    n_tokens = encoder.documents(texts).n_tokens
    row = compare(
        f"{name}: {n_characters / 1e6:.1f} M characters, {n_characters / n_tokens:.1f} a token",
        n_tokens,
        lambda: encoder.documents(texts),
        "encode_batch",
        lambda: tokenizer.encode_batch(texts, add_special_tokens=False),
        check=_equal_ids,
        repetitions=3,
    )
    per_second = n_characters / n_tokens * 1e3
    print(
        f"{name}: {1e3 / row.radscore:.1f} M tokens/s, {per_second / row.radscore:.1f} M "
        f"characters/s; encode_batch {1e3 / row.theirs:.2f} and {per_second / row.theirs:.2f}; "
        f"ratio {row.ratio:.1f}",
        flush=True,
    )
    return row


def _equal_ids(documents: rs.Documents, encodings: list[Any]) -> tuple[int, str]:
    for ids, encoding in zip(documents, encodings, strict=True):
        assert ids.tolist() == encoding.ids, "the ids differ"
    return documents.n_tokens, "all ids equal"


def pipeline(engine: str, tokenizer: Any, texts: list[str]) -> Row:
    """From a text file to a score, against `encode_batch` alone on strings in memory."""
    size = tokenizer.get_vocab_size()
    scheme = rs.Keyed(key=rs.Key.from_hex("00" * 16), vocab_size=size, gamma=0.25, context_width=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.jsonl")
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

        def ours() -> Any:
            corpus = rs.open_corpus(
                path,
                field="text",
                tokenizer=tokenizer,
                tokenizer_engine=engine,  # type: ignore[arg-type]
            )
            return rs.score(corpus, scheme)

        n_tokens = ours().n_tokens
        return compare(
            f"file to score, {engine}",
            n_tokens,
            ours,
            "encode_batch alone",
            lambda: tokenizer.encode_batch(texts, add_special_tokens=False),
            check=_equal_numbers,
            repetitions=3,
        )


def _equal_numbers(result: Any, encodings: list[Any]) -> tuple[int, str]:
    assert result.n_tokens == sum(map(len, encodings))
    return result.n_tokens, "n_tokens equal"


def rows(text: Path | None = None, folder: Path | None = None, limit: int = 4_000_000) -> list[Row]:
    """Every measurement."""
    sources = {"English": english(limit)}
    sources["Python" if text is None else text.name] = texts_of(
        Path(sysconfig.get_paths()["stdlib"]) if text is None else text, limit
    )
    if folder is None:
        found = list(tokenizers())
    else:
        paths = sorted(folder.glob("*.json"))
        found = [(path.stem, Tokenizer.from_file(str(path))) for path in paths]
    lines = [
        alone(f"{name}, {kind}", tokenizer, texts)
        for name, tokenizer in found
        for kind, texts in sources.items()
    ]
    if folder is None:
        lines += [pipeline(engine, found[0][1], english(_LONG)) for engine in ("fast", "reference")]
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tokenizers", type=Path)
    parser.add_argument("--characters", type=int, default=4_000_000)
    args = parser.parse_args()
    print(table(rows(args.text, args.tokenizers, args.characters)))
