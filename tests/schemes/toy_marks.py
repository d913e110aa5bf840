"""Schemes of another package, as somebody outside of radscore would write them."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from radscore.errors import SchemeError
from radscore.schemes import PythonScheme
from radscore.schemes.fields import real
from radscore.schemes.key import secret_int
from radscore.stats import BernoulliLaw, ExponentialLaw, SynthIDLaw


def mixed(x):
    """SplitMix64's finisher, elementwise on uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, kw_only=True, repr=False)
class Toy(PythonScheme):
    """Green where a hash of key and window is below a threshold."""

    name = "toy"
    description = "a toy green list of another package"
    notes = ("A toy: use it in tests only.",)
    algorithms: ClassVar = {"vllm": "toy"}

    context_width: int = 2
    gamma: float = 0.25
    key: int

    def _check(self):
        self._set("key", secret_int("key", self.key, 0, 2**64 - 1))
        self._set("gamma", real("gamma", self.gamma))
        if not 0 < self.gamma < 1:
            raise SchemeError(f"gamma must be above 0 and below 1, not {self.gamma}")

    def _decoy(self, draws):
        return {"key": draws.between(0, 2**64 - 1)}

    @property
    def share(self):
        return Fraction(int(self.gamma * 2**64), 2**64)

    @property
    def null_law(self):
        return BernoulliLaw(self.share)

    def hashes(self, rows):
        hashes = np.full(len(rows), self.key, dtype=np.uint64)
        for column in rows.T:
            hashes = mixed(hashes + column.astype(np.uint64) + np.uint64(1))
        return hashes

    def compute_scores(self, windows):
        return self.hashes(windows) < np.uint64(int(self.gamma * 2**64))

    @classmethod
    def from_vllm(cls, config, vocab_size):
        return cls(key=config["key"], vocab_size=vocab_size)


@dataclass(frozen=True, kw_only=True, repr=False)
class ToySums(Toy):
    """The same of the context's sum, so that many windows share a draw; keyless where it is 0."""

    name = "toy_sums"
    algorithms: ClassVar = {}
    seed_kind = "hash"

    def read(self, windows):
        sums = windows[:, :-1].sum(axis=1, dtype=np.uint64)
        return np.column_stack([sums, windows[:, -1].astype(np.uint64)])

    def compute_scores(self, windows):
        return super().compute_scores(self.read(windows))

    def compute_seeds(self, windows):
        return self.read(windows)[:, 0]

    def compute_units(self, windows):
        return self.read(windows)  # 128 bits: the sum, the target

    def compute_keyless(self, windows):
        return self.read(windows)[:, 0] == 0


@dataclass(frozen=True, kw_only=True, repr=False)
class ToyGumbel(Toy):
    """Gumbel-max by the same hash; contexts of the first tokens are padded, as vLLM's are."""

    name = "toy_gumbel"
    algorithms: ClassVar = {}
    score_kind = "real"
    padding = -1
    reaches_prompt = False

    @property
    def null_law(self):
        return ExponentialLaw()

    def uniforms_of(self, rows):
        return (self.hashes(rows) >> np.uint64(11)) * 2.0**-53

    def compute_scores(self, windows):
        return -np.log1p(-self.uniforms_of(windows))

    def compute_uniforms(self, contexts):
        n, vocab = len(contexts), self.vocab_size
        targets = np.tile(np.arange(vocab, dtype=np.uint32), n)
        windows = np.column_stack([np.repeat(contexts, vocab, axis=0), targets])
        return self.uniforms_of(windows).reshape(n, vocab)


@dataclass(frozen=True, kw_only=True, repr=False)
class ToyDepths(Toy):
    """Four bits of the same hash."""

    name = "toy_depths"
    algorithms: ClassVar = {}
    score_kind = "depths"
    share = Fraction(1, 2)
    weights = (0.25,) * 4

    @property
    def null_law(self):
        return SynthIDLaw(self.share, self.weights)

    def compute_scores(self, windows):
        bits = self.hashes(windows)[:, None] >> np.arange(4, dtype=np.uint64)
        return (bits & np.uint64(1)).astype(np.uint8)
