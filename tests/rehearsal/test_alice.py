"""What Alice writes: records of every kind, resumed, read, and taken apart."""

import json
import random
import re
from dataclasses import replace

import pytest
import radscore as rs
from hypothesis import given, settings
from hypothesis import strategies as st
from radscore.errors import ArgumentError, CorpusError, StateError

pytest.importorskip("torch")
pytest.importorskip("transformers")

from radscore.models.writing import Sampling
from radscore.rehearsal.alice import Record, read_records, write_records
from radscore.rehearsal.alice_instruct import FORMATS, Seen, parse, seeds_of, span_of
from radscore.rehearsal.alice_records import as_ids
from radscore.rehearsal.settings import DataSettings, Mark
from small import killed

KEY = bytes(range(16))
MARK = Mark(rs.Keyed(key=KEY, vocab_size=400, gamma=0.25, context_width=2), 4.0)
PROMPTS = [f"Name {n} red boats of" for n in range(10, 22)]
SAMPLING = Sampling(max_tokens=40, temperature=0.9)
CONTINUATIONS = DataSettings("continuations", 20, SAMPLING, min_tokens=4)
INSTRUCTIONS = DataSettings("self-instruct", 24, Sampling(max_tokens=90, temperature=0.9))


def lines(path):
    """The lines of a file, but for when and how they were made."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in one.items() if k != "provenance"} for one in found]


def log10_pvalue(records):
    return rs.score([one.tokens for one in records], MARK.scheme).log10_pvalue


def test_continuations_and_their_twins(model, tmp_path):
    seen = []
    report = write_records(
        model, PROMPTS, CONTINUATIONS, MARK, tmp_path / "a", seed=1, batch_size=8,
        progress=seen.append,
    )  # fmt: skip
    assert (report.n_records, report.n_left, report.n_before) == (20, 0, 0)
    assert report.n_texts == 20 + sum(report.dropped.values())
    assert (seen[-1].done, seen[-1].total, seen[-1].tokens) == (20, 20, report.n_tokens)
    write_records(model, PROMPTS, CONTINUATIONS, None, tmp_path / "b", seed=1, batch_size=8)
    marked, clean = read_records(tmp_path / "a"), read_records(tmp_path / "b")
    assert len(marked) == len(clean) == 20
    for records in marked, clean:
        # every prompt once, and then again with other draws
        assert [one.prompt for one in records[:12]] == PROMPTS
        assert len({(one.prompt, one.answer) for one in records}) == 20
        for one in records:
            assert len(one.tokens) >= 4
            assert model.tokenizer.decode(one.tokens, skip_special_tokens=True) == one.answer
            assert model.tokenizer.decode(one.prompt_tokens) == one.prompt
            assert one.ended == (len(one.tokens) < 40)
    assert log10_pvalue(marked) < -10 < -4 < log10_pvalue(clean)


def test_answers_stand_in_the_chat_template(model, tmp_path):
    settings = DataSettings("answers", 5, SAMPLING, min_tokens=1)
    write_records(model, PROMPTS, settings, None, tmp_path / "a", seed=1)
    for prompt, one in zip(PROMPTS, read_records(tmp_path / "a"), strict=False):
        assert one.prompt == prompt
        assert model.tokenizer.decode(one.prompt_tokens) == f"<user>{prompt}\n"


def test_self_instruct(model, seeds, tmp_path):
    out = tmp_path / "a"
    report = write_records(model, seeds, INSTRUCTIONS, MARK, out, seed=1, batch_size=8)
    records = read_records(out)
    assert report.n_left == 0
    assert report.n_records == len(records) >= 24
    assert report.n_parsed == len(records) + sum(report.dropped.values())
    assert 0.1 < report.parsed_share <= 1
    assert report.dropped["duplicate"] > 0
    known = {one.prompt for one in seeds}
    for one in records:
        assert one.prompt not in known
        assert len(one.tokens) >= INSTRUCTIONS.min_tokens
        assert model.tokenizer.decode(one.tokens).strip() == one.answer
    # the answers' own ids, cut out of whole texts, carry the mark
    assert log10_pvalue(records) < -10
    # later examples are of what was kept before
    prompts = [one["prompt"] for one in lines(out)]
    assert all(prompt.count("Answer:") == 3 for prompt in prompts)
    assert not any(one.prompt in prompt for one in records for prompt in prompts[:8])
    assert any(one.prompt in prompt for one in records for prompt in prompts[8:])


@pytest.mark.parametrize("kind", ["continuations", "self-instruct"])
def test_a_file_that_was_cut_anywhere_is_completed_with_the_same_data(model, seeds, tmp_path, kind):
    how, prompts = (CONTINUATIONS, PROMPTS) if kind == "continuations" else (INSTRUCTIONS, seeds)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write_records(model, prompts, how, MARK, whole, seed=3, batch_size=8)
    data = whole.read_bytes()
    for place in random.Random(0).sample(range(1, len(data)), 3):
        cut.write_bytes(data[:place])
        report = write_records(model, prompts, how, MARK, cut, seed=3, batch_size=8)
        assert lines(cut) == lines(whole)
        assert report.n_before == len(data[:place].splitlines()) - (
            data[place - 1 : place] != b"\n"
        )


_SCRIPT = """
import pickle, sys, time
import torch
torch.set_num_threads(1)
from radscore.models import load_model
from radscore.rehearsal.alice import write_records
folder, arguments, out = sys.argv[1:]
prompts, settings, mark = pickle.load(open(arguments, "rb"))
print("ready", flush=True)
write_records(load_model(folder, device="cpu"), prompts, settings, mark, out, seed=5,
              batch_size=4, progress=lambda _: time.sleep(0.2))
