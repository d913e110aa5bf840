"""Records that are huge, under a memory limit: read within it, or refused by location.

Each file is read in a process of its own, whose peak of memory is measured. The situations are
those that exceeded a limit before: one text of 46 million tokens, a line of emoji, a word of 20 MB,
a field with millions of objects, and text in DELTA_BYTE_ARRAY, where a few bytes of a file stand
for any number.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.corpus import open_corpus
from radscore.corpus.readers import long_values
from radscore.corpus.readers.long_values import Wanted
from radscore.corpus.readers.skim import SkimError, skim
from radscore.corpus.room import Room
from radscore.errors import CorpusError
from radscore.sizes import budget_of

LIMIT = 64 << 20
#: What docs/runs.md allows beyond the limit.
BEYOND = 256_000_000

CODE = """
import sys
import numpy as np
from radscore.corpus import open_corpus
from radscore.errors import CorpusError

def quarters(text):
    return np.zeros(len(text) // 4, np.uint32)

options = eval(sys.argv[2])
options.setdefault("tokenizer", quarters)
n_tokens, said = 0, "read"
try:
    corpus = open_corpus(sys.argv[1], **options).within(int(sys.argv[3]))
    for batch in corpus:
        n_tokens += batch.documents.n_tokens
    if corpus.skipped:
        said = corpus.skipped.examples[0]
except CorpusError as error:
    said = str(error)
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10
print(n_tokens, peak, said)
"""


def tokens(folder):
    path = folder / "x.jsonl"
    path.write_text(
        '{"text": "' + "the cat sat on " * 8_000_000 + '"}\n{"text": "the cat sat on"}\n'
    )
    return path, 3, "x.jsonl:1: the line takes about 840 MB"


def emoji(folder):
    path = folder / "x.jsonl"
    path.write_text('{"text": "' + "\U0001f600 " * 5_000_000 + '"}\n{"text": "the cat"}\n')
    return path, 1, None


def word(folder):
    path = folder / "x.jsonl"
    path.write_text('{"text": "' + "a" * 8_000_000 + '"}\n{"text": "the cat"}\n')
    return (
        path,
        2,
        "x.jsonl:1: the text, of which 8,000,000 characters are tokenised at once, takes",
    )


def objects(folder):
    path = folder / "x.jsonl"
    path.write_text('{"text": "the cat", "meta": [' + ",".join(["{}"] * 3_000_000) + "]}\n")
    return path, 1, "read"


def plain_text(folder):
    path = folder / "x.txt"
    path.write_text("the cat sat on " * 6_000_000)
    return path, 0, "the text takes about 630 MB"


def delta(folder):
    path = folder / "x.parquet"
    base = "the cat sat on " * 130_000
    table = pa.table({"text": [f"{base}{i:04}" for i in range(100)]})
    pq.write_table(table, path, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
    return path, 100 * ((len(base) + 4) // 4), "read"


def page(folder):
    path = folder / "x.parquet"
    table = pa.table({"text": ["the cat", "the cat sat on " * 4_000_000]})
    pq.write_table(table, path, use_dictionary=False, compression="zstd")
    return path, 0, "x.parquet:row 0: a page of column 'text' takes about 180 MB"


def batches(folder):
    path = folder / "x.arrow"
    table = pa.table({"text": ["the cat", "the cat sat on " * 4_000_000]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path, 1, "x.arrow:row 1: field 'text' takes about 360 MB"


def packed(folder):
    path = folder / "x.arrow"
    table = pa.table({"text": ["the cat", "the cat sat on " * 6_000_000]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table)
    return path, 0, "x.arrow:row 1: field 'text' takes about 540 MB"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "make", [tokens, emoji, word, objects, plain_text, delta, page, batches, packed]
)
def test_a_limit_holds_or_the_record_is_named(tmp_path, make):
    path, n_tokens, says = make(tmp_path)
    options = {"on_error": "skip", "batch_tokens": 2**20}
    if make is word:
        sys.path.insert(0, str(Path(__file__).parent))
        from conftest import make_tokenizer

        sys.path.pop(0)
        options["tokenizer"] = str(tmp_path / "tokenizer.json")
        make_tokenizer().save(options["tokenizer"])
    command = [sys.executable, "-c", CODE, str(path), str(options), str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    found, peak, said = done.stdout.split(maxsplit=2)
    # Windows take the rest of the limit.
    assert int(peak) < LIMIT + BEYOND - budget_of(LIMIT).beside(Room.within(LIMIT).n_bytes)
    if says is None:
        assert "takes about" in said
    else:
        assert says in said
    if says is not None:
        assert int(found) == n_tokens
    path.unlink()


def test_the_limit_that_a_message_names_is_enough():
    for need in (200_000_000, 479_000_000, 870_000_000, 5_000_000_000):
        flaw = Room.within(LIMIT).flaw(need)
        named = flaw.partition("memory='")[2].partition("'")[0]
        assert Room.within(budget_of(named).memory).flaw(need) is None


@pytest.mark.parametrize("memory", [64 << 20, 128 << 20, 512 << 20, 1 << 30, 1 << 34])
def test_windows_leave_room_for_a_record(memory):
    room = Room.within(memory)
    windows = budget_of(memory).beside(room.n_bytes)
    assert windows >= memory // 4
    assert windows + room.n_bytes <= memory + (110 << 20)
    assert budget_of(memory).beside(None) == budget_of(memory).windows >= windows


def test_a_record_within_the_limit_is_read_as_without(tmp_path):
    path = tmp_path / "x.jsonl"
    record = {"other": "x" * 2_000_000, "text": "é" * 2_500_000, "data": {"ids": [5] * 1_500_000}}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n" + '{"text": "a"}\n')
    corpus = open_corpus(path, tokenizer=lambda text: [ord(char) for char in text])
    free, limited = ([one.documents for one in c] for c in (corpus, corpus.within(LIMIT)))
    assert [one.n_tokens for one in free] == [2_500_001]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(free, limited, strict=True))
    corpus = open_corpus(path, field="data.ids", on_error="skip").within(LIMIT)
    assert [one.documents.n_tokens for one in corpus] == [1_500_000]


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(
    value=st.dictionaries(st.text(max_size=3), VALUE, max_size=4),
    at=st.integers(0, 10**6),
    how=st.sampled_from(["nothing", "delete", "insert", "replace"]),
    char=st.sampled_from('{}[],:"\\0 1e-.\n\x0b٣NItu'),
)
def test_what_is_skimmed_is_what_json_accepts(value, at, how, char):
    """The module json is the oracle, for whole text and for text with an error."""
    text = json.dumps(value)
    at %= len(text)
    if how != "nothing":
        text = text[:at] + ("" if how == "delete" else char) + text[at + (how != "insert") :]
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(SkimError):
            skim(text)
        return
    found = skim(text)
    if isinstance(expected, dict):
        pairs = {json.loads(key): json.loads(text[a:b]) for key, (a, b) in found.members}
        assert repr(pairs) == repr(expected)
    elif isinstance(expected, list):
        assert repr([json.loads(text[a:b]) for _, (a, b) in found.members]) == repr(expected[:8])
    else:
        assert found is None


@pytest.mark.parametrize(
    ("field", "expected"),
    [("text", "hello"), ("data.text", "there"), ("turns.0.text", "first"), ("long", "l" * 50)],
)
def test_wanted_values_of_a_heavy_record(monkeypatch, field, expected):
    """Small limits send a small record the way of huge ones."""
    record = {
        "junk": [{"a": {}}] * 50,
        "text": "hello",
        "data": {"junk": [[[]]] * 50, "text": "there"},
        "long": "l" * 50,
        "list": list(range(50)),
        "turns": [{"text": "first"}, *({"text": "more"} for _ in range(50))],
    }
    line = json.dumps(record).encode()
    monkeypatch.setattr(long_values, "_HEAVY", 1)
    monkeypatch.setattr(long_values, "_LONG_VALUE", 20)
    for wanted in (Wanted.of([field], None), Wanted.of([field], Room(10**6))):
        found, flaw = long_values.parse(line, wanted)
        assert flaw is None
        assert list(found) == list(record)
        assert found["junk"] is None
        from radscore.corpus.records import value_of

        assert value_of(found, field) == (True, expected)
    sketch, _ = long_values.parse(line, Wanted.of((), None))
    assert value_of(sketch, field)[0]
    assert isinstance(value_of(sketch, field)[1], str)
    assert len(sketch["turns"]) == 8
    twice = line[:-1] + b', "text": "again"}'
    assert "occurs twice" in long_values.parse(twice, Wanted.of(["text"], None))[1]
    assert "takes about" in long_values.parse(line, Wanted.of(["junk"], Room(1000)))[1]


def test_a_limit_refuses_with_the_way_out(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "' + "a " * 16_000_000 + '"}\n')
    corpus = open_corpus(path, tokenizer=lambda text: [0]).within(LIMIT)
    with pytest.raises(CorpusError, match=r"x.jsonl:1: the line takes .* give memory='\d+MiB' or"):
        list(corpus)
