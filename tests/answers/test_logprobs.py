"""Log-probabilities of answers: every server's shape, the probe, and the ids that come of it."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from radscore.answers import Limits, open_answers
from radscore.answers.lists import Lists
from radscore.answers.logprobs import Position, from_record, read_positions, to_record
from radscore.errors import ModelError
from radscore.models.token_strings import TokenStrings

from .conftest import DEMO, records, run
from .shapes import END, PARTS, SERVERS, TOKENIZER, Toy

TOKENIZER_FILE = DEMO / "tokenizer.json"
PROMPTS = ["one", "two", "three", "four"]
#: Servers and interfaces of which every token's id is known.
EXACT = [
    ("openai", "chat"),
    ("openai", "completions"),
    ("vllm", "chat"),
    ("vllm", "completions"),
    ("sglang", "sglang"),
    ("llama.cpp", "chat"),
    ("llama.cpp", "completions"),
]
TEXT_ONLY = [
    ("sglang", "chat"),
    ("sglang", "completions"),
    ("llama-cpp-python", "chat"),
    ("llama-cpp-python", "completions"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("radscore.answers.workers._FIRST_WAIT", 0.001)
    monkeypatch.setattr("radscore.answers.probing._FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask_toy(stub, toy, out, prompts=PROMPTS, **options):
    stub.script["*"] = toy
    options = {"logprobs": 5, "max_tokens": 40, "limits": Limits(concurrency=2), **options}
    return run(stub, prompts, out, **options)


def answered(path):
    return [one for one in records(path) if "text" in one]


def probed(path):
    return [one["probe"] for one in records(path) if "probe" in one]


@pytest.mark.parametrize(("server", "api"), EXACT)
def test_ids_and_lists_are_the_servers_own(stub, tmp_path, server, api):
    toy, out = Toy(server), tmp_path / "a.jsonl"
    report = ask_toy(stub, toy, out, api=api)
    assert report.n_answered == len(PROMPTS)
    answers = open_answers(out, tokenizer=TOKENIZER_FILE)
    assert len(answers.listed) == answers.documents.n_tokens
    start = n_listed = 0
    for record, ids in zip(answered(out), answers.documents, strict=True):
        written, lists = toy.truth[record["prompt"], record["seed"]]
        written = [one for one in written if one != END]
        assert ids.tolist() == written
        for position, (_, top) in enumerate(lists[: len(written)]):
            found = answers.listed[start + position]
            n_listed += bool(found)
            true = dict(top)
            assert set(found) <= set(true)
            assert list(found) == [one for one, _ in top][: len(found)]
            for token, value in found.items():
                assert value == pytest.approx(true[token], abs=1e-4)
            missing = [true[one] for one in true if one not in found]
            assert not missing or not found or max(missing) <= min(found.values())
        start += len(written)
    assert n_listed == start  # with ids, nothing is left out


@pytest.mark.parametrize(("server", "api"), TEXT_ONLY)
def test_strings_are_what_they_can_be_and_nothing_else(stub, tmp_path, server, api):
    toy, out = Toy(server), tmp_path / "a.jsonl"
    ask_toy(stub, toy, out, api=api, prompts=[f"prompt {i}" for i in range(12)])
    answers = open_answers(out, tokenizer=TOKENIZER_FILE)
    start = n_listed = n_parts = 0
    for record, ids in zip(answered(out), answers.documents, strict=True):
        written, lists = toy.truth[record["prompt"], record["seed"]]
        written = [one for one in written if one != END]
        # the toy writes what its tokenizer would, so the text's own tokens are these
        assert ids.tolist() == written
        n_parts += sum(one in PARTS for one in written)
        for position, (_, top) in enumerate(lists[: len(written)]):
            found = answers.listed[start + position]
            n_listed += bool(found)
            for token, value in found.items():
                assert value == pytest.approx(dict(top)[token], abs=1e-4)
            before = [one for one, _ in top]
            assert list(found) == before[: len(found)]
            assert not set(found) & set(PARTS)
        start += len(written)
    assert n_parts > 3, "the test tests nothing"
    assert start / 3 < n_listed < start
    (said,) = [note for note in answers.notes if "log-probabilities" in note]
    assert f"{n_listed:,} of {start:,} tokens have log-probabilities" in said
    assert "unknown" in said


def test_what_is_written_is_what_is_read():
    positions = [
        Position(5, -0.5, ((5, -0.5), (7, -1.25))),
        Position("the", None, ()),
        Position("été".encode(), -0.25, ((b"a", -0.25),)),
        Position(b"\xe2\x80", -3.0, ((b"\xe2\x80", -3.0), ("\ufffd", -4.0), (None, -9.0))),
        Position(None, -1.0, (("\n", -1.0),)),
    ]
    written = json.loads(json.dumps(to_record(positions)))
    assert from_record(written) == positions


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "tokens",
                    "token_logprobs",
                    "top_logprobs",
                    "content",
                    "token",
                    "logprob",
                    "bytes",
                    "id",
                    "prob",
                    "meta_info",
                    "output_token_logprobs",
                    "output_top_logprobs",
                    "logprobs",
                    "token_ids",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({"logprobs": ODD, "meta_info": ODD, "token_ids": ODD}))
def test_whatever_a_server_says_is_read_or_left_out(choice):
    positions = read_positions(choice)
    if positions is not None:
        written = json.dumps(to_record(positions), allow_nan=False)
        written.encode()
        again = from_record(json.loads(written))
        assert [one.token for one in again] == [one.token for one in positions]
        assert all(v <= 0 for one in again for _, v in one.likeliest)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ODD)
def test_whatever_a_journal_holds_is_read_or_an_error(record):
    with contextlib.suppress(ValueError):
        from_record(record)


# The probe


@pytest.mark.parametrize(("server", "api"), [*EXACT, *TEXT_ONLY])
@pytest.mark.parametrize("mode", ["raw", "temperature", "top_p"])
def test_the_probe_tells_what_values_are(stub, tmp_path, server, api, mode):
    toy = Toy(server, after_temperature=mode != "raw", after_top_p=mode == "top_p", parts=False)
    out = tmp_path / "a.jsonl"
    report = ask_toy(stub, toy, out, api=api, prompts=["one"], temperature=0.5, top_p=0.9)
    (found,) = probed(out)
    assert found == report.probe
    assert found["after_temperature"] is (mode != "raw")
    assert found["after_top_p"] is (mode == "top_p")
    assert found["sums"]
    assert found["difference"] == 0
    assert 0.5 < found["listed"] <= 1
    assert found["ids"] is (server in ("vllm", "llama.cpp") or api == "sglang")
    limited = server in ("openai", "vllm")
    assert found["most"] == (20 if limited else len(toy.tokens))
    notes = " ".join(report.notes)
    assert ("at temperature 0.5" in notes) is (mode != "raw")
    assert ("after top_p=0.9" in notes) is (mode == "top_p")
    n_probes = len(stub.seen) - 1
    assert n_probes == 5 + (server == "openai")
    assert report.requests == len(stub.seen)
    again = run(stub, ["one", "two"], out, logprobs=5, max_tokens=40, api=api, temperature=0.5,
                top_p=0.9)  # fmt: skip
    assert (again.n_answered, len(stub.seen)) == (1, n_probes + 2)
    assert again.probe == found
    assert again.requests == len(stub.seen)


def test_noise_between_equal_requests_is_measured(stub, tmp_path):
    toy = Toy("openai", noise=0.01, parts=False)
    report = ask_toy(stub, toy, tmp_path / "a.jsonl")
    assert 0.001 < report.probe["difference"] < 0.1
    assert (report.probe["after_temperature"], report.probe["after_top_p"]) == (False, False)


def test_temperature_and_top_p_are_1_unless_given(stub, tmp_path):
    toy = Toy("vllm")
    ask_toy(stub, toy, tmp_path / "a.jsonl")
    assert {(one["temperature"], one["top_p"]) for one in toy.bodies[5:]} == {(1, 1)}
    ask_toy(stub, toy, tmp_path / "b.jsonl", temperature=0.7)
    assert (toy.bodies[-1]["temperature"], toy.bodies[-1]["top_p"]) == (0.7, 1)


def test_a_wrong_address_is_not_blamed_on_log_probabilities(tmp_path, stub):
    lost = {"status": 404, "body": {"error": {"message": "not found"}}}
    stub.script["Once upon a time"] = [lost]
    with pytest.raises(ModelError, match=r"no such address or model: 404.*api='completions'"):
        run(stub, PROMPTS, tmp_path / "a.jsonl", logprobs=8, api="completions")


@pytest.mark.parametrize("server", ["openai", "vllm"])
def test_more_than_the_server_allows(stub, tmp_path, cli, prompts_file, server):
    toy = Toy(server, most=8)
    with pytest.raises(ModelError, match=r"refuses logprobs=9: 400: .*\(logprobs=8 is the most"):
        ask_toy(stub, toy, tmp_path / "a.jsonl", logprobs=9)
    (record,) = records(tmp_path / "a.jsonl")
    assert record["attempts"] == len(stub.seen) == 2
    assert run(stub, PROMPTS, tmp_path / "a.jsonl", logprobs=8, accept_changes=True).n_answered == 4
    shown = cli(
        "ask", "--prompts", prompts_file(["a"]), "--endpoint", stub.url, "--model", "m", "--out",
        "b.jsonl", "--logprobs", 9,
    )  # fmt: skip
    assert shown.code == 1
    assert "--logprobs 8 is the most" in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_server_without_log_probabilities(stub, tmp_path, cli, prompts_file):
    with pytest.raises(ModelError, match="without log-probabilities for m; without logprobs="):
        run(stub, ["a"], tmp_path / "a.jsonl", logprobs=5)
    assert len(stub.seen) == 1
    shown = cli(
        "ask", "--prompts", prompts_file(["a"]), "--endpoint", stub.url, "--model", "m", "--out",
        "b.jsonl", "--logprobs", 9,
    )  # fmt: skip
    assert (shown.code, len(shown.err.splitlines())) == (1, 1)
    assert "without --logprobs its answers alone" in shown.err
    assert open_after_failure(tmp_path / "b.jsonl")


def open_after_failure(path):
    (record,) = records(path)
    return "probe" in record["error"] and record["attempts"] == 1


def test_answers_that_lack_them_are_counted(stub, tmp_path):
    toy, out = Toy("openai"), tmp_path / "a.jsonl"
    stub.script["two"] = [{}]
    report = ask_toy(stub, toy, out)
    assert any("1 of 4 answers came without" in note for note in report.notes)
    answers = open_answers(out, tokenizer=TOKENIZER_FILE)
    assert len(answers) == 4
    assert any("1 answers came without any" in note for note in answers.notes)
    assert len(answers.listed) == answers.documents.n_tokens


def test_the_probe_is_within_budgets(stub, tmp_path):
    toy = Toy("openai")
    report = ask_toy(stub, toy, tmp_path / "a.jsonl", max_requests=3)
    assert (report.requests, report.n_answered, len(stub.seen)) == (3, 0, 3)
    assert report.stopped == "max_requests=3 is used up"
    report = ask_toy(stub, toy, tmp_path / "b.jsonl", max_requests=8)
    assert (report.requests, report.n_answered) == (8, 2)
    toy = Toy("vllm")
    report = ask_toy(stub, toy, tmp_path / "c.jsonl", max_tokens_total=1)
    assert (report.requests, report.stopped) == (0, "max_tokens_total=1 would be exceeded")


def test_the_probe_tries_again(stub, tmp_path):
    toy = Toy("openai")
    replies = iter([{"status": 503, "body": "busy"}, {"close": True}])
    stub.script["*"] = lambda body: next(replies, None) or toy(body)
    report = run(stub, ["one"], tmp_path / "a.jsonl", logprobs=5)
    assert report.n_answered == 1
    assert report.requests == len(stub.seen) == 2 + 6 + 1
    stub.script["*"] = [{"status": 401, "body": {"error": {"message": "no"}}}]
    report = run(stub, ["one"], tmp_path / "b.jsonl", logprobs=5)
    assert (report.stopped, report.n_left, report.requests) == ("401: no", 1, 1)
    stub.script["*"] = toy
    report = run(stub, ["one"], tmp_path / "b.jsonl", logprobs=5)
    assert (report.n_answered, report.requests) == (1, 1 + 6 + 1)


# What becomes of them


def test_values_after_a_temperature_are_put_back(stub, tmp_path):
    toy, out = Toy("vllm", after_temperature=True, parts=False), tmp_path / "a.jsonl"
    ask_toy(stub, toy, out, temperature=0.7, logprobs=20)
    answers = open_answers(out, tokenizer=TOKENIZER_FILE)
    start = 0
    for record, ids in zip(answered(out), answers.documents, strict=True):
        for position in range(len(ids)):
            logits = toy.logits(record["prompt"], ids[:position].tolist())
            true = dict(zip(toy.tokens.tolist(), logits - np.logaddexp.reduce(logits), strict=True))
            for token, value in answers.listed[start + position].items():
                assert value == pytest.approx(true[token], abs=2e-3)
        start += len(ids)
    assert start > 20


def test_at_temperature_0_nothing_can_be_put_back(stub, tmp_path):
    toy, out = Toy("vllm", after_temperature=True, parts=False), tmp_path / "a.jsonl"
    ask_toy(stub, toy, out, temperature=0)
    answers = open_answers(out, tokenizer=TOKENIZER_FILE)
    assert answers.listed is None or len(answers.listed.ids) == 0


STRINGS = TokenStrings(TOKENIZER)


def listed(text, positions, ids=None):
    lists = Lists(STRINGS)
    ids = np.array(TOKENIZER.encode(text).ids if ids is None else ids, dtype=np.uint32)
    used = lists.add(text, ids, positions)
    found = lists.listed()
    return used.tolist(), [found[i] for i in range(len(found))], lists


def said(tokens):
    """Each token with itself as the likeliest."""
    return [Position(one, -0.1, ((one, -0.1), (" the", -3.0))) for one in tokens]


def test_reasoning_before_the_answer_is_left_out():
    ids = TOKENIZER.encode("Well, a cat. The cat sat.").ids
    thought = TOKENIZER.encode("Hm, a cat?\n").ids
    used, lists, _ = listed("Well, a cat. The cat sat.", said([*thought, *ids, END]))
    assert used == ids
    assert [next(iter(one)) for one in lists] == ids


def test_other_tokens_of_the_same_text_are_the_servers():
    text = "the cats sat"
    own = TOKENIZER.encode(text).ids
    other = [TOKENIZER.token_to_id(one) for one in ("t", "he", "Ġc", "ats", "Ġs", "at")]
    used, lists, _ = listed(text, said(other))
    assert used == other != own
    assert all(lists)
    # without an id for each, the text's own tokens count, and lists where both begin
    broken = said(other)
    broken[1] = Position("h\u00fe", -0.1, broken[1].likeliest)
    used, lists, counts = listed(text, broken)
    assert used == own
    assert lists[0]
    assert not any(lists[1:])
    assert counts.n_foreign == 1


def test_tokens_of_another_tokenizer_count_where_both_begin():
    text = "a cat sat there"
    own = TOKENIZER.encode(text).ids
    pieces = ["a cat", " sat", " the", "re"]
    used, lists, counts = listed(text, [Position(one, -1.0, ((" of", -1.0),)) for one in pieces])
    assert used == own
    starts = np.cumsum([0, *(len(STRINGS.bytes_of(one)) for one in own)])[:-1]
    theirs = {0, 5, 9, 13}
    assert [bool(one) for one in lists] == [start in theirs for start in starts.tolist()]
    assert counts.n_elsewhere == sum(start not in theirs for start in starts.tolist())


def test_answers_in_another_tokenizers_ids_have_no_lists():
    text = "a cat sat there"
    used, lists, counts = listed(text, said([11, 12, 13, 14]))
    assert used == TOKENIZER.encode(text).ids
    assert not any(lists)
    assert counts.n_foreign == 1
    assert "not what the server's tokens spell" in counts.notes()[0]


@pytest.mark.parametrize(
    ("top", "kept"),
    [
        # the token that stands there may have been put in place of a likelier one
        ([(5, -1.0), (6, -1.5), (7, -6.0)], [5, 6]),
        # there is no room for a likelier one
        ([(5, -0.1), (6, -3.0), (7, -3.1)], [5, 6, 7]),
        ([(6, -1.0), (7, -1.5), (5, -1.6)], [6, 7, 5]),
    ],
)
def test_the_token_that_stands_there(top, kept):
    """7 stands there."""
    positions = [Position(7, dict(top)[7], tuple(top))]
    _, (found,), _ = listed(STRINGS.bytes_of(7).decode(), positions, ids=[7])
    assert list(found) == kept


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(st.lists(st.tuples(st.floats(-20, 0), st.lists(st.floats(-20, 0), max_size=6)), max_size=8))
def test_a_list_bounds_whatever_it_leaves_out(rows):
    """Of the tokens known to the server, none that is left out is likelier than the least kept."""
    positions = []
    for value, others in rows:
        total = math.exp(value) + sum(map(math.exp, others))
        scale = math.log(max(total, 1.0))
        pairs = sorted(
            [(9, value - scale), *((20 + i, v - scale) for i, v in enumerate(others))],
            key=lambda pair: -pair[1],
        )
        positions.append(Position(9, value - scale, tuple(pairs)))
    text = STRINGS.bytes_of(9).decode() * len(rows)
    _, lists, counts = listed(text, positions, ids=[9] * len(rows))
    for found, there in zip(lists, positions, strict=True):
        least = min(found.values(), default=0.0)
        assert all(v <= least + 1e-5 for token, v in there.likeliest if token not in found)
    assert counts.n_tokens == len(rows)


def test_of_tokens_with_one_text_a_likelier_one_may_be_hidden():
    """llama-cpp-python's dictionaries keep the last: "" may have stood at -0.7 as well."""
    top = ((" the", -1.0), (" a", -2.0), ("", -6.0))
    lists = Lists(STRINGS)
    ids = np.array(TOKENIZER.encode(" the the").ids, dtype=np.uint32)
    lists.add(" the the", ids, [Position(" the", -1.0, top)] * 2, n=4)
    found = lists.listed()
    assert len(found[0]) == 0  # 1 - .37 - .14 is more than .37
    lists = Lists(STRINGS)
    top = ((" the", -0.3), (" a", -2.0), ("", -6.0))
    lists.add(" the the", ids, [Position(" the", -0.3, top)] * 2, n=4)
    assert len(lists.listed()[0]) == 2
    lists = Lists(STRINGS)
    top = ((" the", -1.0), (" a", -2.0), ("", -6.0))
    lists.add(" the the", ids, [Position(" the", -1.0, top)] * 2, n=3)
    assert len(lists.listed()[0]) == 2  # nothing is hidden


