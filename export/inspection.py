"""What an artifact is, in a form to read: ``osa inspect``."""

from __future__ import annotations

import collections
from typing import Any

from osa.export.errors import ExportError
from osa.export.manifest import Artifact
from osa.export.ort_ops import BUILD_COMMAND, find_library
from osa.export.runners import open_runner


def describe(artifact: Artifact) -> dict[str, Any]:
    """Inputs, outputs, limits, sizes, operators, and what would run here.

    Raises:
        ExportError: The graph cannot be read.
    """
    manifest = artifact.manifest
    return {
        "format": manifest.kind,
        "layout": manifest.layout,
        "dtype": manifest.dtype,
        "device": manifest.device,
        "inputs": {spec.name: f"{spec.dtype} {_shape(spec.shape)}" for spec in manifest.inputs},
        "outputs": {spec.name: f"{spec.dtype} {_shape(spec.shape)}" for spec in manifest.outputs},
        "limits": {
            "sequences": f"{manifest.min_sequences} or more",
            "tokens": f"{manifest.min_tokens} or more",
            "longest sequence": manifest.max_seq_len,
        },
        "tolerance": manifest.tolerance,
        "source": manifest.source_sha256 or "not a saved checkpoint",
        "sha256": artifact.sha256,
        "bytes": {name: size for name, (size, _) in manifest.files.items()},
        "operators": _operators(artifact),
        "runs here": _runs_here(artifact),
        "made by": manifest.versions,
    }


def _shape(sizes: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"


def _operators(artifact: Artifact) -> dict[str, int]:
    """How often each operator occurs, most frequent first; custom ones with their domain."""
    names: collections.Counter[str] = collections.Counter()
    if artifact.manifest.kind == "onnx":
        import onnx

        model = onnx.load(str(artifact.graph), load_external_data=False)
        names.update(
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in model.graph.node
        )
    elif artifact.manifest.kind == "torch-export":
        import torch

        from osa.model import ops  # noqa: F401  registers osa::attention

        program = torch.export.load(str(artifact.graph))
        names.update(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    return dict(names.most_common())


def _runs_here(artifact: Artifact) -> str:
    try:
        runner = open_runner(artifact)
    except ExportError as error:
        return f"no: {error}"
    told = f"on {runner.device}: {runner.kernel}"
    if artifact.manifest.kind == "onnx" and artifact.config.mixer == "osa" and not find_library():
        told += f" (build the native kernel: {BUILD_COMMAND})"
    return told
