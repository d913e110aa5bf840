"""Writes the small token files of `tests/corpus/data` with the libraries that define the layouts.

The documents are in `documents.json`; every file holds them, or those that its layout can hold.
`README.md` beside them lists the versions that wrote them. Run it in an environment of its own, as
the libraries pin older versions of radscore's dependencies::

    python -m venv layouts && . layouts/bin/activate
    pip install megatron-core datatrove dolma mosaicml-streaming litdata datasets torch
    python tools/make_layouts.py tests/corpus/data

llm.c and nanoGPT are not libraries; their files are written the way their scripts do it:
`write_datafile` of llm.c's `dev/data/data_common.py`, and nanoGPT's `data/openwebtext/prepare.py`.
"""

from __future__ import annotations

import json
import sys
import types
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

SEED = 20_251_125
VOCAB_SIZE = 50_257
EOD = 50_256


def documents() -> list[list[int]]:
    """Ragged documents, some empty, one long, none with the end-of-document id."""
    rng = np.random.default_rng(SEED)
    lengths = [7, 1, 0, 300, 23, 0, 0, 64, 5, 2]
    return [rng.integers(0, EOD, size=length).tolist() for length in lengths]


def megatron(folder: Path, docs: list[list[int]]) -> None:
    """Documents of several sequences, in uint16 and in int32."""
    indexed: Any = import_module("megatron.core.datasets.indexed_dataset")

    for name, dtype in (("u2", np.uint16), ("i4", np.int32)):
        builder = indexed.IndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=dtype)
        for number, doc in enumerate(docs):
            # Sentences of a document are sequences of their own.
            cut = len(doc) // 2 if number % 3 == 0 and len(doc) > 1 else len(doc)
            pieces = [doc[:cut], doc[cut:]] if cut < len(doc) else [doc]
            ids = [id_ for piece in pieces for id_ in piece]
            builder.add_document(np.array(ids, dtype=dtype), [len(piece) for piece in pieces])
        builder.finalize(str(folder / f"{name}.idx"))


def datatrove(folder: Path, docs: list[list[int]]) -> None:
    """With and without metadata, of 2 and of 4 bytes per id, shuffled by the library."""
    tokenized_file: Any = import_module("datatrove.pipeline.tokens.tokenizer").TokenizedFile

    for name, size, metadata in (("u2", 2, True), ("u4", 4, True), ("bare", 4, False)):
        file = tokenized_file(
            str(folder),
            f"{name}.ds",
            tokenizer_name_or_path="gpt2" if name == "u2" else None,
            save_final_metadata=metadata,
            token_size=size,
        )
        for doc in docs:
            file.write(doc, None)
        file.close()
    order = np.random.default_rng(SEED).permutation(len(docs))
    source = tokenized_file(str(folder), "order.ds", token_size=2, save_loss_metadata=True)
    for doc in docs:
        source.write(doc, np.ones(len(doc), dtype=bool))
    source.close()
    source.copy("shuffled", order, rank=0)
    source.cleanup()
    (folder / "order.json").write_text(json.dumps(order.tolist()) + "\n")


def dolma(folder: Path, docs: list[list[int]]) -> None:
    """Headerless `.npy` of both widths, with a table; an id in quotes holds a line break."""
    _package("dolma", "dolma.core", "dolma.tokenizer")
    output: Any = import_module("dolma.tokenizer.data_types").TokenizerOutput
    memmap_writer: Any = import_module("dolma.tokenizer.memmap_writer").MemmapWriter

    for name, dtype in (("u2", np.uint16), ("u4", np.uint32)):
        with memmap_writer(str(folder / name), dtype=np.dtype(dtype), max_tokens=10_000) as writer:
            for number, doc in enumerate(docs):
                key = f'id "{number}"\n' if number % 4 == 0 else str(number)
                row = output.from_tokens(id=key, src="a,b", loc=number, tokens=doc)
                if not writer.write(row):
                    raise RuntimeError("the file is full")


def _package(*names: str) -> None:
    """Lets modules of a package be imported without running its `__init__`.

    dolma's imports taggers (fasttext and others) that the writer of token files does not use.
    """
    spec = find_spec(names[0])
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(names[0])
    root = Path(next(iter(spec.submodule_search_locations)))
    for name in names:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module


def mds(folder: Path, docs: list[list[int]]) -> None:
    """Every way of storing token ids, compressed or not; MDS cannot hold empty arrays."""
    streaming: Any = import_module("streaming")

    full = [doc for doc in docs if doc]

    def write(name: str, columns: dict[str, str], rows: list[dict[str, Any]], **more: Any) -> None:
        with streaming.MDSWriter(out=str(folder / name), columns=columns, **more) as writer:
            for row in rows:
                writer.write(row)

    def arrays(dtype: Any) -> list[dict[str, Any]]:
        return [{"tokens": np.array(doc, dtype=dtype), "n": len(doc)} for doc in full]

    typed = {"tokens": "ndarray:uint32", "n": "int"}
    write("ndarray_u4", typed, arrays(np.uint32), size_limit=600)
    write("ndarray_any", {"tokens": "ndarray", "n": "int"}, arrays(np.int64))
    rows = [{"tokens": np.arange(16 * i, 16 * i + 16, dtype=np.uint16)} for i in range(5)]
    write("ndarray_fixed", {"tokens": "ndarray:uint16:16"}, rows)
    as_bytes = [
        {"tokens": np.array(doc, np.int64).tobytes(), "id": str(i)} for i, doc in enumerate(docs)
    ]
    write("bytes_i8", {"tokens": "bytes", "id": "str"}, as_bytes)
    texts = [{"text": text, "meta": {"a": 1}, "x": [1]} for text in ("the cat sat", "", "a dog")]
    write("text", {"text": "str", "meta": "json", "x": "pkl"}, texts)
    for codec in ("zstd", "gz", "br", "snappy", "bz2"):
        write(f"packed_{codec}", typed, arrays(np.uint32), compression=codec, size_limit=600)


