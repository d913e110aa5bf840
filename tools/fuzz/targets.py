"""What is mutated, how it is read, and how a wrong answer is told from a right one.

A target makes valid files once. A saved file of radscore's is sealed: a mutant is refused, or means
what the original meant. A corpus may change with its bytes: what is read must be what the format's
own library reads (`peer`), keep inside the vocabulary, agree with `known`, and be the same twice.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sys
import threading
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import radscore as rs

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "tests" / "corpus" / "data"
VOCAB: Final = 50_257
KEY: Final = rs.Key.from_hex(bytes(range(16)).hex())


class WrongError(AssertionError):
    """Something was read, but not what is there."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes
    ----------
    make : callable
        Writes the valid files to a folder.
    read : callable
        Reads that folder: returns what it says, or raises a `RadscoreError`.
    sealed : bool
        Whether a mutant that is read must say what the original says.
    peer : callable or None
        Called with the folder and what was read; raises `WrongError`.
    weight : int
        Share of all mutants.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    sealed: bool = False
    peer: Callable[[Path, Any], None] | None = None
    weight: int = 1


# Saved files


def _keyed(**more: Any) -> rs.Keyed:
    return rs.Keyed(key=KEY, vocab_size=100, **{"gamma": 0.25, "context_width": 2, **more})


