"""Windows, counts and weights against a naive twin in plain Python, and by hand."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.answers import weights as w
from radscore.answers.grouping import WindowCounts, count_windows, in_filter, kept_windows

VOCAB = 6


def naive_windows(documents, width, prompts=None, phi=None, *, any_prompt=False):
    """(kept windows, n_excluded, n_filtered), window by window."""
    k = width - 1
    seen = [
        {tuple(prompt[i : i + k]) for i in range(len(prompt) - k + 1)} for prompt in prompts or []
    ]
    everywhere = set().union(*seen) if seen else set()
    kept, excluded, filtered = [], 0, 0
    for number, document in enumerate(documents):
        own = everywhere if any_prompt else (seen[number] if seen else set())
        for i in range(len(document) - k):
            window = tuple(document[i : i + width])
            if k and window[:-1] in own:
                excluded += 1
            elif phi is not None and window[:-1] not in phi:
                filtered += 1
            else:
                kept.append(window)
    return kept, excluded, filtered


def naive_share(target, context, texts, vocab, backoff=1.0):
    """The target's probability after the context without its first token."""
    share = 1.0 / vocab
    for length in range(len(context)):
        tail = context[len(context) - length :]
        after = [window[-1] for window in texts if window[len(context) - length : -1] == tail]
        share = (after.count(target) + backoff * share) / (len(after) + backoff)
    return share


texts = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=14), min_size=1, max_size=6)


@given(documents=texts, prompts=texts, width=st.integers(2, 4), data=st.data())
@settings(max_examples=150, deadline=None)
def test_windows_are_those_of_the_twin_and_of_the_scorer(documents, prompts, width, data):
    prompts = [prompts[i % len(prompts)] for i in range(len(documents))]
    some = data.draw(st.booleans())
    phi = set(naive_windows(prompts, width - 1)[0][::2]) if some else None
    kgrams = None if phi is None else rs.KgramSet.from_kgrams(sorted(phi), VOCAB, width=width - 1)
    any_prompt = data.draw(st.booleans())
    answers, asked = rs.Documents.of(documents), rs.Documents.of(prompts)
    scheme = rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=width - 1)
    kept = kept_windows(answers, scheme, prompts=asked, any_prompt=any_prompt)
    if kgrams is not None:
        kept = kept.only(in_filter(kept.contexts, scheme, kgrams, by_seed=False))
    windows, excluded, filtered = naive_windows(
        documents, width, prompts, phi, any_prompt=any_prompt
    )
    rows = np.column_stack([kept.contexts, kept.targets])
    assert [tuple(row) for row in rows.tolist()] == windows
    assert (kept.n_excluded, kept.n_filtered) == (excluded, filtered)
    assert kept.n_windows == len(windows) + excluded + filtered
    if not any_prompt:
        scorer = rs.Scorer(scheme, filter=kgrams)
        scorer.add(answers, asked)
        tally = scorer.tally()
        assert (tally.n_excluded, tally.n_filtered) == (excluded, filtered)
        assert (tally.n_windows, tally.n_scored) == (kept.n_windows, len(set(windows)))


LISTS = ["lefthash", "minhash-False", "minskipgram-False", "anchored_minhash-True", "additive-True"]


@pytest.mark.parametrize("name", ["vllm", "synthid", "deepmind", *LISTS])
@given(documents=texts, prompts=texts, width=st.integers(2, 5), data=st.data())
@settings(max_examples=100, deadline=None)
def test_padded_windows_are_those_of_the_scorer(name, documents, prompts, width, data):
    """A prompt excludes padded contexts, and seeds of tails, if it holds their own tokens."""
    prompts = [prompts[i % len(prompts)] for i in range(len(documents))]
    phi = None
    if data.draw(st.booleans()):
        phi = set(naive_windows(prompts + documents, width - 1)[0][::2])
    kgrams = None if phi is None else rs.KgramSet.from_kgrams(sorted(phi), VOCAB, width=width - 1)
    common = {"vocab_size": VOCAB, "context_width": width - 1}
    schemes = {
        "vllm": lambda: rs.VLLMGumbel(key=1, **common),
        "synthid": lambda: rs.SynthID(keys=(1,), **common),
        "deepmind": lambda: rs.SynthIDDeepMind(keys=(1,), **common),
    }
    if name == "lefthash":
        scheme = rs.KGW(seeding="last_token", gamma=0.5, **common)
    elif name in LISTS:
        prf, salt = name.split("-")
        read = max(width - (salt == "False"), 2)
        scheme = rs.KGW.from_lm_watermarking(f"ff-{prf}-{read}-{salt}", vocab_size=VOCAB, gamma=0.5)
        kgrams = kgrams if scheme.window_width == width else None
    else:
        scheme = schemes[name]()
    answers, asked = rs.Documents.of(documents), rs.Documents.of(prompts)
    kept = kept_windows(answers, scheme, prompts=asked)
    if kgrams is not None:
        kept = kept.only(in_filter(kept.contexts, scheme, kgrams, by_seed=False))
    scorer = rs.Scorer(scheme, dedup="window", filter=kgrams)
    scorer.add(answers, asked)
    tally = scorer.tally()
    assert kept.n_windows == tally.n_windows
    assert scheme.reaches_prompt or tally.n_windows == answers.n_tokens
    assert (kept.n_excluded, kept.n_filtered) == (tally.n_excluded, tally.n_filtered)
    pairs = rs.Scorer(scheme, dedup="window")
    pairs.add_pairs(kept.contexts, kept.targets)
    assert pairs.tally().score_sum == pytest.approx(tally.score_sum, rel=1e-12)
    assert pairs.tally().depth_counts == tally.depth_counts
    assert pairs.tally().n_green == tally.n_green
    assert pairs.tally().n_scored == tally.n_scored
    everywhere = kept_windows(answers, scheme, prompts=asked, any_prompt=True)
    assert everywhere.n_excluded >= kept_windows(answers, scheme, prompts=asked).n_excluded


