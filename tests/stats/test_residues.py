"""The law of SynthID's score over keys, against all keys and against mpmath."""

import itertools

import mpmath
import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError
from radscore.stats import ResidueLaw
from radscore.stats.residues import shift_sums

M = 6364136223846793005


def sums_of(counts, table):
    """T(k) for each k, one term after the other."""
    size = len(table)
    return [
        sum(int(n) * int(table[((r + k) * M + 1) % size]) for r, n in enumerate(counts))
        for k in range(size)
    ]


def table_of(size, seed):
    table = np.random.default_rng(seed).integers(0, 2, size).astype(bool)
    table[:2] = True, False
    return table


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_choice_of_keys(data):
    size = data.draw(st.sampled_from([2, 4, 16]))
    steps = tuple(data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3)))
    table = table_of(size, data.draw(st.integers(0, 99)))
    large = data.draw(st.sampled_from([3, 1000, 3, 1000, 10**10]))
    counts = data.draw(st.lists(st.integers(0, large), min_size=size, max_size=size))
    sums = sums_of(counts, table)
    assert shift_sums(np.array(counts), table).tolist() == sums
    law = ResidueLaw.of_counts(counts, table, steps)
    every = [
        sum(a * t for a, t in zip(steps, one, strict=True))
        for one in itertools.product(sums, repeat=len(steps))
    ]
    every.sort()
    assert law.mean == pytest.approx(np.mean(every), rel=1e-9, abs=1e-9)
    assert law.variance == pytest.approx(np.var(every), rel=1e-6, abs=1e-6)
    for total in {every[0], every[-1], every[len(every) // 2], every[-1 - len(every) // 50]}:
        right = np.log10(sum(one >= total for one in every) / len(every))
        low, high = law.bracket(total)
        assert low - 1e-9 <= right <= high + 1e-9
        if law.method == "exact tail over random keys":
            assert high == pytest.approx(right, abs=1e-9)


def test_far_tails_against_a_convolution_of_many_digits():
    """Thirty depths of a table of 64 entries, down to the least p-value that there is."""
    table = table_of(64, 5)
    counts = np.random.default_rng(1).integers(0, 4, 64)
    sums = sums_of(counts, table)
    least = min(sums)
    mpmath.mp.dps = 80
    one = [mpmath.mpf(sums.count(least + i)) / 64 for i in range(max(sums) - least + 1)]
    whole = [mpmath.mpf(1)]
    for _ in range(30):
        longer = [mpmath.mpf(0)] * (len(whole) + len(one) - 1)
        for i, a in enumerate(whole):
            for j, b in enumerate(one):
                longer[i + j] += a * b
        whole = longer
    law = ResidueLaw.of_counts(counts, table, (1,) * 30)
    tail = mpmath.mpf(0)
    right = {}
    for i in range(len(whole) - 1, -1, -1):
        tail += whole[i]
        right[30 * least + i] = float(mpmath.log10(tail))
    for total, expected in list(right.items())[::7]:
        assert law.log10_sf(total) == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert law.log10_sf(30 * max(sums)) >= -30 * np.log10(64)


def test_a_grid_bounds_what_it_rounds():
    """Weighted depths and many windows: the bracket is narrow and holds the finer one."""
    counts = np.random.default_rng(2).poisson(1500, 65536)
    steps = tuple(290 - 9 * d for d in range(30))
    law = ResidueLaw.of_counts(counts, table_of(65536, 6), steps)
    assert "rounded up" in law.method
    for z in (0.0, 2.0, 5.0, 12.0, 20.0):
        low, high = law.bracket(int(law.mean + z * law.variance**0.5))
        assert low <= high <= low + 0.05


def test_real_weights_are_bounded_by_all_keys():
    rng = np.random.default_rng(3)
    table = table_of(16, 4)
    weights, residues = rng.normal(size=9), rng.permutation(16)[:9]
    law = ResidueLaw.of_weights(weights, residues, table, 3)
    read = table.astype(float) - table.mean()
    sums = [
        sum(w * read[(int(r + k) * M + 1) % 16] for w, r in zip(weights, residues, strict=True))
        for k in range(16)
    ]
    every = np.sort([sum(one) for one in itertools.product(sums, repeat=3)])
    for total in every[::97]:
        right = np.log10((every >= total - 1e-9).mean())
        low, high = law.bracket(float(total) - 1e-9)
        assert low - 1e-9 <= right <= high + 1e-9
        assert high <= right + 0.1


def test_what_no_table_has():
    with pytest.raises(ArgumentError, match="power of two"):
        shift_sums(np.zeros(6, dtype=np.int64), np.ones(6, dtype=bool))
    with pytest.raises(ArgumentError, match="shape"):
        shift_sums(np.zeros(8, dtype=np.int64), np.ones(4, dtype=bool))
    same = ResidueLaw.of_counts([5, 5, 5, 5], table_of(4, 1), (1, 1))
    assert same.log10_sf(same.mean) == 0.0


def marked(n, share, seed, table, keys):
    """Counts of windows of which a share has g-values that a tournament of two chose."""
    rng = np.random.default_rng(seed)
    size = len(table)
    places = np.arange(size)
    g = np.array([table[((places + k) * M + 1) % size] for k in keys])
    chances = np.ones(size) / size
    for row in g:  # one layer a depth: the better of two
        mean = chances[row].sum()
        chances = chances * (1 + row - mean)
    mixed = (1 - share) / size + share * chances
    counts = rng.multinomial(n, mixed / mixed.sum())
    return counts, g


def test_a_large_corpus_is_not_blind():
    """Five of a hundred of 10^6 windows marked: many standard deviations, once z = 0."""
    scheme = rs.SynthID(vocab_size=65536, keys=tuple(range(101, 131)), context_width=1)
    table = scheme.core.sampling_table
    counts, g = marked(10**6, 0.05, 1, table, scheme.keys)
    law = ResidueLaw.of_counts(counts, table, scheme.steps)
    total = int(sum(int(row @ counts) for row in g))
    z = (total - law.mean) / law.variance**0.5
    assert z > 10
    assert law.log10_sf(total) < -20
