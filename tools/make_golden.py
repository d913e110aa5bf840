"""Writes the golden vectors that other tools make: `python tools/make_golden.py [NAME ...]`.

Every vector in ``tests/golden`` is what somebody else's code returned for random arguments; nothing
of radscore is imported here. The tests also call these functions with other seeds if the tools are
installed: they come with the extras `models` and `dev`, except DeepMind's `synthid_text`, whose
current form (commit 32197c3 of github.com/google-deepmind/synthid-text or later) is not released.

The files vllm_gumbel, sglang_gumbel and sbw were made elsewhere, with the tools themselves.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import random
import struct
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PRFS = (
    *("multiplicative", "additive", "minfunc", "simple_skip", "skipgram", "anchored_skipgram"),
    *("minhash", "anchored_minhash", "minskipgram", "noncomm", "position"),
)
#: Few, since each key costs the reader a permutation of a million entries.
HF_KEYS = (15485863, 2024)

#: Theirs is whatever state the global generator was in; this one is ours.
AUTHORS_TABLE_SEED = 7

Vectors = dict[str, Any]


def versions(*packages: str) -> str:
    """Names and versions of what made the vectors."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def torch_generator(rng: random.Random) -> Vectors:
    """The CPU generator: permutations, both float types, and bits, also past the first twist."""
    torch: Any = importlib.import_module("torch")

    def generator(seed: int) -> Any:
        return torch.Generator().manual_seed(seed)

    cases = []
    for _ in range(60):
        seed = rng.getrandbits(rng.choice((8, 32, 63)))
        n = rng.choice((1, 2, 5, 50, 623, 624, 625, 2000))
        permutation = torch.randperm(n, generator=generator(seed)).tolist()
        near_twist = slice(620, 628)
        cases.append(
            {
                "seed": str(seed),
                "n": n,
                "randperm_first": permutation[:8],
                "randperm_last": permutation[-8:],
                "rand_float32": [
                    x.hex() for x in torch.rand(640, generator=generator(seed))[near_twist].tolist()
                ],
                "rand_float64": [
                    x.hex()
                    for x in torch.rand(4, dtype=torch.float64, generator=generator(seed)).tolist()
                ],
                "randint": torch.randint(0, 2, (16,), generator=generator(seed)).tolist(),
            }
        )
    return {"source": f"{versions('torch')}, CPU", "cases": cases}


def torch_authors(rng: random.Random) -> Vectors:
    """Green lists and Gumbel uniforms of the radioactivity authors' seeds, drawn by torch.

    The seeds follow the authors' description; the table and the draws are torch's.
    """
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(AUTHORS_TABLE_SEED)
    table = torch.randperm(1000003)
    cases = []
    for seeding in ("hash", "additive", "skip", "min"):
        for _ in range(15):
            size, gamma = rng.choice((50, 700)), rng.choice((0.25, 0.5, rng.random()))
            seed, salt = (
                rng.choice((0, rng.getrandbits(40))),
                rng.choice((35317, rng.getrandbits(30))),
            )
            context = [rng.randrange(size) for _ in range(rng.randrange(1, 9))]
            ids = torch.tensor(context)
            if seeding == "hash":
                state = seed
                for x in context:
                    state = (state * salt + x) % (2**64 - 1)
            elif seeding == "min":
                state = int(table[salt * ids % len(table)].min())
            else:
                read = ids.sum() if seeding == "additive" else ids[0]
                state = int(table[salt * read % len(table)])
            permutation = torch.randperm(size, generator=torch.Generator().manual_seed(state))
            uniforms = torch.rand(size, generator=torch.Generator().manual_seed(state))
            target = rng.randrange(size)
            cases.append(
                {
                    "seeding": seeding,
                    "seed": seed,
                    "salt_key": salt,
                    "table_seed": AUTHORS_TABLE_SEED,
                    "vocab_size": size,
                    "gamma": gamma,
                    "context": context,
                    "target": target,
                    "green": int(target in permutation[: int(gamma * size)]),
                    "uniform": float(uniforms[target]).hex(),
                }
            )
    return {"source": f"{versions('torch')}, CPU, seeded as described", "cases": cases}


def openssl_siphash(rng: random.Random) -> Vectors:
    """SipHash-2-4 of OpenSSL over a domain word and the tokens of a window, little-endian."""
    cases = []
    for _ in range(40):
        key = rng.randbytes(16)
        width = rng.randrange(1, 17)
        window = [rng.choice((rng.randrange(4), rng.randrange(2**20))) for _ in range(width + 1)]
        message = struct.pack(f"<{width + 2}I", 0x52534B00 + width, *window)
        command = ["openssl", "mac", "-binary", "-in", "-"]
        command += ["-macopt", f"hexkey:{key.hex()}", "-macopt", "size:8", "SIPHASH"]
        mac = subprocess.run(command, input=message, capture_output=True, check=True).stdout
        cases.append(
            {"key": key.hex(), "window": window, "hash": hex(int.from_bytes(mac, "little"))}
        )
    version = subprocess.run(["openssl", "version"], capture_output=True, check=True, text=True)
    return {"source": " ".join(version.stdout.split()[:2]), "cases": cases}


