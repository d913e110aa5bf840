"""The twin's pipeline on cases small enough to work out by hand, from the law's section 7."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from tests.twin.pipeline import (
    Rules,
    Scorer,
    Shown,
    count_kgrams,
    curve,
    per_document,
    positions,
    top_kgrams,
    windows_of,
)
from tests.twin.schemes import (
    HFKGW,
    SBW,
    AuthorsKGW,
    Keyed,
    LmWatermarking,
    SynthID,
    VLLMGumbel,
)
from tests.twin.seeding import PRFS

KEY = bytes(range(16))


def keyed(width=1, method="green"):
    return Keyed(vocab_size=100, context_width=width, key=KEY, gamma=0.5, method=method)


def removed(tally):
    return tally.n_windows, tally.n_excluded, tally.n_filtered, tally.n_duplicates, tally.n_scored


def run(scheme, documents, *, prompts=None, weights=None, **rules):
    scorer = Scorer(scheme, Rules(**rules))
    scorer.add(documents, prompts, weights)
    return scorer.tally()


def test_windows_never_cross_documents():
    tally = run(keyed(2), [[1, 2, 3], [4, 5], [], [6, 7, 8, 9]], dedup="none")
    assert (tally.n_documents, tally.n_tokens, tally.n_windows) == (4, 9, 3)


def test_windows_and_their_positions():
    assert list(windows_of([5, 6, 7, 8], keyed(2))) == [(2, (5, 6, 7)), (3, (6, 7, 8))]
    assert list(windows_of([5, 6, 7, 8], keyed(2), Rules(start=3))) == [(3, (6, 7, 8))]
    assert list(windows_of([5, 6], keyed(2))) == []


def test_self_salted_windows_hold_the_target():
    scheme = LmWatermarking.named("selfhash", 100, 0.5)
    assert scheme.window_width == scheme.context_width == 4
    assert [w for _, w in windows_of([1, 2, 3, 4, 5], scheme)] == [(1, 2, 3, 4), (2, 3, 4, 5)]


def test_padding_is_for_vllm_alone():
    scheme = VLLMGumbel(vocab_size=100, context_width=2, key=1)
    windows = [w for _, w in windows_of([5, 6, 7], scheme, Rules(start=0))]
    assert windows == [(-1, -1, 5), (-1, 5, 6), (5, 6, 7)]
    with pytest.raises(ValueError, match="start must be at least 2"):
        list(windows_of([5, 6, 7], keyed(2), Rules(start=1)))


def test_exclusion_by_the_documents_own_prompt():
    documents = [[1, 2, 3, 1, 2], [1, 2, 3]]
    tally = run(keyed(), documents, prompts=[[9, 1], [3]], dedup="none")
    assert removed(tally) == (6, 2, 0, 0, 4)  # the contexts 1 and 1; 3 of another prompt stays
    tally = run(keyed(2), [[1, 2, 3, 4]], prompts=[[1, 9, 2, 3]])
    assert removed(tally) == (2, 1, 0, 0, 1)  # (1, 2) is no contiguous run, (2, 3) is


def test_a_prompt_shorter_than_a_context_excludes_nothing():
    shown = Shown.by([1, 2], keyed(3), Rules())
    assert not shown.values
    assert (1, 9) in Shown.by([2, 1], keyed(1), Rules())


def test_a_prompt_excludes_by_what_the_random_function_reads():
    last = HFKGW(vocab_size=100, context_width=2, gamma=0.5)  # reads the last token alone
    tally = run(last, [[1, 2, 3, 4]], prompts=[[9, 8, 2, 7]])
    assert removed(tally) == (2, 1, 0, 0, 1)  # (1, 2) and (8, 2) are one seed
    salted = HFKGW(vocab_size=100, context_width=1, gamma=0.5, seeding_scheme="selfhash")
    tally = run(salted, [[1, 2, 3]], prompts=[[3]])
    assert removed(tally) == (3, 1, 0, 0, 2)  # no seed before the target: by units
    sums = LmWatermarking.named("ff-additive-2-False", 100, 0.5)
    assert run(sums, [[1, 2, 3]], prompts=[[2, 1]]).n_excluded == 1


def test_filter_is_on_the_context():
    tally = run(keyed(2), [[1, 2, 3, 1, 2, 4]], filter={(1, 2)})
    assert removed(tally) == (4, 0, 2, 0, 2)


def test_exclusion_comes_before_the_filter_and_both_before_deduplication():
    documents = [[1, 2, 1, 2], [1, 2, 1, 2]]
    tally = run(keyed(), documents, prompts=[[1], []], filter={(2,)})
    # first document: context 1 excluded twice, context 2 scored; second: 1 filtered, 2 again
    assert removed(tally) == (6, 2, 2, 1, 1)


def test_the_four_deduplication_rules():
    # simple_1 reads the sum of one token, so unit = window = (token, target) here
    tokens = [1, 2, 1, 2, 1, 3, 1, 2]
    scheme = LmWatermarking.named("simple_1", 100, 0.5)
    expected = {"unit": 4, "window": 4, "context": 3, "none": 7}
    for dedup, n_scored in expected.items():
        assert run(scheme, [tokens], dedup=dedup).n_scored == n_scored


def test_permuted_contexts_of_an_additive_seed_are_one_unit():
    scheme = LmWatermarking.named("ff-additive-2-False", 100, 0.5)
    documents = [[1, 2, 9], [2, 1, 9], [0, 3, 9], [1, 2, 8]]
    assert run(scheme, documents, dedup="unit").n_scored == 2
    assert run(scheme, documents, dedup="window").n_scored == 4
    assert run(scheme, documents, dedup="context").n_scored == 3


def test_hf_lefthash_reads_one_token_of_a_wide_window():
    scheme = HFKGW(vocab_size=100, context_width=3, gamma=0.5)
    documents = [[1, 2, 3, 9], [5, 6, 3, 9]]
    assert run(scheme, documents, dedup="unit").n_scored == 1
    assert run(scheme, documents, dedup="window").n_scored == 2


def test_synthid_ids_that_alias_are_one_residue():
    scheme = SynthID(vocab_size=2**18, context_width=1, keys=(5, 6))
    documents = [[1, 2], [1 + 65536, 2], [1, 2 + 65536]]
    tally = run(scheme, documents, dedup="unit", start=1)
    assert (tally.n_scored, tally.sum_w, tally.sum_w2) == (3, 3.0, 9.0)
    assert scheme.unit((1, 2)) == scheme.unit((1 + 65536, 2)) == scheme.unit((1, 2 + 65536))
    assert run(scheme, documents, dedup="window", start=1).n_scored == 3


def test_context_rule_keeps_the_first_target():
    scheme = keyed()
    tally = run(scheme, [[1, 2], [1, 3]], dedup="context")
    assert (tally.n_scored, tally.score_sum) == (1, scheme.score((1, 2)))


def test_weights_one_and_sum():
    documents, weights = [[1, 2, 1, 2], [1, 2]], [[9, 2.0, -3.0, 4.0], [9, 0.5]]
    scheme = keyed(method="gumbel")
    a, b = scheme.score((1, 2)), scheme.score((2, 1))
    one = run(scheme, documents, weights=weights, combine="one")
    assert (one.sum_w, one.sum_w2, one.max_abs_w) == (-1.0, 13.0, 3.0)
    assert one.sum_ws == math.fsum([2 * a, -3 * b])
    total = run(scheme, documents, weights=weights, combine="sum")
    assert (total.sum_w, total.sum_w2, total.max_abs_w) == (3.5, 51.25, 6.5)
    assert total.sum_ws == math.fsum([6.5 * a, -3 * b])
    assert (one.n_scored, total.n_scored) == (2, 2)
    assert one.score_sum == total.score_sum == math.fsum([a, b])


def test_pairs_are_windows_without_a_document():
    scorer = Scorer(keyed(2), Rules(filter={(1, 2), (3, 4)}))
    scorer.add_pairs([(1, 2), (3, 4), (5, 6), (1, 2)], [7, 8, 9, 7], [1.0, 2.0, 4.0, 8.0])
    tally = scorer.tally()
    assert removed(tally) == (4, 0, 1, 1, 2)
    assert (tally.n_documents, tally.n_tokens, tally.sum_w) == (0, 0, 3.0)


def test_weights_that_cancel_are_not_scored():
    tally = run(keyed(), [[1, 2, 1, 2]], weights=[[0, 1.5, 2.0, -1.5]], combine="sum")
    assert removed(tally) == (3, 0, 0, 1, 1)
    assert (tally.n_zero_weight, tally.sum_w) == (1, 2.0)
    tally = run(keyed(), [[1, 2, 1, 2]], weights=[[0, 0.0, 2.0, -1.5]])
    assert (tally.n_zero_weight, tally.sum_w) == (1, 2.0)  # the first place says 0


def test_context_rule_with_weights_counts_the_first_place_alone():
    scorer = Scorer(keyed(), Rules("context", "sum"))
    pairs = [((1,), 2, 0.25, 0), ((1,), 3, 0.5, 0), ((4,), 2, 2.0, 1), ((1,), 2, 4.0, 2)]
    scorer.add_pairs(*zip(*pairs, strict=True))
    tally = scorer.tally()
    assert (tally.n_scored, tally.n_duplicates, tally.sum_w) == (3, 1, 2.75)


def test_a_prompt_as_context():
    scheme = keyed(2)
    rules = Rules(prompt_role="context")
    found = list(windows_of([1, 2, 3], scheme, rules, prompt=[7, 8, 9]))
    assert found == [(0, (8, 9, 1)), (1, (9, 1, 2)), (2, (1, 2, 3))]
    assert [t for t, _ in windows_of([1, 2, 3], scheme, rules, prompt=[9])] == [1, 2]
    assert [t for t, _ in windows_of([1, 2, 3], scheme, rules)] == [2]
    tally = run(scheme, [[1, 2, 3], [4]], prompts=[[1, 2], [1]], prompt_role="context")
    assert (tally.n_windows, tally.n_excluded, tally.n_short_documents) == (3, 0, 1)
    sbw = SBW(vocab_size=100, context_width=2, key=1)
    padded = list(windows_of([5, 6], sbw, Rules(start=0, prompt_role="context"), prompt=[9]))
    assert padded == [(0, (-1, 9, 5)), (1, (9, 5, 6))]


def test_padding_and_never_the_prompt_stands_before_the_text():
    vllm = VLLMGumbel(vocab_size=100, context_width=2, key=1)
    synthid = SynthID(vocab_size=100, context_width=2, keys=(5, 6))
    assert list(windows_of([5, 6], vllm)) == [(0, (-1, -1, 5)), (1, (-1, 5, 6))]
    assert list(windows_of([5, 6], synthid)) == [(0, (0, 0, 5)), (1, (0, 5, 6))]
    for scheme in (vllm, synthid):
        with pytest.raises(ValueError, match="never reach into the prompt"):
            list(windows_of([5], scheme, Rules(prompt_role="context"), prompt=[9]))


def test_a_prompt_excludes_padded_contexts():
    """Marked text can begin anywhere in a prompt: (-1, -1), and (-1, x) for its every x."""
    vllm = VLLMGumbel(vocab_size=100, context_width=2, key=1)
    fates = [p.fate for p in positions([5, 6, 5, 6, 7], vllm, Rules(), prompt=[6, 5])]
    assert fates == ["excluded", "excluded", "scored", "excluded", "scored"]
    fates = [p.fate for p in positions([5, 6, 7], vllm, Rules(), prompt=[6])]
    assert fates == ["excluded", "scored", "scored"]
    assert [p.fate for p in positions([5], vllm, Rules(), prompt=[])] == ["scored"]


def test_only_the_first_contexts_of_a_generation():
    found = positions([1, 2, 3, 1, 2, 4, 5], keyed(), max_contexts=2)
    fates = ["scored", "scored", "filtered", "duplicate", "scored", "filtered"]
    assert [p.fate for p in found] == fates


def test_depths_are_counted_apart():
    scheme = SynthID(vocab_size=100, context_width=1, keys=(5, 6, 7))
    rows = [scheme.score((1, 2)), scheme.score((2, 3))]
    tally = run(scheme, [[1, 2, 3]], weights=[[0.0, 2.0, 3.0]])
    assert tally.score_sum == tuple(map(sum, zip(*rows, strict=True)))
    assert tally.sum_ws == tuple(2.0 * a + 3.0 * b for a, b in zip(*rows, strict=True))
    empty = run(scheme, [])
    assert empty.score_sum == empty.sum_ws == (0, 0, 0)


def test_nothing_added_is_an_empty_tally():
    tally = run(keyed(), [])
    assert removed(tally) == (0, 0, 0, 0, 0)
    assert (tally.score_sum, tally.sum_w, tally.max_abs_w) == (0, 0.0, 0.0)


def test_splitting_and_the_order_of_documents_change_nothing():
    documents = [[1, 2, 3, 1, 2], [2, 3, 1], [1, 2, 9, 2, 3]]
    scheme = AuthorsKGW(vocab_size=50, context_width=1, gamma=0.5)
    whole = run(scheme, documents)
    scorer = Scorer(scheme)
    for document in reversed(documents):
        scorer.add([document])
    assert scorer.tally() == whole
    scorer.add(documents)
    again = scorer.tally()
    assert (again.n_scored, again.score_sum) == (whole.n_scored, whole.score_sum)


def test_per_document_deduplicates_within_the_document():
    documents = [[1, 2, 1, 2], [1, 2]]
    found = per_document(documents, keyed(), prompts=[[], [1]])
    assert [removed(t) for t in found] == [(3, 0, 0, 1, 2), (1, 1, 0, 0, 0)]


def test_positions_tell_what_became_of_each():
    scheme = keyed()
    found = positions([1, 2, 1, 2, 3, 4], scheme, Rules(filter={(1,), (3,)}), prompt=[3])
    assert [(p.position, p.fate) for p in found] == [
        (1, "scored"),
        (2, "filtered"),
        (3, "duplicate"),
        (4, "filtered"),
        (5, "excluded"),
    ]
    assert [p.score for p in found] == [scheme.score((1, 2)), None, None, None, None]


def test_curve():
    scheme = keyed()
    a, b = scheme.score((1, 2)), scheme.score((2, 3))
    found = curve([[1, 2, 3], [1, 2, 4]], scheme, [0, 1, 2, 3, 5, 6])
    assert [n for _, n, _ in found] == [0, 0, 1, 2, 2, 3]
    assert [s for _, _, s in found][:5] == [0, 0, a, a + b, a + b]


def test_top_kgrams_breaks_ties_by_the_tokens():
    counts = count_kgrams([[2, 1, 2, 1], [1, 2], [3, 1, 1]], 2)
    assert counts == Counter({(2, 1): 2, (1, 2): 2, (3, 1): 1, (1, 1): 1})
    assert top_kgrams(counts, 3) == [((1, 2), 2), ((2, 1), 2), ((1, 1), 1)]


def test_keys_are_in_no_repr():
    for scheme in (keyed(), VLLMGumbel(vocab_size=9, context_width=1, key=987654321)):
        assert "987654321" not in repr(scheme)
        assert repr(KEY) not in repr(scheme)
    assert "97531" not in repr(HFKGW(vocab_size=9, context_width=1, gamma=0.5, hashing_key=97531))


CONTEXTS = [(0, 0, 0), (0, 5, 9), (5, 0, 9), (9, 5, 0), (0, 0, 9), (9, 0, 0), (4, 5, 9)]
LM_SCHEMES = [
    LmWatermarking(vocab_size=50, context_width=3, gamma=0.5, prf=prf, self_salt=False)
    for prf in sorted(PRFS)
]


@pytest.mark.parametrize("scheme", LM_SCHEMES, ids=lambda scheme: scheme.prf)
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_keyless_windows_are_those_whose_seed_repeats_over_keys(scheme, context):
    """Token id 0 makes some seeds the same under (nearly) every key: no evidence at all."""
    window = (*context, 7)
    seeds = Counter(replace(scheme, hash_key=97 * i + 10**9).seed32(window) for i in range(200))
    repeated = seeds.most_common(1)[0][1] > 1
    if scheme.prf == "minhash" and 0 in context:
        # The constant hash of 0 is the smallest for some keys only, by its rank in the table.
        assert scheme.keyless(window)
    elif scheme.prf == "minskipgram" and context.count(0) == 2:
        assert scheme.keyless(window)
    else:
        assert scheme.keyless(window) == repeated
