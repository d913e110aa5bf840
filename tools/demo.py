"""The demonstration: which documents in a small corpus carry Alice's watermark? ``make demo``.

Reads the corpus in ``demo/`` (its README says how it was made) and prints what radscore finds, next
to the truth.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import radscore as rs
from radscore.schemes import from_toml
from radscore.stats import false_discovery

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FDR", "KINDS", "Outcome", "command", "run", "story"]

DEMO: Final = Path(__file__).resolve().parent.parent / "demo"
FDR: Final = 0.01
N_OTHERS: Final = 20
KINDS: Final = {
    "watermarked": "by the model, watermarked",
    "watermarked-weak": "by the model, watermarked weakly, short",
    "partial": "by people, a watermarked passage pasted in",
    "machine-unmarked": "by the model, not watermarked",
    "human": "by people",
}


@dataclass(frozen=True)
class Outcome:
    """What was found under each key, and the truth.

    Attributes
    ----------
    truth : list of dict
        One row per document, in the order of the corpus.
    alice, bob : ScoreResult
        The whole corpus under the watermark's key, and under a key that marked nothing.
    others : list of float
        log10 p-values of the whole corpus under `N_OTHERS` more keys, drawn at random.
    documents : DocumentScores
        Each document tested on its own, under Alice's key.
    found : ndarray of bool
        The documents found at a false discovery rate of `FDR`.
    n_found_by_bob : int
        How many are found that way under Bob's key.
    seconds : float
        How long it all took, reading and tokenising included.
    """

    truth: list[dict[str, Any]]
    alice: rs.ScoreResult
    bob: rs.ScoreResult
    others: list[float]
    documents: rs.DocumentScores
    found: np.ndarray[Any, np.dtype[np.bool_]]
    n_found_by_bob: int
    seconds: float

    def ids(self, *, found: bool, marked: bool) -> list[str]:
        """The documents that were found, or not, among those with a watermark, or without."""
        return [
            row["id"]
            for row, hit in zip(self.truth, self.found, strict=True)
            if hit == found and ("bias" in row) == marked
        ]


def run(folder: Path = DEMO) -> Outcome:
    """Scores the corpus and each of its documents, under the right key and a wrong one."""
    start = time.perf_counter()
    corpus = rs.open_corpus(
        folder / "corpus.jsonl", field="text", tokenizer=folder / "tokenizer.json"
    )
    documents = [ids for batch in corpus for ids in batch.documents]
    results: dict[str, tuple[rs.ScoreResult, rs.DocumentScores]] = {}
    for owner in ("alice", "bob"):
        scheme = from_toml(folder / "scheme.toml", key=rs.Key.from_file(folder / f"{owner}.key"))
        results[owner] = rs.score(documents, scheme), rs.score_documents(documents, scheme)
    others = rs.Scorer(scheme.decoys(N_OTHERS, seed=1))
    others.add(documents)
    found = {
        owner: false_discovery(scores.log10_pvalue, FDR).rejected
        for owner, (_, scores) in results.items()
    }
    with (folder / "truth.jsonl").open(encoding="utf-8") as lines:
        truth = [json.loads(line) for line in lines]
    return Outcome(
        truth=truth,
        alice=results["alice"][0],
        bob=results["bob"][0],
        others=[result.log10_pvalue for result in others.results()],
        documents=results["alice"][1],
        found=found["alice"],
        n_found_by_bob=int(found["bob"].sum()),
        seconds=time.perf_counter() - start,
    )


def command(folder: str = "demo") -> list[str]:
    """The same on the command line, as arguments of ``radscore``."""
    return [
        *("score", f"{folder}/corpus.jsonl", "--field", "text"),
        *("--tokenizer", f"{folder}/tokenizer.json"),
        *("--scheme", f"{folder}/scheme.toml", "--key-file", f"{folder}/alice.key"),
        *("--fdr", str(FDR), "--per-document", "found.csv"),
    ]


def story(outcome: Outcome) -> str:
    """The text that is printed."""
    size = f"{len(outcome.truth)} documents and {outcome.alice.n_tokens:,} tokens"
    opening = (
        f"A corpus of {size}. People wrote most of it; some documents were written by a language "
        "model, and some of those carry Alice's watermark. Only someone with her key can see it."
    )
    n_small = sum(log10_p < math.log10(0.05) for log10_p in outcome.others)
    reading = (
        "Every distinct piece of evidence counts once. If nothing is marked with a key, its green "
        "count is the expected one, up to chance, and its p-value anything between 0 and 1. Of "
        f"{len(outcome.others)} more keys, drawn at random, {n_small} "
        f"{'has' if n_small == 1 else 'have'} a p-value below 0.05, and the smallest is "
        f"{_power(min(outcome.others))}."
    )
    closing = (
        "Try it with bob.key instead, or with a corpus of your own. demo/README.md says how this "
        "corpus was made."
    )
    parts = [
        opening,
        "1. Is Alice's watermark in the corpus?",
        _corpus_table(outcome),
        reading,
        f"2. In which documents? (false discovery rate {100 * FDR:g} %)",
        _kinds_table(outcome),
        _lists(outcome),
        f"3. The same from the command line (all of the above took {outcome.seconds:.1f} s):",
        _command_line(),
        closing,
    ]
    wrapped = [part if "\n" in part else textwrap.fill(part, 88) for part in parts]
    return "\n\n".join(wrapped)


def _corpus_table(outcome: Outcome) -> str:
    lines = [f"   {'key':<14}{'scored':>9}{'green':>9}{'expected':>10}{'z':>8}    p-value"]
    for owner, result in (("Alice's", outcome.alice), ("Bob's (wrong)", outcome.bob)):
        lines.append(
            f"   {owner:<14}{result.n_scored:>9,}{result.n_green or 0:>9,}"
            f"{result.expected:>10,.0f}{result.zscore:>8.1f}    {_power(result.log10_pvalue)}"
        )
    return "\n".join(lines)


def _power(log10_pvalue: float) -> str:
    return f"10^{log10_pvalue:.1f}" if log10_pvalue < -3 else f"{10**log10_pvalue:.3f}"


def _kinds_table(outcome: Outcome) -> str:
    total = Counter(row["kind"] for row in outcome.truth)
    hits = Counter(
        row["kind"] for row, hit in zip(outcome.truth, outcome.found, strict=True) if hit
    )
    lines = [f"   {'the truth':<46}{'documents':>9}{'found':>8}"]
    lines += [f"   {text:<46}{total[kind]:>9}{hits[kind]:>8}" for kind, text in KINDS.items()]
    alarms = len(outcome.ids(found=True, marked=False))
    missed = len(outcome.ids(found=False, marked=True))
    right = len(outcome.ids(found=True, marked=True))
    lines.append("")
    lines.append(
        f"   Found {right}, missed {missed}, false alarms {alarms}; "
        f"with Bob's key {outcome.n_found_by_bob} found."
    )
    return "\n".join(lines)


def _lists(outcome: Outcome) -> str:
    parts = []
    for name, found, marked in (
        ("found", True, True),
        ("missed", False, True),
        ("false alarms", True, False),
    ):
        ids = [one.removeprefix("doc-") for one in outcome.ids(found=found, marked=marked)]
        text = " ".join(ids) or "none"
        indent = " " * 17
        parts.append(
            textwrap.fill(text, 88, initial_indent=f"   {name:<14}", subsequent_indent=indent)
        )
    return "\n".join(["   documents (numbers of doc-...)", *parts])


def _command_line() -> str:
    """The command, as lines to paste into a shell, with the path of this environment."""
    program = Path(sys.executable).with_name("radscore")
    here = Path.cwd()
    name = str(program.relative_to(here)) if program.is_relative_to(here) else "radscore"
    folder = str(DEMO.relative_to(here)) if DEMO.is_relative_to(here) else str(DEMO)
    words = command(folder)
    lines = [f"{name} {words[0]} {words[1]}"]
    lines += [f"{option} {value}" for option, value in zip(words[2::2], words[3::2], strict=True)]
    pairs = [lines[0] + " " + lines[1], " ".join(lines[2:4]), " ".join(lines[4:])]
    return "   " + " \\\n       ".join(pairs)


def main() -> None:
    """Prints the demonstration."""
    print(story(run()))


if __name__ == "__main__":
    main()
