"""Requests that were sent count, whatever became of the process that sent them."""

from dataclasses import replace

import pytest
from radscore.answers import open_answers
from radscore.errors import StateError
from radscore.models.journal import Journal
from radscore.models.questions import questions_of

from .conftest import DEMO, records, run

DEMO_TOKENIZER = DEMO / "tokenizer.json"


def test_requests_that_a_killed_process_had_sent_count(stub, tmp_path):
    out = tmp_path / "a.jsonl"
    run(stub, ["a"], out, max_requests=9)
    (question,) = questions_of(["b"])
    settings = records(out)[-1]["settings"]
    with Journal(out, settings) as journal:
        before = replace(journal.usage)
        journal.sent(question, 10, 20)  # as a process does that is killed before the answer
    assert (tmp_path / "a.jsonl.sent").exists()
    for _ in range(2):  # they stay counted
        with Journal(out, settings) as journal:
            usage = journal.usage
            assert usage.requests == before.requests + 1 == 2
            assert usage.prompt_tokens == before.prompt_tokens + 10
            assert usage.completion_tokens == before.completion_tokens + 20
    report = run(stub, ["a", "b", "c"], out, max_requests=3)
    assert (report.n_answered, report.n_left, report.requests) == (1, 1, 3)
    assert report.stopped == "max_requests=3 is used up"
    assert run(stub, ["a", "b"], out).requests == 3
    answers = open_answers(out, tokenizer=DEMO_TOKENIZER)
    assert (len(answers), answers.n_failed) == (2, 0)
    assert (tmp_path / "a.jsonl.sent").exists()  # what the first has cost, nobody knows


def test_a_budget_puts_nothing_but_answers_into_the_journal(stub, tmp_path):
    out = tmp_path / "a.jsonl"
    run(stub, ["a", "b", "c"], out, max_requests=2)
    assert [one["text"] != "" for one in records(out)] == [True, True]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("content", [b"notes\n", b'{"sent": [1]}\n', b'{"prompt_id": "a"}\n'])
def test_a_file_of_others_where_requests_would_be_kept_stays(stub, tmp_path, content):
    side = tmp_path / "a.jsonl.sent"
    side.write_bytes(content)
    with pytest.raises(StateError, match=r"a\.jsonl\.sent: not the requests of a journal"):
        run(stub, ["a"], tmp_path / "a.jsonl", max_requests=2)
    assert side.read_bytes() == content
    side.unlink()
    side.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="not the requests of a journal"):
        run(stub, ["a"], tmp_path / "a.jsonl", max_requests=2)


def test_a_torn_line_of_a_request_is_one_that_was_not_sent(stub, tmp_path):
    side = tmp_path / "a.jsonl.sent"
    side.write_bytes(b'{"sent": [0, 10, 20], "prompt_id": "x", "sample": 0}\n{"sent": [0, 1')
    assert run(stub, ["a"], tmp_path / "a.jsonl", max_requests=5).requests == 2
    assert side.read_bytes().endswith(b"}\n")  # nobody knows what became of the first
    report = run(stub, ["a"], tmp_path / "a.jsonl", max_requests=5, fresh=True)
    assert report.requests == 1
    assert not side.exists()
