"""Reading over an API: what comes back is what the network itself predicts."""

import asyncio
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.answers import EndpointModel, Limits
from radscore.answers.reading_api import matched_length, same_ends
from radscore.audits.open import test_open as opened
from radscore.errors import ArgumentError, ModelError, StateError
from radscore.models import Weighting, load_model, predict
from radscore.models.live import Reading
from radscore.models.predictions import unfinished
from radscore.models.token_strings import TokenStrings
from tokenizers import Tokenizer

from .reading_server import ReadingServer

ROOT = Path(__file__).parents[2] / "experiments"
WORDS = ROOT / "models" / "tokenizer.json"
FAST = Limits(retries=2, timeout=60)
MASS = Weighting("mass", max_weights=20, min_weight=0.0)


@pytest.fixture(scope="module")
def models():
    names = ("rho-10", "control", "reference")
    return {n: load_model(ROOT / "models" / n, tokenizer=WORDS, device="cpu") for n in names}


@pytest.fixture(scope="module")
def words():
    return Tokenizer.from_file(str(WORDS))


@pytest.fixture(scope="module")
def fresh():
    with np.load(ROOT / "models" / "texts.npz") as arrays:
        return list(arrays["fresh"].astype(np.int64))


@pytest.fixture(scope="module")
def canonical(words, fresh):
    """Texts whose tokens are those that the tokenizer makes of them."""
    texts = [words.decode(ids[:120].tolist(), skip_special_tokens=False) for ids in fresh[:40]]
    found = [np.array(words.encode(text, add_special_tokens=False).ids) for text in texts]
    return [ids for ids, text in zip(found, texts, strict=True) if "\ufffd" not in text][:5]


@pytest.fixture(scope="module")
def scheme():
    return rs.Keyed(
        key=rs.Key.from_file(ROOT / "alice.key"), vocab_size=4096, gamma=0.25, context_width=2
    )


def behind(server, **options):
    return EndpointModel(server.url, "m", tokenizer=WORDS, **{"limits": FAST, **options})


def weights(pairs):
    """By position and token."""
    return {
        (int(o), int(t)): float(w)
        for one in pairs
        for o, t, w in zip(one.occurrences, one.targets, one.weights, strict=True)
        if w
    }


def close(one, other):
    assert one.keys() == other.keys()
    assert all(abs(one[key] - other[key]) < 1e-4 for key in one)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "echo", "shifted"])
def test_predictions_over_an_api_are_the_local_models(kind, models, words, canonical):
    local = weights(Reading(models["rho-10"], canonical, context_width=2, weighting=MASS))
    with ReadingServer(models["rho-10"].model, words, {kind}) as server, behind(server) as model:
        assert model.reads == ("echo" if kind == "shifted" else kind)
        reading = Reading(model, canonical, context_width=2, weighting=MASS)
        remote = weights(reading)
        totals = reading.totals
    if kind in ("vllm", "sglang"):
        close(remote, local)
        assert not totals.removed
    else:  # what the server's strings do not tell is left out, and nothing else
        last = {(o, t) for o, t in local if o + 1 in np.cumsum([len(ids) for ids in canonical])}
        last = last if kind == "shifted" else set()
        assert remote.keys() <= local.keys()
        close(remote, {key: value for key, value in local.items() if key in remote})
        assert "likely tokens that the server's strings do not tell" in totals.removed
        assert len(local.keys() - remote.keys() - last) < 0.01 * len(local)
    assert totals.n_tokens == sum(map(len, canonical))
    assert totals.usage["requests"] == totals.usage["completion_tokens"] == len(canonical) + 1
    assert "through an API" in totals.notes[-1]


@pytest.mark.parametrize(
    ("kind", "weighting"),
    [
        ("vllm", Weighting("contrast", centred=0.75)),
        ("sglang", Weighting("contrast", transform="roots", centred=False)),
        ("vllm", Weighting("matched")),
    ],
)
def test_the_radioactive_model_is_found_over_http(  # noqa: PLR0917
    kind, weighting, models, words, fresh, scheme
):
    found = {}
    for name in ("rho-10", "control"):
        with ReadingServer(models[name].model, words, {kind}) as server, behind(server) as model:
            reference = models["reference"]
            found[name] = opened(
                model, fresh[:32], scheme, reference=reference, weighting=weighting
            )
    assert found["rho-10"].log10_pvalue < -3
    assert found["control"].log10_pvalue > -2
    assert any("through an API" in note for note in found["control"].notes)


