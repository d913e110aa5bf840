"""Membership by losses: direction, calibration of p-values, degrees of supervision, the command."""

import json
import math
import resource
import sys
import zlib

import numpy as np
import pytest
import radscore as rs
import scipy.stats

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from radscore.audits.membership import test_membership as membership  # noqa: E402
from radscore.cli import main  # noqa: E402
from radscore.documents import Documents  # noqa: E402
from radscore.models.loading import LanguageModel, as_language_model, load_model  # noqa: E402
from radscore.models.losses import cut, document_losses  # noqa: E402
from radscore.progress import Progress  # noqa: E402
from tiny import VOCAB, save_folder, tiny_llama, word_tokenizer  # noqa: E402

LENGTH = 32


def texts(n, seed, length=LENGTH):
    """Documents of words that are partly foretold by the word before."""
    rng = np.random.default_rng(seed)
    table = np.random.default_rng(99).integers(0, 100, (100, 4))
    ids = np.empty((n, length), dtype=np.int64)
    ids[:, 0] = rng.integers(0, 100, n)
    for i in range(1, length):
        ids[:, i] = table[ids[:, i - 1], rng.integers(0, 4, n)]
    return ids


MEMBERS, FRESH, UNSEEN = texts(60, 1), texts(60, 2), texts(300, 3)


@pytest.fixture(scope="module")
def trained():
    """A network that has learned MEMBERS by heart, or nearly."""
    network = tiny_llama(scale=1.0).train()
    network.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    ids = torch.from_numpy(MEMBERS)
    for _ in range(60):
        optimizer.zero_grad()
        network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return LanguageModel(network.eval(), word_tokenizer(), "trained", VOCAB, 256)


def test_losses_are_the_models(trained):
    """Padding, batches and slices leave them as the network gives them one by one."""
    documents = [*MEMBERS[:3].tolist(), [5, 6, 7], [8], [], *UNSEEN[:2, :20].tolist()]
    got = document_losses(trained, documents, batch_tokens=70)
    assert np.isnan(got[[4, 5]]).all()
    for ids, loss in zip(documents, got, strict=True):
        if len(ids) > 1:
            row = torch.tensor([ids])
            expected = trained.model(input_ids=row, labels=row).loss.item()
            assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(document_losses(trained.model, documents), got, rtol=1e-5)


