"""Asking an endpoint that misbehaves: nothing is lost or asked twice, and no key is shown."""

import asyncio
import json
import threading
from pathlib import Path

import pytest
import radscore as rs
from radscore.answers import Limits, open_answers
from radscore.answers.endpoint import Endpoint
from radscore.answers.limits import Rate

from .conftest import DEMO, good, records, run

DEMO_TOKENIZER = DEMO / "tokenizer.json"
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Retries wait for milliseconds only, and there is no key unless a test sets one."""
    monkeypatch.setattr("radscore.answers.workers._FIRST_WAIT", 0.005)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_every_question_is_asked_once_and_recorded(stub, tmp_path, api):
    out = tmp_path / "a.jsonl"
    report = run(
        stub, ["one", "two", "two"], out, api=api, samples=2, temperature=0.5, top_p=0.9,
        max_tokens=9, extra={"top_k": 5},
    )  # fmt: skip
    assert (report.n_questions, report.n_answered, report.n_failed) == (6, 6, 0)
    assert (report.requests, report.prompt_tokens, report.completion_tokens) == (6, 42, 30)
    found = records(out)
    assert len({(one["prompt_id"], one["sample"]) for one in found}) == 6
    assert len({one["seed"] for one in found}) == 6
    assert all(one["text"] == f"answer to {one['prompt']}" for one in found)
    assert sorted(stub.seen) == ["one"] * 2 + ["two"] * 4
    for body in stub.bodies:
        sent = (body["temperature"], body["top_p"], body["max_tokens"], body["top_k"])
        assert sent == (0.5, 0.9, 9, 5)
        assert "n" not in body
    assert {body["seed"] for body in stub.bodies} == {one["seed"] for one in found}
    again = run(
        stub, ["one", "two", "two", "three"], out, api=api, samples=2, temperature=0.5,
        top_p=0.9, max_tokens=9, extra={"top_k": 5},
    )  # fmt: skip
    assert (again.n_before, again.n_answered) == (6, 2)
    assert stub.seen[6:] == ["three", "three"]


def test_a_system_prompt_is_sent_and_excludes_contexts_too(stub, tmp_path):
    out = tmp_path / "a.jsonl"
    run(stub, ["one"], out, system="Be brief.")
    assert stub.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(DEMO_TOKENIZER))
    answers = open_answers(out, tokenizer=DEMO_TOKENIZER)
    assert tokenizer.decode(answers.prompts[0].tolist()) == "Be brief.\none"


HTML = "<html><body>Bad gateway</body></html>"
TRANSIENT = {
    "429": {"status": 429, "body": {"error": {"message": "slow down"}}},
    "429, wait": {"status": 429, "headers": {"retry-after": "0.05"}, "body": "{}"},
    "500": {"status": 500, "body": "oops"},
    "503, HTML": {"status": 503, "body": HTML, "headers": {"content-type": "text/html"}},
    "408": {"status": 408, "body": "{}"},
    "connection dropped": {"close": True},
    "body cut off": {"body": '{"choices": [', "length": 1000, "close_after": True},
    "HTML": {"body": HTML, "headers": {"content-type": "text/html"}},
    "not JSON": {"body": "{'choices': 1}"},
    "empty": {"body": ""},
    "a list": {"body": "[1, 2]"},
    "a number": {"body": "7"},
    "null": {"body": "null"},
    "no choices": {"body": {"choices": []}},
    "choices null": {"body": {"choices": None}},
    "choices of nothing": {"body": {"choices": [None]}},
    "no text": {"body": {"choices": [{"message": {"content": None}}]}},
    "text of a number": {"body": {"choices": [{"message": {"content": 5}}]}},
    "error in a good status": {"body": {"error": {"message": "overloaded"}}},
    "a broken packing": {"body": "no gzip", "headers": {"content-encoding": "gzip"}},
    "a lone surrogate's bytes": {"body": '{"choices": "\\ud800"'},
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_transient_failures_are_retried(stub, tmp_path, name):
    stub.script["bad"] = [TRANSIENT[name], TRANSIENT[name], {}]
    report = run(stub, ["bad", "good"], tmp_path / "a.jsonl")
    assert (report.n_answered, report.n_failed) == (2, 0)
    assert stub.seen.count("bad") == 3
    by_prompt = {one["prompt"]: one for one in records(tmp_path / "a.jsonl")}
    assert by_prompt["bad"]["attempts"] == 3
    assert by_prompt["good"]["attempts"] == 1


@pytest.mark.parametrize("name", ["500", "HTML", "no choices", "connection dropped"])
def test_lasting_failures_are_recorded_and_asked_again_later(stub, tmp_path, name):
    out = tmp_path / "a.jsonl"
    stub.script["bad"] = [TRANSIENT[name]]
    report = run(stub, ["bad", "good"], out, limits=Limits(retries=2))
    assert (report.n_answered, report.n_failed, report.n_left) == (1, 1, 0)
    assert stub.seen.count("bad") == 3
    ((failed, times),) = report.failures.items()
    assert times == 1
    (record,) = [one for one in records(out) if "error" in one]
    assert (record["error"], record["attempts"], record["prompt"]) == (failed, 3, "bad")
    assert open_answers(out, field="text", tokenizer=DEMO_TOKENIZER).n_failed == 1
    stub.script.clear()
    again = run(stub, ["bad", "good"], out)
    assert (again.n_before, again.n_answered) == (1, 1)
    answers = open_answers(out, tokenizer=DEMO_TOKENIZER)
    assert (len(answers), answers.n_failed, answers.models) == (2, 0, ("m",))


def test_hopeless_failures_are_not_retried(stub, tmp_path):
    stub.script["bad"] = [{"status": 400, "body": {"error": {"message": "too long"}}}]
    report = run(stub, ["bad", "good"], tmp_path / "a.jsonl")
    assert stub.seen.count("bad") == 1
    assert report.failures == {"400: too long": 1}


WANTS_OTHER_NAME = {
    "status": 400,
    "body": {
        "error": {
            "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        }
    },
}


def test_the_newer_name_of_the_longest_answer(stub, tmp_path):
    stub.script["one"] = [WANTS_OTHER_NAME, {}]
    limits = Limits(concurrency=1)
    report = run(stub, ["one", "two"], tmp_path / "a.jsonl", max_tokens=11, limits=limits)
    assert report.n_answered == 2
    assert [body.get("max_completion_tokens") for body in stub.bodies] == [None, 11, 11]


def test_all_that_are_under_way_learn_the_newer_name(stub, tmp_path):
    """Eight requests leave before the first comes back, and no retries are allowed."""
    together = threading.Barrier(8)

    def reply(body):
        if "max_tokens" not in body:
            return {}
        together.wait(timeout=60)
        return WANTS_OTHER_NAME

    stub.script["*"] = reply
    out = tmp_path / "a.jsonl"
    prompts = [str(i) for i in range(10)]
    report = run(stub, prompts, out, max_tokens=11, limits=Limits(concurrency=8, retries=0))
    assert (report.n_answered, report.n_failed, report.requests) == (10, 0, 18)
    assert sorted(one["attempts"] for one in records(out)) == [1, 1] + [2] * 8
    # refused requests cost nothing, and a repair is not a retry: if it fails, that was the last
    assert (report.prompt_tokens, report.completion_tokens) == (70, 50)
    stub.script["*"] = lambda body: WANTS_OTHER_NAME
    stub.seen.clear()
    report = run(stub, ["a"], tmp_path / "b.jsonl", limits=Limits(retries=3))
    assert (report.n_failed, len(stub.seen)) == (1, 2)


def test_answers_say_what_made_them(stub, tmp_path, monkeypatch, cli, asked):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    done = cli(*asked, "--endpoint", stub.url, "--out", "a.jsonl", "--json")
    made = done.provenance
    assert (made["model"], made["inputs"]["n_files"]) == ("m", 1)
    assert made["command"].startswith("radscore ask --prompts ")
    (one,) = records(Path("a.jsonl"))
    assert one["provenance"] == {name: made[name] for name in ("radscore", "date", "command")}
    assert KEY not in done.out + Path("a.jsonl").read_text()


def test_a_refused_key_ends_it_and_is_shown_nowhere(stub, tmp_path, monkeypatch, cli, prompts_file):
    monkeypatch.setenv("MY_KEY", KEY)
    message = f"Incorrect API key provided: {KEY}. Also sk-***cdef is wrong."
    stub.script["*"] = [{"status": 401, "body": {"error": {"message": message}}}]
    out = tmp_path / "a.jsonl"
    done = cli(
        "ask", "--prompts", prompts_file(["a", "b", "c"]), "--endpoint", stub.url, "--model", "m",
        "--out", out, "--api-key-env", "MY_KEY", "--concurrency", 1,
    )  # fmt: skip
    assert done.code == 1
    assert stub.authorizations == [f"Bearer {KEY}"]
    everything = done.out + done.err + out.read_text()
    assert "401" in everything
    assert KEY not in everything
    assert "cdef" not in everything


def test_the_key_is_not_in_the_journal(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run(stub, ["a"], tmp_path / "a.jsonl")
    assert stub.authorizations == [f"Bearer {KEY}"]
    assert KEY not in (tmp_path / "a.jsonl").read_text()


@pytest.fixture
def asked(prompts_file):
    """The command, for one prompt."""
    return ["ask", "--prompts", prompts_file(["a"]), "--model", "m"]


GROQ_KEY = "gsk_0123'456789\\abcdef"


def test_a_line_break_is_not_part_of_a_key(stub, monkeypatch, cli, asked):
    """As keys from files come; servers quote them in every spelling."""
    monkeypatch.setenv("MY_KEY", f" {GROQ_KEY}\r\n")
    spellings = [GROQ_KEY, repr(GROQ_KEY), json.dumps(GROQ_KEY), repr(f"Bearer {GROQ_KEY}\n")]
    stub.script["*"] = [{"status": 400, "body": {"detail": " and ".join(spellings)}}]
    done = cli(*asked, "--endpoint", stub.url, "--out", "a.jsonl", "--api-key-env", "MY_KEY")
    assert done.code == 1
    assert stub.authorizations == [f"Bearer {GROQ_KEY}"]
    everything = done.out + done.err + Path("a.jsonl").read_text()
    assert everything.count("400: ") >= 2
    assert "0123" not in everything
    assert "abcdef" not in everything


@pytest.mark.parametrize("between", ["\r\n", "\n", "\x1b", "\x7f", "\u2019", "\u00a0", "\ufeff"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(stub, monkeypatch, cli, asked, between):
    monkeypatch.setenv("MY_KEY", f"gsk_0123{between}456789")
    with pytest.raises(rs.errors.ArgumentError, match="api_key_env must name a variable") as caught:
        run(stub, ["a"], "a.jsonl", api_key_env="MY_KEY")
    done = cli(*asked, "--endpoint", stub.url, "--out", "a.jsonl", "--api-key-env", "MY_KEY")
    assert done.code == 2
    assert "error: --api-key-env must name" in done.err
    assert "MY_KEY" in done.err
    for part in ("gsk_", "0123", "456789"):
        assert part not in str(caught.value) + done.out + done.err
    assert stub.seen == []
    assert not Path("a.jsonl").exists()


@pytest.mark.parametrize("value", [None, "", " \r\n"])
def test_without_a_key_nothing_is_masked(stub, tmp_path, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    stub.script["*"] = [{"status": 400, "body": {"detail": "none of these is known"}}]
    report = run(stub, ["a"], tmp_path / "a.jsonl")
    assert report.failures == {"400: none of these is known": 1}


def test_unexpected_errors_fail_their_question_alone(stub, tmp_path, monkeypatch):
    """They are not an exception group, and do not end the other questions."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    real = Endpoint._send

    async def send(self, question, *rest):
        if question.prompt == "bad":
            raise RuntimeError(f"lost {KEY}")
        return await real(self, question, *rest)

    monkeypatch.setattr(Endpoint, "_send", send)
    report = run(stub, ["bad", "good"], tmp_path / "a.jsonl")
    assert (report.n_answered, report.failures) == (1, {"RuntimeError: lost (key)": 1})


