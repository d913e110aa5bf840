"""Preparing a run: its manifest, in a folder that was named or is named after the corpus."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscore.checks import check_reach, check_rules, check_start
from radscore.errors import ArgumentError, StorageError
from radscore.files import write_atomically
from radscore.runs.folders import begin, claim
from radscore.runs.manifest import (
    BUCKETS,
    DECISIVE,
    FILTER,
    FORMAT,
    MANIFEST,
    SHARDS,
    VERSION,
    Run,
    check_seeds,
    configuration_of,
    sealed,
    window_shape,
)
from radscore.runs.shards import SHARD_BYTES, cut_shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.corpus import Corpus
    from radscore.kgrams import KgramSet
    from radscore.schemes import Scheme

__all__ = ["DEFAULT_BUCKETS", "prepare", "prepare_in", "run_of_stream"]

DEFAULT_BUCKETS = 16
#: Two to this power partitions, and at most twice that twice.
_BITS, _MORE_BITS = 12, 2
#: Bytes from which a corpus gets more partitions.
_LARGE = 64_000_000_000
#: About how many shards a large corpus has: each reduction opens the files of all.
_MOST_SHARDS = 2000


def prepare(
    folder: str | Path,
    corpus: Corpus,
    scheme: Scheme,
    *,
    dedup: str = "unit",
    filter: KgramSet | None = None,
    start: int | None = None,
    prompt_role: str = "exclude",
    shard_bytes: int | None = None,
    buckets: int = DEFAULT_BUCKETS,
    partition_bits: int | None = None,
    more_folders: Sequence[str | Path] = (),
    opening: dict[str, Any] | None = None,
    any_shards: bool = False,
    named: bool = True,
    fresh: bool = False,
) -> Run:
    """Writes the manifest of a run, or opens the one that is there if it says the same.

    Parameters
    ----------
    folder : path
        Where the manifest and all files of the run go.
    corpus : Corpus
        What is read.
    scheme : Scheme
        Only the shape of its windows counts here; no key is written.
    dedup, filter, start, prompt_role
        As for `Scorer`.
    shard_bytes : int, optional
        About how many bytes of files make a shard; by default 256 MB, or a 2,000th of a corpus of
        more than 2,000 times that: each reduction opens the files of all shards.
    buckets : int
        Number of buckets, which are reduced one by one.
    partition_bits : int, optional
        Two to this power is the number of partitions; by default 4,096, from 64 GB on 8,192, from
        128 GB on 16,384: a partition should fit the memory of a reduction.
    more_folders : sequence of paths
        Further folders for files of shards, on other disks say; each for this run alone.
    opening : dict, optional
        How the command line opens the corpus again.
    any_shards : bool
        Whether a run that is there may be cut into other shards.
    named : bool
        Whether the folders were named by whoever calls; for others no links may stand.
    fresh : bool
        Whether to delete the run that is there and start over.

    Raises
    ------
    StorageError
        If the folder holds a run of another corpus or with other rules, or files of something else
        that have the names of a run's.
    """
    check_rules(dedup, prompt_role, filter)
    check_reach([scheme], prompt_role)
    check_seeds(scheme, corpus.settings, prompt_role)
    if shard_bytes is None:
        shard_bytes = max(SHARD_BYTES, corpus.total_bytes // _MOST_SHARDS)
    if partition_bits is None:
        partition_bits = _BITS + min((corpus.total_bytes // _LARGE).bit_length(), _MORE_BITS)
    if not 1 <= partition_bits <= 16:
        raise ArgumentError(f"partition_bits must be from 1 to 16, not {partition_bits}")
    if not 1 <= buckets <= 1 << partition_bits:
        raise ArgumentError(f"buckets must be from 1 to {1 << partition_bits}, not {buckets}")
    base = Path(folder)
    found = Run.open(base) if (base / MANIFEST).exists() else None
    if fresh and found is not None:
        with found.locked():
            found.discard()
        found = None
    if found is not None and any_shards:
        shards = found.content["shards"]
    else:
        shards = [shard.to_dict() for shard in cut_shards(corpus, shard_bytes)]
    content = _manifest(
        scheme,
        {"dedup": dedup, "start": check_start(start), "prompt_role": prompt_role},
        filter,
        files=corpus.absolute().manifest(),
        settings=corpus.settings,
        partition_bits=partition_bits,
        buckets=buckets,
        shards=shards,
        more_folders=[str(Path(path).absolute()) for path in more_folders],
        notes=list(corpus.notes_of_opening),
        opening=opening,
    )
    if found is not None:
        if found.content["configuration"] != content["configuration"]:
            raise StorageError(
                f"{base} holds a run {_difference(found.content, content)}; use another folder, "
                "or start over with fresh=True"
            )
        # Everything else stays as it was, except where a tokenizer is now.
        content = {**found.content, "opening": opening or found.content["opening"]}
    run = Run((base, *map(Path, content["more_folders"])), sealed(content))
    for one in run.folders:
        begin(one, named=named and one == base)
        claim(one / SHARDS)
    claim(base / BUCKETS)
    kept = base / FILTER
    if filter is not None and (found is None or not kept.exists()):
        filter.save(kept)
    if found != run:
        write_atomically(base / MANIFEST, json.dumps(run.content, indent=1))
    return run


def prepare_in(
    folders: Sequence[Path],
    corpus: Corpus,
    scheme: Scheme,
    *,
    windows: int,
    **options: Any,
) -> Run:
    """`prepare` in folders named after the corpus, so that the same call finds its run again.

    Parameters
    ----------
    folders : sequence of Path
        Where to make those folders.
    windows : int
        Bytes of windows that fit the memory. A shard should fit at once: most files have two bytes
        per id, and a window has eight.
    corpus, scheme, options
        As for `prepare`.
    """
    paths = "\n".join(str(source.path.absolute()) for source in corpus.sources)
    name = f"radscore-{hashlib.sha256(paths.encode()).hexdigest()[:12]}"
    first, *more = [folder.absolute() / name for folder in folders]
    shard_bytes = max(min(SHARD_BYTES, windows // 5), corpus.total_bytes // _MOST_SHARDS)
    return prepare(
        first,
        corpus,
        scheme,
        shard_bytes=shard_bytes,
        more_folders=more,
        named=False,
        any_shards=True,  # under another limit shards would differ, but any will do
        **options,
    )


def run_of_stream(
    folder: Path, scheme: Scheme, rules: dict[str, Any], filter: KgramSet | None
) -> Run:
    """A run over documents that come once, in a temporary folder; its shards are yet to be cut.

    It has one bucket, and no manifest on disk: when the process ends, it is lost.
    """
    content = _manifest(
        scheme,
        rules,
        filter,
        files=[],
        settings={"vocab_size": None},
        partition_bits=_BITS,
        buckets=1,
        shards=[],
        more_folders=[],
        notes=[],
        opening=None,
    )
    claim(folder / SHARDS)
    claim(folder / BUCKETS)
    if filter is not None:
        filter.save(folder / FILTER)
    return Run((folder,), content)


def _manifest(
    scheme: Scheme, rules: dict[str, Any], filter: KgramSet | None, **entries: Any
) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "windows": window_shape(scheme, rules["start"]),
        "rules": rules,
        "filter": None if filter is None else filter.fingerprint,
        **entries,
    }
    return sealed({**content, "configuration": configuration_of(content)})


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    words = {
        "files": "of another corpus, or the corpus has changed",
        "settings": "that reads the corpus in another way",
        "windows": "with other windows",
        "rules": "with other rules",
        "filter": "with another filter",
        "partition_bits": "with another number of partitions",
        "shards": "that is cut into other shards",
        "version": "of another version",
    }
    return words[next(name for name in DECISIVE if one.get(name) != other.get(name))]
