"""Sparse weights against a slow oracle that sorts by size, and equals by id."""

import numpy as np
import pytest
import torch
from radscore.errors import ArgumentError
from radscore.models import CONTRASTS, Weighting


def some_logits(seed, rows=40, vocab=50, levels=None):
    """Random logits; with few levels they are full of ties."""
    logits = np.random.default_rng(seed).normal(size=(rows, vocab)) * 2
    if levels is not None:
        logits = np.round(logits * levels) / levels
    return torch.tensor(logits, dtype=torch.float32)


def probabilities(logits):
    e = np.exp(logits.double().numpy())
    return e / e.sum(axis=1, keepdims=True)


def oracle(weights, most, least):
    """The entries to keep, sorted by row and id."""
    kept = []
    for row, line in enumerate(weights):
        order = sorted(range(len(line)), key=lambda v: (-abs(line[v]), v))
        chosen = [v for v in order if abs(line[v]) > least][:most]
        kept += [(row, v, line[v]) for v in sorted(chosen)]
    return kept


def found(weighting, *logits):
    rows, ids, weights, base = weighting.sparse(*[one.clone() for one in logits])
    assert weights.dtype == torch.float32
    assert (base is not None) == (weighting.kind == "matched")
    return list(zip(rows.tolist(), ids.tolist(), weights.tolist(), strict=True))


def assert_equal(ours, expected):
    assert [one[:2] for one in ours] == [one[:2] for one in expected]
    np.testing.assert_allclose(
        [w for *_, w in ours], [w for *_, w in expected], rtol=2e-4, atol=1e-6
    )


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("top", [1, 2, 7, 50, 80])
def test_prediction(levels, top):
    logits = some_logits(top, levels=levels)
    expected = [(r, v, 1.0) for r, v, _ in oracle(logits.numpy() + 100, top, 0.0)]
    assert found(Weighting("prediction", top=top), logits) == expected


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize(("most", "least"), [(256, 1e-4), (5, 1e-4), (1, 0.0), (20, 0.01), (50, 0)])
def test_mass(levels, most, least):
    logits = some_logits(most, levels=levels)
    # torch's own rounding, so that ties are the same; checked against numpy's
    weights = logits.softmax(dim=-1)
    np.testing.assert_allclose(weights.numpy(), probabilities(logits), rtol=1e-5)
    weighting = Weighting("mass", max_weights=most, min_weight=least)
    assert_equal(found(weighting, logits), oracle(weights.numpy(), most, np.float32(least)))


ORACLES = {
    "difference": lambda p, q: p - q,
    "roots": lambda p, q: np.sqrt(p) - np.sqrt(q),
    "gain": lambda p, q: np.maximum(p - q, 0),
    "log_ratio": lambda p, q: np.clip(np.log(p + 1e-6) - np.log(q + 1e-6), -5, 5),
    "scaled": lambda p, q: (p - q) / np.sqrt(p + q + 1e-6),
    "relative": lambda p, q: (p - q) / (p + q + 0.001),
    "damped_relative": lambda p, q: (p - q) / (p + q + 0.01),
}


@pytest.mark.parametrize("transform", ORACLES)
@pytest.mark.parametrize("most", [6, 100])
def test_contrast(transform, most):
    p, q = some_logits(1), some_logits(2)
    weighting = Weighting("contrast", max_weights=most, transform=transform, centred=False)
    weights = ORACLES[transform](probabilities(p), probabilities(q))
    assert_equal(found(weighting, p, q), oracle(weights, most, 1e-4))


@pytest.mark.parametrize("kind", ["contrast", "matched"])
@pytest.mark.parametrize("n", [2, 3])
def test_several_references_are_one_with_their_mean(kind, n):
    p, *several = (some_logits(seed) for seed in range(n + 1))
    mean = np.log(np.mean([probabilities(q) for q in several], axis=0))
    weighting = Weighting(kind, max_weights=9)
    one = torch.tensor(mean, dtype=torch.float32)
    assert_equal(found(weighting, p, *several), found(weighting, p, one))
    base, expected = (weighting.sparse(p, *qs)[3] for qs in (several, [one]))
    assert (base is None) == (kind == "contrast")
    if base is not None:
        np.testing.assert_allclose(base, expected, rtol=1e-5)