ODD = {
    "a code that is a list": {"status": 404, "body": {"error": {"message": "no", "code": [1]}}},
    "a count beyond all floats": {"body": good("x", usage=(10**4000, 10**4000))},
    "a count below 0": {"body": good("x", usage=(-1, -1))},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_in_responses_stop_nothing(stub, tmp_path, name):
    stub.script["bad"] = [ODD[name]]
    money = {"max_cost": 1.0, "price_in": 1.0, "price_out": 1.0}
    report = run(stub, ["bad", "good"], tmp_path / "a.jsonl", limits=Limits(retries=0), **money)
    assert report.n_answered + report.n_failed == 2
    assert report.n_answered == 2 - (name == "a code that is a list")
    assert 0 < report.cost < 1


def test_a_server_that_drips_is_not_waited_for(stub, tmp_path):
    """Each byte comes in time, but not all of them."""
    stub.script["slow"] = [{"drip": 0.1}]
    limits = Limits(timeout=1.0, retries=0)
    report = run(stub, ["slow"], tmp_path / "a.jsonl", limits=limits, max_tokens=10)
    assert report.failures == {"no answer in time": 1}
    assert report.completion_tokens == 10  # it may have been answered, and be paid for


def test_many_failures_in_a_row_end_it(stub, tmp_path):
    stub.script["*"] = [{"status": 500, "body": "down"}]
    limits = Limits(concurrency=1, retries=1, give_up_after=3)
    report = run(stub, [str(i) for i in range(10)], tmp_path / "a.jsonl", limits=limits)
    assert (report.n_failed, report.n_left) == (3, 7)
    assert "3 questions in a row failed" in report.stopped
    assert len(stub.seen) == 6


def test_concurrency_is_kept(stub, tmp_path):
    together = threading.Barrier(5)

    def reply(body):
        together.wait(timeout=60)
        return {"wait": 0.02}

    stub.script["*"] = reply
    prompts = [str(i) for i in range(20)]
    report = run(stub, prompts, tmp_path / "a.jsonl", limits=Limits(concurrency=5))
    assert (report.n_answered, stub.most) == (20, 5)


class Clock:
    """Time that passes only while something waits."""

    def __init__(self):
        self.now = 0.0
        self.taken = []

    def rate(self, limit):
        """A Rate by this clock, which notes when and how much is taken."""
        clock = self

        async def sleep(seconds):
            clock.now += seconds

        class Noted(Rate):
            async def take(self, amount=1.0):
                entry = await super().take(amount)
                if limit is not None:
                    clock.taken.append((clock.now, amount))
                return entry

        return Noted(limit, clock=lambda: clock.now, sleep=sleep)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("radscore.answers.workers.Rate", made.rate)
    return made


def test_requests_within_any_minute(stub, tmp_path, clock):
    limits = Limits(concurrency=8, requests_per_minute=5)
    report = run(stub, [str(i) for i in range(14)], tmp_path / "a.jsonl", limits=limits)
    assert report.n_answered == 14
    times = [time for time, _ in clock.taken]
    assert times == [0.0] * 5 + [60.0] * 5 + [120.0] * 4


def test_a_rate_holds_for_any_minute_not_only_calendar_minutes():
    clock = Clock()

    async def take():
        rate = clock.rate(3)
        for pause in (50, 5, 0, 0, 0, 30, 0, 0, 0):
            clock.now += pause
            await rate.take()

    asyncio.run(take())
    times = [time for time, _ in clock.taken]
    assert times == [50, 55, 55, 110, 115, 145, 170, 175, 205]
    assert all(later - first >= 60 for first, later in zip(times, times[3:], strict=False))


def test_tokens_within_any_minute_are_corrected_by_what_was_used(stub, tmp_path, clock):
    # each may use 116 tokens (65 bytes, of which rates count a quarter, and 100), and uses 12
    limits = Limits(concurrency=1, tokens_per_minute=230)
    prompts = [str(i) for i in range(10)]
    run(stub, prompts, tmp_path / "a.jsonl", limits=limits, max_tokens=100)
    assert clock.taken == [(0.0, 116)] * 10  # 9 x 12 + 116 are within it, 2 x 116 were not
    clock.taken.clear()
    clock.now = 1000.0
    stub.script["*"] = [{"body": good("x", usage=(100, 100))}]
    run(stub, prompts[:5], tmp_path / "b.jsonl", limits=limits, max_tokens=100)
    assert [time for time, _ in clock.taken] == [1000.0, 1060.0, 1120.0, 1180.0, 1240.0]
    # refused requests count nothing
    clock.taken.clear()
    stub.script["*"] = [{"status": 500, "body": ""}] * 5 + [{}]
    run(stub, ["a"], tmp_path / "c.jsonl", limits=limits, max_tokens=100)
    assert clock.taken == [(1240.0, 116)] * 6


@pytest.mark.parametrize("concurrency", [1, 4])
def test_budgets_hold_over_all_runs(stub, tmp_path, concurrency):
    out, prompts = tmp_path / "a.jsonl", [str(i) for i in range(12)]
    limits = Limits(concurrency=concurrency)
    report = run(stub, prompts, out, max_requests=5, limits=limits)
    assert (report.n_answered, report.n_left, len(stub.seen)) == (5, 7, 5)
    assert report.stopped == "max_requests=5 is used up"
    again = run(stub, prompts, out, max_requests=5, limits=limits)
    assert (again.n_answered, len(stub.seen)) == (0, 5)
    more = run(stub, prompts, out, max_requests=7, limits=limits)
    assert (more.n_answered, more.requests, len(stub.seen)) == (2, 7, 7)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_token_and_cost_budgets_are_not_exceeded(stub, tmp_path, concurrency):
    prompts = [str(i) for i in range(40)]
    limits = Limits(concurrency=concurrency)
    # a question's worst case is 65 + 10 tokens, and it uses 12: 18 fit before the last
    report = run(
        stub, prompts, tmp_path / "a.jsonl", max_tokens=10, max_tokens_total=300, limits=limits
    )
    used = report.prompt_tokens + report.completion_tokens
    assert used <= 300
    assert used + 75 > 300
    assert report.n_left == 40 - used // 12
    money = {"max_cost": 0.003, "price_in": 10.0, "price_out": 20.0}
    report = run(stub, prompts, tmp_path / "b.jsonl", max_tokens=10, limits=limits, **money)
    assert report.cost == pytest.approx(report.n_answered * (70 + 100) / 1e6)
    assert report.cost <= 0.003 < report.cost + (650 + 200) / 1e6
    assert "max_cost" in report.stopped
    # one price alone does not tell the cost
    assert run(stub, prompts[:1], tmp_path / "c.jsonl", price_in=10.0).cost is None
    assert run(stub, prompts[:1], tmp_path / "c.jsonl", price_in=10.0, price_out=0.0).cost == 7e-5


def test_failed_attempts_count_against_budgets(stub, tmp_path):
    stub.script["*"] = [{"status": 500, "body": ""}]
    report = run(stub, ["a"], tmp_path / "a.jsonl", max_requests=3)
    assert len(stub.seen) == 3
    assert report.requests == 3
    assert report.n_left == 1
    # nonsense may have been paid for: it counts with its worst case
    stub.script["*"] = [{"body": HTML}]
    report = run(
        stub, ["a"], tmp_path / "b.jsonl", max_tokens=10, max_tokens_total=200, limits=Limits()
    )
    assert len(stub.seen) == 5
    assert report.prompt_tokens + report.completion_tokens == 150


def test_without_usage_tokens_are_overestimated(stub, tmp_path):
    stub.script["*"] = [{"body": good("abc", usage=None)}]
    report = run(stub, ["1234"], tmp_path / "a.jsonl", max_tokens=50)
    (record,) = records(tmp_path / "a.jsonl")
    assert record["usage_estimated"] is True
    assert (report.prompt_tokens, report.completion_tokens) == (68, 3)


def test_stopping_waits_for_what_is_under_way(stub, tmp_path):
    """Three requests are under way when it is told to stop, and are answered only then."""
    told = threading.Event()

    def reply(body):
        told.wait(timeout=60)
        return {}

    def stop():
        if len(stub.seen) >= 3:
            told.set()
        return told.is_set()

    stub.script["*"] = reply
    out = tmp_path / "a.jsonl"
    prompts = [str(i) for i in range(20)]
    report = run(stub, prompts, out, limits=Limits(concurrency=3), stop=stop)
    assert report.stopped == "interrupted"
    assert (report.n_answered, report.n_left) == (3, 17)
    assert len(stub.seen) == len(records(out)) == 3


def test_changed_settings_are_refused_unless_told(stub, tmp_path):
    out = tmp_path / "a.jsonl"
    run(stub, ["a"], out, max_tokens=10, extra={"stop": ("x", "y")})
    assert run(stub, ["a"], out, max_tokens=10, extra={"stop": ["x", "y"]}).n_before == 1
    with pytest.raises(rs.errors.ArgumentError, match=r"max_tokens 10, not 11.*extra"):
        run(stub, ["a", "b"], out, max_tokens=11)
    assert stub.seen == ["a"]
    report = run(stub, ["a", "b"], out, max_tokens=11, accept_changes=True)
    assert (report.n_before, report.n_answered) == (1, 1)
    assert [one["settings"]["max_tokens"] for one in records(out)] == [10, 11]
    report = run(stub, ["a"], out, max_tokens=12, fresh=True)
    assert (report.n_before, report.n_answered, report.requests) == (0, 1, 1)
    assert [one["settings"]["max_tokens"] for one in records(out)] == [12]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"endpoint": "http://user:pw@h/v1"}, "no user, password"),
        ({"endpoint": "http://h/v1?key=7"}, "no user, password or query"),
        *[
            ({"endpoint": url}, "endpoint must be a URL")
            for url in (
                "localhost:8000",
                "http://h:99999/v1",
                "http://h:0/v1",
                "http://h:-1/v1",
                "http://h:v1",
                "http://[::1/v1",
                "http://[zz]/v1",
                "http://h h/v1",
                "http://h/v1\n",
                "http://\ud800/v1",
                "http:///v1",
                f"http://h/{'x' * 70000}",
            )
        ],
        ({"temperature": -1}, "temperature must be from 0"),
        ({"max_tokens": 0}, "max_tokens must be from 1"),
        ({"samples": 0}, "samples must be from 1"),
        ({"max_cost": 1.0}, "max_cost needs price_in= and price_out="),
        ({"max_cost": 1.0, "price_in": 1.0}, "max_cost needs price_in= and price_out="),
        ({"max_cost": 1.0, "price_out": 1.0}, "max_cost needs price_in= and price_out="),
        ({"max_requests": 0}, "max_requests must be above 0, not 0"),
        ({"max_tokens_total": -1}, "max_tokens_total must be above 0"),
        ({"price_in": -1.0}, "price_in must be 0 or more"),
        ({"price_out": float("nan")}, "price_out must be 0 or more"),
        ({"extra": {"a": [float("nan")]}}, "extra must be a JSON object: Out of range float"),
        ({"extra": {"a": float("inf")}}, "extra must be a JSON object: Out of range float"),
        ({"extra": {"a": {1}}}, "extra must be a JSON object: Object of type set"),
        ({"extra": {"a": "\ud800"}}, "extra must be a JSON object: "),
        ({"extra": ["a"]}, "extra must be a JSON object, not list"),
        ({"system": "\udcff"}, "system must be text"),
        ({"model": "\udcff"}, "model must be text"),
        ({"api": "responses"}, "api must be one of"),
        ({"api": "completions", "system": "x"}, "system has no effect"),
        ({"model": ""}, "model must not be empty"),
    ],
)
def test_arguments_that_are_not_allowed(stub, tmp_path, options, match):
    with pytest.raises(rs.errors.ArgumentError, match=match):
        run(stub, ["a"], tmp_path / "a.jsonl", **options)
    assert stub.seen == []
    assert not (tmp_path / "a.jsonl").exists()


