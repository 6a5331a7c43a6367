"""CPU time of exported encoders, all in one run.

    python -m benchmarks.export --output benchmarks/reports/export_cpu_202611.md

Every artifact format of the packaged model, and the same encoder with softmax attention (untrained:
the values of its weights do not change its time), embed the same batches; figures are medians over
interleaved rounds. CPU time is measured on one thread by default, so that waiting threads do not
count. Also measured: the operator alone, and CPU time from an artifact to the first vector in a new
process.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, write_measured
from benchmarks.common.tables import number, table
from benchmarks.common.timing import median_cpu_s
from benchmarks.export.implementations import make_implementations
from benchmarks.export.operator import measure_operator

BATCHES = ((32, 1), (32, 64), (128, 1), (128, 16), (512, 1), (512, 4), (4096, 1), (8192, 1),
           (16384, 1))  # fmt: skip
SOFTMAX_LIMIT = 8192
"""Longest sequence for softmax attention [tokens]: its scores take 2 x 12 heads x N x N numbers."""
FIRST_VECTOR = """
import sys, time
import onnxruntime, torch
from pathlib import Path
imported = time.process_time()
from osa.service.engines import ArtifactEngine
engine = ArtifactEngine(Path(sys.argv[1]), "cpu")
engine.embed([[101, 2023, 2003, 102]])
print(time.process_time() - imported)
"""


def main() -> int:
    """Measure and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, help="a file for the report")
    parser.add_argument("--artifacts", type=Path, default=Path("build/export"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.artifacts.mkdir(parents=True, exist_ok=True)
    facts = read_machine("cpu") | {"threads": str(options.threads)}
    sections = {
        "Encoder": _encoder_table(options),
        "Operator alone": measure_operator(options.rounds, options.threads),
        "Artifact to first vector": _first_vectors(options),
    }
    parts = [fact_list(facts), *(f"## {title}\n\n{text}" for title, text in sections.items())]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.output is not None:
        write_measured(options.output, "Exported artifacts", text)
    return 0


def _encoder_table(options: argparse.Namespace) -> str:
    implementations = dict(make_implementations(options.artifacts, options.threads))
    first, *others = implementations
    generator = np.random.default_rng(0)
    rows = []
    for length, count in BATCHES:
        batch = [generator.integers(1000, 30000, length) for _ in range(count)]
        runs = {
            name: functools.partial(run, batch)
            for name, run in implementations.items()
            if "softmax" not in name or length <= SOFTMAX_LIMIT
        }
        medians = median_cpu_s(runs, options.rounds)
        own = medians[first]
        ratios = [number(medians[name] / own if name in medians else None) for name in others]
        rows.append([f"{count} x {length}", f"{own * 1e6 / (length * count):.1f}", *ratios])
    headers = [f"{first} [us/token]", *(f"{name} / it" for name in others)]
    return table(["batch x tokens", *headers], rows)


def _first_vectors(options: argparse.Namespace) -> str:
    lines = [
        "CPU time from the runtime's import to the first vector, hashes checked, median of three:",
        "",
    ]
    for kind in ("onnx", "aoti"):
        command = [sys.executable, "-c", FIRST_VECTOR, str(options.artifacts / kind)]
        seconds = [
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
        lines.append(f"- {kind}: {statistics.median(seconds):.2f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
