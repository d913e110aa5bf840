"""Schemes from TOML files and from other tools' configurations."""

import argparse
import dataclasses
import json
import traceback

import pytest
import radscore as rs
from radscore.errors import SchemeError
from radscore.schemes import (
    KGW,
    SBW,
    GumbelMax,
    Key,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    VLLMDualKeyGumbel,
    VLLMGumbel,
    from_dict,
    from_sglang_config,
    from_synthid_text_config,
    from_toml,
    from_vllm_config,
)
from secret_keys import HEX_SECRET, SECRET, leaks


def test_toml(tmp_path):
    path = tmp_path / "scheme.toml"
    path.write_text('scheme = "kgw"\nvocab_size = 32000\ngamma = 0.25\ncontext_width = 2\n')
    assert from_toml(path, key=Key(3)) == KGW(
        vocab_size=32000, gamma=0.25, context_width=2, seeding="hash", seed=3, salt_key=35317
    )
    path.write_text('scheme = "kgw"\nvocab_size = 32000\nseeding = "minhash"\n')
    assert from_toml(path, key=Key(3)).hash_key == 3
    path.write_text('scheme = "keyed"\nvocab_size = 32000\n')
    assert from_toml(path, key=HEX_SECRET).context_width == 2


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("vocab_size = 5", None, "scheme must be one of kgw"),
        ('scheme = "kwg"', None, "not 'kwg'"),
        ('scheme = "keyed"\nvocab_size = 500', None, "needs its key"),
        ('scheme = "keyed"', HEX_SECRET, "needs the parameter vocab_size"),
        ('scheme = "keyed"\nvocab_size = 500\ndelta = 2', HEX_SECRET, "no parameter 'delta'"),
        ('scheme = "keyed"\nvocab_size = 500', HEX_SECRET[:8], "not 8 digits"),
        (f'scheme = "keyed"\nvocab_size = 9\nkey = "{HEX_SECRET}"', HEX_SECRET, "given twice"),
        ('scheme = "sbw"\nvocab_size = 500', Key({"sead": SECRET}), "the key names 'sead'"),
        (f'scheme = "keyed\nkey = "{HEX_SECRET}', None, "not valid TOML"),
    ],
)
def test_bad_toml(tmp_path, text, key, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SchemeError, match=message) as caught:
        from_toml(path, key=key)
    assert str(caught.value).startswith(str(path))
    assert not leaks("".join(traceback.format_exception(caught.value)))


def test_missing_toml(tmp_path):
    with pytest.raises(SchemeError, match=r"none\.toml: No such file"):
        from_toml(tmp_path / "none.toml")


def test_radioactivity_flags():
    flags = {"ngram": 2, "seed": 3, "seeding": "hash", "hash_key": 35317, "gamma": 0.5}
    expected = KGW(vocab_size=500, gamma=0.5, context_width=2, seed=3, salt_key=35317)
    assert KGW.from_radioactivity(flags | {"method": "maryland"}, 500) == expected
    namespace = argparse.Namespace(**flags, method="none", method_detect="maryland", nsamples=4)
    assert KGW.from_radioactivity(namespace, 500) == expected
    gumbel = GumbelMax.from_radioactivity(flags | {"method": "openai"}, 500)
    assert gumbel == GumbelMax(vocab_size=500, context_width=2, seed=3)
    table = KGW.from_radioactivity({"ngram": 2, "seeding": "min", "table_seed": 7}, 500)
    assert (table.seeding, table.table_seed) == ("table_min", 7)
    for wrong, message in (
        ({"seed": 3}, "ngram is missing"),
        (flags | {"method": "openai"}, "method='openai'"),
        (flags | {"payload": 3}, "payload must be 0"),
        (flags | {"salt_key": 3}, "same flag"),
        ({"ngram": 2, "seeding": "skip"}, "global generator"),
        ({"ngram": 2, "seeding": "sha"}, "seeding must be one of"),
    ):
        with pytest.raises(SchemeError, match=message):
            KGW.from_radioactivity(wrong, 500)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simple_2", "no scheme 'simple_2'"),
        ("ff-additive", "this one has 1 parts"),
        ("ff-additive-x-True", "must be a number"),
        ("ff-additive-3-yes", "True or False"),
        ("ff-sha-3-True", "no function 'sha'"),
        (f"ff-additive-3-True-{SECRET}x", "decimal number"),
        (f"additive-{SECRET}", "no scheme 'additive'"),
    ],
)
def test_bad_lm_watermarking_names(name, message):
    with pytest.raises(SchemeError, match=message) as caught:
        KGW.from_lm_watermarking(name, vocab_size=500)
    assert not leaks("".join(traceback.format_exception(caught.value)))
    with pytest.raises(SchemeError, match="given twice"):
        KGW.from_lm_watermarking("ff-additive-3-True-7", vocab_size=500, hash_key=7)


