"""What keys make of distributions: against the twin, generation itself, and every kernel."""

from dataclasses import replace

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, TokenError

from tests.twin.marking import watermarked
from tests.twin.schemes.families import EXAMPLE_VOCAB, FAMILIES

PAIRS = {
    f"{name}-{i}": (family.public(twin), twin)
    for name, family in FAMILIES.items()
    for i, twin in enumerate(family.examples)
}
DELTA = 1.5
PADDING = 0xFFFF_FFFF


@st.composite
def rows(draw, width):
    """A few contexts with tokens, and probabilities of any size among which are zeros and ties."""
    token = st.integers(0, EXAMPLE_VOCAB - 1)
    chance = st.one_of(st.just(0.0), st.sampled_from([0.5, 1e-3]), st.floats(1e-9, 1.0))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        context = draw(st.lists(token, min_size=width, max_size=width))
        tokens = sorted(draw(st.sets(token, max_size=25)))
        q = draw(st.lists(chance, min_size=len(tokens), max_size=len(tokens)))
        found.append((context, tokens, q))
    return found


def flat(found, width):
    contexts = np.array([context for context, _, _ in found], dtype=np.uint32).reshape(-1, width)
    offsets = np.cumsum([0, *(len(tokens) for _, tokens, _ in found)]).astype(np.int64)
    tokens = np.array([token for _, tokens, _ in found for token in tokens], dtype=np.uint32)
    q = np.array([one for _, _, q in found for one in q], dtype=np.float64)
    return contexts, (offsets, tokens, q)


def nearly_tied(scheme, context, tokens, q):
    """Whether rounding may decide on the winner of some key."""
    q = np.array(q)
    if scheme.sampling != "gumbel" or (q > 0).sum() < 2:
        return False
    for key in range(scheme.core.key_count):
        with np.errstate(divide="ignore"):
            u = scheme.uniforms([context], key)[0, tokens]
            times = np.sort(-np.log(u[q > 0]) / q[q > 0])
        if times[1] < times[0] * (1 + 1e-6) or not np.isfinite(times[1]):
            return True
    return False


