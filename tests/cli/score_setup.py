"""What the tests of ``radscore score`` share."""

import json

import numpy as np

KEY = "00112233445566778899aabbccddeeff"
VOCAB = 100
SCORE = ("score", "x.jsonl", "--scheme", "scheme.toml")


def marked(scheme, n, length, seed):
    """Documents whose every token is green."""
    rng = np.random.default_rng(seed)
    docs = []
    for _ in range(n):
        doc = rng.integers(0, VOCAB, size=2).tolist()
        while len(doc) < length:
            doc.append(int(rng.choice(np.flatnonzero(scheme.green_mask([doc[-2:]])[0]))))
        docs.append(doc)
    return docs


def write(path, docs, **columns):
    rows = [
        {"tokens": doc, **{name: values[i] for name, values in columns.items()}}
        for i, doc in enumerate(docs)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
