"""The format ``onnx``: one ONNX model, run by ONNX Runtime."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from osa.export.errors import ArtifactError, ExportError
from osa.export.formats import ArtifactFormat
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.model.common.requirements import is_installed, require
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.export.layouts import Layout
    from osa.export.manifest import Artifact
    from osa.export.runner import Runner
    from osa.model import EmbeddingModel


class OnnxFormat(ArtifactFormat):
    """An ONNX model whose attention is a custom operator with a body in standard ones."""

    def check_tools(self) -> None:
        """Refuse to build without onnxscript and ONNX Runtime."""
        require("the onnx format", "export", "onnxscript")
        if not is_installed("onnxruntime"):
            raise ConfigError(
                "the onnx format needs onnxruntime: pip install onnxruntime-gpu, or onnxruntime "
                "where there is no such build"
            )

    def build(self, model: EmbeddingModel, layout: Layout, dtype: str, path: Path) -> None:
        """Write the model, its weights stored in ``dtype``."""
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

    def open_runner(
        self, artifact: Artifact, device: str = "auto", kernel: str = "auto", threads: int = 0
    ) -> Runner:
        """A session of ONNX Runtime."""
        from osa.export.onnx_model.runner import OnnxRunner

        return OnnxRunner(artifact, device, kernel, threads)

    def execution_paths(self, artifact: Artifact) -> Mapping[str, Callable[[], Runner]]:
        """The function body, and the native operator where its library is built."""
        native = find_library() is not None and calls_attention(artifact)
        return {
            kernel: functools.partial(self.open_runner, artifact, "cpu", kernel)
            for kernel in (("body", "native") if native else ("body",))
        }

    def operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Number of uses of each operator; custom operators with their domain."""
        import onnx

        try:
            model = onnx.load_model_from_string(artifact.read_graph())
        except Exception as error:  # protobuf's own
            raise ArtifactError(f"{artifact.graph} is not an ONNX model: {error}") from error
        return collections.Counter(
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in model.graph.node
        )

    def runs_here(self, artifact: Artifact) -> str:
        """``on cpu: ...``, without a session: ONNX Runtime computes while it creates one."""
        from osa.export.onnx_model.runner import describe_here

        return describe_here(artifact)

    def advice(self, artifact: Artifact) -> str:
        """How to build the native operator, where it is missing and the model uses it."""
        if find_library() is None and calls_attention(artifact):
            return f"build the native kernel: {BUILD_COMMAND}"
        return ""


def calls_attention(artifact: Artifact) -> bool:
    """Whether the graph has nodes of ``osa::OrthogonalAttention``."""
    from osa.model.layers.mixers import kinds_of

    try:
        return any(kind.calls_attention for kind in kinds_of(artifact.config))
    except ConfigError as error:
        raise ArtifactError(f"{artifact.path}: config.json: {error}") from error
