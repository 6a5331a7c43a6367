"""Web pages of other sites: refused, unless the settings allow them; host names of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from tests.conftest import local_settings
from tests.route_bodies import INFERENCE, TEXT, body_of, place

Serve = Callable[..., httpx.Client]
BODY = {"inputs": "a cat"}
EVIL, APP = "https://evil.example", "https://app.example"
ASKING = {
    "origin": APP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-request-timeout-ms",
}
FOREIGN = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": EVIL},
]


@pytest.fixture
def start(serve: Serve, tiny_checkpoint: Path) -> Callable[..., httpx.Client]:
    def run(**settings: object) -> httpx.Client:
        return serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256, **settings)

    return run


def own(client: httpx.Client) -> str:
    return f"http://{client.base_url.host}:{client.base_url.port}"


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_can_have_nothing_computed(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    for path in (*INFERENCE, *TEXT, "/admin/models/{name}"):
        if path in ("/admin/models/{name}",):
            answer = client.post(place(path), content=b"{}", headers=headers)
        else:
            answer = client.post(place(path), json=body_of(path), headers=headers)
        assert answer.status_code == 403, path
        assert "server.cors_origins" in answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert client.delete("/admin/models/x", headers=headers).status_code == 403


def test_a_post_that_browsers_send_unasked_is_refused(client: httpx.Client) -> None:
    """Without Content-Type, as text, as a form: no preflight goes before these."""
    for media_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        headers = {"origin": EVIL} | ({} if media_type is None else {"content-type": media_type})
        answer = client.post("/embed", content=b'{"inputs": "a"}', headers=headers)
        assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/info", "/metrics", "/v1/models", "/", "/health"])
def test_a_page_of_another_site_can_read_nothing(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"origin": EVIL})
    assert "access-control-allow-origin" not in answer.headers


def test_programs_and_own_pages_are_not_concerned(client: httpx.Client) -> None:
    for headers in (
        {},
        {"origin": own(client)},
        {"origin": own(client), "sec-fetch-site": "same-origin"},
        {"origin": "https://shown.example", "sec-fetch-site": "same-origin"},
        {"origin": "https://shown.example", "x-forwarded-host": "shown.example"},
        {"origin": "https://shown.example", "host": "shown.example"},
        {"origin": "https://shown.example", "host": "shown.example:443"},
        {"sec-fetch-site": "none"},
    ):
        assert client.post("/embed", json=BODY, headers=headers).status_code == 200, headers


def test_a_preflight_is_refused_by_default(client: httpx.Client) -> None:
    answer = client.options("/embed", headers=ASKING)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert client.options("/embed").status_code == 405


def test_an_allowed_page_may_use_the_server(start: Callable[..., httpx.Client]) -> None:
    client = start(server__cors_origins=f"{APP},http://other.example:8000")
    asked = client.options("/embed", headers=ASKING)
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == APP
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == ASKING["access-control-request-headers"]
    assert int(asked.headers["access-control-max-age"]) > 0
    for path, body in (("/embed", BODY), ("/embed", {}), ("/v1/embeddings", {})):
        answer = client.post(
            path, json=body, headers={"origin": APP, "sec-fetch-site": "cross-site"}
        )
        assert answer.status_code in (200, 400, 422)
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "Origin" in answer.headers["vary"]
    assert (
        client.get("/info", headers={"origin": APP}).headers["access-control-allow-origin"] == APP
    )
    refused = client.post("/embed", json=BODY, headers={"origin": EVIL})
    assert refused.status_code == 403
    assert client.options("/embed", headers={**ASKING, "origin": EVIL}).status_code == 403


def test_every_page_may_be_allowed(start: Callable[..., httpx.Client]) -> None:
    client = start(server__cors_origins="*")
    for origin in (EVIL, "null"):
        answer = client.post("/embed", json=BODY, headers={"origin": origin})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_with_keys_an_allowed_page_still_needs_one_and_another_is_refused_with_it(
    start: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    secret, entry = make_key("team", None, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = start(auth__keys_file=tmp_path / "keys.toml", server__cors_origins=APP)
    assert client.options("/embed", headers=ASKING).status_code == 204
    key = {"authorization": f"Bearer {secret}"}
    for origin, sent, status in ((APP, key, 200), (APP, {}, 401), (EVIL, key, 403)):
        answer = client.post("/embed", json=BODY, headers={"origin": origin, **sent})
        assert answer.status_code == status
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (APP if origin == APP else None)


def test_names_that_point_here_but_are_not_ours_are_refused(
    start: Callable[..., httpx.Client],
) -> None:
    """As a page does it whose own name is made to point to this machine (DNS rebinding)."""
    client = start(server__allowed_hosts="embed.example,*.inner.example")
    for host in ("evil.example", "inner.example", "xembed.example", "embed.example.evil.example"):
        answer = client.post("/embed", json=BODY, headers={"host": host})
        assert answer.status_code == 421
        assert "server.allowed_hosts" in answer.text
        assert client.get("/info", headers={"host": host}).status_code == 421
    for host in ("embed.example", "EMBED.example:8080", "a.inner.example", "10.0.0.7:8080",
                 "[::1]:80", "localhost:80"):  # fmt: skip
        assert client.post("/embed", json=BODY, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("wrong", ["app.example", "https://a/b", "ftp://a", "https://", "a b"])
def test_origins_that_are_none_stop_the_start(wrong: str) -> None:
    with pytest.raises(Exception, match=r"server\.cors_origins"):
        local_settings(server__cors_origins=wrong)
