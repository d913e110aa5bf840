"""Parameters, keys, configurations: what is accepted, what is refused, what is never shown."""

import argparse
import copy
import itertools
import json
import pickle
import subprocess
import sys
import traceback
from dataclasses import replace

import numpy as np
import pytest
from radscore.errors import ArgumentError, SchemeError, TokenError
from radscore.schemes import (
    KGW,
    SBW,
    SCHEMES,
    GumbelMax,
    Key,
    Keyed,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMDualKeyGumbel,
    VLLMGumbel,
    from_dict,
    from_sglang_config,
    from_synthid_text_config,
    from_toml,
    from_vllm_config,
)

SECRET = 7_312_345_678_901_234_567
HEX_SECRET = "5ec2e700c0ffee11deadbeef0badcafe"

EXAMPLES = [
    KGW(vocab_size=500, gamma=0.25, context_width=2, seeding="hash", seed=SECRET, salt_key=SECRET),
    KGW(vocab_size=500, seeding="minhash", context_width=4, hash_key=SECRET, self_salt=True),
    KGW(vocab_size=500, seeding="table_skip", table_seed=4, salt_key=SECRET),
    KGW.from_transformers({"seeding_scheme": "selfhash", "hashing_key": SECRET}, 500),
    GumbelMax(vocab_size=500, seed=SECRET),
    SynthID(vocab_size=500, keys=[SECRET, SECRET - 1]),
    SynthIDDeepMind(vocab_size=500, keys=[SECRET, -SECRET]),
    TextSeal(vocab_size=500, key=SECRET),
    TextSeal(vocab_size=500, key=SECRET, method="gumbel", context_width=3),
    VLLMGumbel(vocab_size=500, key=SECRET),
    VLLMDualKeyGumbel(vocab_size=500, key=SECRET, alpha=0.3),
    SGLangGumbel(vocab_size=500, key=SECRET),
    SGLangGumbel(vocab_size=500, key=SECRET, key_b=SECRET - 1, mixing_probability=0.7),
    SBW(vocab_size=500, key=SECRET),
    Keyed(vocab_size=500, key=HEX_SECRET),
    Keyed(vocab_size=500, key=HEX_SECRET, method="gumbel"),
]
NAMES = [f"{i}-{scheme.name}" for i, scheme in enumerate(EXAMPLES)]
each = pytest.mark.parametrize("scheme", EXAMPLES, ids=NAMES)


def leaks(text):
    spellings = [str(SECRET), str(SECRET - 1), f"{SECRET:x}", HEX_SECRET, "\\x5e\\xc2", "^\\xc2"]
    return [spelling for spelling in spellings if spelling in text.lower()]


def test_every_scheme_has_an_example():
    assert {scheme.name for scheme in EXAMPLES} == set(SCHEMES)
    for name, cls in SCHEMES.items():
        assert name == cls.name
        assert cls.description
        assert "\n" not in cls.description


@each
def test_no_secret_is_shown(scheme):
    shown = [repr(scheme), str(scheme), f"{scheme}", repr([scheme]), repr(scheme.core)]
    shown += [scheme.fingerprint, json.dumps(scheme.to_dict())]
    assert not leaks(" ".join(shown))
    assert f"key=<fingerprint {scheme.fingerprint}>" in repr(scheme)


@each
def test_round_trip_of_the_public_part(scheme):
    public = json.loads(json.dumps(scheme.to_dict()))
    assert not set(public) & set(scheme.secrets)
    key = Key({name: getattr(scheme, name) for name in used_secrets(scheme)})
    again = from_dict(public, key)
    assert again == scheme
    assert again.fingerprint == scheme.fingerprint
    assert type(again) is type(scheme)


def used_secrets(scheme):
    return [name for name in scheme.secrets if name not in scheme._unused()]


@each
def test_copies_are_equal(scheme):
    for again in (pickle.loads(pickle.dumps(scheme)), copy.deepcopy(scheme)):
        assert again == scheme
        assert hash(again) == hash(scheme)
        assert again.fingerprint == scheme.fingerprint
    with pytest.raises(AttributeError):
        scheme.vocab_size = 5


@each
def test_decoys(scheme):
    decoys = scheme.decoys(5, seed=3)
    assert len({decoy.fingerprint for decoy in [scheme, *decoys]}) == 6
    assert [d.fingerprint for d in scheme.decoys(5, seed=3)] == [d.fingerprint for d in decoys]
    assert [d.fingerprint for d in scheme.decoys(2, seed=3)] == [d.fingerprint for d in decoys[:2]]
    assert scheme.decoys(1, seed=4)[0] != decoys[0]
    assert all(decoy.to_dict() == scheme.to_dict() for decoy in decoys)
    windows = np.random.default_rng(0).integers(0, 500, (200, scheme.window_width))
    scores = [one.scores(windows) for one in [scheme, *decoys]]
    assert all((scores[0] != other).any() for other in scores[1:])
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ArgumentError, match="n must be"):
            scheme.decoys(wrong)


