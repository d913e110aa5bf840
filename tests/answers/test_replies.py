"""Every shape of reply that servers give, and what it counts as."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from radscore.answers import Limits, open_answers
from radscore.answers.replies import Failure, Used, read_reply

from .conftest import DEMO, records, run

TOKENIZER = DEMO / "tokenizer.json"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
USED = Used(3, 4)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("radscore.answers.workers._FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(finish="stop", **message):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": USAGE}


def completion(text="fine", **choice):
    return {
        "choices": [{"index": 0, "text": text, "finish_reason": "stop", **choice}],
        "usage": USAGE,
    }


def read(body, api="chat"):
    return read_reply(json.dumps(body), api, "m")


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
ANSWERS = {
    # vllm#52640: a reasoning model that is cut off has said nothing
    "vLLM, cut off in its reasoning": (
        chat("length", content=None, reasoning="hm"),
        "",
        {"reasoning_content": "hm"},
    ),
    "vLLM and SGLang, reasoning_content": (
        chat(content="fine", reasoning_content="hm"),
        "fine",
        {"reasoning_content": "hm"},
    ),
    "Ollama, reasoning and no answer": (
        chat("length", content="", reasoning="hm"),
        "",
        {"reasoning_content": "hm"},
    ),
    "llama.cpp, timings": ({**chat(content="fine"), "timings": {"predicted_n": 4}}, "fine", {}),
    "llama.cpp, no index": (
        {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}], "usage": USAGE},
        "fine",
        {},
    ),
    # vercel/ai#17784: a list of parts
    "parts": (
        chat(content=[{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]),
        "fine",
        {},
    ),
    "Mistral, parts that think": (
        chat(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "fine"},
            ]
        ),
        "fine",
        {"reasoning_content": "hm"},
    ),
    "a part without a list": (chat(content={"type": "text", "text": "fine"}), "fine", {}),
    "a stream joined into one": (
        {"choices": [{"delta": {"content": "fine"}, "finish_reason": "stop"}], "usage": USAGE},
        "fine",
        {},
    ),
    "indices as text": (
        {
            "choices": [
                {"index": "1", "message": {"content": "other"}, "finish_reason": "stop"},
                {"index": "0", "message": {"content": "fine"}, "finish_reason": "stop"},
            ],
            "usage": USAGE,
        },
        "fine",
        {},
    ),
    "parts of bare text": (chat(content=["fi", "ne"]), "fine", {}),
    "no parts": (chat(content=[]), "", {}),
    "a part that is no text": (chat(content=[{"type": "image_url", "image_url": {}}]), "", {}),
    "OpenAI, refusal": (chat(content=None, refusal="No."), "No.", {"refusal": "No."}),
    "refusal, content empty": (chat(content="", refusal="No."), "No.", {"refusal": "No."}),
    "refusal as a part": (
        chat(content=[{"type": "refusal", "refusal": "No."}]),
        "No.",
        {"refusal": "No."},
    ),
    "calls of tools": (
        chat("tool_calls", content=None, tool_calls=[CALL, CALL]),
        "",
        {"tool_calls": 2},
    ),
    "a call as it was of old": (
        chat("function_call", content=None, function_call={"name": "f", "arguments": "{}"}),
        "",
        {"tool_calls": 1},
    ),
    "no tools called": (chat(content="fine", tool_calls=[], refusal=None), "fine", {}),
    "Azure, passed by the filter": (
        {
            **chat(content="fine"),
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
        },
        "fine",
        {},
    ),
    "Azure, filtered, no content": (chat("content_filter"), "", {}),
    "Azure, filtered, null": (chat("content_filter", content=None), "", {}),
    "OpenRouter, another model": (
        {**chat(content="fine"), "model": "other", "provider": "P"},
        "fine",
        {"answered_by": "other"},
    ),
    "more choices than one, in any order": (
        {
            "choices": [
                {"index": 1, "message": {"content": "other"}, "finish_reason": "stop"},
                {"index": 0, "message": {"content": "fine"}, "finish_reason": "stop"},
            ],
            "usage": USAGE,
        },
        "fine",
        {},
    ),
    "text where a message should be": (completion(), "fine", {}),
    "null, but paid for": (
        {"choices": [{"message": {"content": None}}], "usage": USAGE},
        "",
        {},
    ),
    "null errors": ({**chat(content="fine"), "error": None}, "fine", {}),
    "half a surrogate pair": (chat(content="a\ud800b"), "a\ufffdb", {}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_to_chats(name):
    body, text, extra = ANSWERS[name]
    reply = read(body)
    assert (reply.text, reply.extra, reply.used) == (text, extra, USED)
    assert reply.refused == ("refusal" in extra or "filtered" in name)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (completion(), "fine"),
        (completion(""), ""),
        (completion(None, finish_reason="length"), ""),
        (completion(logprobs=None, matched_stop=2), "fine"),  # SGLang
        (completion("fine", message={"content": "other"}), "fine"),
        (chat(content="fine"), "fine"),
    ],
)
def test_answers_to_completions(body, text):
    reply = read(body, "completions")
    assert (reply.text, reply.used) == (text, USED)


HUGE = "9" * 6000
USAGES = [
    (USAGE, USED),
    ({**USAGE, "total_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}}, USED),
    ({"prompt_tokens": 3, "total_tokens": 7}, USED),
    ({"completion_tokens": 4, "total_tokens": 7}, USED),
    ({"prompt_tokens": "3", "completion_tokens": "4"}, USED),
    ({"prompt_tokens": 3.0, "completion_tokens": 4.0}, USED),
    ({"input_tokens": 3, "output_tokens": 4}, USED),
    ({"prompt_tokens": 3}, Used(3, None)),
    ({"prompt_tokens": 3, "total_tokens": 1}, Used(3, None)),
    ({"prompt_tokens": None, "completion_tokens": 4}, Used(None, 4)),
    ({"prompt_tokens": -3, "completion_tokens": True}, Used()),
    ({"prompt_tokens": 0.5, "completion_tokens": "4 tokens"}, Used()),
    ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, Used()),
    ({"prompt_tokens": 2**63, "completion_tokens": [4]}, Used()),
    ({}, Used()),
    (None, Used()),
    ("free", Used()),
    ([3, 4], Used()),
]


@pytest.mark.parametrize(("usage", "used"), USAGES)
def test_usage_counts_as_it_is_stated(usage, used):
    assert read({**chat(content="fine"), "usage": usage}).used == used


def test_numbers_of_many_digits_are_no_counts():
    text = json.dumps(chat(content="fine")).replace(
        '"prompt_tokens": 3', f'"prompt_tokens": {HUGE}'
    )
    assert HUGE in text
    reply = read_reply(text, "chat", "m")
    assert (reply.text, reply.used) == ("fine", Used(None, 4))


DEEP = "[" * 2_000_000
FAILURES = {
    "no choices": ({"choices": [], "usage": USAGE}, "retry", None, USED),
    "no choices at all": ({"object": "chat.completion"}, "retry", None, Used()),
    "choices of nothing": ({"choices": [None, 5]}, "retry", None, Used()),
    # OpenRouter: errors come with status 200, and give theirs in the body
    "an overload": ({"error": {"code": 502, "message": "busy"}}, "retry", 502, Used()),
    "a rate": ({"error": {"code": "429", "message": "slow"}}, "retry", 429, Used()),
    "a bad request": ({"error": {"code": 400, "message": "long"}}, "skip", 400, Used()),
    "no money": ({"error": {"code": 402, "message": "pay"}}, "stop", 402, Used()),
    "no quota": ({"error": {"code": "insufficient_quota"}}, "stop", None, Used()),
    "an error of text": ({"error": "busy"}, "retry", None, Used()),
    "vLLM, of old": (
        {"object": "error", "message": "long", "code": 400},
        "skip",
        400,
        Used(),
    ),
    "an error and no choice": ({"error": {"message": "x"}, "choices": []}, "retry", None, Used()),
    "broken off (Mistral)": (chat("error", content="hal"), "retry", None, USED),
    "broken off (SGLang)": (chat("abort", content="hal"), "retry", None, USED),
    "broken off (OpenRouter)": (
        {
            "choices": [{"message": {"content": "hal"}, "error": {"code": 502, "message": "gone"}}],
            "usage": USAGE,
        },
        "retry",
        None,
        USED,
    ),
    "null and nothing else": ({"choices": [{"message": {"content": None}}]}, "retry", None, Used()),
    "a number": (chat(content=5), "retry", None, USED),
    "a stream": ("data: {}\n\ndata: [DONE]\n\n", "skip", None, Used()),
    "a depth that no reader stands": (DEEP, "retry", None, Used()),
    "a depth within JSON": ('{"choices": ' + DEEP, "retry", None, Used()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_no_answer(name):
    body, kind, status, used = FAILURES[name]
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(Failure) as caught:
        read_reply(text, "chat", "m")
    failure = caught.value
    assert (failure.kind, failure.status, failure.used) == (kind, status, used)
    assert failure.sent
    assert len(str(failure)) < 5000


#: Replies of interfaces that are not like OpenAI's, as their references show them.
OTHERS = {
    "Ollama's own": {
        "model": "m",
        "created_at": "2025-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "fine"},
        "done": True,
    },
    "Ollama's own, completing": {"model": "m", "response": "fine", "done": True},
    "Anthropic's": {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "fine"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
    "Google's": {"candidates": [{"content": {"parts": [{"text": "fine"}]}}]},
    "OpenAI's responses": {"object": "response", "output": [{"type": "message"}]},
    "llama.cpp's own": {"content": "fine", "stop": True, "generation_settings": {}},
    "SGLang's own": {"text": "fine", "meta_info": {"id": "x"}},
    "TGI's own": [{"generated_text": "fine"}],
    "Cohere's": {"text": "fine", "generation_id": "x"},
    "Bedrock's": {"output": {"message": {}}, "stopReason": "end_turn"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_interfaces_stop_the_run_at_once(stub, tmp_path, name):
    stub.script["*"] = [{"body": OTHERS[name]}]
    report = run(stub, ["a", "b", "c"], tmp_path / "a.jsonl", limits=Limits(concurrency=1))
    assert len(stub.seen) == 1
    assert report.stopped.startswith(f"this is {name.partition(',')[0]} interface")
    assert "endpoint must name the base URL" in report.stopped
    assert (report.n_failed, report.n_left, report.requests) == (1, 2, 1)


NAMES = (
    "choices message content text usage prompt_tokens completion_tokens total_tokens error code "
    "finish_reason index refusal tool_calls reasoning type object model detail value"
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("error"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES.split()), inner),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(NAMES.split()), ODD),
    st.lists(st.dictionaries(st.sampled_from(NAMES.split()), ODD) | ODD),
    st.sampled_from(["chat", "completions"]),
)
def test_whatever_it_is_is_an_answer_or_a_failure(body, choices, api):
    try:
        reply = read(body | {"choices": choices} if choices else body, api)
    except Failure as failure:
        assert failure.kind in {"retry", "skip", "stop"}  # noqa: PT017
        return
    record = {"text": reply.text, "end": reply.finish_reason, **reply.extra}
    json.dumps(record, allow_nan=False, ensure_ascii=False).encode()
    for count in (reply.used.prompt_tokens, reply.used.completion_tokens):
        assert count is None or count >= 0


def test_a_complete_answer_is_asked_for_once(stub, tmp_path):
    """Null with usage is an answer: it was paid for, and the next would be as well."""
    stub.script["cut"] = [{"body": chat("length", content=None, reasoning="hm")}]
    stub.script["no"] = [{"body": chat(content=None, refusal="No.")}]
    stub.script["filtered"] = [{"body": chat("content_filter", content=None)}]
    stub.script["tools"] = [{"body": chat("tool_calls", content=None, tool_calls=[CALL])}]
    prompts = ["cut", "no", "filtered", "tools", "good"]
    report = run(stub, prompts, tmp_path / "a.jsonl", limits=Limits(retries=3))
    assert sorted(stub.seen) == sorted(prompts)
    assert (report.n_answered, report.n_empty, report.n_refused) == (5, 2, 2)
    assert (report.prompt_tokens, report.completion_tokens) == (4 * 3 + 7, 4 * 4 + 5)
    assert any("2 of 5 answers have no text" in note for note in report.notes)
    assert run(stub, prompts, tmp_path / "a.jsonl").n_before == 5
    answers = open_answers(tmp_path / "a.jsonl", tokenizer=TOKENIZER)
    assert len(answers) == 5
    assert "3 of 5 answers are empty" in answers.notes


def test_failures_cost_what_the_server_states(stub, tmp_path):
    stub.script["a"] = [{"body": chat("error", content="hal")}, {"body": chat(content="whole")}]
    report = run(stub, ["a"], tmp_path / "a.jsonl")
    assert (report.n_answered, report.requests) == (1, 2)
    assert (report.prompt_tokens, report.completion_tokens) == (6, 8)
    assert "usage_estimated" not in records(tmp_path / "a.jsonl")[0]


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (chat("length", content=None), 50),
        (chat("stop", content="abc", reasoning="abcd"), 7),
        (chat("tool_calls", content=None, tool_calls=[CALL]), 50),
        (chat("stop", content=""), 50),
    ],
)
def test_what_the_server_does_not_state_is_never_less(stub, tmp_path, body, most):
    stub.script["a"] = [{"body": {**body, "usage": None}}]
    report = run(stub, ["a"], tmp_path / "a.jsonl", max_tokens=50)
    assert (report.n_answered, report.completion_tokens) == (1, most)


@pytest.mark.parametrize(
    "extra",
    [{"n": 2}, {"stream": True}, {"best_of": 4}, {"max_tokens": 9}, {"seed": 1}, {"model": "x"},
     {"messages": []}, {"max_completion_tokens": 9}],
)  # fmt: skip
def test_fields_that_would_change_what_is_counted(stub, tmp_path, extra):
    with pytest.raises(ValueError, match=f"extra must not set '{next(iter(extra))}'"):
        run(stub, ["a"], tmp_path / "a.jsonl", extra=extra)
    assert stub.seen == []
    fine = {"n": 1, "stream": False, "top_k": 5}
    assert run(stub, ["a"], tmp_path / "a.jsonl", extra=fine).n_answered == 1


def test_a_change_of_models_is_noticed(stub, tmp_path):
    """Routers fall back to another model, and say so in the reply only."""
    stub.script["b"] = [{"body": {**chat(content="other"), "model": "cheaper"}}]
    run(stub, ["a", "b"], tmp_path / "a.jsonl")
    notes = open_answers(tmp_path / "a.jsonl", tokenizer=TOKENIZER).notes
    assert any("several models answered" in note and "cheaper" in note for note in notes)


# Samples that are none


@pytest.mark.parametrize("temperature", [0.7, 0])
def test_samples_that_repeat_are_noticed(stub, tmp_path, cli, prompts_file, temperature):
    """The stub ignores temperature and seed; a cache before a server does, too."""
    why = "ignore temperature" if temperature else "at temperature 0"
    out = tmp_path / "a.jsonl"
    prompts = [f"number {i}" for i in range(4)]
    report = run(stub, [*prompts, prompts[0]], out, samples=3, temperature=temperature)
    (said,) = report.notes
    assert said.startswith("11 of 11 further answers to a prompt repeat an earlier one")
    assert why in said
    assert said in run(stub, prompts, out, samples=3, temperature=temperature).notes
    assert said in open_answers(out, tokenizer=TOKENIZER).notes
    asked = ["ask", "--prompts", prompts_file(prompts), "--endpoint", stub.url, "--model", "m"]
    shown = cli(*asked, "--samples", 3, "--temperature", temperature, "--out", "b.jsonl")
    assert "8 of 8 further answers to a prompt repeat" in shown.out
    tested = cli(
        "test", "closed", out, "--scheme", DEMO / "scheme.toml", "--key-file", DEMO / "alice.key",
        "--tokenizer", TOKENIZER,
    )  # fmt: skip
    assert tested.code == 0
    assert said in tested.out


def test_samples_that_differ_are_not_doubted(stub, tmp_path):
    stub.script["*"] = lambda body: {"body": chat(content=f"said {body['seed'] % 1000}")}
    report = run(stub, ["a", "b", "c"], tmp_path / "a.jsonl", samples=4)
    assert report.notes == ()
    # one answer each, and the same: nothing to compare
    stub.script["*"] = [{"body": chat(content="Yes.")}]
    report = run(stub, ["a", "b", "c"], tmp_path / "b.jsonl")
    assert report.notes == ()
    assert open_answers(tmp_path / "b.jsonl", tokenizer=TOKENIZER).notes == ()


def test_a_byte_order_mark_before_an_answer():
    assert read_reply("\ufeff" + json.dumps(chat(content="fine")), "chat", "m").text == "fine"
