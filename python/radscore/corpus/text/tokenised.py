"""`Tokenised`: what made the ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Tokenised"]


@dataclass(frozen=True)
class Tokenised:
    """What tokenised how many texts.

    Attributes
    ----------
    by : str
        The engine that they were given to.
    rest : str
        The engine to which that one handed over some.
    n_texts, n_referred : int
        Number of texts, and how many of them were handed over.
    """

    by: str
    rest: str
    n_texts: int
    n_referred: int

    @property
    def note(self) -> str | None:
        """The same in words; None if there were no texts."""
        if not self.n_texts:
            return None
        referred = f"; {self.n_referred} of {self.n_texts} texts by {self.rest}"
        return f"the text was tokenised by {self.by}{referred if self.n_referred else ''}"

    def plus(self, other: Tokenised, times: int = 1) -> Tokenised:
        """With the texts of another added, or (`times` -1) subtracted."""
        return replace(
            self,
            n_texts=self.n_texts + times * other.n_texts,
            n_referred=self.n_referred + times * other.n_referred,
        )
