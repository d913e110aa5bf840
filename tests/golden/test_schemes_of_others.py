"""The public schemes, made from other tools' own configurations, against those tools' vectors."""

import math

import numpy as np
import pytest
import radscore as rs
from radscore.stats import moment_matched_dual_log10_sf

KGW_SETTINGS = ("greenlist_ratio", "hashing_key", "seeding_scheme", "context_width")


def transformers_kgw(case):
    config = {name: case[name] for name in KGW_SETTINGS}
    return rs.KGW.from_transformers(config, case["vocab_size"])


def test_transformers_green_lists(golden):
    for case in golden("transformers_kgw")["green_lists"]:
        scheme, read = transformers_kgw(case), case["read"]
        if case["seeding_scheme"] == "lefthash":
            mask = scheme.green_mask([read])[0]
            assert np.flatnonzero(mask).tolist() == case["green"]
        else:  # what is read ends with the target
            green = scheme.green_mask(np.array([read[:-1]], dtype=np.int64))[0]
            assert green[read[-1]] == (read[-1] in case["green"])
            assert scheme.scores([read])[0] == (read[-1] in case["green"])


def test_transformers_detector(golden):
    for case in golden("transformers_kgw")["detector"]:
        for dedup, counts in (("none", case["all"]), ("window", case["distinct"])):
            result = rs.score([case["tokens"]], transformers_kgw(case), dedup=dedup)
            assert [result.n_scored, result.n_green] == counts


def test_transformers_synthid(golden):
    for case in golden("transformers_synthid")["cases"]:
        config = {**case, "keys": list(map(int, case["keys"])), "context_history_size": 1024}
        for name in ("tokens", "g_values", "first_context"):
            del config[name]
        scheme = rs.SynthID.from_transformers(config, 2**18)
        windows = np.lib.stride_tricks.sliding_window_view(case["tokens"], case["ngram_len"])
        rows = ["".join(map(str, row)) for row in scheme.scores(windows).tolist()]
        assert rows == case["g_values"]
        # Their detector has no padded contexts: it scores whole ones.
        start = scheme.context_width
        positions = rs.score_positions([case["tokens"]], scheme, dedup="context", start=start)
        first = (positions.status[case["ngram_len"] - 1 :] == 0).astype(int)
        assert first.tolist() == case["first_context"]


def test_synthid_deepmind(golden):
    for case in golden("synthid_deepmind")["cases"]:
        keys = tuple(map(int, case["keys"]))
        width = case["ngram_len"] - 1
        scheme = rs.SynthIDDeepMind(vocab_size=2**18, keys=keys, context_width=width)
        windows = np.lib.stride_tricks.sliding_window_view(case["tokens"], case["ngram_len"])
        rows = ["".join(map(str, row)) for row in scheme.scores(windows).tolist()]
        assert rows == case["g_values"]


def test_sbw_vectors(golden):
    for case in golden("sbw")["cases"]:
        width = len(case["context"])
        windows = {
            "lefthash": [*case["context"], case["token"]],
            "selfhash": [*case["context"][1:], case["token"]],
        }
        for name, window in windows.items():
            config = {"algorithm": "sbw", "key": case["key"], "sbw_scheme": name}
            config |= {"sbw_gamma": case["gamma"], "context_width": width}
            scheme = rs.SBW.from_vllm(config, 2**18)
            assert scheme.scores([window])[0] == case[name]["green"]


def test_sbw_and_lm_watermarking_names(golden):
    """Sbw's stateless schemes; its others are lm-watermarking's, where the seed fits an int64."""
    for case in golden("sbw_schemes")["cases"]:
        name, size, gamma = case["scheme"], case["vocab_size"], case["gamma"]
        if name.startswith("gpu-"):
            scheme = rs.SBW.from_sbw(name, key=case["key"], vocab_size=size, gamma=gamma)
        elif name.startswith("ff-multiplicative"):  # sbw wraps where lm-watermarking does not
            continue
        else:
            scheme = rs.KGW.from_lm_watermarking(
                name, vocab_size=size, gamma=gamma, hash_key=case["key"]
            )
        window = case["read"] if case["self_salt"] else [*case["read"], case["target"]]
        assert scheme.window_width == len(window)
        assert scheme.scores([window])[0] == case["green"], name


def test_textseal(golden):
    for case in golden("textseal")["cases"]:
        config = {"secret_key": int(case["key"]), "ngram": len(case["context"])}
        config |= {"gamma": case["gamma"]}
        green = rs.TextSeal.from_textseal({**config, "watermark_type": "greenlist"}, 2**18)
        gumbel = rs.TextSeal.from_textseal({**config, "watermark_type": "gumbelmax"}, 2**18)
        window = [[*case["context"], case["target"]]]
        assert green.scores(window)[0] == case["green"]
        u = float.fromhex(case["uniform"])
        assert gumbel.scores(window)[0] == pytest.approx(-math.log1p(-u), rel=1e-6, abs=1e-6)


