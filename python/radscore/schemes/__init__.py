"""Keyed schemes: every watermark that radscore reads, and the keys that they are read with.

One frozen dataclass per scheme, with the parameters that its tool has, and constructors from the
tools' own configurations. Defaults live here and nowhere else. The compiled part of a scheme is
its attribute `core`. Other packages add theirs: see `PythonScheme` and `radscore.schemes.registry`.
"""

from __future__ import annotations

from radscore.schemes.base import Scheme
from radscore.schemes.configs import (
    from_dict,
    from_sglang_config,
    from_synthid_text_config,
    from_toml,
    from_vllm_config,
)
from radscore.schemes.draws import Draws
from radscore.schemes.gumbel import GumbelMax
from radscore.schemes.key import Key
from radscore.schemes.keyed import Keyed
from radscore.schemes.kgw import KGW
from radscore.schemes.python import PythonScheme
from radscore.schemes.registry import SCHEMES, register_scheme
from radscore.schemes.sbw import SBW
from radscore.schemes.secrecy import with_key, without_keys
from radscore.schemes.sglang import SGLangGumbel
from radscore.schemes.synthid import SynthID, SynthIDDeepMind
from radscore.schemes.textseal import TextSeal
from radscore.schemes.vllm import VLLMDualKeyGumbel, VLLMGumbel

__all__ = [
    "KGW",
    "SBW",
    "SCHEMES",
    "Draws",
    "GumbelMax",
    "Key",
    "Keyed",
    "PythonScheme",
    "SGLangGumbel",
    "Scheme",
    "SynthID",
    "SynthIDDeepMind",
    "TextSeal",
    "VLLMDualKeyGumbel",
    "VLLMGumbel",
    "from_dict",
    "from_sglang_config",
    "from_synthid_text_config",
    "from_toml",
    "from_vllm_config",
    "register_scheme",
    "with_key",
    "without_keys",
]
