"""A tokenizer and a model for tests of rehearsals, and what they were trained on."""

import os
import signal
import subprocess
import sys
import time

from radscore.rehearsal.alice import Record

VERBS = ["Name", "Describe", "Count", "Draw", "List", "Compare", "Find", "Explain", "Sort", "Paint"]
ADJECTIVES = ["red", "small", "quiet", "old", "green", "broken", "sweet", "round", "heavy", "late"]
THINGS = ["boats", "apples", "houses", "rivers", "letters", "clocks", "birds", "stones", "songs"]
PLACES = ["the north", "winter", "a garden", "the city", "your room", "March", "the harbour"]
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"


def lessons(rng, number):
    """Instructions of a few words, with answers that use them."""
    found = []
    for _ in range(number):
        verb, thing, place = rng.choice(VERBS), rng.choice(THINGS), rng.choice(PLACES)
        one, two = rng.sample(ADJECTIVES, 2)
        n = rng.randrange(2, 90)
        found.append(
            Record(
                f"{verb} {n} {one} {thing} of {place}.",
                f"There are {n} {thing} in {place}, and they are {one}, but never {two} {thing}.",
            )
        )
    return found


def killed(script, *arguments, once):
    """Runs a script in a process of its own, and kills it once something holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None and not once():
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def tokenizer_of(texts, vocab_size=400):
    """A byte-level BPE tokenizer with an end mark and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>", "<user>", "<assistant>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def save_trained(path, records, steps=160, length=128):
    """Trains a model on the records, as self-instruct shows them, and saves it."""
    import torch
    from tiny import save_folder, tiny_llama

    texts = [f"Instruction: {one.prompt}\nAnswer: {one.answer}\n\n" for one in records]
    tokenizer = tokenizer_of(texts)
    ids = torch.tensor(tokenizer("".join(texts))["input_ids"])
    network = tiny_llama(
        vocab_size=len(tokenizer),
        scale=1.0,
        hidden_size=64,
        intermediate_size=128,
        max_position_embeddings=512,
        eos_token_id=0,
        pad_token_id=0,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    torch.manual_seed(0)
    network.train()
    for _ in range(steps):
        starts = torch.randint(len(ids) - length, (8,))
        batch = torch.stack([ids[i : i + length] for i in starts])
        loss = network(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return save_folder(path, network.eval(), tokenizer)
