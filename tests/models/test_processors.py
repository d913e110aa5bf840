"""Writing the mark: against transformers' own processors and detectors, and our own tests."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import radscore as rs
import scipy.stats

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from radscore.models import marking  # noqa: E402
from radscore.models.processors import (  # noqa: E402
    Processor,
    draw,
    logits_processor,
    uniform,
    warp,
)
from tiny import tiny_llama  # noqa: E402
from transformers import (  # noqa: E402
    LogitsProcessorList,
    SynthIDTextWatermarkingConfig,
    TopKLogitsWarper,
    TopPLogitsWarper,
    WatermarkDetector,
    WatermarkingConfig,
)
from transformers.generation.logits_process import (  # noqa: E402
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkLogitsProcessor,
)

VOCAB = 512
SYNTHID_KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29]

GREEN = {
    "kgw": rs.KGW(vocab_size=VOCAB, seed=3),
    "kgw self": rs.KGW.from_lm_watermarking("selfhash", vocab_size=VOCAB, hash_key=77),
    "sbw": rs.SBW(vocab_size=VOCAB, key=42, gamma=0.25),
    "keyed": rs.Keyed(vocab_size=VOCAB, key=bytes(16)),
    "textseal": rs.TextSeal(vocab_size=VOCAB, key=123456789, gamma=0.25),
}
GUMBEL = {
    "gumbel_max": rs.GumbelMax(vocab_size=VOCAB, seed=5),
    "vllm": rs.VLLMGumbel(vocab_size=VOCAB, key=5),
    "vllm dual": rs.VLLMDualKeyGumbel(vocab_size=VOCAB, key=5, alpha=0.3),
    "sglang": rs.SGLangGumbel(vocab_size=VOCAB, key=5),
    "sglang dual": rs.SGLangGumbel(vocab_size=VOCAB, key=5, key_b=6, mixing_probability=0.7),
    "keyed gumbel": rs.Keyed(vocab_size=VOCAB, key=bytes(16), method="gumbel"),
    "textseal gumbel": rs.TextSeal(vocab_size=VOCAB, key=5, method="gumbel"),
}
TOURNAMENT = {
    "synthid": rs.SynthID(vocab_size=VOCAB, keys=SYNTHID_KEYS),
    "deepmind": rs.SynthIDDeepMind(vocab_size=VOCAB, keys=SYNTHID_KEYS),
}
ALL = GREEN | GUMBEL | TOURNAMENT


@pytest.fixture(scope="module")
def model():
    return tiny_llama(VOCAB, scale=2.0, bos_token_id=0)


def write(model, prompts, new, processor=None, **options):
    """What `generate` adds to prompts of one length."""
    processors = LogitsProcessorList([] if processor is None else [processor])
    torch.manual_seed(options.pop("torch_seed", 0))
    plain = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "pad_token_id": 0}
    return model.generate(
        prompts,
        attention_mask=options.pop("attention_mask", torch.ones_like(prompts)),
        max_new_tokens=new,
        logits_processor=processors,
        **{**plain, **options},
    )


def random_prompts(n, width=8, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, VOCAB, (n, width)))


# transformers' own marks


@pytest.mark.parametrize(
    ("seeding", "width"), list(itertools.product(["lefthash", "selfhash"], [1, 2, 4]))
)
def test_logits_are_those_of_transformers(seeding, width):
    config = WatermarkingConfig(seeding_scheme=seeding, context_width=width, bias=2.5)
    theirs = WatermarkLogitsProcessor(VOCAB, "cpu", **config.to_dict())
    ours = logits_processor(rs.KGW.from_transformers(config, VOCAB), delta=2.5)
    rng = np.random.default_rng(width)
    ids = torch.from_numpy(rng.integers(0, VOCAB, (3, 5)))
    for _ in range(12):
        scores = torch.from_numpy(rng.normal(size=(3, VOCAB)).astype(np.float32))
        scores[0, :100] = -torch.inf
        expected = theirs(ids, scores)
        got = ours(ids, scores)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        assert not torch.equal(got, scores)
        ids = torch.cat([ids, torch.from_numpy(rng.integers(0, VOCAB, (3, 1)))], dim=1)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("ngram_len", [2, 5])
def test_tournament_is_that_of_transformers(ngram_len, sparse):
    """Contexts that come again (few tokens, short contexts), and supports large and small."""
    config = SynthIDTextWatermarkingConfig(
        ngram_len=ngram_len, keys=SYNTHID_KEYS, context_history_size=1024
    )
    theirs = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device="cpu")
    ours = logits_processor(rs.SynthID.from_transformers(config, VOCAB))
    rng = np.random.default_rng(ngram_len)
    ids = torch.from_numpy(rng.integers(0, VOCAB, (3, 6)))
    unmarked = 0
    for _ in range(30):
        scores = torch.from_numpy(rng.normal(size=(3, VOCAB)).astype(np.float32))
        if sparse:
            scores[:, 50:] = -torch.inf
        expected = theirs(ids, scores).softmax(-1)
        got = ours(ids, scores)
        unmarked += int((got == scores).all(-1).sum())
        torch.testing.assert_close(got.softmax(-1), expected, rtol=1e-4, atol=1e-9)
        ids = torch.cat([ids, torch.from_numpy(rng.integers(0, 6, (3, 1)))], dim=1)
    assert (unmarked > 10) == (ngram_len == 2)


@pytest.mark.parametrize(
    ("seeding", "width"), [("lefthash", 1), ("lefthash", 3), ("selfhash", 2), ("selfhash", 4)]
)
def test_counts_agree_both_ways(model, seeding, width):
    """Each reads what the other wrote, with the same counts, repetitions counted or not."""
    config = WatermarkingConfig(seeding_scheme=seeding, context_width=width, bias=4.0)
    scheme = rs.KGW.from_transformers(config, VOCAB)
    prompts = random_prompts(2)
    written = {
        "theirs": write(model, prompts, 120, watermarking_config=config),
        "ours": write(model, prompts, 120, logits_processor(scheme, delta=4.0)),
    }
    for who, text in written.items():
        for repeated, dedup in ((False, "none"), (True, "window")):
            detector = WatermarkDetector(
                model.config, "cpu", config, ignore_repeated_ngrams=repeated
            )
            found = detector(text, return_dict=True)
            assert (found.z_score > 4).all(), who
            for row, n_scored, n_green in zip(
                text, found.num_tokens_scored, found.num_green_tokens, strict=True
            ):
                result = rs.score(row, scheme, dedup=dedup)
                assert (result.n_scored, result.n_green) == (n_scored, n_green), who
        assert rs.score(text[:, 8:], scheme).zscore > 6, who
    unmarked = write(model, prompts, 120)
    assert abs(rs.score(unmarked[:, 8:], scheme).zscore) < 4


def test_synthid_both_ways(model):
    config = SynthIDTextWatermarkingConfig(ngram_len=3, keys=SYNTHID_KEYS)
    scheme = rs.SynthID.from_transformers(config, VOCAB)
    prompts = random_prompts(3)
    theirs = write(model, prompts, 100, watermarking_config=config)[:, 8:]
    ours = write(model, prompts, 100, logits_processor(scheme))[:, 8:]
    # From the same draws the same text: the same scores, from the first token on.
    assert torch.equal(ours, theirs)
    assert rs.score(theirs, scheme).log10_pvalue < -6
    processor = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device="cpu")
    g = processor.compute_g_values(ours)
    windows = np.lib.stride_tricks.sliding_window_view(ours.numpy(), 3, axis=1).reshape(-1, 3)
    np.testing.assert_array_equal(scheme.scores(windows), g.reshape(-1, g.shape[-1]).numpy())


# every scheme


@pytest.mark.parametrize("name", ALL)
def test_what_is_written_is_found(model, name):
    scheme = ALL[name]
    delta = 4.0 if name in GREEN else None
    prompts = random_prompts(4)
    text = write(model, prompts, 100, logits_processor(scheme, delta=delta))
    result = rs.score(text[:, 8:], scheme)
    assert result.log10_pvalue < (-6 if name in TOURNAMENT else -15)
    other = scheme.decoys(1)[0]
    assert rs.score(text[:, 8:], other).log10_pvalue > -4
    # Contexts that reach into the prompt are marked too, where the engine does that.
    if scheme.engine.reach_prompt:
        assert rs.score(text[:, 8:12], scheme, prompts=prompts, prompt_role="context").zscore > 1


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name):
    """A row of a batch that is padded on the left has the scores that it has alone."""
    scheme = ALL[name]
    rng = np.random.default_rng(1)
    lengths = [1, 3, 7]
    prompts = [rng.integers(1, VOCAB, n).tolist() for n in lengths]
    batch = torch.tensor([[0] * (7 - len(p)) + p for p in prompts])
    new = torch.from_numpy(rng.integers(1, 5, (3, 9)))
    logits = torch.from_numpy(rng.normal(size=(9, 3, VOCAB)).astype(np.float32))
    padded = [
        logits_processor(scheme, prompt_lengths=lengths),
        logits_processor(scheme, pad_token_id=0),
    ]
    alone = [logits_processor(scheme) for _ in prompts]
    for step in range(9):
        ids = torch.cat([batch, new[:, :step]], dim=1)
        both = [processor(ids, logits[step]) for processor in padded]
        assert torch.equal(both[0], both[1])
        for i, prompt in enumerate(prompts):
            row = torch.cat([torch.tensor([prompt]), new[i : i + 1, :step]], dim=1)
            torch.testing.assert_close(
                both[0][i : i + 1], alone[i](row, logits[step, i : i + 1]), rtol=1e-5, atol=1e-5
            )
    assert not torch.equal(both[0], logits[8])


@pytest.mark.parametrize("name", [*GUMBEL, *TOURNAMENT])
def test_sampling_keeps_the_distribution(name):
    """Averaged over keys, tokens come as the model's probabilities say, after temperature."""
    scheme = replace(ALL[name], vocab_size=12)
    logits = torch.linspace(-2, 1.5, 12)[None]
    expected = (logits / 0.7).softmax(-1)[0].double().numpy()
    n = 600
    ids = torch.tensor([[7, 3, 1, 4, 9]])
    total = np.zeros(12)
    for i, decoy in enumerate(scheme.decoys(n, seed=2)):
        # The engine's first context of a tournament has nothing of the prompt.
        processor = logits_processor(decoy, temperature=0.7, reach_prompt=True, seed=i)
        total += (processor(ids, logits)[0] == 0).numpy()
    assert total.sum() == n
    assert scipy.stats.chisquare(total, n * expected / expected.sum()).pvalue > 1e-4


