"""Matched scores: networks that learned production's marks are found, live and from a file."""

import numpy as np
import pytest
import radscore as rs
from radscore.audits.open import test_open as open_test
from radscore.models import predict
from tiny import trained, written

SIZE = 64
SCHEMES = {
    "vllm": rs.VLLMGumbel(vocab_size=SIZE, key=7, context_width=1),
    "authors": rs.GumbelMax(vocab_size=SIZE, seed=7, context_width=1),
    "deepmind": rs.SynthIDDeepMind(vocab_size=SIZE, keys=tuple(range(30)), context_width=1),
    "keyed": rs.Keyed(vocab_size=SIZE, key=bytes(16), gamma=0.25, context_width=1),
}


def marked(scheme, n, length, seed, share=0.5):
    """Random tokens, a share of which the key has chosen."""
    rng = np.random.default_rng(seed)
    contexts = np.arange(SIZE)[:, None]
    offsets, tokens = np.arange(0, SIZE**2 + 1, SIZE), np.tile(np.arange(SIZE), SIZE)
    p = scheme.watermarked(contexts, offsets, tokens, np.full(SIZE**2, 1.0)).reshape(SIZE, SIZE)
    p = share * p + (1 - share) / SIZE
    docs = rng.integers(0, SIZE, (n, 1))
    for _ in range(length - 1):
        docs = np.column_stack([docs, [rng.choice(SIZE, p=p[last]) for last in docs[:, -1]]])
    return docs


@pytest.fixture(scope="module")
def clean():
    return [trained(written(None, 320, 32, seed=seed)) for seed in (2, 4)]


@pytest.fixture(scope="module")
def fresh():
    return written(None, 20, 50, seed=3)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_mark_is_found_live_and_from_a_file(name, clean, fresh, tmp_path):
    scheme, (control, reference) = SCHEMES[name], clean
    suspect = trained(marked(scheme, 320, 32, seed=1))
    options = {"reference": reference, "weighting": "matched"}
    vouched = {"text_watermarked": False}
    found = open_test(suspect, fresh, scheme, decoys=20, curve=3, **vouched, **options)
    assert found.log10_pvalue < -4
    assert found.weighting == "matched (relative)"
    assert ("matched scores" in found.score.method) == (name != "keyed")
    assert (found.decoys.n_decoys, found.decoys.n_reached) == (20, 0)
    assert found.curve[-1].log10_pvalue == found.score.log10_pvalue
    assert found.curve[0].n_scored < found.n_scored
    innocent = open_test(control, fresh, scheme, **vouched, **options)
    assert innocent.log10_pvalue > -2
    path = tmp_path / "p.arrow"
    predict(suspect, fresh, path, context_width=1, **options)
    filed = open_test(None, None, scheme, from_file=path, decoys=20, **vouched)
    # a file holds gains as float16
    assert filed.score.zscore == pytest.approx(found.score.zscore, rel=1e-3)
    assert filed.n_scored == found.n_scored
    text = marked(scheme, 30, 40, seed=9)
    late = open_test(suspect, text, scheme, text_watermarked=True, decoys=5, **options)
    assert "martingale bound" in late.score.method
    assert late.score.statistic > 0
    assert not late.decoys.n_decoys
    assert late.removed["positions whose seed occurred before in the text"] > 0


def test_a_limit_that_would_not_be_kept_is_refused(clean, fresh):
    options = {"reference": clean[1], "weighting": "matched", "memory": "1GiB"}
    with pytest.raises(rs.errors.ArgumentError, match="leave memory= out"):
        open_test(clean[0], fresh, SCHEMES["vllm"], **options)
