"""The twin against vectors that vLLM and SGLang made (tests/golden says which versions)."""

import math

import pytest
from scipy.special import gammaincc

from tests.twin.hashes import murmur3
from tests.twin.pipeline import Rules, Scorer, positions
from tests.twin.schemes import (
    SGLangGumbel,
    VLLMDualKeyGumbel,
    VLLMGumbel,
    sglang_coin,
    vllm_uniform,
)

#: A request of SGLang forces at most this many distinct contexts, and its detector counts as many.
SGLANG_MAX_CONTEXTS = 4096


def vllm_tally(scheme, case):
    dedup = "context" if case["deduplicate_contexts"] else "none"
    scorer = Scorer(scheme, Rules(dedup, start=0))
    scorer.add([case["token_ids"]])
    return scorer.tally()


def test_vllm_uniforms(golden):
    for case in golden("vllm_gumbel")["uniform"]:
        u = vllm_uniform(int(case["key"]), case["context"], case["token"])
        assert u == float.fromhex(case["u_float32_hex"])


def test_vllm_derived_keys(golden):
    for case in golden("vllm_gumbel")["derived_keys"]:
        scheme = VLLMDualKeyGumbel(vocab_size=9, context_width=4, key=int(case["master"]))
        assert scheme.keys == (int(case["key_a"]), int(case["key_b"]))


def test_vllm_detector(golden):
    for case in golden("vllm_gumbel")["detect"]:
        scheme = VLLMGumbel(
            vocab_size=2**18, context_width=case["context_width"], key=int(case["key"])
        )
        tally = vllm_tally(scheme, case)
        theirs = case["gumbel"]
        assert tally.n_scored == theirs["n_scored"]
        assert tally.score_sum == pytest.approx(theirs["score"], rel=1e-12)
        if tally.n_scored:
            pvalue = gammaincc(tally.n_scored, tally.score_sum)
            assert pvalue == pytest.approx(theirs["pvalue"], rel=1e-9)


def test_vllm_dual_key_detector(golden):
    for case in golden("vllm_gumbel")["detect"]:
        alpha = case["alpha"]
        scheme = VLLMDualKeyGumbel(
            vocab_size=2**18,
            context_width=case["context_width"],
            key=int(case["key"]),
            alpha=alpha,
        )
        tally = vllm_tally(scheme, case)
        theirs = case["dual_key_gumbel"]
        assert tally.n_scored == theirs["n_scored"]
        assert tally.score_sum == pytest.approx(theirs["score"], rel=1e-12)
        if tally.n_scored:  # their Gamma with the mixture's mean and variance
            variance = (1 - alpha) ** 2 + alpha**2
            pvalue = gammaincc(tally.n_scored / variance, tally.score_sum / variance)
            assert pvalue == pytest.approx(theirs["pvalue"], rel=1e-9)


def sglang(case, context_width):
    return SGLangGumbel(
        vocab_size=2**18,
        context_width=context_width,
        key=int(case["key"], 16),
        key_b=int(case["key_b"], 16) if case.get("key_b") else None,
        mixing_probability=case.get("mixing_probability", 0.5),
    )


def test_sglang_hashes(golden):
    for case in golden("sglang_gumbel")["hashes"]:
        context_hash = murmur3(case["context"])
        assert context_hash == case["context_hash"]
        key, key_b = int(case["key"], 16), int(case["key_b"], 16)
        words = [key % 2**32, key >> 32, context_hash, case["token"]]
        assert murmur3(words) == case["token_hash"]
        assert sglang_coin(key, key_b, context_hash) == case["coin"]
        scheme = SGLangGumbel(vocab_size=2**18, context_width=len(case["context"]), key=key)
        u = scheme.uniform((*case["context"], case["token"]))
        assert u == (case["token_hash"] + 0.5) / 2**32


def sglang_windows(case, width):
    """The windows of a generated text: contexts reach into the prompt, where one is known.

    After a prompt shorter than the context, all there is is the context. Without a prompt the
    first tokens' contexts are unknown, and not scored.
    """
    prompt = case["prompt_token_ids"]
    text = prompt + case["token_ids"]
    for target in range(len(prompt) or width, len(text)):
        yield tuple(text[max(target - width, 0) : target + 1])


def test_sglang_detector(golden):
    for case in golden("sglang_gumbel")["detect"]:
        scheme = sglang(case, case["context_window"])
        first, repeated = {}, 0
        for window in sglang_windows(case, scheme.context_width):
            if len(first) == SGLANG_MAX_CONTEXTS:
                break
            repeated += window[:-1] in first
            first.setdefault(window[:-1], window)
        scores = [scheme.score(window) for window in first.values()]
        assert len(scores) == case["n_scored"]
        assert repeated == case["repeated"]
        assert math.fsum(scores) == pytest.approx(case["score"], rel=1e-12)
        if scores:
            log_pvalue = math.log(gammaincc(len(scores), math.fsum(scores)))
            assert log_pvalue == pytest.approx(case["log_pvalue"], rel=1e-9)


def test_sglang_detector_is_the_pipeline(golden):
    """Where a prompt is not shorter than a context, the rules of the pipeline say the same."""
    n = 0
    for case in golden("sglang_gumbel")["detect"]:
        scheme = sglang(case, case["context_window"])
        prompt = case["prompt_token_ids"]
        if 0 < len(prompt) < scheme.context_width:
            continue
        found = positions(
            case["token_ids"],
            scheme,
            Rules("context", prompt_role="context"),
            prompt,
            max_contexts=SGLANG_MAX_CONTEXTS,
        )
        scores = [p.score for p in found if p.fate == "scored"]
        assert len(scores) == case["n_scored"]
        assert math.fsum(scores) == pytest.approx(case["score"], rel=1e-12)
        n += 1
    assert n > 20
