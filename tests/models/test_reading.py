"""Reading: batched results equal those of reading one document at a time; nothing is lost."""

import numpy as np
import pytest
import radscore as rs
import torch
from radscore.errors import ArgumentError, ModelError, TokenError
from radscore.models import LanguageModel, Reader, Weighting, as_language_model
from radscore.models.batching import Piece, batches
from radscore.models.passages import passages, prefix_of
from tiny import VOCAB, listed, logits, starting, tiny_llama, word_tokenizer

MASS = Weighting("mass", max_weights=12, min_weight=1e-3)
WIDTH = 2


@pytest.fixture(scope="module")
def words():
    """The same network, with a tokenizer and a chat template."""
    network = tiny_llama()
    return LanguageModel(network, word_tokenizer(), "words", VOCAB, 256)


def documents(n=30, longest=50, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 120, size=rng.integers(0, longest)) for _ in range(n)]


def read(model, text, weighting=MASS, *, width=WIDTH, reference=None, **options):
    """All pairs as one list of (occurrence, context, target, weight)."""
    reader = Reader(model, reference, weighting, limit=options.pop("limit", VOCAB), **options)
    portions = list(reader.read(passages(text, model, width)))
    assert portions[-1].last
    return listed(portions), reader.counts


def logits_of(model, ids):
    return logits(model.model, np.asarray(ids, dtype=np.int64)[None])[0]


def one_by_one(model, docs, weighting=MASS, width=WIDTH, reference=None):
    """The oracle: each document alone, no batches, no pieces."""
    found, base, first = [], 0, max(width - 1, 0)
    for doc in docs:
        if len(doc) >= max(width, 1):
            given = [logits_of(model, doc)[first:].clone()]
            if reference is not None:
                given.append(logits_of(reference, doc)[first:])
            rows, ids, weights, _ = weighting.sparse(*given)
            for row, target, weight in zip(rows, ids, weights, strict=True):
                place = int(row) + first
                context = tuple(int(x) for x in doc[place - width + 1 : place + 1])
                found.append((base + place, context, int(target), float(weight)))
        base += len(doc)
    return found