def test_textseal_decoys_keep_apart():
    scheme = TextSeal(vocab_size=100, key=0)
    keys = sorted([0, *(decoy.key for decoy in scheme.decoys(300))])
    assert min(b - a for a, b in itertools.pairwise(keys)) >= TextSeal.APART
    assert not scheme._apart((TextSeal.APART - 1,), [(0,)])


def test_decoys_fill_the_range_of_keys():
    keys = [decoy.key for decoy in VLLMGumbel(vocab_size=100, key=1).decoys(200)]
    assert max(keys) > 2**63 > min(keys)
    keys = [decoy.keys[0] for decoy in SynthID(vocab_size=100, keys=[1]).decoys(200)]
    assert min(keys) < 0 < max(keys)


@each
def test_null_law_belongs_to_the_scores(scheme):
    law = scheme.null_law
    windows = np.random.default_rng(1).integers(0, 500, (3000, scheme.window_width))
    if not scheme.units_are_windows:
        _, first = np.unique(scheme.units(windows), axis=0, return_index=True)
        windows = windows[first]
    scores = scheme.scores(windows)
    if scores.ndim == 2:
        scores = scores @ np.array(law.weights)
    n = len(scores)
    assert abs(scores.mean() - law.mean) < 6 * (law.variance / n) ** 0.5


@each
def test_tokens_are_checked(scheme):
    width = scheme.window_width
    for bad in (500, -2, 2**32, 2**31):
        windows = np.zeros((2, width), dtype=np.int64)
        windows[1, -1] = bad
        with pytest.raises(TokenError, match=rf"token id {bad} in row 1 of windows"):
            scheme.scores(windows)
    windows = np.zeros((1, width), dtype=np.int64)
    windows[0, -1] = -1
    with pytest.raises(TokenError, match="token id -1"):
        scheme.scores(windows)
    if width > 1 and scheme.padding != -1:
        windows[0] = 0
        windows[0, 0] = -1
        with pytest.raises(TokenError, match="token id -1"):
            scheme.scores(windows)
    with pytest.raises(ArgumentError, match=rf"windows must have {width} columns"):
        scheme.scores(np.zeros((1, width + 1), dtype=np.int64))
    for shape in ((width,), (1, 1, width)):
        with pytest.raises(TokenError, match="two-dimensional"):
            scheme.scores(np.zeros(shape, dtype=np.int64))
    with pytest.raises(TokenError, match="integers"):
        scheme.scores(np.zeros((1, width)))
    with pytest.raises(TokenError):
        scheme.scores(np.full((1, width), 2**64 - 1, dtype=np.uint64))
    assert len(scheme.scores(np.zeros((0, width), dtype=np.int64))) == 0
    assert len(scheme.scores([])) == 0


FORMS = ("green_mask", "uniforms", "g_values")


@each
def test_vocabulary_wide_forms(scheme):
    """One form fits each kind of score, the others are refused; no rows give no rows."""
    kind = scheme.core.score_kind
    fits = {"green": "green_mask", "real": "uniforms", "depths": "g_values"}[kind]
    width = scheme.window_width - 1
    contexts = np.random.default_rng(2).integers(0, 500, (2, width))
    for form in FORMS:
        if form != fits:
            with pytest.raises(SchemeError):
                getattr(scheme, form)(contexts)
    wide = getattr(scheme, fits)(contexts)
    assert wide.shape[:2] == (2, 500)
    assert getattr(scheme, fits)(contexts[:0]).shape[0] == 0
    for row in range(2):
        targets = np.arange(500)
        windows = np.column_stack([np.tile(contexts[row], (500, 1)), targets])
        scores = scheme.scores(windows)
        if kind == "real":
            alpha = getattr(scheme, "alpha", None)
            expected = -np.log1p(-wide[row])
            if alpha is not None:
                second = -np.log1p(-scheme.uniforms(contexts, key_index=1)[row])
                expected = (1 - alpha) * expected + alpha * second
            np.testing.assert_allclose(scores, expected, rtol=1e-12)
        else:
            np.testing.assert_array_equal(scores, wide[row])
    if fits == "uniforms":
        with pytest.raises(ArgumentError, match="key_index must be from 0 to"):
            scheme.uniforms(contexts, key_index=2)