def test_the_servers_words_that_hold_the_key_are_not_kept(stub, tmp_path, monkeypatch):
    key = "sk-test-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    toy = Toy("openai")

    def quoting(body):
        reply = toy(body)
        prompt = body["messages"][-1]["content"]
        choice = reply["body"].get("choices", [None])[0]
        if prompt == "listed":
            choice["logprobs"]["content"][0]["top_logprobs"][0]["token"] = f"key {key}"
            choice["logprobs"]["content"][0]["top_logprobs"][0]["bytes"] = None
        if prompt == "said":
            choice["message"]["content"] += key
        return reply

    stub.script["*"] = quoting
    out = tmp_path / "a.jsonl"
    run(stub, ["listed", "said", "plain"], out, logprobs=5)
    assert "0123456789" not in out.read_text()
    by_prompt = {one["prompt"]: one for one in answered(out)}
    assert {name for name, one in by_prompt.items() if "logprobs" in one} == {"plain"}
    assert by_prompt["listed"]["key_hidden"]


def test_a_journal_whose_lists_were_changed(stub, tmp_path):
    out = tmp_path / "a.jsonl"
    ask_toy(stub, Toy("openai"), out)
    lines = out.read_text().splitlines()
    record = json.loads(lines[1])
    record["logprobs"]["values"].append(-1.0)
    out.write_text("\n".join([lines[0], json.dumps(record), *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"a.jsonl:2: field 'logprobs' is not what ask writes"):
        open_answers(out, tokenizer=TOKENIZER_FILE)
    answers = open_answers(out, tokenizer=TOKENIZER_FILE, on_error="skip")
    assert (len(answers), answers.skipped.count) == (3, 1)
    assert len(answers.listed) == answers.documents.n_tokens


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_the_shapes_differ(name):
    """The toy's servers are told apart by something other than their names."""
    toy = Toy(name)
    body = {"model": "m", "messages": [{"content": "p"}], "max_tokens": 9, "logprobs": True}
    seen = json.dumps(toy({**body, "top_logprobs": 3})["body"]["choices"][0]["logprobs"])
    others = [
        json.dumps(Toy(one)({**body, "top_logprobs": 3})["body"]["choices"][0]["logprobs"])
        for one in SERVERS
        if one != name
    ]
    assert seen not in others
