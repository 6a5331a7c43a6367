"""Web pages: the playground at ``GET /`` and the API's documentation at ``GET /docs``.

Everything they need is served here, so they work without internet, and their policy lets a browser
run and fetch nothing else. Assets have the hash of all of them in their path and are cached for
good; pages are asked for again by ETag. The viewer of ``/openapi.json`` is Swagger UI, whose files
the package fastapi-offline carries.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OWN_BASE = ("base-uri 'none'", "base-uri 'self'")
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
SECURITY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
FOREVER, ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
STATIC = files("osa.service.api.web") / "static"
MARK, BASE = "{assets}", "{base}"
"""Placeholders in a page: the path of its assets; where its links begin, behind a proxy."""

ROOT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "Links; a page"},
    304: {"description": "The browser has the page"},
}


class Links(BaseModel):
    """Links for clients that do not accept HTML."""

    name: str
    version: str
    docs: str
    openapi: str
    info: str
    metrics: str


def page_routes(root_path: str = "") -> APIRouter:
    """Routes of pages and their assets, and the links at the root.

    Links are relative. The playground's begin at ``root_path``, if there is one: its own path has
    no slash at the end then.
    """
    router = APIRouter(tags=["Operations"])

    @router.get(
        "/", summary="Links; for browsers the playground", response_model=Links,
        responses=ROOT_ANSWERS,
    )  # fmt: skip
    def root(request: Request) -> Response:
        """The playground for browsers; links for other clients."""
        if "text/html" in request.headers.get("accept", ""):
            return _page("playground.html", request, root_path)
        begin = f"{root_path}/" if root_path else ""
        names = {"docs": "docs", "openapi": "openapi.json", "info": "info", "metrics": "metrics"}
        links = {name: begin + path for name, path in names.items()}
        content = {"name": "osa-encoder", "version": version("osa-encoder"), **links}
        return JSONResponse(content, headers={"vary": "accept"})

    @router.get("/docs", include_in_schema=False)
    def docs(request: Request) -> Response:
        """Every route, with a form to try it."""
        return _page("docs.html", request)

    @router.get("/assets/{digest}/{name}", include_in_schema=False)
    def asset(digest: str, name: str, request: Request) -> Response:
        """A file that a page needs."""
        if digest != _digest() or name not in _assets():
            raise HTTPException(404)
        return _respond(name, _content(name), request, {"cache-control": FOREVER})

    return router


@functools.cache
def _assets() -> dict[str, Traversable]:
    """Every file that is served, by name."""
    own = [file for file in STATIC.iterdir() if file.name[0] != "."]
    viewer = files("fastapi_offline") / "static"
    swagger = [viewer / "swagger-ui-bundle.js", viewer / "swagger-ui.css"]
    return {
        file.name: file for file in (*own, *swagger) if file.name.endswith((".js", ".css", ".svg"))
    }


@functools.cache
def _content(name: str) -> bytes:
    """An asset; all of its answers share it."""
    return _assets()[name].read_bytes()


@functools.cache
def _digest() -> str:
    """Identity of all assets together."""
    total = hashlib.sha256()
    for name, file in sorted(_assets().items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


@functools.cache
def _html(name: str, root_path: str) -> bytes:
    text = (STATIC / name).read_text(encoding="utf-8")
    base = f'<base href="{root_path}/">\n' if root_path else ""
    return text.replace(BASE, base).replace(MARK, f"assets/{_digest()}").encode()


def _page(name: str, request: Request, root_path: str = "") -> Response:
    """A page, or 304 where the browser has it."""
    content = _html(name, root_path)
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {
        "cache-control": ASK_AGAIN,
        "content-security-policy": POLICY if not root_path else POLICY.replace(*OWN_BASE),
        "etag": tag,
        "vary": "accept, accept-encoding",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return _respond(name, content, request, headers)


def _respond(name: str, content: bytes, request: Request, headers: dict[str, str]) -> Response:
    headers = {"vary": "accept-encoding", **SECURITY, **headers}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        content = _compress(content)
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(content, headers=headers, media_type=media_type)


@functools.lru_cache(maxsize=64)
def _compress(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
