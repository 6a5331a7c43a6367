"""The formats ``aoti`` (compiled for one type of device) and ``torch-export`` (a plain program)."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from osa.export.formats import ArtifactFormat
from osa.model.common.requirements import has_compiler
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel


class AotiFormat(ArtifactFormat):
    """An AOTInductor package."""

    def check_tools(self) -> None:
        """Refuse to build without a C++ compiler."""
        if not has_compiler():
            raise ConfigError(
                "aoti needs a C++ compiler: install one, or use --format torch-export"
            )

    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Compile and write the package."""
        from osa.export.torch_program.build import compile_package, in_dtype

        compile_package(in_dtype(model, dtype), layout, path)

    def open_runner(
        self, artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
    ) -> Runner:
        """A runner of the package, without a compiler. ``kernel`` and ``threads`` are ignored."""
        from osa.export.torch_program.runner import AotiRunner

        return AotiRunner(artifact, device)


class ExportedFormat(ArtifactFormat):
    """A plain ``torch.export`` program."""

    def check_tools(self) -> None:
        """Nothing to check: only torch is needed."""

    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Write the program."""
        from osa.export.torch_program.build import in_dtype, save_program

        save_program(in_dtype(model, dtype), layout, path)

    def open_runner(
        self, artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
    ) -> Runner:
        """A runner of the program. ``kernel`` and ``threads`` are ignored."""
        from osa.export.torch_program.runner import ExportedRunner

        return ExportedRunner(artifact, device)

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Number of calls of each operator in the graph."""
        import torch

        from osa.model import ops  # noqa: F401  registers osa::attention

        nodes = torch.export.load(str(artifact.graph)).graph.nodes
        return collections.Counter(str(node.target) for node in nodes if node.op == "call_function")
