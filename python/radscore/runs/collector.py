"""`Collector`: documents in, files of distinct windows out."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from radscore.checks import check_threads
from radscore.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from radscore import _core
    from radscore.runs.manifest import Run
    from radscore.runs.shards import Slice
    from radscore.schemes import Scheme

__all__ = ["Collector", "core_scorer"]


class Collector:
    """Cuts documents into windows and writes them, by partition, to files of shards.

    Windows that are repeated within a file are written once. All windows that were added since
    the last `write` are in memory: look at `full` after each `add`.

    Parameters
    ----------
    run : Run
        Which windows, and what goes with them into the files.
    memory : int
        Bytes of windows that may be held.
    threads : int, optional
        Worker threads; all cores by default.
    scheme : Scheme, optional
        What cuts the windows; by default any scheme that cuts the run's, under a made-up key.
    """

    def __init__(
        self, run: Run, memory: int, threads: int | None, scheme: Scheme | None = None
    ) -> None:
        self._configuration, self._memory = run.configuration, memory
        start = run.rules["start"] if scheme is not None else run.content["windows"]["start"]
        cutting = _cutting_scheme(run) if scheme is None else scheme
        self._core = core_scorer(cutting, run, threads, start=start)
        self._core.collect_only(run.partition_bits)

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
        self._core.add_part(
            (documents.values, documents.offsets),
            None if prompts is None else (prompts.values, prompts.offsets),
            first,
            last,
        )

    def write(self, path: Path, shard: int) -> tuple[int, bytes]:
        """Writes the windows in memory to a shard's file and forgets them; length and checksum."""
        return self._core.write_unit(path, self._configuration, shard)

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
            return self._core.join_units(pieces, path, self._configuration, shard, *limits)
        finally:
            for piece in pieces:
                piece.unlink(missing_ok=True)


def core_scorer(scheme: Scheme, run: Run, threads: int | None, **changed: Any) -> _core.Scorer:
    """The compiled scorer of a scheme under a run's rules."""
    rules = {**run.rules, **changed}
    return Scorer(scheme, **rules, filter=run.filter(), threads=check_threads(threads)).core


def _cutting_scheme(run: Run) -> Scheme:
    """Any scheme that cuts the run's windows; its key is made up and plays no part."""
    from radscore.schemes import SBW, Key, Keyed, SynthIDDeepMind, VLLMGumbel

    shape = run.content["windows"]
    common = {"vocab_size": shape["vocab_size"], "context_width": shape["width"] - 1}
    if shape["padding"] is None:
        return Keyed(key=Key.from_hex(bytes(16).hex()), gamma=0.5, **common)
    if shape["padding"] == 0:
        return SynthIDDeepMind(keys=(1,), **common)
    if run.rules["prompt_role"] == "exclude":
        return VLLMGumbel(key=1, **common)  # prompts exclude by contexts
    return SBW(key=1, seeding="additive", self_salt=False, **common)