def test_the_mark_is_in_the_choice_not_in_the_draw():
    """A single key leaves nothing to chance; of two keys each has its share."""
    logits = torch.zeros(1, VOCAB)
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    for name, scheme in GUMBEL.items():
        left = logits_processor(scheme)(ids, logits).exp()[0]
        shares = left[left > 0].sort().values
        want = [0.3, 0.7] if name == "vllm dual" else [1.0]
        torch.testing.assert_close(shares, torch.tensor(want))
        context = ids[:, 6 - scheme.window_width :].numpy()
        if not scheme.reaches_prompt:
            context = np.full_like(context, scheme.padding)
        best = [scheme.uniforms(context, key).argmax() for key in range(len(want))]
        assert set(best) == set(torch.nonzero(left)[:, 0].tolist())


#: The published number of keys, at which rounding shows.
DEEP = {
    "synthid deep": rs.SynthID(vocab_size=VOCAB, keys=range(1, 31)),
    "deepmind deep": rs.SynthIDDeepMind(vocab_size=VOCAB, keys=range(1, 31)),
}


@pytest.mark.parametrize("top_k", [None, 20])
@pytest.mark.parametrize("name", [*ALL, *DEEP])
def test_marked_scores_are_numbers(name, top_k):
    """Steep scores, where rounding takes sums of probabilities beyond 1."""
    scheme = (ALL | DEEP)[name]
    rng = np.random.default_rng(2)
    scores = torch.from_numpy(rng.normal(size=(200, VOCAB), scale=6).astype(np.float32))
    ids = torch.from_numpy(rng.integers(0, VOCAB, (200, 6)))
    options = {"reach_prompt": True, "top_k": top_k}
    got = logits_processor(scheme, **options)(ids, scores)
    assert not got.isnan().any()
    assert not got.isposinf().any()
    assert torch.isfinite(got).any(-1).all()
    if name not in GREEN:
        torch.testing.assert_close(got.exp().sum(-1), torch.ones(200), rtol=1e-4, atol=0)
    drawn = logits_processor(scheme, seed=1, **options)(ids, scores).argmax(-1, keepdim=True)
    assert (got.softmax(-1).gather(1, drawn) > 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("top_k", [None, 20])
@pytest.mark.parametrize("name", [*ALL, *DEEP])
def test_a_gpu_marks_as_the_cpu_does(name, top_k):
    """The whole vocabulary from kept rows and, after top-k, single tokens."""
    check_devices((ALL | DEEP)[name], "cuda", top_k)


def check_devices(scheme, device, top_k):
    rng = np.random.default_rng(4)
    ids = torch.from_numpy(rng.integers(0, VOCAB, (16, 6)))
    scores = torch.from_numpy(rng.normal(size=(16, VOCAB + 8), scale=2).astype(np.float32))
    options = {"reach_prompt": True, "top_k": top_k, "candidates": None, "temperature": 0.8}
    on_cpu, there = (logits_processor(scheme, **options) for _ in range(2))
    for _ in range(2):  # the second time from the kept rows
        expected = on_cpu(ids, scores)
        got = there(ids.to(device), scores.to(device))
        assert got.device.type == torch.device(device).type
        assert not torch.equal(expected, scores / 0.8)
        torch.testing.assert_close(got.cpu().softmax(-1), expected.softmax(-1))
    seeds = [{**options, "seed": list(range(16))}, {**options, "seed": 3}]
    if scheme.core.score_kind == "green":
        seeds.append({**options, "temperature": 0})
    for how in seeds:
        expected = logits_processor(scheme, **how)(ids, scores)
        got = logits_processor(scheme, **how)(ids.to(device), scores.to(device))
        assert torch.equal(got.cpu(), expected)


# contexts


def marks(scheme, ids, **options):
    """Whether each position of a text after its first token was marked."""
    processor = logits_processor(scheme, **options)
    scores = torch.zeros(1, VOCAB)
    ids = torch.tensor([ids])
    lengths = range(1, ids.shape[1] + 1)
    return [not torch.equal(processor(ids[:, :n], scores), scores) for n in lengths]


@pytest.mark.parametrize("name", ALL)
def test_repeated_contexts(name):
    scheme = ALL[name]
    text = [9] + [1, 2, 3, 4, 5] * 3
    width = scheme.window_width - 1
    again = marks(scheme, text, repeated="mark")
    once = marks(scheme, text, repeated="skip")
    # Complete contexts begin after `width` tokens; padded ones are marked by two engines.
    first = 0 if scheme.engine.fill is not None else width - 1
    assert again == [i >= first for i in range(len(text))]
    if width == 1:
        # 9 1 2 3 4 5 are new, all others come again.
        assert once == [True] * 6 + [False] * 10
    elif scheme.engine.reach_prompt:
        # The first that comes again is 1 2 .. behind the second 1.
        assert once == [first <= i < 5 + width for i in range(len(text))]
    default = once if scheme.engine.history else again
    assert marks(scheme, text) == default


def test_history_and_distinct_contexts_are_bounded():
    """vLLM looks back 8,192 positions, SGLang marks 4,096 distinct contexts of a text."""
    rng = np.random.default_rng(0)
    vocab = 20_000
    scores = torch.zeros(1, vocab)

    def marked(scheme, ids):
        processor = logits_processor(scheme)
        tensor = torch.from_numpy(np.asarray(ids)[None])
        processor(tensor[:, :4], scores)
        processor._length = len(ids) - 1  # as if all tokens between had come one by one
        return not torch.equal(processor(tensor, scores), scores)

    vllm = rs.VLLMGumbel(vocab_size=vocab, key=1)
    tail = [5, 6, 7, 8]
    for between, want in ((8188, False), (8193, True)):
        ids = np.concatenate([[1, 2, 3, 4], tail, rng.integers(10, vocab, between - 4), tail])
        assert marked(vllm, ids) == want
    sglang = rs.SGLangGumbel(vocab_size=vocab, key=1)
    fresh = rng.permutation(vocab)
    assert marked(sglang, fresh[: 4 + 4095])
    assert not marked(sglang, fresh[: 4 + 4096])
    looping = np.concatenate([fresh[:4000], np.tile(fresh[10:20], 30), [1, 2, 3, 4]])
    assert marked(sglang, looping)


def test_a_new_generation_needs_no_reset(model):
    """One processor, several calls of generate, also with the prompt of before."""
    scheme = GUMBEL["keyed gumbel"]
    processor = logits_processor(scheme, seed=1)
    first, other = random_prompts(2), random_prompts(3, width=5, seed=9)
    expected = [
        write(model, ids, 20, logits_processor(scheme, seed=1)) for ids in (first, other, first)
    ]
    for ids, text in zip((first, other, first), expected, strict=True):
        assert torch.equal(write(model, ids, 20, processor), text)


def test_several_sequences_a_prompt(model):
    """`generate` repeats the rows of prompts; their lengths are repeated with them."""
    scheme = GREEN["keyed"]
    prompts = torch.tensor([[0, 0, 0, 5, 6, 7], [1, 2, 3, 4, 5, 6]])
    processor = logits_processor(scheme, delta=6.0, prompt_lengths=[3, 6])
    mask = (prompts > 0).long()
    text = write(model, prompts, 60, processor, attention_mask=mask, num_return_sequences=3)
    assert text.shape[0] == 6
    assert rs.score(text[:, 6:], scheme).log10_pvalue < -20


def test_ids_beyond_the_vocabulary():
    """They are neither marked nor lost, and contexts that hold them are not marked."""
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.normal(size=(1, VOCAB + 20)).astype(np.float32))
    probs = scores.softmax(-1)[0, VOCAB:]
    for scheme in ALL.values():
        processor = logits_processor(scheme, reach_prompt=True)
        got = processor(torch.tensor([[4, 5, 6, 7]]), scores)
        assert not torch.equal(got, scores)
        after = got.softmax(-1)[0]
        if scheme.core.score_kind == "green":
            torch.testing.assert_close(got[0, VOCAB:], scores[0, VOCAB:])
        else:
            torch.testing.assert_close(after[VOCAB:], probs, rtol=1e-4, atol=1e-7)
        unmarked = processor(torch.tensor([[4, 5, 6, VOCAB]]), scores)
        assert torch.equal(unmarked, scores)
        with pytest.raises(rs.errors.ModelError, match=f"vocab_size={VOCAB}"):
            logits_processor(scheme)(torch.tensor([[4]]), scores[:, :100])