def test_vllm_configs(tmp_path):
    common = {"key": 42, "deduplicate_contexts": "single_turn", "prf": "philox"}
    assert from_vllm_config(json.dumps(common), 500) == VLLMGumbel(vocab_size=500, key=42)
    dual = common | {"algorithm": "dual_key_gumbel", "alpha": 0.2, "context_width": 6}
    expected = VLLMDualKeyGumbel(vocab_size=500, key=42, alpha=0.2, context_width=6)
    assert from_vllm_config(dual, 500) == expected
    path = tmp_path / "watermark.json"
    path.write_text(json.dumps(dual))
    assert from_vllm_config(path, 500) == expected
    sbw = common | {"algorithm": "sbw", "sbw_gamma": 0.25, "sbw_delta": 1.0}
    assert from_vllm_config(sbw, 500) == SBW(vocab_size=500, key=42, gamma=0.25)
    left = from_vllm_config(sbw | {"sbw_scheme": "lefthash"}, 500)
    assert (left.seeding, left.context_width, left.self_salt) == ("additive", 1, False)
    for wrong, message in (
        ({}, "no key"),
        (common | {"algorithm": "x"}, "must be gumbel or dual_key_gumbel or sbw here, not 'x'$"),
        (common | {"algorithm": "synthid_text", "depth": 30}, "this version cannot read it"),
        (common | {"deduplicate_contexts": "some"}, "none, single_turn, all, not 'some'"),
        (common | {"deduplicate_contexts_max_history": 0}, "max_history must be from 1"),
        (common | {"prf": "hmac"}, "prf must be one of philox"),
        (common | {"keys": 3}, "no field 'keys'"),
        (f'{{"key": {SECRET}', "not valid JSON .line 1, column"),
        ("[1]", "No such file"),
        (5, "must be JSON text"),
    ):
        with pytest.raises(SchemeError, match=message) as caught:
            from_vllm_config(wrong, 500)
        assert not leaks("".join(traceback.format_exception(caught.value)))
    with pytest.raises(SchemeError, match="algorithm"):
        VLLMGumbel.from_vllm(dual, 500)


def test_sglang_configs():
    config = {"key": "83e505541b49bbbb", "context_window": 2, "enforce_all": True}
    scheme = from_sglang_config(json.dumps(config), 500)
    assert scheme == SGLangGumbel(vocab_size=500, key=0x83E505541B49BBBB, context_width=2)
    dual = from_sglang_config(config | {"key_b": "10", "mixing_probability": 0.25}, 500)
    assert (dual.key_b, dual.mixing_probability) == (0x10, 0.25)
    synthid = from_sglang_config({"keys": [654, 400], "ngram_len": 3, "num_candidates": 9}, 500)
    assert synthid == SynthIDDeepMind(vocab_size=500, keys=[654, 400], context_width=2)
    for wrong, message in (
        ({"context_window": 2}, "no key"),
        (config | {"context_window": 65}, "context_width must be from 1 to 64, not 65"),
        (config | {"algorithm": "x"}, "no field 'algorithm'"),
        ({"keys": [1], "ngram_len": 1}, "ngram_len must be from 2 to 65"),
    ):
        with pytest.raises(SchemeError, match=message):
            from_sglang_config(wrong, 500)


