"""Several files of predictions as one: a reading that several machines have shared."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from radscore.errors import ArgumentError
from radscore.models.predictions import Header, Predictions, Totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radscore.models.batching import Pairs

__all__ = ["PredictionFiles", "open_predictions"]


class PredictionFiles:
    """Files of predictions by one model of parts of a text; read as if they were one file.

    Iterating yields the pairs of all files, in the order given; `Pairs.occurrences` count on from
    file to file.

    Parameters
    ----------
    paths : sequence of paths
        What `predict` wrote, in reading order.

    Attributes
    ----------
    path : Path
        The first of them.
    header : Header
        What all of them agree on.
    totals : Totals
        What was read in all.

    Raises
    ------
    ArgumentError
        If they are of different models, settings or numbers of shards, or two are of one text or
        one shard.
    StateError
        If one is not a file of predictions, or is damaged.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        if not paths:
            raise ArgumentError("there are no files of predictions")
        self.files = [Predictions(path) for path in paths]
        self.path = self.files[0].path
        self.header = _header(self.files)
        self.totals = _totals(self.files)

    def __iter__(self) -> Iterator[Pairs]:
        before = 0
        for file in self.files:
            for pairs in file:
                yield replace(pairs, occurrences=pairs.occurrences + np.uint64(before))
            before += file.totals.n_tokens

    def __repr__(self) -> str:
        return f"PredictionFiles({len(self.files)} files, n_tokens={self.totals.n_tokens})"


def open_predictions(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Predictions | PredictionFiles:
    """The predictions in a file, or in several."""
    if isinstance(paths, (str, os.PathLike)):
        return Predictions(paths)
    return PredictionFiles(paths)


def _header(files: list[Predictions]) -> Header:
    """What the files agree on; an error if they do not."""
    first = files[0]
    for other in files[1:]:
        for one in fields(Header):
            was, now = getattr(first.header, one.name), getattr(other.header, one.name)
            if one.name == "shard":
                was, now = was and was[1], now and now[1]
            if was != now:
                name = "number of shards" if one.name == "shard" else one.name
                raise ArgumentError(
                    f"{first.path} and {other.path} are not of one reading: they differ in {name} "
                    f"({was} and {now})"
                )
    seen: dict[str, Predictions] = {}
    for file in files:
        names = [f"text {file.totals.text[:16]}"] if file.totals.n_documents else []
        if file.header.shard is not None:
            names.append("shard {} of {}".format(*file.header.shard))
        for name in names:
            if name in seen:
                raise ArgumentError(
                    f"{seen[name].path} and {file.path} are both of {name}, and no text counts "
                    "twice; give one of them"
                )
            seen[name] = file
    return replace(first.header, shard=None)


def _totals(files: list[Predictions]) -> Totals:
    """What was read in all."""
    every = [file.totals for file in files]
    if len(every) == 1:
        text = every[0].text
    else:
        text = hashlib.sha256("".join(one.text for one in every).encode()).hexdigest()
    removed: Counter[str] = Counter()
    usage: Counter[str] = Counter()
    for one in every:
        removed.update(one.removed)
        usage.update(one.usage)
    notes = dict.fromkeys(note for one in every for note in one.notes)
    numbers = {
        one.name: sum(getattr(totals, one.name) for totals in every)
        for one in fields(Totals)
        if one.name.startswith("n_")
    }
    return Totals(
        text=text,
        complete=all(one.complete for one in every),
        removed=dict(removed),
        usage=dict(usage),
        notes=(*notes, *_missing(files)),
        **numbers,
    )


def _missing(files: list[Predictions]) -> list[str]:
    """Which shards are not there."""
    shards = [file.header.shard for file in files if file.header.shard is not None]
    if not shards:
        return []
    number = shards[0][1]
    missing = sorted({*range(1, number + 1)} - {shard[0] for shard in shards})
    if not missing:
        return []
    some = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
    verb = "is" if len(missing) == 1 else "are"
    return [f"{len(missing)} of {number} shards of the text {verb} missing: {some}"]
