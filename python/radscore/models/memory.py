"""Running out of memory: how to tell, and how to clean up before trying a smaller batch."""

from __future__ import annotations

import gc

__all__ = ["out_of_memory", "release_memory"]

#: What torch's RuntimeErrors say on devices that have no error class of their own for it.
_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def release_memory() -> None:
    """Frees what a failed attempt held.

    Call it outside of the `except` block: the traceback keeps the attempt's tensors alive.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
