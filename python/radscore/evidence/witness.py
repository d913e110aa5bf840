"""Who committed to a plan, and when: Ed25519 signatures and RFC 3161 time stamps; and sealed keys.

Signed and stamped is ``radscore audit plan`` and, on the next line, the plan's SHA-256 in
hexadecimal digits.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radscore.errors import ArgumentError, StateError, line_of
from radscore.extras import need

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["seal", "sign", "signature_holds", "stamp", "stamped_at", "unseal"]

_MOST_BYTES: Final = 1 << 20
_SEALING: Final = b"radscore sealed key 1"


def _message(plan: str) -> bytes:
    return f"radscore audit plan\n{plan}\n".encode()


def sign(plan: str, path: str | os.PathLike[str]) -> dict[str, str]:
    """A signature of a plan's hash, by the Ed25519 private key in a PEM file.

    Raises
    ------
    ArgumentError
        If the file holds no such key, or one that is encrypted.
    """
    need("cryptography", what="signing")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ArgumentError(f"{os.fspath(path)}: not an Ed25519 private key")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"public_key": public.hex(), "signature": key.sign(_message(plan)).hex()}


def signature_holds(plan: str, public_key: str, signature: str) -> bool:
    """Whether a signature is that of a plan's hash."""
    need("cryptography", what="checking a signature")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), _message(plan))
    except (InvalidSignature, ValueError):
        return False
    return True


def stamp(plan: str, url: str, *, timeout: float = 30.0) -> dict[str, str]:
    """A time stamp of a plan's hash from an authority; only the hash's hash is sent.

    Raises
    ------
    StateError
        If the authority does not answer, or refuses.
    """
    need("rfc3161_client", what="a time stamp")
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response

    if not url.startswith(("http://", "https://")):
        raise ArgumentError(f"timestamp must be the http(s) address of an authority, not {url!r}")
    asked = TimestampRequestBuilder(_message(plan), HashAlgorithm.SHA256).build()
    request = urllib.request.Request(  # noqa: S310 - checked above
        url, asked.as_bytes(), {"Content-Type": "application/timestamp-query"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:  # noqa: S310
            data = reply.read(_MOST_BYTES)
        found = decode_timestamp_response(data)
        time = found.tst_info.gen_time.isoformat()
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise StateError(f"the time-stamp authority {url}: {line_of(error)}") from None
    return {"authority": url, "says": time, "token": base64.b64encode(data).decode()}


def stamped_at(plan: str, token: str, roots: str | os.PathLike[str] | None) -> datetime:
    """When a plan's hash was stamped; the authority is checked if its root certificates are given.

    Parameters
    ----------
    plan, token : str
        The hash, and the stamp as the log has it.
    roots : path, optional
        PEM file of root certificates that are trusted.

    Raises
    ------
    StateError
        If it is no stamp of this hash, or not by an authority under these roots.
    """
    need("rfc3161_client", what="checking a time stamp")
    import hashlib

    from cryptography.x509 import load_pem_x509_certificates
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        found = decode_timestamp_response(base64.b64decode(token, validate=True))
        info = found.tst_info
        digest = hashlib.sha256(_message(plan)).digest()
        if info.message_imprint.message != digest:
            raise StateError("the time stamp is that of another hash")
        if roots is not None:
            verifier = VerifierBuilder()
            for one in load_pem_x509_certificates(Path(roots).read_bytes()):
                verifier = verifier.add_root_certificate(one)
            verifier.build().verify_message(found, _message(plan))
    except (ValueError, OSError, VerificationError) as error:
        raise StateError(f"the time stamp does not hold: {line_of(error)}") from None
    return info.gen_time


def seal(opening: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, str]:
    """Encrypts an opening for the holder of an X25519 key, whose public half is in a PEM file.

    X25519 with a fresh key, HKDF-SHA-256 and ChaCha20-Poly1305.

    Raises
    ------
    ArgumentError
        If the file holds no such key.
    """
    need("cryptography", what="sealing")
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    try:
        theirs = load_pem_public_key(Path(path).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ArgumentError(f"{os.fspath(path)}: not a public key: {line_of(error)}") from None
    if not isinstance(theirs, X25519PublicKey):
        raise ArgumentError(f"{os.fspath(path)}: not an X25519 public key")
    mine = X25519PrivateKey.generate()
    public = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    whose = theirs.public_bytes(Encoding.Raw, PublicFormat.Raw)
    key = _derived(mine.exchange(theirs), public + whose)
    # each key encrypts once, so the nonce may be constant
    data = ChaCha20Poly1305(key).encrypt(bytes(12), json.dumps(opening).encode(), public + whose)
    return {"for": whose.hex(), "sender": public.hex(), "data": base64.b64encode(data).decode()}


def unseal(sealed: dict[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    """What was sealed for the X25519 private key in a PEM file.

    Raises
    ------
    ArgumentError
        If the file holds no such key.
    StateError
        If it was sealed for another one, or was changed.
    """
    need("cryptography", what="unsealing")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    mine = _private(path)
    if not isinstance(mine, X25519PrivateKey):
        raise ArgumentError(f"{os.fspath(path)}: not an X25519 private key")
    try:
        public, whose = bytes.fromhex(sealed["sender"]), bytes.fromhex(sealed["for"])
        data = base64.b64decode(sealed["data"], validate=True)
        key = _derived(mine.exchange(X25519PublicKey.from_public_bytes(public)), public + whose)
        text = ChaCha20Poly1305(key).decrypt(bytes(12), data, public + whose)
        found: dict[str, Any] = json.loads(text)
    except (InvalidTag, ValueError, KeyError, TypeError):
        raise StateError("the key was sealed for another private key, or was changed") from None
    return found


def _derived(secret: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=_SEALING, info=info).derive(secret)


def _private(path: str | os.PathLike[str]) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(Path(path).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        message = "it is encrypted" if isinstance(error, TypeError) else line_of(error)
        raise ArgumentError(f"{os.fspath(path)}: not a private key: {message}") from None