def test_a_reference_behind_an_api(models, words, fresh, scheme):
    texts = fresh[:32]
    found = {}
    with (
        ReadingServer(models["reference"].model, words, {"vllm"}) as other,
        behind(other) as reference,
    ):
        for name in ("rho-10", "control"):
            with (
                ReadingServer(models[name].model, words, {"sglang"}) as server,
                behind(server) as m,
            ):
                found[name] = opened(m, texts, scheme, reference=reference)
                with pytest.raises(ArgumentError, match="needs a reference on this machine"):
                    opened(m, texts[:1], scheme, reference=reference, weighting="matched")
        with pytest.raises(ArgumentError, match="reference must be on this machine"):
            opened(models["control"], texts[:1], scheme, reference=reference)
    assert found["rho-10"].weighting == "contrast (damped_relative, centred by 0.75)"
    assert found["rho-10"].log10_pvalue < -3
    assert found["control"].log10_pvalue > -2


@pytest.mark.parametrize("kind", ["vllm", "ids", "text", "chat"])
def test_one_token_after_each_document(kind, models, words, canonical):
    documents = [ids[: 20 + 7 * i] for i, ids in enumerate(canonical)]
    ends = np.cumsum([len(ids) for ids in documents]) - 1
    local = weights(Reading(models["rho-10"], documents, context_width=2, weighting=MASS))
    reads = "one-token-chat" if kind == "chat" else "one-token"
    with (
        ReadingServer(models["rho-10"].model, words, {kind}) as server,
        behind(server, reads=reads) as model,
    ):
        reading = Reading(model, documents, context_width=2, weighting=MASS)
        remote = weights(reading)
    ours = {(o, t): w for (o, t), w in remote.items()}
    assert {o for o, _ in ours} == set(ends.tolist())
    expected = {(o, t): w for (o, t), w in local.items() if o in ends}
    assert ours.keys() <= expected.keys()
    assert len(ours) > 0.9 * len(expected)
    close(ours, {key: value for key, value in expected.items() if key in ours})
    assert reading.totals.n_scored_positions == len(documents)
    # every position is there all the same: it shows what was read
    assert len(server.bodies) == len(documents) + {"ids": 1, "text": 3}.get(kind, 1)


def test_documents_longer_than_the_server_takes(models, words, fresh):
    long = np.concatenate(fresh[:3])
    local = weights(
        Reading(models["rho-10"], [long], context_width=2, weighting=MASS, max_length=256)
    )
    with ReadingServer(models["rho-10"].model, words, {"vllm"}) as server, behind(server) as model:
        assert model.max_length == 256
        close(weights(Reading(model, [long], context_width=2, weighting=MASS)), local)
        assert max(len(body["prompt"]) for _, body in server.bodies) == 256


def test_text_of_other_tokens_counts_where_both_end(models, words, fresh):
    """What models write need not be the tokens that a server makes of its text."""
    with ReadingServer(models["rho-10"].model, words, {"echo"}) as server, behind(server) as model:
        reading = Reading(model, fresh[:4], context_width=2, weighting=MASS)
        positions = {o for o, _ in weights(reading)}
        removed = reading.totals.removed["positions where the server's tokens end elsewhere"]
        with pytest.raises(ArgumentError, match="takes text and not token ids"):
            Reading(model, fresh[:4], context_width=2, weighting=MASS, text_watermarked=True)
    strings = TokenStrings(words)
    common = 0
    for ids in fresh[:4]:
        text = words.decode(ids.tolist(), skip_special_tokens=False)
        other = words.encode(text, add_special_tokens=False).ids
        ends = [
            set(np.cumsum([len(strings.bytes_of(i)) for i in some]).tolist())
            for some in (ids.tolist()[1:], other)
        ]
        first = len(strings.bytes_of(int(ids[0])))
        common += len({end + first for end in ends[0]} & ends[1])
    assert 0 < removed < 40
    assert len(positions) <= common


def test_tokens_are_matched_and_texts_aligned(words):
    strings = TokenStrings(words)
    ids = words.encode("The river runs — by the mill", add_special_tokens=False).ids
    shown = [words.decode([i]).replace("\ufffd", "") for i in ids]
    assert matched_length(shown, ids, strings) == (0, len(ids))
    assert matched_length(shown[1:], ids, strings) == (1, len(ids))  # without a start token
    assert matched_length(["<s>", *shown, " x"], ids, strings) == (-1, len(ids))
    assert matched_length([*shown[:2], "zzz", *shown[3:]], ids, strings) == (0, 2)
    assert same_ends(ids, ids, strings).tolist() == list(range(len(ids)))
    letters = [words.token_to_id(letter) for letter in "the"]
    whole = words.encode("the", add_special_tokens=False).ids
    assert same_ends(letters, whole, strings)[-1] == len(whole) - 1
    assert same_ends(letters, [*whole, *whole], strings).tolist() == [-1, -1, -1]