def test_configuration_objects_of_transformers():
    transformers = pytest.importorskip("transformers")
    kgw = transformers.WatermarkingConfig(seeding_scheme="selfhash", context_width=3)
    scheme = KGW.from_transformers(kgw, 500)
    assert scheme == KGW(
        vocab_size=500,
        seeding="anchored_minhash",
        self_salt=True,
        context_width=3,
        table_seed="hash_key",
    )
    config = transformers.SynthIDTextWatermarkingConfig(ngram_len=5, keys=[654, 400])
    assert SynthID.from_transformers(config, 500) == SynthID(vocab_size=500, keys=[654, 400])
    with pytest.raises(SchemeError, match="no field 'context_history_size'"):
        KGW.from_transformers(config, 500)
    with pytest.raises(SchemeError, match="no field"):
        SynthID.from_transformers(kgw, 500)
    with pytest.raises(SchemeError, match="has no ngram_len"):
        SynthID.from_transformers({"keys": [1]}, 500)


def test_synthid_text_configs():
    """PyPI's package has a table, DeepMind's repository since June 2025 has none."""
    config = {"ngram_len": 5, "keys": [654, 400], "context_history_size": 1024}
    table = {"sampling_table_size": 65536, "sampling_table_seed": 0}
    with_table = from_synthid_text_config(config | table | {"device": "cpu"}, 500)
    assert with_table == SynthID(vocab_size=500, keys=[654, 400])
    assert from_synthid_text_config(config, 500) == SynthIDDeepMind(vocab_size=500, keys=[654, 400])
    for read, wrong, message in (
        (SynthID, config, "no sampling_table_size; .* use SynthIDDeepMind.from_synthid_text"),
        (SynthIDDeepMind, config | table, "a sampling_table_size; .* use SynthID.from_synthid"),
        (SynthID, config | table | {"device": "cuda:0"}, "device must be 'cpu', not 'cuda:0'"),
        (SynthID, config | table | {"depth": 2}, "no field 'depth'"),
        (SynthIDDeepMind, {"keys": [1]}, "has no ngram_len"),
    ):
        with pytest.raises(SchemeError, match=message):
            read.from_synthid_text(wrong, 500)


@pytest.mark.parametrize(
    "text",
    [
        "vocab_size = " + "9" * 5000,
        "vocab_size = 0x" + "f" * 5000,
        "x = " + "[" * 5000 + "]" * 5000,
        "gamma = 0x" + "f" * 5000 + "\nvocab_size = 50",
        "#" * (1 << 21),
    ],
    ids=["digits", "hexadecimal", "nested", "gamma", "large"],
)
@pytest.mark.parametrize(
    "name", ['scheme = "keyed"\n', "", "scheme = 0x" + "f" * 5000 + "\n"], ids=["", "none", "long"]
)
def test_monstrous_toml(tmp_path, text, name):
    path = tmp_path / "bad.toml"
    path.write_text(name + text)
    with pytest.raises(SchemeError, match=r"bad\.toml") as caught:
        from_toml(path, HEX_SECRET)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), "x" * 9999, [[]] * 999, float("inf"), {}], ids=range(6)
)
def test_monstrous_arguments(value):
    for scheme in (KGW(vocab_size=50, seed=3), rs.Keyed(vocab_size=50, key=HEX_SECRET)):
        for field in dataclasses.fields(scheme):
            with pytest.raises(SchemeError) as caught:
                dataclasses.replace(scheme, **{field.name: value})
            assert len(str(caught.value)) < 400


def test_names_of_schemes_may_be_spelt_as_classes():
    for name, kind in rs.schemes.SCHEMES.items():
        for other in (kind.__name__, name.upper(), name.replace("_", "-")):
            assert rs.schemes.names.scheme_name(other) == name


