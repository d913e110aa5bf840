"""Files of predictions: equal to live ones, checked when read, kept when interrupted."""

import json

import numpy as np
import pyarrow as pa
import pytest
import radscore as rs
from radscore.errors import ArgumentError, ModelError, StateError
from radscore.models import LanguageModel, Predictions, Weighting, predict
from radscore.models.live import Reading
from radscore.models.predictions import unfinished
from radscore.progress import Progress
from tiny import VOCAB, listed, tiny_llama, word_tokenizer

WIDTH = 2
MASS = Weighting("mass", max_weights=8, min_weight=0.0)


@pytest.fixture(scope="module")
def docs():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 120, size=rng.integers(0, 40)) for _ in range(60)]


def write(model, docs, path, **options):
    usual = {"context_width": WIDTH, "weighting": MASS, "batch_tokens": 64}
    return predict(model, docs, path, **usual | options)


def assert_rounded(ours, live):
    """What a file holds of pairs: weights with 11 bits."""
    assert [one[:3] for one in ours] == [one[:3] for one in live]
    np.testing.assert_allclose(
        [one[3] for one in ours], [one[3] for one in live], rtol=2**-11, atol=1e-9
    )


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("kind", ["prediction", "mass", "contrast", "matched"])
def test_a_file_holds_what_was_read(model, reference, docs, tmp_path, kind, marked):  # noqa: PLR0917
    options = {
        "context_width": WIDTH,
        "weighting": Weighting(kind, max_weights=8),
        "reference": reference if kind in {"contrast", "matched"} else None,
        "text_watermarked": marked,
        "batch_tokens": 64,
    }
    live = Reading(model, docs, **options)
    expected = listed(live)
    made = predict(model, docs, tmp_path / "p.arrow", **options)
    again = Predictions(tmp_path / "p.arrow")
    assert listed(made) == listed(again)
    assert_rounded(listed(made), expected)
    assert all((pairs.base is None) == (kind != "matched") for pairs in again)
    assert again.header == live.header
    assert again.totals == live.totals
    assert again.totals.complete
    assert again.totals.n_tokens == sum(map(len, docs))
    header = again.header
    assert (header.model, header.vocab_size) == (model.fingerprint, VOCAB)
    assert header.reference == (reference.fingerprint if kind in {"contrast", "matched"} else None)
    assert header.text_watermarked is marked
    assert "incomplete" not in repr(again)
    places = {one[0] for one in expected}
    wanted = {i for i, _ in enumerate(np.concatenate(docs))}
    starts = np.cumsum([0, *map(len, docs)])[:-1]
    if marked:  # every whole context is there
        assert places == wanted - set(starts.tolist())
    assert [path.name for path in tmp_path.iterdir()] == ["p.arrow"]


def test_the_file_is_arrow_with_documented_columns(model, docs, tmp_path):
    write(model, docs, tmp_path / "p.arrow")
    file = pa.ipc.open_file(tmp_path / "p.arrow")
    assert file.schema.names == ["contexts", "occurrences", "tokens"]
    numbers = ["targets.0", "targets.1", "weights.0", "weights.1"]
    tokens = pa.list_(pa.struct([(name, pa.uint8()) for name in numbers]))
    assert file.schema.types == [pa.list_(pa.uint16(), 2), pa.uint64(), tokens]
    metadata = file.schema.metadata
    assert metadata[b"radscore.magic"] == b"RSPR"
    assert metadata[b"radscore.version"] == b"6"
    header = json.loads(metadata[b"radscore.header"])
    assert header["weighting"]["kind"] == "mass"
    assert header["context_width"] == WIDTH
    # read from the columns alone
    columns = file.read_all()
    pairs = listed(Predictions(tmp_path / "p.arrow"))
    lists = columns["tokens"].to_pylist()
    gaps = [[one["targets.0"] + 256 * one["targets.1"] for one in row] for row in lists]
    targets = [np.cumsum(row).tolist() or [0] for row in gaps]
    assert [target for row in targets for target in row] == [one[2] for one in pairs]
    assert columns["occurrences"].to_pylist() == sorted({one[0] for one in pairs})


