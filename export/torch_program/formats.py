"""The formats ``aoti`` (compiled for one type of device) and ``torch-export`` (a plain program)."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from osa.export.errors import ArtifactError
from osa.export.formats import ArtifactFormat
from osa.export.torch_program.archive import GRAPH, Archive
from osa.model.common.model_files import parse_json
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

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """None are listed; the members of the package are checked."""
        Archive(artifact.read_graph(), artifact.graph)
        return {}

    def runs_here(self, artifact: Artifact) -> str:
        """``on cpu: ...``, without loading the package."""
        from osa.export.torch_program.runner import AotiRunner

        return _describe(artifact, AotiRunner.check_machine(artifact))


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
        """Number of calls of each operator in the graph, which is read and not loaded."""
        content = Archive(artifact.read_graph(), artifact.graph).read(GRAPH)
        try:
            nodes = parse_json(content)["graph_module"]["graph"]["nodes"]
            targets = [str(node["target"])[:200].removeprefix("torch.ops.") for node in nodes]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{artifact.graph}: {GRAPH} is damaged") from error
        return collections.Counter(targets)

    def runs_here(self, artifact: Artifact) -> str:
        """``on cpu: ...``, without loading the program."""
        from osa.export.torch_program.runner import ExportedRunner

        return _describe(artifact, ExportedRunner.device_of(artifact))


def _describe(artifact: Artifact, device: str) -> str:
    """Device and kernel that would run an artifact."""
    from osa.model import kernels

    made = artifact.manifest.device
    moved = "" if made in ("any", device) else f", made on {made}"
    return f"on {device}{moved}: {kernels.describe(device)}"
