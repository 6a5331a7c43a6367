"""Export: build the graph, verify it, and only then publish the directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from osa.export.errors import OptionError
from osa.export.formats import DTYPES, FORMATS, Format
from osa.export.graph import Layout, input_specs, output_specs
from osa.export.layouts import LAYOUTS
from osa.export.manifest import (
    Artifact,
    hash_files,
    load_artifact,
)
from osa.export.manifest_values import PARITY, TOLERANCE, Manifest
from osa.export.onnx_model.runner import RUNTIMES
from osa.export.parity.comparison import Deviation, check_deviations, compare, report
from osa.export.parity.reference import make_reference
from osa.export.processor import describe_processor
from osa.model import EmbeddingModel
from osa.model.calibration import CALIBRATION
from osa.model.checkpoint import CONFIG, TOKENIZER, atomic_directory
from osa.model.common.directories import ARTIFACT
from osa.model.inference.cuda_device import cuda_problem
from osa.model.prompts import PROMPTS, prompts_to_json

PACKAGES = ("osa-encoder", "torch", "onnx", "onnxscript")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        kind: Name of the format.
        layout: Inputs of the graph.
        dtype: With ``onnx``, the storage type of weights. With the others float32 or bfloat16, the
            type of products and attention.
        device: ``cpu`` or ``cuda``, for torch's formats.

    Raises:
        OptionError: An invalid value or combination.
    """

    kind: str = "onnx"
    layout: Layout = "packed"
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse invalid values and combinations."""
        if self.kind not in FORMATS:
            raise OptionError(f"kind must be one of {', '.join(FORMATS)}, got {self.kind!r}")
        made = FORMATS[self.kind]
        for name, value, allowed in (
            ("layout", self.layout, LAYOUTS),
            ("device", self.device, ("cpu", "cuda")),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in allowed:
                raise OptionError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.dtype not in made.dtypes:
            raise OptionError(
                f"{self.kind} artifacts are {' or '.join(made.dtypes)}, got dtype {self.dtype}"
            )
        if self.device == "cuda" and "cuda" not in made.devices:
            raise OptionError(f"an {self.kind} artifact runs on every device: leave device out")
        if self.device == "cuda" and (problem := cuda_problem()) is not None:
            raise OptionError(f"device cuda was asked for, but {problem}")

    @property
    def format(self) -> Format:
        """The registered format."""
        return FORMATS[self.kind]


def export_model(
    model: EmbeddingModel,
    directory: Path,
    options: ExportOptions | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, list[Deviation]]:
    """Write an artifact directory, verified against ``model`` in float64.

    Args:
        model: The source.
        directory: Target; replaced only if it is empty or has an artifact.
        options: Format, layout, type and device; default is ONNX.
        progress: Called with a line for every step and every case of the grid.

    Returns:
        Deviations of the parity grid by execution path.

    Raises:
        ExportError: The graph cannot be built, or its vectors differ. Nothing is written.
        CheckpointError: ``directory`` has other files.
    """
    options = options or ExportOptions()
    made = options.format.load()
    made.check_model(model.config, options.layout)
    with atomic_directory(directory, ARTIFACT) as staging:
        progress(f"building the {options.kind} graph")
        source, graph = model.to(options.device), staging / options.format.graph
        made.build(source, options.layout, options.dtype, graph)
        (staging / CONFIG).write_text(model.config.to_json(), encoding="utf-8")
        if model.tokenizer is not None:
            (staging / TOKENIZER).write_text(model.tokenizer.to_json(), encoding="utf-8")
        if model.calibration is not None:
            (staging / CALIBRATION).write_text(model.calibration.to_json(), encoding="utf-8")
        if model.prompts:
            prompts = prompts_to_json(model.prompts, model.default_prompt_name)
            (staging / PROMPTS).write_text(prompts, encoding="utf-8")
        manifest = _manifest(model, options)
        _write(staging, manifest)
        _load_once(load_artifact(staging, proven=False), progress)
        make_reference(model, options.layout, staging, progress)
        results = _verify(staging, manifest, progress)
        (staging / PARITY).write_text(report(results, manifest.tolerance), encoding="utf-8")
        _write(staging, manifest)
        load_artifact(staging)
    return results


def verify_artifact(
    artifact: Artifact, progress: Callable[[str], None] = lambda step: None
) -> dict[str, list[Deviation]]:
    """Run the parity grid of an artifact on every execution path of this machine.

    Raises:
        ExportError: The artifact cannot run here, or its vectors differ from its source's.
    """
    results = {}
    manifest = artifact.manifest
    for name, open_here in FORMATS[manifest.kind].load().execution_paths(artifact).items():
        progress(f"parity grid, {name}: loading")
        deviations = compare(open_here(), artifact, _prefixed(progress, f"parity grid, {name}: "))
        check_deviations(deviations, manifest.tolerance, f"the {manifest.kind} graph ({name})")
        results[name] = deviations
    return results


def _load_once(artifact: Artifact, progress: Callable[[str], None]) -> None:
    """Find out what the runtimes of this machine refuse before its reference is computed.

    Raises:
        ExportError: A runtime cannot load the graph.
    """
    paths = FORMATS[artifact.manifest.kind].load().execution_paths(artifact)
    for name, open_here in paths.items():
        progress(f"loading the graph, {name}")
        open_here()


def _prefixed(progress: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    """``progress`` with a prefix before every line."""
    return lambda step: progress(prefix + step)


def _verify(
    staging: Path, manifest: Manifest, progress: Callable[[str], None]
) -> dict[str, list[Deviation]]:
    """Run the parity grid on the directory as users will load it."""
    _write(staging, manifest)
    return verify_artifact(load_artifact(staging), progress)


def _write(staging: Path, manifest: Manifest) -> None:
    listed = dataclasses.replace(manifest, files=hash_files(staging))
    (staging / ARTIFACT).write_text(listed.to_json() + "\n", encoding="utf-8")


def _manifest(model: EmbeddingModel, options: ExportOptions) -> Manifest:
    return Manifest(
        kind=options.kind,
        layout=options.layout,
        dtype=options.dtype,
        device=options.device if options.device in options.format.devices else "any",
        inputs=input_specs(model.config, options.layout),
        outputs=output_specs(model.config, options.layout),
        min_sequences=options.format.least,
        min_tokens=options.format.least,
        max_seq_len=model.config.max_seq_len,
        tolerance=TOLERANCE[options.dtype],
        source_sha256=model.checkpoint_sha256,
        versions=_versions(options.device),
        files={},
    )


def _versions(device: str = "cpu") -> dict[str, str]:
    """Versions of the packages that make an artifact, and facts of what it is made for."""
    found = {name: _version(name) or "not installed" for name in PACKAGES}
    runtimes = {name: told for name in RUNTIMES if (told := _version(name)) is not None}
    return found | (runtimes or {"onnxruntime": "not installed"}) | describe_processor(device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