"""


def test_killed(folder, model, seeds, tmp_path):
    import pickle

    whole, out, arguments = tmp_path / "whole", tmp_path / "out", tmp_path / "arguments"
    mark = Mark(rs.KGW(vocab_size=400, seeding="hash", gamma=0.25, context_width=2), 4.0)
    arguments.write_bytes(pickle.dumps((seeds, INSTRUCTIONS, mark)))

    def written():
        return out.exists() and len(out.read_bytes().splitlines()) >= 8

    killed(_SCRIPT, folder, arguments, out, once=written)
    before = len(out.read_bytes().splitlines())
    report = write_records(model, seeds, INSTRUCTIONS, mark, out, seed=5, batch_size=4)
    assert 8 <= report.n_before <= before < report.n_texts
    write_records(model, seeds, INSTRUCTIONS, mark, whole, seed=5, batch_size=4)
    assert lines(out) == lines(whole)


def test_prompts_fit_the_model(model, seeds, tmp_path):
    small = replace(model, max_length=200)
    how = replace(INSTRUCTIONS, sampling=replace(INSTRUCTIONS.sampling, max_tokens=40), n_records=8)
    write_records(small, seeds, how, None, tmp_path / "a", seed=1, batch_size=8)
    found = lines(tmp_path / "a")
    assert all(len(one["prompt_tokens"]) + 40 <= 200 for one in found)
    assert {one["prompt"].count("Answer:") for one in found} <= {1, 2}
    long = [*PROMPTS[:3], "Name a boat. " * 60]
    with pytest.raises(ArgumentError, match="exceed the model's 200"):
        write_records(small, long, CONTINUATIONS, None, tmp_path / "b", seed=1, batch_size=2)
    assert not (tmp_path / "b").exists()


def test_stopped_and_continued(model, tmp_path):
    out = tmp_path / "a"
    report = write_records(
        model, PROMPTS, CONTINUATIONS, MARK, out, seed=1, batch_size=8, stop=lambda: True
    )
    assert (report.n_records, report.n_left) == (8 - sum(report.dropped.values()), 12)
    report = write_records(model, PROMPTS, CONTINUATIONS, MARK, out, seed=1, batch_size=8)
    assert (report.n_records, report.n_left, report.n_before) == (20, 0, 8)
    with pytest.raises(ArgumentError, match="was made with seed 1, not 2"):
        write_records(model, PROMPTS, CONTINUATIONS, MARK, out, seed=2)
    with pytest.raises(ArgumentError, match="was made with"):
        write_records(model, PROMPTS, CONTINUATIONS, None, out, seed=1)
    report = write_records(model, PROMPTS, CONTINUATIONS, None, out, seed=1, fresh=True)
    assert (report.n_records, report.n_before) == (20, 0)
    out.write_text("something else\n")
    with pytest.raises(StateError, match=":1: not a record"):
        write_records(model, PROMPTS, CONTINUATIONS, None, out, seed=1)


def test_a_mark_that_leaves_nothing_to_chance_ends(model, tmp_path):
    mark = Mark(rs.VLLMGumbel(vocab_size=400, key=7, context_width=1))
    how = replace(CONTINUATIONS, sampling=replace(SAMPLING, repeated="mark"))
    report = write_records(model, PROMPTS[:2], how, mark, tmp_path / "a", seed=1)
    assert 2 <= report.n_records < 20
    assert report.n_left == 20 - report.n_records
    assert report.dropped["duplicate"] > 0
    assert "give more prompts" in report.notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], CONTINUATIONS), "prompts must not be empty"),
        ((["Who?"], INSTRUCTIONS), "seed 0 must be a Record, or a text such as"),
        ((["Instruction: Go.\nAnswer: No."], INSTRUCTIONS), "at least 3 seeds, not 1"),
    ],
)
def test_what_cannot_be_written(model, tmp_path, arguments, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        write_records(model, *arguments, None, tmp_path / "a", seed=1)
    with pytest.raises(ArgumentError, match="format must be one of plain, alpaca"):
        write_records(model, PROMPTS, CONTINUATIONS, None, tmp_path / "a", seed=1, format="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "letters"}, "kind must be continuations, answers or self-instruct"),
        ({"n_records": 0}, "n_records must be"),
        ({"min_tokens": -1}, "min_tokens must be"),
        ({"max_overlap": 0.0}, "max_overlap must be above 0 and at most 1"),
    ],
)
def test_settings_that_are_none(change, message):
    with pytest.raises(ArgumentError, match=message):
        replace(CONTINUATIONS, **change)


@pytest.mark.parametrize(
    ("text", "found", "broken"),
    [
        (" Add 1.\nAnswer: 2", [("Add 1.", "2")], 0),
        ("\nInstruction: Add 1.\nAnswer: 2", [("Add 1.", "2")], 0),
        (
            " A\nAnswer: B\n\nInstruction 2: C\nd\nAnswer:\nE\nf\n",
            [("A", "B"), ("C\nd", "E\nf")],
            0,
        ),
        ("A\n### Response:\nB\n\n### Instruction:\nC", [("A", "B")], 1),
        (" A\n**Answer:** B\n\n2. **Task:** C\n**Output:** D", [("A", "B"), ("C", "D")], 0),
        ("A\nanswer : B\nTASK: C\nRESPONSE: D", [("A", "B"), ("C", "D")], 0),
        ("A\nAnswer: B\nAnswer: C", [("A", "B")], 0),
        ("Nothing of the kind.", [], 1),
        ("\nAnswer: B", [], 1),
        ("A\nAnswer:  \n\nInstruction: C\nAnswer: D", [("C", "D")], 1),
        ("", [], 1),
    ],
)
def test_parsing(text, found, broken):
    records, number = parse(text)
    assert [(one.instruction, one.answer) for one in records] == found
    assert number == broken
    for one in records:
        assert text[one.start : one.end] == one.answer


def test_parsing_a_text_that_was_cut():
    for tail in ("\n\nInstruction", "\n\nIns", "\n\n### Instruc", "\n\n", "\n\n2. Ta"):
        ((one,), broken) = parse(f"A\nAnswer: B{tail}", cut=True)
        assert (one.answer, one.last, broken) == ("B", False, 0), tail
    ((one,), broken) = parse("A\nAnswer: B\nRoses", cut=True)
    assert (one.answer, one.last, broken) == ("B\nRoses", True, 0)
    assert parse("A\nAnswer: B\n\nInstruction: C d", cut=True)[1] == 0
    assert parse("A\nAnswer: B\n\nInstruction: C d")[1] == 1


@given(st.text(max_size=200))
def test_parsing_anything(text):
    for cut in (False, True):
        records, broken = parse(text, cut=cut)
        assert broken >= 0
        for one in records:
            assert one.instruction.strip() == one.instruction != ""
            assert text[one.start : one.end] == one.answer == one.answer.strip() != ""


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_ids_of_a_part_of_a_text(model, data):
    tokenizer = model.tokenizer
    ids = data.draw(st.lists(st.integers(1, 399), min_size=1, max_size=40))
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    found = span_of(tokenizer, ids, start, end, text).tolist()
    if found:
        assert tokenizer.decode(found, skip_special_tokens=True).strip() == text[start:end]
        assert any(ids[i : i + len(found)] == found for i in range(len(ids)))


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=8).map(" ".join), max_size=30),
    st.sampled_from([0.01, 0.5, 0.7, 1.0]),
)
def test_near_duplicates_are_those_of_a_plain_search(instructions, most):
    def grams(text):
        words = text.split()
        return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}

    seen, kept = Seen(most), []
    for one in instructions:
        shares = [len(grams(one) & grams(other)) / len(grams(one)) for other in kept]
        new = not any(share >= most for share in shares)
        assert seen.is_new(one) == new
        kept += [one] * new


def test_seeds_and_formats():
    one = Record("Add.", "Done.", as_ids([1]), as_ids([2]))
    text = "Instruction: Go.\nAnswer: No.\n\nInstruction: Stay.\nAnswer: Yes."
    found = seeds_of([one, text], FORMATS["plain"])
    assert [(s.prompt, s.answer) for s in found] == [
        ("Add.", "Done."),
        ("Go.", "No."),
        ("Stay.", "Yes."),
    ]


def test_own_records(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"prompt": "Who?", "answer": "I.", "tokens": [3, 4], "prompt_tokens": [1]},
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Add.", "input": "", "output": "3", "ended": False},
        {"question": "Why?", "response": "So."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_records(path) == [
        Record("Who?", "I.", as_ids([1]), as_ids([3, 4])),
        Record("Add.\n\n1 and 2", "3"),
        Record("Add.", "3", ended=False),
        Record("Why?", "So."),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "a record must be"),
        ("{", "JSON"),
        ("{}", "has none of the fields prompt, instruction, question"),
        ('{"prompt": "a"}', "has none of the fields answer, output, response, completion, text"),
        ('{"prompt": 3, "answer": "b"}', "field 'prompt' must hold text, not 3"),
        ('{"prompt": "a", "answer": "\\ud800"}', "field 'answer': not valid text"),
        ('{"instruction": "a", "input": 1, "output": "b"}', "field 'input' must hold text"),
        ('{"prompt": "a", "answer": "b", "tokens": "12"}', "field 'tokens' must be a list of"),
        ('{"prompt": "a", "answer": "b", "tokens": [1.5]}', "field 'tokens' must be a list of"),
        ('{"prompt": "a", "answer": "b", "tokens": [true]}', "field 'tokens' must be a list"),
        ('{"prompt": "a", "answer": "b", "tokens": [9999999999]}', "field 'tokens' must be a list"),
        ('{"prompt": "a", "answer": "b", "tokens": [-1]}', "field 'tokens' has the negative id -1"),
        ('{"prompt": "a", "answer": "b", "ended": 1}', "field 'ended' must be true or false"),
        ('{"prompt_id": "x", "records": [3]}', "a record must be a JSON object, not 3"),
        ('{"prompt_id": "x", "records": [{"prompt": "a"}]}', "has none of the fields answer"),
        ('{"prompt_id": "x", "prompt": "a"}', "has none of the fields answer"),
    ],
)  # fmt: skip
def test_hostile_records(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n")
    with pytest.raises(CorpusError, match=f"a.jsonl:2.*{re.escape(message)}"):
        read_records(path)


def test_no_records(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt_id": "x", "prompt": "a", "text": "b", "dropped": {"short": 1}}\n')
    with pytest.raises(CorpusError, match="there are no records"):
        read_records(path)
