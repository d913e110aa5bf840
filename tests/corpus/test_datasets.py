"""Data sets of Hugging Face's library, as objects and as the folders it saves."""

import json

import numpy as np
import pytest
import radscore as rs
from radscore.corpus import inspect_corpus, open_corpus
from radscore.corpus.base import Problems
from radscore.errors import ArgumentError, CorpusError

from tests.readers import ids_of

datasets = pytest.importorskip("datasets")

RNG = np.random.default_rng(11)
DOCS = [RNG.integers(0, 100, size=n).tolist() for n in RNG.integers(0, 30, size=60)]
SCHEME = rs.KGW(vocab_size=100, gamma=0.5, context_width=1, seeding="hash", seed=3)


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


def table():
    return datasets.Dataset.from_dict({"n": range(len(DOCS)), "input_ids": DOCS})


def untyped():
    def records():
        for number, doc in enumerate(DOCS):
            ids = np.array(doc, dtype=np.int32) if number % 2 else doc
            yield {"input_ids": ids, "n": number}

    return datasets.IterableDataset.from_generator(records)


MAKERS = {
    "table": table,
    "formatted": lambda: table().with_format("numpy"),
    "picked": lambda: table().shuffle(seed=3),
    "typed stream": lambda: table().to_iterable_dataset(num_shards=4),
    "untyped stream": untyped,
}


def rows_of(name, dataset):
    if name == "picked":
        return [DOCS[i] for i in dataset["n"]]
    return DOCS


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("batch_tokens", [1, 50, 2**22])
def test_objects_are_read_in_their_order(name, batch_tokens):
    dataset = MAKERS[name]()
    docs = rows_of(name, dataset)
    corpus = open_corpus(dataset, batch_tokens=batch_tokens, vocab_size=100)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == docs
    places = [batch.locate(i) for batch in batches for i in range(len(batch))]
    assert [place.rpartition(":row ")[2] for place in places] == list(map(str, range(len(docs))))
    assert ids_of(corpus) == docs  # once more
    assert sum(batch.n_bytes for batch in batches) <= corpus.total_bytes
    if "stream" not in name:
        assert corpus.known().n_documents == len(docs)


@pytest.mark.parametrize("name", MAKERS)
def test_every_cursor_goes_on_exactly(name):
    dataset = MAKERS[name]()
    docs = rows_of(name, dataset)
    corpus = open_corpus(dataset, batch_tokens=100)
    later = open_corpus(dataset, batch_tokens=31)
    for batch in list(corpus)[::3]:
        done = batch.first_document + len(batch)
        rest = ids_of(later, json.loads(json.dumps(batch.cursor))) if done < len(docs) else []
        assert rest == docs[done:]


@pytest.mark.parametrize("name", ["table", "formatted", "picked"])
@pytest.mark.parametrize(("first", "last"), [(0, 60), (0, 7), (7, 41), (41, 60), (13, 13)])
def test_readers_stop_where_they_are_told(name, first, last):
    dataset = MAKERS[name]()
    corpus = open_corpus(dataset, batch_tokens=100)
    (source,) = corpus.sources
    reader = source.format.open(source, corpus.options, Problems("raise"))
    found = [
        doc.tolist() for c in reader.chunks({"row": first}, {"row": last}) for doc in c.documents
    ]
    assert found == rows_of(name, dataset)[first:last]


@pytest.mark.parametrize("name", MAKERS)
def test_scores_are_those_of_the_documents(name):
    plain = rs.score(DOCS, SCHEME)
    result = rs.score(MAKERS[name](), SCHEME)
    assert (result.n_scored, result.statistic) == (plain.n_scored, plain.statistic)
    assert result.n_documents == len(DOCS)


def test_text_needs_a_tokenizer_and_prompts_follow(tokenizer):
    rows = {"text": ["the cat", "", "a dog"], "q": ["mat", "the", ""]}
    for dataset in (
        datasets.Dataset.from_dict(rows),
        datasets.Dataset.from_dict(rows).to_iterable_dataset(),
    ):
        with pytest.raises(CorpusError, match="holds text; give a tokenizer"):
            ids_of(open_corpus(dataset))
        (batch,) = open_corpus(dataset, tokenizer=tokenizer, prompt_field="q")
        assert [doc.tolist() for doc in batch.documents] == [[2, 3], [], [6, 11]]
        assert [doc.tolist() for doc in batch.prompts] == [[7], [2], []]
        assert batch.from_text


