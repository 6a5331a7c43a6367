"""The report of a conversion: agreement by length, passages by their parts, the card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.conversion.model_card import model_card
from osa.model.conversion.report import Report, by_length, measure
from osa.model.conversion.student import make_student
from osa.model.conversion.texts.pairs import parts_and_rests
from tests.unit.model.conversion.conftest import texts


def test_cosines_are_told_by_length() -> None:
    agreement = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert by_length(agreement, [3, 8, 9, 600]) == {"1-8": 1.0, "9-16": 0.0, "513-1024": 0.0}


def test_a_part_is_not_in_its_rest() -> None:
    text = "First comes this one. Here is the sentence that is asked for. And a third. Then a last."
    (part,), (rest,) = parts_and_rests([text, "Too short. For this."])
    assert part == "Here is the sentence that is asked for."
    assert part not in rest
    assert rest.startswith("First comes")


def test_a_student_that_is_its_teacher_loses_nothing(
    teacher: EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osa.model.conversion.report.SPEED_LENGTHS", (16, 64))
    monkeypatch.setattr("osa.model.conversion.report.SPEED_TOKENS", 256)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("1\ta cat\ta cat\n0.5\ta bird\ta river\n0\tseven stars\tno one\n")
    found = measure(
        teacher, teacher, [[101, 2000, 102], [101, *range(2000, 2040), 102]], texts(40), [pairs]
    )
    assert found.cosine is not None
    assert found.cosine > 0.999
    assert found.retrieval["teacher"] == found.retrieval["student"]
    assert found.sts["pairs"]["teacher"] == found.sts["pairs"]["student"]
    assert set(found.speed) == {"16", "64"}


def test_the_card_says_what_was_measured(teacher: EmbeddingModel) -> None:
    report = Report(0.97, {"1-8": 0.98, "9-16": 0.96}, {}, {}, {"32": 1.1})
    config = make_student(teacher, range(3)).config
    card = model_card("org/model", config, {"seed": 0}, report, {"without OSA": report})
    assert "| 9-16 | 0.960 |" in card
    assert "Measured up to 16 tokens; it reads up to 512." in card
    assert "Control, without OSA: cosine 0.9700." in card


def test_a_card_says_that_nothing_was_held_out(teacher: EmbeddingModel) -> None:
    config = make_student(teacher, range(3)).config
    card = model_card("org/model", config, {}, Report(), {"without OSA": Report()})
    assert "nothing was held out to compare it with its teacher on" in card
    assert "Control, without OSA: not measured." in card
    assert "cosine" not in card
    assert "Not measured on texts; it reads up to 512." in card
