"""Random schemes, each as the pure-Python twin, in the compiled core, and as users write it."""

import os
from dataclasses import dataclass

import radscore as rs
from hypothesis import settings
from hypothesis import strategies as st
from radscore import _core

from tests.twin.schemes import (
    HFKGW,
    SBW,
    AuthorsKGW,
    AuthorsSeeding,
    GumbelMax,
    Keyed,
    LmWatermarking,
    Scheme,
    SGLangGumbel,
    SynthID,
    SynthIDDeepMind,
    TextSeal,
    VLLMDualKeyGumbel,
    VLLMGumbel,
)
from tests.twin.seeding import PRFS

#: The twin needs a second for each table of a million entries, so there are few.
AUTHORS_TABLE_SEED = 7
HF_KEYS = (15485863, 2024)
LM_TABLE_SEED = 2971215073


def examples(n):
    """So many examples, or RADSCORE_EXAMPLES times as many for a long search."""
    return settings(max_examples=n * int(os.environ.get("RADSCORE_EXAMPLES", "1")), deadline=None)


uint64 = st.integers(0, 2**64 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
key63 = st.one_of(st.integers(1, 2**24), st.integers(1, 2**63 - 1))
#: At least one entry of 20 is green, and one red.
gamma = st.one_of(st.sampled_from([0.05, 0.25, 0.5]), st.floats(0.05, 0.95))
share = st.floats(1e-6, 1 - 1e-6)
small_vocab = st.integers(20, 60)
any_vocab = st.one_of(small_vocab, st.sampled_from([2**16 + 1, 2**18, 2**20]))
narrow = st.integers(1, 4)
any_width = st.one_of(narrow, narrow, st.integers(1, 16), st.sampled_from([17, 18, 33, 64]))


@st.composite
def authors_kgw(draw):
    return AuthorsKGW(
        vocab_size=draw(small_vocab),
        context_width=draw(any_width),
        gamma=draw(gamma),
        seeding=draw(st.sampled_from(["hash", "hash", "additive", "skip", "min"])),
        seed=draw(uint64),
        salt_key=draw(st.one_of(st.just(35317), key63)),
        table_seed=AUTHORS_TABLE_SEED,
    )


@st.composite
def lm_watermarking(draw):
    prf = draw(st.sampled_from(sorted(PRFS)))
    return LmWatermarking(
        vocab_size=draw(small_vocab),
        context_width=max(draw(any_width), 2),
        gamma=draw(gamma),
        green=draw(st.sampled_from(["first", "last"])),
        prf=prf,
        self_salt=draw(st.booleans()),
        hash_key=draw(st.one_of(st.just(15485863), key63)),
    )


@st.composite
def hf_kgw(draw):
    scheme = draw(st.sampled_from(["lefthash", "selfhash"]))
    return HFKGW(
        vocab_size=draw(small_vocab),
        context_width=draw(any_width),
        gamma=draw(gamma),
        seeding_scheme=scheme,
        hashing_key=draw(key63 if scheme == "lefthash" else st.sampled_from(HF_KEYS)),
    )


@st.composite
def gumbel_max(draw):
    return GumbelMax(
        vocab_size=draw(st.one_of(small_vocab, st.integers(600, 700))),
        context_width=draw(any_width),
        seeding=draw(st.sampled_from(["hash", "hash", "additive", "skip", "min"])),
        seed=draw(uint64),
        salt_key=draw(st.one_of(st.just(35317), key63)),
        table_seed=AUTHORS_TABLE_SEED,
    )


keys_of_depths = st.lists(int64, min_size=1, max_size=12, unique=True).map(tuple)


@st.composite
def synthid_tables(draw):
    return SynthID(
        vocab_size=draw(any_vocab),
        context_width=draw(any_width),
        keys=draw(keys_of_depths),
        sampling_table_size=draw(st.sampled_from([2, 3, 64, 1000, 1024])),
        sampling_table_seed=draw(uint64),
    )


def synthid():
    """Tables of both 0 and 1; a tiny one can lack either."""
    return synthid_tables().filter(lambda twin: 0 < twin.share < 1)


@st.composite
def synthid_deepmind(draw):
    return SynthIDDeepMind(
        vocab_size=draw(any_vocab), context_width=draw(any_width), keys=draw(keys_of_depths)
    )


@st.composite
def textseal(draw):
    return TextSeal(
        vocab_size=draw(any_vocab),
        context_width=draw(st.integers(1, 10)),
        key=draw(int64),
        gamma=draw(st.one_of(st.floats(0.001, 0.999), st.sampled_from([k / 8191 for k in (1, 9)]))),
        method=draw(st.sampled_from(["green", "gumbel"])),
    )


@st.composite
def vllm_gumbel(draw):
    return VLLMGumbel(vocab_size=draw(any_vocab), context_width=draw(any_width), key=draw(uint64))


@st.composite
def vllm_dual_key(draw):
    return VLLMDualKeyGumbel(
        vocab_size=draw(any_vocab),
        context_width=draw(any_width),
        key=draw(uint64),
        alpha=draw(st.floats(0, 1)),
    )


@st.composite
def sglang_gumbel(draw):
    return SGLangGumbel(
        vocab_size=draw(any_vocab),
        context_width=draw(any_width),
        key=draw(uint64),
        key_b=draw(st.one_of(st.none(), uint64)),
        mixing_probability=draw(st.floats(0, 1)),
    )


@st.composite
def sbw(draw):
    return SBW(
        vocab_size=draw(any_vocab),
        context_width=max(draw(any_width), 2),
        key=draw(key63),
        gamma=draw(share),
        prf=draw(st.sampled_from(sorted(PRFS))),
        self_salt=draw(st.booleans()),
        hashing=draw(st.sampled_from(["jenkins", "table"])),
    )


@st.composite
def keyed(draw):
    return Keyed(
        vocab_size=draw(any_vocab),
        context_width=draw(any_width),
        key=draw(st.binary(min_size=16, max_size=16)),
        gamma=draw(share),
        method=draw(st.sampled_from(["green", "gumbel"])),
    )


FAMILIES = {
    strategy.__name__: strategy()
    for strategy in (
        authors_kgw,
        lm_watermarking,
        hf_kgw,
        gumbel_max,
        synthid,
        synthid_deepmind,
        textseal,
        vllm_gumbel,
        vllm_dual_key,
        sglang_gumbel,
        sbw,
        keyed,
    )
}


def core_of(twin: Scheme, kernel: str = "auto") -> _core.Scheme:
    """The same scheme in the compiled core."""
    common = {"vocab_size": twin.vocab_size, "context_width": twin.context_width}
    if isinstance(twin, AuthorsSeeding):
        table = "" if twin.seeding == "hash" else "table_"
        common |= {"seeding": table + twin.seeding, "seed": twin.seed, "key": twin.salt_key}
        common |= {"table_seed": twin.table_seed}
        if isinstance(twin, GumbelMax):
            return _core.Scheme.gumbel_max(**common)
        settings = {"self_salt": False, "green_last": False, "gamma": twin.gamma}
        return _core.Scheme.kgw(**common, **settings, kernel=kernel)
    if isinstance(twin, LmWatermarking):
        return _core.Scheme.kgw(
            **common,
            gamma=twin.gamma,
            seeding=twin.prf,
            self_salt=twin.self_salt,
            seed=0,
            key=twin.hash_key,
            table_seed=LM_TABLE_SEED,
            green_last=twin.green == "last",
            kernel=kernel,
        )
    if isinstance(twin, HFKGW):
        self_salt = twin.seeding_scheme == "selfhash"
        return _core.Scheme.kgw(
            **common,
            gamma=twin.gamma,
            seeding="anchored_minhash" if self_salt else "last_token",
            self_salt=self_salt,
            seed=0,
            key=twin.hashing_key,
            table_seed=twin.hashing_key,
            green_last=False,
            kernel=kernel,
        )
    if isinstance(twin, (SynthID, SynthIDDeepMind)):
        common = {"vocab_size": twin.vocab_size, "ngram_len": twin.context_width + 1}
        common |= {"keys": list(twin.keys)}
        if isinstance(twin, SynthIDDeepMind):
            return _core.Scheme.synthid_deepmind(**common)
        return _core.Scheme.synthid(
            **common,
            sampling_table_size=twin.sampling_table_size,
            sampling_table_seed=twin.sampling_table_seed,
        )
    if isinstance(twin, (TextSeal, Keyed)):
        name = "textseal" if isinstance(twin, TextSeal) else "keyed"
        share = twin.gamma if twin.method == "green" else None
        return getattr(_core.Scheme, name)(key=twin.key, gamma=share, **common)
    if isinstance(twin, VLLMGumbel):
        return _core.Scheme.vllm_gumbel(key=twin.key, alpha=None, **common)
    if isinstance(twin, VLLMDualKeyGumbel):
        return _core.Scheme.vllm_gumbel(key=twin.key, alpha=twin.alpha, **common)
    if isinstance(twin, SGLangGumbel):
        second = None if twin.key_b is None else (twin.key_b, twin.mixing_probability)
        return _core.Scheme.sglang_gumbel(key=twin.key, second=second, **common)
    assert isinstance(twin, SBW)
    return _core.Scheme.sbw(
        key=twin.key,
        gamma=twin.gamma,
        seeding=twin.prf,
        self_salt=twin.self_salt,
        table_hash=twin.hashing == "table",
        **common,
    )


def public_of(twin: Scheme) -> rs.Scheme:
    """The same scheme as users write it."""
    common = {"vocab_size": twin.vocab_size, "context_width": twin.context_width}
    if isinstance(twin, AuthorsSeeding):
        common |= {"salt_key": twin.salt_key}
        if twin.seeding == "hash":
            common |= {"seed": twin.seed}
        else:
            common |= {"seeding": f"table_{twin.seeding}", "table_seed": twin.table_seed}
        if isinstance(twin, GumbelMax):
            return rs.GumbelMax(**common)
        return rs.KGW(gamma=twin.gamma, **common)
    if isinstance(twin, LmWatermarking):
        return rs.KGW.from_lm_watermarking(
            f"ff-{twin.prf}_prf-{twin.context_width}-{twin.self_salt}-{twin.hash_key}",
            vocab_size=twin.vocab_size,
            gamma=twin.gamma,
            select_green_tokens=twin.green == "first",
        )
    if isinstance(twin, HFKGW):
        config = {"greenlist_ratio": twin.gamma, "hashing_key": twin.hashing_key}
        config |= {"seeding_scheme": twin.seeding_scheme, "context_width": twin.context_width}
        return rs.KGW.from_transformers(config, twin.vocab_size)
    if isinstance(twin, SynthID):
        tables = ("sampling_table_size", "sampling_table_seed")
        common |= {name: getattr(twin, name) for name in tables}
        return rs.SynthID(keys=twin.keys, **common)
    if isinstance(twin, SynthIDDeepMind):
        return rs.SynthIDDeepMind(keys=twin.keys, **common)
    if isinstance(twin, (TextSeal, Keyed)):
        of = rs.TextSeal if isinstance(twin, TextSeal) else rs.Keyed
        return of(key=twin.key, gamma=twin.gamma, method=twin.method, **common)
    if isinstance(twin, VLLMGumbel):
        return rs.VLLMGumbel(key=twin.key, **common)
    if isinstance(twin, VLLMDualKeyGumbel):
        return rs.VLLMDualKeyGumbel(key=twin.key, alpha=twin.alpha, **common)
    if isinstance(twin, SGLangGumbel):
        second = {"key_b": twin.key_b, "mixing_probability": twin.mixing_probability}
        return rs.SGLangGumbel(key=twin.key, **(second if twin.key_b is not None else {}), **common)
    assert isinstance(twin, SBW)
    return rs.SBW(
        key=twin.key,
        gamma=twin.gamma,
        seeding=twin.prf,
        self_salt=twin.self_salt,
        hashing="table" if twin.hashing == "table" else "integer",
        **common,
    )


def tokens(twin: Scheme, few: int = 3):
    """Token ids: a few, so that windows come again, and those at both ends."""
    top = twin.vocab_size - 1
    spread = [0, 1, 2, 3, top, top // 2, top - 1][:few] if few <= 7 else list(range(few))
    return st.one_of(st.sampled_from(spread), st.sampled_from(spread), st.integers(0, top))


@dataclass(frozen=True)
class Case:
    """What is added to a scorer, and under which rules."""

    documents: list
    prompts: list | None
    weights: list | None
    filter: frozenset | None
    start: int | None
    prompt_role: str
    combine: str
    threads: int


#: Sums of these are exact, so that the order of additions cannot show.
dyadic = st.integers(-16, 16).map(lambda x: x / 8)


@st.composite
def cases(draw, twin: Scheme, *, weighted: bool | None = None):
    few = draw(st.sampled_from([1, 2, 3, 7]))
    width = twin.window_width
    document = st.lists(tokens(twin, few), max_size=width + 12)
    documents = draw(st.lists(document, max_size=5))
    if draw(st.booleans()) and documents:  # whole passages come again
        documents.append(documents[0][draw(st.integers(0, 2)) :] + documents[-1])
    n = len(documents)
    prompts = None
    if draw(st.booleans()):
        piece = st.sampled_from([d[1:] for d in documents] or [[]])
        prompt = st.one_of(st.lists(tokens(twin, few), max_size=width + 4), piece)
        prompts = draw(st.lists(prompt, min_size=n, max_size=n))
    weights = None
    if draw(st.booleans()) if weighted is None else weighted:
        weights = [draw(st.lists(dyadic, min_size=len(d), max_size=len(d))) for d in documents]
    contexts = {tuple(d[i : i + width - 1]) for d in documents for i in range(len(d) - width + 2)}
    phi = None
    if 1 < width <= 17 and draw(st.booleans()):
        kept = st.sets(st.sampled_from(sorted(contexts))) if contexts else st.just(set())
        phi = frozenset(draw(kept))
    roles = ["exclude", "exclude", "context"] if twin.reaches_prompt else ["exclude"]
    prompt_role = draw(st.sampled_from(roles))
    earlier = twin.padding is not None or prompt_role == "context"
    starts = st.integers(0 if earlier else width - 1, width + 3)
    return Case(
        documents=documents,
        prompts=prompts,
        weights=weights,
        filter=phi,
        start=draw(st.one_of(st.none(), st.none(), starts)),
        prompt_role=prompt_role,
        combine=draw(st.sampled_from(["one", "one", "sum"])),
        threads=draw(st.integers(1, 3)),
    )
