"""The artifact formats: one entry each. A format's package is imported at first use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel
    from osa.model.config import EncoderConfig

DTYPES = ("float32", "float16", "bfloat16", "int8")
"""Storage types, most exact first."""


class ArtifactFormat(ABC):
    """Building and running artifacts of one format. It imports torch and runtimes at first use."""

    @abstractmethod
    def check_tools(self) -> None:
        """Refuse to build where a package or a tool is missing.

        Raises:
            ConfigError: What is missing, and how to install it.
        """

    def check_model(self, config: EncoderConfig, layout: Layout) -> None:
        """Refuse what the format cannot hold, before any work.

        Raises:
            ExportError: Naming the option at fault.
        """
        from osa.export.graph import check_layout  # which imports torch

        check_layout(config, layout)

    @abstractmethod
    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Write the graph of ``model``, which is on the device to build for.

        Args:
            model: The source.
            layout: Inputs of the graph.
            dtype: One of the format's ``dtypes``.
            path: File to write.

        Raises:
            ExportError: The graph cannot be built.
        """

    @abstractmethod
    def open_runner(
        self, artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
    ) -> Runner:
        """A runner of an artifact of this format.

        Args:
            artifact: The artifact.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: One of the format's ``kernels``.
            threads: Threads of an operator; 0 leaves it to the runtime.

        Raises:
            ExportError: Why this machine cannot run it, and what to do.
        """

    def execution_paths(self, artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
        """Openers of runners by execution path: every way to run the artifact on this machine."""
        return {artifact.manifest.kind: lambda: self.open_runner(artifact)}

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Number of uses of each operator in the graph; empty where the format lists none."""
        return {}

    @abstractmethod
    def runs_here(self, artifact: Artifact) -> str:
        """Device and kernel that would run an artifact, told without loading it.

        Raises:
            ExportError: Why this machine cannot run it.
        """

    def advice(self, artifact: Artifact) -> str:
        """Advice on how to run it faster on this machine; empty where there is none."""
        return ""


@dataclass(frozen=True)
class Format:
    """One format of artifacts.

    Attributes:
        name: Its name in ``--format`` and in manifests.
        graph: File name of the graph.
        engine: Name of the engine that runs it (``model.engine``).
        implementation: Its ``ArtifactFormat``, as ``module:class``.
        dtypes: Supported storage types.
        devices: Supported types of device; ``any`` where the runtime decides.
        kernels: Choices of ``model.kernel``.
        least: Least number of sequences, and of tokens, in a call of the graph.
        fills_rows: Whether packed batches are padded to multiples of ``ROW_MULTIPLE`` rows, so
            that bits do not depend on the batch (decision 23).
    """

    name: str
    graph: str
    engine: str
    implementation: str
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    kernels: tuple[str, ...] = ("auto",)
    least: int = 1
    fills_rows: bool = False

    def load(self) -> ArtifactFormat:
        """Import the implementation and create it."""
        module, _, name = self.implementation.partition(":")
        return cast(ArtifactFormat, getattr(import_module(module), name)())


_ENTRIES = (
    Format(
        name="onnx",
        graph="model.onnx",
        engine="onnxruntime",
        implementation="osa.export.onnx_model.format:OnnxFormat",
        dtypes=DTYPES,
        devices=("any",),
        kernels=("auto", "native", "body"),
    ),
    Format(
        name="aoti",
        graph="model.pt2",
        engine="aoti",
        implementation="osa.export.torch_program.formats:AotiFormat",
        dtypes=("float32", "bfloat16"),
        devices=("cpu", "cuda"),
        least=2,  # torch.export specialises sizes 0 and 1
        fills_rows=True,
    ),
    Format(
        name="torch-export",
        graph="model.pt2",
        engine="torch-export",
        implementation="osa.export.torch_program.formats:ExportedFormat",
        dtypes=("float32", "bfloat16"),
        devices=("cpu", "cuda"),
        least=2,
        fills_rows=True,
    ),
)
FORMATS: dict[str, Format] = {entry.name: entry for entry in _ENTRIES}
