"""Which requests need an API key, and where a request carries it."""

from __future__ import annotations

from collections.abc import Mapping

OPEN = frozenset(
    ("/", "/health", "/ping", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs",
     "/api-doc/openapi.json",
     "/v2/health/live", "/v2/health/ready")
)  # fmt: skip
OPEN_BELOW = ("/assets/",)


def secret_of(headers: Mapping[str, str]) -> str | None:
    """The key in a request's headers (lower-case names), or None.

    It is a bearer token, or the value of ``x-api-key`` or ``api-key``.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("api-key") or None


def is_open(method: str, path: str) -> bool:
    """Whether a request needs no key: probes, metrics, and pages that tell nothing of a model.

    Reading alone is open: ``POST /`` embeds, and ``GET /`` is a page.
    """
    return method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_BELOW))
