"""The schemes that runs are tried with."""

import radscore as rs

VOCAB = 60


def keyed(key="00112233445566778899aabbccddeeff", **options):
    key = rs.Key.from_hex(key)
    return rs.Keyed(key=key, vocab_size=VOCAB, **{"context_width": 2, "gamma": 0.25, **options})


#: Schemes whose units are windows, units of windows, and without a key for some windows.
SCHEMES = {
    "keyed": keyed,
    "wide": lambda: keyed(context_width=12, gamma=0.4),
    "widest": lambda: keyed(context_width=64, gamma=0.4),
    "vllm": lambda: rs.VLLMGumbel(key=5, vocab_size=VOCAB, context_width=3),
    "synthid": lambda: rs.SynthIDDeepMind(keys=(3, 4), vocab_size=VOCAB, context_width=3),
    "sbw": lambda: rs.SBW(key=42, vocab_size=VOCAB, gamma=0.25),
    "sglang": lambda: rs.SGLangGumbel(key=7, vocab_size=VOCAB, context_width=2),
    "kgw": lambda: rs.KGW(vocab_size=VOCAB, gamma=0.25, context_width=2, seeding="hash", seed=3),
    "additive": lambda: rs.KGW(
        vocab_size=VOCAB, gamma=0.25, context_width=2, seeding="additive", hash_key=15485863
    ),
}
