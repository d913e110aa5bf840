"""The compiled core: conversion only; see rust/core for what it does."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

_Arrays: TypeAlias = tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.int64]]
_Path: TypeAlias = str | PathLike[str]
_Rows: TypeAlias = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

__all__ = [
    "FastTokenizer",
    "KgramCounts",
    "KgramSet",
    "Reducer",
    "Scheme",
    "Scorer",
    "Sharing",
    "Tally",
    "WindowCollector",
    "__version__",
    "available_kernels",
    "kernel",
    "read_shard_header",
    "score_documents",
    "score_positions",
    "set_kernel",
]

__version__: str

def available_kernels() -> list[str]: ...
def kernel() -> str: ...
def set_kernel(name: str) -> None: ...

@final
class FastTokenizer:
    TOKENIZERS_VERSION: str
    def __new__(cls, json: str, add_special_tokens: bool) -> FastTokenizer: ...
    @staticmethod
    def probe() -> list[str]: ...
    def encode(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...

@final
class KgramSet:
    @staticmethod
    def from_rows(
        kgrams: npt.NDArray[np.uint32], vocab_size: int, origin: str = ""
    ) -> KgramSet: ...
    @staticmethod
    def load(path: _Path) -> KgramSet: ...
    def save(self, path: _Path) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def origin(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def contains(self, kgram: Sequence[int]) -> bool: ...
    def union(self, other: KgramSet, origin: str = "") -> KgramSet: ...
    def intersection(self, other: KgramSet, origin: str = "") -> KgramSet: ...
    def rows(self) -> npt.NDArray[np.uint32]: ...

@final
class KgramCounts:
    def __new__(cls, width: int, vocab_size: int) -> KgramCounts: ...
    @staticmethod
    def load(path: _Path) -> KgramCounts: ...
    def save(self, path: _Path) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def origin(self) -> str: ...
    def set_origin(self, origin: str) -> None: ...
    @property
    def total(self) -> int: ...
    def __len__(self) -> int: ...
    def get(self, kgram: Sequence[int]) -> int: ...
    def add(
        self,
        values: npt.NDArray[np.integer[Any]],
        offsets: npt.NDArray[np.int64],
        threads: int | None = None,
    ) -> None: ...
    def add_rows(self, kgrams: npt.NDArray[np.uint32], counts: npt.NDArray[np.uint64]) -> None: ...
    def top(self, n: int | None, min_count: int, origin: str = "") -> KgramSet: ...
    def rows(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]: ...

@final
class Tally:
    @property
    def n_documents(self) -> int: ...
    @property
    def n_short_documents(self) -> int: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def n_windows(self) -> int: ...
    @property
    def n_excluded(self) -> int: ...
    @property
    def n_filtered(self) -> int: ...
    @property
    def n_duplicates(self) -> int: ...
    @property
    def n_keyless(self) -> int: ...
    @property
    def n_scored(self) -> int: ...
    @property
    def n_green(self) -> int: ...
    @property
    def score_sum(self) -> float: ...
    @property
    def depth_counts(self) -> list[int]: ...
    @property
    def residue_counts(self) -> npt.NDArray[np.uint64] | None: ...
    @property
    def weighted(self) -> bool: ...
    @property
    def n_zero_weight(self) -> int: ...
    @property
    def sum_weight(self) -> float: ...
    @property
    def sum_weight_squared(self) -> float: ...
    @property
    def max_abs_weight(self) -> float: ...
    @property
    def sum_weight_score(self) -> float: ...
    def merge(self, other: Tally) -> Tally: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(state: bytes) -> Tally: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Scorer:
    def __new__(
        cls,
        schemes: Sequence[Scheme],
        dedup: str,
        combine: str,
        start: int | None,
        prompt_role: str,
        filter: KgramSet | None,
        threads: int | None,
        curve: Sequence[int],
    ) -> Scorer: ...
    def add(
        self,
        documents: _Arrays,
        prompts: _Arrays | None = None,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None: ...
    def add_windows(
        self,
        windows: npt.NDArray[np.uint32],
        weights: npt.NDArray[np.float64] | None = None,
        occurrences: npt.NDArray[np.uint64] | None = None,
    ) -> None: ...
    def flush(self) -> None: ...
    def tallies(self) -> list[Tally]: ...
    def weighted_units(
        self, scheme: int
    ) -> (
        tuple[
            npt.NDArray[np.float64],
            npt.NDArray[np.float64],
            npt.NDArray[np.uint64] | None,
            npt.NDArray[np.uint64] | None,
        ]
        | None
    ): ...
    def curve(self) -> list[tuple[int, list[Tally]]]: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def weighted(self) -> bool: ...
    def merge(self, other: Scorer) -> None: ...
    def save(self, path: _Path, header: bytes) -> None: ...
    @staticmethod
    def read_state(path: _Path) -> tuple[bytes, bytes]: ...
    def restore(self, state: bytes) -> None: ...

@final
class WindowCollector:
    def __new__(
        cls,
        *,
        width: int,
        vocab_size: int,
        start: int | None,
        padding: int | None,
        seeds: Scheme | None,
        dedup: str,
        prompt_role: str,
        filter: KgramSet | None,
        threads: int | None,
        bits: int,
    ) -> WindowCollector: ...
    def add(self, documents: _Arrays, prompts: _Arrays | None, first: int, last: int) -> None: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    def write_shard(self, path: _Path, configuration: bytes, shard: int) -> tuple[int, bytes]: ...
    def merge_shards(
        self,
        paths: Sequence[_Path],
        path: _Path,
        configuration: bytes,
        shard: int,
        memory: int,
        folders: Sequence[_Path],
    ) -> tuple[int, bytes]: ...

@final
class Reducer:
    def __new__(
        cls,
        schemes: Sequence[Scheme],
        *,
        dedup: str,
        start: int | None,
        prompt_role: str,
        threads: int | None,
    ) -> Reducer: ...
    def reduce(
        self,
        paths: Sequence[_Path],
        configuration: bytes,
        first: int,
        last: int,
        exchange: _Path,
        memory: int,
        folders: Sequence[_Path],
    ) -> tuple[list[Tally], list[tuple[int, Path]]]: ...
    def reduce_units(
        self,
        exchange: Sequence[tuple[int, _Path]],
        first: int,
        last: int,
        memory: int,
        folders: Sequence[_Path],
    ) -> list[Tally]: ...

@final
class Sharing:
    def __new__(cls, most: int) -> Sharing: ...
    @property
    def n_documents(self) -> int: ...
    def undo(self) -> None: ...
    def save(self, path: _Path) -> None: ...
    @staticmethod
    def load(path: _Path) -> Sharing: ...

def read_shard_header(path: _Path) -> tuple[bytes, int, int, bytes]: ...
def score_documents(
    scheme: Scheme,
    documents: _Arrays,
    prompts: _Arrays | None,
    filter: KgramSet | None,
    dedup: str,
    start: int | None,
    prompt_role: str,
    threads: int | None,
    max_contexts: int | None,
    sharing: Sharing | None = None,
) -> dict[str, npt.NDArray[Any]]: ...
def score_positions(
    scheme: Scheme,
    documents: _Arrays,
    prompts: _Arrays | None,
    filter: KgramSet | None,
    dedup: str,
    start: int | None,
    prompt_role: str,
    threads: int | None,
    max_contexts: int | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]: ...

@final
class Scheme:
    @staticmethod
    def kgw(
        *,
        vocab_size: int,
        gamma: float,
        context_width: int,
        seeding: str,
        self_salt: bool,
        seed: int,
        key: int,
        table_seed: int,
        green_last: bool,
        kernel: str = "auto",
    ) -> Scheme: ...
    @staticmethod
    def gumbel_max(
        *,
        vocab_size: int,
        context_width: int,
        seeding: str,
        seed: int,
        key: int,
        table_seed: int,
    ) -> Scheme: ...
    @staticmethod
    def synthid(
        *,
        keys: Sequence[int],
        vocab_size: int,
        ngram_len: int,
        sampling_table_size: int,
        sampling_table_seed: int,
    ) -> Scheme: ...
    @staticmethod
    def synthid_deepmind(*, keys: Sequence[int], vocab_size: int, ngram_len: int) -> Scheme: ...
    @staticmethod
    def textseal(
        *, key: int, vocab_size: int, context_width: int, gamma: float | None
    ) -> Scheme: ...
    @staticmethod
    def vllm_gumbel(
        *, key: int, vocab_size: int, context_width: int, alpha: float | None
    ) -> Scheme: ...
    @staticmethod
    def sglang_gumbel(
        *,
        key: int,
        second: tuple[int, float] | None,
        vocab_size: int,
        context_width: int,
    ) -> Scheme: ...
    @staticmethod
    def sbw(
        *,
        key: int,
        vocab_size: int,
        gamma: float,
        seeding: str,
        context_width: int,
        self_salt: bool,
        table_hash: bool,
    ) -> Scheme: ...
    @staticmethod
    def keyed(
        *, key: bytes, vocab_size: int, context_width: int, gamma: float | None
    ) -> Scheme: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def window_width(self) -> int: ...
    @property
    def score_kind(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def share(self) -> tuple[int, int] | None: ...
    @property
    def unit_is_window(self) -> bool: ...
    @property
    def has_distinct_units(self) -> bool: ...
    @property
    def residues(self) -> int: ...
    @property
    def sampling_table(self) -> npt.NDArray[np.bool_] | None: ...
    @property
    def seed_kind(self) -> Literal["context", "hash", "keyed hash", "target"]: ...
    @property
    def least_own(self) -> int: ...
    @property
    def seeds_reach_neighbours(self) -> bool: ...
    @property
    def padding(self) -> int | None: ...
    @property
    def reaches_prompt(self) -> bool: ...
    @property
    def first_position(self) -> int: ...
    @property
    def key_count(self) -> int: ...
    def green_mask(self, contexts: _Rows) -> npt.NDArray[np.bool_]: ...
    def uniforms(self, contexts: _Rows, key_index: int = 0) -> npt.NDArray[np.float64]: ...
    def g_values(self, contexts: _Rows) -> npt.NDArray[np.uint8]: ...
    def scores(self, windows: _Rows) -> npt.NDArray[Any]: ...
    def units(self, windows: _Rows) -> npt.NDArray[np.uint64]: ...
    def seeds(self, windows: _Rows) -> npt.NDArray[np.uint64]: ...
    def seeds_of_tails(self, tails: _Rows, own: int) -> npt.NDArray[np.uint64]: ...
