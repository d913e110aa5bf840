"""`Collector`: documents in, files of distinct windows out."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from radscore import _core
from radscore.checks import check_threads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from radscore.runs.manifest import Run
    from radscore.runs.shards import Slice
    from radscore.schemes import Scheme

__all__ = ["Collector"]


class Collector:
    """Cuts documents into windows and writes them, by partition, to files of shards.

    Windows that are repeated within a file are written once. All windows that were added since
    the last `write` are in memory: check `full` after each `add`.

    Parameters
    ----------
    run : Run
        Which windows, and what goes with them into the files.
    memory : int
        Bytes of windows that may be held.
    threads : int, optional
        Worker threads; all cores by default.
    scheme : Scheme, optional
        The scheme by whose seeds prompts exclude windows; by default they exclude by contexts.
    """

    def __init__(
        self, run: Run, memory: int, threads: int | None, scheme: Scheme | None = None
    ) -> None:
        self._configuration, self._memory = run.configuration, memory
        chosen = run.filter()
        self._core = _core.WindowCollector(
            **run.content["windows"],
            seeds=None if scheme is None else scheme.core,
            dedup=run.rules["dedup"],
            prompt_role=run.rules["prompt_role"],
            filter=None if chosen is None else chosen.core,
            threads=check_threads(threads),
            bits=run.partition_bits,
        )

    @property
    def n_tokens(self) -> int:
        """Tokens that were added, all in all."""
        return self._core.n_tokens

    @property
    def full(self) -> bool:
        """Whether the windows in memory should be written now."""
        return self._core.n_bytes > self._memory

    def add(self, some: Slice) -> None:
        """Adds the windows of a slice."""
        documents, prompts = some.documents, some.prompts
        first, last = some.tokens or (0, documents.n_tokens)
        self._core.add(
            (documents.values, documents.offsets),
            None if prompts is None else (prompts.values, prompts.offsets),
            first,
            last,
        )

    def write(self, path: Path, shard: int) -> tuple[int, bytes]:
        """Writes the windows in memory to a shard's file and forgets them; length and checksum."""
        return self._core.write_shard(path, self._configuration, shard)

    def write_all(self, slices: Iterable[Slice], path: Path, shard: int) -> tuple[int, bytes]:
        """Writes one shard, by way of several pieces if its windows outgrow the memory."""
        pieces: list[Path] = []
        attempt = uuid.uuid4().hex

        def write_piece() -> None:
            pieces.append(path.with_suffix(f".{attempt}.{len(pieces)}.piece"))
            self.write(pieces[-1], shard)

        try:
            for some in slices:
                self.add(some)
                if self.full:
                    write_piece()
            if not pieces:
                return self.write(path, shard)
            write_piece()
            limits = (self._memory, [path.parent])
            return self._core.merge_shards(pieces, path, self._configuration, shard, *limits)
        finally:
            for piece in pieces:
                piece.unlink(missing_ok=True)
