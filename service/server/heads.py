"""What a server must refuse in the head of a request (RFC 9112), beyond what llhttp refuses.

Pure functions of what was parsed. Every refusal is a ``ServiceError`` with its status.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

import httptools

from osa.service.errors import (
    HeadTooLargeError,
    HttpVersionError,
    MalformedBodyError,
    ServiceError,
    TargetTooLongError,
    UnknownMethodError,
)

MAX_HEAD = 65_536
"""Most bytes of a request line with headers, of a chunk's extension, or of a trailer."""
MAX_HEADERS = 256
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
ABSOLUTE = re.compile(rb"(?i)https?://([^/?]+)([^?]*)(?:\?(.*))?")
SLASHES = re.compile(rb"//+")
REQUEST_LINE = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]+ +[^ \r\n]+ +HTTP/1\.[01]\r\n")
HTTP2 = re.compile(rb"PRI \* HTTP/2")
NO_HTTP = "the request is not valid HTTP"
Headers = list[tuple[bytes, bytes]]


class Target(NamedTuple):
    """A request target.

    Attributes:
        path: Without the prefix of a proxy and without empty segments; decoded.
        raw_path: The same, as it came.
        query: What follows the question mark.
    """

    path: str
    raw_path: bytes
    query: bytes


def check_size(target: bytes, headers: Headers) -> None:
    """Refuse a head over the limits, however it arrived.

    Raises:
        TargetTooLongError: The target alone is.
        HeadTooLargeError: The head is, in bytes or in headers.
    """
    if len(target) > MAX_HEAD:
        raise TargetTooLongError(f"the request target is over the limit of {MAX_HEAD} bytes")
    size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > MAX_HEAD:
        raise head_too_large()
    if len(headers) > MAX_HEADERS:
        raise HeadTooLargeError(f"{len(headers)} headers, at most {MAX_HEADERS} are read")


def head_too_large() -> ServiceError:
    """The refusal of a head without end."""
    return HeadTooLargeError(f"the head is over the limit of {MAX_HEAD} bytes")


def check_protocol(head: bytes, method: bytes, target: bytes) -> None:
    """Refuse the other protocols that llhttp reads.

    Args:
        head: What was read of the head, and perhaps of requests before and after it.
        method: Of the request.
        target: As it came.

    Raises:
        MalformedBodyError: It is RTSP or ICE.
    """
    if b" RTSP/" in head or b" ICE/" in head:
        line = rb"(?:\A|\n)%b +%b +(?:RTSP|ICE)/[0-9]" % (re.escape(method), re.escape(target))
        if re.search(line, head):
            raise MalformedBodyError(NO_HTTP)


def check_head(version: str, headers: Headers) -> bool:
    """Refuse heads that RFC 9112 forbids to serve.

    Args:
        version: Of HTTP.
        headers: Names in lower case.

    Returns:
        Whether the client waits for ``100 Continue``.

    Raises:
        HttpVersionError: Neither 1.1 nor 1.0.
        MalformedBodyError: Framing that is ambiguous, or another number of hosts than one.
        UnknownMethodError: A transfer coding before chunked.
    """
    if version not in ("1.1", "1.0"):
        if version == "0.9":
            raise MalformedBodyError(f"{NO_HTTP}: the request line has no version")
        raise other_version()
    hosts, expects = 0, False
    codings: list[bytes] | None = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not HOST.fullmatch(value.strip(b" \t")):
                raise MalformedBodyError(f"{NO_HTTP}: the Host header holds no host")
        elif name == b"transfer-encoding":
            if version == "1.0":
                raise MalformedBodyError(f"{NO_HTTP}: HTTP/1.0 has no Transfer-Encoding")
            found = (one.strip(b" \t") for one in value.lower().split(b","))
            codings = [*(codings or ()), *filter(None, found)]  # empty ones are no codings
        elif name == b"expect" and value.lower() == b"100-continue":
            expects = version == "1.1"
    if codings is not None:
        if codings[-1:] != [b"chunked"]:
            raise MalformedBodyError(f"{NO_HTTP}: the last transfer coding must be chunked")
        if len(codings) > 1:
            raise UnknownMethodError("the only transfer coding that is read is chunked")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise MalformedBodyError(f"{NO_HTTP}: it needs one Host header, got {hosts}")
    return expects


def read_target(method: str, target: bytes, root_path: bytes, headers: Headers) -> Target:
    """Read a target in origin form, absolute form, or, for OPTIONS, asterisk form.

    Args:
        method: Of the request.
        target: As it came.
        root_path: What a proxy may have left in front of the path.
        headers: The host of an absolute form takes the place of the one in them (RFC 9112, 3.2.2).

    Raises:
        MalformedBodyError: Another form.
    """
    if b"#" in target:
        raise MalformedBodyError(f"{NO_HTTP}: a request target has no fragment")
    if target[:1] == b"/":
        raw, _, query = target.partition(b"?")
    elif target == b"*" and method == "OPTIONS":
        return Target("*", b"*", b"")
    else:
        found = ABSOLUTE.fullmatch(target)
        if found is None or not HOST.fullmatch(found[1]) or found[1][:1] == b":":
            raise MalformedBodyError(f"{NO_HTTP}: the target must begin with / or http://HOST")
        raw, query = found[2] or b"/", found[3] or b""
        headers[:] = [(name, found[1] if name == b"host" else value) for name, value in headers]
    if b"//" in raw:
        raw = SLASHES.sub(b"/", raw)
    if root_path and (raw == root_path or raw.startswith(root_path + b"/")):
        raw = raw[len(root_path) :] or b"/"
    path = raw.decode("ascii")  # llhttp lets nothing else through
    return Target(urllib.parse.unquote(path) if "%" in path else path, raw, query)


def other_version() -> ServiceError:
    """The refusal of a version of HTTP."""
    return HttpVersionError("this server speaks HTTP/1.1: put a proxy in front for others")


def refusal_of(error: httptools.HttpParserError, data: bytes) -> ServiceError:
    """What to answer to bytes that the parser does not take.

    Args:
        error: The parser's; where a callback refused, that error is in its context.
        data: What it was given.
    """
    cause = error.__context__
    if isinstance(cause, ServiceError):
        return cause
    if "HTTP version" in str(error) or HTTP2.match(data):
        return other_version()
    invalid_method = isinstance(error, httptools.HttpParserInvalidMethodError)
    if invalid_method and REQUEST_LINE.match(data):
        return UnknownMethodError("a method that is not known here; names are in capitals")
    return MalformedBodyError(NO_HTTP)
