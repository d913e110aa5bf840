"""Writing text: marked, seeded, resumable; and what happens when things go wrong."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import radscore as rs

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from radscore.answers.local import ask_local  # noqa: E402
from radscore.cli import main  # noqa: E402
from radscore.models.generating import generate, write_texts  # noqa: E402
from radscore.models.loading import LanguageModel, load_model  # noqa: E402
from radscore.models.questions import questions_of  # noqa: E402
from radscore.models.writing import Sampling  # noqa: E402
from radscore.progress import Progress  # noqa: E402
from tiny import VOCAB, save_adapter, save_folder, tiny_llama, word_tokenizer  # noqa: E402

KEY = "00112233445566778899aabbccddeeff"
SCHEME = rs.Keyed(key=KEY, vocab_size=VOCAB, gamma=0.25, context_width=1)
PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w1 w2", "w1 w2 w3", "w20 w21"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    return save_folder(path, tiny_llama(scale=2.0), word_tokenizer())


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(path):
    return {(r["prompt_id"], r["sample"]): r["tokens"] for r in records(path)}


def test_records(model, tmp_path):
    out = tmp_path / "y.jsonl"
    seen = []
    report = generate(
        model,
        PROMPTS,
        out,
        SCHEME,
        sampling=Sampling(max_tokens=30, delta=6.0),
        samples=3,
        batch_size=7,
        progress=seen.append,
    )
    assert (report.n_texts, report.n_written, report.n_tokens) == (18, 18, 540)
    assert seen == [Progress(7, 18, 210), Progress(14, 18, 420), Progress(18, 18, 540)]
    rows = records(out)
    assert [row["prompt"] for row in rows] == [p for p in PROMPTS for _ in range(3)]
    for row in rows:
        words = [f"w{token}" for token in row["tokens"] if token < VOCAB - 3]
        assert set(words) <= set(row["text"].split())
        assert row["prompt_tokens"] == [int(word[1:]) for word in row["prompt"].split()]
        assert row["finish_reason"] == "length"
        settings = row["settings"]
        assert settings["model"] == model.fingerprint
        assert settings["fingerprint"] == SCHEME.fingerprint
        assert settings["scheme"] == SCHEME.to_dict()
        assert (settings["delta"], settings["temperature"], settings["seed"]) == (6.0, 1.0, 0)
    assert len({tuple(row["tokens"]) for row in rows}) == 18
    content = out.read_text()
    assert KEY not in content
    assert str(int(KEY, 16)) not in content
    corpus = rs.open_corpus(out, field="tokens", prompt_field="prompt_tokens")
    assert rs.score(corpus, SCHEME).log10_pvalue < -30
    assert rs.score([row["tokens"] for row in rows], SCHEME.decoys(1)[0]).log10_pvalue > -4
    plain = tmp_path / "plain.jsonl"
    generate(model, PROMPTS, plain, sampling=Sampling(max_tokens=30), samples=3)
    assert rs.score([row["tokens"] for row in records(plain)], SCHEME).log10_pvalue > -4
    assert records(plain)[0]["settings"]["fingerprint"] is None


@pytest.mark.parametrize(
    "scheme", [None, SCHEME, rs.VLLMDualKeyGumbel(key=3, vocab_size=VOCAB, context_width=2)]
)
def test_a_text_does_not_depend_on_its_batch(model, scheme):
    questions = questions_of(PROMPTS, samples=2, seed=5)
    sampling = Sampling(max_tokens=15, temperature=0.9, top_p=0.9, seed=5)

    def all_texts(questions, size):
        batches = write_texts(model, questions, scheme, sampling=sampling, batch_size=size)
        return {one.question.key: one.tokens for batch in batches for one in batch}

    alone = all_texts(questions, 1)
    assert all_texts(questions, 12) == alone
    some = questions[3:9]
    assert all_texts(some, 4) == {one.key: alone[one.key] for one in some}
    # the same prompt twice is two prompts
    assert len({tuple(tokens) for tokens in alone.values()}) == 12


def test_continues_where_it_stopped(model, tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    sampling = Sampling(max_tokens=10, seed=3)
    generate(model, PROMPTS, whole, SCHEME, sampling=sampling)
    asked = iter([False, True])
    report = generate(
        model, PROMPTS, parts, SCHEME, sampling=sampling, batch_size=2, stop=lambda: next(asked)
    )
    assert (report.n_written, report.n_left) == (2, 4)
    complete = parts.read_bytes()
    parts.write_bytes(complete + whole.read_bytes().splitlines()[2][:57])  # a torn line
    report = generate(model, PROMPTS, parts, SCHEME, sampling=sampling, batch_size=4)
    assert (report.n_before, report.n_written, report.n_left, report.cut) == (2, 4, 0, True)
    assert parts.read_bytes() == whole.read_bytes()
    before = parts.read_bytes()
    assert generate(model, PROMPTS, parts, SCHEME, sampling=sampling).n_written == 0
    assert parts.read_bytes() == before
    # more prompts or samples are not other settings
    more = generate(model, [*PROMPTS, "w50"], parts, SCHEME, sampling=sampling, samples=2)
    assert (more.n_before, more.n_written) == (6, 8)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"max_tokens": 11}, "max_tokens 10, not 11"),
        ({"temperature": 0.5}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"delta": 3.0}, "delta 2.0, not 3.0"),
        ({"seed": 4}, "seed"),
    ],
)
def test_other_settings_are_refused(model, tmp_path, change, name):
    out = tmp_path / "y.jsonl"
    plain = {"max_tokens": 10}
    generate(model, PROMPTS[:1], out, SCHEME, sampling=Sampling(**plain))
    with pytest.raises(rs.errors.ArgumentError, match=f"was made with {name}") as error:
        generate(model, PROMPTS, out, SCHEME, sampling=Sampling(**{**plain, **change}))
    assert "accept" not in str(error.value)


def test_starting_over_drops_what_was_written(model, tmp_path):
    out = tmp_path / "y.jsonl"
    generate(model, PROMPTS, out, SCHEME, sampling=Sampling(max_tokens=10))
    report = generate(model, PROMPTS[:2], out, SCHEME, sampling=Sampling(max_tokens=11), fresh=True)
    assert (report.n_before, report.n_written, report.cut) == (0, 2, False)
    assert [len(row["tokens"]) for row in records(out)] == [11, 11]


def test_other_models_and_keys_are_refused(model, tmp_path):
    out = tmp_path / "y.jsonl"
    sampling = Sampling(max_tokens=5)
    generate(model, PROMPTS[:1], out, SCHEME, sampling=sampling)
    with pytest.raises(rs.errors.ArgumentError, match="was made with fingerprint"):
        generate(model, PROMPTS, out, SCHEME.decoys(1)[0], sampling=sampling)
    with pytest.raises(rs.errors.ArgumentError, match="was made with"):
        generate(model, PROMPTS, out, sampling=sampling)
    network = tiny_llama(seed=1)
    other = LanguageModel(network, model.tokenizer, "other", VOCAB, None)
    with pytest.raises(rs.errors.ArgumentError, match="was made with model"):
        generate(other, PROMPTS, out, SCHEME, sampling=sampling)
    assert len(records(out)) == 1
    (tmp_path / "x.jsonl").write_text('{"text": "precious"}\n')
    with pytest.raises(rs.errors.StateError, match="not a record of an answer"):
        generate(model, PROMPTS, tmp_path / "x.jsonl", SCHEME, sampling=sampling)


def test_other_tokenizers_are_refused(model, tmp_path):
    """Weights alone do not determine a text: everything else must be the same, too."""
    out, chats = tmp_path / "y.jsonl", tmp_path / "chats.jsonl"
    plain, chat = Sampling(max_tokens=5), Sampling(max_tokens=5, chat=True)

    def go(model, how=plain):
        return generate(model, PROMPTS[:2], chats if how.chat else out, SCHEME, sampling=how)

    def refused(model, what, how=plain):
        with pytest.raises(rs.errors.ArgumentError, match=f"was made with {what}"):
            go(model, how)

    def words(change, template=False):
        tokenizer = word_tokenizer(template=template)
        change(tokenizer)
        return LanguageModel(model.model, tokenizer, "model", VOCAB, 256)

    go(model)
    go(model, chat)
    settings = records(out)[0]["settings"]
    assert settings["dtype"] == "float32"
    assert settings["end_tokens"] == []
    more = words(lambda one: one.add_tokens(["w1 w2"]))
    refused(more, "tokenizer")
    # a template counts if it is used; what a tokenizer was last called with never does
    other = words(lambda one: setattr(one, "chat_template", "{{ messages[0]['content'] }}"))
    refused(other, "tokenizer", chat)
    assert go(other).n_before == 2
    used = words(lambda one: one(["w1", "w2 w3 w4"], truncation=True, max_length=2))
    assert used.tokenizer.backend_tokenizer.truncation is not None
    assert go(used).n_before == 2
    ended = LanguageModel(tiny_llama(scale=2.0, eos_token_id=17), model.tokenizer, "m", VOCAB, 256)
    refused(ended, r"end_tokens \[\], not \[17\]")
    assert len(records(out)) == len(records(chats)) == 2


def test_the_same_weights_in_another_precision_are_refused(model, tmp_path):
    """Half-precision weights have one fingerprint, whatever they are computed with."""
    out = tmp_path / "y.jsonl"
    network = tiny_llama(scale=2.0).bfloat16()
    how = {"sampling": Sampling(max_tokens=5)}
    whole = LanguageModel(network.float(), model.tokenizer, "model", VOCAB, 256)
    generate(whole, PROMPTS[:1], out, SCHEME, **how)
    before = whole.fingerprint
    half = LanguageModel(network.bfloat16(), model.tokenizer, "model", VOCAB, 256)
    assert half.fingerprint == before
    with pytest.raises(rs.errors.ArgumentError, match="made with dtype 'float32', not 'bfloat16'"):
        generate(half, PROMPTS, out, SCHEME, **how)


def test_samples_that_are_alike_are_said_to_be(model, tmp_path):
    """A single Gumbel-max key leaves nothing to chance; two keys, biases and tournaments do."""
    whole = Sampling(max_tokens=12, repeated="mark")

    def go(scheme, how=whole, samples=3):
        out = tmp_path / "y.jsonl"
        out.unlink(missing_ok=True)
        report = generate(model, PROMPTS[:1], out, scheme, sampling=how, samples=samples)
        return report.notes, len({tuple(row["tokens"]) for row in records(out)})

    single = rs.VLLMGumbel(vocab_size=VOCAB, key=3, context_width=2)
    dual = {"vocab_size": VOCAB, "key": 3, "context_width": 2}
    for scheme in (single, rs.VLLMDualKeyGumbel(alpha=1.0, **dual)):
        (note,), n_distinct = go(scheme)
        assert note.startswith(f"{scheme.name} leaves nothing to chance where it marks")
        assert n_distinct == 1
    assert go(single, samples=1) == ((), 1)
    synthid = rs.SynthID(vocab_size=VOCAB, keys=[1, 2, 3])
    for scheme in (None, SCHEME, synthid, rs.VLLMDualKeyGumbel(alpha=0.5, **dual)):
        assert go(scheme) == ((), 3)
    (note,), n_distinct = go(None, Sampling(max_tokens=5, temperature=0))
    assert "temperature 0 leaves nothing to chance" in note
    assert n_distinct == 1


def test_a_model_that_predicts_nan_is_refused(folder, tmp_path):
    broken = load_model(folder)
    with torch.no_grad():
        broken.model.model.norm.weight[0] = torch.nan
    out = tmp_path / "y.jsonl"
    for how in (Sampling(max_tokens=3), Sampling(max_tokens=3, temperature=0)):
        with pytest.raises(rs.errors.ModelError, match=r"logits are no numbers \(NaN\)"):
            generate(broken, PROMPTS, out, SCHEME, sampling=how)
        assert out.read_bytes() == b""


def test_local_answers_have_the_same_records_and_checks(model, folder, tmp_path):
    """What `ask_local` writes is read as token ids, and continues only with the same tokenizer."""
    out = tmp_path / "a.jsonl"
    options = {"max_tokens": 6, "temperature": 0.9}
    ask_local(PROMPTS, out, model=model, **options)
    generate(model, PROMPTS, tmp_path / "y.jsonl", sampling=Sampling(max_tokens=6, chat=True))
    rows, others = records(out), records(tmp_path / "y.jsonl")
    assert list(rows[0]) == list(others[0])
    assert {"tokens", "prompt_tokens", "finish_reason"} < set(rows[0])
    answers = rs.open_answers(out, prompt_field="prompt_tokens")
    assert answers.field == "tokens"
    assert [one.tolist() for one in answers.documents] == [row["tokens"] for row in rows]
    assert [one.tolist() for one in answers.prompts] == [row["prompt_tokens"] for row in rows]
    # files from elsewhere with token_ids
    old = [{"prompt": "w1", "token_ids": row["tokens"], "tokens": [1]} for row in rows]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    again = rs.open_answers(tmp_path / "old.jsonl", prompt_field=None)
    assert [one.tolist() for one in again.documents] == [row["tokens"] for row in rows]

    assert ask_local(PROMPTS, out, model=load_model(folder), **options).n_before == len(rows)
    name = {"name": model.name, **options}
    words = word_tokenizer()
    words.chat_template = "{{ messages[0]['content'] }}"
    other = LanguageModel(model.model, words, "other", VOCAB, 256)
    with pytest.raises(rs.errors.ArgumentError, match="was made with tokenizer"):
        ask_local([*PROMPTS, "w9"], out, model=other, **name)
    assert len(records(out)) == len(rows)
    assert (
        ask_local([*PROMPTS, "w9"], out, model=other, accept_changes=True, **name).n_answered == 1
    )


def test_local_answers_need_a_tokenizer(tmp_path):
    out = tmp_path / "a.jsonl"
    for api in ("chat", "completions"):
        with pytest.raises(
            rs.errors.ModelError, match=r"LlamaForCausalLM has no tokenizer, .* tokenizer="
        ):
            ask_local(["w1"], out, model=tiny_llama(), api=api)
    with pytest.raises(rs.errors.ArgumentError, match="temperature must be 0"):
        ask_local(["w1"], out, model=load_model(save_folder(tmp_path, None, word_tokenizer())),
                  temperature=1e-9)  # fmt: skip
    assert not out.exists()


def limited(network, rows):
    """The network, as if memory sufficed for this many rows."""
    forward = network.forward

    def run(*args, **kwargs):
        if kwargs["input_ids"].shape[0] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(*args, **kwargs)

    network.forward = run
    return network


def test_out_of_memory(model, folder, tmp_path):
    whole, small = tmp_path / "whole.jsonl", tmp_path / "small.jsonl"
    sampling = Sampling(max_tokens=8)
    generate(model, PROMPTS, whole, SCHEME, sampling=sampling)
    little = load_model(folder)
    limited(little.model, 2)
    report = generate(little, PROMPTS, small, SCHEME, sampling=sampling, batch_size=10)
    assert (report.batch_size, report.n_written) == (1, 6)  # 6 texts, 3, then 1
    assert texts(small) == texts(whole)
    nothing = load_model(folder)
    limited(nothing.model, 0)
    out = tmp_path / "none.jsonl"
    with pytest.raises(rs.errors.ModelError, match="out of memory with a single text of 8 tokens"):
        generate(nothing, PROMPTS, out, SCHEME, sampling=sampling)
    assert out.read_bytes() == b""
    broken = load_model(folder)
    broken.model.forward = None
    with pytest.raises(TypeError):  # no shortage of memory: not tried again
        generate(broken, PROMPTS, out, SCHEME, sampling=sampling)


def test_ends_of_texts_and_chats(tmp_path):
    """The model's own end token ends a text, and is in neither text nor tokens."""
    network = tiny_llama(scale=1.0, eos_token_id=17)
    path = save_folder(tmp_path / "m", network, word_tokenizer())
    model = load_model(path)
    questions = questions_of(["w1", "w2 w3"], samples=30, seed=0)
    sampling = Sampling(max_tokens=120, chat=True)
    written = [
        one for part in write_texts(model, questions, None, sampling=sampling) for one in part
    ]
    assert {one.finish_reason for one in written} == {"stop", "length"}
    for one in written:
        assert 17 not in one.tokens
        assert (len(one.tokens) == 120) == (one.finish_reason == "length")
    # <user> w1
    assert written[0].prompt_tokens == [VOCAB - 2, 1]
    system = Sampling(max_tokens=2, chat=True, system="w9 w9")
    (one,) = next(write_texts(model, questions[:1], None, sampling=system))
    assert one.prompt_tokens == [VOCAB - 3, 9, 9, VOCAB - 2, 1]  # <system> is no word


