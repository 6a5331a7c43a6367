"""Behind a proxy that shows the server under a path, and removes it or not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from tests.conftest import local_settings

Serve = Callable[..., httpx.Client]
HTML = {"accept": "text/html"}
PREFIX = "/team/embeddings"


@pytest.fixture
def start(serve: Serve, tiny_checkpoint: Path) -> Callable[..., httpx.Client]:
    def run(**settings: object) -> httpx.Client:
        return serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256,
                     server__root_path=f"{PREFIX}/", **settings)  # fmt: skip

    return run


def whole(client: httpx.Client, path: str) -> str:
    """The URL of a path; a client would take what follows two slashes for a host."""
    return f"http://{client.base_url.host}:{client.base_url.port}{path}"


def test_routes_are_answered_with_the_prefix_and_without(
    start: Callable[..., httpx.Client],
) -> None:
    client = start()
    for prefix in ("", PREFIX, f"/{PREFIX}/"):
        base = whole(client, prefix)
        assert client.post(f"{base}/embed", json={"inputs": "a"}).status_code == 200
        assert client.get(f"{base}/v2/models/osa-default").status_code == 200
        assert client.get(f"{base}/readyz").status_code == 200
    assert client.post(PREFIX, json={"inputs": "a"}).status_code == 200
    assert client.get(f"{PREFIX}x/readyz").status_code == 404
    error = client.post(f"{PREFIX}/v1/embeddings", json={}).json()["error"]
    assert error["param"] == "input", "the dialect is that of the path behind the prefix"


def test_pages_links_and_assets_stay_below_the_prefix(start: Callable[..., httpx.Client]) -> None:
    client = start()
    for path in (PREFIX, f"{PREFIX}/", "/"):  # a proxy may show any of these at the prefix
        page = client.get(path, headers=HTML)
        assert f'<base href="{PREFIX}/">' in page.text
        assert "base-uri 'self'" in page.headers["content-security-policy"]
        (script,) = re.findall(r'<script type="module" src="([^"]+)"', page.text)
        assert client.get(f"{PREFIX}/{script}").status_code == 200
        assert client.get(f"/{script}").status_code == 200
    for link in ("docs", "openapi", "info", "metrics"):
        where = client.get(PREFIX).json()[link]
        assert where.startswith(f"{PREFIX}/")
        assert client.get(where).status_code == 200
    description = client.get(f"{PREFIX}/openapi.json").json()
    assert description["servers"] == [{"url": PREFIX}]
    assert "/embed" in description["paths"]


def test_keys_are_asked_for_by_the_path_behind_the_prefix(
    start: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    secret, entry = make_key("team", None, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = start(auth__keys_file=tmp_path / "keys.toml")
    for prefix in ("", PREFIX, f"/{PREFIX}/", "//"):
        base, key = whole(client, prefix), {"authorization": f"Bearer {secret}"}
        assert client.get(f"{base}/readyz").status_code == 200
        assert client.get(f"{base}/info").status_code == 401
        assert client.post(f"{base}/embed", json={"inputs": "a"}).status_code == 401
        assert client.get(f"{base}/info", headers=key).status_code == 200


def test_without_a_prefix_nothing_changes(client: httpx.Client) -> None:
    page = client.get("/", headers=HTML)
    assert "<base" not in page.text
    assert "base-uri 'none'" in page.headers["content-security-policy"]
    assert "servers" not in client.get("/openapi.json").json()
    assert json.loads(client.get("/").text)["docs"] == "docs"
    assert client.get(f"{PREFIX}/readyz").status_code == 404


@pytest.mark.parametrize("wrong", ["embeddings", "/a b", "/a//b", "http://a/b", "/v1", "/embed"])
def test_a_prefix_that_cannot_be_stops_the_start(serve: Serve, wrong: str) -> None:
    with pytest.raises(Exception, match=r"server\.root_path"):
        serve(server__root_path=wrong)


def test_names_of_models_keep_their_slashes(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(
        model__path=tiny_checkpoint, model__name="team/law", batching__max_batch_tokens=256
    )
    for path in ("/v2/models/team/law", "/v2/models/team%2Flaw", "//v2/models//team/law/ready"):
        assert client.get(whole(client, path)).json()["name"] == "team/law"
    assert local_settings(server__root_path="/").server.root_path == ""