@pytest.mark.parametrize("name", ALL)
def test_a_few_tokens_are_marked_as_all_are(name, monkeypatch):
    """Where top-k or top-p leave few tokens, only these are looked at."""
    rng = np.random.default_rng(8)
    scores = torch.from_numpy(rng.normal(size=(4, VOCAB + 3), scale=2).astype(np.float32))
    ids = torch.from_numpy(rng.integers(0, VOCAB, (4, 6)))
    scheme = ALL[name]

    def after(dense):
        with monkeypatch.context() as change:
            change.setattr(marking, "_DENSE", 0 if dense else 1 / 16)
            options = {"top_k": 20, "reach_prompt": True, "candidates": None}
            return logits_processor(scheme, **options)(ids, scores).softmax(-1)

    torch.testing.assert_close(after(dense=False), after(dense=True), rtol=1e-5, atol=1e-9)
    assert ((after(dense=False) > 0).sum(-1) <= 20).all()


def test_all_candidates_of_a_self_salted_scheme():
    scheme = rs.KGW.from_transformers({"seeding_scheme": "selfhash", "context_width": 3}, VOCAB)
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(2, VOCAB)).astype(np.float32))
    ids = torch.tensor([[3, 4, 5], [5, 6, 7]])
    whole = logits_processor(scheme, candidates=None)(ids, scores) - scores
    mask = torch.from_numpy(scheme.green_mask(ids[:, 1:].numpy()))
    torch.testing.assert_close(whole, 2.0 * mask)
    few = logits_processor(scheme, candidates=7)(ids, scores) - scores
    top = torch.zeros_like(mask).scatter_(1, scores.topk(7).indices, value=True)
    torch.testing.assert_close(few, 2.0 * (mask & top))


