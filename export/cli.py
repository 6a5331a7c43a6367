"""``osa export``, ``osa verify`` and ``osa inspect``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from osa.export.formats import DTYPES, FORMATS
from osa.export.layouts import LAYOUTS
from osa.model.common.directories import ARTIFACT, MODEL_KINDS, check_output, describe_path, kind_of
from osa.model.common.hub_reference import is_reference
from osa.model.common.progress import say
from osa.model.download.models import local_path
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.export.parity.comparison import Deviation


def add_export(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``osa export``."""
    parser.add_argument("--format", required=True, choices=tuple(FORMATS), help="kind of artifact")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="its directory")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="checkpoint, directory of transformers, packaged:NAME, or hf:ORG/NAME[@REVISION]; "
        "default is packaged:default",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="packed: all sequences end to end with cu_seqlens (default for the osa mixer); "
        "padded: a rectangle with attention_mask (default for the others)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="storage type of the weights (onnx), or type to compute in (aoti, torch-export)",
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="device that aoti compiles for"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing artifact")


def run_export(options: argparse.Namespace) -> int:
    """Export a checkpoint; returns the exit code."""
    _check_export(options)
    options.model = local_path(options.model, progress=say)
    _check_checkpoint(options.model)
    from osa.export.exporter import ExportOptions, export_model
    from osa.export.graph import default_layout

    asked = ExportOptions(options.format, dtype=options.dtype, device=options.device)
    say("loading the model")
    from osa.model import EmbeddingModel

    model = EmbeddingModel.from_pretrained(options.model)
    asked = dataclasses.replace(asked, layout=options.layout or default_layout(model.config))
    results = export_model(model, options.output, asked, say)
    _print_results(results)
    print(f"wrote {options.output}")
    return 0


def _check_export(options: argparse.Namespace) -> None:
    """Refuse invalid options before a model is loaded.

    Raises:
        ConfigError: Not a checkpoint, an output that exists, or a missing tool.
    """
    if not is_reference(options.model):  # what is downloaded is checked afterwards
        _check_checkpoint(options.model)
    check_output(options.output, ARTIFACT, options.force)
    FORMATS[options.format].load().check_tools()


def _check_checkpoint(directory: Path | None) -> None:
    if directory is not None and kind_of(directory) not in MODEL_KINDS:
        raise ConfigError(f"--model must be a checkpoint: {describe_path(directory)}")


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Declare the argument of ``osa verify`` and ``osa inspect``."""
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="directory of an artifact or a checkpoint, packaged:NAME, or hf:ORG/NAME[@REVISION]",
    )


def run_verify(options: argparse.Namespace) -> int:
    """Check every hash and run the model; returns the exit code."""
    directory: Path = local_path(options.directory, progress=say) or options.directory
    if _is_checkpoint(directory):
        from osa.export.checkpoints import verify_checkpoint

        print("\n".join(verify_checkpoint(directory, say)))
        return 0
    from osa.export.manifest import load_artifact

    artifact = load_artifact(directory)
    say("every file matches its sha256")
    from osa.export.exporter import verify_artifact

    results = verify_artifact(artifact, say)
    _print_results(results)
    print(f"{directory} gives its source's vectors within {artifact.manifest.tolerance:g}")
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """Print a description of a model; returns the exit code."""
    directory: Path = local_path(options.directory, progress=say) or options.directory
    if _is_checkpoint(directory):
        from osa.export.checkpoints import describe_checkpoint

        print(json.dumps(describe_checkpoint(directory), indent=2))
        return 0
    from osa.export import inspection
    from osa.export.manifest import load_artifact

    print(json.dumps(inspection.describe_artifact(load_artifact(directory)), indent=2))
    return 0


def _is_checkpoint(directory: Path) -> bool:
    """Whether ``directory`` is a checkpoint or a model of transformers; otherwise an artifact.

    Raises:
        ConfigError: It is neither; the message says what it is.
    """
    kind = kind_of(directory)
    if kind not in (*MODEL_KINDS, "artifact"):
        raise ConfigError(describe_path(directory))
    return kind != "artifact"


def _print_results(results: dict[str, list[Deviation]]) -> None:
    from osa.export.parity.comparison import least_cosine

    for what, deviations in results.items():
        worst = max(deviations, key=lambda deviation: deviation.max_abs)
        cosine = least_cosine(deviations)
        print(
            f"{what}: {len(deviations)} cases, off by at most {worst.max_abs:.2e} ({worst.case})"
            + ("" if cosine is None else f", least cosine {cosine:.6f}")
        )
