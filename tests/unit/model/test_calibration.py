"""One byte per dimension: cosines are kept, bounds are per width, damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from osa.model import EmbeddingModel
from osa.model.calibration import CALIBRATION, Calibration
from osa.model.errors import ConfigError
from osa.service.cli import main


def unit_rows(count: int, width: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_cosines_of_bytes_are_those_of_vectors() -> None:
    vectors = unit_rows(300, 64)
    calibration = Calibration.measure(vectors, (64, 16))
    signed = calibration.quantize(vectors, signed=True)
    assert signed.dtype == np.int8
    bytes_ = signed.astype(np.float64)
    bytes_ /= np.linalg.norm(bytes_, axis=1, keepdims=True)
    np.testing.assert_allclose(bytes_ @ bytes_.T, vectors @ vectors.T, atol=0.02)
    unsigned = calibration.quantize(vectors, signed=False)
    assert unsigned.dtype == np.uint8
    np.testing.assert_array_equal(unsigned.astype(int) - 128, signed)
    assert calibration.bounds[16] > calibration.bounds[64]


def test_what_lies_outside_is_cut_and_an_unknown_width_refused() -> None:
    calibration = Calibration({2: 0.5}, 100)
    found = calibration.quantize(np.array([[1.0, -1.0], [0.25, 0.0]], np.float32), signed=True)
    assert found.tolist() == [[127, -127], [64, 0]]
    with pytest.raises(ConfigError, match="no calibration for 3 dimensions"):
        calibration.quantize(np.zeros((1, 3), np.float32), signed=True)
    with pytest.raises(ConfigError, match="at least 100 texts, got 5"):
        Calibration.measure(unit_rows(5, 4), (4,))


@pytest.mark.parametrize("text", ["", "[]", '{"texts": 1}', '{"texts": 1, "bounds": {"4": -1}}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(ConfigError, match="not a calibration"):
        Calibration.find(tmp_path)


def test_the_command_stores_it_with_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat\n\na dog ran on the mat\n" * 60)
    assert EmbeddingModel.from_pretrained(tiny_checkpoint).calibration is None
    assert main(["calibrate", "--model", str(tiny_checkpoint), "--texts", str(texts)]) == 0
    model = EmbeddingModel.from_pretrained(tiny_checkpoint)
    assert model.calibration is not None
    assert set(model.calibration.bounds) == {16, 8}
    assert model.calibration.texts == 120
    texts.write_text("one\n")
    assert main(["calibrate", "--model", str(tiny_checkpoint), "--texts", str(texts)]) == 2
    assert main(["calibrate", "--model", str(tmp_path), "--texts", str(texts)]) == 2