def test_an_interrupted_reading_goes_on(models, words, fresh, tmp_path):
    documents = [*fresh[:12]]
    local = predict(
        models["rho-10"], documents, tmp_path / "l.arrow", context_width=2, weighting=MASS
    )
    limits = Limits(concurrency=1, retries=0, give_up_after=1, timeout=60)

    def fail(number):
        return (500, {"error": "broken"}) if server.broken and number > 8 else None

    server = ReadingServer(models["rho-10"].model, words, {"vllm"}, fail=fail)
    server.broken = True
    path = tmp_path / "p.arrow"
    options = {"context_width": 2, "weighting": MASS}
    with server:
        with behind(server, limits=limits) as model:
            type(model).pool_tokens, kept = 600, type(model).pool_tokens
            with pytest.raises(ModelError, match="questions in a row failed, the last with 500"):
                predict(model, documents, path, **options)
            type(model).pool_tokens = kept
        left = rs.models.Predictions(unfinished(path)).totals
        assert 0 < left.n_documents < len(documents)
        server.broken, before = False, len(server.bodies)
        with behind(server, logprobs=5) as model, pytest.raises(StateError, match="another model"):
            predict(model, documents, path, **options)
        with behind(server) as model:
            made = predict(model, documents, path, **options)
            assert made.n_before == left.n_documents
            assert model.budget.usage.requests > left.usage["requests"]
    assert len(server.bodies) - before == len(documents) - left.n_documents + 2
    assert (
        made.totals.usage["requests"] == left.usage["requests"] + len(documents) - made.n_before + 1
    )
    assert weights(made) == pytest.approx(weights(local), abs=1e-3)


def test_budgets_and_costs(models, words, fresh):
    with ReadingServer(models["rho-10"].model, words, {"vllm"}) as server:
        with behind(server, max_tokens_total=1000, price_in=1.0, price_out=2.0) as model:
            with pytest.raises(ModelError, match="max_tokens_total=1000 would be exceeded"):
                list(Reading(model, fresh[:9], context_width=2, weighting=MASS))
            usage = model.spent
            assert usage["prompt_tokens"] + usage["completion_tokens"] <= 1000
            assert model.budget.cost == pytest.approx(
                (usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6
            )
        with pytest.raises(ModelError, match="max_tokens_total=3 would be exceeded"):
            behind(server, max_tokens_total=3)


def test_requests_that_fail_are_left_out(models, words, canonical):
    def fail(number):
        return (400, {"error": {"message": "too long"}}) if number == 3 else None

    with (
        ReadingServer(models["rho-10"].model, words, {"vllm"}, fail=fail) as server,
        behind(server, limits=Limits(concurrency=1)) as model,
    ):
        reading = Reading(model, canonical, context_width=2, weighting=MASS)
        made = weights(reading)
    assert reading.totals.removed == {"requests that failed": 1}
    counts = np.cumsum([0, *map(len, canonical)])
    read = [any(a <= o < b for o, _ in made) for a, b in pairwise(counts.tolist())]
    assert sum(read) == len(canonical) - 1


def test_what_cannot_be_read_says_why(models, words):
    network = models["rho-10"].model
    with ReadingServer(network, words, {"text"}) as server:
        with pytest.raises(ModelError, match=r"no log-probabilities of prompts.*one-token"):
            behind(server)
        with pytest.raises(ModelError, match="logprobs must be at most 20"):
            behind(server, logprobs=21, reads="one-token")
        with pytest.raises(ArgumentError, match="reads must be one of"):
            behind(server, reads="guess")
        with pytest.raises(ArgumentError, match="tokenizer must be the model's"):
            EndpointModel(server.url, "m", tokenizer=None)
    with ReadingServer(network, words, {"echo"}) as server:
        other = ROOT.parent / "demo" / "tokenizer.json"
        with pytest.raises(ModelError, match="its tokens are not the tokenizer's"):
            EndpointModel(server.url, "m", tokenizer=other, limits=FAST)
    with pytest.raises(ModelError, match="no connection"):
        behind(server)


def test_it_is_no_network(models, words, fresh):
    with ReadingServer(models["rho-10"].model, words, {"vllm"}) as server, behind(server) as model:
        assert "EndpointModel('m at http://" in repr(model)
        same = behind(server)
        assert same.fingerprint == model.fingerprint
        same.close()
        with behind(server, logprobs=7) as other:
            assert other.fingerprint != model.fingerprint
        with pytest.raises(ModelError, match="cannot generate text"):
            rs.models.generate(model, ["a"], "never")
        with pytest.raises(ArgumentError, match="within a running event loop"):
            asyncio.run(_within(model, fresh))


async def _within(model, fresh):
    list(Reading(model, fresh[:1], context_width=2, weighting=MASS))


def test_a_wrong_address_is_named(models, words):
    with (
        ReadingServer(models["rho-10"].model, words, set()) as server,
        pytest.raises(ModelError, match=r"404.*ends in /v1; reads='one-token' \(--one-token\)"),
    ):
        behind(server)
