"""What a scheme computes: masks, uniforms, g-values, scores, units, and marked distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from radscore.errors import SchemeError, TokenError
from radscore.schemes.fields import token_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from radscore import _core
    from radscore.schemes.generation import Rule, RuleName

__all__ = ["Functions"]


class Functions:
    """The functions of a scheme, on arrays; the compiled scheme computes them."""

    __slots__ = ()

    if TYPE_CHECKING:
        name: ClassVar[str]

        @property
        def core(self) -> _core.Scheme:
            """The compiled scheme."""
            ...

        @property
        def window_width(self) -> int:
            """Tokens of a window, the target included."""
            ...

        @property
        def sampling(self) -> RuleName | Rule | None:
            """The rule that writes the mark."""
            ...

    def green_mask(self, contexts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Greenness of every vocabulary entry after each context.

        Parameters
        ----------
        contexts : array of int, shape (n, window_width - 1)
            Token ids, oldest first.

        Returns
        -------
        ndarray of bool, shape (n, vocab_size)

        Raises
        ------
        SchemeError
            If the scheme has no green lists.
        TokenError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from radscore.schemes import Keyed
        >>> scheme = Keyed(key=bytes(16), vocab_size=10, gamma=0.5, context_width=1)
        >>> scheme.green_mask([[3]]).astype(int).tolist()
        [[1, 0, 1, 1, 1, 1, 0, 1, 0, 0]]
        """
        return self.core.green_mask(token_rows("contexts", contexts, self.window_width - 1))

    def uniforms(self, contexts: npt.ArrayLike, key_index: int = 0) -> npt.NDArray[np.float64]:
        """The uniform number of every vocabulary entry after each context.

        Parameters
        ----------
        contexts : array of int, shape (n, window_width - 1)
            Token ids, oldest first.
        key_index : int
            Which key, for a scheme whose generation chooses between `core.key_count` keys.

        Returns
        -------
        ndarray of float64, shape (n, vocab_size)

        Raises
        ------
        SchemeError
            If the scheme does not sample by uniforms.
        TokenError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from radscore.schemes import GumbelMax
        >>> scheme = GumbelMax(vocab_size=3, context_width=1, seed=0)
        >>> scheme.uniforms([[0]]).round(4).tolist()
        [[0.4963, 0.7682, 0.0885]]
        """
        return self.core.uniforms(
            token_rows("contexts", contexts, self.window_width - 1), key_index
        )

    def g_values(self, contexts: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """The g-values of every vocabulary entry after each context.

        Parameters
        ----------
        contexts : array of int, shape (n, window_width - 1)
            Token ids, oldest first.

        Returns
        -------
        ndarray of uint8, shape (n, vocab_size, depth)

        Raises
        ------
        SchemeError
            If the scheme has no g-values.
        TokenError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from radscore.schemes import SynthID
        >>> scheme = SynthID(vocab_size=3, keys=[654, 400], context_width=1)
        >>> scheme.g_values([[2]]).tolist()
        [[[0, 1], [0, 1], [0, 0]]]
        """
        return self.core.g_values(token_rows("contexts", contexts, self.window_width - 1))

    def scores(self, windows: npt.ArrayLike) -> npt.NDArray[Any]:
        """The score of each window as it stands: no deduplication, no test.

        Parameters
        ----------
        windows : array of int, shape (n, window_width)
            Token ids, oldest first, the target last.

        Returns
        -------
        ndarray
            bool, shape (n,), for green lists; float64, shape (n,), for Gumbel-max; uint8, shape
            (n, depth), for g-values.

        Raises
        ------
        TokenError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from radscore.schemes import KGW
        >>> KGW(vocab_size=10, gamma=0.5, context_width=1).scores([[0, 4], [0, 2]]).tolist()
        [True, False]
        """
        return self.core.scores(token_rows("windows", windows, self.window_width))

    def watermarked(
        self,
        contexts: npt.ArrayLike,
        offsets: npt.ArrayLike,
        tokens: npt.ArrayLike,
        q: npt.ArrayLike,
        *,
        delta: float = 2.0,
    ) -> npt.NDArray[np.float64]:
        """The distributions into which the key turns others, as when text is written.

        Gumbel-max leaves one token, the first of equals (with two keys, one for each share); green
        tokens become `e^delta` times as likely; g-values play a tournament per depth.

        Parameters
        ----------
        contexts : array of int, shape (n, window_width - 1)
            Token ids, oldest first.
        offsets : array of int, shape (n + 1,)
            Where the tokens of each context begin.
        tokens : array of int, shape (m,)
            The tokens that each context may be followed by.
        q : array of float, shape (m,)
            Their probabilities, up to a factor for each context.
        delta : float
            The bias of green lists.

        Returns
        -------
        ndarray of float64, shape (m,)
            Adding up to 1 for each context, unless its probabilities are all 0.

        Raises
        ------
        SchemeError
            If the scheme has no sampling rule of radscore's.
        ArgumentError
            If lengths do not fit, or a number is negative or not finite.
        TokenError
            If an id is outside the vocabulary.

        Examples
        --------
        >>> from radscore.schemes import VLLMGumbel
        >>> scheme = VLLMGumbel(vocab_size=50, key=42, context_width=1)
        >>> scheme.watermarked([[3], [4]], [0, 3, 5], [1, 2, 3, 8, 9], [0.5, 0.3, 0.2, 0.9, 0.1])
        array([1., 0., 0., 1., 0.])
        """
        if not isinstance(self.sampling, str):
            raise SchemeError(f"scheme {self.name!r} has no sampling rule of radscore's")
        ids = token_rows("contexts", contexts, self.window_width - 1)
        starts = np.ascontiguousarray(offsets, dtype=np.int64)
        targets = token_rows("tokens", np.asarray(tokens).reshape(-1, 1), 1)
        if targets.size and targets.min() < 0:
            raise TokenError(f"token id {targets.min()} is outside the vocabulary")
        columns = starts, targets[:, 0].astype(np.uint32), np.ascontiguousarray(q, dtype=np.float64)
        return self.core.watermarked(ids, columns, delta)

    def units(self, windows: npt.ArrayLike) -> npt.NDArray[np.uint64]:
        """What the random function reads of each window: equal rows, one piece of evidence.

        Returns
        -------
        ndarray of uint64, shape (n, 2)
            The upper and the lower half of a 128-bit value.

        Raises
        ------
        ArgumentError
            If the unit is the window itself (`units_are_windows`).

        Examples
        --------
        >>> from radscore.schemes import KGW
        >>> scheme = KGW(vocab_size=10, seeding="additive", context_width=2)
        >>> one, other = scheme.units([[1, 2, 7], [2, 1, 7]]).tolist()
        >>> one == other
        True
        """
        return self.core.units(token_rows("windows", windows, self.window_width))
