"""Keyed schemes: every watermark that radscore reads, and the keys that they are read with.

One frozen dataclass a scheme, with the parameters that its tool has, and constructors from the
tools' own configurations. Defaults live here and nowhere else. The compiled part of a scheme is
its attribute `core`.
"""

from __future__ import annotations

from radscore.schemes.base import Scheme
from radscore.schemes.configs import (
    SCHEMES,
    from_dict,
    from_sglang_config,
    from_synthid_text_config,
    from_toml,
    from_vllm_config,
)
from radscore.schemes.hashed import SBW, Keyed, TextSeal
from radscore.schemes.key import Key
from radscore.schemes.permutation import KGW, GumbelMax
from radscore.schemes.serving import SGLangGumbel, VLLMDualKeyGumbel, VLLMGumbel
from radscore.schemes.synthid import SynthID, SynthIDDeepMind

__all__ = [
    "KGW",
    "SBW",
    "SCHEMES",
    "GumbelMax",
    "Key",
    "Keyed",
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
]
