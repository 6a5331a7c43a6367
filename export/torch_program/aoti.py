"""Artifacts of the format ``aoti``: an AOTInductor package, compiled for one type of device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.requirements import has_compiler
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel


def check_tools() -> None:
    """Refuse to build without a C++ compiler.

    Raises:
        ConfigError: There is none.
    """
    if not has_compiler():
        raise ConfigError("aoti needs a C++ compiler: install one, or use --format torch-export")


def build(model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
    """Compile and write the package.

    Raises:
        ExportError: The layout is not supported, there is no compiler, or it fails.
    """
    from osa.export.torch_program.build import compile_package, in_dtype

    compile_package(in_dtype(model, dtype), layout, path)


def open_runner(artifact: Artifact, device: str, kernel: str, threads: int) -> Runner:
    """A runner of the package; no compiler is needed. ``kernel`` and ``threads`` have no effect.

    Raises:
        ExportError: It was compiled for another device or processor, or cannot be loaded.
    """
    from osa.export.torch_program.runner import AotiRunner

    return AotiRunner(artifact, device)


def execution_paths(artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
    """The package itself."""
    return {"aoti": lambda: open_runner(artifact, "auto", "auto", 0)}


def operators(artifact: Artifact) -> Mapping[str, int]:
    """Empty: machine code does not name them."""
    return {}


def advice(artifact: Artifact) -> str:
    """Empty: there is none."""
    return ""
