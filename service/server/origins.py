"""Which web pages may use the server, and under which host names.

Browsers name the origin of the page that sends a request (``Origin``), and newer ones how it
relates to the server (``Sec-Fetch-Site``); neither can be set by a page. A page of another origin
may read nothing, and may have nothing computed or changed, unless ``server.cors_origins`` has it.
Other programs send neither header and are not concerned.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

from osa.service.errors import CrossOriginError, MisdirectedError
from osa.service.server_settings import ServerSettings

METHODS = b"GET, HEAD, POST, DELETE"
MAX_AGE_S = 7200
"""How long a browser may remember a preflight; browsers themselves limit it to this [s]."""
TOKENS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
MAX_REQUESTED = 1024
DEFAULT_PORTS = {"http": "80", "https": "443"}
SAFE = ("GET", "HEAD", "OPTIONS")
RawHeaders = Mapping[bytes, bytes]
Answer = list[tuple[bytes, bytes]]


class Origins:
    """Judges requests of web pages."""

    def __init__(self, settings: ServerSettings) -> None:
        """Take ``cors_origins`` and ``allowed_hosts``."""
        self._allowed = frozenset(_without_default_port(one) for one in settings.cors_origins)
        self._hosts = settings.allowed_hosts

    def check_host(self, headers: RawHeaders) -> None:
        """Refuse a host name that is not ours, as a page has it that lets its name point here.

        Addresses are always ours: such a page has a name. So is localhost.

        Raises:
            MisdirectedError: Naming the setting.
        """
        if not self._hosts:
            return
        name = _host_alone(headers.get(b"host", b"").decode("latin-1").lower())
        if not name or name == "localhost" or _is_address(name):
            return
        for allowed in self._hosts:
            if name == allowed or (allowed[0] == "*" and name.endswith(allowed[1:])):
                return
        raise MisdirectedError(f"{name[:100]!r} is not one of server.allowed_hosts")

    def judge(self, method: str, headers: RawHeaders) -> Answer:
        """What the answer to a request must say for a page to read it.

        Args:
            method: Of the request.
            headers: Of the request, names in lower case.

        Returns:
            Headers; none where the page may read the answer anyway, or may not.

        Raises:
            CrossOriginError: The page may not send this.
        """
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and "*" in self._allowed:
            return [(b"access-control-allow-origin", b"*"), *EXPOSED]
        if origin and _without_default_port(origin) in self._allowed:
            return [(b"access-control-allow-origin", headers[b"origin"]), *EXPOSED, VARY]
        site = headers.get(b"sec-fetch-site", b"")
        foreign = site not in (b"same-origin", b"none") if site else bool(origin)
        if foreign and method not in SAFE and not (origin and _is_own(origin, headers)):
            raise CrossOriginError(_refusal(origin))
        return [VARY] if self._allowed else []

    def preflight(self, headers: RawHeaders) -> Answer:
        """The answer to a browser that asks whether a page may send a request.

        Raises:
            CrossOriginError: It may not.
        """
        answer = self.judge("OPTIONS", headers)
        if not any(name == b"access-control-allow-origin" for name, _ in answer):
            origin = headers.get(b"origin", b"").decode("latin-1").lower()
            if not _is_own(origin, headers):
                raise CrossOriginError(_refusal(origin))
        answer = [header for header in answer if header not in EXPOSED]
        answer.append((b"access-control-allow-methods", METHODS))
        requested = headers.get(b"access-control-request-headers", b"").strip()
        if len(requested) <= MAX_REQUESTED and TOKENS.fullmatch(requested):
            answer.append((b"access-control-allow-headers", requested))
        if headers.get(b"access-control-request-private-network") == b"true":
            answer.append((b"access-control-allow-private-network", b"true"))
        return [*answer, (b"access-control-max-age", b"%d" % MAX_AGE_S)]


EXPOSED: Sequence[tuple[bytes, bytes]] = ((b"access-control-expose-headers", b"*"),)
VARY = (b"vary", b"Origin")


def is_preflight(method: str, headers: RawHeaders) -> bool:
    """Whether a browser asks what a page may send."""
    return (
        method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers
    )


def _is_own(origin: str, headers: RawHeaders) -> bool:
    """Whether a page is the server's own, whatever the proxy before it does to the scheme."""
    scheme, _, authority = origin.partition("://")
    if not authority:
        return False
    own = _bare(authority, scheme)
    for name in (b"host", b"x-forwarded-host"):  # no page of another site can set either
        given = headers.get(name, b"").decode("latin-1").lower().partition(",")[0].strip()
        if given and _bare(given, scheme) == own:
            return True
    return False


def _bare(authority: str, scheme: str) -> str:
    port = DEFAULT_PORTS.get(scheme, "")
    return authority.removesuffix(f":{port}")


def _without_default_port(origin: str) -> str:
    scheme, separator, authority = origin.partition("://")
    return f"{scheme}{separator}{_bare(authority, scheme)}" if separator else origin


def _host_alone(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0][1:]
    return authority.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(origin: str) -> str:
    page = f"a web page of {origin[:100]!r}" if origin else "a web page of another site"
    return f"{page} may not use this server: server.cors_origins does not have it"