def test_bad_rows_are_named_or_counted():
    docs = [[1], None, [200], [3, -1], [4]]
    for dataset in (
        datasets.Dataset.from_dict({"tokens": docs}),
        datasets.IterableDataset.from_generator(lambda: ({"tokens": doc} for doc in docs)),
    ):
        with pytest.raises(CorpusError, match=r"row 1: field 'tokens'"):
            ids_of(open_corpus(dataset, vocab_size=100))
        corpus = open_corpus(dataset, vocab_size=100, on_error="skip")
        assert ids_of(corpus) == [[1], [4]]
        assert corpus.skipped.count == 3


def test_what_cannot_be_read_is_said():
    both = datasets.DatasetDict({"train": table(), "test": table()})
    with pytest.raises(ArgumentError, match="give one of them: 'train', 'test'"):
        open_corpus(both)
    with pytest.raises(CorpusError, match=r"no field input_ids, tokens or text.* one of: a"):
        open_corpus(datasets.Dataset.from_dict({"a": [[1]]}))
    with pytest.raises(CorpusError, match="no field 'b'; the fields are: n, input_ids"):
        open_corpus(table(), field="b")
    with pytest.raises(CorpusError, match="holds no documents"):
        ids_of(
            open_corpus(
                datasets.Dataset.from_dict({"tokens": []}).cast_column(
                    "tokens", datasets.List(datasets.Value("int32"))
                )
            )
        )


def test_inspection_of_an_object():
    found = inspect_corpus(table())
    assert (found.n_documents, found.n_tokens) == (len(DOCS), sum(map(len, DOCS)))
    assert (found.formats, found.field, found.dtype) == (("datasets",), "input_ids", "int32")


def test_several_objects_are_all_read():
    kinds = (untyped, lambda: table().to_iterable_dataset(), table)
    made = [make() for make in kinds for _ in range(3)]
    corpus = open_corpus([*made, made[0], made[-1]], batch_tokens=100)  # those given twice are one
    assert ids_of(corpus) == DOCS * 9
    names = [str(source.path) for source in corpus.sources]
    assert len(set(names)) == 9
    assert names[:3] == [
        "IterableDataset(generator)",
        "IterableDataset(generator)#2",
        "IterableDataset(generator)#3",
    ]
    again = open_corpus(made)
    assert again.manifest() == corpus.manifest()
    for batch in list(corpus)[::7]:
        done = batch.first_document + len(batch)
        rest = ids_of(again, batch.cursor) if done < 9 * len(DOCS) else []
        assert rest == (DOCS * 9)[done:]
    bad = datasets.Dataset.from_dict({"input_ids": [[1], [200]]}).to_iterable_dataset()
    with pytest.raises(CorpusError, match=r"IterableDataset\(unnamed\)#2:row 1: .*200"):
        ids_of(open_corpus([table().to_iterable_dataset(), bad], vocab_size=100))


def test_a_state_tells_objects_apart():
    one, other = open_corpus(table()), open_corpus(table().select([1, 0]))
    assert one.manifest() == open_corpus(table()).manifest()
    assert one.manifest() != other.manifest()
    assert json.loads(json.dumps(one.manifest())) == one.manifest()


def test_saved_folders_of_all_splits(tmp_path):
    both = datasets.DatasetDict({"train": table(), "test": table().select(range(5))})
    both.save_to_disk(tmp_path / "both", num_shards={"train": 3, "test": 1})
    assert ids_of(open_corpus(tmp_path / "both")) == DOCS[:5] + DOCS
    assert ids_of(open_corpus(tmp_path / "both" / "train")) == DOCS
    again = datasets.load_from_disk(tmp_path / "both" / "train")
    assert ids_of(open_corpus(again)) == DOCS
    # What `map` leaves beside the data is no part of them.
    again.map(lambda row: {"n": row["n"] + 1})
    assert list((tmp_path / "both" / "train").glob("cache-*.arrow"))
    assert ids_of(open_corpus(tmp_path / "both" / "train")) == DOCS


# ---- what the library gives, not what lies under it (datasets#7842, #6012) ----------------------


def added(batch):
    return {"input_ids": [[id_ + 100 for id_ in ids] for ids in batch["input_ids"]]}


def transformed():
    dataset = table()
    dataset.set_transform(added)
    return dataset


