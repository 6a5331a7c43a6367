"""The pages in a real browser, below the path of a proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.browser import Page

PREFIX = "/team/embeddings"


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", f"{PREFIX}/docs"])
def test_pages_ask_for_nothing_outside_their_prefix(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, path: str
) -> None:
    client = serve(
        model__path=tiny_checkpoint, model__max_input_length=200, server__root_path=PREFIX
    )
    base = f"http://{client.base_url.host}:{client.base_url.port}"
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(base + path)
    if path.endswith("docs"):
        browser.wait_for("document.querySelectorAll('.opblock').length > 20")
        browser.evaluate("document.querySelector('[data-path=\"/info\"] a').click()")
        browser.wait_for("document.querySelector('.opblock.is-open .execute')")
        browser.wait_for("!!window.ui.specSelectors.specResolvedSubtree(['paths', '/info', 'get'])")
        browser.evaluate("document.querySelector('.opblock.is-open .execute').click()")
        status = ".live-responses-table tbody .response-col_status"
        browser.wait_for(f"document.querySelector('{status}')")
        assert browser.evaluate(f"document.querySelector('{status}').textContent").startswith("200")
    else:
        browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
        browser.wait_for("document.querySelectorAll('#status div').length")
    assert browser.complaints == []
    for url in browser.requests:
        assert url.startswith((f"{base}{PREFIX}", "data:")), url
    browser.leave()