def litdata(folder: Path, docs: list[list[int]]) -> None:
    """Chunks of both loaders, compressed in every way."""
    torch: Any = import_module("torch")
    loaders: Any = import_module("litdata.streaming.item_loader")
    writers: Any = import_module("litdata.streaming.writer")

    full = [doc for doc in docs if doc]

    def write(name: str, items: list[Any], *, loader: Any = None, **more: Any) -> None:
        loader = loaders.PyTreeLoader() if loader is None else loader
        writer = writers.BinaryWriter(str(folder / name), item_loader=loader, **more)
        for number, item in enumerate(items):
            writer[number] = item
        writer.done()
        writer.merge()

    def tensors(dtype: Any) -> list[Any]:
        return [torch.tensor(doc, dtype=dtype) for doc in full]

    write("tokens_i4", tensors(torch.int32), loader=loaders.TokensLoader(), chunk_size=320)
    write(
        "tokens_u2",
        [np.array(d, np.uint16) for d in full],
        loader=loaders.TokensLoader(),
        chunk_size=320,
    )
    whole = {"compression": "zstd", "compression_level": "chunk"}
    write(
        "tokens_zstd", tensors(torch.int64), loader=loaders.TokensLoader(), chunk_size=320, **whole
    )
    write("items_i8", tensors(torch.int64), chunk_size=3)
    rows = [{"n": i, "input_ids": tensor} for i, tensor in enumerate(tensors(torch.int64))]
    write("tree", rows, chunk_size=3)
    write("tree_chunk", rows, chunk_size=3, **whole)
    frames = {"compression": "zstd", "compression_batch_size": 2}
    write("tree_batch", rows, chunk_size=5, **frames)
    write("tree_sample", rows, chunk_size=3, compression="zstd", compression_level="sample")
    shaped = [{"input_ids": np.array([doc], np.uint32), "x": torch.tensor([doc])} for doc in full]
    write("shaped", shaped, chunk_size=3)
    write("lists", [{"tokens": doc, "n": i} for i, doc in enumerate(docs)], chunk_size=4)
    texts = [{"text": text, "n": 1} for text in ("the cat sat", "a dog", "mat")]
    write("text", texts, chunk_size=2, compression="zstd")


def hugging_face(folder: Path, docs: list[list[int]]) -> None:
    """A folder of several files, and one whose rows a list picks, as older versions wrote it."""
    import pyarrow as pa

    dataset: Any = import_module("datasets").Dataset

    dataset.from_dict({"input_ids": docs, "n": range(len(docs))}).save_to_disk(
        str(folder / "plain"), num_shards=3
    )
    picked = folder / "picked"
    dataset.from_dict({"tokens": docs}).save_to_disk(str(picked), num_shards=2)
    # What `select` and `shuffle` left in a folder before version 2.10 of the library.
    order = np.random.default_rng(SEED).permutation(len(docs))[:7].astype(np.uint64)
    table = pa.table({"indices": order})
    with pa.ipc.new_stream(str(picked / "indices.arrow"), table.schema) as writer:
        writer.write_table(table)
    state = json.loads((picked / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (picked / "state.json").write_text(json.dumps(state, indent=2) + "\n")


def llm_c(folder: Path, docs: list[list[int]]) -> None:
    """As `write_datafile` of llm.c: an end-of-document id before each document."""
    tokens = [id_ for doc in docs for id_ in (EOD, *doc)]
    for name, magic, number, dtype in (("gpt2", 20240520, 1, "<u2"), ("llama", 20240801, 7, "<u4")):
        header = np.zeros(256, dtype="<i4")
        header[:3] = magic, number, len(tokens)
        data = np.array(tokens, dtype=dtype)
        (folder / f"{name}.bin").write_bytes(header.tobytes() + data.tobytes())


def nanogpt(folder: Path, docs: list[list[int]]) -> None:
    """As `prepare.py` of nanoGPT: an end-of-document id after each document."""
    tokens = [id_ for doc in docs for id_ in (*doc, EOD)]
    np.array(tokens, dtype=np.uint16).tofile(folder / "train.bin")


WRITERS = {
    "megatron": (megatron, "megatron-core"),
    "datatrove": (datatrove, "datatrove"),
    "dolma": (dolma, "dolma"),
    "mds": (mds, "mosaicml-streaming"),
    "litdata": (litdata, "litdata"),
    "hugging_face": (hugging_face, "datasets"),
    "llm_c": (llm_c, None),
    "nanogpt": (nanogpt, None),
}


def main() -> None:
    """Writes all files anew."""
    folder = Path(sys.argv[1])
    docs = documents()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "documents.json").write_text(json.dumps(docs) + "\n")
    lines = []
    for name, (write, package) in WRITERS.items():
        rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        write(folder / name, docs)
        made = (
            "this script, as the tool's own" if package is None else f"{package} {version(package)}"
        )
        lines.append(f"| {name} | {made} |")
        print(lines[-1])
    shared = ", ".join(f"{package} {version(package)}" for package in ("numpy", "pyarrow", "torch"))
    (folder / "README.md").write_text(
        "# Token files of other tools\n\n"
        "Made by `tools/make_layouts.py`; every file holds the documents of `documents.json`.\n\n"
        "| folder | written by |\n|---|---|\n" + "\n".join(lines) + f"\n\nWith {shared}.\n"
    )


if __name__ == "__main__":
    main()
