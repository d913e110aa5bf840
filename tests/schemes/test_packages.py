"""Against the packages sbw and textseal."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from radscore.errors import SchemeError
from radscore.schemes import KGW, SBW, TextSeal

torch = pytest.importorskip("torch")


def module_of(package, *parts):
    """One module of a package, without what its other modules import."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0], *parts)
    name = f"_oracle_{package}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prf():
    return module_of("sbw", "prf.py")


@pytest.fixture(scope="module")
def textseal():
    return module_of("textseal", "common", "watermark", "pseudorandom.py")


FUNCTIONS = [
    "multiplicative",
    "additive",
    "minfunc",
    "simple_skip",
    "skipgram",
    "anchored_skipgram",
    "minhash",
    "anchored_minhash",
    "minskipgram",
    "noncomm",
    "position",
]


def low(seeds):
    return [int(seed) % (2**64 - 1) % 2**32 for seed in seeds]


@pytest.mark.parametrize("self_salt", [False, True])
@pytest.mark.parametrize(
    ("function", "width"),
    [(f, w) for f in FUNCTIONS for w in (1, 2, 5) if (f, w) != ("minskipgram", 1)],
)
def test_lm_watermarking_seeds(prf, function, width, self_salt):
    """The package carries lm-watermarking's functions; a unit's upper word is the seed."""
    key = 15485863
    vocab = 50_000
    name = f"ff-{function}_prf-{width}-{self_salt}-{key}"
    scheme = KGW.from_lm_watermarking(name, vocab_size=vocab)
    windows = np.random.default_rng(width).integers(0, vocab, (40, scheme.window_width))
    read = torch.from_numpy(windows[:, :width])
    if function == "multiplicative":
        # lm-watermarking multiplies the key in outside of the tensor, without wrap-around.
        theirs = [key * int(product) for product in read.prod(dim=1)]
    else:
        theirs = prf.prf_lookup[f"{function}_prf"](read, key)
    units = scheme.units(windows)
    expected = [
        (seed << 32) | int(window[-1]) for seed, window in zip(low(theirs), windows, strict=True)
    ]
    assert units[:, 1].tolist() == expected
    assert not units[:, 0].any()


@pytest.mark.parametrize(
    "name", ["simple_1", "lefthash", "minhash", "skipgram", "selfhash", "algorithm-3"]
)
def test_lm_watermarking_names(prf, name):
    function, width, self_salt, *_ = prf.seeding_scheme_lookup(name)
    scheme = KGW.from_lm_watermarking(name, vocab_size=1000, gamma=0.25)
    assert f"{scheme.seeding}_prf" == function
    assert (scheme.context_width, scheme.self_salt) == (width, self_salt)
    windows = np.random.default_rng(0).integers(0, 1000, (25, scheme.window_width))
    seeds = prf.prf_lookup[function](torch.from_numpy(windows[:, :width]), 15485863)
    for window, seed, green in zip(windows, seeds, scheme.scores(windows), strict=True):
        drawn = torch.Generator().manual_seed(int(seed) % (2**64 - 1))
        entries = torch.randperm(1000, generator=drawn)
        assert (window[-1] in entries[:250].tolist()) == green


