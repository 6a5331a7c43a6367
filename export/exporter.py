"""Export as one act: build the graph, prove it, and only then let the directory appear."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from osa.export.errors import ExportError, OptionError
from osa.export.manifest import (
    ARTIFACT,
    DTYPES,
    GRAPH,
    KINDS,
    PARITY,
    TOLERANCE,
    Artifact,
    Dtype,
    Kind,
    Manifest,
    hash_files,
    load_artifact,
)
from osa.export.ort_ops import find_library
from osa.export.parity import Deviation, check_deviations, compare, report
from osa.export.processor import describe_processor
from osa.export.program import (
    LAYOUTS,
    MIN_SEQUENCES,
    MIN_TOKENS,
    Layout,
    input_specs,
    output_specs,
)
from osa.export.reference import make_reference
from osa.export.runners import RUNTIMES, OnnxRunner, Runner, open_runner
from osa.model import EmbeddingModel
from osa.model.calibration import CALIBRATION
from osa.model.checkpoint import CONFIG, TOKENIZER, atomic_directory
from osa.model.inference.bfloat16 import use_bfloat16

PACKAGES = ("osa-encoder", "torch", "onnx", "onnxscript")


@dataclass(frozen=True)
class ExportOptions:
    """What is made.

    Attributes:
        kind: Format.
        layout: Inputs of the graph.
        dtype: Of ``onnx``, what weights are stored in. Of the others float32, or bfloat16: what
            products and attention compute in.
        device: ``cpu`` or ``cuda``, for ``aoti``.

    Raises:
        OptionError: A value, or a combination, that is not possible.
    """

    kind: Kind = "onnx"
    layout: Layout = "packed"
    dtype: Dtype = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        allowed = {
            "kind": KINDS,
            "layout": LAYOUTS,
            "dtype": DTYPES,
            "device": ("cpu", "cuda"),
        }
        for name, values in allowed.items():
            value = getattr(self, name)
            if value not in values:
                raise OptionError(f"{name} must be one of {', '.join(values)}, got {value!r}")
        if self.kind != "onnx" and self.dtype not in ("float32", "bfloat16"):
            raise OptionError(
                f"{self.kind} artifacts are float32 or bfloat16, got dtype {self.dtype}"
            )
        if self.device == "cuda" and self.kind == "onnx":
            raise OptionError("an onnx artifact runs on every device: leave device out")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device cuda was asked for, but torch finds no CUDA device")


def export_model(
    model: EmbeddingModel,
    directory: Path,
    options: ExportOptions | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, list[Deviation]]:
    """Write an artifact directory, proved against ``model`` in float64.

    Args:
        model: The source.
        directory: Where; replaced only if it is empty or holds an artifact.
        options: What is made.
        progress: Told of every step, and of every case of the grid.

    Returns:
        The parity grid, by what ran it.

    Raises:
        ExportError: Nothing is left behind: the graph cannot be built, or gives other vectors.
        CheckpointError: ``directory`` holds something else.
    """
    options = options or ExportOptions()
    with atomic_directory(directory, ARTIFACT) as staging:
        progress(f"building the {options.kind} graph")
        _build(model.to(options.device), staging / GRAPH[options.kind], options)
        (staging / CONFIG).write_text(model.config.to_json(), encoding="utf-8")
        if model.tokenizer is not None:
            (staging / TOKENIZER).write_text(model.tokenizer.to_json(), encoding="utf-8")
        if model.calibration is not None:
            (staging / CALIBRATION).write_text(model.calibration.to_json(), encoding="utf-8")
        make_reference(model, options.layout, staging, progress)
        manifest = _manifest(model, options)
        results = _prove(staging, manifest, progress)
        (staging / PARITY).write_text(report(results, manifest.tolerance), encoding="utf-8")
        _write(staging, manifest)
        load_artifact(staging)
    return results


def verify_artifact(
    artifact: Artifact, progress: Callable[[str], None] = lambda step: None
) -> dict[str, list[Deviation]]:
    """Run the parity grid of an artifact again, on every kernel that this machine has.

    Raises:
        ExportError: The artifact cannot run here, or gives other vectors than its source.
    """
    results = {}
    manifest = artifact.manifest
    for what in _ways(artifact):
        progress(f"parity grid, {what}: loading")
        if manifest.kind == "onnx":
            runner: Runner = OnnxRunner(artifact, "cpu", "native" if what == "native" else "body")
        else:
            runner = open_runner(artifact)
        deviations = compare(runner, artifact, _after(progress, f"parity grid, {what}: "))
        check_deviations(deviations, manifest.tolerance, f"the {manifest.kind} graph ({what})")
        results[what] = deviations
    return results


def _after(progress: Callable[[str], None], what: str) -> Callable[[str], None]:
    """``progress``, told what the steps belong to."""
    return lambda step: progress(what + step)


def _ways(artifact: Artifact) -> list[str]:
    """By what the graph can be run here."""
    if artifact.manifest.kind != "onnx":
        return [artifact.manifest.kind]
    if artifact.config.mixer != "osa" or find_library() is None:
        return ["body"]
    return ["body", "native"]


def _prove(
    staging: Path, manifest: Manifest, progress: Callable[[str], None]
) -> dict[str, list[Deviation]]:
    """Run the grid over the directory as it will be loaded."""
    _write(staging, manifest)
    return verify_artifact(load_artifact(staging), progress)


def _write(staging: Path, manifest: Manifest) -> None:
    listed = dataclasses.replace(manifest, files=hash_files(staging))
    (staging / ARTIFACT).write_text(listed.to_json() + "\n", encoding="utf-8")


def _build(model: EmbeddingModel, path: Path, options: ExportOptions) -> None:
    if options.kind == "onnx":
        if importlib.util.find_spec("onnxscript") is None:
            raise ExportError("the onnx format needs onnxscript: pip install 'osa-encoder[export]'")
        from osa.export.quantization import quantize_int8, store_weights
        from osa.export.to_onnx import build_onnx, check, save_onnx

        proto = build_onnx(model, options.layout)
        if options.dtype == "int8":
            proto = quantize_int8(proto)
        elif options.dtype != "float32":
            store_weights(proto, options.dtype)
        check(proto)
        save_onnx(proto, path)
        return
    from osa.export.to_torch import compile_package, save_program

    if options.dtype == "bfloat16":
        model = use_bfloat16(copy.deepcopy(model), keep_float32=False)
    save = save_program if options.kind == "torch-export" else compile_package
    save(model, options.layout, path)


def _manifest(model: EmbeddingModel, options: ExportOptions) -> Manifest:
    fixed = options.kind == "onnx"
    return Manifest(
        kind=options.kind,
        layout=options.layout,
        dtype=options.dtype,
        device="any" if options.kind == "onnx" else options.device,
        inputs=input_specs(model.config, options.layout),
        outputs=output_specs(model.config, options.layout),
        min_sequences=1 if fixed else MIN_SEQUENCES,
        min_tokens=1 if fixed else MIN_TOKENS,
        max_seq_len=model.config.max_seq_len,
        tolerance=TOLERANCE[options.dtype],
        source_sha256=model.checkpoint_sha256,
        versions=_versions(),
        files={},
    )


def _versions() -> dict[str, str]:
    """Of what makes an artifact here, and which processor it is made on."""
    found = {name: _version(name) or "not installed" for name in PACKAGES}
    runtimes = {name: told for name in RUNTIMES if (told := _version(name)) is not None}
    return found | (runtimes or {"onnxruntime": "not installed"}) | describe_processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
