"""Artifacts of the format ``torch-export``: a plain ``torch.export`` program."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel


def check_tools() -> None:
    """Nothing to check: only torch is needed."""


def build(model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
    """Write the program.

    Raises:
        ExportError: The layout is not supported.
    """
    from osa.export.torch_program.build import in_dtype, save_program

    save_program(in_dtype(model, dtype), layout, path)


def open_runner(artifact: Artifact, device: str, kernel: str, threads: int) -> Runner:
    """A runner of the program. ``kernel`` and ``threads`` have no effect.

    Raises:
        ExportError: It was made for another device, or torch cannot load it.
    """
    from osa.export.torch_program.runner import ExportedRunner

    return ExportedRunner(artifact, device)


def execution_paths(artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
    """The program itself."""
    return {"torch-export": lambda: open_runner(artifact, "auto", "auto", 0)}


def operators(artifact: Artifact) -> Mapping[str, int]:
    """Number of calls of each operator in the graph."""
    import torch

    from osa.model import ops  # noqa: F401  registers osa::attention

    program = torch.export.load(str(artifact.graph))
    return collections.Counter(
        str(node.target) for node in program.graph.nodes if node.op == "call_function"
    )


def advice(artifact: Artifact) -> str:
    """Empty: there is none."""
    return ""
