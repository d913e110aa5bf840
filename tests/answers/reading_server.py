"""A server of ours that reads with real networks, in the shapes of the servers in use.

The shapes are those of vLLM's, SGLang's, llama.cpp's and OpenAI's servers; the numbers are the
network's own, by torch.
"""

import json
import sys
import threading
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from loopback import Handler, Loopback

LEAST = -9999.0  # for what is never predicted


class ReadingServer(Loopback):
    """Serves one network on loopback.

    Parameters
    ----------
    network : transformers model
    tokenizer : tokenizers.Tokenizer
    kinds : set of str
        What it knows: "vllm", "sglang", "echo", "shifted" (llama-cpp-python's echo without a start
        token), "ids" (completions of token ids), "text", "chat".
    start : list of int
        Special tokens that it puts before a text itself.
    most : int
        The most log-probabilities that may be asked for.
    fail : callable, optional
        From a request's number, counted from 1, to a status and a body, or None.
    """

    def __init__(self, network, tokenizer, kinds, *, start=(), most=20, fail=None):
        self.network, self.tokenizer, self.kinds = network, tokenizer, set(kinds)
        self.start, self.most, self.fail = list(start), most, fail
        self.bodies, self.lock = [], threading.Lock()
        self.gets = 0
        server = self

        class Reads(Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.gets += 1
                about = {"id": "m", "owned_by": "us", "created": server.gets, "max_model_len": 256}
                self.reply(200, {"object": "list", "data": [about]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server.lock:
                    server.bodies.append((self.path, body))
                    number = len(server.bodies)
                    failed = server.fail(number) if server.fail is not None else None
                self.reply(*(failed or server.answer(self.path, body)))

            def reply(self, status, content):
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        super().__init__(Reads)

    def logprobs(self, ids):
        """After each token, of all tokens."""
        with torch.inference_mode():
            logits = self.network(input_ids=torch.tensor([ids])).logits[0].float()
        return logits.log_softmax(dim=-1)

    def encode(self, text):
        return [*self.start, *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def shown(self, token):
        return self.tokenizer.decode([token], skip_special_tokens=False)

    def answer(self, path, body):
        if path == "/generate" and "sglang" in self.kinds:
            return 200, self.sglang(body)
        if path == "/v1/chat/completions" and "chat" in self.kinds:
            return self.chat(body)
        if path != "/v1/completions" or not self.kinds & {"vllm", "echo", "shifted", "ids", "text"}:
            return 404, {"error": {"message": "not found"}}
        if (body.get("prompt_logprobs") or body.get("logprobs") or 0) > self.most:
            return 400, {"error": {"message": f"logprobs must be at most {self.most}"}}
        if isinstance(body["prompt"], list) and not self.kinds & {"vllm", "ids"}:
            return 422, {"error": {"message": "prompt must be a string"}}
        return 200, self.completion(body)

    def completion(self, body):
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.encode(prompt)
        after = self.logprobs(ids)
        n = body.get("logprobs")
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if "vllm" in self.kinds:
            choice["prompt_logprobs"] = self.vllm(ids, after, body.get("prompt_logprobs"))
            named = body.get("return_tokens_as_token_ids")
        else:
            named = False
        new = int(after[-1].argmax())
        if body.get("echo") and self.kinds & {"echo", "shifted"}:
            choice["logprobs"] = self.echo(ids, new, after, n)
            choice["text"] = f"{prompt}{self.shown(new)}"
        elif n:
            name = (lambda token: f"token_id:{token}") if named else self.shown
            best = self.best(after[-1], n)
            choice["logprobs"] = {
                "tokens": [name(new)],
                "token_logprobs": [float(after[-1][new])],
                "top_logprobs": [{name(token): value for token, value in best}],
                "text_offset": [0],
            }
        return {"object": "text_completion", "choices": [choice], **self.usage(ids)}

    @staticmethod
    def usage(ids):
        counts = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return {"usage": counts}

    @staticmethod
    def best(values, n):
        """The N likeliest as (id, value), the likeliest first."""
        found = values.topk(n)
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [(token, max(value, LEAST)) for token, value in pairs]

    def vllm(self, ids, after, n):
        if n is None:
            return None
        lists = [None]
        for j in range(1, len(ids)):
            values, own = after[j - 1], ids[j]
            rank = int((values > values[own]).sum()) + 1
            entries = {own: (float(values[own]), rank)}
            for i, (token, value) in enumerate(self.best(values, n)):
                entries[token] = (value, i + 1)
            lists.append(
                {
                    str(t): {"logprob": v, "rank": r, "decoded_token": self.shown(t)}
                    for t, (v, r) in entries.items()
                }
            )
        return lists

    def sglang(self, body):
        ids = body["input_ids"]
        after = self.logprobs(ids)
        n = body["top_logprobs_num"]

        def triples(values):
            return [[value, token, None] for token, value in self.best(values, n)]

        own = [float(after[j - 1][ids[j]]) if j else None for j in range(len(ids))]
        about = {
            "input_token_logprobs": [[v, i, None] for v, i in zip(own, ids, strict=True)],
            "input_top_logprobs": [None, *(triples(values) for values in after[:-1])],
            "output_token_logprobs": [[0.0, int(after[-1].argmax()), None]],
            "output_top_logprobs": [triples(after[-1])],
            "prompt_tokens": len(ids),
            "completion_tokens": 1,
        }
        return {"text": "x", "meta_info": about}

    def echo(self, ids, new, after, n):
        """With the token that stands there added, as OpenAI does; parts of characters left out."""
        every = [*ids, new]
        first = len(self.start)

        def shown(token):
            one = self.tokenizer.id_to_token(token)
            text = self.tokenizer.decoder.decode([one])
            return text.replace("\ufffd", "")

        rows, values = [], []
        for j in range(first, len(every)):
            at = j if "shifted" in self.kinds else j - 1
            if at < 0 or at >= len(after) or ("shifted" in self.kinds and j == first):
                rows.append(None)
                values.append(None)
                continue
            row = {shown(token): value for token, value in self.best(after[at], n)}
            row[shown(every[j])] = float(after[at][every[j]])
            rows.append(row)
            values.append(float(after[at][every[j]]))
        return {
            "tokens": [shown(token) for token in every[first:]],
            "token_logprobs": values,
            "top_logprobs": rows,
            "text_offset": [0] * len(rows),
        }

    def chat(self, body):
        ids = self.encode(body["messages"][-1]["content"])
        values = self.logprobs(ids)[-1]
        tops = [
            {"token": self.shown(t), "logprob": v, "bytes": list(self.shown(t).encode())}
            for t, v in self.best(values, body["top_logprobs"])
        ]
        message = {"role": "assistant", "content": tops[0]["token"]}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        choice["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
        return 200, {"object": "chat.completion", "choices": [choice], **self.usage(ids)}
