"""The playground of a server with several models: one is chosen, two are compared side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.browser import Page
from tests.conftest import make_tiny_model
from tests.e2e.test_pages_in_chromium import MEASURE

SENTENCES = ["the cat sat on a mat", "a dog ran", "the mat", "on the dog"]
CELLS = "[...document.querySelectorAll('#heat{} td')].map(cell => Number(cell.textContent))"


@pytest.fixture
def several(
    browser: Page, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> Iterator[httpx.Client]:
    """A server of two models, whose page is open and has compared its sentences."""
    make_tiny_model(hidden_size=32, alpha_init=0.5, matryoshka_dims=(32, 16, 8)).save_pretrained(
        tmp_path / "wide"
    )
    tables = {"team/wide": {"path": tmp_path / "wide", "dtype": "float32"}}
    client = serve(model__path=tiny_checkpoint, model__name="tiny", models=tables)
    browser.requests.clear()
    browser.complaints.clear()
    browser.set_width(1240)
    browser.open(f"{client.base_url}")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 6")
    browser.evaluate(f"document.getElementById('sentences').value = {chr(10).join(SENTENCES)!r}")
    yield client
    assert browser.complaints == []
    assert all(url.startswith((str(client.base_url), "data:")) for url in browser.requests)
    browser.leave()


def choose(browser: Page, select: str, name: str) -> None:
    browser.evaluate(
        f"((place) => {{ place.value = {name!r}; place.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById({select!r}))"
    )


def cosines(client: httpx.Client, model: str, dimensions: int) -> np.ndarray:
    body = {"inputs": SENTENCES, "model": model, "dimensions": dimensions}
    vectors = np.array(client.post("/embed", json=body).json())
    assert vectors.shape[1] == dimensions
    found: np.ndarray = vectors @ vectors.T
    return found


def shown(browser: Page, side: str) -> np.ndarray:
    return np.array(browser.evaluate(CELLS.format(side))).reshape(4, 4)


def test_another_model_is_chosen(browser: Page, several: httpx.Client) -> None:
    options = "[...document.getElementById('{}').options].map(option => option.text)".format
    assert browser.evaluate(options("chosen")) == ["tiny", "team/wide"]
    assert browser.evaluate(options("chosen-2")) == ["none", "tiny", "team/wide"]
    assert browser.evaluate(options("dimensions")) == ["16", "8"]
    choose(browser, "chosen", "team/wide")
    browser.wait_for("document.querySelectorAll('.tokens li').length == 4")
    assert browser.evaluate(options("dimensions")) == ["32", "16", "8"]
    assert np.abs(shown(browser, "") - cosines(several, "team/wide", 32)).max() <= 0.0051
    assert browser.evaluate("document.getElementById('model').textContent") == "team/wide"
    assert not browser.evaluate("document.getElementById('heat-2').checkVisibility()")


def test_two_models_are_compared_side_by_side(browser: Page, several: httpx.Client) -> None:
    choose(browser, "chosen-2", "team/wide")
    browser.wait_for("document.querySelectorAll('#tokens-2 li').length == 4")
    first, second = cosines(several, "tiny", 16), cosines(several, "team/wide", 32)
    assert np.abs(shown(browser, "") - first).max() <= 0.0051
    assert np.abs(shown(browser, "-2") - second).max() <= 0.0051
    row, column = np.unravel_index(np.abs(first - second).argmax(), first.shape)
    told = browser.evaluate("document.getElementById('contrast').textContent")
    assert f"{first[row, column]:.2f} with tiny, {second[row, column]:.2f} with team/wide" in told
    for side, name in (("", "tiny"), ("-2", "team/wide")):
        label = f"document.querySelector('#heat{side} table').getAttribute('aria-label')"
        assert browser.evaluate(label).endswith(f", {name}")
        assert "measured here" in browser.evaluate(
            f"document.getElementById('timing{side}').textContent"
        )
        assert name in browser.evaluate(f"document.getElementById('facts{side}').textContent")
    tops = [
        browser.evaluate(f"document.getElementById('{part}').getBoundingClientRect().top")
        for part in ("heat", "heat-2")
    ]
    assert tops[0] == tops[1], "beside each other"
    browser.set_width(390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    choose(browser, "chosen-2", "")
    browser.wait_for("!document.getElementById('heat-2').checkVisibility()")
    browser.wait_for("!document.querySelector('button').disabled")
    assert browser.evaluate("document.getElementById('contrast').textContent") == ""


def test_the_second_model_has_a_width_of_its_own(browser: Page, several: httpx.Client) -> None:
    choose(browser, "chosen-2", "team/wide")
    browser.wait_for("document.querySelectorAll('#tokens-2 li').length == 4")
    choose(browser, "dimensions-2", "8")
    narrow = cosines(several, "team/wide", 8)
    browser.wait_for(
        f"Math.abs({CELLS.format('-2')}[1] - {narrow[0, 1]}) < 0.0051"
        " && !document.querySelector('button').disabled"
    )
    assert np.abs(shown(browser, "-2") - narrow).max() <= 0.0051
    assert np.abs(shown(browser, "") - cosines(several, "tiny", 16)).max() <= 0.0051


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_sides_can_be_read_and_used_by_keyboard(
    browser: Page, several: httpx.Client, scheme: str
) -> None:
    browser.set_scheme(scheme)
    choose(browser, "chosen-2", "team/wide")
    browser.wait_for("document.querySelectorAll('#tokens-2 li').length == 4")
    unnamed = """[...document.querySelectorAll('textarea, select, input')]
      .filter(control => !control.labels.length).map(control => control.id)"""
    assert browser.evaluate(unnamed) == []
    places = "h2, small, p, label, select, button, dt, dd, li, code, th, .heat td"
    assert min(browser.evaluate(f"{MEASURE} measure({places!r})")) >= 4.5
    browser.evaluate("document.querySelector('#heat-2 td').focus()")
    browser.press("ArrowDown")
    pair = browser.evaluate("document.getElementById('pair-2').textContent")
    assert "“a dog ran” and “the cat sat on a mat”" in pair
    browser.set_scheme("light")
