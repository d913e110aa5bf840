"""Against transformers' processors and detector."""

import itertools

import numpy as np
import pytest
from radscore.schemes import KGW, SynthID

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig  # noqa: E402
from transformers.generation.logits_process import (  # noqa: E402
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkLogitsProcessor,
)
from transformers.generation.watermarking import WatermarkDetector  # noqa: E402

VOCAB = 1200


def windows_of(tokens, width):
    return np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), width)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("key", [15485863, 1, 2**40 + 7])
def test_lefthash_green_lists(width, key):
    config = WatermarkingConfig(
        greenlist_ratio=0.3, hashing_key=key, seeding_scheme="lefthash", context_width=width
    )
    scheme = KGW.from_transformers(config, VOCAB)
    processor = WatermarkLogitsProcessor(VOCAB, "cpu", **config.to_dict())
    contexts = np.random.default_rng(width).integers(0, VOCAB, (5, width))
    for context, mask in zip(contexts, scheme.green_mask(contexts), strict=True):
        theirs = processor._get_greenlist_ids(torch.from_numpy(context))
        assert set(np.flatnonzero(mask)) == set(theirs.tolist())


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("key", [15485863, 2**61 - 1])
def test_selfhash_greenness(width, key):
    """Its table is seeded by the key, and products wrap around."""
    config = WatermarkingConfig(
        greenlist_ratio=0.3, hashing_key=key, seeding_scheme="selfhash", context_width=width
    )
    scheme = KGW.from_transformers(config, VOCAB)
    processor = WatermarkLogitsProcessor(VOCAB, "cpu", **config.to_dict())
    windows = np.random.default_rng(width).integers(0, VOCAB, (60, width))
    theirs = [
        int(window[-1]) in processor._get_greenlist_ids(torch.from_numpy(window)).tolist()
        for window in windows
    ]
    assert scheme.scores(windows).tolist() == theirs
    assert any(theirs)
    mask = scheme.green_mask(windows[:1, :-1])[0]
    salted = [[*windows[0, :-1], token] for token in range(VOCAB)]
    np.testing.assert_array_equal(mask, scheme.scores(salted))


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(
    ("scheme_name", "width"), list(itertools.product(["lefthash", "selfhash"], [1, 2, 4]))
)
def test_detector_counts(scheme_name, width, repeated):
    config = WatermarkingConfig(seeding_scheme=scheme_name, context_width=width)
    model = transformers.GPT2Config(vocab_size=VOCAB, bos_token_id=None)
    detector = WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=repeated)
    scheme = KGW.from_transformers(config, VOCAB)
    # Repetitive text, so that the two ways of counting differ.
    tokens = np.random.default_rng(width).integers(0, 25, 160)
    n_scored, n_green = detector._score_ngrams_in_passage(torch.from_numpy(tokens)[None])
    windows = windows_of(tokens, scheme.window_width)
    ours = np.unique(windows, axis=0) if repeated else windows
    assert (len(ours), scheme.scores(ours).sum()) == (n_scored[0], n_green[0])


@pytest.mark.parametrize("ngram_len", [2, 5, 9])
@pytest.mark.parametrize(("size", "seed"), [(65536, 0), (1000, 42), (257, 7)])
def test_synthid_g_values(ngram_len, size, seed):
    rng = np.random.default_rng(ngram_len)
    keys = [654, 400, 836, 123, *rng.integers(0, 2**62, 26).tolist()]
    config = SynthIDTextWatermarkingConfig(
        ngram_len=ngram_len, keys=keys, sampling_table_size=size, sampling_table_seed=seed
    )
    processor = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device="cpu")
    scheme = SynthID.from_transformers(config, 1 << 20)
    tokens = rng.integers(0, 1 << 20, 120)
    theirs = processor.compute_g_values(torch.from_numpy(tokens)[None])[0]
    windows = windows_of(tokens, ngram_len)
    np.testing.assert_array_equal(scheme.scores(windows), theirs.numpy())
    share = scheme.core.share
    assert share == (int(processor.sampling_table.sum()), size)
    # Equal units, equal g-values: shifting a token by the table's size keeps the unit only
    # where the size is a power of two.
    units = scheme.units(windows)
    aliased = windows.copy()
    aliased[:, 0] = (aliased[:, 0] + 65536) % (1 << 20)
    if size == 65536:
        np.testing.assert_array_equal(scheme.units(aliased), units)
        np.testing.assert_array_equal(scheme.scores(aliased), theirs.numpy())
        assert units[:, 0].max() == 0
        assert units[:, 1].max() < size


def test_synthid_vocabulary_wide():
    keys = [654, 400, 836, 123]
    scheme = SynthID(vocab_size=500, keys=keys, context_width=4)
    processor = SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5,
        keys=keys,
        sampling_table_size=65536,
        sampling_table_seed=0,
        context_history_size=1024,
        device="cpu",
    )
    contexts = np.random.default_rng(0).integers(0, 500, (3, 4))
    ids = torch.arange(500)[None].expand(3, -1)
    ngram_keys, _ = processor._compute_keys(torch.from_numpy(contexts), ids)
    theirs = processor.sample_g_values(ngram_keys)
    np.testing.assert_array_equal(scheme.g_values(contexts), theirs.numpy())