def test_losses_read_a_start_token_first(trained):
    """Where the tokenizer puts one before every text, all tokens of it are predicted."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    raw = word_tokenizer().backend_tokenizer
    raw.post_processor = TemplateProcessing(single="w7 $A", special_tokens=[("w7", 7)])
    starting = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    model = LanguageModel(trained.model, starting, "starting", VOCAB, 256)
    (loss,) = document_losses(model, [[1, 2, 3]])
    logs = trained.model(input_ids=torch.tensor([[7, 1, 2, 3]])).logits.log_softmax(-1)[0]
    expected = -(logs[0, 1] + logs[1, 2] + logs[2, 3]) / 3
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_losses_with_little_memory(trained):
    network = tiny_llama(scale=1.0)
    network.load_state_dict(trained.model.state_dict())
    forward, sizes = network.forward, []

    def limited(**inputs):
        sizes.append(inputs["input_ids"].numel())
        if sizes[-1] > 3 * LENGTH:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(**inputs)

    network.forward = limited
    model = LanguageModel(network, None, "small", VOCAB, 256)
    got = document_losses(model, MEMBERS[:20], batch_tokens=20 * LENGTH)
    np.testing.assert_allclose(got, document_losses(trained, MEMBERS[:20]), rtol=1e-5)
    assert sizes[:4] == [20 * LENGTH, 10 * LENGTH, 5 * LENGTH, 2 * LENGTH]
    with pytest.raises(
        rs.errors.ModelError, match="out of memory with a single text of 100 tokens"
    ):
        document_losses(model, texts(1, 0, 100))
    with pytest.raises(rs.errors.ModelError, match="a text of 257 tokens is beyond the 256"):
        document_losses(model, texts(1, 0, 257))


def test_members_have_lower_losses(trained):
    """The direction: small p-values for what was learned, none the other way round."""
    result = membership(trained, MEMBERS, FRESH, length=LENGTH)
    assert result.log10_pvalue < -5
    assert result.member_loss < result.nonmember_loss
    assert result.member_score < result.nonmember_score
    backwards = membership(trained, FRESH, MEMBERS, length=LENGTH)
    assert backwards.log10_pvalue > -0.3
    neither = membership(trained, UNSEEN[:60], FRESH, length=LENGTH)
    assert neither.log10_pvalue > -3
    untrained = LanguageModel(tiny_llama(), word_tokenizer(), "untrained", VOCAB, 256)
    assert membership(untrained, MEMBERS, FRESH, length=LENGTH).log10_pvalue > -3


def test_the_result(trained):
    seen = []
    result = membership(trained, MEMBERS, FRESH, length=LENGTH, progress=seen.append)
    losses = document_losses(trained, MEMBERS)
    sizes = [len(zlib.compress(trained.tokenizer.decode(ids).encode())) for ids in MEMBERS.tolist()]
    np.testing.assert_allclose(result.member_scores, losses / sizes, rtol=1e-12)
    theirs = scipy.stats.ks_2samp(
        result.member_scores, result.nonmember_scores, alternative="greater"
    )
    assert result.statistic == pytest.approx(theirs.statistic)
    assert result.pvalue == pytest.approx(theirs.pvalue, rel=1e-9)
    assert result.member_loss == pytest.approx(losses.mean())
    assert (result.n_members, result.n_nonmembers) == (60, 60)
    assert result.member_counts.sum() == result.nonmember_counts.sum() == 60
    assert len(result.thresholds) == len(result.member_counts) + 1
    assert result.removed == {}
    assert result.notes == (result.notes[0],)
    assert "independent draws from one distribution" in result.notes[0]
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert {p.total for p in seen} == {120}
    assert seen[-1] == Progress(120, 120, 120 * LENGTH)
    plain = result.to_dict()
    assert json.loads(json.dumps(plain))["log10_pvalue"] == result.log10_pvalue
    assert "member_scores" not in plain
    for name in ("log10_pvalue", "n_members", "pvalue", "note", trained.fingerprint):
        assert name in repr(result)
    raw = membership(trained, MEMBERS, FRESH, length=LENGTH, calibration="none")
    np.testing.assert_allclose(raw.member_scores, losses, rtol=1e-12)


def test_cutting():
    pieces = cut(Documents.of([list(range(7)), [1], [], [4, 5, 6]]), 3)
    assert pieces.ids.tolist() == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]
    assert pieces.documents.tolist() == [0, 0, 3]
    assert (pieces.n_short, pieces.n_dropped) == (2, 2)


def test_degrees_of_supervision(trained):
    """The smaller the share of members among the candidates, the weaker the evidence."""
    results = {}
    for degree in (1.0, 0.5, 0.2, 0.1):
        result = membership(
            trained, MEMBERS, FRESH, unseen=UNSEEN, supervision=degree, length=LENGTH
        )
        results[degree] = result
        share = 60 / result.n_members if degree > 0.15 else 33 / result.n_members
        assert share == pytest.approx(degree, abs=0.01)
    # 300 unseen sentences suffice for 33 members at a tenth.
    assert [results[d].n_members for d in results] == [60, 120, 300, 333]
    logs = [results[d].log10_pvalue for d in results]
    assert logs[0] < logs[1] < logs[2] < 0
    assert results[0.5].implied_statistic == min(1, results[0.5].statistic / 0.5)
    claimed = membership(trained, MEMBERS, FRESH, supervision=0.1, length=LENGTH)
    assert claimed.log10_pvalue == results[1.0].log10_pvalue
    assert claimed.supervision == 0.1
    with pytest.raises(rs.errors.ArgumentError, match="single member needs 999"):
        membership(trained, MEMBERS, FRESH, unseen=UNSEEN, supervision=0.001, length=LENGTH)


def test_units_and_notes(trained):
    long = texts(40, 11, 3 * LENGTH + 5)
    result = membership(trained, long, FRESH, length=LENGTH, unit="sentence")
    assert (result.n_members, result.n_nonmembers) == (120, 60)
    assert math.isnan(result.log10_pvalue)
    assert math.isnan(result.pvalue)
    assert result.method.startswith("none: ")
    assert result.to_dict()["log10_pvalue"] is None
    assert result.statistic > 0
    assert result.removed == {"tokens of unfinished sentences of members": 40 * 5}
    notes = " ".join(result.notes)
    assert "differ in length" in notes
    assert "up to 3 of one document" in notes
    by_document = membership(trained, long, FRESH, length=LENGTH)
    assert (by_document.unit, by_document.n_members) == ("document", 40)
    assert by_document.log10_pvalue <= 0
    np.testing.assert_allclose(
        by_document.member_scores, result.member_scores.reshape(40, 3).mean(1)
    )
    assert "of one document here" not in " ".join(by_document.notes)
    single = membership(trained, MEMBERS, FRESH, length=LENGTH, unit="sentence")
    assert single.log10_pvalue == membership(trained, MEMBERS, FRESH, length=LENGTH).log10_pvalue
    repetitive = FRESH.copy()
    repetitive[:, 4:] = repetitive[:, :1]
    unlike = membership(trained, MEMBERS, repetitive, length=LENGTH)
    assert any("compress differently" in note for note in unlike.notes)
    few = membership(trained, MEMBERS[:3], FRESH[:3], length=LENGTH)
    assert any("no p-value can be below 0.05" in note for note in few.notes)
    same = membership(trained, MEMBERS, np.concatenate([FRESH, MEMBERS[:7]]), length=LENGTH)
    assert any("7 sentences of the nonmembers are among the members" in note for note in same.notes)
    bare = as_language_model(trained.model)
    assert any(
        "no tokenizer" in note for note in membership(bare, MEMBERS, FRESH, length=LENGTH).notes
    )


def test_copies_are_no_further_draws(trained):
    """Whatever documents come again, the test is that of the others."""
    long, fresh = texts(20, 11, 3 * LENGTH), texts(25, 12, 3 * LENGTH)
    expected = membership(trained, long, fresh, length=LENGTH)
    mostly = long[:4].copy()
    mostly[:, 2 * LENGTH :] = texts(4, 13, LENGTH)  # two of three sentences are of another
    again = np.concatenate([long, long[5:15], mostly, long])
    for members, nonmembers in ((again, fresh), (long, np.concatenate([fresh, fresh, fresh]))):
        result = membership(trained, members, nonmembers, length=LENGTH)
        assert result.log10_pvalue == expected.log10_pvalue
        assert (result.n_members, result.n_nonmembers) == (20, 25)
    assert result.removed == {"copies among the documents of nonmembers": 50}
    assert membership(trained, again, fresh, length=LENGTH).removed == {
        "copies among the documents of members": 34
    }
    header = long.copy()
    header[:, :LENGTH] = long[0, :LENGTH]  # what documents have in common makes none a copy
    result = membership(trained, header, fresh, length=LENGTH)
    assert (result.n_members, result.removed) == (20, {})
    losses = document_losses(trained, header.reshape(-1, LENGTH)).reshape(20, 3)
    plain = membership(trained, header, fresh, length=LENGTH, calibration="none")
    np.testing.assert_allclose(plain.member_scores, losses.mean(1), rtol=1e-6)


def test_degrees_count_documents(trained):
    long, unseen = texts(20, 11, 3 * LENGTH), texts(50, 14, LENGTH)
    # Half of the candidates: 20 of either, or 50 of the 60 sentences and all 50 of the others.
    for unit, n in (("document", 40), ("sentence", 100)):
        result = membership(
            trained, long, FRESH, unseen=unseen, supervision=0.5, length=LENGTH, unit=unit
        )
        assert result.n_members == n


def test_strings_and_corpora(trained, tmp_path):
    strings = [trained.tokenizer.decode(ids) for ids in MEMBERS.tolist()]
    expected = membership(trained, MEMBERS, FRESH, length=LENGTH)
    of_strings = membership(trained, strings, FRESH, length=LENGTH)
    assert of_strings.log10_pvalue == expected.log10_pvalue
    path = tmp_path / "members.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in strings))
    corpus = rs.open_corpus(path, tokenizer=trained.tokenizer)
    assert membership(trained, corpus, FRESH, length=LENGTH).statistic == expected.statistic


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"supervision": 0}, rs.errors.ArgumentError, "supervision must be a number above 0"),
        ({"supervision": 1.5}, rs.errors.ArgumentError, "supervision must be a number above 0"),
        ({"calibration": "gzip"}, rs.errors.ArgumentError, "calibration must be one of zlib, none"),
        ({"unit": "word"}, rs.errors.ArgumentError, "unit must be one of sentence, document"),
        ({"length": 1}, rs.errors.ArgumentError, "length must be from 2"),
        ({"length": 33}, rs.errors.TokenError, "members has no sentence: none of its 60 documents"),
        ({"members": []}, rs.errors.TokenError, "members has no sentence"),
        (
            {"nonmembers": [[VOCAB] * 40]},
            rs.errors.TokenError,
            "nonmembers: token id 128 at position 0",
        ),
    ],
)
def test_wrong_arguments(trained, options, kind, message):
    plain = {"members": MEMBERS, "nonmembers": FRESH, "length": LENGTH}
    with pytest.raises(kind, match=message):
        membership(trained, **{**plain, **options})


# the command


@pytest.fixture
def place(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    save_folder("model", trained.model, trained.tokenizer)
    for name, ids in (("members", MEMBERS), ("fresh", FRESH), ("unseen", UNSEEN)):
        rows = [json.dumps({"text": trained.tokenizer.decode(one)}) + "\n" for one in ids.tolist()]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    return tmp_path


COMMAND = ["test", "membership", "--model", "model", "--members", "members.jsonl"]
COMMAND += ["--nonmembers", "fresh.jsonl", "--length", str(LENGTH)]


def test_command(place, capsys, trained):
    expected = membership(trained, MEMBERS, FRESH, length=LENGTH)
    for name in ("losses.png", "losses.svg"):
        assert main([*COMMAND, "--json", "--plot", name]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["log10_pvalue"] == pytest.approx(expected.log10_pvalue)
        assert found["plot"] == name
    assert (place / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (place / "losses.svg").read_text()
    assert load_model("model").fingerprint == found["model"]
    mixed = [*COMMAND, "--unseen", "unseen.jsonl", "--supervision", "0.5"]
    assert main(mixed) == 0
    shown = capsys.readouterr().out
    assert "120 documents, in sentences of 32 tokens" in shown
    assert "0.5 claimed; true members would then differ by" in shown
    assert "independent draws from one distribution" in shown
    assert main([*COMMAND, "--length", "16", "--unit", "sentence", "--plot", "none.svg"]) == 0
    shown = capsys.readouterr().out
    assert "p-value            none: sentences of one document are not independent draws" in shown
    assert "no p-value" in (place / "none.svg").read_text()


def test_a_missing_library_is_said_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where there is neither a model nor a document
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*COMMAND, "--plot", "losses.png"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "radscore: error: --plot needs matplotlib: pip install 'radscore[report]'\n"
    )


@pytest.mark.parametrize("name", ["losses.png", "losses.svg", "losses.pdf"])
def test_a_figure_that_cannot_be_saved_takes_no_result_away(place, capsys, name):
    """A file may have 100 bytes; a link to something else is not written through."""
    (place / name).symlink_to("victim")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        code = main([*COMMAND, "--json", "--plot", name, "--force"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    shown = capsys.readouterr()
    assert code == 1
    assert json.loads(shown.out)["n_members"] == 60
    assert shown.err == f"radscore: error: {name}: File too large\n"
    assert not (place / "victim").exists()
    assert (place / name).is_symlink()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--nonmembers", "members.jsonl"], 2, "--nonmembers and --members both name"),
        (["--plot", "losses.txt"], 2, "--plot must end in one of .png, .svg, .pdf"),
        (["--plot", "nowhere/losses.png"], 2, "--plot: there is no folder"),
        (["--supervision", "2"], 2, "must be above 0 and at most 1"),
        (["--length", "200"], 1, "has no sentence"),
        (["--members", "none.jsonl"], 2, "none.jsonl: no such file"),
        (["--field", "words"], 2, "words"),
    ],
)
def test_errors_of_the_command(place, capsys, change, code, message):
    assert main([*COMMAND, *change]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
