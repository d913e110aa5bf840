"""Against the readable twin: every scheme, scores and units, small vocabularies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore import schemes

from tests.twin import schemes as twin
from tests.twin import seeding

VOCAB = 40
NEW_TABLE = 9

PAIRS = {
    "kgw hash": (
        schemes.KGW(vocab_size=VOCAB, gamma=0.3, context_width=2, seed=3, salt_key=35317),
        twin.AuthorsKGW(vocab_size=VOCAB, gamma=0.3, context_width=2, seed=3, salt_key=35317),
    ),
    "kgw hash, last": (
        schemes.KGW(vocab_size=VOCAB, gamma=0.3, context_width=1, green_last=True),
        twin.AuthorsKGW(vocab_size=VOCAB, gamma=0.3, context_width=1, green="last"),
    ),
    "kgw table": (
        schemes.KGW(
            vocab_size=VOCAB, gamma=0.5, context_width=3, seeding="table_min", table_seed=9
        ),
        twin.AuthorsKGW(vocab_size=VOCAB, gamma=0.5, context_width=3, seeding="min", table_seed=9),
    ),
    "kgw lefthash of transformers": (
        schemes.KGW.from_transformers({"context_width": 3, "greenlist_ratio": 0.4}, VOCAB),
        twin.HFKGW(vocab_size=VOCAB, gamma=0.4, context_width=3),
    ),
    "kgw selfhash of transformers": (
        schemes.KGW.from_transformers(
            {"context_width": 3, "greenlist_ratio": 0.4, "seeding_scheme": "selfhash"}, VOCAB
        ),
        twin.HFKGW(vocab_size=VOCAB, gamma=0.4, context_width=3, seeding_scheme="selfhash"),
    ),
    "gumbel_max": (
        schemes.GumbelMax(vocab_size=VOCAB, context_width=2, seed=8),
        twin.GumbelMax(vocab_size=VOCAB, context_width=2, seed=8),
    ),
    "synthid": (
        schemes.SynthID(vocab_size=VOCAB, keys=[5, -6, 2**62], context_width=2),
        twin.SynthID(vocab_size=VOCAB, keys=(5, -6, 2**62), context_width=2),
    ),
    "synthid, odd table": (
        schemes.SynthID(vocab_size=VOCAB, keys=[5, 6], context_width=2, sampling_table_size=101),
        twin.SynthID(vocab_size=VOCAB, keys=(5, 6), context_width=2, sampling_table_size=101),
    ),
    "synthid_deepmind": (
        schemes.SynthIDDeepMind(vocab_size=VOCAB, keys=[5, -6, 2**62], context_width=2),
        twin.SynthIDDeepMind(vocab_size=VOCAB, keys=(5, -6, 2**62), context_width=2),
    ),
    "textseal": (
        schemes.TextSeal(vocab_size=VOCAB, key=-5, context_width=3, gamma=0.25),
        twin.TextSeal(vocab_size=VOCAB, key=-5, context_width=3, gamma=0.25),
    ),
    "textseal gumbel": (
        schemes.TextSeal(vocab_size=VOCAB, key=2**62, context_width=10, method="gumbel"),
        twin.TextSeal(vocab_size=VOCAB, key=2**62, context_width=10, method="gumbel"),
    ),
    "vllm": (
        schemes.VLLMGumbel(vocab_size=VOCAB, key=2**64 - 1, context_width=5),
        twin.VLLMGumbel(vocab_size=VOCAB, key=2**64 - 1, context_width=5),
    ),
    "vllm dual": (
        schemes.VLLMDualKeyGumbel(vocab_size=VOCAB, key=7, context_width=2, alpha=0.2),
        twin.VLLMDualKeyGumbel(vocab_size=VOCAB, key=7, context_width=2, alpha=0.2),
    ),
    "sglang": (
        schemes.SGLangGumbel(vocab_size=VOCAB, key=7, context_width=2),
        twin.SGLangGumbel(vocab_size=VOCAB, key=7, context_width=2),
    ),
    "sglang dual": (
        schemes.SGLangGumbel(vocab_size=VOCAB, key=7, key_b=9, context_width=2),
        twin.SGLangGumbel(vocab_size=VOCAB, key=7, key_b=9, context_width=2),
    ),
    "sbw": (
        schemes.SBW(vocab_size=VOCAB, key=7, gamma=0.3),
        twin.SBW(
            vocab_size=VOCAB,
            key=7,
            gamma=0.3,
            prf="anchored_minhash",
            context_width=4,
            self_salt=True,
        ),
    ),
    "keyed": (
        schemes.Keyed(vocab_size=VOCAB, key=bytes(range(16)), context_width=3),
        twin.Keyed(vocab_size=VOCAB, key=bytes(range(16)), gamma=0.25, context_width=3),
    ),
    "keyed gumbel": (
        schemes.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=16, method="gumbel"),
        twin.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=16, method="gumbel"),
    ),
}
for function in seeding.PRFS:
    for self_salt in (False, True):
        name = f"ff-{function}-3-{self_salt}"
        PAIRS[f"kgw {name}"] = (
            schemes.KGW.from_lm_watermarking(name, vocab_size=VOCAB),
            twin.LmWatermarking.named(name, VOCAB, 0.25),
        )
        for hashing, theirs in (("integer", "jenkins"), ("table", "table")):
            PAIRS[f"sbw {name} {hashing}"] = (
                schemes.SBW(
                    vocab_size=VOCAB,
                    key=2**62 + 1,
                    seeding=function,
                    context_width=3,
                    self_salt=self_salt,
                    hashing=hashing,
                ),
                twin.SBW(
                    vocab_size=VOCAB,
                    key=2**62 + 1,
                    prf=function,
                    context_width=3,
                    self_salt=self_salt,
                    hashing=theirs,
                ),
            )


@pytest.mark.parametrize("name", PAIRS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_scores_and_units(name, data):
    ours, theirs = PAIRS[name]
    assert ours.window_width == theirs.window_width
    token = st.integers(0, VOCAB - 1)
    row = st.lists(token, min_size=ours.window_width, max_size=ours.window_width)
    windows = data.draw(st.lists(row, min_size=1, max_size=6))
    expected = [theirs.score(tuple(window)) for window in windows]
    scores = ours.scores(windows)
    if ours.core.score_kind == "real":
        np.testing.assert_allclose(scores, expected, rtol=1e-13, atol=1e-300)
    else:
        assert scores.astype(int).tolist() == [
            list(one) if isinstance(one, tuple) else one for one in expected
        ]
    if ours.units_are_windows:
        assert all(theirs.unit(tuple(window)) == tuple(window) for window in windows)
        return
    units = [tuple(unit) for unit in ours.units(windows).tolist()]
    same = [[a == b for b in units] for a in units]
    named = [theirs.unit(tuple(window)) for window in windows]
    assert same == [[a == b for b in named] for a in named]


@pytest.mark.parametrize("name", PAIRS)
def test_null_share(name):
    ours, theirs = PAIRS[name]
    share = ours.core.share
    if share is None:
        assert theirs.share is None
    else:
        assert share[0] * theirs.share.denominator == share[1] * theirs.share.numerator
        assert ours.null_law.share == theirs.share
