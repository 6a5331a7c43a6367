"""A browser for the tests of pages; they skip where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.browser import Page, find_chromium, open_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab that the tests of a module share."""
    if find_chromium() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, client: httpx.Client) -> Iterator[Page]:
    """A tab; fails on errors in the console and on requests to other hosts."""
    browser.leave()  # where a test before this one failed
    browser.requests.clear()
    browser.complaints.clear()
    browser.set_scheme("light")
    browser.set_width(1240)
    yield browser
    assert browser.complaints == []
    assert browser.requests
    own = str(client.base_url)
    for url in browser.requests:
        assert url.startswith((own, "data:")), url