def assert_same(ours, expected):
    assert [one[:3] for one in ours] == [one[:3] for one in expected]
    np.testing.assert_allclose(
        [one[3] for one in ours], [one[3] for one in expected], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("batch_tokens", [1, 64, 300, 5000])
def test_batches_do_not_matter(model, batch_tokens):
    docs = documents()
    ours, counts = read(model, docs, batch_tokens=batch_tokens)
    assert_same(ours, one_by_one(model, docs))
    occurrences = [one[0] for one in ours]
    assert occurrences == sorted(occurrences)
    assert counts.n_documents == len(docs)
    assert counts.n_tokens == sum(map(len, docs))
    assert counts.n_short_documents == sum(len(doc) < WIDTH for doc in docs)
    assert counts.n_scored_positions == len(set(occurrences))
    assert counts.n_weights == len(ours)
    assert counts.n_padding <= counts.n_forward / 16


@pytest.mark.parametrize("width", [0, 1, 5])
def test_contexts_of_every_width(model, width):
    docs = documents(10, seed=width)
    ours, _ = read(model, docs, width=width, batch_tokens=100)
    assert_same(ours, one_by_one(model, docs, width=width))


def test_two_models(model, reference):
    docs = documents(12)
    weighting = Weighting("contrast", max_weights=12, min_weight=1e-3)
    ours, _ = read(model, docs, weighting, reference=reference, batch_tokens=200)
    assert_same(ours, one_by_one(model, docs, weighting, reference=reference))
    assert {np.sign(one[3]) for one in ours} == {-1.0, 1.0}
    with pytest.raises(ArgumentError, match="weighting='contrast' needs reference="):
        Reader(model, None, weighting, limit=VOCAB)


@pytest.mark.parametrize("batch_tokens", [64, 5000])
@pytest.mark.parametrize("most", [5, 500])
def test_matched_lists_stay_whole(model, reference, monkeypatch, batch_tokens, most):
    """Whatever their order, batches and portions; also where a document has no context."""
    monkeypatch.setattr("radscore.models.teacher_forcing._PAIRS_AT_ONCE", 13)
    docs = [*documents(12), *[np.array([1])] * 200]
    weighting = Weighting("matched", max_weights=most)
    reader = Reader(
        model, reference, weighting, limit=VOCAB, batch_tokens=batch_tokens, markers=True
    )
    portions = list(reader.read(passages(docs, model, WIDTH)))
    assert_same(listed(portions), one_by_one(model, docs, weighting, reference=reference))
    starts = np.cumsum([0, *map(len, docs)])
    seen = []
    for pairs in portions:
        assert len(pairs.base) == len(pairs)
        for place in np.unique(pairs.occurrences).tolist():
            here = pairs.occurrences == place
            seen.append(place)
            document = int(np.searchsorted(starts, place, side="right")) - 1
            row = place - starts[document]
            p, q = (logits_of(one, docs[document]).softmax(-1)[row] for one in (model, reference))
            targets = pairs.targets[here].astype(np.int64)
            np.testing.assert_allclose(pairs.base[here], q[targets], rtol=1e-3, atol=1e-7)
            likelier = np.sort(torch.maximum(p, q).numpy())[::-1][:most]
            np.testing.assert_allclose(
                np.sort(torch.maximum(p, q)[targets].numpy())[::-1], likelier, rtol=1e-3
            )
    assert len(seen) == len(set(seen))


def test_batches_hold_every_piece_once_and_hardly_any_padding():
    rng = np.random.default_rng(3)
    nothing = np.empty(0, np.int64)
    pieces = [Piece(np.zeros(n, np.int64), nothing, nothing) for n in rng.integers(1, 400, 500)]
    made = batches(pieces, 4000)
    assert sorted(id(piece) for batch in made for piece in batch) == sorted(map(id, pieces))
    for batch in made:
        longest = max(len(piece.ids) for piece in batch)
        assert len(batch[0].ids) == longest
        assert len(batch) == 1 or longest * len(batch) <= 4000
        padding = longest * len(batch) - sum(len(piece.ids) for piece in batch)
        assert padding <= longest * len(batch) / 16
    # equal lengths fill the batches
    equal = batches([Piece(np.zeros(100, np.int64), nothing, nothing)] * 80, 4000)
    assert [len(batch) for batch in equal] == [40, 40]


def test_documents_beyond_the_window_are_read_in_pieces_that_overlap(model):
    rng = np.random.default_rng(5)
    docs = [rng.integers(0, 120, size=n) for n in (100, 31, 32, 33, 7)]
    ours, counts = read(model, docs, max_length=32, batch_tokens=64)
    places = [one[0] for one in ours]
    assert len(set(places)) == counts.n_scored_positions == sum(len(doc) - 1 for doc in docs)
    assert counts.n_forward - counts.n_padding > counts.n_tokens  # the overlap was read twice
    # pieces of 32 that begin every 24 tokens: a position is read in the first piece that holds it
    doc, by_place = docs[0], {}
    for start in (0, 24, 48, 72):
        p = logits_of(model, doc[start : start + 32]).softmax(-1)
        for row in range(len(p)):
            if start + row not in by_place and (start == 0 or row >= 8):
                by_place[start + row] = p[row]
    for place, _, target, weight in ours:
        if place < 100:
            assert weight == pytest.approx(float(by_place[place][target]), rel=1e-3)
    with pytest.raises(ArgumentError, match="max_length must be at most the 256 tokens"):
        read(model, docs, max_length=300)
    long = [rng.integers(0, 120, size=600)]
    assert read(model, long)[1].n_scored_positions == 599  # the model's own window is 256


def test_prompts_are_read_and_not_scored(model, tmp_path):
    rng = np.random.default_rng(6)
    rows = [(rng.integers(0, 120, 9).tolist(), rng.integers(0, 120, 20).tolist()) for _ in range(4)]
    import json

    path = tmp_path / "x.jsonl"
    path.write_text(
        "".join(json.dumps({"tokens": doc, "prompt": prompt}) + "\n" for prompt, doc in rows)
    )
    ours, counts = read(model, rs.open_corpus(path, prompt_field="prompt"))
    expected, base = [], 0
    for prompt, doc in rows:
        whole = one_by_one(model, [np.array(prompt + doc)])
        # the whole context is in the document
        expected += [(o + base, c, t, w) for o, c, t, w in whole if o >= len(prompt) + WIDTH - 1]
        base += len(prompt) + len(doc)
    assert_same(ours, expected)
    assert counts.n_tokens == base


def test_strings_and_chats(words):
    strings = ["w1 w2 w3 w4 w5", "w9", "w7 w7 w7"]
    ids = [[1, 2, 3, 4, 5], [9], [7, 7, 7]]
    assert_same(read(words, strings)[0], one_by_one(words, [np.array(one) for one in ids]))
    assert_same(read(words, strings[0])[0], one_by_one(words, [np.array(ids[0])]))

    chat = [
        {"role": "user", "content": "w1 w2 w3"},
        {"role": "assistant", "content": "w4 w5 w6"},
        {"role": "user", "content": "w4 w5"},
        {"role": "assistant", "content": " w8 w9 "},
    ]
    user, assistant = VOCAB - 2, VOCAB - 1
    whole = [user, 1, 2, 3, assistant, 4, 5, 6, user, 4, 5, assistant, 8, 9]
    expected = [one for one in one_by_one(words, [np.array(whole)]) if one[0] in (6, 7, 13)]
    assert_same(read(words, [chat])[0], expected)
    assert_same(read(words, chat)[0], expected)
    # what users say counts if nobody answers
    alone = read(words, [chat[:1]])[0]
    assert {one[1] for one in alone} == {(1, 2), (2, 3)}
    for bad, match in (
        ([[{"role": "user"}]], r"documents\[0\]: message 0 has no content"),
        (["w1", 5], r"documents\[1\] must be a string, not int"),
    ):
        with pytest.raises(TokenError, match=match):
            read(words, bad)
    with pytest.raises(ModelError, match="no tokenizer, which reading strings needs"):
        read(as_language_model(tiny_llama()), ["w1 w2"])
    words.tokenizer.chat_template, before = None, words.tokenizer.chat_template
    try:
        with pytest.raises(ModelError, match=r"documents\[0\]: words's chat template: "):
            read(words, [chat])
    finally:
        words.tokenizer.chat_template = before


def with_template(template):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return LanguageModel(tiny_llama(), tokenizer, "templated", VOCAB, 256)


def test_messages_are_not_taken_for_the_templates_own_words():
    """The template says w1 and w2 itself, before and after every message."""
    model = with_template(
        "w1 {% for m in messages %}<{{ m['role'] }}> w1 w2 {{ m['content'] | trim }} w2 w1"
        " {% endfor %}"
    )
    chat = [
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": " w2\n"},
        {"role": "user", "content": "w2 w1"},
        {"role": "assistant", "content": "w1 w2"},
        {"role": "assistant", "content": "  "},
    ]
    user, assistant = VOCAB - 2, VOCAB - 1
    whole = [1, user, 1, 2, 1, 2, 1, assistant, 1, 2, 2, 2, 1, user, 1, 2, 2, 1, 2, 1]
    whole += [assistant, 1, 2, 1, 2, 2, 1]
    ours, counts = read(model, [chat], width=1)
    assert {one[0] for one in ours} == {10, 23, 24}
    whole = one_by_one(model, [np.array(whole)], width=1)
    assert_same(ours, [one for one in whole if one[0] in (10, 23, 24)])
    assert counts.removed == {}
    ours, _ = read(model, [chat[:1]], width=1)
    assert {one[0] for one in ours} == {4}


def test_messages_that_the_template_changes_are_counted():
    model = with_template(
        "{% for m in messages %}{% if m['role'] != 'system' %}<{{ m['role'] }}> "
        "{{ m['content'].split('w0 ')[-1] | replace('w9', 'w8') }} {% endif %}{% endfor %}"
    )
    said = ["w1 w2", "w9 w3", "w5 w0 w6 w7", "w8 w4"]
    chat = [{"role": "assistant", "content": one} for one in said]
    ours, counts = read(model, [chat, chat[:1]], width=1)
    # what was cut off was not read; what remains is the assistant's own, unless it was changed
    places = dict.fromkeys(one[:2] for one in ours)
    assert [context for _, (context,) in places] == [1, 2, 6, 7, 8, 4, 1, 2]
    assert counts.removed == {"messages that the chat template changes or leaves out": 1}


def test_the_tokenizers_own_first_token_is_attended_to_and_not_scored():
    model = starting()
    assert prefix_of(model).tolist() == [VOCAB - 2]
    docs = documents(8)
    whole = [np.concatenate([[VOCAB - 2], doc]) for doc in docs]
    expected = []
    base = 0
    for doc, one in zip(docs, whole, strict=True):
        alone = one_by_one(model, [one])
        expected += [(o - 1 + base, c, t, w) for o, c, t, w in alone if o >= WIDTH]
        base += len(doc)
    assert_same(read(model, docs, batch_tokens=100)[0], expected)
    # if the ids begin with it already, it is not added again
    assert_same(read(model, whole)[0], one_by_one(model, whole))


@pytest.mark.parametrize("kind", ["mass", "prediction"])
def test_every_piece_has_the_first_token_that_a_document_brings(kind):
    model, weighting = starting(), Weighting(kind, max_weights=12)
    rng = np.random.default_rng(9)
    docs = [rng.integers(0, 120, size=n) for n in (100, 31, 32, 7)]
    plain, counts = read(model, docs, weighting, max_length=32)
    whole = [np.concatenate([[VOCAB - 2], doc]) for doc in docs]
    ours, again = read(model, whole, weighting, max_length=32)
    assert again.n_forward == counts.n_forward
    # the same, and the positions whose context holds the first token
    starts = np.cumsum([0, *map(len, whole)])
    shifted, extra = [], []
    for place, *rest in ours:
        number = int(np.searchsorted(starts, place, side="right")) - 1
        (extra if rest[0][0] == VOCAB - 2 else shifted).append((place - 1 - number, *rest))
    assert_same(shifted, plain)
    assert {one[0] for one in extra} == {0, 100, 131, 163}
    # a document that is nothing but that token
    assert read(model, [[VOCAB - 2]], weighting, width=1)[1].n_scored_positions == 1


def damaged(change):
    network = tiny_llama()
    with torch.no_grad():
        change(network)
    return LanguageModel(network, None, "broken", VOCAB, 256)


def spoiled(network):
    """NaN after token 125, and only there."""

    def spoil(module, args, kwargs, output):
        output.last_hidden_state[kwargs["input_ids"] == 125] = torch.nan

    network.model.register_forward_hook(spoil, with_kwargs=True)


def too_large(network):
    network.lm_head.weight[5] = 3e38


@pytest.mark.parametrize("kind", ["mass", "prediction", "contrast"])
@pytest.mark.parametrize("batch_tokens", [1, 400])
def test_logits_that_are_nan_or_infinite_are_an_error(model, kind, batch_tokens):
    docs = documents(12, longest=30)
    docs[7] = np.array([1, 2, 3, 125, 4, 5, 6])  # the only one with the damaged token
    broken = damaged(spoiled)
    where = r"logits that are NaN at position 3 of document 7; its weights are damaged, or"
    how = {"weighting": Weighting(kind), "batch_tokens": batch_tokens}
    other = {"reference": model} if kind == "contrast" else {}
    with pytest.raises(ModelError, match=f"broken gives {where}"):
        read(broken, docs, **how, **other)
    if kind == "contrast":
        reference = LanguageModel(broken.model, None, "the base", VOCAB, 256)
        with pytest.raises(ModelError, match=f"the base gives {where}"):
            read(model, docs, **how, reference=reference)
    # logits that are not needed may be anything
    read(broken, [[125, 1, 2]], **how, **other)
    with pytest.raises(ModelError, match=r"logits that are (NaN|infinite) at position \d+ of doc"):
        read(damaged(too_large), docs, **how, **other)


def test_logits_that_are_nan_in_segments():
    broken = damaged(spoiled)
    doc = np.random.default_rng(8).integers(0, 120, size=200)
    doc[150] = 125
    Short(broken.model, 40, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ModelError, match="at position 150 of document 1"):
        read(broken, [[1, 2], doc])


def test_tokens_that_are_never_predicted_are_fine(reference):
    def forbid(module, args, output):
        output.logits[..., 5:15] = -torch.inf

    network = tiny_llama()
    network.register_forward_hook(forbid)
    model = LanguageModel(network, None, "forbidding", VOCAB, 256)
    docs = documents(8)
    for weighting, other in (
        (MASS, None),
        (Weighting("prediction", top=3), None),
        (Weighting("contrast", max_weights=12, min_weight=1e-3, centred=False), reference),
    ):
        ours, _ = read(model, docs, weighting, reference=other)
        if weighting.kind != "prediction":
            assert_same(ours, one_by_one(model, docs, weighting, reference=other))
        assert not {one[2] for one in ours if one[3] > 0} & set(range(5, 15))

    def forbid_all(module, args, output):
        output.logits[..., :15] = -torch.inf

    network.register_forward_hook(forbid_all)
    read(model, docs, MASS)
    with pytest.raises(ModelError, match=r"logits that are infinite at position \d+ of document"):
        read(model, docs, Weighting("prediction"), limit=15)


def test_predictions_count_where_their_context_is_new_in_the_sequence(model):
    docs = [np.array([5, 6, 5, 6, 5, 7, 5, 6]), np.array([5, 6, 9])]
    ours, counts = read(model, docs, Weighting("prediction"))
    assert [one[:2] for one in ours] == [
        (1, (5, 6)),
        (2, (6, 5)),
        (5, (5, 7)),
        (6, (7, 5)),
        (9, (5, 6)),
        (10, (6, 9)),
    ]
    for place, _, target, weight in ours:
        doc, row = (docs[0], place) if place < 8 else (docs[1], place - 8)
        assert target == int(logits_of(model, doc)[row].argmax())
        assert weight == 1.0
    assert counts.removed == {"positions whose context came before in the sequence": 3}


def test_targets_are_below_the_limit_and_positions_can_be_marked(model):
    docs = documents(6)
    full, _ = read(model, docs)
    limited, counts = read(model, docs, limit=100)
    assert_same(limited, [one for one in full if one[2] < 100])
    dropped = sum(one[2] >= 100 for one in full)
    assert counts.removed == {"predictions outside of the vocabulary": dropped}
    # predictions are the best of those allowed
    best, _ = read(model, docs, Weighting("prediction"), limit=100)
    place, _, target, _ = best[0]
    assert target == int(logits_of(model, docs[0])[place, :100].argmax())
    none = Weighting("mass", min_weight=2.0)
    marked, counts = read(model, docs, none, markers=True)
    assert counts.n_weights == 0
    assert [one[0] for one in marked] == sorted({one[0] for one in full})
    assert {one[2:] for one in marked} == {(0, 0.0)}
    assert read(model, docs, none)[0] == []


def test_ids_outside_of_the_model(model):
    with pytest.raises(TokenError, match="token id 128 at position 1 of document 1 is outside"):
        read(model, [[1, 2, 3], [4, VOCAB]])


def test_bfloat16(model):
    network = tiny_llama().to(torch.bfloat16)
    rough = as_language_model(network)
    ours, _ = read(rough, documents(6), Weighting("mass", max_weights=3))
    exact = {one[:3]: one[3] for one in read(model, documents(6), Weighting("mass"))[0]}
    differences = [abs(one[3] - exact.get(one[:3], 0.0)) for one in ours]
    assert np.mean(differences) < 0.02


class Short:
    """Makes a real network run out of memory on batches of more than `most` tokens."""

    def __init__(self, network, most, error):
        self.sizes, self.most, self.error = [], most, error
        self.handle = network.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, module, args, kwargs):
        size = kwargs["input_ids"].numel()
        self.sizes.append(size)
        if size > self.most:
            raise self.error


CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU_ERROR])
def test_out_of_memory_halves_the_batch_and_loses_nothing(error):
    network = tiny_llama()
    model = as_language_model(network)
    docs = documents()
    expected = one_by_one(model, docs)
    short = Short(network, 150, error)
    reader = Reader(model, None, MASS, limit=VOCAB, batch_tokens=1200)
    ours = listed(reader.read(passages(docs, model, WIDTH)))
    assert max(short.sizes) > 150
    assert_same(ours, expected)
    assert reader.batch_tokens < 1200  # and later batches are small from the start


def test_a_document_that_does_not_fit_is_read_in_segments(reference):
    network = tiny_llama()
    model = as_language_model(network)
    docs = [np.random.default_rng(8).integers(0, 120, size=200), np.arange(30)]
    weighting = Weighting("contrast", max_weights=12, min_weight=1e-3)
    expected = one_by_one(model, docs, weighting, reference=reference)
    short = Short(network, 40, torch.OutOfMemoryError("CUDA out of memory"))
    assert_same(read(model, docs, weighting, reference=reference)[0], expected)
    assert 25 in short.sizes
    short.most = 3
    with pytest.raises(ModelError, match="too little memory to read one document of 200 tokens"):
        read(model, docs, weighting, reference=reference)


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory():
    network = tiny_llama()
    model = as_language_model(network)
    Short(network, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        read(model, documents(3))


def test_progress_comes_with_every_batch(model):
    docs = documents()
    reader = Reader(model, None, MASS, limit=VOCAB, batch_tokens=100)
    seen = []
    for _ in reader.read(passages(docs, model, WIDTH), lambda p: seen.append(p.tokens)):
        pass
    assert seen == sorted(seen)
    assert len(seen) > 5
    assert seen[-1] == sum(map(len, docs))
