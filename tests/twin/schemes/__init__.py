"""Every scheme of the package, written to be read: what a window's unit and score are.

A *window* is a tuple of token ids, oldest first, the target last. The *unit* is what the scheme's
random function reads of it. A score is 0 or 1 (green), a float (Gumbel) or a tuple of g-values,
one bit a depth. Each file registers its twins in `tests.twin.schemes.families`.
"""

from tests.twin.schemes.base import PADDING, Gumbel, Scheme, Score, Window
from tests.twin.schemes.gumbel import GumbelMax
from tests.twin.schemes.keyed import Keyed
from tests.twin.schemes.kgw import HFKGW, AuthorsKGW, LmWatermarking, PermutationGreen
from tests.twin.schemes.sbw import SBW
from tests.twin.schemes.sglang import SGLangGumbel, sglang_coin
from tests.twin.schemes.synthid import SynthID, SynthIDDeepMind
from tests.twin.schemes.textseal import TextSeal
from tests.twin.schemes.vllm import VLLMDualKeyGumbel, VLLMGumbel, vllm_uniform

__all__ = [
    "HFKGW",
    "PADDING",
    "SBW",
    "AuthorsKGW",
    "Gumbel",
    "GumbelMax",
    "Keyed",
    "LmWatermarking",
    "PermutationGreen",
    "SGLangGumbel",
    "Scheme",
    "Score",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "Window",
    "sglang_coin",
    "vllm_uniform",
]