def test_a_models_own_generation_settings_do_not_matter(folder, model):
    questions = questions_of(PROMPTS[:2], seed=1)
    (expected,) = write_texts(model, questions, SCHEME, sampling=Sampling(max_tokens=20))
    other = load_model(folder)
    config = other.model.generation_config
    config.repetition_penalty = 3.0
    config.suppress_tokens = list(range(60))
    config.max_length = 5
    config.do_sample = True
    config.top_k = 3
    (got,) = write_texts(other, questions, SCHEME, sampling=Sampling(max_tokens=20))
    assert [one.tokens for one in got] == [one.tokens for one in expected]
    assert other.model.generation_config is config


def test_an_adapter_writes(folder, tmp_path, model):
    adapter = load_model(save_adapter(tmp_path / "adapter", folder), base=folder)
    out = tmp_path / "y.jsonl"
    generate(adapter, PROMPTS, out, SCHEME, sampling=Sampling(max_tokens=30, delta=6.0))
    assert rs.score([row["tokens"] for row in records(out)], SCHEME).log10_pvalue < -10
    plain = tmp_path / "plain.jsonl"
    generate(model, PROMPTS, plain, SCHEME, sampling=Sampling(max_tokens=30, delta=6.0))
    assert texts(out) != texts(plain)


def test_wrong_input(model, tmp_path):
    out = tmp_path / "y.jsonl"

    def fails(kind, match, prompts=PROMPTS, model=model, scheme=SCHEME, **sampling):
        with pytest.raises(kind, match=match):
            generate(model, prompts, out, scheme, sampling=Sampling(**sampling))

    fails(rs.errors.ArgumentError, "prompts must not be empty", [])
    fails(rs.errors.ArgumentError, "a prompt is empty", ["w1", ""], max_tokens=5)
    long = " ".join(["w1"] * 200)
    fails(rs.errors.ArgumentError, "has 200 tokens, and 57 more .* 256", [long], max_tokens=57)
    fails(rs.errors.ArgumentError, "max_tokens must be from 1", max_tokens=0)
    fails(rs.errors.ArgumentError, "system has no effect without chat", system="w1")
    fails(rs.errors.ArgumentError, "delta has no effect", scheme=None, delta=1.0)
    large = rs.Keyed(key=bytes(16), vocab_size=VOCAB + 1)
    fails(rs.errors.ModelError, f"scores {VOCAB} tokens, fewer than", scheme=large)
    fails(rs.errors.ModelError, "has no tokenizer", model=tiny_llama())
    bare = LanguageModel(model.model, word_tokenizer(template=False), "bare", VOCAB, 256)
    fails(rs.errors.ModelError, "no chat template", model=bare, chat=True)
    wide = LanguageModel(model.model, word_tokenizer(VOCAB + 50), "wide", VOCAB, 256)
    fails(rs.errors.ModelError, "the tokenizer is not the model's", ["w140"], wide)
    assert not out.exists() or out.read_bytes() == b""