@given(mine=texts, theirs=texts, width=st.integers(2, 4))
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_the_twin(mine, theirs, width):
    suspect, reference = naive_windows(mine, width)[0], naive_windows(theirs, width)[0]
    scheme = rs.Keyed(vocab_size=VOCAB, key=bytes(16), context_width=width - 1)
    kept = [kept_windows(rs.Documents.of(docs), scheme) for docs in (mine, theirs)]
    for other, texts_of in ((kept[1], reference), (None, suspect)):
        counts = count_windows(kept[0], other, VOCAB)
        both = suspect + (reference if other is not None else [])
        assert [
            (*context, target)
            for context, target in zip(
                counts.contexts.tolist(), counts.targets.tolist(), strict=True
            )
        ] == list(dict.fromkeys(both))
        a, b = Counter(suspect), Counter(reference if other is not None else [])
        n_a, n_b = Counter(), Counter()
        for window, times in a.items():
            n_a[window[:-1]] += times
        for window, times in b.items():
            n_b[window[:-1]] += times
        for i, window in enumerate(dict.fromkeys(both)):
            assert (counts.a[i], counts.b[i]) == (a[window], b[window])
            assert (counts.n_a[i], counts.n_b[i]) == (n_a[window[:-1]], n_b[window[:-1]])
            expected = naive_share(window[-1], window[:-1], texts_of, VOCAB)
            assert counts.share[i] == pytest.approx(expected, rel=1e-12)


def test_wide_windows_of_large_vocabularies_are_told_apart():
    rng = np.random.default_rng(1)
    rows = rng.choice([0, 1, 2**17 - 1, 2**17, 2**18 - 1], size=(400, 9))
    wide = rs.Keyed(vocab_size=2**18, key=bytes(16), context_width=8)
    kept = kept_windows(rs.Documents.of(rows), wide)
    counts = count_windows(kept, None, 2**18)
    naive = Counter(map(tuple, rows.tolist()))
    assert len(counts.a) == len(naive)
    for row, a in zip(np.column_stack([counts.contexts, counts.targets]), counts.a, strict=True):
        assert naive[tuple(row.tolist())] == a


def counts_of(a, n_a, b=0, n_b=0, share=0.5):
    """Counts of a single window."""
    one = {name: np.array([float(value)]) for name, value in locals().items()}
    return WindowCounts(contexts=np.zeros((1, 1), np.uint32), targets=np.zeros(1, np.uint32), **one)


@pytest.mark.parametrize(
    ("name", "counts", "expected"),
    [
        ("count", (3, 5), 3.0),
        ("root", (4, 5), 2.0),
        ("log", (3, 5), math.log(4)),
        ("fraction", (3, 5), 0.6),
        ("excess", (3, 5, 0, 0, 0.2), 2.0),
        ("scaled", (3, 8, 0, 0, 0.25), 1 / math.sqrt(2)),
        ("scaled", (9, 9, 0, 0, 0.1), 2.0),  # no further
        ("difference", (3, 5, 2, 8), 3 - 2 * 5 / 8),
        ("difference", (3, 5, 0, 0), 0.0),  # the reference never met the context
        ("balanced", (3, 5, 2, 8), (3 * 8 - 2 * 5) / 13),
        ("balanced", (0, 0, 2, 8), 0.0),
        ("balanced", (0, 5, 2, 8), -10 / 13),
        ("smoothed", (3, 5, 2, 8, 0.5), (3 * 9 - 2.5 * 5) / 14),
        ("smoothed", (3, 5, 0, 0, 0.5), (3 - 0.5 * 5) / 6),
    ],
)
def test_weights_by_hand(name, counts, expected):
    family = w.CONTRASTS if name in w.CONTRASTS else w.COUNTS
    (weight,) = family[name](counts_of(*counts), 0.25)
    assert weight == pytest.approx(expected, rel=1e-12)