# temperature, top-k, top-p and draws


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_warps_are_those_of_transformers(top_p, scale):
    """Flat scores over a large vocabulary, where the nucleus needs a whole sort, and steep ones."""
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.normal(size=(3, 5000), scale=scale).astype(np.float32))
    expected = TopPLogitsWarper(top_p)(None, scores / 0.8)
    got = warp(scores, 0.8, None, top_p)
    different = (torch.isfinite(got) != torch.isfinite(expected)).sum()
    assert different <= 3  # a sum that is rounded to the other side of top_p
    both = torch.isfinite(got) & torch.isfinite(expected)
    assert torch.equal(got[both], expected[both])
    top = TopKLogitsWarper(20)(None, scores)
    assert torch.equal(warp(scores, 1.0, 20, 1.0), top)
    assert torch.equal(warp(scores, 1.0, None, 1.0), scores)


def test_draws():
    probs = np.array([0.1, 0.0, 0.4, 0.2, 0.0, 0.3])
    scores = torch.log(torch.from_numpy(probs))[None].repeat(4000, 1)
    tokens = draw(scores, [uniform(str(i), 3) for i in range(4000)]).numpy()
    counts = np.bincount(tokens, minlength=6)
    assert counts[1] == counts[4] == 0
    assert scipy.stats.chisquare(counts[probs > 0], 4000 * probs[probs > 0]).pvalue > 1e-4
    assert draw(scores[:2], [0.0, 1 - 2**-53]).tolist() == [0, 5]
    assert len({uniform("1/0", 0), uniform("1/0", 1), uniform("1/1", 0), uniform("2/0", 0)}) == 4


