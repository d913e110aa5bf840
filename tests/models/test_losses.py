"""Losses when the text, the tokenizer or the model is out of the ordinary."""

import numpy as np
import pytest
import torch
from radscore.errors import ModelError
from radscore.models import LanguageModel
from radscore.models.losses import document_losses
from tiny import VOCAB, starting, tiny_llama


@pytest.mark.parametrize("batch_tokens", [1, 30, 1000])
def test_the_start_token_is_read_once(batch_tokens):
    """A document that brings its own has the same loss as without it."""
    model = starting()
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 120, size=n).tolist() for n in (9, 1, 5, 12, 255)]
    plain = document_losses(model, docs, batch_tokens=batch_tokens)
    mixed = [[VOCAB - 2, *doc] if i % 2 == 0 else doc for i, doc in enumerate(docs)]
    ours = document_losses(model, mixed, batch_tokens=batch_tokens)
    np.testing.assert_allclose(ours, plain, rtol=1e-5)
    assert np.isnan(document_losses(model, [[VOCAB - 2], []], batch_tokens=batch_tokens)).all()
    with pytest.raises(ModelError, match="a text of 257 tokens is beyond the 256"):
        document_losses(model, [[*docs[4], 1]])
    assert document_losses(model, []).shape == (0,)


def test_losses_that_are_not_finite_are_an_error():
    def forbid(module, args, output):
        output.logits[..., 0] = -torch.inf

    network = tiny_llama()
    network.register_forward_hook(forbid)
    model = LanguageModel(network, None, "forbidding", VOCAB, 256)
    # token 0 pads the shorter texts, and does not count
    docs = [[1, 2, 3, 4, 5, 6], [7, 8, 9]]
    alone = [document_losses(model, [doc])[0] for doc in docs]
    np.testing.assert_allclose(document_losses(model, docs), alone, rtol=1e-5)
    with pytest.raises(ModelError, match="forbidding gives a loss that is infinite"):
        document_losses(model, [*docs, [1, 0, 2]])
    with torch.no_grad():
        network.model.embed_tokens.weight[9] = torch.nan
    with pytest.raises(ModelError, match="forbidding gives a loss that is NaN"):
        document_losses(model, [*docs[:1], [9, 1, 2]])
