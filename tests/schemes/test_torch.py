"""Against torch's own CPU generator."""

import math
import random

import numpy as np
import pytest
from radscore import _core
from radscore.schemes import KGW, GumbelMax

torch = pytest.importorskip("torch")

MODULUS = 2**64 - 1


def context_seed(seed, salt_key, context):
    for token in context:
        seed = (seed * salt_key + token) % MODULUS
    return seed


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_ten_thousand_green_tests():
    """10,000 random (seed, V, gamma, token), every kind of size, both ends of the permutation."""
    rng = random.Random(20260923)
    greens = 0
    for case in range(10_000):
        vocab = rng.choice([2, 3, 5, 624, 625, rng.randrange(2, 200), rng.randrange(2, 9000)])
        if case % 500 == 0:
            vocab = rng.choice([32_000, 50_257, 128_256])
        gamma = rng.choice([0.25, 0.5, rng.uniform(1 / vocab, 1)])
        size = int(gamma * vocab)
        if not 1 <= size < vocab:
            gamma, size = 0.5, vocab // 2
        seed, salt = rng.randrange(2**64 - 1), rng.randrange(2, 2**64)
        context, target = (rng.randrange(vocab),), rng.randrange(vocab)
        last = rng.random() < 0.2
        scheme = KGW(
            vocab_size=vocab,
            gamma=gamma,
            context_width=1,
            seed=seed,
            salt_key=salt,
            green_last=last,
        )
        drawn = generator(context_seed(seed, salt, context))
        entries = torch.randperm(vocab, generator=drawn)
        green = entries[vocab - size :] if last else entries[:size]
        expected = bool((green == target).any())
        assert scheme.scores([[*context, target]]).tolist() == [expected], (case, vocab, gamma)
        greens += expected
    assert 3000 < greens < 7000  # both answers were exercised


@pytest.mark.parametrize("kernel", ["auto", "scalar", "tracking", "lanes", "bitmap"])
@pytest.mark.parametrize(
    ("vocab", "gamma"), [(2, 0.5), (3000, 0.25), (32_000, 0.25), (50_257, 0.9), (2**20, 0.25)]
)
def test_every_kernel_gives_torchs_list(kernel, vocab, gamma):
    common = {"seeding": "hash", "self_salt": False, "seed": 5, "key": 35317, "table_seed": 0}
    for last in (False, True):
        scheme = _core.Scheme(
            "kgw",
            vocab_size=vocab,
            gamma=gamma,
            context_width=2,
            green_last=last,
            kernel=kernel,
            **common,
        )
        size = int(gamma * vocab)
        entries = torch.randperm(vocab, generator=generator(context_seed(5, 35317, (1, 0))))
        expected = np.zeros(vocab, dtype=bool)
        expected[(entries[vocab - size :] if last else entries[:size]).numpy()] = True
        few = np.unique(np.linspace(0, vocab - 1, 40).astype(np.int64))
        many = np.arange(min(vocab, 3000))
        for targets in (few[:1], few, many[::-1]):
            windows = np.column_stack([np.full(len(targets), 1), np.zeros(len(targets)), targets])
            np.testing.assert_array_equal(
                scheme.scores(windows.astype(np.int64)), expected[targets]
            )
        np.testing.assert_array_equal(scheme.green_mask(np.array([[1, 0]]))[0], expected)


def test_windows_in_any_order_with_repeats():
    """One call with shuffled, repeated windows gives what each window gives alone."""
    rng = np.random.default_rng(3)
    scheme = KGW(vocab_size=500, gamma=0.3, context_width=2, seed=9)
    windows = rng.integers(0, [12, 3, 500], size=(4000, 3))
    together = scheme.scores(windows)
    alone = {tuple(w): bool(scheme.scores([w])[0]) for w in np.unique(windows, axis=0).tolist()}
    assert together.tolist() == [alone[tuple(w)] for w in windows.tolist()]


@pytest.mark.parametrize("vocab", [2, 623, 624, 625, 32_000])
def test_gumbel_uniforms_and_scores(vocab):
    scheme = GumbelMax(vocab_size=vocab, context_width=2, seed=11, salt_key=35317)
    contexts = np.array([[0, 1], [1, 1], [1, 0]])
    uniforms = scheme.uniforms(contexts)
    for context, row in zip(contexts.tolist(), uniforms, strict=True):
        drawn = generator(context_seed(11, 35317, context))
        expected = torch.rand(vocab, generator=drawn)
        np.testing.assert_array_equal(row, expected.numpy().astype(np.float64))
        targets = sorted({0, 1, vocab // 2, vocab - 1})
        scores = scheme.scores([[*context, t] for t in targets])
        theirs = -(1 - expected[targets]).log()  # float32, as in the reference
        np.testing.assert_allclose(scores, theirs.numpy(), rtol=1e-6, atol=1e-6)
        exact = [-math.log1p(-row[t]) for t in targets]
        np.testing.assert_allclose(scores, exact, rtol=1e-14)


@pytest.mark.parametrize("rule", ["additive", "skip", "min"])
def test_radioactivity_table_seedings(rule):
    """The authors' `table[salt * ...]`, the table drawn first from a generator seeded with 7."""
    table = torch.randperm(1_000_003, generator=generator(7))
    salt, vocab = 35317, 1000
    scheme = KGW(
        vocab_size=vocab,
        context_width=3,
        seeding=f"table_{rule}",
        table_seed=7,
        salt_key=salt,
    )
    rng = np.random.default_rng(5)
    for context in rng.integers(0, vocab, (10, 3)).tolist():
        tokens = torch.tensor(context)
        hashed = {
            "additive": lambda t: table[(salt * t.sum()) % len(table)],
            "skip": lambda t: table[(salt * t[0]) % len(table)],
            "min": lambda t: table[(salt * t) % len(table)].min(),
        }[rule](tokens)
        entries = torch.randperm(vocab, generator=generator(int(hashed)))
        assert set(np.flatnonzero(scheme.green_mask([context])[0])) == set(entries[:250].tolist())


def test_a_call_does_not_depend_on_its_dtype_or_layout():
    scheme = KGW(vocab_size=300, context_width=1, seed=1)
    windows = np.random.default_rng(0).integers(0, 256, (50, 2))
    expected = scheme.scores(windows)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i4"):
        np.testing.assert_array_equal(scheme.scores(windows.astype(dtype)), expected)
    np.testing.assert_array_equal(scheme.scores(np.asfortranarray(windows)), expected)
    np.testing.assert_array_equal(scheme.scores(windows[::-1])[::-1], expected)
    np.testing.assert_array_equal(scheme.scores(windows.tolist()), expected)
    np.testing.assert_array_equal(scheme.scores(torch.from_numpy(windows)), expected)