REFUSED = [
    (KGW, {"vocab_size": 1}, "vocab_size must be from 2 to 1048576, not 1"),
    (KGW, {"vocab_size": 2**20 + 1}, "not 1048577"),
    (KGW, {"vocab_size": "32k"}, "vocab_size must be an integer, not '32k'"),
    (KGW, {"vocab_size": 100.0}, "vocab_size must be an integer"),
    (KGW, {"vocab_size": True}, "vocab_size must be an integer"),
    (KGW, {"gamma": 0}, "gamma must be above 0 and below 1"),
    (KGW, {"gamma": 1.0}, "gamma must be above 0 and below 1"),
    (KGW, {"gamma": float("nan")}, "gamma must be a number"),
    (KGW, {"gamma": "0.5"}, "gamma must be a number"),
    (KGW, {"gamma": 0.001}, "leaves 0 green tokens of 500"),
    (KGW, {"context_width": 0}, "context_width must be from 1 to 64, not 0"),
    (KGW, {"context_width": 65}, "not 65"),
    (KGW, {"seeding": "sha1"}, "seeding must be one of hash"),
    (KGW, {"self_salt": 1}, "self_salt must be true or false"),
    (KGW, {"self_salt": True}, "self_salt"),
    (KGW, {"seeding": "additive", "seed": SECRET}, "seed has no effect"),
    (KGW, {"hash_key": SECRET}, "hash_key has no effect"),
    (KGW, {"seeding": "additive", "hash_key": 0}, "hash_key must be from 1 to"),
    (KGW, {"seeding": "additive", "hash_key": 2**63}, "hash_key must be from 1 to 2^63 - 1"),
    (KGW, {"seed": -SECRET}, "seed must be from 0 to 2^64 - 1"),
    (KGW, {"seed": f"x{SECRET}"}, "seed must be a decimal or hexadecimal number"),
    (KGW, {"seeding": "table_min"}, "global generator"),
    (KGW, {"seeding": "minhash", "table_seed": "mine"}, "table_seed must be an integer or"),
    (KGW, {"table_seed": 3}, "table_seed has no effect"),
    (KGW, {"seeding": "minskipgram", "context_width": 1}, "at least 2"),
    (SynthID, {"keys": []}, "keys"),
    (SynthID, {"keys": [SECRET] * 65}, "1 to 64 numbers, not of 65"),
    (SynthID, {"keys": [1, 2**63]}, "keys must be from -2^63 to 2^63 - 1"),
    (SynthID, {"keys": [1], "context_width": 65}, "context_width must be from 1 to 64"),
    (SynthID, {"keys": [1], "sampling_table_size": 1}, "sampling_table_size must be from 2"),
    (TextSeal, {"key": 1, "context_width": 11}, "context_width must be from 1 to 10"),
    (TextSeal, {"key": 2**63}, "key must be from -2^63 to 2^63 - 1"),
    (TextSeal, {"key": 1, "method": "both"}, "method must be one of green, gumbel"),
    (TextSeal, {"key": 1, "gamma": None}, "gamma must be given"),
    (VLLMGumbel, {"key": 2**64}, "key must be from 0 to 2^64 - 1"),
    (VLLMDualKeyGumbel, {"key": 1, "alpha": 1.5}, "alpha must be from 0 to 1, not 1.5"),
    (SGLangGumbel, {"key": "0x" + "f" * 17}, "key must be from 0 to 2^64 - 1"),
    (SGLangGumbel, {"key": 1, "key_b": 2, "mixing_probability": 2}, "mixing_probability"),
    (SBW, {"key": 1, "seeding": "hash"}, "seeding function must be one of"),
    (SBW, {"key": 1, "hashing": "md5"}, "hashing must be one of integer, table"),
    (Keyed, {"key": HEX_SECRET[:-1]}, "16 bytes .32 hexadecimal digits., not 31 digits"),
    (Keyed, {"key": bytes(15)}, "not 15 bytes"),
    (Keyed, {"key": HEX_SECRET[:-1] + "x"}, "it holds other characters"),
    (Keyed, {"key": SECRET}, "not a number"),
    (Keyed, {"key": None}, "not NoneType"),
]


@pytest.mark.parametrize(("cls", "parameters", "message"), REFUSED)
def test_refused_parameters(cls, parameters, message):
    with pytest.raises(SchemeError, match=message.replace("^", r"\^")) as caught:
        cls(**({"vocab_size": 500} | parameters))
    assert isinstance(caught.value, ValueError)
    assert not leaks("".join(traceback.format_exception(caught.value)))
    assert "\n" not in str(caught.value)


