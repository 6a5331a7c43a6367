"""Pages and their assets: types, policy, caching, correct descriptions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.head_models import make_head_models

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
WEB = Path(__file__).parents[2] / "service" / "api" / "web" / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def assets_of(client: httpx.Client) -> list[str]:
    """Paths of every asset: those that pages name, and those that scripts import."""
    pages = [client.get(path, headers=HTML).text for path in ("/", "/docs")]
    waiting = set(re.findall(r'(?:href|src)="(assets/[^"]+)"', "".join(pages)))
    found: set[str] = set()
    while waiting - found:
        path = min(waiting - found)
        found.add(path)
        if path.endswith(".js") and "swagger" not in path:
            folder = path.rpartition("/")[0]
            names = re.findall(r'from "\./([^"]+)"', client.get(path).text)
            waiting |= {f"{folder}/{name}" for name in names}
    return sorted(found)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_allows_only_what_is_served_here(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\son\w+=", answer.text)
    again = client.get(path, headers={**HTML, "if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_assets_have_their_types_and_are_kept_for_good(client: httpx.Client) -> None:
    paths = assets_of(client)
    names = {Path(path).name for path in paths}
    own = {file.name for file in WEB.iterdir() if file.suffix in TYPES}
    assert own <= names, "a file that no page needs"
    assert {"swagger-ui-bundle.js", "swagger-ui.css"} <= names
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == TYPES[Path(path).suffix]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        plain = client.get(path, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content


def test_nothing_else_is_served(client: httpx.Client) -> None:
    folder = assets_of(client)[0].rpartition("/")[0]
    for path in (f"{folder}/playground.html", f"{folder}/..%2fapp.py", "assets/0/playground.js"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error_type"] == "Validation"


def test_own_files_name_no_other_host() -> None:
    for file in WEB.iterdir():
        hosts = set(re.findall(r"https?://([^/\"' ]+)", file.read_text()))
        assert hosts <= {"www.w3.org"}, f"{file.name}: {hosts}"  # SVG's namespace


def test_the_root_is_json_for_programs_and_still_embeds(client: httpx.Client) -> None:
    answer = client.get("/", headers={"accept": "*/*"})
    assert answer.json()["docs"] == "docs"
    for link in ("docs", "openapi", "info", "metrics"):
        assert client.get(answer.json()[link]).status_code == 200
    body = {"inputs": "a cat"}
    assert (
        client.post("/", json=body, headers=HTML).json() == client.post("/embed", json=body).json()
    )


def references(part: Any) -> set[str]:
    """Every reference in a document."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references, part.values()))
    return set().union(*map(references, part)) if isinstance(part, list) else set()


def test_every_reference_of_the_description_leads_somewhere(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_route_has_a_plain_name_in_its_place(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    order = [tag["name"] for tag in document["tags"]]
    operations = [
        (order.index(operation["tags"][0]), operation)
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert next(iter(document["paths"])) == "/embed"
    places = [
        min(order.index(operation["tags"][0]) for operation in methods.values())
        for methods in document["paths"].values()
    ]
    assert places == sorted(places), "routes are not in the order of their tags"
    names = [(place, operation["summary"]) for place, operation in operations]
    assert len(set(names)) == len(names)
    for _, operation in operations:
        assert len(operation["tags"]) == 1
        assert 3 <= len(operation["summary"].split()) <= 11
        assert operation["description"]


def test_every_example_of_the_description_is_answered(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    tried, client = 0, serve(model__others=make_head_models(tmp_path))
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if "requestBody" not in methods.get("post", {}) or path.startswith("/admin/"):
            continue
        schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
        path = path.format(model="osa-default", version="1")
        for example in document["components"]["schemas"][schema["$ref"].split("/")[-1]]["examples"]:
            answer = client.post(path, json=example)
            assert answer.status_code == 200, f"{path}: {json.dumps(example)}: {answer.text}"
            tried += 1
    assert tried >= 13
