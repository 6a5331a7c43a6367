"""ONNX Runtime falls back to the CPU without a word: on a machine with a GPU that is an error."""

from __future__ import annotations

import numpy as np
import pytest

from osa.export.errors import ExportError
from osa.export.manifest import load_artifact
from osa.export.onnx_model import runner
from osa.export.onnx_model.runner import OnnxRunner
from osa.export.onnx_model.runtime import import_onnxruntime
from tests.conftest import ArtifactMaker

CUDA = "CUDAExecutionProvider"


@pytest.mark.skipif(runner._has_gpu(), reason="there is a GPU")
@pytest.mark.skipif(
    CUDA not in import_onnxruntime().get_available_providers(), reason="needs onnxruntime-gpu"
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_provider_that_does_not_start_is_no_cpu(
    make_artifact: ArtifactMaker, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    artifact = load_artifact(make_artifact("onnx"))
    assert OnnxRunner(artifact, "auto", "body").device == "cpu"
    monkeypatch.setattr(runner, "_has_gpu", lambda: True)  # its driver is loaded, and no more
    with pytest.raises(ExportError, match=f"device is {device}, .* could not start its CUDA"):
        OnnxRunner(artifact, device, "body")
    assert OnnxRunner(artifact, "cpu", "body").device == "cpu"


def test_states_of_tokens_are_read_only_where_they_are_asked_for(
    make_artifact: ArtifactMaker,
) -> None:
    runner = OnnxRunner(load_artifact(make_artifact("onnx")), "cpu", "body")
    inputs = np.arange(8)[::-1], np.array([0, 3, 8], dtype=np.int32)
    whole, part = runner.run(*inputs), runner.run(*inputs, tokens=False)
    assert part.token_embeddings is None
    assert whole.token_embeddings is not None
    assert whole.token_embeddings.shape[0] == 8
    np.testing.assert_array_equal(whole.embeddings, part.embeddings)
    np.testing.assert_array_equal(whole.norms, part.norms)
