"""ONNX artifacts in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osa.export.errors import ArtifactError, ExportError
from osa.export.manifest import Artifact, describe_specs
from osa.export.manifest_values import TENSOR_TYPES
from osa.export.onnx_model.external_data import external_files
from osa.export.onnx_model.format import calls_attention
from osa.export.onnx_model.runtime import FATAL, import_onnxruntime
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.export.runner import GraphOutputs
from osa.model.common.threads import threads as default_threads

TYPES = {name: f"tensor({'float' if name == 'float32' else name})" for name in TENSOR_TYPES}
"""ONNX Runtime's names of element types."""
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
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        usual = default_threads()
        options.intra_op_num_threads = threads or (usual.count if usual.limited else 0)
        options.log_severity_level = FATAL
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
        model = artifact.read_graph()  # what was hashed is what is loaded
        self._external = _add_external_data(options, model, artifact)
        try:
            self._session = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot load {artifact.graph}: {error}") from error
        _check_graph(self._session, artifact)
        active = self._session.get_providers()
        self._device = "cuda" if "CUDAExecutionProvider" in active else "cpu"
        if len(providers) > 1 and self._device != "cuda":  # it falls back without a word
            raise ExportError(
                f"device is {device}, a GPU driver is loaded, and ONNX Runtime could not start its "
                "CUDA provider: check the driver and the CUDA libraries, or use device cpu"
            )
        self._kernel = _kernel_name(artifact, native=library is not None)
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

    def run(self, inputs: np.ndarray, places: np.ndarray, tokens: bool = True) -> GraphOutputs:
        """Run the graph; see ``Runner``.

        Outputs are bound to the device: what is not asked for is not copied from it. Inputs are
        bound where they lie, as our operator reads ``cu_seqlens`` on the host.
        """
        try:
            binding = self._session.io_binding()
            held = [np.ascontiguousarray(part) for part in (inputs, places)]
            for name, part in zip(self._names, held, strict=True):
                binding.bind_cpu_input(name, part)
            for name in self._outputs:
                binding.bind_output(name, self._device)
            self._session.run_with_iobinding(binding)
            found = binding.get_outputs()
            embeddings, norms = (found[place].numpy() for place in range(2))
            states = found[2].numpy() if tokens else None
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ExportError(f"ONNX Runtime failed: {error}") from error
        return GraphOutputs(embeddings, norms, states)


def describe_here(artifact: Artifact) -> str:
    """Device and kernel that would run an artifact, by what is installed.

    Raises:
        ExportError: ONNX Runtime is not installed.
    """
    providers = _providers(import_onnxruntime().get_available_providers(), "auto")
    device = "cuda" if len(providers) > 1 else "cpu"
    return f"on {device}: {_kernel_name(artifact, native=find_library() is not None)}"


def _kernel_name(artifact: Artifact, native: bool) -> str:
    if not calls_attention(artifact):
        return "onnxruntime"
    return "osa::OrthogonalAttention, native" if native else "function body"


def _add_external_data(options: Any, model: bytes, artifact: Artifact) -> list[bytes]:
    """Give the runtime the content of files that the model names, so that it opens none.

    Returns the contents: the runtime reads them where they lie.

    Raises:
        ArtifactError: The manifest does not list one of them.
    """
    names = sorted(external_files(model))
    for name in names:
        if name not in artifact.manifest.files:
            raise ArtifactError(
                f"{artifact.graph} names the file {name[:100]!r}, which the manifest does not "
                "list: it is not read; export the model again"
            )
    contents = [artifact.read(name) for name in names]
    if names:
        sizes = [len(content) for content in contents]
        options.add_external_initializers_from_files_in_memory(names, contents, sizes)
    return contents


def _check_graph(session: Any, artifact: Artifact) -> None:
    """Refuse a graph whose inputs and outputs are not those of the manifest, in its order.

    Raises:
        ArtifactError: Naming both.
    """
    for what, found, specs in (
        ("inputs", session.get_inputs(), artifact.manifest.inputs),
        ("outputs", session.get_outputs(), artifact.manifest.outputs),
    ):
        wanted = [(spec.name, TYPES.get(spec.dtype), len(spec.shape)) for spec in specs]
        there = [(value.name, value.type, len(value.shape)) for value in found]
        sizes = [
            (size, other)
            for spec, value in zip(specs, found, strict=False)
            for size, other in zip(spec.shape, value.shape, strict=False)
            if isinstance(size, int) and isinstance(other, int)
        ]
        if there != wanted or any(size != other for size, other in sizes):
            shown = ", ".join(f"{each.name} {each.type} {each.shape}" for each in found)
            raise ArtifactError(
                f"{artifact.graph} has the {what} {shown[:500]}; the manifest says "
                f"{describe_specs(specs)}: export the model again"
            )


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
