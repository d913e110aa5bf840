"""`Scorer`: documents in, evidence out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radscore import _core
from radscore.checks import Dedup, PromptRole, check_reach, check_schemes, check_threads
from radscore.documents import Documents, DocumentsLike, check_width
from radscore.errors import ArgumentError, StateError, TokenError, shown
from radscore.scoring.evidence import Combine, Rules, Units, score_result, zscore_of
from radscore.scoring.notes import depends_on_key, nothing_scored
from radscore.sizes import budget_of, folders_of
from radscore.stats.decoys import DecoyResult, decoy_test
from radscore.stats.stored import Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.kgrams import KgramSet
    from radscore.results import ScoreResult
    from radscore.schemes import Scheme

__all__ = ["Scorer"]


class Scorer:
    """Scores documents under one scheme, or under many schemes or keys at once.

    Every window is packed, filtered and deduplicated once for all schemes, and each distinct unit
    is scored once. Results depend neither on the number of threads nor on how the documents are
    split over calls of `add`. Memory grows with the distinct windows (`radscore.score` with
    ``memory=`` scores a corpus within a limit); with weights, with all windows up to `memory`.

    Parameters
    ----------
    scheme : Scheme or sequence of Scheme
        What to test for. Several schemes must share one vocabulary; `results` has one result each.
    dedup : {"unit", "window", "context", "none"}
        What counts once over everything added: the unit (what the scheme's random function reads;
        always valid), the window (the published rule), the context (with the target of its first
        occurrence; the serving engines' own rule), or nothing (to reproduce others' counts; there
        is no p-value).
    filter : KgramSet, optional
        Score only windows whose context is in the set. There is a p-value if the set is from text
        without the tested watermark (``watermarked=False``); for sets from watermarked text see
        `radscore.test_closed`.
    start : int, optional
        First position of a document that is scored; by default each scheme's `first_position`: 0
        for the schemes of vLLM and SynthID, whose contexts are padded on the left, else the first
        position with a whole context. An earlier one needs a scheme with `padding`.
    threads : int, optional
        Worker threads; all cores by default.
    combine : {"one", "sum"}
        With weights: whether equal units count once, with the weight of their first occurrence, or
        their weights add up.
    prompt_role : {"exclude", "context"}
        Whether a document's prompt excludes the windows whose context it contains (a padded
        context: whose own tokens it contains), or precedes the document, so that the first contexts
        reach into it. The latter needs schemes that do so (`reaches_prompt`).
    curve : sequence of int, optional
        Record the test after these numbers of tokens.
    predictable : bool
        Whether weights may depend on the key, but each only on what precedes it in reading order (a
        model read text that carries the tested watermark); see `radscore.stats.weighted_test`. With
        ``combine="sum"`` all weights of a unit must be fixed before its first score.
    saturation : float, optional
        With ``combine="sum"``: a unit whose weights sum to w counts ``w / (1 + |w| / saturation)``,
        so that no unit outweighs all others. (Units that count by residue: the sum of each window.)
    frequency : float, optional
        With ``combine="sum"``: windows whose context has weights at n places count ``n / (n +
        frequency)`` of theirs.
    memory : int or str, optional
        With weights: how much memory to use, such as ``"1GiB"``. Windows beyond it are sorted into
        files, and read again for each result; the results are the same to the last bit. It does not
        limit windows without weights.
    tmp : path or sequence of paths, optional
        Folders for these files, as for `radscore.score`. They go with the scorer.

    Attributes
    ----------
    schemes : tuple of Scheme
    rules : Rules
        The options above that decide what counts.
    extra : dict
        What `save` was given beside the state, after `load`.

    Examples
    --------
    >>> import radscore as rs
    >>> scheme = rs.KGW(vocab_size=100, gamma=0.5, context_width=1, seeding="hash", seed=3)
    >>> scorer = rs.Scorer(scheme)
    >>> scorer.add([[1, 2, 3, 4, 1, 2, 3], [2, 3, 4]])
    >>> result = scorer.result()
    >>> result.n_scored, result.n_windows, result.n_duplicates
    (4, 8, 4)
    """

    def __init__(
        self,
        scheme: Scheme | Sequence[Scheme],
        *,
        dedup: Dedup = "unit",
        filter: KgramSet | None = None,
        start: int | None = None,
        threads: int | None = None,
        combine: Combine = "one",
        prompt_role: PromptRole = "exclude",
        curve: Sequence[int] = (),
        predictable: bool = False,
        saturation: float | None = None,
        frequency: float | None = None,
        memory: int | str | None = None,
        tmp: str | Path | Sequence[str | Path] | None = None,
    ) -> None:
        self.schemes: tuple[Scheme, ...] = check_schemes(scheme)
        self.rules = Rules(
            dedup, combine, prompt_role, start, filter, predictable, saturation, frequency
        )
        check_reach(self.schemes, prompt_role)
        self.extra: dict[str, Any] = {}
        self._steps = _steps(curve)
        self._core = _core.Scorer(
            [one.core for one in self.schemes],
            dedup,
            "first" if predictable else combine,
            self.rules.start,
            prompt_role,
            None if filter is None else filter.core,
            check_threads(threads),
            self._steps,
            self._limit(memory, tmp),
            (self.rules.saturation or math.inf, self.rules.frequency or 0.0),
        )

    def _limit(self, memory: Any, tmp: Any) -> tuple[int, list[Path]] | None:
        """Bytes of windows, and the folders for others."""
        if memory is None:
            if tmp is not None:
                raise ArgumentError("tmp= has no effect without memory=")
            return None
        self._folders = folders_of(tmp)
        return budget_of(memory).windows, self._folders

    @property
    def core(self) -> _core.Scorer:
        """The compiled scorer."""
        return self._core

    def add(
        self,
        documents: DocumentsLike,
        prompts: DocumentsLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Adds documents.

        Parameters
        ----------
        documents : Documents, Arrow lists, lists of ids, arrays, tensors
            Anything that `Documents.of` takes.
        prompts : like `documents`, optional
            One prompt per document, possibly empty; see `prompt_role`.
        weights : array_like of float64, shape (n_tokens,), optional
            Weight of the window that ends at each token, which must not depend on the key. If any
            call has weights, the first one must; later calls without them have weight 1.

        Raises
        ------
        TokenError
            If an id is outside the vocabulary, or the input is malformed; nothing is added then.
        MemoryError
            If the system refuses memory. What was added is incomplete then, and further calls are
            refused: load what was saved last.

        Notes
        -----
        Ctrl-C may leave up to 2**24 tokens of a call added; `n_tokens` tells how many.
        """
        ragged = Documents.of(documents)
        before = None if prompts is None else Documents.of(prompts)
        self._core.add(
            (ragged.values, ragged.offsets),
            None if before is None else (before.values, before.offsets),
            _weights(weights),
        )

    def add_pairs(
        self,
        contexts: npt.ArrayLike,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        *,
        occurrences: npt.ArrayLike | None = None,
    ) -> None:
        """Adds (context, target) pairs and their weights, without a document.

        Parameters
        ----------
        contexts : array_like of int, shape (n, window_width - 1)
            Context tokens, oldest first; -1 stands for the scheme's padding, if that is -1.
        targets : array_like of int, shape (n,)
            Target tokens.
        weights : array_like of float64, shape (n,), optional
            As in `add`.
        occurrences : array_like of int, shape (n,), optional
            Position of each pair in reading order, from 0; several targets after one context share
            it. By default each pair has its own, in the order given. It decides which pairs come
            first under ``combine="one"`` and ``dedup="context"``.
        """
        before, after = np.asarray(contexts), np.asarray(targets)
        if not before.size and not after.size:
            return
        if before.ndim != 2 or after.ndim != 1 or len(before) != len(after):
            raise ArgumentError(
                f"contexts must be (n, k) and targets (n,), not {before.shape} and {after.shape}"
            )
        padded = all(one.padding == -1 for one in self.schemes)
        _check_ids("contexts", before, -1 if padded else 0)
        _check_ids("targets", after, 0)
        windows = np.column_stack([before.astype(np.uint32), after.astype(np.uint32)])
        order = None
        if occurrences is not None:
            order = np.asarray(occurrences)
            if not np.issubdtype(order.dtype, np.integer) or (len(order) and order.min() < 0):
                raise ArgumentError("occurrences must be integers, none negative")
            order = np.ascontiguousarray(order, dtype=np.uint64)
            if weights is None:  # several targets at one position need weights
                weights = np.ones(len(windows))
        self._core.add_windows(
            np.ascontiguousarray(windows, dtype=np.uint32), _weights(weights), order
        )

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents added."""
        return self._core.n_tokens

    def tally(self) -> _core.Tally:
        """The sums of the only scheme."""
        self._only()
        return self.tallies()[0]

    def tallies(self) -> list[_core.Tally]:
        """The sums of each scheme: what was read, what each rule removed, what was scored."""
        return self._core.tallies()

    def result(self, *, draws: int | None = None) -> ScoreResult:
        """The test of the only scheme.

        Parameters
        ----------
        draws : int, optional
            With weights: draws of importance sampling, as for `radscore.stats.weighted_test`.

        Raises
        ------
        TokenError
            If not a single window was scored: there is nothing to test.
        """
        self._only()
        return self.results(draws=draws)[0]

    def results(self, n: int | None = None, *, draws: int | None = None) -> list[ScoreResult]:
        """The test of each scheme, or of the first `n` (others may be decoys), in order."""
        tallies, curve = self.tallies(), self._core.curve()
        results, held, units = [], -1, None
        with ExitStack() as stack:
            for index, scheme in enumerate(self.schemes[:n]):
                first = self._core.units_like(index)
                if first != held or units is None or units.groups is not None:
                    stack.close()
                    held, units = first, self._units(index, draws)
                    if units is not None:
                        stack.enter_context(units)
                points = [(n_tokens, then[index]) for n_tokens, then in curve]
                results.append(
                    score_result(tallies[index], scheme, self.rules, units=units, curve=points)
                )
        return results

    def _units(self, index: int, draws: int | None) -> Units | None:
        if not self._core.is_in_files:
            found = self._core.weighted_units(index, scores=False)
            return None if found is None else Units(found[0], *found[2:], draws=draws)
        folder = TemporaryDirectory(prefix="radscore-", dir=self._folders[0])
        weights, groups = Path(folder.name, "weights"), Path(folder.name, "groups")
        n, grouped, residues = self._core.store_units(index, weights, groups)
        # there are few residues; groups that are not in order must be sorted
        small = residues is not None or (grouped and self.rules.dedup != "unit")
        w = np.fromfile(weights, np.float64) if small else Stored(weights, n)
        ids: Any = None
        if grouped:
            ids = np.fromfile(groups, np.uint64) if small else Stored(groups, n, "u8")
        return Units(w, groups=ids, residues=residues, folder=folder, draws=draws)

    def result_of(self, tally: _core.Tally) -> ScoreResult:
        """The test of the only scheme by sums made elsewhere, under the same rules."""
        self._only()
        return score_result(tally, self.schemes[0], self.rules)

    def _only(self) -> None:
        if len(self.schemes) != 1:
            raise ArgumentError(f"the scorer has {len(self.schemes)} schemes; use results()")

    def decoy_test(self, tested: int = 0, decoys: Sequence[int] | None = None) -> DecoyResult:
        """The first scheme against the others, taken as decoy keys.

        The scorer must have been made with ``[scheme, *scheme.decoys(n, seed=...)]``. Nothing is
        compared (`DecoyResult.withheld`) if the filter may depend on the tested key.

        Parameters
        ----------
        tested : int
            Index of the scheme that is tested.
        decoys : sequence of int, optional
            Indices of its decoys; all others by default.

        Raises
        ------
        ArgumentError
            If the schemes are not one scheme under different keys.
        TokenError
            If not a single window was scored.
        """
        if depends_on_key(self.rules.filter):
            return DecoyResult.withheld()
        others = [i for i in range(len(self.schemes)) if i != tested] if decoys is None else decoys
        indices = [tested, *others]
        schemes = [self.schemes[i] for i in indices]
        kin = all(scheme.to_dict() == schemes[0].to_dict() for scheme in schemes)
        distinct = len({scheme.fingerprint for scheme in schemes}) == len(schemes)
        if not (others and kin and distinct):
            raise ArgumentError(
                "a decoy test needs a scorer of one scheme under different keys: "
                "[scheme, *scheme.decoys(n)]"
            )
        scores, tallies = [], self.tallies()
        for scheme, tally in zip(schemes, [tallies[i] for i in indices], strict=True):
            if tally.n_scored == 0:
                raise TokenError(nothing_scored(tally, scheme, self.rules.start))
            scores.append(zscore_of(tally, scheme))
        return decoy_test(scores[0], scores[1:])

    def merge(self, other: Scorer) -> None:
        """Takes in what `other` has read, as if it had been added here afterwards.

        Raises
        ------
        StateError
            If the two differ in schemes, keys or rules.
        """
        if not isinstance(other, Scorer):
            raise ArgumentError(f"only a Scorer can be merged, not {type(other).__name__}")
        mine, theirs = self._config(), other._config()
        if mine != theirs:
            raise StateError(f"the scorers differ in {_differences(mine, theirs)}")
        self._core.merge(other._core)

    def _config(self) -> dict[str, Any]:
        """What decides the result, as a state holds it."""
        rules = self.rules
        return {
            "schemes": [scheme.fingerprint for scheme in self.schemes],
            "dedup": rules.dedup,
            "combine": rules.combine,
            "predictable": rules.predictable,
            "prompt_role": rules.prompt_role,
            "start": rules.start,
            "first_positions": [scheme.first_position for scheme in self.schemes],
            "filter": None if rules.filter is None else rules.filter.fingerprint,
            "curve": self._steps,
            **rules.damping,
        }

    def save(self, path: str | Path, *, extra: dict[str, Any] | None = None) -> None:
        """Saves the state, replacing `path` at once; `load` continues exactly there.

        The file (format ``RSST``, version 5, with checksums) holds the distinct windows, sums and
        fingerprints, never a key. `extra` is kept beside them as JSON. Windows go straight from the
        tables to the file, so that saving needs no memory to speak of, and loading no more than
        scoring did.
        """
        try:
            header = json.dumps({"config": self._config(), "extra": extra or {}}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"extra must be plain JSON: {error}") from None
        self._core.save(Path(path), header.encode())

    @classmethod
    def load(
        cls,
        path: str | Path,
        scheme: Scheme | Sequence[Scheme],
        *,
        filter: KgramSet | None = None,
        threads: int | None = None,
        memory: int | str | None = None,
        tmp: str | Path | Sequence[str | Path] | None = None,
    ) -> Scorer:
        """Loads what `save` wrote, for the same schemes, keys and filter.

        Raises
        ------
        StateError
            If the file is damaged or of another version, or was made with another scheme, key or
            filter.
        """
        state = _core.StateFile(Path(path))
        try:
            content = json.loads(state.header)
            config, extra = content["config"], content["extra"]
            names = ("dedup", "combine", "predictable", "prompt_role", "start")
            rules = {name: config[name] for name in names}
            rules |= {name: config.get(name) for name in ("saturation", "frequency")}
            steps = config["curve"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StateError(f"{path} has a damaged header") from None
        limits: dict[str, Any] = {"threads": threads, "memory": memory, "tmp": tmp}
        scorer = cls(scheme, **rules, filter=filter, curve=steps, **limits)
        if scorer._config() != config:
            different = _differences(scorer._config(), config)
            raise StateError(f"{path} was made with another {different}")
        scorer._core.restore(state)
        scorer.extra = extra
        return scorer

    def __repr__(self) -> str:
        names = ", ".join(scheme.name for scheme in self.schemes[:3])
        more = f", ... {len(self.schemes)} in all" if len(self.schemes) > 3 else ""
        return f"Scorer({names}{more}; dedup='{self.rules.dedup}', n_tokens={self.n_tokens})"


def _check_ids(name: str, ids: npt.NDArray[Any], low: int) -> None:
    """Raises `TokenError` unless these are ids, from `low` on."""
    if not np.issubdtype(ids.dtype, np.integer):
        raise TokenError(f"{name} must be integers, not {ids.dtype}")
    if ids.size and (ids.min() < low or ids.max() >= 2**32):
        raise TokenError(f"{name} hold the id {ids.min() if ids.min() < low else ids.max()}")


def _weights(weights: npt.ArrayLike | None) -> npt.NDArray[np.float64] | None:
    if weights is None:
        return None
    try:
        array = np.ascontiguousarray(weights, dtype=np.float64)
    except (ValueError, TypeError):
        raise ArgumentError("weights must be an array of numbers") from None
    if array.ndim != 1:
        raise ArgumentError(f"weights must be 1-D, not {array.ndim}-D")
    return array


def _steps(curve: Any) -> list[int]:
    """The numbers of tokens at which the test is recorded."""
    if isinstance(curve, (str, bytes)) or not isinstance(curve, Iterable):
        raise ArgumentError(
            f"curve must be numbers of tokens, such as [1000, 2000], not {shown(curve)}"
        )
    return [check_width("curve", step, 1, 2**62) for step in curve]


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What two configurations differ in, for an error message."""
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    words = {"schemes": "scheme or key", "first_positions": "first position"}
    return ", ".join(words.get(name, name) for name in names)
