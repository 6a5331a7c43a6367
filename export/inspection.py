"""``osa inspect`` of artifacts: they are read, and nothing of them is loaded or run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from osa.export.errors import ExportError
from osa.export.formats import FORMATS
from osa.export.layouts import describe_head
from osa.export.manifest import Artifact


def describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """Inputs, outputs, limits, sizes, operators, and whether it runs on this machine.

    Raises:
        ExportError: The graph cannot be read.
    """
    manifest = artifact.manifest
    counts = Counter(FORMATS[manifest.kind].load().operators(artifact))
    return {
        "format": manifest.kind,
        "task": artifact.config.task,
        **describe_head(artifact.config),
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
        "operators": dict(counts.most_common()),
        "runs here": _runs_here(artifact),
        "made by": manifest.versions,
    }


def _shape(sizes: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"


def _runs_here(artifact: Artifact) -> str:
    form = FORMATS[artifact.manifest.kind].load()
    try:
        where = form.runs_here(artifact)
    except ExportError as error:
        return f"no: {error}"
    advice = form.advice(artifact)
    return where + (f" ({advice})" if advice else "")
