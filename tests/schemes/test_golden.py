"""Value stability: vectors made by the tools, as their files say."""

import math

import numpy as np
import pytest
from radscore.schemes import (
    KGW,
    SBW,
    GumbelMax,
    Keyed,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMDualKeyGumbel,
    VLLMGumbel,
)

MOST = 1 << 20


def exponential(u):
    return -math.log1p(-u)


def bits(rows):
    return [[int(bit) for bit in row] for row in rows]


def test_radioactivity_authors(golden):
    for case in golden("torch_authors")["cases"]:
        window = [*case["context"], case["target"]]
        common = {
            "vocab_size": case["vocab_size"],
            "context_width": len(case["context"]),
            "salt_key": case["salt_key"],
        }
        if case["seeding"] == "hash":
            common["seed"] = case["seed"]
            gumbel = GumbelMax(**common)
            u = float.fromhex(case["uniform"])
            assert gumbel.scores([window])[0] == pytest.approx(exponential(u), rel=1e-14)
        else:
            common |= {"seeding": f"table_{case['seeding']}", "table_seed": case["table_seed"]}
        scheme = KGW(gamma=case["gamma"], **common)
        assert scheme.scores([window])[0] == case["green"]


def test_transformers_kgw(golden):
    for case in golden("transformers_kgw")["green_lists"]:
        names = ("seeding_scheme", "context_width", "hashing_key", "greenlist_ratio")
        config = {name: case[name] for name in names}
        scheme = KGW.from_transformers(config, case["vocab_size"])
        if case["seeding_scheme"] == "lefthash":
            mask = scheme.green_mask([case["read"]])[0]
            assert np.flatnonzero(mask).tolist() == case["green"]
        else:
            green = scheme.scores([case["read"]])[0]
            assert green == (case["read"][-1] in case["green"])


def test_transformers_synthid(golden):
    for case in golden("transformers_synthid")["cases"]:
        config = {
            "keys": [int(key) for key in case["keys"]],
            "ngram_len": case["ngram_len"],
            "sampling_table_size": case["sampling_table_size"],
            "sampling_table_seed": case["sampling_table_seed"],
        }
        scheme = SynthID.from_transformers(config, MOST)
        windows = np.lib.stride_tricks.sliding_window_view(case["tokens"], case["ngram_len"])
        np.testing.assert_array_equal(scheme.scores(windows), bits(case["g_values"]))


def test_synthid_deepmind(golden):
    for case in golden("synthid_deepmind")["cases"]:
        keys = [int(key) for key in case["keys"]]
        width = case["ngram_len"] - 1
        scheme = SynthIDDeepMind(vocab_size=MOST, keys=keys, context_width=width)
        windows = np.lib.stride_tricks.sliding_window_view(case["tokens"], width + 1)
        np.testing.assert_array_equal(scheme.scores(windows), bits(case["g_values"]))


def test_textseal(golden):
    for case in golden("textseal")["cases"]:
        window = [*case["context"], case["target"]]
        common = {
            "vocab_size": MOST,
            "key": int(case["key"]),
            "context_width": len(case["context"]),
        }
        assert TextSeal(gamma=case["gamma"], **common).scores([window])[0] == case["green"]
        score = TextSeal(method="gumbel", **common).scores([window])[0]
        # The package divides in float32.
        assert 1 - math.exp(-score) == pytest.approx(float.fromhex(case["uniform"]), rel=1e-7)


def test_vllm_uniforms(golden):
    for case in golden("vllm_gumbel")["uniform"]:
        scheme = VLLMGumbel(
            vocab_size=MOST, key=int(case["key"]), context_width=len(case["context"])
        )
        u = float.fromhex(case["u_float32_hex"])
        score = scheme.scores([[*case["context"], case["token"]]])[0]
        assert score == pytest.approx(exponential(u), rel=1e-13)


def detector_windows(tokens, width, padding, deduplicate):
    """Every window of a text, contexts reaching into what stands before it."""
    whole = [*padding, *tokens]
    seen, windows = set(), []
    for position in range(len(padding), len(whole)):
        window = tuple(whole[max(0, position - width) : position + 1])
        if len(window) <= width or (deduplicate and window[:-1] in seen):
            continue
        seen.add(window[:-1])
        windows.append(window)
    return windows


def test_vllm_detectors(golden):
    for case in golden("vllm_gumbel")["detect"]:
        width = case["context_width"]
        common = {"vocab_size": MOST, "key": int(case["key"]), "context_width": width}
        windows = detector_windows(
            case["token_ids"], width, [-1] * width, case["deduplicate_contexts"]
        )
        dual = VLLMDualKeyGumbel(alpha=case["alpha"], **common)
        for scheme, expected in (
            (VLLMGumbel(**common), case["gumbel"]),
            (dual, case["dual_key_gumbel"]),
        ):
            assert len(windows) == expected["n_scored"]
            assert scheme.scores(windows).sum() == pytest.approx(expected["score"], rel=1e-9)