def test_equal_parameters_have_equal_fingerprints():
    simple = KGW.from_lm_watermarking("simple_1", vocab_size=500)
    others = [
        KGW(vocab_size=500, seeding="additive", context_width=1),
        KGW.from_lm_watermarking("lefthash", vocab_size=500),
        KGW.from_lm_watermarking("ff-additive_prf-1-False-15485863", vocab_size=500),
        KGW.from_transformers({}, 500),
        KGW(vocab_size=np.int64(500), gamma=np.float64(0.25), seeding="minfunc", context_width=1),
    ]
    assert {scheme.fingerprint for scheme in others} == {simple.fingerprint}
    assert others[0] == others[1] == others[2] == simple
    different = [
        KGW.from_lm_watermarking("simple_1", vocab_size=501),
        KGW.from_lm_watermarking("simple_1", vocab_size=500, gamma=0.5),
        KGW.from_lm_watermarking("simple_1", vocab_size=500, hash_key=7),
        KGW.from_lm_watermarking("simple_1", vocab_size=500, select_green_tokens=False),
        KGW.from_lm_watermarking("ff-additive-2-False", vocab_size=500),
        KGW.from_lm_watermarking("ff-additive-1-True", vocab_size=500),
        GumbelMax(vocab_size=500, seeding="additive", context_width=1),
    ]
    assert len({scheme.fingerprint for scheme in [simple, *different]}) == 8
    spelled = [HEX_SECRET, HEX_SECRET.upper(), "0x" + HEX_SECRET, bytes.fromhex(HEX_SECRET)]
    spelled += [Key(HEX_SECRET), Key.from_hex(HEX_SECRET), f" {HEX_SECRET}\n"]
    keyed = {Keyed(vocab_size=500, key=key).fingerprint for key in spelled}
    assert len(keyed) == 1
    assert VLLMGumbel(vocab_size=9, key="0x2A") == VLLMGumbel(vocab_size=9, key=42)


def test_fingerprints_and_decoys_do_not_change():
    """Saved states and published evidence carry them: made by version 0.1.0 of this package."""
    assert [scheme.fingerprint for scheme in EXAMPLES] == FINGERPRINTS
    assert [scheme.decoys(1)[0].fingerprint for scheme in EXAMPLES] == DECOYS


FINGERPRINTS = [
    "0105603b570b628b",
    "7949e14cff0639b4",
    "38242cb7a75cc295",
    "4f84f1e06b0d1604",
    "34c2ffd436d9f616",
    "81dbcb505d672a45",
    "797407d0d1b78b14",
    "85197619729dccc2",
    "31add7b6677e92c4",
    "d89251ee91cf8c50",
    "bdf09567ac31528b",
    "73e5342f622be114",
    "1d0f1ed26094a8a0",
    "bfa990ebe02f6ae5",
    "3a582e88220fe1be",
    "7e7fcb900829b9ae",
]
DECOYS = [
    "d7af3cb03ebe5ef1",
    "d5bb36a639e1e927",
    "f4d437230b7da3e1",
    "94616216df1ed2b0",
    "b49572c0816d27c1",
    "a86611d639831628",
    "d13c3fbadf4aca8e",
    "dedcbd684b0b2869",
    "e616880507c6ca66",
    "fa471d946bea2d52",
    "193431af429679e8",
    "6d1e20036bd719ba",
    "c78c43ec3671fcba",
    "ccb12163da976d8b",
    "8be2cdfb53b46455",
    "803183421be4d175",
]


# Keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [HEX_SECRET, f"\n  {HEX_SECRET.upper()} \r\n", f"0x{HEX_SECRET}", f"\ufeff{HEX_SECRET}"],
)
def test_key_files(tmp_path, text, monkeypatch):
    path = tmp_path / "alice.key"
    path.write_text(text, encoding="utf-8")
    expected = Keyed(vocab_size=500, key=HEX_SECRET)
    assert Keyed(vocab_size=500, key=Key.from_file(path)) == expected
    monkeypatch.setenv("RADSCORE_KEY", text.removeprefix("\ufeff"))
    assert Keyed(vocab_size=500, key=Key.from_env()) == expected


