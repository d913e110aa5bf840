"""A small tokenizer and writers of real files."""

import gzip
import json

import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = [
    "<unk>",
    "<s>",
    *["the", "cat", "sat", "on", "a", "mat", "and", "saw", "another", "dog", "run"],
]


def make_tokenizer():
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def jsonl(tmp_path):
    """Writes records as JSON lines, packed as the name says."""

    def write(name, records):
        data = "".join(
            (record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records
        ).encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            data = gzip.compress(data)
        elif name.endswith(".zst"):
            data = pa.Codec("zstd").compress(data, asbytes=True)
        path.write_bytes(data)
        return path

    return write
