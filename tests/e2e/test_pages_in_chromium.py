"""The pages in a real browser: no errors, no request to another host, correct content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.service.auth.api_keys import make_key
from osa.service.engines.eager import EagerEngine
from tests.browser import Page

SENTENCES = ["A man is playing a guitar.", "Someone plays an acoustic guitar.", "Stocks fell."]
CELLS = "[...document.querySelectorAll('.heat td')].map(cell => cell.textContent)"


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
    browser.wait_for("document.getElementById('error').textContent.includes('key')")
    browser.evaluate(f"document.getElementById('key').value = {secret!r}")
    browser.evaluate("document.querySelector('button').click()")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    assert browser.evaluate("document.getElementById('dimensions').length") == 2
    assert browser.evaluate("document.getElementById('error').textContent") == ""
    browser.leave()


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


def test_the_documentation_is_in_the_order_of_use_and_links_to_the_schema_once(
    page: Page, client: httpx.Client
) -> None:
    page.open(f"{client.base_url}/docs")
    page.wait_for("document.querySelectorAll('.opblock').length > 20")
    tags = "[...document.querySelectorAll('.opblock-tag')].map(tag => tag.dataset.tag)"
    assert page.evaluate(tags) == [
        "Embeddings", "Documents", "Scores", "Tokens", "OpenAI", "KServe", "Operations", "Admin"
    ]  # fmt: skip
    first = "document.querySelector('.opblock-summary-path').dataset.path"
    assert page.evaluate(first) == "/embed"
    links = "document.querySelectorAll('a[href$=\"openapi.json\"]').length"
    page.wait_for(f"{links} > 0")
    assert page.evaluate(links) == 1


@pytest.mark.parametrize("width", [390, 1240])
@pytest.mark.parametrize("path", ["", "docs"])
def test_no_page_is_wider_than_its_screen(
    page: Page, client: httpx.Client, path: str, width: int
) -> None:
    page.set_width(width)
    page.open(f"{client.base_url}/{path}")
    page.wait_for("document.querySelectorAll('.heat td, .opblock').length > 20")
    if path:
        open_operation(page, "/embed")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_heat_map_that_is_wider_than_its_card_says_so(page: Page, client: httpx.Client) -> None:
    cue = "getComputedStyle(document.querySelector('.cue')).display != 'none'"
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.tokens li').length == 6")
    assert not page.evaluate(cue)
    page.set_width(390)
    page.wait_for(cue)
    assert page.evaluate("getComputedStyle(document.getElementById('heat')).maskImage") != "none"
    page.evaluate("document.getElementById('heat').scrollLeft = 10000")
    page.wait_for(f"!({cue})")
    label = "document.querySelector('.heat tbody th').getBoundingClientRect().left"
    assert page.evaluate(label) >= 0, "names of rows stay in sight"


def test_the_playground_explains_what_it_shows(page: Page, client: httpx.Client) -> None:
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.tokens li').length == 6")
    page.wait_for("document.querySelectorAll('#status div').length")
    legend = page.evaluate("document.querySelector('.legend').innerText")
    for words in ("Cosine", "1 opposite", "0 unrelated", "1 same"):
        assert words in legend
    page.evaluate("document.querySelector('.glossary').open = true")
    explained = page.evaluate(
        "[...document.querySelectorAll('.glossary dt')].map(term => term.textContent)"
    )
    shown = page.evaluate("[...document.querySelectorAll('#status dt')].map(t => t.textContent)")
    for term in ("p50", "p99", "engine tokens/s", "queue", "backlog", "failures"):
        assert term in explained
        assert [label for label in shown if label.startswith(term)], term


def test_the_playground_says_why_bits_are_not_fixed(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    client = serve(EagerEngine(tiny_checkpoint, "cpu"), model__path=tiny_checkpoint)
    reason = client.get("/info").json()["batch_invariant_reason"]
    assert reason.startswith("The last bits of a vector may depend on the batch")
    browser.open(f"{client.base_url}")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    assert browser.evaluate("document.getElementById('bits').textContent") == reason
    browser.leave()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_cell_can_be_read(page: Page, client: httpx.Client, scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG AA) on the rendered colours, after a change of the scheme."""
    page.set_scheme("dark" if scheme == "light" else "light")
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.heat td').length == 36")
    page.evaluate(EVERY_VALUE)
    page.set_scheme(scheme)
    contrasts = page.evaluate(f"{MEASURE} measure('.heat td')")
    assert len(contrasts) == 36 + 101
    assert min(contrasts) >= 4.5, contrasts
    edges = page.evaluate(f"{MEASURE} edges('.heat td', '.card')")
    assert min(edges) >= 1.1, "a cell looks like the card behind it"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_other_text_of_the_playground_can_be_read(
    page: Page, client: httpx.Client, scheme: str
) -> None:
    page.set_scheme(scheme)
    page.open(f"{client.base_url}")
    page.wait_for("document.querySelectorAll('.tokens li').length == 6")
    page.wait_for("document.querySelectorAll('#status div').length")
    page.evaluate("document.querySelector('.glossary').open = true")
    for kind in ("network", "refused", "busy", "server", "input"):
        page.evaluate(
            f"document.getElementById('error').dataset.kind = {kind!r};"
            "document.getElementById('error').textContent = 'words'"
        )
        places = (
            "h1, h2, small, p, a, label, textarea, select, button, dt, dd, li, code, summary, th"
        )
        contrasts = page.evaluate(f"{MEASURE} measure({places!r})")
        assert len(contrasts) > 100
        assert min(contrasts) >= 4.5, kind


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_documentation_can_be_read(
    page: Page, client: httpx.Client, scheme: str
) -> None:
    page.set_scheme(scheme)
    page.open(f"{client.base_url}/docs")
    page.wait_for("document.querySelectorAll('.opblock').length > 20")
    open_operation(page, "/embed")
    contrasts = page.evaluate(f"{MEASURE} measure('nav a, #docs *:not(:has(*))')")
    assert len(contrasts) > 200
    assert min(contrasts) >= 4.5


def open_operation(page: Page, path: str) -> None:
    """Unfold a route of the documentation, with its answers."""
    page.evaluate(f"document.querySelector('[data-path=\"{path}\"] a').click()")
    page.wait_for("document.querySelector('.opblock.is-open .response-col_description code')")


EVERY_VALUE = """(async () => {
  const script = document.querySelector('script').src;
  const { fill } = await import(script.replace('playground', 'heatmap'));
  const row = document.querySelector('.heat tbody').insertRow();
  for (let step = 0; step <= 100; step++) fill(row.insertCell(), step / 50 - 1);
})()"""
MEASURE = """
var canvas = document.createElement('canvas');
var context = canvas.getContext('2d', { willReadFrequently: true });
var luminance = (...layers) => {
  context.fillStyle = '#fff';
  context.fillRect(0, 0, 1, 1);
  for (const colour of layers) {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
  }
  const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
var behind = (place) => {
  const layers = [];
  for (let each = place; each; each = each.parentElement) {
    layers.unshift(getComputedStyle(each).backgroundColor);
  }
  return layers;
};
var ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
var measure = (selector) => [...document.querySelectorAll(selector)]
  .filter((place) => place.checkVisibility() && place.textContent.trim())
  .map((place) => ratio(
    luminance(...behind(place), getComputedStyle(place).color), luminance(...behind(place))));
var edges = (selector, card) => [...document.querySelectorAll(selector)].map((place) => ratio(
  luminance(...behind(place)), luminance(...behind(document.querySelector(card)))));
"""
