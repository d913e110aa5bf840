"""Documents in memory, in whatever container: read, or refused with the way out."""

import numpy as np
import pyarrow as pa
import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import documents_of, load_encoder, open_corpus
from radscore.documents import Documents
from radscore.errors import ArgumentError, RadscoreError, TokenError

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
torch = pytest.importorskip("torch")

SCHEME = rs.Keyed(key=rs.Key(bytes(16)), vocab_size=1000, gamma=0.25, context_width=1)
IDS = st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=5), min_size=1, max_size=5)
TEXTS = st.lists(st.text("ab é", max_size=5), min_size=1, max_size=5)


def code_points(text):
    return [ord(char) for char in text]


def padded(ids):
    width = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[*one, *[0] * (width - len(one))] for one in ids]),
        "attention_mask": [[1] * len(one) + [0] * (width - len(one)) for one in ids],
    }


OF_IDS = {
    "tuple": tuple,
    "generator": lambda ids: (one for one in ids),
    "map": lambda ids: map(np.array, ids),
    "pandas": pd.Series,
    "pandas, shuffled index": lambda ids: pd.Series(ids, index=range(len(ids), 0, -1)),
    "polars": pl.Series,
    "objects": lambda ids: np.fromiter(ids, dtype=object),
    "Arrow": pa.array,
    "chunks": lambda ids: pa.chunked_array([ids[:1], ids[1:]], pa.list_(pa.int64())),
    "tensors": lambda ids: [torch.tensor(one) for one in ids],
    "nested tensor": lambda ids: torch.nested.nested_tensor([torch.tensor(one) for one in ids]),
    "encodings": lambda ids: {"input_ids": ids},
    "padded encodings": padded,
    "encoding by encoding": lambda ids: [{"input_ids": one} for one in ids],
    "deques": lambda ids: [iter(one) for one in ids],
}
OF_TEXTS = {
    "list": list,
    "generator": iter,
    "pandas": pd.Series,
    "pandas categories": lambda texts: pd.Series(texts, dtype="category"),
    "polars": pl.Series,
    "objects": lambda texts: np.array(texts, dtype=object),
    "numpy": lambda texts: np.array([*texts, "longest"])[:-1],
    "Arrow": pa.array,
    "Arrow binary": lambda texts: pa.array(texts).cast(pa.binary()),
    "numpy bytes": lambda texts: np.array([one.encode() for one in texts]),
    "Arrow views": lambda texts: pa.array(texts).cast(pa.string_view()),
    "Arrow dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "chunks": lambda texts: pa.chunked_array([texts, texts[:0]]),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("container", OF_IDS)
@settings(max_examples=25, deadline=None)
@given(ids=IDS)
def test_ids_in_any_container(container, ids):
    assert [one.tolist() for one in Documents.of(OF_IDS[container](ids))] == ids


@pytest.mark.parametrize("container", OF_TEXTS)
@settings(max_examples=25, deadline=None)
@given(texts=TEXTS)
def test_texts_in_any_container(container, texts):
    found = documents_of(OF_TEXTS[container](texts), load_encoder(code_points))
    assert [one.tolist() for one in found] == list(map(code_points, texts))


def test_columns_of_data_sets():
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "ids": [[1], [2, 3]]})
    assert Documents.of(made["ids"])[1].tolist() == [2, 3]
    assert documents_of(made["text"], load_encoder(code_points))[1].tolist() == [98]
    with pytest.raises(TokenError, match=r"open it with radscore\.open_corpus"):
        Documents.of(made)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ("a text", r"give a list of documents, or open files with radscore\.open_corpus"),
        (pd.DataFrame({"text": ["a"]}), "give one of its columns: 'text'"),
        (pl.DataFrame({"text": ["a"]}), "give one of its columns: 'text'"),
        (pa.table({"text": ["a"]}), "give one of its columns: 'text'"),
        ({"a", "b"}, "a set, which has no order; give a list"),
        ({"text": ["a"]}, "a dict without 'input_ids'; its keys: 'text'"),
        (["a", None], r"documents\[1\] is missing"),
        (pd.Series(["a", np.nan]), r"documents\[1\] is missing"),
        (pl.Series(["a", None]), r"documents\[1\] is missing"),
        (["a", [1]], r"documents\[1\] must be text, not list"),
        (["a", "b\ud83d"], r"documents\[1\]: not valid text"),
        ([[1], "b"], r"documents\[1\] is text, not token ids"),
        ([[1], [2]], "tokenizer= has no effect"),
        (["a", b"\xff"], r"documents\[1\] must be text, not bytes"),
        (np.array("a text"), "is a single value, not documents: 'a text'"),
        ([{"role": "user", "content": "a"}], "a chat, which only a model's template"),
    ],
)
def test_what_is_no_list_of_texts(documents, says):
    with pytest.raises(RadscoreError, match=says):
        rs.score(documents, SCHEME, tokenizer=code_points)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        (["a"], "documents holds text; give tokenizer="),
        ([[1], "b"], r"documents\[1\] is text, not token ids"),
        ([[1], None], r"documents\[1\] is missing"),
        (pd.Series([[1], np.nan]), r"documents\[1\] is missing"),
        ([[1], {2}], r"documents\[1\] is a set"),
        ([[1], [1.0]], r"documents\[1\] holds float64"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "another shape"),
    ],
)
def test_what_is_no_list_of_ids(documents, says):
    with pytest.raises(TokenError, match=says):
        rs.score(documents, SCHEME)


def test_prompts_are_named_too():
    with pytest.raises(TokenError, match=r"prompts\[1\] holds bool"):
        rs.score([[1], [2]], SCHEME, prompts=[[1], [True]])
    by_text = rs.score(["abcde"], SCHEME, tokenizer=code_points, prompts=["ab"])
    by_ids = rs.score(["abcde"], SCHEME, tokenizer=code_points, prompts=[[97, 98]])
    assert by_text == by_ids
    assert by_text.n_excluded == 2  # the contexts a and b


def test_each_document_of_a_corpus_in_batches_or_at_once(tmp_path):
    rng = np.random.default_rng(0)
    header = rng.integers(0, 1000, 20).tolist()
    docs = [header + rng.integers(0, 1000, 30).tolist() for _ in range(12)]
    docs[7] = docs[2]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"tokens": {doc}}}\n' for doc in [*docs[:5], "x", *docs[5:]]))
    corpus = open_corpus(path, batch_tokens=100, on_error="skip")
    assert len(list(corpus)) > 3
    found = rs.score_documents(corpus, SCHEME, max_sharing=2)
    whole = rs.score_documents(docs, SCHEME, max_sharing=2)
    for name, value in vars(whole).items():
        if isinstance(value, np.ndarray):
            assert np.allclose(getattr(found, name), value, rtol=1e-13, atol=0), name
    assert found.copy_of[7] == 2
    with pytest.raises(ArgumentError, match="a corpus has its own tokenizer"):
        rs.score_documents(corpus, SCHEME, tokenizer=code_points)


def test_models_read_the_same_containers(tmp_path):
    from radscore.models.passages import gathered, kind_of

    for made in (
        pd.Series(["a", "b"]),
        iter(["a", "b"]),
        pl.Series(["a", "b"]),
        pa.array(["a", "b"]),
    ):
        found = gathered(made)
        assert (kind_of(found), found) == ("string", ["a", "b"])
    chat = [{"role": "user", "content": "a"}]
    for chats in (iter([chat]), np.fromiter([chat], dtype=object)):
        assert kind_of(gathered(chats)) == "chat"
    assert kind_of(gathered([{"input_ids": [1]}])) == "ids"
