"""ONNX artifacts in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from osa.export.errors import ExportError
from osa.export.manifest import Artifact
from osa.export.onnx_model.format import calls_attention
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.export.runner import GraphOutputs
from osa.model.common.threads import threads as default_threads

RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
"""Distributions of ONNX Runtime; one of them is needed."""


class OnnxRunner:
    """An ``.onnx`` file in ONNX Runtime."""

    def __init__(
        self, artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
    ) -> None:
        """Create the session.

        Args:
            artifact: The artifact.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: ``native`` needs the custom-op library; ``auto`` uses it where it is built.
            threads: Threads of an operator; 0 takes those of torch where the environment or a CPU
                quota limits them, and leaves it to ONNX Runtime elsewhere.

        Raises:
            ExportError: The runtime, the library or the device is missing.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise ExportError(
                "ONNX artifacts need onnxruntime: pip install onnxruntime-gpu, or onnxruntime "
                "where there is no NVIDIA GPU"
            ) from error
        options = ort.SessionOptions()
        usual = default_threads()
        options.intra_op_num_threads = threads or (usual.count if usual.limited else 0)
        options.log_severity_level = 3
        # Spinning threads would take CPU time from tokenisation and HTTP.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        library = None if kernel == "body" else find_library()
        if kernel == "native" and library is None:
            raise ExportError(f"the custom-op library is not built: run '{BUILD_COMMAND}'")
        if library is not None:
            try:
                options.register_custom_ops_library(str(library))
            except Exception as error:  # onnxruntime raises its own types and bare Exception
                raise ExportError(
                    f"{library} cannot be loaded: {error}; build it again: '{BUILD_COMMAND}'"
                ) from error
        providers = _providers(ort.get_available_providers(), device)
        try:
            self._session = ort.InferenceSession(str(artifact.graph), options, providers=providers)
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot load {artifact.graph}: {error}") from error
        active = self._session.get_providers()
        self._device = "cuda" if "CUDAExecutionProvider" in active else "cpu"
        if device == "cuda" and self._device != "cuda":
            raise ExportError(
                "device cuda was asked for, but ONNX Runtime could not start its CUDA provider: "
                "check the driver, or use device cpu"
            )
        self._kernel = "osa::OrthogonalAttention, native" if library else "function body"
        if not calls_attention(artifact):
            self._kernel = "onnxruntime"
        self._names = [spec.name for spec in artifact.manifest.inputs]
        self._outputs = [spec.name for spec in artifact.manifest.outputs]

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def kernel(self) -> str:
        """What computes the attention."""
        return self._kernel

    def run(self, inputs: np.ndarray, places: np.ndarray) -> GraphOutputs:
        """Run the graph."""
        try:
            found = self._session.run(
                self._outputs, dict(zip(self._names, (inputs, places), strict=True))
            )
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ExportError(f"ONNX Runtime failed: {error}") from error
        return GraphOutputs(*found)


def _providers(available: Sequence[str], device: str) -> list[str]:
    """Execution providers to ask for, best first."""
    cuda = "CUDAExecutionProvider"
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if device == "cuda" and cuda not in available:
        raise ExportError("device cuda was asked for, but this ONNX Runtime has no CUDA provider")
    if device == "cuda" or (cuda in available and _has_gpu()):
        return [cuda, "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _has_gpu() -> bool:
    """Whether a GPU driver is loaded; ONNX Runtime lists its CUDA provider on every machine."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