def as_tensors(batch):
    import torch

    return {"tokens": [torch.tensor(ids, dtype=torch.int32) for ids in batch["input_ids"]]}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: table().with_transform(added), "input_ids"),
        (transformed, "input_ids"),
        (lambda: table().shuffle(seed=2).with_transform(added), "input_ids"),
        (lambda: table().with_transform(as_tensors), "tokens"),
        (lambda: table().with_format("numpy", dtype="int16"), "input_ids"),
        (lambda: table().with_format("torch"), "input_ids"),
        (lambda: table().with_format("pandas", columns=["input_ids"]), "input_ids"),
        (lambda: table().rename_column("input_ids", "a"), "a"),
        (lambda: datasets.concatenate_datasets([table(), table().select([3, 1])]), "input_ids"),
        (lambda: table().filter(lambda row: row["n"] % 2), "input_ids"),
        (lambda: table().to_iterable_dataset().with_format("torch"), "input_ids"),
        (lambda: untyped().with_format("numpy"), "input_ids"),
        (lambda: untyped().with_format("arrow"), "input_ids"),
        (lambda: table().to_iterable_dataset().map(lambda r: {"tokens": r["input_ids"]}), "tokens"),
    ],
)
def test_rows_are_those_that_the_library_gives(make, field):
    plain = make()
    if isinstance(plain, datasets.IterableDataset):
        plain = plain.with_format(None)
        expected = [list(row[field]) for row in plain]
    else:
        given = plain[:][field] if plain.format["type"] != "pandas" else list(plain[:][field])
        expected = [[int(id_) for id_ in ids] for ids in given]
    corpus = open_corpus(make(), field=field, batch_tokens=50)
    batches = list(corpus)
    assert [doc.tolist() for batch in batches for doc in batch.documents] == expected
    middle = batches[len(batches) // 2]
    done = middle.first_document + len(middle)
    assert ids_of(corpus, middle.cursor) == expected[done:]
    assert corpus.known().n_documents in (None, len(expected))


def test_values_that_a_format_changes_are_not_read_as_they_were():
    floats = table().with_format("numpy", dtype=np.float32)
    with pytest.raises(CorpusError, match=r"row 0: token id 0 .* not an integer"):
        ids_of(open_corpus(floats))
    doubled = table().with_transform(lambda b: {"input_ids": b["input_ids"] * 2})
    with pytest.raises(CorpusError, match=r"one value per row; use map\(\) instead"):
        ids_of(open_corpus(doubled))
    hidden = table().with_format("torch", columns=["n"])
    with pytest.raises(CorpusError, match=r"whose format leaves out columns.*one of: n"):
        open_corpus(hidden)
    shown = table().with_format("torch", columns=["n"], output_all_columns=True)
    assert ids_of(open_corpus(shown)) == DOCS
    with pytest.raises(ArgumentError, match="not Column; give the data set itself"):
        open_corpus(table()["input_ids"])


def test_columns_that_the_library_decodes(tmp_path, tokenizer):
    features = datasets.Features({"text": datasets.Json()})
    dataset = datasets.Dataset.from_dict({"text": ["the cat", "a dog"]}, features=features)
    assert dataset[0] == {"text": "the cat"}  # stored with quotes
    for one in (dataset, dataset.to_iterable_dataset()):
        assert ids_of(open_corpus(one, tokenizer=tokenizer)) == [[2, 3], [6, 11]]
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "x.parquet")
    for path in (tmp_path / "saved", tmp_path / "x.parquet"):
        with pytest.raises(CorpusError, match="'text' holds Json of the library datasets; load it"):
            ids_of(open_corpus(path, tokenizer=tokenizer))


def test_saved_formats_hold(tmp_path):
    table().with_format("numpy").save_to_disk(tmp_path / "plain")
    assert ids_of(open_corpus(tmp_path / "plain")) == DOCS
    table().with_format("torch", columns=["n"]).save_to_disk(tmp_path / "hidden")
    for field in (None, "input_ids"):
        with pytest.raises(CorpusError, match="whose format leaves out columns"):
            open_corpus(tmp_path / "hidden", field=field)
    corpus = open_corpus(tmp_path / "hidden", field="input_ids", on_error="skip")
    with pytest.raises(CorpusError, match=r"hidden: .* leaves out column 'input_ids'; save it ag"):
        ids_of(corpus)
    table().with_format("numpy", dtype="int8").save_to_disk(tmp_path / "small")
    with pytest.raises(CorpusError, match=r"small: .* changes values \(\{'dtype': 'int8'\}\)"):
        ids_of(open_corpus(tmp_path / "small"))


def test_only_listed_splits_are_read(tmp_path):
    both = datasets.DatasetDict({"train": table(), "test": table().select(range(5))})
    both.save_to_disk(tmp_path / "x")
    table().save_to_disk(tmp_path / "x" / "old")
    data = (tmp_path / "x" / "old" / "data-00000-of-00001.arrow").read_bytes()
    (tmp_path / "x" / "stray.arrow").write_bytes(data)
    (tmp_path / "x" / "train" / "data-00001-of-00001.arrow").write_bytes(data)
    assert ids_of(open_corpus(tmp_path / "x")) == DOCS[:5] + DOCS
    (tmp_path / "x" / "dataset_dict.json").write_text('{"splits": ["train", "gone"]}')
    with pytest.raises(CorpusError, match=r"dataset_dict\.json: lists gone, which does not exist"):
        open_corpus(tmp_path / "x")
