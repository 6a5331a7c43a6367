"""The format ``onnx``: one ONNX model, run by ONNX Runtime."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from osa.export.errors import ExportError
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.model.common.requirements import is_installed, require
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel


def check_tools() -> None:
    """Refuse to build without onnxscript and ONNX Runtime.

    Raises:
        ConfigError: Which is missing, and how to install it.
    """
    require("the onnx format", "export", "onnxscript")
    if not is_installed("onnxruntime"):
        raise ConfigError(
            "the onnx format needs onnxruntime: pip install onnxruntime-gpu, or onnxruntime "
            "where there is no such build"
        )


def build(model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
    """Write the ONNX model, its weights stored in ``dtype``.

    Raises:
        ExportError: onnxscript is missing, or the graph cannot be built.
    """
    if not is_installed("onnxscript"):
        raise ExportError("the onnx format needs onnxscript: pip install 'osa-encoder[export]'")
    from osa.export.onnx_model.build import build_onnx, check, save_onnx
    from osa.export.onnx_model.weights import quantize_int8, store_weights

    proto = build_onnx(model, layout)
    if dtype == "int8":
        proto = quantize_int8(proto)
    elif dtype != "float32":
        store_weights(proto, dtype)
    check(proto)
    save_onnx(proto, path)


def open_runner(artifact: Artifact, device: str, kernel: str, threads: int) -> Runner:
    """A session of ONNX Runtime.

    Raises:
        ExportError: The runtime, the custom-op library or the device is missing.
    """
    from osa.export.onnx_model.runner import OnnxRunner

    return OnnxRunner(artifact, device, kernel, threads)


def execution_paths(artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
    """The function body, and the native operator where its library is built."""
    names = ["body"]
    if calls_attention(artifact) and find_library() is not None:
        names.append("native")

    def opener(kernel: str) -> Callable[[], Runner]:
        return lambda: open_runner(artifact, "cpu", kernel, 0)

    return {name: opener(name) for name in names}


def calls_attention(artifact: Artifact) -> bool:
    """Whether the graph has nodes of ``osa::OrthogonalAttention``."""
    from osa.export.onnx_model.operator_schema import DOMAIN, OPERATOR

    return f"{DOMAIN}::{OPERATOR}" in operators(artifact)


def operators(artifact: Artifact) -> Mapping[str, int]:
    """Number of uses of each operator; custom operators with their domain."""
    import onnx

    model = onnx.load(str(artifact.graph), load_external_data=False)
    return collections.Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    )


def advice(artifact: Artifact) -> str:
    """How to build the native operator, where it is missing and the model uses it."""
    if calls_attention(artifact) and find_library() is None:
        return f"build the native kernel: {BUILD_COMMAND}"
    return ""
