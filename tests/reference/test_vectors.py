"""The twin against vectors of torch, OpenSSL, transformers, sbw, textseal and synthid-text.

Each check runs on the stored vectors, and, where the tool is installed, on fresh ones from
tools/make_golden.py with another seed.
"""

import importlib.util
import math
import random
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.twin.hashes import int64
from tests.twin.mersenne import MersenneTwister, hash_table
from tests.twin.pipeline import Rules, Scorer, positions, windows_of
from tests.twin.schemes import (
    HFKGW,
    SBW,
    AuthorsKGW,
    GumbelMax,
    Keyed,
    LmWatermarking,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
)
from tests.twin.seeding import PRFS, table_hash


def make_golden():
    path = Path(__file__).parents[2] / "tools" / "make_golden.py"
    spec = importlib.util.spec_from_file_location("make_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["stored", "fresh"])
def vectors(request, golden):
    """A function from a name to vectors, stored or just made."""

    def read(name):
        if request.param == "stored":
            return golden(name)
        try:
            return make_golden().MAKERS[name](random.Random(request.node.nodeid))
        except (ImportError, OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the tool is not installed: {error}")

    return read


def test_torch_generator(vectors):
    for case in vectors("torch_generator")["cases"]:
        seed = int(case["seed"])
        permutation = MersenneTwister(seed).randperm(case["n"])
        assert sorted(permutation) == list(range(case["n"]))
        assert permutation[:8] == case["randperm_first"]
        assert permutation[-8:] == case["randperm_last"]
        single, double, bits = (MersenneTwister(seed) for _ in range(3))
        assert [single.rand_float32().hex() for _ in range(628)][620:] == case["rand_float32"]
        assert [double.rand_float64().hex() for _ in range(4)] == case["rand_float64"]
        assert [bits.randbit() for _ in range(16)] == case["randint"]


def test_authors_green_lists_and_uniforms(vectors):
    for case in vectors("torch_authors")["cases"]:
        window = (*case["context"], case["target"])
        common = {"vocab_size": case["vocab_size"], "context_width": len(case["context"])}
        common |= {"seed": case["seed"], "salt_key": case["salt_key"]}
        scheme = AuthorsKGW(
            gamma=case["gamma"],
            seeding=case["seeding"],
            table_seed=case["table_seed"],
            **common,
        )
        assert scheme.score(window) == case["green"]
        if case["seeding"] == "hash":
            u = float.fromhex(case["uniform"])
            assert GumbelMax(**common).uniform(window) == u
            assert GumbelMax(**common).score(window) == pytest.approx(-math.log1p(-u), rel=1e-12)


def test_table_seedings_need_the_table():
    scheme = AuthorsKGW(vocab_size=9, context_width=2, gamma=0.5, seeding="skip")
    with pytest.raises(ValueError, match="table_seed"):
        scheme.score((1, 2, 3))


def test_keyed_hash(vectors):
    for case in vectors("openssl_siphash")["cases"]:
        window = tuple(case["window"])
        common = {"vocab_size": 2**20, "context_width": len(window) - 1}
        scheme = Keyed(key=bytes.fromhex(case["key"]), gamma=0.3, **common)
        h = int(case["hash"], 16)
        assert scheme.hash64(window) == h
        assert scheme.score(window) == int(h < int(0.3 * 2**64))
        gumbel = Keyed(key=bytes.fromhex(case["key"]), method="gumbel", **common)
        assert gumbel.score(window) == pytest.approx(-math.log1p(-(h >> 11) / 2**53), rel=1e-14)


def hf(case):
    return HFKGW(
        vocab_size=case["vocab_size"],
        context_width=case["context_width"],
        gamma=case["greenlist_ratio"],
        seeding_scheme=case["seeding_scheme"],
        hashing_key=case["hashing_key"],
    )


def test_transformers_green_lists(vectors):
    for case in vectors("transformers_kgw")["green_lists"]:
        scheme, read = hf(case), case["read"]
        if case["seeding_scheme"] == "lefthash":
            mask = scheme.scores(tuple(read))
            assert [t for t, green in enumerate(mask) if green] == case["green"]
        else:  # what is read ends with the target
            assert scheme.score(tuple(read)) == int(read[-1] in case["green"])
        assert scheme.share == pytest.approx(len(case["green"]) / case["vocab_size"], abs=0)


def test_transformers_detector(vectors):
    for case in vectors("transformers_kgw")["detector"]:
        for dedup, counts in (("none", case["all"]), ("window", case["distinct"])):
            scorer = Scorer(hf(case), Rules(dedup))
            scorer.add([case["tokens"]])
            tally = scorer.tally()
            assert [tally.n_scored, tally.score_sum] == counts


def g_rows(scheme, tokens):
    rules = Rules(start=scheme.context_width)
    return ["".join(map(str, scheme.score(w))) for _, w in windows_of(tokens, scheme, rules)]


def test_transformers_synthid(vectors):
    for case in vectors("transformers_synthid")["cases"]:
        scheme = SynthID(
            vocab_size=2**18,
            context_width=case["ngram_len"] - 1,
            keys=tuple(map(int, case["keys"])),
            sampling_table_size=case["sampling_table_size"],
            sampling_table_seed=case["sampling_table_seed"],
        )
        assert g_rows(scheme, case["tokens"]) == case["g_values"]
        found = positions(case["tokens"], scheme, Rules("context", start=scheme.context_width))
        assert [int(p.fate == "scored") for p in found] == case["first_context"]


def test_synthid_unit_fixes_all_depths(vectors):
    """The unit is what is read: equal units, equal g-values; with any table size."""
    for case in vectors("transformers_synthid")["cases"]:
        scheme = SynthID(
            vocab_size=2**18,
            context_width=1,
            keys=tuple(map(int, case["keys"])),
            sampling_table_size=case["sampling_table_size"],
        )
        windows = [(a, b + 65536 * extra) for a, b in pairwise(case["tokens"]) for extra in (0, 1)]
        seen = {}
        for window in windows:
            score = scheme.score(window)
            assert seen.setdefault(scheme.unit(window), score) == score
        if case["sampling_table_size"] == 65536:  # ids 2^16 apart are one
            assert len(seen) <= len(set(windows)) / 2


def test_synthid_deepmind(vectors):
    for case in vectors("synthid_deepmind")["cases"]:
        scheme = SynthIDDeepMind(
            vocab_size=2**18,
            context_width=case["ngram_len"] - 1,
            keys=tuple(map(int, case["keys"])),
        )
        assert g_rows(scheme, case["tokens"]) == case["g_values"]


def sbw_gpu(case):
    name = case["scheme"].removeprefix("gpu-")
    prf = {
        "simple_1": "additive",
        "minhash": "minhash",
        "skipgram": "skipgram",
        "selfhash": "anchored_minhash",
        "selfhash-cpuhash": "anchored_minhash",
    }.get(name) or name.split("-")[1].removesuffix("_prf")
    return SBW(
        vocab_size=case["vocab_size"],
        context_width=case["context_width"],
        key=case["key"],
        gamma=case["gamma"],
        prf=prf,
        self_salt=case["self_salt"],
        hashing="table" if "cpuhash" in name else "jenkins",
    )


def lm_watermarking(case):
    name = case["scheme"]
    if not name.startswith("ff-"):
        name = {
            "simple_1": "ff-additive-1-False",
            "lefthash": "ff-additive-1-False",
            "minhash": "ff-minhash-4-False",
            "skipgram": "ff-skipgram-5-False",
        }.get(name, "ff-anchored_minhash-4-True")
    return LmWatermarking.named(f"{name}-{case['key']}", case["vocab_size"], case["gamma"])


def test_sbw_schemes(vectors):
    """Every PRF with the integer hash, and with the table: seed and greenness of the target."""
    cases = [c for c in vectors("sbw_schemes")["cases"] if c["scheme"].startswith("gpu-")]
    for case in cases:
        read, scheme = tuple(case["read"]), sbw_gpu(case)
        window = read if case["self_salt"] else (*read, case["target"])
        assert scheme.window_width == len(window)
        assert scheme.seed(window) == int(case["seed"])
        assert scheme.score(window) == int(case["green"])


def test_lm_watermarking_schemes(vectors):
    """The schemes that sbw took over: it lets the seed wrap, so only those that fit are equal."""
    cases = [c for c in vectors("sbw_schemes")["cases"] if not c["scheme"].startswith("gpu-")]
    fitting = 0
    for case in cases:
        read, scheme = tuple(case["read"]), lm_watermarking(case)
        window = read if case["self_salt"] else (*read, case["target"])
        assert scheme.window_width == len(window)
        table = table_hash(hash_table(2971215073))
        value = PRFS[scheme.prf](read, case["key"], table)
        assert int64(value) == int(case["seed"])
        if int64(value) == value:
            fitting += 1
            assert scheme.score(window) == int(case["green"])
    assert fitting > 0.9 * len(cases)


def test_three_functions_of_lm_watermarking_do_not_wrap_the_key_in():
    key, c = 2**40 + 7, (2**19, 2**19 + 1, 2**19 + 3, 2**19 + 5)
    product = (2**19 * (2**19 + 1) * (2**19 + 3) * (2**19 + 5) + 2**63) % 2**64 - 2**63
    expected = {
        "multiplicative": key * product,
        "additive": key * (2**21 + 9),
        "minfunc": key * 2**19,
    }
    for prf, value in expected.items():
        scheme = LmWatermarking.named(f"ff-{prf}-4-False-{key}", 2**20, 0.5)
        assert scheme.seed32((*c, 0)) == value % (2**64 - 1) % 2**32
    assert abs(expected["multiplicative"]) > 2**63  # where wrapping would show


def test_named_schemes_of_lm_watermarking():
    for name, width, self_salt in (
        ("simple_1", 1, False),
        ("lefthash", 1, False),
        ("minhash", 4, False),
        ("skipgram", 5, False),
        ("selfhash", 4, True),
        ("algorithm-3", 4, True),
        ("ff-position_prf-3-True-77", 3, True),
    ):
        scheme = LmWatermarking.named(name, 50, 0.5)
        assert (scheme.context_width, scheme.self_salt) == (width, self_salt)
        assert scheme.hash_key == (77 if name.startswith("ff") else 15485863)


def test_legacy_switch_takes_the_last_entries():
    first, last = (LmWatermarking.named("simple_1", 41, 0.3, green=g) for g in ("first", "last"))
    entries = MersenneTwister(first.seed32((7, 0))).randperm(41)
    green = [t for t, score in enumerate(first.scores((7,))) if score]
    assert green == sorted(entries[:12])
    green = [t for t, score in enumerate(last.scores((7,))) if score]
    assert green == sorted(entries[-12:])


def test_textseal(vectors):
    for case in vectors("textseal")["cases"]:
        common = {"vocab_size": 2**18, "context_width": len(case["context"])}
        common |= {"key": int(case["key"]), "gamma": case["gamma"]}
        window = (*case["context"], case["target"])
        scheme, gumbel = TextSeal(**common), TextSeal(method="gumbel", **common)
        u = float.fromhex(case["uniform"])
        assert scheme.value(window) / 8191 == pytest.approx(u, abs=1e-7)
        assert scheme.score(window) == case["green"]
        assert gumbel.score(window) == pytest.approx(-math.log1p(-u), rel=1e-6, abs=1e-6)
