"""``osa export``, ``osa verify`` and ``osa inspect``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from osa.model.errors import ConfigError

FORMATS = ("onnx", "aoti", "torch-export")
LAYOUTS = ("packed", "padded")
DTYPES = ("float32", "float16", "bfloat16", "int8")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa export``."""
    parser.add_argument("--format", required=True, choices=FORMATS, help="what is made")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where it goes")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="checkpoint; default is the packaged model"
    )
    parser.add_argument(
        "--layout",
        default="packed",
        choices=LAYOUTS,
        help="packed: all sequences end to end with cu_seqlens (what 'osa serve' runs); "
        "padded: a rectangle with attention_mask",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="storage type of the weights (onnx), or what is computed in (aoti, torch-export)",
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="what aoti compiles for"
    )


def run_export(options: argparse.Namespace) -> int:
    """Export a checkpoint; returns the exit code."""
    from osa.export.exporter import ExportOptions, export_model
    from osa.model import EmbeddingModel

    asked = ExportOptions(options.format, options.layout, options.dtype, options.device)
    if options.model is not None and not options.model.is_dir():
        raise ConfigError(f"--model must be a checkpoint directory, got {options.model}")
    model = EmbeddingModel.from_pretrained(options.model)
    results = export_model(model, options.output, asked, _tell)
    _print_results(results)
    print(f"wrote {options.output}")
    return 0


def add_directory(parser: argparse.ArgumentParser) -> None:
    """The argument of ``osa verify`` and ``osa inspect``."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="artifact directory")


def run_verify(options: argparse.Namespace) -> int:
    """Check every hash and run the parity grid again; returns the exit code."""
    from osa.export.exporter import verify_artifact
    from osa.export.manifest import load_artifact

    artifact = load_artifact(options.directory)
    _tell("every file matches its sha256")
    results = verify_artifact(artifact, _tell)
    _print_results(results)
    print(f"{options.directory} gives its source's vectors within {artifact.manifest.tolerance:g}")
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """Print what an artifact is; returns the exit code."""
    from osa.export.inspection import describe
    from osa.export.manifest import load_artifact

    print(json.dumps(describe(load_artifact(options.directory)), indent=2))
    return 0


def _tell(step: str) -> None:
    print(step, file=sys.stderr)


def _print_results(results: dict[str, list]) -> None:  # type: ignore[type-arg]
    for what, deviations in results.items():
        worst = max(deviations, key=lambda deviation: deviation.max_abs)
        cosine = min(deviation.min_cosine for deviation in deviations)
        print(
            f"{what}: {len(deviations)} cases, off by at most {worst.max_abs:.2e} "
            f"({worst.case}), least cosine {cosine:.6f}"
        )
