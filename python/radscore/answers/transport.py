"""The HTTP client below the openai library: one request sends one request, and reads so much."""

from __future__ import annotations

import zlib
from typing import Any

from radscore.answers.replies import Failure

__all__ = ["bounded_client"]

#: Most bytes of an answer, packed or not; and of an error, of which the beginning does.
MOST_BYTES, _MOST_OF_ERROR = 1 << 24, 1 << 16
#: Headers that describe a body as it was sent.
_OF_BODY = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding"})
#: zlib's sizes of a window: gzip; deflate with a header, as it should be; and without.
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


def bounded_client() -> Any:
    """A client that follows no redirect, keeps no cookie and reads a bounded number of bytes.

    Its responses are read to the end, and hold UTF-8, whatever their headers said.
    """
    import openai

    class Client(openai.DefaultAsyncHttpxClient):
        """See `bounded_client`."""

        async def send(self, request: Any, **options: Any) -> Any:
            """Sends one request, and reads the response."""
            options |= {"stream": True, "follow_redirects": False}
            response = await super().send(request, **options)
            try:
                body = await _body(response)
            finally:
                await response.aclose()
                self.cookies.clear()
            headers = [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in _OF_BODY
            ]
            return type(response)(
                response.status_code, headers=headers, content=body, request=request
            )

    return Client(follow_redirects=False, headers={"Accept-Encoding": "gzip, deflate"})


async def _body(response: Any) -> bytes:
    good = 200 <= response.status_code < 300
    most = MOST_BYTES if good else _MOST_OF_ERROR
    packed = bytearray()
    async for chunk in response.aiter_raw():
        packed += chunk
        if len(packed) > most:
            if good:
                raise _too_long()
            break
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing in ("", "identity") or not packed:
        return bytes(packed[:most])
    windows = _WINDOWS.get(packing)
    if windows is None:
        if not good:
            return b""
        raise Failure(
            f"the answer is packed by {packing[:40]!r}, though gzip or deflate was asked for",
            "skip",
            sent=True,
        )
    try:
        body, whole = _unpacked(bytes(packed), windows, most)
    except zlib.error as error:
        if not good:
            return b""
        raise Failure(f"the answer's {packing} is damaged ({error})", sent=True) from None
    if good and len(body) > most:
        raise _too_long()
    if good and not whole:
        raise Failure(f"the answer's {packing} is cut off", sent=True)
    return body[:most]


def _too_long() -> Failure:
    return Failure(f"an answer of more than {MOST_BYTES >> 20} MiB", "skip", sent=True)


def _unpacked(packed: bytes, windows: tuple[int, ...], most: int) -> tuple[bytes, bool]:
    """Up to one byte more than `most`, and whether that was all."""
    unpacker = zlib.decompressobj(windows[0])
    try:
        body = unpacker.decompress(packed, most + 1)
    except zlib.error:
        if not windows[1:]:
            raise
        return _unpacked(packed, windows[1:], most)
    return body, unpacker.eof and not unpacker.unused_data
