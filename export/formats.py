"""The artifact formats: one entry each. A format's folder is imported when it is first used."""

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

DTYPES = ("float32", "float16", "bfloat16", "int8")
"""Storage types, most exact first."""


class ArtifactFormat(ABC):
    """How artifacts of one format are built and run. Making one imports no torch and no runtime."""

    @abstractmethod
    def check_tools(self) -> None:
        """Refuse to build where a package or a tool is missing.

        Raises:
            ConfigError: Naming it, and how to get it.
        """

    @abstractmethod
    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Write the graph of ``model``, which lies on the device that it is made for.

        Args:
            model: The source.
            layout: Inputs of the graph.
            dtype: One of the format's.
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
            artifact: What to run.
            device: ``auto``, ``cpu`` or ``cuda``.
            kernel: One of the format's.
            threads: Threads of an operator; 0 leaves it to the runtime.

        Raises:
            ExportError: This machine cannot run it, saying why and what to do.
        """

    def execution_paths(self, artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
        """Every way to run an artifact on this machine, by name."""
        return {artifact.manifest.kind: lambda: self.open_runner(artifact)}

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """How often each operator occurs in the graph; empty where it does not tell."""
        return {}

    def advice(self, artifact: Artifact) -> str:
        """How it would run faster here; empty where there is nothing to do."""
        return ""


@dataclass(frozen=True)
class Format:
    """One format of artifacts.

    Attributes:
        name: In ``--format`` and in manifests.
        graph: File name of the graph.
        engine: Name of the engine that runs it (``model.engine``).
        implementation: Its ``ArtifactFormat``, as ``module:class``.
        dtypes: Storage types that it can be made in.
        devices: Types of device that it can be made for; ``any``: the runtime decides.
        kernels: Choices of what computes the attention (``model.kernel``).
        least: Least number of sequences, and of tokens, in a call of the graph.
        fills_rows: Whether packed batches are filled up to multiples of ``ROW_MULTIPLE`` rows, so
            that float32 products have fixed bits (decision 23).
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
        """The implementation, imported now."""
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
        least=2,  # torch.export keeps sizes 0 and 1 apart from all others
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
