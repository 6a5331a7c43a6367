"""Compressed bodies of requests: gzip and deflate, within the limit of a body."""

from __future__ import annotations

import zlib

from osa.service.errors import (
    CODINGS,
    ContentCodingError,
    MalformedBodyError,
    PayloadTooLargeError,
)

STEP = 65_536
MAX_MEMBERS = 1024
"""gzip files may be put one behind another; each costs a decompressor."""


def coding_of(header: bytes | None) -> str | None:
    """The content coding of a body; None where it is not compressed.

    Raises:
        ContentCodingError: One that is not read, or several.
    """
    coding = (header or b"").decode("latin-1").lower()
    parts = (part.strip() for part in coding.split(","))
    coding = ", ".join(part for part in parts if part not in ("", "identity"))
    if not coding:
        return None
    coding = coding.removeprefix("x-") if coding == "x-gzip" else coding
    if coding not in CODINGS:
        raise ContentCodingError(
            f"content coding must be one of {', '.join(CODINGS)}, or none; got {coding[:64]!r}"
        )
    return coding


def decode(body: bytes, coding: str, limit: int) -> bytes:
    """Decompress a body.

    Args:
        body: As it came.
        coding: One of ``CODINGS``.
        limit: Most bytes of the result; no more are made.

    Raises:
        PayloadTooLargeError: The result is larger.
        MalformedBodyError: The body is not in this coding, ends early, or does not end.
    """
    window = zlib.MAX_WBITS | (16 if coding == "gzip" else 0)
    view, place, members = memoryview(body), 0, 0
    result = bytearray()
    while place < len(body) or not members:
        members += 1
        if members > 1 and (coding != "gzip" or members > MAX_MEMBERS):
            raise MalformedBodyError(f"bytes follow the end of the {coding} body")
        decompressor = zlib.decompressobj(window)
        pending: bytes | memoryview = b""
        while not decompressor.eof:
            if not pending:
                pending = view[place : place + STEP]
                place += len(pending)
            if not pending:
                raise MalformedBodyError(f"the {coding} body ends early")
            try:
                result += decompressor.decompress(pending, limit - len(result) + 1)
            except zlib.error:
                raise MalformedBodyError(f"the body is not valid {coding}") from None
            if len(result) > limit:
                raise PayloadTooLargeError(
                    f"the decompressed body is over the limit of {limit} bytes"
                )
            pending = decompressor.unconsumed_tail
        place -= len(decompressor.unused_data)
    return bytes(result)
