"""The model of the calibration that lists tokens is what a server tells of the same network."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from radscore.answers import EndpointModel, Limits
from radscore.models import Weighting
from radscore.models.live import Reading
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.answers.reading_server import ReadingServer
from tools.calibration.models import Habits, Induction, Listing
from tools.calibration.world import VOCAB, World


def words():
    raw = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="w0")


@pytest.mark.parametrize(("kind", "at_end"), [("vllm", False), ("sglang", False), ("ids", True)])
def test_it_lists_what_a_server_does(kind, at_end):
    world = World(np.random.default_rng(1))
    network = Habits.of(world.habits, VOCAB)
    network.table += torch.from_numpy(world.rng.random((VOCAB, VOCAB)) / 10)  # no ties
    texts = [*world.loops(world.text(4, 20), 30)]
    how = Weighting("contrast", transform="damped_relative", centred=True)
    options = {"context_width": 2, "weighting": how, "reference": Induction.of(VOCAB)}
    tokenizer = words()
    reads = "one-token" if at_end else "auto"
    with (
        ReadingServer(network, tokenizer.backend_tokenizer, {kind}) as server,
        EndpointModel(
            server.url, "m", tokenizer=tokenizer, logprobs=4, reads=reads, limits=Limits()
        ) as model,
    ):
        (theirs,) = Reading(model, texts, **options)
    (mine,) = Reading(Listing(network, 4, at_end=at_end), texts, **options)
    assert (mine.weights != 0).sum() > (8 if at_end else 300)
    for column in ("contexts", "targets", "occurrences"):
        assert np.array_equal(getattr(mine, column), getattr(theirs, column)), column
    assert np.allclose(mine.weights, theirs.weights, atol=1e-5)