def test_seeds(model):
    """A seed fixes the text, whatever torch's own generator does and whatever is beside it."""
    prompts = random_prompts(3)
    for scheme in (None, GREEN["keyed"], GUMBEL["vllm dual"], TOURNAMENT["synthid"]):
        options = {"temperature": 0.9, "top_p": 0.95}
        one = write(model, prompts, 25, logits_processor(scheme, seed=[7, 8, 9], **options))
        two = write(
            model,
            prompts[[2, 0]],
            25,
            logits_processor(scheme, seed=[9, 7], **options),
            torch_seed=5,
            do_sample=False,
        )
        assert torch.equal(two, one[[2, 0]])
        other = write(model, prompts, 25, logits_processor(scheme, seed=[1, 2, 3], **options))
        assert not torch.equal(other, one)


def test_temperature_0_takes_the_best_after_the_bias():
    scheme = GREEN["keyed"]
    scores = torch.from_numpy(np.random.default_rng(5).normal(size=(1, VOCAB)).astype(np.float32))
    ids = torch.tensor([[8, 9]])
    got = logits_processor(scheme, temperature=0, delta=5.0)(ids, scores)
    green = torch.from_numpy(scheme.green_mask(ids.numpy()))
    assert int(got.argmax()) == int((scores + 5 * green).argmax())
    assert int(torch.isfinite(got).sum()) == 1


