"""The code of docs/features.md does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_tiny_model
from tests.docs.feature_examples import documented


@pytest.mark.parametrize("channels", [(), (3,)])
def test_patches_are_the_squares_of_an_image_row_by_row(channels: tuple[int, ...]) -> None:
    image = np.arange(5 * 7 * max(1, *channels, 1)).reshape(5, 7, *channels)
    found = documented("patches")(image, 2)
    squares = [image[y : y + 2, x : x + 2].ravel() for y in (0, 2) for x in (0, 2, 4)]
    np.testing.assert_array_equal(found, np.stack(squares))
    assert found.dtype == np.float32


@pytest.mark.parametrize("channels", [(), (2,)])
def test_windows_overlap_by_length_less_step(channels: tuple[int, ...]) -> None:
    series = np.arange(11 * max(1, *channels, 1)).reshape(11, *channels)
    found = documented("windows")(series, 4, 3)
    parts = [np.moveaxis(series[start : start + 4], 0, -1).ravel() for start in (0, 3, 6)]
    np.testing.assert_array_equal(found, np.stack(parts))
    assert found.dtype == np.float32


def test_embedding_from_python(tmp_path: Path) -> None:
    model = make_tiny_model(vocab_size=None, feature_size=4)
    model.save_pretrained(tmp_path / "model")
    sequences = [documented("patches")(np.ones((4, 6)), 2), documented("windows")(np.ones(9), 4, 2)]
    found = documented("embed")(tmp_path / "model", sequences)
    np.testing.assert_allclose(
        found, model.embed_features(sequences).embeddings.detach(), atol=1e-6
    )