def _hf_detector(rng: random.Random, case: Vectors) -> Vectors:
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    n = rng.choice((case["context_width"] + 1, 30, 200))
    tokens = [rng.randrange(case["vocab_size"]) for _ in range(n)]
    tokens += tokens[: n // 2]  # repeated n-grams
    settings = ("greenlist_ratio", "hashing_key", "seeding_scheme", "context_width")
    found = []
    for ignore in (False, True):
        detector = transformers.WatermarkDetector(
            model_config=SimpleNamespace(
                vocab_size=case["vocab_size"], bos_token_id=-1, is_encoder_decoder=False
            ),
            device="cpu",
            watermarking_config={name: case[name] for name in settings},
            ignore_repeated_ngrams=ignore,
            max_cache_size=4096,
        )
        output = detector(torch.tensor([tokens]), return_dict=True)
        found.append([int(output.num_tokens_scored[0]), int(output.num_green_tokens[0])])
    return {**case, "tokens": tokens, "all": found[0], "distinct": found[1]}


def transformers_kgw(rng: random.Random) -> Vectors:
    """HF's green lists and its detector's counts, with and without repeated n-grams."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    lists, detector = [], []
    for scheme in ("lefthash", "selfhash"):
        # a large key shows that the product in `lefthash` does not wrap
        for key in (*HF_KEYS, 2**61 + 12345) if scheme == "lefthash" else HF_KEYS:
            for width in (1, 2, 4):
                case: Vectors = {
                    "seeding_scheme": scheme,
                    "context_width": width,
                    "hashing_key": key,
                    "vocab_size": rng.randrange(20, 120),
                    "greenlist_ratio": rng.choice((0.1, 0.25, 0.5, rng.random())),
                }
                processor = transformers.WatermarkLogitsProcessor(device="cpu", **case)
                for _ in range(3):
                    read = [rng.randrange(case["vocab_size"]) for _ in range(width)]
                    ids = processor._get_greenlist_ids(torch.tensor(read))  # noqa: SLF001
                    lists.append({**case, "read": read, "green": sorted(ids.tolist())})
                detector.append(_hf_detector(rng, case))
    source = f"{versions('transformers', 'torch')}, CPU"
    return {"source": source, "green_lists": lists, "detector": detector}


def _g_rows(g_values: Any) -> list[str]:
    return ["".join(map(str, row)) for row in g_values[0].tolist()]


def transformers_synthid(rng: random.Random) -> Vectors:
    """HF's g-values (one string of bits per window) and its mask of repeated contexts."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    cases = []
    for size in (65536, 65536, 65536, 1024, 1000):
        keys = [rng.getrandbits(rng.choice((10, 62))) for _ in range(rng.choice((1, 9, 30)))]
        ngram_len, seed = rng.choice((2, 3, 5)), rng.choice((0, rng.getrandbits(32)))
        processor = transformers.SynthIDTextWatermarkLogitsProcessor(
            ngram_len=ngram_len,
            keys=keys,
            sampling_table_size=size,
            sampling_table_seed=seed,
            context_history_size=1024,
            device=torch.device("cpu"),
        )
        tokens = [rng.randrange(150_000) for _ in range(20)]
        tokens += tokens[:12] + [rng.randrange(2) for _ in range(20)]
        batch = torch.tensor([tokens])
        cases.append(
            {
                "keys": [str(key) for key in keys],
                "ngram_len": ngram_len,
                "sampling_table_size": size,
                "sampling_table_seed": seed,
                "tokens": tokens,
                "g_values": _g_rows(processor.compute_g_values(batch)),
                "first_context": processor.compute_context_repetition_mask(batch)[0].int().tolist(),
            }
        )
    return {"source": f"{versions('transformers', 'torch')}, CPU", "cases": cases}


def synthid_deepmind(rng: random.Random) -> Vectors:
    """DeepMind's g-values without a table."""
    torch: Any = importlib.import_module("torch")
    processing: Any = importlib.import_module("synthid_text.logits_processing")
    if not hasattr(processing.SynthIDLogitsProcessor, "get_gvals"):
        raise ImportError("this synthid_text still samples from a table; take commit 32197c3")
    cases = []
    for ngram_len in (2, 3, 5, 5):
        keys = [rng.getrandbits(rng.choice((10, 62))) for _ in range(rng.choice((1, 9, 30)))]
        processor = processing.SynthIDLogitsProcessor(
            ngram_len=ngram_len,
            keys=keys,
            context_history_size=1024,
            temperature=1.0,
            top_k=10,
            device=torch.device("cpu"),
        )
        tokens = [rng.randrange(150_000) for _ in range(30)]
        cases.append(
            {
                "keys": [str(key) for key in keys],
                "ngram_len": ngram_len,
                "tokens": tokens,
                "g_values": _g_rows(processor.compute_g_values(torch.tensor([tokens]))),
            }
        )
    source = (
        "synthid-text with the hashing of commit 32197c3 (github.com/google-deepmind/synthid-text, "
        f"Apache-2.0), on {versions('torch')}, CPU"
    )
    return {"source": source, "cases": cases}


def sbw_schemes(rng: random.Random) -> Vectors:
    """For every scheme string of sbw: the seed of a context, and whether its target is green.

    The names without `gpu-` are lm-watermarking's, whose functions sbw includes.
    """
    torch: Any = importlib.import_module("torch")
    batch: Any = importlib.import_module("sbw.batch")
    names = ["simple_1", "lefthash", "minhash", "skipgram", "selfhash", "algorithm-3"]
    names += ["gpu-simple_1", "gpu-minhash", "gpu-skipgram", "gpu-selfhash", "gpu-selfhash-cpuhash"]
    for prf in PRFS:
        for self_salt in (False, True):
            form = f"ff-{prf}_prf-{rng.randrange(2, 6)}-{self_salt}"
            names += [form, f"gpu-{form}"]
    cases = []
    for name in names:
        for _ in range(4):
            size, gamma = rng.choice((40, 100)), rng.choice((0.1, 0.25, 0.5))
            key = rng.choice((15485863, rng.getrandbits(40)))
            scheme = batch.WatermarkBatch(
                list(range(size)), gamma=gamma, seeding_scheme=name, hash_key=key, device="cpu"
            )
            read = torch.tensor([[rng.randrange(size) for _ in range(scheme.context_width)]])
            target = int(read[0, -1]) if scheme.self_salt else rng.randrange(size)
            seeds = scheme._compute_seeds(read)  # noqa: SLF001
            if name.startswith("gpu-"):
                with torch.compiler.set_stance("force_eager"):
                    mask = batch.philox_apply_watermark(seeds, torch.zeros(1, size), gamma, 1.0) > 0
            else:
                mask = scheme._get_greenlist_masks_standard(read)  # noqa: SLF001
            cases.append(
                {
                    "scheme": name,
                    "context_width": scheme.context_width,
                    "self_salt": scheme.self_salt,
                    "vocab_size": size,
                    "gamma": gamma,
                    "key": key,
                    "read": read[0].tolist(),
                    "target": target,
                    "seed": str(int(seeds[0])),
                    "green": bool(mask[0, target]),
                }
            )
    return {"source": f"{versions('sbw', 'torch')}, CPU; numbers only", "cases": cases}


def _textseal() -> ModuleType:
    """The one module that is needed: importing the whole package downloads data."""
    files = importlib.metadata.files("textseal") or []
    (path,) = (file for file in files if str(file).endswith("watermark/pseudorandom.py"))
    spec = importlib.util.spec_from_file_location("textseal_pseudorandom", str(path.locate()))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def textseal(rng: random.Random) -> Vectors:
    """TextSeal's uniforms (float32) and green bits."""
    torch: Any = importlib.import_module("torch")
    module: Any = _textseal()
    cases = []
    for _ in range(200):
        context = [rng.randrange(150_000) for _ in range(rng.randrange(1, 11))]
        target, key = rng.randrange(150_000), rng.getrandbits(rng.choice((8, 32, 62)))
        gamma = rng.choice((0.1, 0.25, 0.5))
        arguments = (torch.tensor([context]), torch.tensor([target]), key)
        cases.append(
            {
                "key": str(key),
                "gamma": gamma,
                "context": context,
                "target": target,
                "uniform": float(module.prf_uniform(*arguments)[0]).hex(),
                "green": int(module.prf_binary(*arguments, gamma)[0]),
            }
        )
    return {"source": f"{versions('textseal', 'torch')}, CPU", "cases": cases}


MAKERS: dict[str, Callable[[random.Random], Vectors]] = {
    function.__name__: function
    for function in (
        torch_generator,
        torch_authors,
        openssl_siphash,
        transformers_kgw,
        transformers_synthid,
        synthid_deepmind,
        sbw_schemes,
        textseal,
    )
}


def main() -> None:
    """Writes the files asked for, or all of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MAKERS))
    names = parser.parse_args().names or list(MAKERS)
    for name in names:
        try:
            vectors = MAKERS[name](random.Random(20261123))
        except ModuleNotFoundError as error:
            print(f"{name}.json stays as it is: {error}")
            continue
        lines = [f' "source": {json.dumps(vectors.pop("source"))}']
        for field, cases in vectors.items():
            rows = ",\n  ".join(json.dumps(case) for case in cases)
            lines.append(f' "{field}": [\n  {rows}\n ]')
        path = GOLDEN / f"{name}.json"
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