def test_texts_have_hashes(model, docs, tmp_path):
    first = write(model, docs, tmp_path / "a").totals.text
    assert write(model, docs, tmp_path / "b", batch_tokens=1000).totals.text == first
    assert write(model, [np.concatenate(docs[:2]), *docs[2:]], tmp_path / "c").totals.text != first
    assert write(model, docs[::-1], tmp_path / "d").totals.text != first


def test_contexts_of_no_tokens(model, docs, tmp_path):
    made = write(model, docs[:5], tmp_path / "p.arrow", context_width=0)
    live = Reading(model, docs[:5], context_width=0, weighting=MASS, batch_tokens=64)
    assert_rounded(listed(made), listed(live))


def test_damaged_files_are_refused(model, docs, tmp_path):
    whole = tmp_path / "p.arrow"
    write(model, docs, whole)
    data = whole.read_bytes()
    bad = tmp_path / "bad.arrow"

    def refused(content, match):
        bad.write_bytes(content)
        with pytest.raises(StateError, match=match) as caught:
            list(Predictions(bad))
        assert "\n" not in str(caught.value)

    for share in (0.1, 0.5, 0.9):
        refused(data[: int(len(data) * share)], "is not a file of predictions, or is cut off")
    refused(data[:-1], "is not a file of predictions, or is cut off")
    refused(b"", "is not a file of predictions")
    refused(b"hello" * 100, "is not a file of predictions")
    # damage is found wherever it is
    rng = np.random.default_rng(2)
    for place in rng.integers(0, len(data), 60):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        bad.write_bytes(changed)
        try:
            same = listed(Predictions(bad)) == listed(Predictions(whole))
        except (StateError, ArgumentError):
            continue
        assert same  # padding, or bytes that no reader uses

    with pytest.raises(ArgumentError, match="no such file"):
        Predictions(tmp_path / "nowhere")
    table = pa.table({"x": [1]})
    with pa.ipc.new_file(bad, table.schema) as file:
        file.write_table(table)
    with pytest.raises(StateError, match="is an Arrow file, but not one of predictions"):
        Predictions(bad)
    schema = pa.ipc.open_file(whole).schema
    metadata = dict(schema.metadata)
    later = schema.with_metadata(metadata | {b"radscore.version": b"4"})
    with pa.ipc.new_file(bad, later):
        pass
    with pytest.raises(StateError, match=r"of version 4, but this radscore reads 5 and 6; make it"):
        Predictions(bad)
    with pa.ipc.new_file(bad, schema):  # no last batch
        pass
    with pytest.raises(StateError, match=r"damaged|was never finished"):
        Predictions(bad)


