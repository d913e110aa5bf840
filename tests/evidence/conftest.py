"""Two audits of the small radioactive model, run once: a reading, and answers over two looks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
from radscore.evidence.audit import Audit
from radscore.evidence.plan import read_settings

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MODELS = EXPERIMENTS / "models"
KEY = EXPERIMENTS / "alice.key"
TOKENIZER = MODELS / "tokenizer.json"
BEACON = "8f3c0a5d6e7b8c9d0e1f2a3b4c5d6e7f"


def scheme_under(key):
    return rs.Keyed(key=key, vocab_size=4096, gamma=0.25, context_width=2)


def settings(**tables):
    """Settings as TOML; a value that is None is left out."""
    lines = [f"alpha = {tables.pop('alpha', 0.01)}"]
    for table, fields in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(one)}" for name, one in fields.items() if one is not None]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session", autouse=True)
def always_one_thread(one_thread):
    """For all tests of this folder."""


@pytest.fixture(scope="session")
def pools(tmp_path_factory):
    """A folder with texts to read and prompts to ask."""
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("pools")
    with np.load(MODELS / "texts.npz") as found:
        texts, prompts = found["fresh"], found["prompts"][:40]
    lines = [json.dumps({"tokens": row.tolist()}) + "\n" for row in texts]
    (folder / "texts.jsonl").write_text("".join(lines))
    words = Tokenizer.from_file(str(TOKENIZER))
    lines = [json.dumps({"prompt": words.decode(row.tolist())}) + "\n" for row in prompts]
    (folder / "prompts.jsonl").write_text("".join(lines))
    return folder


def reading(who, **changes):
    return settings(
        suspect={"folder": str(MODELS / who)},
        pool={"texts": "texts.jsonl", "field": "tokens", "drawn": 48},
        test={
            "tokenizer": str(TOKENIZER),
            "reference": str(MODELS / "reference"),
            "decoys": 12,
            **changes,
        },
    )


def asking(who, **changes):
    return settings(
        suspect={"folder": str(MODELS / who), "api": "completions"},
        pool={"prompts": "prompts.jsonl", "drawn": 24},
        asking={"max_tokens": 32},
        test={"tokenizer": str(TOKENIZER), "looks": [12, 24], "decoys": 12, **changes},
    )


def planned(text, pools, folder):
    (pools / "audit.toml").write_text(text)
    key = rs.Key.from_file(KEY)
    found = read_settings(pools / "audit.toml")
    return Audit.planned(found, scheme_under(key), folder, base=pools)


@pytest.fixture(scope="session")
def finished(pools, tmp_path_factory):
    """Folders of audits that are over, by name; not to be changed."""
    root = tmp_path_factory.mktemp("finished")
    texts = {
        "reading": reading("rho-10"),
        "control": reading("control"),
        "plain": asking("rho-10"),
        "anytime": asking("rho-10", anytime=True),
        "residual": asking("rho-10", reference=str(MODELS / "reference")),
    }
    for name, text in texts.items():
        audit = planned(text, pools, root / name)
        audit.commit()
        audit.commit(beacon=BEACON, source="a page that everybody can read")
        audit.run(rs.Key.from_file(KEY))
    return root


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of one of them, to be attacked."""

    def copy(name):
        shutil.copytree(finished / name, tmp_path / name)
        return tmp_path / name

    return copy
