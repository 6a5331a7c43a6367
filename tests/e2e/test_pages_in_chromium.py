"""The pages in a real browser: no complaint, no request to another host, what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.service.keys import make_key
from tests.browser import Page, find_chromium, open_browser

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium here: apt-get install chromium"
)
SENTENCES = ["A man is playing a guitar.", "Someone plays an acoustic guitar.", "Stocks fell."]
CELLS = "[...document.querySelectorAll('.heat td')].map(cell => cell.textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, client: httpx.Client) -> Iterator[Page]:
    """A tab; at the end nothing may have been complained of or asked from elsewhere."""
    browser.requests.clear()
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []
    assert browser.requests
    own = str(client.base_url)
    for url in browser.requests:
        assert url.startswith((own, "data:")), url


def type_sentences(page: Page, text: str) -> None:
    page.evaluate(f"document.getElementById('sentences').value = {text!r}")
    page.evaluate("document.querySelector('button').click()")


def test_the_playground_draws_a_heat_map_of_the_servers_cosines(
    page: Page, client: httpx.Client
) -> None:
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.tokens li').length == 6")
    type_sentences(page, "\n".join(SENTENCES))
    page.wait_for("document.querySelectorAll('.tokens li').length == 3")
    vectors = np.array(client.post("/embed", json={"inputs": SENTENCES}).json())
    shown = np.array(list(map(float, page.evaluate(CELLS)))).reshape(3, 3)
    assert np.abs(shown - vectors @ vectors.T).max() <= 0.0051
    tokens = client.post("/tokenize", json={"inputs": SENTENCES}).json()
    chips = page.evaluate("[...document.querySelectorAll('.tokens code')].map(c => c.textContent)")
    assert chips == [token["text"] for row in tokens for token in row]
    figures = page.evaluate("document.getElementById('timing').textContent")
    assert f"tokens{sum(map(len, tokens))}" in figures
    assert page.evaluate("document.getElementById('ready').textContent") == "ready"
    assert "p99" in page.evaluate("document.getElementById('status').textContent")


def test_arrow_keys_walk_the_heat_map(page: Page, client: httpx.Client) -> None:
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.heat td').length == 36")
    page.evaluate("document.querySelector('.heat td').focus()")
    page.press("ArrowRight")
    page.press("ArrowDown")
    page.press("ArrowDown")
    pair = page.evaluate("document.getElementById('pair').textContent")
    assert "“A musician performs on stage.” and “Someone plays an acoustic guitar.”" in pair
    assert page.evaluate("document.activeElement.textContent") in pair


def test_the_playground_tells_what_the_server_refuses(page: Page, client: httpx.Client) -> None:
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.tokens li').length == 6")
    type_sentences(page, " ")
    page.wait_for("document.getElementById('error').textContent.includes('at least one')")
    type_sentences(page, "\n".join("ab" for _ in range(41)))
    page.wait_for("document.getElementById('error').textContent.includes('at most 40')")


def test_a_server_that_asks_for_keys_is_given_one(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("team", None, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    settings = {"auth__keys_file": tmp_path / "keys.toml", "model__max_input_length": 200}
    client = serve(model__path=tiny_checkpoint, **settings)
    browser.open(f"{client.base_url}")
    browser.wait_for("document.activeElement?.id == 'key'")
    assert "key" in browser.evaluate("document.getElementById('error').textContent")
    browser.evaluate(f"document.getElementById('key').value = {secret!r}")
    browser.evaluate("document.querySelector('button').click()")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    assert browser.evaluate("document.getElementById('dimensions').length") == 2
    assert browser.evaluate("document.getElementById('error').textContent") == ""
    browser.open("about:blank")  # or it would go on asking a server that is gone
    browser.wait_for("location.href == 'about:blank'")


def test_every_control_has_a_name(page: Page, client: httpx.Client) -> None:
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.heat td').length == 36")
    unnamed = """[...document.querySelectorAll('textarea, select, input')]
      .filter(control => !control.labels.length).map(control => control.id)"""
    assert page.evaluate(unnamed) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(
        "[...document.querySelectorAll('img')].every(image => image.hasAttribute('alt'))"
    )


def test_the_documentation_shows_and_tries_every_route(page: Page, client: httpx.Client) -> None:
    page.open(f"{client.base_url}/docs")
    paths = client.get("/openapi.json").json()["paths"]
    count = sum(map(len, paths.values()))
    page.wait_for(f"document.querySelectorAll('.opblock').length == {count}")
    shown = page.evaluate(
        "[...document.querySelectorAll('.opblock-summary-path')].map(path => path.dataset.path)"
    )
    assert set(shown) == set(paths)
    page.evaluate("document.querySelector('[data-path=\"/similarity\"] a').click()")
    page.wait_for("document.querySelector('.opblock.is-open textarea')?.value.includes('guitar')")
    page.evaluate("document.querySelector('.opblock.is-open .execute').click()")
    page.wait_for("document.querySelector('.live-responses-table .response-col_status')")
    status = page.evaluate(
        "document.querySelector('.live-responses-table tbody .response-col_status').textContent"
    )
    assert status.startswith("200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_cell_can_be_read(
    page: Page, client: httpx.Client, scheme: str, tmp_path: Path
) -> None:
    """Contrast of at least 4.5 (WCAG AA), measured on colours as the browser mixes them."""
    page.set_scheme(scheme)
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.heat td').length == 36")
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) == 101
    assert min(contrasts) >= 4.5, contrasts
    page.set_scheme("light")


CONTRAST = """(async () => {
  const script = document.querySelector('script').src;
  const { fill } = await import(script.replace('playground', 'heatmap'));
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const cell = document.querySelector('.heat td');
  return [...Array(101).keys()].map((step) => {
    fill(cell, step / 50 - 1);
    const style = getComputedStyle(cell);
    const [one, other] = [luminance(style.color), luminance(style.backgroundColor)];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
})()"""
