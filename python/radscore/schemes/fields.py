"""Checks of a scheme's public parameters, and of the token ids that it is given."""

from __future__ import annotations

import math
import operator

import numpy as np
import numpy.typing as npt

from radscore.errors import SchemeError, TokenError, near, shown

__all__ = ["MAX_CONTEXT_WIDTH", "choice", "flag", "real", "token_rows", "whole"]

#: Most tokens that a context can have.
MAX_CONTEXT_WIDTH = 64


def whole(name: str, value: object, low: int, high: int) -> int:
    """A public integer within its range."""
    if isinstance(value, (bool, np.bool_)):
        raise SchemeError(f"{name} must be an integer, not {shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise SchemeError(f"{name} must be an integer, not {shown(value)}") from None
    if not low <= number <= high:
        raise SchemeError(f"{name} must be from {low} to {high}, not {shown(number)}")
    return number


def real(name: str, value: object) -> float:
    """A public number; the core checks its range."""
    if isinstance(value, (bool, str, bytes)):
        raise SchemeError(f"{name} must be a number, not {shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise SchemeError(f"{name} must be a number, not {shown(value)}") from None
    if math.isnan(number):
        raise SchemeError(f"{name} must be a number, not nan")
    return number


def flag(name: str, value: object) -> bool:
    """A public switch."""
    if not isinstance(value, (bool, np.bool_)):
        raise SchemeError(f"{name} must be true or false, not {shown(value)}")
    return bool(value)


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in allowed:
        raise SchemeError(
            f"{name} must be one of {', '.join(allowed)}, not {shown(value)}{near(value, allowed)}"
        )
    return str(value)


def token_rows(
    name: str, value: object, width: int
) -> npt.NDArray[np.uint32] | npt.NDArray[np.int64]:
    """Rows of `width` token ids in one of the two forms that the core takes."""
    if type(value).__module__.partition(".")[0] == "torch":
        if value.device.type != "cpu":  # type: ignore[attr-defined]
            raise TokenError(f"{name} must be on the CPU; move the tensor with .cpu() first")
        value = value.detach().numpy()  # type: ignore[attr-defined]
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, TypeError) as error:
        raise TokenError(f"{name} must be a two-dimensional array of token ids: {error}") from None
    if array.ndim == 1 and array.size == 0:
        return np.empty((0, width), dtype=np.int64)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise TokenError(
            f"{name} must be a two-dimensional array of integers, not {array.ndim}-D {array.dtype}"
        )
    if array.dtype == np.dtype(np.uint32):
        return array
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise TokenError(f"{name} holds the token id {int(array.max())}, outside any vocabulary")
    return array.astype(np.int64, copy=False)