# The command


@pytest.fixture
def place(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADSCORE_KEY", raising=False)
    (tmp_path / "model").symlink_to(folder)
    rows = [json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS]
    (tmp_path / "x.jsonl").write_text("".join(rows))
    (tmp_path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {VOCAB}\ncontext_width = 1\n'
    )
    (tmp_path / "alice.key").write_text(f'key = "{KEY}"\n')
    return tmp_path


MARKED = ["--scheme", "scheme.toml", "--key-file", "alice.key"]
COMMAND = ["generate", "--model", "model", "--prompts", "x.jsonl", "--out", "y.jsonl"]


def test_command(place, capsys):
    options = ["--delta", "6", "--max-tokens", "25", "--samples", "4", "--seed", "9"]
    assert main([*COMMAND, *MARKED, *options, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_written"] == 24
    assert json.loads(shown.out)["fingerprint"] == SCHEME.fingerprint
    made = json.loads(shown.out)["provenance"]
    (prompts,) = made["inputs"]["files"]
    assert prompts["sha256"] == hashlib.sha256((place / "x.jsonl").read_bytes()).hexdigest()
    assert made["scheme"] == {"name": "keyed", "fingerprint": SCHEME.fingerprint}
    for line in (place / "y.jsonl").read_text().splitlines():
        of_text = json.loads(line)["provenance"]
        assert of_text == {name: made[name] for name in ("radscore", "date", "command")}
    assert main([*COMMAND, *MARKED, *options]) == 0
    table = capsys.readouterr()
    assert "24 were in the file before" in table.out
    assert KEY not in shown.out + shown.err + table.out + table.err
    score = ["score", "y.jsonl", "--field", "tokens", "--prompt-field", "prompt_tokens", *MARKED]
    assert main([*score, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log10_pvalue"] < -20


def test_the_command_says_that_samples_are_alike(place, capsys):
    scheme = f'scheme = "keyed"\nvocab_size = {VOCAB}\ncontext_width = 1\nmethod = "gumbel"\n'
    (place / "scheme.toml").write_text(scheme)
    options = [*MARKED, "--max-tokens", "3", "--samples", "2"]
    assert main([*COMMAND, *options, "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "leaves nothing to chance" in note
    assert main([*COMMAND, *options]) == 0
    assert "leaves nothing to chance" in " ".join(capsys.readouterr().out.split())
    assert main(["generate", "--help"]) == 0
    assert "with a single Gumbel-max key" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("width", "message"),
    [("0", "must be at least 1, not 0"), ("65", "must be at most 64, not 65"), ("two", "two")],
)
def test_widths_of_contexts_are_checked_before_models_are_loaded(place, capsys, width, message):
    (place / "t.jsonl").write_text('{"text": "w1 w2"}\n')
    command = ["predict", "t.jsonl", "--model", "nowhere", "--out", "p.arrow"]
    assert main([*command, "--context-width", width]) == 2
    shown = capsys.readouterr().err
    assert "--context-width" in shown
    assert message in shown
    assert "nowhere" not in shown


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--key-file", "alice.key"], 2, "--key-file has no effect without --scheme"),
        (["--delta", "2"], 2, "delta has no effect with no scheme"),
        (["--out", "x.jsonl"], 2, "--out names the prompts: x.jsonl"),
        (["--prompts", "none.jsonl"], 2, "none.jsonl: no such file"),
        (["--prompt-field", "question"], 2, "question"),
        (["--model", "nowhere"], 1, "nowhere: no such file or folder"),
        (["--temperature", "warm"], 2, "'warm' is not a number"),
        (["--temperature", "-1"], 2, "temperature must be a number from 0"),
        (["--system", "w1"], 2, "system has no effect without chat"),
        (["--max-tokens", "255"], 2, "exceed the model's 256"),
    ],
)
def test_errors_of_the_command(place, capsys, change, code, message):
    assert main([*COMMAND, *change]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_killed_and_run_again(place, capsys):
    """kill -9 half-way; the same command writes what is missing, and nothing twice."""
    options = [*MARKED, "--max-tokens", "80", "--samples", "3", "--quiet"]
    whole, killed = [*COMMAND[:-1], "whole.jsonl", *options], [*COMMAND, *options]
    run = subprocess.Popen(  # one by one, so that there is a middle
        [sys.executable, "-m", "radscore", *killed, "--batch-size", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert main(whole) == 0  # while the other starts
    capsys.readouterr()
    out = place / "y.jsonl"
    deadline = time.monotonic() + 120
    while not (out.exists() and out.read_bytes().count(b"\n") >= 2):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = out.read_bytes().count(b"\n")
    assert 2 <= before < 18
    assert main([*killed, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_before"], report["n_written"]) == (before, 18 - before)
    assert texts(out) == texts(place / "whole.jsonl")
    assert len(records(out)) == 18
