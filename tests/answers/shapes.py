"""A toy model behind every server's shape of log-probabilities, as their sources write them.

vLLM 0.11 and later (entrypoints/openai/*/serving.py), SGLang 0.5 (entrypoints/openai/utils.py,
managers/tokenizer_manager.py), llama.cpp's server (completion_token_output in tools/server),
llama-cpp-python 0.3 (llama_chat_format.py), OpenAI's reference of both interfaces.
"""

import hashlib
import math

import numpy as np
from tokenizers import Tokenizer

from .conftest import DEMO

TOKENIZER = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
END = TOKENIZER.token_to_id("<|im_end|>")
#: What the toy says: words, and the three parts of a character, which come one after the other.
WORDS = TOKENIZER.encode(" the a of to in and is was for on as with by at be").ids
PARTS = TOKENIZER.encode(" 東").ids
RAW = {
    **{index: TOKENIZER.decode([index]).encode() for index in WORDS},
    **dict(zip(PARTS, (b" \xe6", b"\x9d", b"\xb1"), strict=True)),
    END: b"<|im_end|>",
}


class Toy:
    """A model over `WORDS`, `PARTS` and the end, whose logits depend on what it has written.

    Parameters
    ----------
    server : str
        Whose shape; one of `SERVERS`.
    most : int
        The most tokens it lists.
    after_temperature, after_top_p : bool
        Whether it lists what it samples from.
    parts : bool
        Whether it writes parts of characters.
    """

    def __init__(
        self, server, *, most=20, after_temperature=False, after_top_p=False, parts=True, noise=0.0
    ):
        self.server, self.most, self.noise = server, most, noise
        self.after_temperature, self.after_top_p = after_temperature, after_top_p
        self.tokens = np.array([*WORDS, *(PARTS if parts else ()), END])
        self.bodies = []
        self.truth = {}  #: by prompt and seed: ids and what is listed at each
        self._rng = np.random.default_rng(0)

    def logits(self, prompt, written):
        digest = hashlib.sha256(f"{prompt}/{written}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        logits = rng.normal(0.0, 2.0, len(self.tokens))
        ids = self.tokens.tolist()
        if PARTS[0] in ids:
            first = ids.index(PARTS[0])
            logits[first + 1 : first + 3] = -np.inf  # only after the part before
            if written and written[-1] in PARTS[:2]:
                nxt = ids.index(written[-1]) + 1
                logits[:] = rng.normal(-8.0, 1.0, len(logits))
                logits[nxt] = 4.0
        if len(written) < 3:
            logits[ids.index(END)] -= 6.0
        return logits

    def answer(self, prompt, *, seed, max_tokens, temperature, top_p, n):
        rng = np.random.default_rng(seed or 0)
        written, lists = [], []
        while len(written) < max_tokens and END not in written:
            logits = self.logits(prompt, written)
            raw = log_softmax(logits)
            hot = log_softmax(logits / max(temperature, 1e-3))
            order = np.argsort(-hot, kind="stable")
            before = np.cumsum(np.exp(hot[order])) - np.exp(hot[order])
            narrow = np.full(len(hot), -np.inf)
            narrow[order[before < top_p]] = 0.0
            sampled = log_softmax(hot + narrow)
            shown = sampled if self.after_top_p else hot if self.after_temperature else raw
            shown = shown + self._rng.normal(0, self.noise, len(shown))
            index = rng.choice(len(hot), p=np.exp(sampled))
            written.append(int(self.tokens[index]))
            ranked = np.argsort(-shown, kind="stable")[:n]
            top = [(int(self.tokens[i]), float(shown[i])) for i in ranked]
            lists.append((float(shown[index]), [one for one in top if one[1] > -math.inf]))
        return written, lists

    def __call__(self, body):
        """A reply, as the stub wants it."""
        self.bodies.append(body)
        sampling = body.get("sampling_params", body)
        native = "sampling_params" in body
        chat = "messages" in body
        n = body.get("top_logprobs_num") if native else None
        if not native and body.get("logprobs"):
            n = body["top_logprobs"] if chat else body["logprobs"]
        if (refusal := self.refusal(body, n)) is not None:
            return {"status": 400, "body": {"error": {"message": refusal}}}
        prompt = body["messages"][-1]["content"] if chat else body.get("prompt", body.get("text"))
        seed = sampling.get("sampling_seed") if native else body.get("seed")
        written, lists = self.answer(
            prompt,
            seed=seed,
            max_tokens=sampling.get("max_new_tokens") or body.get("max_tokens"),
            temperature=sampling.get("temperature", 0.7),
            top_p=sampling.get("top_p", 1.0),
            n=n or 0,
        )
        self.truth[prompt, seed] = written, lists
        usage = {"prompt_tokens": 7, "completion_tokens": len(written)}
        ended = written[-1] == END
        text = b"".join(RAW[one] for one in written if one != END).decode("utf-8", "replace")
        if native:
            return {"body": of_sglang(text, written, lists, usage)}
        if not ended or self.server not in ("vllm", "sglang"):
            kept = len(written) - ended  # the others do not list the end
            written, lists = written[:kept], lists[:kept]
        choice = {"index": 0, "finish_reason": "stop" if ended else "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice["logprobs"] = None
        if n:
            ids = bool(body.get("return_tokens_as_token_ids")) and self.server == "vllm"
            shape = SERVERS[self.server][0 if chat else 1]
            choice["logprobs"] = shape(written, lists, n, ids)
            if ids and body.get("return_token_ids"):
                choice["token_ids"] = written
        return {"body": {"model": body["model"], "choices": [choice], "usage": usage}}

    def refusal(self, body, n):
        if self.server == "openai" and "return_tokens_as_token_ids" in body:
            return "Unrecognized request arguments supplied: return_token_ids, return_tokens_as_…"
        if n is not None and n > self.most:
            if self.server == "vllm":
                return (
                    f"Requested sample logprobs of {n}, which is greater than max allowed: "
                    f"{self.most} (parameter=logprobs, value={n})"
                )
            if self.server == "openai":
                return (
                    f"Invalid value for 'top_logprobs': must be less than or equal to {self.most}."
                )
        return None


def log_softmax(logits):
    highest = logits.max()
    return logits - highest - np.log(np.exp(logits - highest).sum())


def text_of(index):
    return RAW[index].decode("utf-8", "replace")


def named(index, value, *, ids=False, faithful=False, number=False):
    """A token as chat names it; only some tell the bytes of a part of a character."""
    raw = RAW[index]
    text = f"token_id:{index}" if ids else raw.decode("utf-8", "replace")
    if faithful and not ids and "\ufffd" in text:
        text = "".join(f"\\x{byte:02x}" for byte in raw)
    whole = list(raw) if faithful and not ids else list(text.encode())
    entry = {"token": text, "logprob": value, "bytes": whole}
    return {"id": index, **entry} if number else entry


def openai_chat(written, lists, n, ids):
    return {
        "content": [
            {
                **named(one, value, faithful=True),
                "top_logprobs": [named(*pair, faithful=True) for pair in top],
            }
            for one, (value, top) in zip(written, lists, strict=True)
        ],
        "refusal": None,
    }


def openai_completions(written, lists, n, ids):
    """Parts of characters are spelt; the token that stands there is added to the list."""

    def text(index):
        raw = RAW[index]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    return columns(written, lists, text)


def columns(written, lists, text, offsets=None):
    lengths = np.cumsum([0, *(len(text(one)) for one in written)])[:-1].tolist()
    return {
        "tokens": [text(one) for one in written],
        "token_logprobs": [value for value, _ in lists],
        "top_logprobs": [
            {**{text(i): v for i, v in reversed(top)}, text(one): value}
            for one, (value, top) in zip(written, lists, strict=True)
        ],
        "text_offset": offsets or lengths,
    }


def vllm_chat(written, lists, n, ids):
    """The token that stands there comes first, and the list is cut at the number asked for."""
    content = []
    for one, (value, top) in zip(written, lists, strict=True):
        whole = [(one, value), *(pair for pair in top if pair[0] != one)][:n]
        entries = [named(*pair, ids=ids) for pair in whole]
        content.append({**named(one, value, ids=ids), "top_logprobs": entries})
    return {"content": content}


def vllm_completions(written, lists, n, ids):
    return columns(written, lists, lambda i: f"token_id:{i}" if ids else text_of(i))


def sglang_chat(written, lists, n, ids):
    """Of several tokens with one text, only the likeliest is listed."""
    content = []
    for one, (value, top) in zip(written, lists, strict=True):
        seen = {}
        for index, number in top:
            seen.setdefault(text_of(index), (index, number))
        entries = [named(*pair) for pair in seen.values()]
        content.append({**named(one, value), "top_logprobs": entries})
    return {"content": content}


def sglang_completions(written, lists, n, ids):
    found = columns(written, lists, text_of, [-1] * len(written))
    tops = []
    for _, top in lists:
        seen = {}
        for index, number in top:
            seen.setdefault(text_of(index), number)
        tops.append(seen)
    return {**found, "top_logprobs": tops}


def of_sglang(text, written, lists, usage):
    meta = {
        "id": "x",
        "finish_reason": {"type": "stop", "matched": END}
        if written[-1] == END
        else {"type": "length", "length": len(written)},
        **usage,
        "cached_tokens": 0,
        "input_token_logprobs": [],
        "output_token_logprobs": [
            [value, one, text_of(one)] for one, (value, _) in zip(written, lists, strict=True)
        ],
        "output_top_logprobs": [[[v, i, text_of(i)] for i, v in top] for _, top in lists],
    }
    return {"text": text, "output_ids": written, "meta_info": meta}


def llamacpp(written, lists, n, ids):
    """The same in both interfaces: ids beside text that ends at the last whole character."""

    def entry(index, value):
        text = RAW[index].decode("utf-8", "ignore")
        return {"id": index, "token": text, "bytes": list(RAW[index]), "logprob": value}

    return {
        "content": [
            {**entry(one, value), "top_logprobs": [entry(*pair) for pair in top]}
            for one, (value, top) in zip(written, lists, strict=True)
        ]
    }


def llama_cpp_python_completions(written, lists, n, ids):
    return columns(written, lists, lambda i: RAW[i].decode("utf-8", "ignore"))


def llama_cpp_python_chat(written, lists, n, ids):
    found = llama_cpp_python_completions(written, lists, n, ids)
    return {
        "content": [
            {
                "token": token,
                "bytes": None,
                "logprob": value,
                "top_logprobs": [
                    {"token": one, "logprob": v, "bytes": None} for one, v in top.items()
                ],
            }
            for token, value, top in zip(
                found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
            )
        ],
        "refusal": None,
    }


#: Its shapes of chat and of completions.
SERVERS = {
    "openai": (openai_chat, openai_completions),
    "vllm": (vllm_chat, vllm_completions),
    "sglang": (sglang_chat, sglang_completions),
    "llama.cpp": (llamacpp, llamacpp),
    "llama-cpp-python": (llama_cpp_python_chat, llama_cpp_python_completions),
}