@pytest.mark.parametrize("name", PAIRS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_is_the_twins(name, data):
    ours, theirs = PAIRS[name]
    width = ours.window_width - 1
    found = data.draw(rows(width))
    contexts, distributions = flat(found, width)
    got = ours.core.watermarked(contexts, distributions, DELTA)
    for (context, tokens, q), start in zip(found, distributions[0], strict=False):
        if nearly_tied(ours, context, tokens, q):
            continue
        expected = watermarked(theirs, tuple(context), tokens, q, DELTA)
        np.testing.assert_allclose(got[start : start + len(q)], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_is_what_generation_does(name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from radscore.models.marking import rule_of

    scheme, _ = PAIRS[name]
    rng = np.random.default_rng(len(name))
    n, size = 40, scheme.vocab_size
    contexts = rng.integers(0, size, (n, scheme.window_width - 1))
    logits = rng.normal(size=(n, size)) * 2
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    marked = rule_of(scheme, DELTA, None).apply(torch.from_numpy(np.log(q)).float(), contexts)
    expected = marked.softmax(-1).numpy()
    offsets = np.arange(0, n * size + 1, size)
    tokens = np.tile(np.arange(size, dtype=np.uint32), n)
    got = scheme.core.watermarked(contexts, (offsets, tokens, q.ravel()), DELTA).reshape(n, size)
    tied = [nearly_tied(scheme, c, np.arange(size), p) for c, p in zip(contexts, q, strict=True)]
    assert sum(tied) < n / 4
    sure = ~np.array(tied)
    np.testing.assert_allclose(got[sure], expected[sure], atol=2e-5)
    np.testing.assert_allclose(got.sum(1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("kind", ["green", "gumbel", "tournament"])
def test_ties_and_zeros(kind):
    scheme = {
        "green": rs.Keyed(key=bytes(16), vocab_size=50, context_width=1),
        "gumbel": rs.TextSeal(key=3, vocab_size=50, context_width=1, method="gumbel"),
        "tournament": rs.SynthIDDeepMind(vocab_size=50, keys=(1, 2, 3), context_width=1),
    }[kind]
    context = np.array([[7]], dtype=np.uint32)

    def one(tokens, q):
        tokens = np.array(tokens, dtype=np.uint32)
        rows = (np.array([0, len(tokens)]), tokens, np.array(q, dtype=float))
        return scheme.core.watermarked(context, rows, DELTA)

    assert one([], []).tolist() == []
    assert one([3, 4], [0, 0]).tolist() == [0, 0]
    assert one([3, 4], [0, 1e-300]).tolist() == pytest.approx([0, 1])
    assert one([9], [0.2]).tolist() == pytest.approx([1])
    # the same token twice has the same draw: a tie, which the first one wins
    twice = one([5, 5], [0.3, 0.3])
    assert twice.tolist() == pytest.approx([1, 0] if kind == "gumbel" else [0.5, 0.5])
    assert one([5, 6], [0, 0.3])[0] == 0


def test_a_uniform_of_zero_wins_only_alone():
    scheme = rs.TextSeal(key=3, vocab_size=20_000, context_width=1, method="gumbel")
    zero = int(np.flatnonzero(scheme.uniforms([[7]])[0] == 0)[0])
    context, tokens = np.array([[7]], dtype=np.uint32), np.array([zero, zero + 1], dtype=np.uint32)
    alone = scheme.core.watermarked(context, (np.array([0, 2]), tokens, np.array([1.0, 0])), 0.0)
    beside = scheme.core.watermarked(context, (np.array([0, 2]), tokens, np.array([1, 1e-9])), 0.0)
    assert (alone.tolist(), beside.tolist()) == ([1, 0], [0, 1])


@pytest.fixture
def kernel_in_force():
    before = rs.kernels.kernel()
    yield
    rs.kernels.set_kernel(before)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.usefixtures("kernel_in_force")
def test_every_kernel_gives_the_same_bits(name):
    family = FAMILIES[name.rpartition("-")[0]]
    twin = family.examples[int(name.rpartition("-")[2])]
    scheme = family.public(replace(twin, vocab_size=5000))
    rng = np.random.default_rng(3)
    sizes = [0, 1, 15, 16, 17, 192, 500]
    offsets = np.cumsum([0, *sizes])
    contexts = rng.integers(0, 5000, (len(sizes), scheme.window_width - 1))
    tokens = rng.integers(0, 5000, offsets[-1]).astype(np.uint32)
    rows = (offsets, tokens, rng.random(offsets[-1]) ** 4)
    weights = rng.normal(size=offsets[-1])
    results = {}
    for kernel in rs.kernels.available_kernels():
        rs.kernels.set_kernel(kernel)
        p = scheme.core.watermarked(contexts, rows, DELTA)
        sums = [
            scheme.core.matched(contexts, rows, weights, DELTA, threads=threads)
            for threads in (1, 3)
        ]
        assert sums[0] == sums[1]
        assert sums[0] == pytest.approx(float(p @ weights), rel=1e-12)
        results[kernel] = (p.tobytes(), sums[0])
    assert len(set(results.values())) == 1


def test_padding_stands_left_of_a_text():
    scheme = rs.VLLMGumbel(vocab_size=50, key=4, context_width=3)
    rows = (np.array([0, 50]), np.arange(50, dtype=np.uint32), np.full(50, 0.02))
    narrow = np.array([[PADDING, PADDING, 7]], dtype=np.uint32)
    wide = np.array([[-1, -1, 7]])
    found = [scheme.core.watermarked(context, rows, 0.0) for context in (narrow, wide)]
    assert found[0].tolist() == found[1].tolist()
    u = scheme.uniforms(wide)[0]
    assert int(found[0].argmax()) == int(u.argmax())


def test_what_does_not_fit_is_refused():
    scheme = rs.Keyed(key=bytes(16), vocab_size=50, context_width=1)
    context, tokens = np.array([[7]]), np.array([1, 2], dtype=np.uint32)
    q, offsets = np.array([0.5, 0.5]), np.array([0, 2])

    def call(error, match, *, context=context, tokens=tokens, q=q, offsets=offsets):
        with pytest.raises(error, match=match):
            scheme.core.watermarked(context, (offsets, tokens, q), 1.0)

    call(ArgumentError, "offsets must rise", offsets=np.array([0, 3]))
    call(ArgumentError, "offsets must rise", offsets=np.array([0, 2, 1, 2]))
    call(ArgumentError, "1 contexts, but 3 offsets", offsets=np.array([0, 1, 2]))
    call(ArgumentError, "2 tokens, but 1 prob", q=q[:1])
    call(ArgumentError, "must be 0 or more, not -1", q=np.array([0.5, -1.0]))
    call(ArgumentError, "must be 0 or more, not NaN", q=np.array([0.5, np.nan]))
    call(TokenError, "token id 50 is outside", tokens=np.array([1, 50], dtype=np.uint32))
    call(TokenError, "token id 99 in row 0 of contexts", context=np.array([[99]]))
    with pytest.raises(ArgumentError, match="one finite weight for each of the 2 tokens"):
        scheme.core.matched(context, (offsets, tokens, q), np.array([1.0, np.inf]), 1.0, threads=1)