def test_authors(golden):
    for case in golden("torch_authors")["cases"]:
        flags = {"ngram": len(case["context"]), "seeding": case["seeding"], "gamma": case["gamma"]}
        flags |= {"hash_key": case["salt_key"], "table_seed": case["table_seed"]}
        flags |= {"seed": case["seed"]}
        window = [[*case["context"], case["target"]]]
        green = rs.KGW.from_radioactivity(flags, case["vocab_size"])
        assert green.scores(window)[0] == case["green"]
        gumbel = rs.GumbelMax.from_radioactivity(flags, case["vocab_size"])
        u = float.fromhex(case["uniform"])
        assert gumbel.scores(window)[0] == pytest.approx(-math.log1p(-u), rel=1e-12)
        assert gumbel.uniforms([case["context"]])[0, case["target"]] == u


def test_keyed(golden):
    for case in golden("openssl_siphash")["cases"]:
        window, h = case["window"], int(case["hash"], 16)
        common = {"vocab_size": 2**20, "context_width": len(window) - 1}
        green = rs.Keyed(key=rs.Key.from_hex(case["key"]), gamma=0.3, **common)
        assert green.scores([window])[0] == (h < int(0.3 * 2**64))
        gumbel = rs.Keyed(key=rs.Key.from_hex(case["key"]), method="gumbel", **common)
        expected = -math.log1p(-(h >> 11) / 2**53)
        assert gumbel.scores([window])[0] == pytest.approx(expected, rel=1e-14)


def test_vllm_detector(golden):
    for case in golden("vllm_gumbel")["detect"]:
        dedup = "context" if case["deduplicate_contexts"] else "none"
        for algorithm in ("gumbel", "dual_key_gumbel"):
            config = {"algorithm": algorithm, "key": int(case["key"])}
            config |= {"context_width": case["context_width"]}
            if algorithm == "gumbel":
                scheme = rs.VLLMGumbel.from_vllm(config, 2**18)
            else:
                scheme = rs.VLLMDualKeyGumbel.from_vllm({**config, "alpha": case["alpha"]}, 2**18)
            theirs = case[algorithm]
            scores = rs.score_documents([case["token_ids"]], scheme, dedup=dedup)
            assert scores.n_scored.tolist() == [theirs["n_scored"]]
            assert scores.statistic[0] == pytest.approx(theirs["score"], rel=1e-12)
            if dedup == "context" and algorithm == "gumbel":
                assert scores.pvalue[0] == pytest.approx(theirs["pvalue"], rel=1e-9)
            elif dedup == "context":  # theirs is a moment-matched Gamma law, not ours
                log10 = moment_matched_dual_log10_sf(
                    theirs["score"], theirs["n_scored"], case["alpha"]
                )
                assert 10.0**log10 == pytest.approx(theirs["pvalue"], rel=1e-8)


def test_vllm_uniforms(golden):
    for case in golden("vllm_gumbel")["uniform"]:
        context, token = case["context"], case["token"]
        scheme = rs.VLLMGumbel(
            vocab_size=token + 2, key=int(case["key"]), context_width=len(context)
        )
        if max(context) > token + 1:
            scheme = rs.VLLMGumbel(
                vocab_size=2**18, key=int(case["key"]), context_width=len(context)
            )
        u = float.fromhex(case["u_float32_hex"])
        assert scheme.scores([[*context, token]])[0] == pytest.approx(-math.log1p(-u), rel=1e-13)


def test_sglang_detector(golden):
    n = 0
    for case in golden("sglang_gumbel")["detect"]:
        config = {"key": case["key"], "key_b": case["key_b"]}
        config |= {"context_window": case["context_window"]}
        config |= {"mixing_probability": case["mixing_probability"]}
        scheme = rs.SGLangGumbel.from_sglang(config, 2**18)
        prompt = case["prompt_token_ids"]
        if 0 < len(prompt) < scheme.context_width:
            continue  # SGLang hashes what little context there is
        scores = rs.score_documents(
            [case["token_ids"]],
            scheme,
            dedup="context",
            prompts=[prompt],
            prompt_role="context",
            max_contexts=4096,
        )
        assert scores.n_scored.tolist() == [case["n_scored"]]
        assert scores.statistic[0] == pytest.approx(case["score"], rel=1e-12)
        log_pvalue = scores.log10_pvalue[0] * math.log(10)
        assert log_pvalue == pytest.approx(case["log_pvalue"], rel=1e-9)
        n += 1
    assert n > 20