def test_every_field_is_under_a_checksum(model, docs, tmp_path):
    """Any change to a header, to metadata, or to which batch stands where."""
    whole, bad = tmp_path / "p.arrow", tmp_path / "bad.arrow"
    write(model, docs, whole)
    data = whole.read_bytes()

    def refused(path, match):
        with pytest.raises(StateError, match=match) as caught:
            list(Predictions(path))
        assert "\n" not in str(caught.value)

    for old, new in (
        (b"radscore.batch", b"radscore.bytch"),
        (b"radscore.checksum", b"radscore.chacksum"),
        (b'{"last"', b'["last"'),
        (b'"last"', b'"lost"'),
        (b'"last"', b'"l\xffst"'),
        (b'"n_tokens": ', b'"n_tokens":1'),
        (b'"complete": true', b'"complete": 1234'),
        (b'"max_weights": 8', b'"max_weights": 9'),
        (b'"text_watermarked": false', b'"text_watermarked": 12345'),
        (b'"vocab_size": 128', b'"vocab_size": 129'),
    ):
        assert old in data, old
        # Arrow keeps the schema twice, and reads one of them.
        bad.write_bytes(data.replace(old, new))
        refused(bad, "checksum|damaged|never finished")
    file = pa.ipc.open_file(whole)
    batches = [file.get_batch_with_custom_metadata(i) for i in range(file.num_record_batches)]
    assert len(batches) > 3
    for order in ([1, 0, *range(2, len(batches))], [0, *range(len(batches) - 1)][: len(batches)]):
        with pa.ipc.new_file(bad, file.schema) as out:
            for i in order:
                out.write_batch(batches[i][0], custom_metadata=batches[i][1])
        refused(bad, "wrong checksum|damaged")
    metadata = dict(file.schema.metadata)
    for header in (b"", b"[", b"{}", b"[" * 9999, metadata[b"radscore.header"][:-2] + b" }"):
        with pa.ipc.new_file(
            bad, file.schema.with_metadata(metadata | {b"radscore.header": header})
        ) as out:
            for batch, about in batches:
                out.write_batch(batch, custom_metadata=about)
        refused(bad, "damaged")


def test_lengths_that_lie_are_refused(model, docs, tmp_path):
    """Lengths beyond the buffers: they were read, outside of the file."""
    whole, bad = tmp_path / "p.arrow", tmp_path / "bad.arrow"
    write(model, docs, whole)
    file = pa.ipc.open_file(whole)
    with pa.ipc.new_file(bad, file.schema) as out:  # without compression
        for i in range(file.num_record_batches):
            batch, about = file.get_batch_with_custom_metadata(i)
            out.write_batch(batch, custom_metadata=about)
    data = bad.read_bytes()
    n = file.get_batch(0).num_rows
    inside = len(file.get_batch(0)["tokens"].values)
    for factor in (100_000, -1, 2**40):
        changed = bytearray(data)
        for length in (n, WIDTH * n, inside):
            old = length.to_bytes(8, "little")
            at = changed.find(old)
            while at >= 0:
                new = (length * factor).to_bytes(8, "little", signed=True)
                changed[at : at + 8] = new
                at = changed.find(old, at + 8)
        bad.write_bytes(changed)
        with pytest.raises(StateError, match=r"damaged|not a file of predictions"):
            list(Predictions(bad))


class Interrupt:
    """A progress callback that interrupts after `after` batches."""

    def __init__(self, after, error=KeyboardInterrupt):
        self.left, self.error = after, error

    def __call__(self, progress):
        self.left -= 1
        if self.left < 0:
            raise self.error


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("after", [12, 20])
@pytest.mark.parametrize("marked", [False, True])
def test_an_interrupted_call_keeps_whole_documents_and_the_next_continues(
    model, docs, tmp_path, after, marked
):
    path, whole = tmp_path / "p.arrow", tmp_path / "whole.arrow"
    expected = write(model, docs, whole, text_watermarked=marked)
    with pytest.raises(KeyboardInterrupt) as caught:
        write(model, docs, path, text_watermarked=marked, progress=Interrupt(after))
    assert names(tmp_path) == ["p.arrow.incomplete", "whole.arrow"]
    assert unfinished(path) == tmp_path / "p.arrow.incomplete"
    assert caught.value.__notes__ == [
        f"what was read so far is in {unfinished(path)}: call again to continue"
    ]
    part = Predictions(unfinished(path))
    n = part.totals.n_documents
    assert not part.totals.complete
    assert "incomplete" in repr(part)
    assert 0 < n < len(docs)
    # exactly the first documents
    how = {"context_width": WIDTH, "weighting": MASS, "text_watermarked": marked}
    assert_rounded(listed(part), listed(Reading(model, docs[:n], batch_tokens=64, **how)))
    # interrupted once more, with an error of another kind
    with pytest.raises(ZeroDivisionError):
        write(
            model,
            docs,
            path,
            text_watermarked=marked,
            progress=Interrupt(12, ZeroDivisionError),
        )
    more = Predictions(unfinished(path)).totals.n_documents
    assert more > n
    seen = []
    made = write(model, docs, path, text_watermarked=marked, progress=seen.append)
    assert (made.path, made.n_before) == (path, more)
    assert listed(made) == listed(expected)
    assert made.totals == expected.totals
    assert names(tmp_path) == ["p.arrow", "whole.arrow"]
    # progress counts what earlier calls have read
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[0].done >= more
    assert seen[-1] == Progress(len(docs), len(docs), sum(map(len, docs)))


