"""The artifact formats: one entry each. A format's package is imported at first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from osa.export.runner import FormatModule

DTYPES = ("float32", "float16", "bfloat16", "int8")
"""Storage types, most exact first."""


@dataclass(frozen=True)
class Format:
    """One format of artifacts.

    Attributes:
        name: Its name in ``--format`` and in manifests.
        graph: File name of the graph.
        engine: Name of the engine that runs it (``model.engine``).
        module: Implementation: a module with the functions of ``osa.export.runner.FormatModule``.
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
    module: str
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    kernels: tuple[str, ...] = ("auto",)
    least: int = 1
    fills_rows: bool = False

    def load(self) -> FormatModule:
        """Import and return the implementation."""
        return cast("FormatModule", import_module(self.module))


_ENTRIES = (
    Format(
        name="onnx",
        graph="model.onnx",
        engine="onnxruntime",
        module="osa.export.onnx_model.format",
        dtypes=DTYPES,
        devices=("any",),
        kernels=("auto", "native", "body"),
    ),
    Format(
        name="aoti",
        graph="model.pt2",
        engine="aoti",
        module="osa.export.torch_program.aoti",
        dtypes=("float32", "bfloat16"),
        devices=("cpu", "cuda"),
        least=2,  # torch.export specialises sizes 0 and 1
        fills_rows=True,
    ),
    Format(
        name="torch-export",
        graph="model.pt2",
        engine="torch-export",
        module="osa.export.torch_program.exported",
        dtypes=("float32", "bfloat16"),
        devices=("cpu", "cuda"),
        least=2,
        fills_rows=True,
    ),
)
FORMATS: dict[str, Format] = {entry.name: entry for entry in _ENTRIES}