def test_posterior_is_bayes_rule():
    """Against the belief computed from the two binomial likelihoods."""
    gamma, e = 0.25, w._TENDENCY
    for a, n_a, b, n_b, share in ((3, 5, 2, 8, 0.4), (0, 4, 3, 9, 0.2), (7, 7, 0, 0, 0.9)):
        b_, n_b_ = b + share, n_b + 1

        def likelihood(tilt, a=a, n_a=n_a, b=b_, n_b=n_b_):
            mine = n_a * math.exp(tilt) / (n_a * math.exp(tilt) + n_b)
            return mine**a * (1 - mine) ** b

        green, red = likelihood(e * (1 - gamma)), likelihood(-e * gamma)
        belief = gamma * green / (gamma * green + (1 - gamma) * red)
        (weight,) = w.CONTRASTS["posterior"](counts_of(a, n_a, b, n_b, share), gamma)
        assert weight == pytest.approx(belief - gamma, rel=1e-9, abs=1e-12)


def test_adaptive_is_smoothed_where_models_differ_by_chance_alone():
    rng = np.random.default_rng(3)
    n = 4000
    p = rng.dirichlet(np.ones(4), size=n // 4).ravel()
    size = np.full(n, 40.0)
    share = np.full(n, 0.25)

    def counts(spread):
        q = p * np.exp(spread * rng.normal(size=n))
        q /= np.repeat(q.reshape(-1, 4).sum(axis=1), 4)
        draws = [
            np.concatenate([rng.multinomial(40, row) for row in probabilities.reshape(-1, 4)])
            for probabilities in (q, p)
        ]
        a, b = (one.astype(float) for one in draws)
        empty = np.zeros((n, 1), np.uint32)
        return WindowCounts(empty, empty[:, 0], a, size, b, size, share)

    for spread, least, most in ((0.0, 0.9, 1.0), (1.0, 0.02, 0.5)):
        found = counts(spread)
        smoothed, adaptive = (w.CONTRASTS[name](found, 0.25) for name in ("smoothed", "adaptive"))
        big = np.abs(smoothed) > 5 if spread else np.abs(smoothed) > 1
        ratio = np.median(adaptive[big] / smoothed[big])
        assert least <= ratio <= most


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4, st.floats(0.01, 1.0)), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_weights_are_finite_and_fall_with_the_reference(rows):
    """Whatever the counts: finite, and never larger if b is larger."""
    rows = [
        (a, n_a, b, n_b, s) for a, n_a, b, n_b, s in rows if a <= n_a and b <= n_b and n_a + n_b
    ]
    for a, n_a, b, n_b, share in rows:
        for name, weigh in w.CONTRASTS.items():
            (weight,) = weigh(counts_of(a, n_a, b, n_b, share), 0.25)
            assert np.isfinite(weight)
            if b < n_b and name != "adaptive":  # which divides by more the more there is
                (more,) = weigh(counts_of(a, n_a, b + 1, n_b, share), 0.25)
                assert more <= weight + 1e-12
        for weigh in w.COUNTS.values():
            assert np.isfinite(weigh(counts_of(a, n_a, b, n_b, share), 0.25)).all()


def test_balanced_weights_of_a_context_add_up_to_zero():
    """What one target gains, others lose: natural language cancels within each context."""
    rng = np.random.default_rng(5)
    docs = [rs.Documents.of(rng.integers(0, 5, size=(30, 20))) for _ in range(2)]
    scheme = rs.Keyed(vocab_size=5, key=bytes(16), context_width=1)
    kept = [kept_windows(one, scheme) for one in docs]
    counts = count_windows(*kept, 5)
    for name in ("balanced", "difference"):
        weights = w.CONTRASTS[name](counts, 0.25)
        for context in np.unique(counts.contexts[:, 0]):
            inside = counts.contexts[:, 0] == context
            assert abs(weights[inside].sum()) < 1e-9
    a, n_a, b, n_b = (
        [Fraction(int(x)) for x in values]
        for values in (counts.a, counts.n_a, counts.b, counts.n_b)
    )
    exact = [x * v - y * u for x, u, y, v in zip(a, n_a, b, n_b, strict=True)]
    assert np.allclose(
        w.CONTRASTS["balanced"](counts, 0.25) * (counts.n_a + counts.n_b),
        [float(one) for one in exact],
    )


def test_unknown_weights_are_refused():
    with pytest.raises(
        rs.errors.ArgumentError, match="transform must be one of difference, balanced"
    ):
        w.weigh(counts_of(1, 1), "best", contrast=True, gamma=0.5)
