"""Which instruction set computes scores; all of them give the same numbers."""

from __future__ import annotations

from radscore import _core

__all__ = ["available_kernels", "kernel", "set_kernel"]


def kernel() -> str:
    """The kernel in use: the fastest that the processor supports, unless another was set.

    Returns
    -------
    str
        ``"scalar"``, ``"avx2"`` or ``"avx512"``.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.kernels.kernel() in rs.kernels.available_kernels()
    True
    """
    return _core.kernel()


def available_kernels() -> tuple[str, ...]:
    """The kernels that this processor supports, slowest first.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.kernels.available_kernels()[0]
    'scalar'
    """
    return tuple(_core.available_kernels())


def set_kernel(name: str) -> None:
    """Sets the kernel of the whole process, to compare speeds or to rule a kernel out.

    The environment variable ``RADSCORE_KERNEL`` does the same from the start.

    Parameters
    ----------
    name : str
        ``"scalar"``, ``"avx2"``, ``"avx512"``, or ``"auto"`` for the fastest.

    Raises
    ------
    ArgumentError
        If there is no such kernel, or the processor does not support it.

    Examples
    --------
    >>> import radscore as rs
    >>> rs.kernels.set_kernel("scalar")
    >>> rs.kernels.kernel()
    'scalar'
    >>> rs.kernels.set_kernel("auto")
    """
    _core.set_kernel(name)