V = {"vocab_size": 500}


@pytest.mark.parametrize(
    ("fields", "key", "scheme"),
    [
        # lm-watermarking's names
        *(
            ({"scheme": name}, 7, KGW.from_lm_watermarking(name, **V, hash_key=7))
            for name in ("lefthash", "simple_1", "minhash", "skipgram", "algorithm-3")
        ),
        (
            {"scheme": "ff-anchored_minhash_prf-3-True"},
            7,
            KGW.from_lm_watermarking("ff-anchored_minhash_prf-3-True", **V, hash_key=7),
        ),
        (
            {"scheme": "KGW", "seeding": "selfhash", "table_seed": 2971215073},
            7,
            KGW.from_lm_watermarking("selfhash", **V, hash_key=7),
        ),
        (
            {"scheme": "kgw", "seeding_scheme": "minhash", "gamma": 0.5},
            7,
            KGW.from_lm_watermarking("minhash", **V, gamma=0.5, hash_key=7),
        ),
        # transformers' WatermarkingConfig
        *(
            ({"scheme": "kgw", **config}, None, KGW.from_transformers(config, 500))
            for config in (
                {"greenlist_ratio": 0.5, "bias": 2.0, "hashing_key": 7},
                {"hashing_key": 7, "seeding_scheme": "selfhash", "context_width": 4},
                {"hashing_key": 7, "seeding_scheme": "selfhash"},
                {"hashing_key": 7, "seeding_scheme": "lefthash", "context_width": 3},
            )
        ),
        (
            {"scheme": "synthid", "ngram_len": 5, "context_history_size": 1024},
            [7, 8],
            SynthID.from_transformers({"ngram_len": 5, "keys": [7, 8]}, 500),
        ),
        (
            {"scheme": "SynthIDDeepMind", "ngram_len": 3},
            [7, 8],
            SynthIDDeepMind.from_sglang({"ngram_len": 3, "keys": [7, 8]}, 500),
        ),
        ({"scheme": "maryland", "context_width": 1}, 7, KGW(**V, context_width=1, seed=7)),
        ({"scheme": "openai", "context_width": 1}, 7, GumbelMax(**V, context_width=1, seed=7)),
    ],
)
def test_names_of_others(fields, key, scheme):
    found = from_dict({**fields, **V}, key)
    assert found.fingerprint == scheme.fingerprint
    assert found.window_width == scheme.window_width


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheme": "gumbel"}, "gumbel_max .*, vllm_gumbel"),
        ({"scheme": "SynthID-Text"}, "synthid .* and synthid_deepmind"),
        ({"scheme": "selfhash"}, 'table_seed = 2971215073.*table_seed = "hash_key"'),
        ({"scheme": "minhash", "context_width": 3}, "context_width of 4, not 3"),
        ({"scheme": "minhash", "seeding": "hash"}, "leave out seeding"),
        ({"scheme": "algorithm-3", "self_salt": False}, "self_salt = true"),
        ({"scheme": "kgw", "gamma": 0.5, "greenlist_ratio": 0.5}, "give one of them"),
        ({"scheme": "Unigram"}, "cannot be read here"),
        ({"algorithm_name": "KGW", "gamma": 0.5}, "MarkLLM"),
        ({"scheme": "KWG"}, "did you mean kgw"),
        ({"scheme": "kgw", "gama": 0.5}, "did you mean gamma"),
        ({"scheme": "kgw", "seeding": "adittive"}, "did you mean additive"),
    ],
)
def test_names_that_mean_several_or_no_schemes(fields, message):
    with pytest.raises(SchemeError, match=message):
        from_dict({**fields, **V}, 7)


def test_a_class_says_who_knows_the_seedings_of_others():
    with pytest.raises(SchemeError, match=r"KGW\.from_lm_watermarking"):
        KGW(**V, seeding="lefthash")
