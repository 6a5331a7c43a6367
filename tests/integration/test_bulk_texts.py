"""``osa embed`` treats texts as the server does, and tells what the vocabulary does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from osa.model import EmbeddingModel
from tests.conftest import Embed


def test_unknown_tokens_are_counted_and_warned_of(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the cat\nzebra zebra\nthe zebra\n")
    assert embed(file) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unknown"] == 3
    assert "warning: 3 of 12 tokens stand for what the model's vocabulary does not" in told.err
    assert embed(file, options="--resume") == 0
    assert json.loads(capsys.readouterr().out)["unknown"] == 3, "it is noted with the file"
    file.write_text("the cat\n")
    assert embed(file, output="known.parquet") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unknown"] == 0
    assert "warning" not in told.err


def test_any_width_of_a_matryoshka_model_is_written(
    embed: Embed, tmp_path: Path, tiny_model: EmbeddingModel
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the cat\na dog\n")
    assert embed(file, options="--dimensions 5") == 0
    found = pq.read_table(tmp_path / "out.parquet").column("embedding").to_pylist()
    expected = tiny_model.encode(["the cat", "a dog"])[:, :5]
    expected /= expected.norm(dim=1, keepdim=True)
    for row, vector in zip(found, expected.tolist(), strict=True):
        assert row == pytest.approx(vector, abs=2e-2)
