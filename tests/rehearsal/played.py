"""A rehearsal so small that a test can play it."""

import json
import random

from radscore.schemes import Key
from small import lessons

PLAN = """\
name = "tiny"
seed = 7
device = "cpu"
base = "base"

[data]
prompts = "prompts.jsonl"
n_records = 64
max_tokens = 32
temperature = 1.4
min_tokens = 2

[marks.alice]
scheme = "scheme.toml"
key = "alice.key"
delta = 6.0

[training]
template = "plain"
loss_on = "all"
learning_rate = 4e-3
epochs = 4
length = 64

[grid]
share = 1.0

[tests]
n_texts = 24
n_answers = 32
answer_tokens = 24
curve = [100, 200]
"""


def workplace(path, base, plan=PLAN, n=400):
    """A folder with a plan and everything that it names."""
    path.mkdir(exist_ok=True)
    (path / "base").symlink_to(base)
    found = {one.prompt: None for one in lessons(random.Random(3), n)}
    words = ("".join(json.dumps({"prompt": one}) + "\n") for one in found)
    (path / "prompts.jsonl").write_text("".join(words))
    vocab = json.loads((base / "config.json").read_text())["vocab_size"]
    (path / "scheme.toml").write_text(
        f'scheme = "keyed"\nvocab_size = {vocab}\ngamma = 0.5\ncontext_width = 2\n'
    )
    if not (path / "alice.key").exists():
        Key(bytes(range(100, 116))).save(path / "alice.key")
    (path / "plan.toml").write_text(plan)
    return path / "plan.toml"
