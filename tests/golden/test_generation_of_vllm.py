"""Contexts at generation are vLLM's: padded by -1 from the first token on, never the prompt."""

import numpy as np
import pytest
import radscore as rs

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

#: vLLM's `deduplicate_contexts`, as `logits_processor` says it.
REPEATED = {"none": "mark", "single_turn": "engine", "all": "all"}


def test_contexts_of_generated_tokens(golden):
    """After even logits the mark alone decides: the highest uniform of vLLM's own context."""
    from radscore.models import logits_processor

    seen = set()
    for case in golden("vllm_generation")["rows"]:
        scope, history = case["deduplicate_contexts"], case["max_history"]
        config = {"key": 42, "context_width": case["context_width"]}
        config |= {"deduplicate_contexts": scope, "deduplicate_contexts_max_history": history}
        scheme = rs.VLLMGumbel.from_vllm(config, 8)
        history = 2**40 if history is None else history
        options = {} if scope == "none" else {"history": history}
        processor = logits_processor(scheme, repeated=REPEATED[scope], **options)
        for n in range(len(case["generated"]) + 1):
            ids = torch.tensor([case["prompt"] + case["generated"][:n]])
            scores = processor(ids, torch.zeros(1, 8))
        marked = not torch.equal(scores, torch.zeros(1, 8))
        assert marked == case["marked"], case
        if marked:
            uniforms = scheme.uniforms([case["context"]])[0]
            assert scores[0].argmax() == uniforms.argmax(), case
            padded = [-1] * case["context_width"] + case["generated"]
            assert padded[-case["context_width"] :] == case["context"]
        seen.add((scope, marked))
    assert seen == {("none", True), ("single_turn", True), ("single_turn", False), ("all", True)}


def test_scope_all():
    """Contexts that the prompt holds stay unmarked, and those that are not all generated."""
    from radscore.models import logits_processor

    scheme = rs.VLLMGumbel(vocab_size=8, key=1, context_width=2)
    processor = logits_processor(scheme, repeated="all")
    prompt, generated, marked = [1, 2, 3], [5, 1, 2, 6, 5, 1], []
    for n in range(len(generated) + 1):
        ids = torch.tensor([prompt + generated[:n]])
        marked.append(not torch.equal(processor(ids, torch.zeros(1, 8)), torch.zeros(1, 8)))
    # After 5 1 first, after 1 2 of the prompt, 2 6, 6 5, and 5 1 again.
    assert marked == [False, False, True, False, True, True, False]
    near = logits_processor(scheme, repeated="all", history=3)
    for n in range(len(generated) + 1):
        ids = torch.tensor([prompt + generated[:n]])
        last = near(ids, torch.zeros(1, 8))
    assert not torch.equal(last, torch.zeros(1, 8))  # the first 5 1 is four positions back
    with pytest.raises(rs.errors.ArgumentError, match="history has no effect with repeated='mark'"):
        logits_processor(scheme, repeated="mark", history=3)


def test_what_is_written_is_read_from_the_first_token_on(golden):
    """Even logits under one key give the same first token everywhere: the padded context's."""
    from radscore.models import logits_processor

    assert golden("vllm_generation")["rows"]
    scheme = rs.VLLMGumbel(vocab_size=500, key=7, context_width=4)
    processor = logits_processor(scheme, repeated="mark")
    texts = torch.from_numpy(np.random.default_rng(0).integers(0, 500, (5, 6)))
    for _ in range(6):
        scores = processor(texts, torch.zeros(5, 500))
        texts = torch.cat([texts, scores.argmax(-1, keepdim=True)], dim=1)
    written = texts[:, 6:].tolist()
    assert written == [written[0]] * 5
    found = rs.score_positions(written[:1], scheme)
    assert found.status.tolist() == [0] * 6
    assert (found.scores > 4).all()  # each token is the best of 500
    result = rs.score(written, scheme)
    assert (result.n_windows, result.n_scored, result.n_duplicates) == (30, 6, 24)
