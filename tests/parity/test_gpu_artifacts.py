"""Artifacts on a CUDA device: ONNX Runtime with the native kernel, and AOTInductor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from osa.export.exporter import ExportOptions, export_model
from osa.export.manifest import load_artifact
from osa.export.onnx_model.runner import OnnxRunner
from osa.export.ort_ops.build import build
from osa.export.parity.comparison import check_deviations, compare
from osa.export.runner import open_runner
from tests.conftest import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_onnx_on_the_device_is_the_source(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build(tmp_path / "library.so", cuda=True)
    options = ExportOptions("onnx", layout)  # type: ignore[arg-type]
    export_model(make_tiny_model(), tmp_path / "artifact", options)
    artifact = load_artifact(tmp_path / "artifact")
    monkeypatch.setattr("osa.export.onnx_model.runner.find_library", lambda: library)
    runner = OnnxRunner(artifact, "cuda", "native")
    assert runner.device == "cuda"
    check_deviations(compare(runner, artifact), 2e-4, "the CUDA provider")


def test_an_aoti_package_for_the_device_is_the_source(tmp_path: Path) -> None:
    options = ExportOptions("aoti", device="cuda")
    results = export_model(make_tiny_model(), tmp_path / "artifact", options)
    assert max(deviation.max_abs for deviation in results["aoti"]) <= 1e-5
    artifact = load_artifact(tmp_path / "artifact")
    runner = open_runner(artifact)
    assert runner.device == "cuda"
    outputs = runner.run(np.array([1, 2, 3, 4]), np.array([0, 2, 4], dtype=np.int32))
    assert np.isfinite(outputs.embeddings).all()
