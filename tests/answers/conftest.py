"""A real server with a tiny real model, a stub that misbehaves, and the command line."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loopback import Handler, Loopback

DEMO = Path(__file__).parents[2] / "demo"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START_SECONDS = 300


@pytest.fixture(scope="session", autouse=True)
def always_one_thread(one_thread):
    """For all tests of this folder."""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A Llama of random weights with SmolLM2's tokenizer, as transformers saves it."""
    import torch
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("model")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(DEMO / "tokenizer.json"),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language(model_folder):
    """The model of that folder, loaded once."""
    from radscore.models import load_model

    return load_model(model_folder)


class Server:
    """``transformers serve`` on loopback, in a process group of its own."""

    def __init__(self, folder, log, port=None):
        self.model = str(folder)
        self.log = Path(log)
        self.port = port or free_port()
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        program = Path(sys.executable).with_name("transformers")
        command = [program, "serve", self.model, "--host", "127.0.0.1", "--device", "cpu"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.2)
        self.kill()
        pytest.fail(f"the server did not start: {self.log.read_text()[-2000:]}")

    def kill(self):
        """kill -9 for the server and everything it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None

    def requests(self):
        """How many requests for answers its log shows."""
        return self.log.read_text().count('POST /v1/chat/completions HTTP/1.1" 200')


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def server(model_folder, tmp_path_factory):
    """The server that all tests share; a test that kills it starts it again."""
    running = Server(model_folder, tmp_path_factory.mktemp("server") / "log")
    try:
        yield running.start()
    finally:
        running.kill()


class Stub(Loopback):
    """A server that replies as a test tells it to.

    `script` maps a prompt to a list of replies, each a dict with `status`, `body`, `headers`,
    `close` (drop the connection), `wait` or `drip` (seconds between two bytes); the last one
    repeats. Instead of a list it may be a function of the request's body, which may wait. Prompts
    without a script get a good answer. `raw` is bytes, or an iterable of them, sent as they are
    until the client hangs up. `gets` counts requests that came as GET.
    """

    def __init__(self):
        self.script = {}
        self.seen = []
        self.bodies = []
        self.authorizations = []
        self.most = self._now = self.gets = 0
        self._lock = threading.Lock()
        stub = self

        class Replies(Handler):
            def do_POST(self):
                stub.answer(self)

            def do_GET(self):
                stub.gets += 1
                self.send_error(404)

        super().__init__(Replies)

    def answer(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        texts = [body[name] for name in ("prompt", "text") if name in body]
        prompt = texts[0] if texts else body["messages"][-1]["content"]
        with self._lock:
            times = self.seen.count(prompt)
            self.seen.append(prompt)
            self.bodies.append(body)
            self.authorizations.append(handler.headers.get("authorization"))
            self._now += 1
            self.most = max(self.most, self._now)
        replies = self.script.get(prompt, self.script.get("*", [{}]))
        reply = replies(body) if callable(replies) else replies[min(times, len(replies) - 1)]
        time.sleep(reply.get("wait", 0))
        with self._lock:
            self._now -= 1
        if "raw" in reply:
            handler.close_connection = True
            raw = reply["raw"]
            with contextlib.suppress(OSError):
                for part in [raw] if isinstance(raw, bytes) else raw:
                    handler.wfile.write(part)
            return
        if reply.get("close"):
            handler.close_connection = True
            return
        content = reply.get("body", good(f"answer to {prompt}", chat="messages" in body))
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(reply.get("status", 200))
        headers = {"content-type": "application/json", **reply.get("headers", {})}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(reply.get("length", len(data))))
        handler.end_headers()
        pause = reply.get("drip", 0)
        for part in [data[i : i + 1] for i in range(len(data))] if pause else [data]:
            handler.wfile.write(part)
            time.sleep(pause)


def good(text, *, chat=True, usage=(7, 5)):
    """A completion as servers send it."""
    choice = {"index": 0, "finish_reason": "stop"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
    return {"id": "x", "object": "x", "model": "m", "choices": [choice], "usage": counts}


@pytest.fixture
def stub():
    made = Stub()
    yield made
    made.close()


@pytest.fixture
def cli(run_command, monkeypatch, tmp_path):
    """Runs a command in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    return run_command


@pytest.fixture
def prompts_file(tmp_path):
    """Writes prompts to a file."""

    def write(prompts, name="prompts.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        return path

    return write


def records(path):
    """The records of a journal."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def run(stub, prompts, out, **options):
    """Asks the stub."""
    from radscore.answers import ask

    return ask(prompts, out, **{"endpoint": stub.url, "model": "m", **options})
