"""Running artifacts: one protocol over ONNX Runtime, AOTInductor and torch.export.

A runner takes the inputs of its graph and gives its outputs, all numpy. ``embed_sequences`` brings
any list of sequences into a graph's layout and sizes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from osa.export.errors import ExportError
from osa.export.manifest import Artifact, Manifest
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.export.processor import check_processor
from osa.export.rows import lay_out

RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
"""Distributions of ONNX Runtime, either of which will do."""
Kernel = Literal["auto", "native", "body"]
"""What computes the attention of an ONNX model: ``native`` the library, ``body`` the function."""


class GraphOutputs(NamedTuple):
    """Outputs of a graph, see ``osa.export.program``."""

    embeddings: np.ndarray
    norms: np.ndarray
    token_embeddings: np.ndarray


class Runner(Protocol):
    """Runs one graph. Used by one thread at a time."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu`` or ``cuda``."""

    @property
    def kernel(self) -> str:
        """What computes the attention."""

    def run(self, inputs: np.ndarray, places: np.ndarray) -> GraphOutputs:
        """Run the graph on inputs that have its layout and sizes.

        Raises:
            ExportError: The runtime refuses them or fails.
        """


class OnnxRunner:
    """An ``.onnx`` file in ONNX Runtime."""

    def __init__(
        self, artifact: Artifact, device: str = "auto", kernel: Kernel = "auto", threads: int = 0
    ) -> None:
        """Create the session.

        Args:
            artifact: What to run.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: ``native`` needs the custom-op library; ``auto`` takes it where it is.
            threads: Threads of an operator; 0 leaves it to ONNX Runtime.

        Raises:
            ExportError: The runtime, the library or the device is not there.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise ExportError(
                "ONNX artifacts need onnxruntime: pip install onnxruntime-gpu, or onnxruntime "
                "where there is no NVIDIA GPU"
            ) from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that wait by spinning take the cores that tokenising and HTTP need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        library = None if kernel == "body" else find_library()
        if kernel == "native" and library is None:
            raise ExportError(f"the custom-op library is not built: run '{BUILD_COMMAND}'")
        if library is not None:
            try:
                options.register_custom_ops_library(str(library))
            except Exception as error:  # onnxruntime raises its own and bare types
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
        if artifact.config.mixer != "osa":
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
    """Whether a driver is there: ONNX Runtime names its CUDA provider on every machine."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


class TorchRunner:
    """A ``.pt2`` file: an AOTInductor package or a plain exported program."""

    def __init__(self, artifact: Artifact, device: str = "auto") -> None:
        """Load the package; a compiler is not needed.

        Raises:
            ExportError: It was made for another device, or torch cannot load it.
        """
        import torch

        from osa.model import ops  # noqa: F401  registers osa::attention

        manifest = artifact.manifest
        if manifest.device == "cuda" and not torch.cuda.is_available():
            raise ExportError(
                f"{artifact.path} was compiled for cuda, and torch finds no CUDA device here: "
                "export it again on this machine, or with --device cpu"
            )
        if manifest.kind == "aoti" and manifest.device == "cpu":
            check_processor(manifest.versions, artifact.path)
        own = manifest.device if manifest.device != "any" else "cpu"
        if device not in ("auto", own):
            raise ExportError(
                f"{artifact.path} was made for {own}, not {device}: export it with "
                f"--device {device}"
            )
        self._device = own
        self._torch = torch
        self._call = self._load(artifact)

    def _load(self, artifact: Artifact) -> Callable[..., Sequence[object]]:
        torch = self._torch
        os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"  # else wrong sizes read foreign memory
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if artifact.manifest.kind == "aoti":
                    package: Callable[..., Sequence[object]] = torch._inductor.aoti_load_package(
                        str(artifact.graph)
                    )
                    return package
                program = torch.export.load(str(artifact.graph))
                module: Callable[..., Sequence[object]] = program.module()
                return module
        except Exception as error:  # whatever the loader meets
            raise ExportError(
                f"torch {torch.__version__} cannot load {artifact.graph}, made by torch "
                f"{artifact.manifest.versions.get('torch')}: {error}"
            ) from error

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def kernel(self) -> str:
        """What computes the attention."""
        from osa.model import kernels

        return kernels.describe(self._device)

    def run(self, inputs: np.ndarray, places: np.ndarray) -> GraphOutputs:
        """Run the graph."""
        torch = self._torch
        tensors = [torch.from_numpy(part).to(self._device) for part in (inputs, places)]
        try:
            with torch.inference_mode():
                found = self._call(*tensors)
        except RuntimeError as error:
            raise ExportError(f"the compiled graph failed: {error}") from error
        return GraphOutputs(*(part.cpu().numpy() for part in found))  # type: ignore[attr-defined]


def open_runner(
    artifact: Artifact, device: str = "auto", kernel: Kernel = "auto", threads: int = 0
) -> Runner:
    """The runner for an artifact's kind.

    Raises:
        ExportError: This machine cannot run it, saying why and what to do.
    """
    if artifact.manifest.kind == "onnx":
        return OnnxRunner(artifact, device, kernel, threads)
    return TorchRunner(artifact, device)


def embed_sequences(
    runner: Runner, manifest: Manifest, sequences: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Unit vectors [S, E], their lengths [S], and every sequence's token vectors [n, E].

    Raises:
        ExportError: The runtime failed.
    """
    outputs = runner.run(*lay_out(sequences, manifest))
    count, lengths = len(sequences), [len(row) for row in sequences]
    if manifest.layout == "packed":
        tokens = np.split(outputs.token_embeddings[: sum(lengths)], np.cumsum(lengths)[:-1])
    else:
        rows = outputs.token_embeddings[:count]
        tokens = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return outputs.embeddings[:count], outputs.norms[:count], tokens