@pytest.mark.parametrize("scheme", [None, GREEN["keyed"], GUMBEL["vllm"], TOURNAMENT["synthid"]])
@pytest.mark.parametrize("flaw", ["nan", "inf", "-inf"])
def test_logits_that_are_no_numbers_are_refused(scheme, flaw):
    """They would become token 0 unseen; also where another row is fine."""
    ids = torch.tensor([[3, 4, 5, 6, 7], [5, 6, 7, 8, 9]])
    scores = torch.zeros(2, VOCAB)
    scores[1, slice(7, 8) if flaw != "-inf" else slice(None)] = float(flaw)
    match = "logits are no numbers .(NaN|infinite)"
    for options in ({}, {"seed": 1}, {"top_p": 0.9, "top_k": 5, "seed": 1}):
        with pytest.raises(rs.errors.ModelError, match=match):
            logits_processor(scheme, **options)(ids, scores)
    if scheme is None or scheme.core.score_kind == "green":
        with pytest.raises(rs.errors.ModelError, match=match):
            logits_processor(scheme, temperature=0)(ids, scores)
    with pytest.raises(rs.errors.ModelError, match="no token can be drawn"):
        draw(scores, [0.5, 0.5])


def test_the_smallest_temperature():
    """It takes the best token, as 0 does; what is smaller could give 0/0 and is refused."""
    scores = torch.tensor([[1.0, 3e4, 2.0, -3e4], [-5e4, -4e4, -4.01e4, -torch.inf]])
    ids = torch.tensor([[1, 2], [2, 3]])
    for temperature in (0, 1e-6):
        got = logits_processor(None, temperature=temperature, seed=4)(ids, scores)
        assert got.argmax(-1).tolist() == [1, 1]
    for temperature in (9e-7, 1e-30, 1e-50, 5e-324):
        with pytest.raises(
            rs.errors.ArgumentError, match=r"temperature must be 0 .* or from 1e-06"
        ):
            logits_processor(None, temperature=temperature)