def test_key_files_of_other_forms(tmp_path):
    path = tmp_path / "key"
    path.write_text("42\n")
    assert VLLMGumbel(vocab_size=500, key=Key.from_file(path)).key == 42
    assert SGLangGumbel(vocab_size=500, key=Key.from_file(path)).key == 0x42
    path.write_text("654, 400,\n836 123")
    assert SynthID(vocab_size=500, keys=Key.from_file(path)).keys == (654, 400, 836, 123)
    path.write_text("seed = 3\nsalt_key = 0x10\n")
    scheme = from_dict({"scheme": "kgw", "vocab_size": 500}, Key.from_file(path))
    assert (scheme.seed, scheme.salt_key) == (3, 16)
    path.write_text('key = "2a"\nkey_b = "2b"')
    scheme = from_dict({"scheme": "sglang_gumbel", "vocab_size": 500}, Key.from_file(path))
    assert (scheme.key, scheme.key_b) == (0x2A, 0x2B)
    path.write_text("keys = [1, -2]")
    scheme = from_dict({"scheme": "synthid", "vocab_size": 500}, Key.from_file(path))
    assert scheme.keys == (1, -2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (f"my {HEX_SECRET}!".encode(), "not a hexadecimal or decimal number"),
        (f"key = {HEX_SECRET}".encode(), "not valid TOML"),
        (f"[table]\nkey = '{HEX_SECRET}'".encode(), "table must be"),
        (HEX_SECRET.encode("utf-16"), "not a text file"),
        (HEX_SECRET.encode() * 5000, "larger than"),
        (b"\x00" * 16, "not a hexadecimal"),
    ],
)
def test_bad_key_files_name_the_file_only(tmp_path, content, message):
    path = tmp_path / "bad.key"
    path.write_bytes(content)
    with pytest.raises(SchemeError, match=message) as caught:
        Key.from_file(path)
    assert "bad.key" in str(caught.value)
    assert not leaks("".join(traceback.format_exception(caught.value)))


def test_missing_keys(tmp_path, monkeypatch):
    with pytest.raises(SchemeError, match=r"none\.key: No such file"):
        Key.from_file(tmp_path / "none.key")
    with pytest.raises(SchemeError, match="directory"):
        Key.from_file(tmp_path)
    monkeypatch.delenv("RADSCORE_KEY", raising=False)
    with pytest.raises(SchemeError, match="no variable RADSCORE_KEY"):
        Key.from_env()
    with pytest.raises(SchemeError, match="even number"):
        Key.from_hex("abc")


def test_keys_show_only_a_fingerprint(tmp_path):
    key = Key(HEX_SECRET)
    shown = f"{key} {key!r} {[key]} {{'key': key}} {key.fingerprint}"
    assert not leaks(shown)
    assert repr(key) == f"Key(fingerprint={key.fingerprint!r})"
    assert key == Key(HEX_SECRET)
    assert key != Key(HEX_SECRET[::-1])
    assert not hasattr(key, "__dict__")


def test_generated_keys_can_be_saved_once(tmp_path):
    key = Key.generate()
    path = tmp_path / "new.key"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keyed(vocab_size=9, key=Key.from_file(path)) == Keyed(vocab_size=9, key=key)
    with pytest.raises(SchemeError, match="File exists"):
        key.save(path)


# Configurations --------------------------------------------------------------------------------


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


def test_synthid_weights():
    """transformers' detector: linspace(10, 1, depth), scaled to sum to the depth, then the mean."""
    mean = SynthID(vocab_size=500, keys=range(1, 31))
    weighted = replace(mean, method="weighted_mean")
    line = np.linspace(10, 1, 30)
    np.testing.assert_allclose(weighted.weights, line / line.sum(), rtol=1e-14)
    assert weighted.null_law.weights == weighted.weights
    assert weighted.null_law.method == "exact tail of the weighted bits"
    assert set(mean.weights) == {1 / 30}
    assert weighted.fingerprint != mean.fingerprint
    with pytest.raises(SchemeError, match="method must be one of mean, weighted_mean, not 'sum'"):
        SynthID(vocab_size=500, keys=(1,), method="sum")


def test_importing_the_schemes_loads_nothing_heavy():
    code = (
        "import sys, radscore.schemes; "
        "print([m for m in ('torch', 'scipy', 'transformers', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_where_scoring_starts():
    common = {"vocab_size": 50, "context_width": 3}
    vllm, synthid = VLLMGumbel(key=1, **common), SynthID(keys=[1, 2], **common)
    sbw = SBW(key=1, seeding="additive", self_salt=False, **common)
    keyed = Keyed(key=bytes(16), **common)
    found = [(s.padding, s.reaches_prompt, s.first_position) for s in (vllm, synthid, sbw, keyed)]
    assert found == [(-1, False, 0), (0, False, 0), (-1, True, 3), (None, True, 3)]
