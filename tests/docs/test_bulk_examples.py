"""The examples of ``docs/bulk.md`` in other programs run, and give the model's vectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from osa.model import EmbeddingModel

PAGE = Path(__file__).parents[2] / "docs" / "bulk.md"
TEXTS = ["a cat", "a dog"]


def example(word: str) -> str:
    """The one block of Python with this word."""
    (found,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if re.search(rf"^(import|from) {word}\b", block, re.MULTILINE) and "def embed" not in block
    ]
    return str(found)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def expected(default_model: EmbeddingModel) -> np.ndarray:
    return np.asarray(default_model.encode(TEXTS))


@pytest.mark.parametrize("program", ["pandas", "polars"])
def test_a_data_frame_gets_a_column_of_vectors(program: str, expected: np.ndarray) -> None:
    pytest.importorskip(program)
    frame = run(example(program))["frame"]
    column = frame["embedding"]
    found = np.stack(column.to_list() if program == "polars" else column.tolist())
    assert np.array_equal(found.astype(np.float32), expected)
    if program == "polars":
        assert "Array" in str(column.dtype), "of fixed size"


def test_a_dataset_is_embedded_in_batches(expected: np.ndarray) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    found = np.array(run(example("datasets"))["texts"]["embedding"], np.float32)
    assert np.array_equal(found, expected)


def test_the_function_for_spark_embeds_batches_as_spark_hands_them_over(
    expected: np.ndarray,
) -> None:
    """Spark makes pandas series of Arrow batches, and Arrow lists of what comes back."""
    (block,) = re.findall(r"```python\n([^`]*def embed.*?)```", PAGE.read_text(), re.DOTALL)
    embed = run(block)["embed"]
    batches = [pa.array(TEXTS[:1]).to_pandas(), pa.array(TEXTS[1:]).to_pandas()]
    arrays = [pa.array(series, pa.list_(pa.float32())) for series in embed(iter(batches))]
    found = np.array(pa.concat_arrays(arrays).to_pylist(), np.float32)
    assert np.array_equal(found, expected)