def philox_words(seeds, targets):
    """Philox4x32-10 in plain integers, for the package's word of each token."""
    words = []
    for seed, target in zip(seeds, targets, strict=True):
        key = [int(seed) & 0xFFFFFFFF, (int(seed) >> 32) & 0xFFFFFFFF]
        c = [int(target) // 4, 0, 0, 0]
        for _ in range(10):
            first, second = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [
                (second >> 32) ^ c[1] ^ key[0],
                second & 0xFFFFFFFF,
                (first >> 32) ^ c[3] ^ key[1],
                first & 0xFFFFFFFF,
            ]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        words.append(c[int(target) % 4] & 0x7FFFFFFF)
    return words


@pytest.mark.parametrize(
    "name",
    [
        "gpu-simple_1",
        "gpu-minhash",
        "gpu-skipgram",
        "gpu-selfhash",
        "gpu-selfhash-cpuhash",
        "gpu-fused-selfhash-100",
        "gpu-fused-simple_4",
        "gpu-ff-position_prf-3-False",
        "gpu-ff-noncomm_prf-3-True-50",
    ],
)
def test_sbw_schemes(prf, name):
    function, width, self_salt, *_ = prf.seeding_scheme_lookup(name)
    batch = module_of_batch()
    key = 987654321987
    scheme = SBW.from_sbw(name, key=key, vocab_size=50_000, gamma=0.3)
    assert scheme.window_width == width + (not self_salt)
    windows = np.random.default_rng(1).integers(0, 50_000, (60, scheme.window_width))
    read = torch.from_numpy(windows[:, :width])
    hashing = function not in ("additive_prf", "position_prf") and "cpuhash" not in name
    hashes = {"hashint_fn": batch.hashint_gpu} if hashing else {}
    seeds = prf.prf_lookup[function](read, key, **hashes)
    words = philox_words(seeds, windows[:, -1])
    threshold = int(0.3 * 0x7FFFFFFF)
    assert scheme.scores(windows).tolist() == [word < threshold for word in words]
    assert scheme.core.share == (threshold, 2**31)
    units = scheme.units(windows)
    whole = [(int(high) << 64) | int(lower) for high, lower in units]
    assert whole == [
        ((int(seed) % 2**64) << 32) | int(target)
        for seed, target in zip(seeds, windows[:, -1], strict=True)
    ]


def module_of_batch():
    """sbw.batch compiles at import with torch.compile, lazily: importing it is cheap."""
    pytest.importorskip("sbw")
    import sbw.batch

    return sbw.batch


def test_sbw_names_without_gpu_are_permutations():
    with pytest.raises(ValueError, match="lm-watermarking"):
        SBW.from_sbw("selfhash", key=1, vocab_size=100)


@pytest.mark.parametrize("width", [1, 3, 10])
@pytest.mark.parametrize("key", [0, 42, -7, 2**62 + 12345])
def test_textseal(textseal, width, key):
    vocab = 128_000
    windows = np.random.default_rng(width).integers(0, vocab, (300, width + 1))
    contexts, targets = torch.from_numpy(windows[:, :-1]), torch.from_numpy(windows[:, -1])
    gumbel = TextSeal(vocab_size=vocab, key=key, context_width=width, method="gumbel")
    u = textseal.prf_uniform(contexts, targets, key).double().numpy()
    np.testing.assert_allclose(gumbel.scores(windows), -np.log1p(-u), rtol=1e-4, atol=1e-6)
    for gamma in (0.1, 0.25, 0.5, 2048 / 8191, 0.77):
        green = TextSeal(vocab_size=vocab, key=key, context_width=width, gamma=gamma)
        theirs = textseal.prf_binary(contexts, targets, key, gamma)
        np.testing.assert_array_equal(green.scores(windows), theirs.numpy().astype(bool))
    mask = TextSeal(vocab_size=vocab, key=key, context_width=width).green_mask(windows[:1, :-1])
    all_targets = torch.arange(vocab)
    theirs = textseal.prf_binary(contexts[:1].expand(vocab, -1), all_targets, key, 0.5)
    np.testing.assert_array_equal(mask[0], theirs.numpy().astype(bool))


def test_textseal_share_is_what_the_package_does(textseal):
    """The stated share counts the values that the package calls green."""
    values = torch.arange(8191).float() / 8191
    for thousandth in range(1, 1000):
        gamma = thousandth / 1000
        share = TextSeal(vocab_size=100, key=1, gamma=gamma).core.share
        assert share == (int((values < gamma).sum()), 8191)
        assert share[0] == -(-8191 * thousandth // 1000)  # ceil(gamma * 8191)


@pytest.mark.parametrize(
    "kind", ["greenlist", "dipmark", "morphmark", "gumbelmax", "watermax", "synthid", "none"]
)
@pytest.mark.parametrize("method", ["binary", "uniform"])
def test_types_of_textseal(kind, method):
    """The package's detector goes by `watermark_type` and overwrites `method`; so do we."""
    core = pytest.importorskip("textseal.common.watermark.core")
    detector = module_of("textseal", "posthoc", "detector.py")
    vocab = 5_000
    common = {"secret_key": 9, "ngram": 2, "gamma": 0.3, "method": method}
    config = core.WatermarkConfig(watermark_type=kind, base_watermark="gumbelmax", **common)
    if kind in ("synthid", "none"):
        with pytest.raises(SchemeError, match=rf"watermark_type .* not '{kind}'"):
            TextSeal.from_textseal(config, vocab)
        return
    theirs = detector.build_detector(None, config)
    ours = TextSeal.from_textseal(config, vocab)
    windows = np.random.default_rng(1).integers(0, vocab, (200, 3)).tolist()
    expected = [theirs.score_tok(window[:-1], window[-1]) for window in windows]
    np.testing.assert_allclose(ours.scores(windows), expected, rtol=1e-4, atol=1e-6)


def test_configurations_of_textseal_that_are_refused():
    for config, message in (
        ({"method": "binary"}, "has no watermark_type"),
        ({"watermark_type": "textseal"}, "not 'textseal', which radscore.TextSeal does not read"),
        ({"watermark_type": "greenlist", "key_routing": True}, "key_routing must be off"),
        ({"watermark_type": "greenlist", "stride": 3}, "no field 'stride'"),
        ({"watermark_type": "watermax", "base_watermark": "synthid"}, "not 'synthid'"),
    ):
        with pytest.raises(SchemeError, match=message):
            TextSeal.from_textseal(config, 100)


@pytest.mark.parametrize(
    "name",
    [
        *("gpu-simple_1", "gpu-minhash", "gpu-skipgram", "gpu-selfhash", "gpu-selfhash-cpuhash"),
        *("gpu-selfhash-100", "gpu-selfhash-cpuhash-fullvocab", "gpu-fused-selfhash-64"),
        *("gpu-fused-selfhash-fullvocab-cudagraphs", "gpu-fused-simple_4", "gpu-fused-simple_4-9"),
        *("gpu-ff-additive_prf-3-False", "gpu-ff-anchored_minhash_prf-64-True-50"),
    ],
)
def test_names_of_sbw(prf, name):
    function, width, self_salt, *_ = prf.seeding_scheme_lookup(name)
    scheme = SBW.from_sbw(name, key=42, vocab_size=100)
    found = (f"{scheme.seeding}_prf", scheme.context_width, scheme.self_salt)
    assert found == (function, width, self_salt)


@pytest.mark.parametrize(
    "name",
    ["gpu-selfhash-fast", "gpu-simple_1-40", "gpu-fused-minhash", "gpu-simple_4", "gpu-minhash-x"],
)
def test_names_that_sbw_does_not_have(name):
    with pytest.raises(SchemeError, match="sbw has no scheme"):
        SBW.from_sbw(name, key=42, vocab_size=100)