def test_half_precision():
    scheme = GREEN["keyed"]
    scores = torch.linspace(-1, 1, VOCAB)[None].to(torch.bfloat16)
    got = logits_processor(scheme)(torch.tensor([[8, 9]]), scores)
    assert got.dtype == torch.float32
    torch.testing.assert_close((got - scores.float()).unique(), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "kgw"}, "scheme must be a Scheme or None, not str"),
        ({"scheme": GUMBEL["vllm"], "delta": 2.0}, "delta has no effect with vllm_gumbel"),
        ({"scheme": None, "delta": 2.0}, "delta has no effect with no scheme"),
        ({"delta": "2"}, "delta must be a number"),
        ({"delta": float("nan")}, "delta must be a number"),
        ({"temperature": -1}, "temperature must be a number from 0 to 10000, not -1"),
        ({"scheme": TOURNAMENT["synthid"], "temperature": 0}, "temperature must be above 0"),
        ({"top_p": 1.5}, "top_p must be a number from 0 to 1"),
        ({"top_k": 0}, "top_k must be from 1"),
        ({"candidates": 0}, "candidates must be from 1"),
        ({"repeated": "never"}, "repeated must be one of engine, mark, skip"),
        ({"pad_token_id": -1}, "pad_token_id must be from 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(rs.errors.ArgumentError, match=message):
        logits_processor(**{"scheme": GREEN["keyed"], **options})


def test_wrong_batches():
    ids, scores = torch.ones(3, 4, dtype=torch.long), torch.zeros(3, VOCAB)
    with pytest.raises(
        rs.errors.ArgumentError, match="prompt_lengths must have one entry a prompt"
    ):
        logits_processor(GREEN["keyed"], prompt_lengths=[4, 4])(ids, scores)
    with pytest.raises(rs.errors.ArgumentError, match="prompt_lengths must be from 0 to 4"):
        logits_processor(GREEN["keyed"], prompt_lengths=[4, 4, 5])(ids, scores)
    with pytest.raises(rs.errors.ArgumentError, match="seed must have one entry a row: 3, not 2"):
        logits_processor(GREEN["keyed"], seed=[4, 4])(ids, scores)


def test_it_is_a_logits_processor_that_shows_no_key():
    processor = logits_processor(rs.SBW(vocab_size=VOCAB, key=987654321))
    assert isinstance(processor, transformers.LogitsProcessor)
    assert isinstance(processor, Processor)
    assert "987654321" not in repr(processor) + str(vars(processor))


def test_synthid_is_marked_and_read_from_the_first_token_on(model):
    """The zeros before a text are transformers' own context: its g-values at every position."""
    config = SynthIDTextWatermarkingConfig(ngram_len=4, keys=SYNTHID_KEYS)
    scheme = rs.SynthID.from_transformers(config, VOCAB)
    texts = write(model, random_prompts(60), 8, watermarking_config=config)[:, 8:]
    processor = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device="cpu")
    g = processor.compute_g_values(torch.nn.functional.pad(texts, (3, 0))).double().mean(-1)
    found = rs.score_positions(texts.tolist(), scheme, dedup="none")
    assert (found.status == 0).all()
    np.testing.assert_allclose(found.scores, g.flatten().numpy(), rtol=1e-12)
    # The first three tokens carry the mark, which scoring from position 3 on would leave out.
    share, n = float(scheme.share), 3 * 60 * len(SYNTHID_KEYS)
    assert (g[:, :3].mean() - share) / np.sqrt(share * (1 - share) / n) > 6
    assert rs.score(texts.tolist(), scheme, start=3).n_windows == 60 * 5
