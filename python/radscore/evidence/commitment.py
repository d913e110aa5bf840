"""A commitment to a scheme and its key: it shows nothing, and can be opened in one way only.

``SHA-256("radscore commitment 1" || nonce || fingerprint)``, where the nonce is 32 random bytes and
the fingerprint the SHA-256 of the scheme's name, parameters and key (`Scheme.fingerprint`). The
nonce keeps a key of little entropy from being guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from radscore.errors import ArgumentError

if TYPE_CHECKING:
    from radscore.schemes import Scheme

__all__ = ["commit", "new_nonce", "opens"]

_TAG = b"radscore commitment 1"


def new_nonce() -> str:
    """32 random bytes from the operating system, 64 hexadecimal digits."""
    return secrets.token_hex(32)


def commit(scheme: Scheme, nonce: str) -> str:
    """The commitment, 64 hexadecimal digits.

    Raises
    ------
    ArgumentError
        If the nonce is not one of 32 bytes.
    """
    try:
        salt = bytes.fromhex(nonce)
    except (ValueError, TypeError):
        salt = b""
    if len(salt) != 32:
        raise ArgumentError("nonce must be 64 hexadecimal digits")
    return hashlib.sha256(_TAG + salt + bytes.fromhex(scheme.fingerprint)).hexdigest()


def opens(commitment: str, scheme: Scheme, nonce: str) -> bool:
    """Whether scheme and nonce are those that were committed to."""
    return hmac.compare_digest(commit(scheme, nonce), commitment)
