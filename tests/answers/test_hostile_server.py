"""Servers that mean harm: bodies without end, bombs, redirects, keys that they repeat."""

import base64
import gzip
import itertools
import json
import re
import string
import subprocess
import sys
import textwrap
import time
import zlib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
import radscore as rs
from hypothesis import given
from hypothesis import strategies as st
from radscore.answers import Limits, ask
from radscore.answers.redaction import Redactor
from radscore.answers.transport import MOST_BYTES
from radscore.answers.waiting import asked_wait
from radscore.models.journal import Journal

from .conftest import good, records

KEY = "sk-proj-Ab3dEf9hIjKlMn0pQrStUv"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("radscore.answers.workers._FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(stub, prompts, out, **options):
    options = {"endpoint": stub.url, "model": "m", "limits": Limits(retries=0), **options}
    return ask(prompts, out, **options)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b" " * (1 << 20)


def dripped(head, drop):
    yield head
    while True:
        time.sleep(0.05)
        yield drop


def endless(head, block):
    yield head
    yield from itertools.repeat(block)


def bomb(pack, mebibytes=64):
    return pack(b'{"choices": "' + BLOCK * mebibytes + b'"}')


def packed(name, body, status=b"200 OK"):
    head = HEAD.replace(b"200 OK", status)
    return head + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (name, len(body)) + body


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


#: What is sent, what is said of it, and how it ends: "long" ones at the time limit.
HOSTILE = {
    "a body without end": (lambda: endless(HEAD + b"\r\n", BLOCK), "more than 16 MiB"),
    "chunks without end": (
        lambda: endless(CHUNKED, b"100000\r\n" + BLOCK + b"\r\n"),
        "more than 16 MiB",
    ),
    "a bomb of gzip": (lambda: packed(b"gzip", bomb(gzip.compress)), "more than 16 MiB"),
    "a bomb of deflate": (lambda: packed(b"deflate", bomb(zlib.compress)), "more than 16 MiB"),
    "a bare bomb of deflate": (lambda: packed(b"deflate", bomb(raw_deflate)), "more than 16 MiB"),
    "two packings": (lambda: packed(b"gzip, gzip", b"x"), "packed by 'gzip, gzip'"),
    "zstd": (lambda: packed(b"zstd", b"\x28\xb5\x2f\xfd"), "packed by 'zstd'"),
    "br": (lambda: packed(b"br", b"\x1b"), "packed by 'br'"),
    "gzip that is none": (lambda: packed(b"gzip", b"{}"), "gzip is damaged"),
    "gzip cut off": (lambda: packed(b"gzip", gzip.compress(b"{}")[:-9]), "gzip is cut off"),
    "headers without end": (
        lambda: endless(HEAD, b"X: " + b"a" * 60_000 + b"\r\n"),
        "RemoteProtocolError",
    ),
    "1xx without end": (
        lambda: dripped(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "no answer in time",
    ),
    "a slow body": (
        lambda: dripped(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
        "no answer in time",
    ),
    "slow headers": (lambda: dripped(HEAD, b"a"), "no answer in time"),
    "nothing": (lambda: b"", "no connection"),
    "no HTTP": (lambda: b"220 smtp.example ESMTP\r\n", "no connection"),
    "cut off": (lambda: HEAD + b"Content-Length: 9\r\n\r\n{}", "no connection"),
    "two lengths": (lambda: HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "no conn"),
    "a packing by charset": (
        lambda: (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=zlib\r\n\r\n"
            + bomb(zlib.compress)
        ),
        "not JSON",
    ),
    "an error packed so": (
        lambda: packed(b"gzip", bomb(gzip.compress), b"400 Bad"),
        "400: ",
    ),
    "an error without end": (
        lambda: endless(HEAD.replace(b"200 OK", b"400 Bad") + b"\r\n", b"x" * (1 << 20)),
        "400: xxxx",
    ),
    "a depth": (lambda: HEAD + b"\r\n" + b"[" * 2_000_000, "not JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_server_sends_is_bounded(stub, tmp_path, name):
    make, said = HOSTILE[name]
    stub.script["bad"] = [{"raw": make()}]
    limits = Limits(retries=0, timeout=2.0 if "in time" in said else 60.0)
    before = time.monotonic()
    report = run(stub, ["bad", "good"], tmp_path / "a.jsonl", limits=limits)
    assert time.monotonic() - before < 30
    (reason,) = report.failures
    assert said in reason
    assert (report.n_answered, report.n_failed, stub.seen.count("bad")) == (1, 1, 1)


MEMORY = """
    import resource, sys
    from radscore.answers import Limits, ask
    ask(["warm"], "w.jsonl", endpoint=sys.argv[1], model="m")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ask(sys.argv[2:], "a.jsonl", endpoint=sys.argv[1], model="m", limits=Limits(retries=0))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_bounded(stub, tmp_path):
    """Four at once: 200 MiB packed, 64 MiB of lists, and bodies without end."""
    lists = b'{"choices": [' + b"[]," * (1 << 24)
    stub.script["bomb"] = [{"raw": packed(b"gzip", bomb(gzip.compress, 200))}]
    stub.script["lists"] = [{"raw": HEAD + b"\r\n" + lists}]
    stub.script["lists, as many as may be"] = [
        {"raw": HEAD + b"\r\n" + lists[: MOST_BYTES - 8] + b"[]]}"}
    ]
    stub.script["endless"] = [{"raw": endless(HEAD + b"\r\n", BLOCK)}]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), stub.url, *list(stub.script)],
        capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert int(done.stdout) < 700
    assert len(records(tmp_path / "a.jsonl")) == 4


@pytest.mark.parametrize("packing", ["gzip", "x-gzip", "deflate", "raw deflate", "identity"])
def test_packed_answers_are_read(stub, tmp_path, packing):
    body = json.dumps(good("fine")).encode()
    pack = {"identity": bytes, "deflate": zlib.compress, "raw deflate": raw_deflate}
    name = packing.removeprefix("raw ").encode()
    stub.script["a"] = [{"raw": packed(name, pack.get(packing, gzip.compress)(body))}]
    assert run(stub, ["a"], tmp_path / "a.jsonl").n_answered == 1
    assert records(tmp_path / "a.jsonl")[0]["text"] == "fine"


def test_answers_up_to_the_bound_are_read(stub, tmp_path):
    text = "x" * (MOST_BYTES - 1000)
    stub.script["a"] = [{"body": good(text)}]
    assert run(stub, ["a"], tmp_path / "a.jsonl").n_answered == 1
    assert records(tmp_path / "a.jsonl")[0]["text"] == text


# Redirects and budgets


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "where", ["http://localhost:{}/v1/x", "https://127.0.0.1:{}/v1", "/v1/x", ""]
)
def test_redirects_are_not_followed(stub, tmp_path, status, where):
    to = where.format(stub.url.rpartition(":")[2].partition("/")[0])
    stub.script["a"] = [{"status": status, "headers": {"location": to}, "body": good("not mine")}]
    limits = Limits(retries=5, concurrency=1)
    report = run(stub, ["a", "b"], tmp_path / "a.jsonl", limits=limits, max_requests=9)
    assert (stub.seen, stub.gets, report.n_answered, report.requests) == (["a"], 0, 0, 1)
    assert report.stopped.startswith(f"{status}: redirected to {to or 'nowhere'}, which is not")
    assert "not mine" not in (tmp_path / "a.jsonl").read_text()


FLAWS = [
    {"status": 500, "body": "down"},
    {"status": 429, "body": "{}", "headers": {"retry-after": "0.01"}},
    {"body": "nonsense"},
    {"raw": b""},
    {"status": 307, "headers": {"location": "/v1/chat/completions"}},
    {"status": 400, "body": {"error": {"message": "use max_completion_tokens"}}},
]


@pytest.mark.parametrize("flaw", FLAWS, ids=str)
@pytest.mark.parametrize("most", [1, 3])
def test_budgets_of_requests_are_exact(stub, tmp_path, flaw, most):
    """Retries, repairs and redirects count like all requests, over both runs."""
    stub.script["*"] = [flaw]
    limits = Limits(retries=9, concurrency=4)
    for _ in range(2):
        report = run(stub, list("abcd"), tmp_path / "a.jsonl", limits=limits, max_requests=most)
        assert report.requests == len(stub.seen) + stub.gets <= most
    assert len(stub.seen) == most


def test_cookies_are_not_kept(stub, tmp_path):
    seen = []

    def reply(body):
        return {"headers": {"set-cookie": f"a{len(stub.seen)}={'b' * 4000}"}}

    stub.script["*"] = reply
    original = stub.answer
    stub.answer = lambda handler: (seen.append(handler.headers.get("cookie")), original(handler))
    run(stub, list("abc"), tmp_path / "a.jsonl", limits=Limits(concurrency=1))
    assert seen == [None] * 3


# How long to wait


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stamp(seconds):
    return NOW.timestamp() + seconds


def date(seconds):
    return format_datetime(datetime.fromtimestamp(stamp(seconds), UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": date(30)}, 30),
        ({"retry-after": "Friday, 02-Jan-26 03:04:35 GMT"}, 30),  # RFC 850
        ({"retry-after": "Fri Jan  2 03:04:35 2026"}, 30),  # asctime
        ({"retry-after": date(-30)}, 0),
        ({"retry-after": date(10**6)}, 10**6),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "inf"}, 0),
        ({"retry-after": "1e3"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "Fri, 99 Jan 2026 99:99:99 GMT"}, 0),
        ({"retry-after": "123456789"}, 123456789),
        ({"retry-after": "9" * 400}, float("inf")),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-reset-requests": "1.5s",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "100",
            },
            1.5,
        ),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "12"}, 12),
        ({"x-ratelimit-reset": str(int(stamp(5)))}, 5),
        ({"x-ratelimit-reset": str(int(stamp(5) * 1000))}, 5),
        ({"x-ratelimit-reset-tokens": "2026-01-02T03:04:15Z"}, 10),
        ({"x-ratelimit-reset": str(int(stamp(9 * 3600)))}, 0),  # a day's limit: backing off does
        ({"x-ratelimit-reset": "-1"}, 0),
        ({"x-ratelimit-reset": "tomorrow"}, 0),
        ({"retry-after": "3", "x-ratelimit-reset": "9"}, 3),
    ],
)
def test_how_long_a_server_wants_rest(headers, seconds):
    assert asked_wait({"date": date(0), **headers}) == pytest.approx(seconds, abs=0.01)


@given(st.text(max_size=40))
def test_no_header_is_misread_into_a_fault(text):
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-x", "date"):
        assert asked_wait({name: text}) >= 0


@pytest.mark.parametrize(
    "headers", [{"retry-after": "0.4"}, {"retry-after-ms": "400"}, {"x-ratelimit-reset-x": "400ms"}]
)
def test_the_rest_that_is_asked_for_is_given(stub, tmp_path, headers):
    stub.script["a"] = [{"status": 429, "headers": headers, "body": "{}"}, {}]
    before = time.monotonic()
    report = run(stub, ["a"], tmp_path / "a.jsonl", limits=Limits(retries=1))
    assert report.n_answered == 1
    assert time.monotonic() - before > 0.4


def test_a_rest_of_hours_ends_the_run(stub, tmp_path):
    stub.script["*"] = [
        {"status": 429, "headers": {"retry-after": "7200"}, "body": '{"error": "x"}'}
    ]
    report = run(stub, list("abcd"), tmp_path / "a.jsonl", limits=Limits(concurrency=1, retries=9))
    assert report.stopped == "429: x; the server wants no requests for 7200 seconds"
    assert (stub.seen, report.n_left) == (["a"], 3)


# The key


@pytest.fixture
def with_key(cli, monkeypatch):
    """The command line, with the key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return cli


def spellings(key):
    coded = base64.b64encode(key.encode()).decode()
    return {
        "whole": key,
        "in two": f"{key[:10]} {key[10:]}",
        "its beginning": key[:14],
        "its end": key[-9:],
        "its middle": key[9:21],
        "reversed": key[::-1],
        "upper": key.upper(),
        "lower": key.lower(),
        "with separators": "-".join(key),
        "on lines": "\n".join(key),
        "base64": coded,
        "base64 of a header": base64.b64encode(f"Bearer {key}".encode()).decode(),
        "base64 of JSON": base64.b64encode(json.dumps({"k": key}).encode()).decode(),
        "base64, for URLs": base64.urlsafe_b64encode(f"x{key}".encode()).decode(),
        "hexadecimal": key.encode().hex(),
        "hexadecimal with colons": key.encode().hex(":").upper(),
        "percent": "".join(f"%{ord(letter):02X}" for letter in key),
        "JSON": json.dumps({"authorization": f"Bearer {key}"}),
    }


def pieces(text, size):
    letters = "".join(c for c in text if c.isascii() and c.isalnum()).lower()
    return {letters[i : i + size] for i in range(len(letters) - size + 1)}


def decoded(text):
    """What base64 and hexadecimal digits in a text may stand for."""
    for run in re.findall(r"[A-Za-z0-9+/_-]{12,}", text):
        for start in range(4):
            letters = run[start:].replace("-", "+").replace("_", "/")
            yield base64.b64decode(letters[: len(letters) // 4 * 4]).decode("latin-1")
    digits = re.sub(r"[^0-9a-f]", "", text.lower())
    for start in range(2):
        yield bytes.fromhex(digits[start : start + (len(digits) - start) // 2 * 2]).decode(
            "latin-1"
        )


def shows(text, key):
    """Whether a text still holds eight letters of a key, in any of the spellings."""
    known = pieces(key, 8) | pieces(key[::-1], 8)
    return any(pieces(one, 8) & known for one in [text, *decoded(text)])


@pytest.mark.parametrize("name", spellings(KEY))
@pytest.mark.parametrize(
    "where", ["answer", "refusal", "reasoning", "model", "error", "status", "location"]
)
def test_a_key_is_neither_shown_nor_stored(stub, with_key, prompts_file, name, where):
    text = f"You sent {spellings(KEY)[name]} and more"
    assert shows(text, KEY)
    body = good("fine")
    message = body["choices"][0]["message"]
    reply = {"body": body}
    if where == "answer":
        message["content"] = text
    elif where in ("refusal", "reasoning"):
        message[where] = text
    elif where == "model":
        body["model"] = text
    elif where == "error":
        reply = {"body": {"error": {"message": text}}}
    elif where == "status":
        reply = {"status": 400, "body": {"detail": text}}
    else:
        reply = {"status": 307, "headers": {"location": text.replace("\n", "")}}
    stub.script["a"] = [reply]
    done = with_key(
        "ask", "--prompts", prompts_file(["a"]), "--endpoint", stub.url, "--model", "m", "--out",
        "a.jsonl", "--retries", 0, "--debug",
    )  # fmt: skip
    journal = Path("a.jsonl").read_text()
    assert len(journal.splitlines()) == 1
    assert not shows(done.out + done.err + journal, KEY)
    assert "(key)" in journal
    if where == "answer":
        kept = records("a.jsonl")[0]["text"]
        assert kept.startswith("You sent ")
        assert kept.endswith(" and more")
        assert "the server repeated the API key in 1 answers" in done.out


WORDS = ("sk-no-key-required", "not-needed", "lm-studio", "EMPTY", "token-abc123", "secret", "")


@pytest.mark.parametrize("key", WORDS)
def test_keys_that_are_words_leave_answers_alone(key):
    text = "Not needed: no key is required, so the token in LM Studio may be EMPTY or a secret. 123"
    assert Redactor(key).answer(text) == text


@given(st.text(string.ascii_letters + string.digits, min_size=20, max_size=60), st.text())
def test_an_answer_is_changed_by_its_key_alone(letters, text):
    redactor = Redactor(f"sk-{letters}")
    if not pieces(text, 8) & (pieces(letters, 8) | pieces(letters[::-1], 8)):
        assert redactor.answer(text) == text
    hidden = redactor.answer(f"{text}\0sk-{letters}\0{text}")
    assert letters not in hidden
    assert hidden.startswith(redactor.answer(text)[:-12])


def test_settings_that_hold_the_key_are_refused(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for options in ({"extra": {"api_key": KEY}}, {"system": f"use {KEY}"}, {"model": KEY}):
        with pytest.raises(rs.errors.ArgumentError, match="holds the API key") as caught:
            run(stub, ["a"], tmp_path / "a.jsonl", **options)
        assert not shows(str(caught.value), KEY)
    assert not (tmp_path / "a.jsonl").exists()


# Journals of others


LINE = {"prompt_id": "a", "sample": 0, "text": "A", "attempts": 1, "settings": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"sample": -1}, {"sample": True}, {"sample": 0.5}, {"sample": "0"}, {"sample": None},
        {"prompt_id": ["a"]}, {"prompt_id": 7}, {"settings": 5}, {"settings": None},
        {"settings": [1]}, {"text": 5}, {"text": None}, {"attempts": -1}, {"attempts": "1"},
        {"attempts": float("inf")}, {"attempts": float("nan")}, {"usage": [1]},
        {"usage": {"prompt_tokens": -(10**9)}}, {"usage": {"completion_tokens": 1.5}},
    ],
)  # fmt: skip
def test_hostile_journals_are_refused_by_line(tmp_path, change):
    """A negative count would raise the budget."""
    path = tmp_path / "j"
    content = json.dumps(LINE) + "\n" + json.dumps({**LINE, **change}) + "\n"
    path.write_text(content)
    with pytest.raises(rs.errors.StateError, match="j:2: not a record of an answer"):
        Journal(path, {})
    assert path.read_text() == content


def test_a_journal_of_depth_or_none_is_refused(tmp_path):
    path = tmp_path / "j"
    path.write_text('{"prompt_id": ' + "[" * 200_000 + "\n")
    with pytest.raises(rs.errors.StateError, match="j:1: not a record of an answer"):
        Journal(path, {})
    with pytest.raises(rs.errors.StateError, match="/dev/null is not a regular file"):
        Journal("/dev/null", {})


def test_answers_that_break_lines_are_one_line(stub, tmp_path):
    text = "a\u2028b\u0085c\u202ed\x7f"
    stub.script["a"] = [{"body": good(text)}]
    run(stub, ["a"], tmp_path / "a.jsonl")
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == text