def test_prompts_that_are_not_text_or_missing(stub, tmp_path):
    with pytest.raises(rs.errors.ArgumentError, match="prompt 1 is not text"):
        run(stub, ["a", "\ud800"], tmp_path / "a.jsonl")
    with pytest.raises(rs.errors.ArgumentError, match="prompts must not be empty"):
        run(stub, [], tmp_path / "a.jsonl")


def test_odd_answers_are_kept_as_they_are(stub, tmp_path):
    text = 'a "quoted"\nline\u2028 \u0000 \ud83d\ude00 é'
    stub.script["odd"] = [{"body": json.dumps(good(text))}]
    stub.script["empty"] = [{"body": good("")}]
    stub.script["half"] = [{"body": json.dumps(good("x")).replace('"x"', '"\\ud800"')}]
    refused = good(None)
    refused["choices"][0]["message"]["refusal"] = "No."
    stub.script["no"] = [{"body": refused}]
    report = run(stub, ["odd", "empty", "half", "no"], tmp_path / "a.jsonl")
    assert report.n_answered == 4
    lines = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    found = {one["prompt"]: one for one in map(json.loads, lines[:-1])}
    assert found["odd"]["text"] == text.encode("utf-16", "surrogatepass").decode("utf-16")
    assert found["empty"]["text"] == ""
    assert found["no"]["text"] == "No."
    assert run(stub, ["odd", "empty", "half", "no"], tmp_path / "a.jsonl").n_before == 4


def test_a_full_disk_is_reported_as_such(stub, tmp_path, monkeypatch):
    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("radscore.models.journal.os.write", full)
    with pytest.raises(OSError, match="No space left"):
        run(stub, ["a", "b", "c"], tmp_path / "a.jsonl")
