"""Training texts: pieces of many lengths, the same batch for the same number."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.conversion.request import Request
from osa.model.conversion.texts.pieces import PACKAGED, SHORT, TrainingTexts, read_texts
from osa.model.errors import ConfigError
from tests.unit.model.conversion.conftest import sentences, texts

CPU = torch.device("cpu")


def request_of(*files: Path, column: str = "text") -> Request:
    return Request(Path("m"), "m", Path("o"), texts=files, column=column)


@pytest.fixture
def pieces(teacher: EmbeddingModel) -> TrainingTexts:
    assert teacher.tokenizer is not None
    return TrainingTexts(texts(120), teacher.tokenizer, 100, seed=3, progress=False)


def test_pieces_have_the_allowed_lengths(pieces: TrainingTexts) -> None:
    batch = pieces.batch(0, 2000, CPU)
    lengths = batch.cu_seqlens.diff()
    assert int(lengths.max()) <= 100
    assert 2000 <= batch.ids.numel() < 2200
    long = int(lengths[lengths >= SHORT].sum())
    assert 0.4 <= long / batch.ids.numel() <= 0.65


def test_a_batch_is_a_function_of_its_number(
    teacher: EmbeddingModel, pieces: TrainingTexts
) -> None:
    assert teacher.tokenizer is not None
    again = TrainingTexts(texts(120), teacher.tokenizer, 100, seed=3, progress=False)
    assert again.sha256 == pieces.sha256
    assert torch.equal(again.batch(5, 500, CPU).ids, pieces.batch(5, 500, CPU).ids)
    assert not torch.equal(
        pieces.batch(5, 500, CPU).ids[:, :50], pieces.batch(6, 500, CPU).ids[:, :50]
    )


def test_texts_are_held_out(pieces: TrainingTexts) -> None:
    assert len(pieces.held_out) == 6
    assert pieces.held_out_pieces


def test_texts_that_are_all_short_make_batches(teacher: EmbeddingModel) -> None:
    assert teacher.tokenizer is not None
    found = TrainingTexts(sentences(10), teacher.tokenizer, 512, seed=0, progress=False)
    assert found.held_out == []
    assert found.batch(0, 300, CPU).ids.numel() >= 300


def test_files_are_read_once_each_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\none\n")
    (tmp_path / "b.jsonl").write_text('{"body": "two"}\n{"body": "three"}\n{"other": 1}\n')
    assert read_texts(request_of(tmp_path / "a.txt")) == ["one", "two"]
    assert read_texts(request_of(tmp_path / "b.jsonl", column="body")) == ["two", "three"]
    (tmp_path / "c.txt").write_text("\n")
    with pytest.raises(ConfigError, match="the files hold no texts"):
        read_texts(request_of(tmp_path / "c.txt"))


def test_the_packaged_texts_are_short_and_long() -> None:
    with gzip.open(PACKAGED, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    assert read_texts(request_of()) == found
    assert len(found) == len(set(found)) > 10_000
    words = [len(text.split()) for text in found]
    assert sum(count < 30 for count in words) > 5_000
    assert sum(count > 200 for count in words) > 2_000
