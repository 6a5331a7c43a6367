"""Errors of the playground by kind; a failed comparison removes earlier results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from osa.service.auth.api_keys import make_key
from osa.service.server.app import create_service
from tests.browser import Page
from tests.conftest import local_settings, run_service
from tests.engines import FaultyEngine, GatedEngine

ERROR = "document.getElementById('error')"


def begin(browser: Page, client: httpx.Client) -> None:
    """Open the page and wait for its first comparison."""
    browser.open(f"{client.base_url}")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    assert browser.evaluate(f"{ERROR}.textContent") == ""
    assert shown(browser) == [36, 6, 1]


def compare(browser: Page) -> None:
    browser.evaluate("document.querySelector('button').click()")


def shown(browser: Page) -> list[int]:
    """Number of visible cells, lists of tokens and legends."""
    found: list[int] = browser.evaluate(
        "['.heat td', '.tokens li', '.legend'].map((selector) => [...document.querySelectorAll("
        "selector)].filter((place) => place.checkVisibility()).length)"
    )
    return found


def expect(browser: Page, kind: str, *words: str) -> None:
    """Wait for an error of this kind; nothing of the comparison before it may be left."""
    browser.wait_for(f"{ERROR}?.dataset.kind == {kind!r}")
    told = browser.evaluate(f"{ERROR}.textContent")
    for part in words:
        assert part in told
    assert shown(browser) == [0, 0, 0]
    assert browser.evaluate("document.getElementById('timing').textContent") == ""
    assert browser.evaluate("document.getElementById('pair').textContent") == ""
    assert not browser.evaluate("document.querySelector('button').disabled")


def test_no_answer(browser: Page, tiny_checkpoint: Path) -> None:
    settings = local_settings(model__path=tiny_checkpoint)
    with run_service(create_service(settings), settings) as client:
        begin(browser, client)
        browser.wait_for("document.querySelectorAll('#status div').length")
    compare(browser)
    expect(browser, "network", "No answer", "cannot be reached")
    browser.wait_for("document.getElementById('ready').textContent == 'no answer'")
    assert browser.evaluate("document.querySelectorAll('#status div').length") == 0
    browser.leave()


def test_what_is_refused_has_the_servers_words(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    client = serve(model__path=tiny_checkpoint, server__payload_limit=1024)
    begin(browser, client)
    browser.evaluate("document.getElementById('sentences').value = 'the cat '.repeat(200)")
    compare(browser)
    expect(browser, "refused", "Refused (413)", "The body is over the limit of 1024 bytes.")
    browser.evaluate("document.getElementById('sentences').value = ' '")
    compare(browser)
    expect(browser, "input", "at least one sentence")
    browser.leave()


def test_a_quota_and_a_wrong_key(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("team", 100, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=tmp_path / "keys.toml")
    browser.open(f"{client.base_url}")
    expect(browser, "refused", "Refused (401)", "No API key was sent")
    browser.evaluate("document.getElementById('key').value = 'osa-wrong'")
    compare(browser)
    browser.wait_for(f"{ERROR}.textContent.includes('Unknown API key')")
    expect(browser, "refused", "Refused (401)")
    browser.evaluate(f"document.getElementById('key').value = {secret!r}")
    compare(browser)
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    compare(browser)
    expect(browser, "busy", "Too much at once (429)", "a minute are left.", "Try again in")
    browser.leave()


def test_a_drain(browser: Page, tiny_checkpoint: Path) -> None:
    settings = local_settings(model__path=tiny_checkpoint)
    engine = GatedEngine(tiny_checkpoint)
    service = create_service(settings, engine)
    engine.gate.set()
    with run_service(service, settings) as client:
        begin(browser, client)
        with engine.holding(client):  # or the server would be done at once
            service.health.begin_drain()
            compare(browser)
            words = ("Not ready (503)", "The server is draining.", "Try again in 5 s.")
            expect(browser, "busy", *words)
            browser.leave()


def test_a_fault_of_the_server(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    client = serve(FaultyEngine(tiny_checkpoint, "raise"), model__path=tiny_checkpoint)
    browser.open(f"{client.base_url}")  # one of its sentences has the word that fails
    expect(browser, "server", "The server failed (500)", "Input 2: the engine failed")
    browser.evaluate("document.getElementById('sentences').value = 'the cat'")
    compare(browser)
    browser.wait_for("document.querySelectorAll('.heat td').length == 1")
    browser.evaluate("document.getElementById('sentences').value = 'the cat sat on a mat'")
    compare(browser)
    expect(
        browser, "server", "The server failed (500)", "Input 0: the engine failed", "Its log has"
    )
    browser.leave()
