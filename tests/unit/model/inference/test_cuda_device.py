"""What is said where a CUDA device is missing, or its driver too old."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osa.model.inference import cuda_device
from osa.model.inference.cuda_device import cuda_problem, driver_version

FACTS = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root)\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cuda_device, "DRIVER_FACTS", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path / "version"


def test_the_driver_is_named_where_it_is_too_old(driver: Path) -> None:
    driver.write_text(FACTS.format("550.54.15"))
    assert driver_version() == "550.54.15"
    assert cuda_problem() == (
        "the driver 550.54.15 is too old for CUDA 13.0, which needs 580 or newer"
    )
    driver.write_text(FACTS.format("580.65.06"))
    assert "though the driver 580.65.06 is loaded" in (cuda_problem() or "")


def test_no_driver_and_no_cuda(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no driver is loaded" in (cuda_problem() or "")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in (cuda_problem() or "")


def test_a_device_before_turing_is_refused(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert cuda_problem() == "Tesla V100 has compute capability 7.0, needed is 7.5"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert cuda_problem() is None