def _ids(n: int = 900, vocab_size: int = 100) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, vocab_size, size=(n // 30, 30)).astype(np.uint16)


def _make_state(folder: Path) -> None:
    scorer = rs.Scorer([_keyed(), _keyed(gamma=0.5)])
    scorer.add(_ids())
    scorer.save(folder / "x.state", extra={"note": "mine"})


def _read_state(folder: Path) -> Any:
    scorer = rs.Scorer.load(folder / "x.state", [_keyed(), _keyed(gamma=0.5)])
    scorer.add(_ids(60, 90))
    return [(one.n_scored, one.statistic, one.log10_pvalue) for one in scorer.results()]


def _make_weighted(folder: Path) -> None:
    scorer = rs.Scorer(_keyed(), combine="sum")
    ids = _ids(300)
    scorer.add_pairs(ids[:, :2], ids[:, 2], np.linspace(0.1, 2, len(ids)))
    scorer.save(folder / "x.state")


def _read_weighted(folder: Path) -> Any:
    result = rs.Scorer.load(folder / "x.state", _keyed()).result()
    return result.n_scored, result.statistic, result.log10_pvalue


def _make_kgrams(folder: Path) -> None:
    counts = rs.KgramCounts(2, 100)
    counts.add(_ids())
    counts.save(folder / "x.rkc")
    counts.top(50).save(folder / "x.rkg")


def _read_kgrams(folder: Path) -> Any:
    kgrams, counts = rs.KgramSet.load(folder / "x.rkg"), rs.KgramCounts.load(folder / "x.rkc")
    return kgrams.fingerprint, counts.origin, counts.top(min_count=2).fingerprint


def _make_predictions(folder: Path) -> None:
    from radscore.models import LanguageModel, predict

    tiny = _tiny()
    model = LanguageModel(tiny.tiny_llama(), tiny.word_tokenizer(), "tiny", 128, 256)
    predict(model, _ids(240), folder / "p.arrow", context_width=2, batch_tokens=64)


def _read_predictions(folder: Path) -> Any:
    scheme = rs.Keyed(key=KEY, vocab_size=128, gamma=0.25, context_width=2)
    result = rs.test_open(None, None, scheme, from_file=folder / "p.arrow")
    return result.n_scored, result.statistic, result.log10_pvalue


def _make_run(folder: Path) -> None:
    from radscore.runs import map_shard, prepare

    np.save(folder / "ids.npy", _ids(3000))
    corpus = rs.open_corpus(folder / "ids.npy", vocab_size=100)
    run = prepare(folder / "run", corpus, _keyed(), buckets=2)
    for number in range(len(run.shards)):
        map_shard(run, number, corpus)


def _read_run(folder: Path) -> Any:
    from radscore.runs import Run, merge, reduce_bucket

    run = Run.open(folder / "run")
    for number in range(run.n_buckets):
        reduce_bucket(run, number, _keyed())
    result = merge(run, _keyed())
    return result.n_scored, result.statistic, result.log10_pvalue


# Words and keys


def _make_words(folder: Path) -> None:
    (folder / "scheme.toml").write_text(
        'scheme = "keyed"\nvocab_size = 100\ngamma = 0.25\ncontext_width = 2\n'
    )
    (folder / "key").write_text(bytes(range(16)).hex() + "\n")


def _read_words(folder: Path) -> Any:
    from radscore.schemes.configs import from_toml

    scheme = from_toml(folder / "scheme.toml", key=rs.Key.from_file(folder / "key"))
    return rs.score(_ids(90), scheme).n_scored


# Answers


def _make_answers(folder: Path) -> None:
    record = {"prompt": "w1 w2", "text": "w3 w4 w5 w6 w3", "settings": {"model": "m"}}
    lines = [json.dumps({**record, "sample": i, "prompt_id": str(i)}) for i in range(5)]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")


def _read_answers(folder: Path) -> Any:
    answers = rs.open_answers(folder / "a.jsonl", tokenizer=_tokenizer(folder.parent))
    return rs.test_closed(answers, rs.Keyed(key=KEY, vocab_size=128, gamma=0.25, context_width=2))


def _tokenizer(folder: Path) -> str:
    path = folder / "words.json"
    if not path.exists():
        _tiny().word_tokenizer(template=False).backend_tokenizer.save(str(path))
    return str(path)


def _tiny() -> Any:
    """The tests' small models and tokenizers."""
    sys.path.insert(0, str(ROOT / "tests" / "models"))
    return import_module("tiny")


class _Replies:
    """A server on loopback that says what the file `reply` holds."""

    def __init__(self) -> None:
        self.raw = b""
        self.n_asked = 0
        replies = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                replies.n_asked += 1
                self.wfile.write(replies.raw)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def ask(self, folder: Path) -> Any:
        from radscore.answers import Limits, ask

        body = (folder / "body").read_bytes()
        self.raw = (folder / "head").read_bytes().replace(b"{n}", b"%d" % len(body)) + body
        self.n_asked = 0
        out = folder / "out.jsonl"
        report = ask(
            ["w1"], out, endpoint=self.url, model="m", max_requests=1,
            limits=Limits(retries=0, timeout=3.0),
        )  # fmt: skip
        if self.n_asked > 1:
            raise WrongError(f"{self.n_asked} requests were sent where one was allowed")
        written = [json.loads(line) for line in out.read_text().splitlines()]
        return report.n_answered, written


def _make_reply(folder: Path) -> None:
    (folder / "head").write_bytes(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {n}\r\n\r\n"
    )
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "w3 w4",
        "reasoning": None,
        "tool_calls": [],
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    (folder / "body").write_text(json.dumps({**body, "choices": [choice], "usage": usage}))


def _peer_of_reply(folder: Path, got: Any) -> None:
    answered, written = got
    texts = [record["text"] for record in written if "text" in record]
    if len(texts) != answered:
        raise WrongError(f"{answered} answers are reported, {len(texts)} written")
    with contextlib.suppress(ValueError, RecursionError, KeyError, IndexError, TypeError):
        said = json.loads((folder / "body").read_bytes())["choices"][0]["message"]["content"]
        if isinstance(said, str):  # half a surrogate pair is written as U+FFFD
            said = said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if texts and isinstance(said, str) and texts[0] != said:
            raise WrongError(f"recorded {texts[0]!r:.80}, the reply says {said!r:.80}")


# Corpora


def _copier(source: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, folder, dirs_exist_ok=True)
            return
        for path in source.parent.glob(source.name.split(".")[0] + ".*"):
            shutil.copy(path, folder)

    return make


def _reader(
    name: str | None = None, *, tells_tokens: bool = True, **options: Any
) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        path = folder if name is None else folder / name
        given = {"vocab_size": VOCAB, "batch_tokens": 200, **options}
        corpus = rs.open_corpus(path, **given)
        known = corpus.known()
        documents = [ids.tolist() for batch in corpus for ids in batch.documents]
        if any(not 0 <= id_ < VOCAB for ids in documents for id_ in ids):
            raise WrongError("an id is outside the vocabulary")
        if not corpus.skipped:
            for what, count in (
                ("n_tokens", sum(map(len, documents))),
                ("n_documents", len(documents)),
            ):
                said = getattr(known, what, None)
                told = tells_tokens or what != "n_tokens"
                if told and said is not None and said != count:
                    raise WrongError(f"known() says {what} {said}, reading gives {count}")
        again = [ids.tolist() for batch in rs.open_corpus(path, **given) for ids in batch.documents]
        if again != documents:
            raise WrongError("read twice, it says two things")
        return documents

    return read


def _corpus(source: str, name: str | None = None, **options: Any) -> Target:
    return Target(_copier(DATA / source), _reader(name, **options))


ROWS: Final = _ids(300, VOCAB).tolist()


def _jsonl() -> bytes:
    return "".join(
        json.dumps({"input_ids": row, "meta": {"a": "é"}}) + "\n" for row in ROWS
    ).encode()


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def _packed(name: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(pack(_jsonl()))

    return make


def _table(form: str, more: tuple[Any, ...] = ()) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        column = pa.array([*ROWS, [], *more], pa.list_(pa.int32()))
        table = pa.table({"input_ids": column, "other": ["x"] * len(column)})
        if form == "parquet":
            pq.write_table(table, folder / "x.parquet", row_group_size=4)
            return
        maker = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
        options = pa.ipc.IpcWriteOptions(compression="zstd" if form == "zstd" else None)
        with maker(str(folder / "x.arrow"), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=4)

    return make


def _peer_of_jsonl(folder: Path, documents: Any) -> None:
    lines = (folder / "x.jsonl").read_bytes().decode("utf-8-sig").split("\n")
    records = [json.loads(line) for line in lines if line.strip()]
    _same([record["input_ids"] for record in records if record["input_ids"] is not None], documents)


def _peer_of_npy(folder: Path, documents: Any) -> None:
    _same(np.load(folder / "x.npy", allow_pickle=False).tolist(), documents)


def _peer_of_parquet(folder: Path, documents: Any) -> None:
    import pyarrow.parquet as pq

    column = pq.read_table(folder / "x.parquet", columns=["input_ids"]).column(0)
    _same([row for row in column.to_pylist() if row is not None], documents)


def _same(expected: list[Any], documents: list[Any]) -> None:
    if expected != documents:
        pairs = zip(expected, documents, strict=False)
        at = next((i for i, (one, other) in enumerate(pairs) if one != other), "the end")
        raise WrongError(
            f"the peer reads {len(expected)} documents, radscore {len(documents)}; "
            f"the first difference is at {at}"
        )


def _make_npy(folder: Path) -> None:
    np.save(folder / "x.npy", _ids(300, VOCAB))


def _make_text(folder: Path) -> None:
    lines = [json.dumps({"text": f"w{i} w{i + 1} w3 é"}) for i in range(20)]
    (folder / "x.jsonl").write_text("\n".join(lines) + "\n")


def _read_text(folder: Path) -> Any:
    return _reader("x.jsonl", tokenizer=_tokenizer(folder.parent))(folder)


_gzip: Final = partial(gzip.compress, mtime=0)
_SERVER: list[_Replies] = []


def _read_reply(folder: Path) -> Any:
    if not _SERVER:
        _SERVER.append(_Replies())
    return _SERVER[0].ask(folder)


TARGETS: Final[dict[str, Target]] = {
    "state": Target(_make_state, _read_state, sealed=True, weight=3),
    "weighted state": Target(_make_weighted, _read_weighted, sealed=True),
    "k-grams": Target(_make_kgrams, _read_kgrams, sealed=True, weight=2),
    "predictions": Target(_make_predictions, _read_predictions, sealed=True, weight=3),
    "run": Target(_make_run, _read_run, sealed=True, weight=3),
    "scheme and key": Target(_make_words, _read_words, weight=2),
    "answers": Target(_make_answers, _read_answers, weight=2),
    "reply": Target(_make_reply, _read_reply, peer=_peer_of_reply, weight=3),
    "jsonl": Target(_packed("x.jsonl", bytes), _reader("x.jsonl"), peer=_peer_of_jsonl, weight=3),
    "jsonl, skip": Target(_packed("x.jsonl", bytes), _reader("x.jsonl", on_error="skip")),
    "jsonl.gz": Target(_packed("x.jsonl.gz", _gzip), _reader("x.jsonl.gz")),
    "jsonl.zst": Target(_packed("x.jsonl.zst", _zstd), _reader("x.jsonl.zst")),
    "text": Target(_make_text, _read_text),
    "npy": Target(_make_npy, _reader("x.npy"), peer=_peer_of_npy),
    # Its footer counts tokens, but nothing proves that a page was not changed since.
    "parquet": Target(
        _table("parquet"),
        _reader("x.parquet", tells_tokens=False),
        peer=_peer_of_parquet,
        weight=4,
    ),
    "parquet, skip": Target(
        _table("parquet", (None, [VOCAB])), _reader("x.parquet", on_error="skip"), weight=2
    ),
    "arrow, skip": Target(_table("stream", (None, [-1])), _reader("x.arrow", on_error="skip")),
    "arrow": Target(_table("file"), _reader("x.arrow"), weight=2),
    "arrow, zstd": Target(_table("zstd"), _reader("x.arrow")),
    "arrow stream": Target(_table("stream"), _reader("x.arrow"), weight=2),
    "datasets": _corpus("hugging_face/picked"),
    "datasets, plain": _corpus("hugging_face/plain"),
    "megatron": _corpus("megatron/u2.bin", "u2.bin"),
    "datatrove": _corpus("datatrove/u2.ds", "u2.ds"),
    "dolma": _corpus("dolma/u2.npy", "u2.npy"),
    "llm.c": _corpus("llm_c/gpt2.bin", "gpt2.bin", eod=VOCAB - 1),
    "mds": _corpus("mds/ndarray_u4"),
    "mds, packed": _corpus("mds/packed_zstd"),
    "mds, snappy": _corpus("mds/packed_snappy"),
    "litdata": _corpus("litdata/tokens_i4"),
    "litdata, zstd": _corpus("litdata/tokens_zstd"),
    "litdata, tree": _corpus("litdata/tree"),
    "litdata, lists": _corpus("litdata/lists"),
}