def test_interrupted_before_anything_was_read(model, docs, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(model, docs, tmp_path / "p.arrow", progress=Interrupt(0))
    assert names(tmp_path) == []


def test_a_whole_file_is_not_made_again(model, docs, tmp_path):
    path = tmp_path / "p.arrow"
    first = write(model, docs, path)
    before = path.stat()
    again = write(model, docs, path, progress=Interrupt(0))  # nothing is read
    assert (again.n_before, first.n_before) == (len(docs), 0)
    assert again.totals == first.totals
    assert path.stat() == before


def test_starting_over(model, docs, tmp_path):
    """A whole file stands until the new one is whole, and what was interrupted is not used."""
    path = tmp_path / "p.arrow"
    write(model, docs, path)
    before = path.read_bytes()
    how = {"weighting": "prediction", "fresh": True, "force": True}
    with pytest.raises(StateError, match=r"p\.arrow exists already; use force= to replace it"):
        write(model, docs, path, weighting="prediction", fresh=True)
    with pytest.raises(KeyboardInterrupt):
        write(model, docs, path, progress=Interrupt(12), **how)
    assert path.read_bytes() == before
    n = Predictions(unfinished(path)).totals.n_documents
    with pytest.raises(KeyboardInterrupt):
        write(model, docs, path, progress=Interrupt(8), **how)
    assert Predictions(unfinished(path)).totals.n_documents <= n
    # without `fresh` it continues where the later call was interrupted
    with pytest.raises(StateError, match=r"p\.arrow exists already; use force= to replace it"):
        write(model, docs, path, weighting="prediction")
    made = write(model, docs, path, weighting="prediction", force=True)
    assert made.n_before > 0
    assert made.header.weighting.kind == "prediction"
    assert write(model, docs, path, force=True).n_before == 0
    assert names(tmp_path) == ["p.arrow"]


@pytest.mark.parametrize("fresh", [False, True])
def test_what_is_not_a_file_of_predictions_is_left_as_it_is(model, docs, tmp_path, fresh):
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(StateError, match=r"mine (is not a file of predictions|exists already)"):
        write(model, docs, path, fresh=fresh)
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_what_stands_where_unfinished_work_is_kept_is_left_alone(
    model, docs, tmp_path, fresh, link
):
    aside, victim = unfinished(tmp_path / "p.arrow"), tmp_path / "victim"
    victim.write_text("mine")
    aside.symlink_to(victim) if link else aside.write_text("mine")
    with pytest.raises(StateError, match=r"p.arrow.incomplete, where .* is not radscore's"):
        write(model, docs, tmp_path / "p.arrow", fresh=fresh, force=True)
    assert aside.read_text() == victim.read_text() == "mine"


def test_an_output_that_appears_meanwhile_is_not_replaced(model, docs, tmp_path):
    path = tmp_path / "p.arrow"
    with pytest.raises(StateError, match=r"p\.arrow exists already"):
        write(model, docs, path, progress=lambda _: path.write_text("mine"))
    assert path.read_text() == "mine"
    path.unlink()
    assert write(model, docs, path).n_before == len(docs)


@pytest.mark.parametrize("whole", [False, True])
def test_predictions_of_something_else_are_not_continued(model, reference, docs, tmp_path, whole):
    path = left = tmp_path / "p.arrow"
    if whole:
        write(model, docs, path)
    else:
        left = unfinished(path)
        with pytest.raises(KeyboardInterrupt):
            write(model, docs, path, progress=Interrupt(12))
    before = left.read_bytes()
    for change, match in (
        ({"docs": [docs[0][:-1], *docs[1:]]}, "holds predictions of another text"),
        ({"docs": docs[:3]}, "holds predictions of another text"),
        ({"model": reference}, "was made with another model"),
        ({"context_width": 3}, "was made with another context_width"),
        ({"weighting": "prediction"}, "was made with another weighting"),
        ({"text_watermarked": True}, "was made with another text_watermarked"),
        ({"max_length": 16}, r"was made with another max_length \(256, now 16\)"),
        *([({"docs": [*docs, [1, 2, 3]]}, "holds predictions of another text")] if whole else []),
    ):
        given = {"model": model, "docs": docs, "path": path} | change
        with pytest.raises(StateError, match=f"{match}.*; name another file, or use f(resh|orce)="):
            write(**given)
        assert left.read_bytes() == before


def test_progress_is_in_bytes_of_a_corpus(model, docs, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"tokens": doc.tolist()}) + "\n" for doc in docs))
    corpus, seen = rs.open_corpus(path, batch_tokens=200), []
    write(model, corpus, tmp_path / "p.arrow", progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert {p.total for p in seen} == {corpus.total_bytes}
    assert (seen[-1].done, seen[-1].tokens) == (corpus.total_bytes, sum(map(len, docs)))


def test_resuming_with_other_first_tokens_is_refused(model, docs, tmp_path):
    from tokenizers.processors import TemplateProcessing

    path, tokenizer = tmp_path / "p.arrow", word_tokenizer()
    words = LanguageModel(model.model, tokenizer, "words", VOCAB, 256)
    with pytest.raises(KeyboardInterrupt):
        write(words, docs, path, progress=Interrupt(12))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<user> $A", special_tokens=[("<user>", VOCAB - 2)]
    )
    with pytest.raises(StateError, match=r"was made with another prefix \(\(\), now \(126,\)\)"):
        write(words, docs, path)
    assert write(words, docs, tmp_path / "q").header.prefix == (VOCAB - 2,)


