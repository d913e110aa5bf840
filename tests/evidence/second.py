"""A second verifier: plain Python and the readable twin, nothing of the package.

It checks a bundle of the plain test of answers under `Keyed`: whoever does not trust the core, or
the package's own `verify`, reads this.
"""

import hashlib
import json
from fractions import Fraction

import mpmath
from tokenizers import Tokenizer

from tests import twin


def digest(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def checked(folder, key, nonce, pool, tokenizer):
    """Asserts that everything holds; returns the p-value of each look."""
    plan = json.loads((folder / "plan.json").read_bytes())
    log = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    head = "0" * 64
    for number, entry in enumerate(log, start=1):
        assert entry["previous"] == head
        assert entry["sequence"] == number
        head = digest(entry)
    assert log[0]["plan"] == log[1]["plan"] == digest(plan)

    public = plan["scheme"]["parameters"]
    canonical = {**public, "gamma": float(public["gamma"]).hex(), "key": {"key": key.hex()}}
    name = canonical.pop("scheme")
    fingerprint = digest([name, canonical])
    secret = b"radscore commitment 1" + bytes.fromhex(nonce) + bytes.fromhex(fingerprint)
    assert hashlib.sha256(secret).hexdigest() == plan["scheme"]["commitment"]

    (beacon,) = [entry["value"] for entry in log if entry["event"] == "beacon"]
    seed = digest(["radscore audit seed", "subset", digest(plan), beacon])
    every = [json.loads(line)["prompt"] for line in pool.read_text().splitlines()]
    order = sorted(range(len(every)), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
    drawn = [every[i] for i in order[: plan["pool"]["drawn"]]]
    asked = (folder / "prompts.jsonl").read_text().splitlines()
    assert drawn == [json.loads(line)["prompt"] for line in asked]

    words = Tokenizer.from_file(str(tokenizer))
    scheme = twin.Keyed(
        vocab_size=public["vocab_size"],
        context_width=public["context_width"],
        gamma=public["gamma"],
        key=key,
    )
    journal = (folder / "answers.jsonl").read_bytes()
    pvalues = []
    for entry in (one for one in log if one["event"] == "scored"):
        part = journal[: entry["answers"]["bytes"]]
        assert hashlib.sha256(part).hexdigest() == entry["answers"]["sha256"]
        answers = [json.loads(line) for line in part.splitlines()]
        assert {one["prompt"] for one in answers} <= set(drawn)
        scorer = twin.Scorer(scheme)
        scorer.add(
            [words.encode(one["text"], add_special_tokens=False).ids for one in answers],
            [words.encode(one["prompt"], add_special_tokens=False).ids for one in answers],
        )
        tally = scorer.tally()
        assert tally.n_scored == entry["result"]["n_scored"]
        assert tally.score_sum == entry["result"]["score"]["n_green"]
        pvalues.append(upper_tail(tally.score_sum, tally.n_scored, scheme.share))
    return pvalues


def upper_tail(greens, n, share):
    """P(at least so many of n), exact."""
    total = sum(
        Fraction(mpmath_binomial(n, k)) * share**k * (1 - share) ** (n - k)
        for k in range(greens, n + 1)
    )
    return float(total)


def mpmath_binomial(n, k):
    with mpmath.workdps(400):
        return int(mpmath.binomial(n, k))