def test_vllm_derived_keys(golden):
    """Each of the two keys alone is the single-key scheme under the derived key."""
    context = [[3, 1, 4, 1]]
    for case in golden("vllm_gumbel")["derived_keys"]:
        dual = VLLMDualKeyGumbel(vocab_size=64, key=int(case["master"]))
        for index, name in enumerate(("key_a", "key_b")):
            single = VLLMGumbel(vocab_size=64, key=int(case[name]))
            np.testing.assert_array_equal(dual.uniforms(context, index), single.uniforms(context))


def test_sglang_hashes(golden):
    for case in golden("sglang_gumbel")["hashes"]:
        window = [[*case["context"], case["token"]]]
        common = {"vocab_size": MOST, "context_width": len(case["context"])}
        scheme = SGLangGumbel(key=case["key"], **common)
        assert scheme.units(window)[0].tolist() == [0, case["context_hash"] << 32 | case["token"]]
        u = (case["token_hash"] + 0.5) / 2**32
        assert scheme.scores(window)[0] == pytest.approx(exponential(u), rel=1e-13)
        other = SGLangGumbel(key=case["key_b"], **common).scores(window)
        for coin, expected in ((case["coin"] + 1, scheme.scores(window)), (case["coin"], other)):
            dual = SGLangGumbel(
                key=case["key"], key_b=case["key_b"], mixing_probability=coin / 2**32, **common
            )
            assert dual.scores(window).tolist() == expected.tolist()


def test_sglang_detector(golden):
    """The first 4,096 distinct contexts of a text; shorter contexts than the width are left."""
    compared = 0
    for case in golden("sglang_gumbel")["detect"]:
        width = case["context_window"]
        scheme = SGLangGumbel(
            vocab_size=MOST,
            key=case["key"],
            key_b=case["key_b"],
            mixing_probability=case["mixing_probability"],
            context_width=width,
        )
        prompt = case["prompt_token_ids"]
        tokens = case["token_ids"]
        if not prompt:
            prompt, tokens = tokens[:width], tokens[width:]
        windows = detector_windows(tokens, width, prompt[-width:], True)
        if len(prompt) >= width:
            windows = windows[:4096]
            assert len(windows) == case["n_scored"]
            assert scheme.scores(windows).sum() == pytest.approx(case["score"], rel=1e-9)
            compared += 1
    assert compared >= 12


def test_sbw(golden):
    for case in golden("sbw")["cases"]:
        window = [*case["context"], case["token"]]
        width = len(case["context"])
        common = {
            "vocab_size": MOST,
            "key": case["key"],
            "gamma": case["gamma"],
            "context_width": width,
        }
        left = SBW(seeding="additive", self_salt=False, **common)
        salted = SBW(**common)
        for scheme, read, expected in (
            (left, window, case["lefthash"]),
            (salted, window[1:], case["selfhash"]),
        ):
            high, low = scheme.units([read])[0].tolist()
            assert (high << 64 | low) >> 32 == int(expected["seed"]) % 2**64
            assert scheme.scores([read])[0] == expected["green"]


def test_sbw_scheme_strings(golden):
    """The names without `gpu-` are lm-watermarking's permutations."""
    kinds = set()
    for case in golden("sbw_schemes")["cases"]:
        name, common = case["scheme"], {"vocab_size": case["vocab_size"], "gamma": case["gamma"]}
        if name.startswith("gpu-"):
            scheme = SBW.from_sbw(name, key=case["key"], **common)
        else:
            scheme = KGW.from_lm_watermarking(name, hash_key=case["key"], **common)
        assert (scheme.context_width, scheme.self_salt) == (
            case["context_width"],
            case["self_salt"],
        )
        window = case["read"] if case["self_salt"] else [*case["read"], case["target"]]
        assert scheme.scores([window])[0] == case["green"], case
        kinds.add(name.startswith("gpu-"))
    assert kinds == {False, True}


def test_keyed_hashes(golden):
    """OpenSSL's SipHash-2-4 of the domain word and the window."""
    for case in golden("openssl_siphash")["cases"]:
        hashed = int(case["hash"], 16)
        window = case["window"]
        common = {"vocab_size": MOST, "key": case["key"], "context_width": len(window) - 1}
        score = Keyed(method="gumbel", **common).scores([window])[0]
        assert score == pytest.approx(exponential((hashed >> 11) * 2.0**-53), rel=1e-12)
        for gamma, green in ((hashed / 2**64 * 0.999, False), (hashed / 2**64 * 1.001, True)):
            if 0 < gamma < 1:
                assert Keyed(gamma=gamma, **common).scores([window])[0] == green
