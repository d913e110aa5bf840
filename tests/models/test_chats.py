"""Chats: which are read, which are left out, and where each of these stood."""

import json

import pytest
from radscore.errors import CorpusError, ModelError, TokenError
from radscore.models import LanguageModel
from radscore.models.chats import Chats, plain_chat
from radscore.models.passages import passages
from tiny import VOCAB, tiny_llama, word_tokenizer

USER = {"role": "user", "content": "w1 w2"}


def said(content, **more):
    return [USER, {"role": "assistant", "content": content, **more}]


def part(text, kind="text"):
    return {"type": kind, "text": text}


#: Chats as trl, OpenAI and `datasets` have them, and what the assistant says, or the flaw.
CHATS = {
    "text": (said("w3"), "w3"),
    "parts": (said([part("w3 "), part("w4", "output_text"), "w5"]), "w3 w4w5"),
    "empty text": (said(""), ""),
    "nulls of a typed table": (said("w3", tool_calls=None, name=None), "w3"),
    "text and a tool call": (said("w3", tool_calls=[{"id": "1"}]), "w3"),
    "tool call": (said(None, tool_calls=[{"id": "1"}]), "message 1 calls tools and has no text"),
    "no content": ([USER, {"role": "assistant"}], "message 1 has no content"),
    "no parts": (said([]), "message 1 has no content"),
    "image": (said([part("w3"), {"type": "image_url"}]), "a part 1 that is not text ('image_url')"),
    "number": (said(5), "must have text as its content, not int"),
    "surrogate": (said("w3\ud83d"), "message 1 is not valid text: it contains a lone surrogate"),
    "no role": ([{"from": "human", "value": "w1"}], "message 0 has no role; its fields are: from"),
    "null role": ([{"role": None, "content": "w1"}], "message 0 has no role"),
    "no messages": ([], "the chat has no messages"),
    "null": (None, "must be a list of messages, not null"),
    "text instead": ("w1", "must be a list of messages, not str"),
    "texts": (["w1"], "message 0 must be {"),
}


@pytest.mark.parametrize("kind", CHATS)
def test_what_a_message_says(kind):
    chat, expected = CHATS[kind]
    plain, flaw = plain_chat(chat)
    if flaw is None:
        assert plain[1]["content"] == expected
        assert None not in plain[1].values()
    else:
        assert expected in flaw


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny_llama(), word_tokenizer(), "words", VOCAB, 256)


def test_each_flaw_is_located_and_counted(tmp_path, model):
    path = tmp_path / "x.jsonl"
    rows = [json.dumps({"d": {"m": chat}}) for chat, _ in CHATS.values()]
    path.write_text("\n".join([*rows, "{", "5", "{}", ""]))
    good = [kind for kind, (chat, _) in CHATS.items() if plain_chat(chat)[1] is None]
    chats = Chats(path, "d.m", on_error="skip")
    assert (len(chats), chats.skipped.count) == (len(good), len(CHATS) + 3 - len(good))
    assert chats.skipped.examples[0].startswith(f"{path}:6: field 'd.m': message 1 calls tools")
    for _ in range(2):
        assert len(list(passages(chats, model, 1))) == chats.n_documents == len(good)
    for number, (chat, expected) in enumerate(CHATS.values()):
        one = tmp_path / f"{number}.jsonl"
        one.write_text(f"\n{json.dumps({'m': chat})}\n")
        if plain_chat(chat)[1] is not None:
            with pytest.raises(CorpusError, match=rf"{number}\.jsonl:2: ") as raised:
                Chats(one, "m")
            assert expected in str(raised.value)


def test_chats_in_other_files(tmp_path, model):
    """Typed tables hold every key of every message, null where it was not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chats = [said("w3"), [USER, {"role": "assistant", "tool_calls": "x"}], said("w5")]
    pq.write_table(pa.table({"m": chats}), tmp_path / "x.parquet")
    found = Chats(tmp_path / "x.parquet", "m", on_error="skip")
    assert [chat[1]["content"] for chat in found] == ["w3", "w5"]
    assert "row 1: field 'm': message 1 calls tools" in found.skipped.examples[0]


def test_a_template_that_refuses_a_chat(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}{{ m.content }} {% endfor %}"
    )
    model = LanguageModel(tiny_llama(), tokenizer, "words", VOCAB, 256)
    bad = [USER, {"role": "tool", "content": "w3"}]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"m": chat}) + "\n" for chat in (said("w3"), bad)))
    chats = Chats(path, "m", on_error="skip")
    assert len(list(passages(chats, model, 1))) == chats.n_documents == 1
    assert "x.jsonl:2: " in chats.skipped.examples[0]
    assert "no tools" in chats.skipped.examples[0]
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: .* no tools"):
        list(passages(Chats(path, "m"), model, 1))
    with pytest.raises(ModelError, match=r"documents\[1\]: .* no tools"):
        list(passages([said("w3"), bad], model, 1))


@pytest.mark.parametrize("chat", [kind for kind, (c, _) in CHATS.items() if plain_chat(c)[1]])
def test_chats_in_memory_are_named_by_their_index(model, chat):
    if isinstance(CHATS[chat][0], list) and CHATS[chat][0]:
        with pytest.raises(TokenError, match=r"documents\[1\]: "):
            list(passages([said("w3"), CHATS[chat][0]], model, 1))


def test_strings_in_memory_are_named_by_their_index(model):
    for bad, says in ((None, "must be a string, not NoneType"), ("w1\ud83d", "a lone surrogate")):
        with pytest.raises(TokenError, match=rf"documents\[300\].*{says}"):
            list(passages(["w1"] * 300 + [bad], model, 1))