def less_means(entries, share=1.0):
    """Entries (row, id, weight), each weight less a share of the mean of its row's."""
    rows = {row for row, *_ in entries}
    means = {row: share * np.mean([w for r, _, w in entries if r == row]) for row in rows}
    return [(row, v, w - means[row]) for row, v, w in entries]


@pytest.mark.parametrize("most", [6, 100])
def test_centred(most):
    p, q = some_logits(1), some_logits(2)
    plain = Weighting("contrast", max_weights=most, centred=False)
    centred = Weighting("contrast", max_weights=most)
    assert_equal(found(centred, p, q), less_means(found(plain, p, q)))
    partly = Weighting("contrast", max_weights=most, centred=0.75)
    assert_equal(found(partly, p, q), less_means(found(plain, p, q), 0.75))
    lone = Weighting("contrast", max_weights=1, centred=True)
    assert {w for *_, w in found(lone, p, q)} == {0.0}


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("most", [1, 7, 50, 192])
def test_matched(levels, most, centred):
    """The tokens that either model finds likeliest, whatever their weight."""
    p, q = some_logits(1, levels=levels), some_logits(2, levels=levels)
    q[3], p[5, 7], q[5, 7] = p[3], -np.inf, -np.inf
    pp, qq = (one.softmax(dim=-1).numpy() for one in (p, q))
    larger = oracle(np.maximum(pp, qq), most, 0.0)
    expected = [(r, v, ORACLES["relative"](pp[r, v], qq[r, v])) for r, v, _ in larger]
    weighting = Weighting("matched", max_weights=most, centred=centred)
    assert_equal(found(weighting, p, q), less_means(expected) if centred else expected)
    _, _, _, base = weighting.sparse(p, q)
    np.testing.assert_array_equal(base, [qq[r, v] for r, v, _ in larger])


def test_settings_by_kind():
    assert (Weighting("matched").max_weights, Weighting("contrast").max_weights) == (128, 256)
    assert Weighting("matched").words == "matched (relative)"
    assert Weighting("contrast").words == "contrast (damped_relative, centred)"
    assert (
        Weighting("contrast", centred=0.75).words == "contrast (damped_relative, centred by 0.75)"
    )
    assert Weighting("contrast", centred=False).words == "contrast (damped_relative)"
    assert Weighting("matched", max_weights=9, transform="roots").transform == "roots"


@pytest.mark.parametrize("transform", CONTRASTS)
def test_every_contrast_is_finite_and_zero_where_the_models_agree(transform):
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    q = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    weights = CONTRASTS[transform](p, q)
    assert weights.shape == p.shape
    assert torch.isfinite(weights).all()
    assert torch.equal(weights[2], torch.zeros(3))
    assert weights[1, 1] > 0  # what the suspect gained
    assert weights[0, 1] <= 0


def test_what_is_wrong_is_refused():
    for match, options in (
        (
            "weighting must be one of prediction, mass, contrast, matched, not 'mas'",
            {"kind": "mas"},
        ),
        ("top must be from 1", {"kind": "prediction", "top": 0}),
        ("max_weights must be an integer", {"kind": "mass", "max_weights": 2.5}),
        ("min_weight must be 0 or more, not -1", {"kind": "mass", "min_weight": -1}),
        ("min_weight must be 0 or more, not nan", {"kind": "mass", "min_weight": float("nan")}),
        ("transform must be one of difference", {"kind": "contrast", "transform": "sum"}),
        ("centred must be from 0 to 1, not 2", {"kind": "contrast", "centred": 2}),
        ("centred must be from 0 to 1, not 'x'", {"kind": "contrast", "centred": "x"}),
    ):
        with pytest.raises(ArgumentError, match=match):
            Weighting(**options)
