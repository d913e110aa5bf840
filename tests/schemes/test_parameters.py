"""Parameters of schemes: what is accepted, what is refused, what is never shown."""

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
)
from secret_keys import HEX_SECRET, SECRET, leaks

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
    assert [scheme.fingerprint[:16] for scheme in EXAMPLES] == FINGERPRINTS
    assert [scheme.decoys(1)[0].fingerprint[:16] for scheme in EXAMPLES] == DECOYS
    assert all(len(scheme.fingerprint) == 64 for scheme in EXAMPLES)


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


def test_where_scoring_starts():
    common = {"vocab_size": 50, "context_width": 3}
    vllm, synthid = VLLMGumbel(key=1, **common), SynthID(keys=[1, 2], **common)
    sbw = SBW(key=1, seeding="additive", self_salt=False, **common)
    keyed = Keyed(key=bytes(16), **common)
    found = [(s.padding, s.reaches_prompt, s.first_position) for s in (vllm, synthid, sbw, keyed)]
    assert found == [(-1, False, 0), (0, False, 0), (-1, True, 3), (None, True, 3)]
