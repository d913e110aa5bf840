"""Which instruction set scores are computed with. Every one gives the same numbers."""

from __future__ import annotations

from radscore import _core

__all__ = ["available_kernels", "kernel", "set_kernel"]


def kernel() -> str:
    """The kernel in force: the fastest that the processor runs, unless another was asked for.

    Returns
    -------
    str
        ``"scalar"``, ``"avx2"`` or ``"avx512"``.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.kernel() in rs.available_kernels()
    True
    """
    return _core.kernel()


def available_kernels() -> tuple[str, ...]:
    """The kernels that this processor runs, slowest first.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.available_kernels()[0]
    'scalar'
    """
    return tuple(_core.available_kernels())


def set_kernel(name: str) -> None:
    """Forces a kernel for the whole process: to compare speeds, or to rule a kernel out.

    The environment variable ``RADSCORE_KERNEL`` does the same from the start.

    Parameters
    ----------
    name : str
        ``"scalar"``, ``"avx2"``, ``"avx512"``, or ``"auto"`` for the fastest.

    Raises
    ------
    ArgumentError
        If there is no such kernel, or the processor does not run it.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.set_kernel("scalar")
    >>> rs.kernel()
    'scalar'
    >>> rs.set_kernel("auto")
    """
    _core.set_kernel(name)