def test_a_reference_must_read_the_same_ids(docs, tmp_path):
    def named(name, tokenizer, **changes):
        network = tiny_llama(**changes)
        return LanguageModel(network, tokenizer, name, network.config.vocab_size, 256)

    words = word_tokenizer()
    other = word_tokenizer(VOCAB - 10)
    suspect = named("suspect", words)
    contrast = {"weighting": "contrast"}
    shifted = named("shifted", other, seed=1, vocab_size=VOCAB - 10)
    with pytest.raises(ModelError, match="reference shifted has another tokenizer than suspect"):
        write(suspect, docs, tmp_path / "p", reference=shifted, **contrast)
    small = named("small", None, seed=1, vocab_size=100)
    with pytest.raises(ModelError, match="reference small predicts 100 tokens and suspect 128"):
        write(suspect, docs, tmp_path / "p", reference=small, **contrast)
    # a padded output layer is normal
    padded = named("padded", words, seed=1, vocab_size=VOCAB + 8)
    made = write(suspect, docs, tmp_path / "p", reference=padded, **contrast)
    assert made.header.vocab_size == VOCAB
    for options, match in (
        ({"weighting": "contrast"}, "weighting='contrast' needs reference="),
        (
            {"weighting": "mass", "reference": padded},
            "reference= has no effect with weighting='mass'",
        ),
        ({"context_width": -1}, "context_width must be from 0"),
        ({"weighting": "sum"}, "weighting must be one of prediction, mass, contrast, matched"),
    ):
        with pytest.raises(ArgumentError, match=match):
            write(suspect, docs, tmp_path / "q", **options)
