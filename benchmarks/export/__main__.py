"""CPU time of exported encoders, all in one run.

    python -m benchmarks.export --output benchmarks/reports/export_cpu_202611.md

Every form of the packaged model, and the same encoder with softmax attention (untrained: its
values do not change its time), embed the same batches; rounds are interleaved and medians taken.
CPU time, one thread each by default, so that waiting threads do not count. Also: the operator by
itself, and CPU time from an artifact to the first vector in a fresh process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.export.contenders import make_contenders
from benchmarks.export.operator import measure_operator
from benchmarks.kernels.machine import read_machine

BATCHES = ((32, 1), (32, 64), (128, 1), (128, 16), (512, 1), (512, 4), (4096, 1), (8192, 1),
           (16384, 1))  # fmt: skip
SOFTMAX_LIMIT = 8192
"""Tokens up to which softmax's scores fit this memory: 12 heads of N x N, twice."""
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
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "## Encoder", "", *_encoder_table(options)]
    lines += ["", "## Operator alone", "", *measure_operator(options.rounds, options.threads)]
    lines += ["", "## Artifact to first vector", "", *_first_vectors(options)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output is not None:
        options.output.write_text(_with_words(options.output, text), encoding="utf-8")
    return 0


def _encoder_table(options: argparse.Namespace) -> list[str]:
    contenders = list(make_contenders(options.artifacts, options.threads))
    names = [name for name, _ in contenders]
    generator = np.random.default_rng(0)
    rows = []
    for length, count in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(options.rounds + 1):
            batch = [generator.integers(1000, 30000, length) for _ in range(count)]
            for name, run in contenders:
                if "softmax" in name and length > SOFTMAX_LIMIT:
                    continue
                started = time.process_time()
                run(batch)
                if turn:  # the first round warms up
                    times[name].append(time.process_time() - started)
        medians = {name: statistics.median(taken) for name, taken in times.items() if taken}
        own = medians[names[0]]
        cells = [f"{own * 1e6 / (length * count):.1f}"]
        cells += [f"{medians[name] / own:.2f}" if name in medians else "-" for name in names[1:]]
        rows.append(f"| {count} x {length} | " + " | ".join(cells) + " |")
    heads = [f"{names[0]} [us/token]", *(f"{name} / it" for name in names[1:])]
    return [
        "| batch x tokens | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *rows,
    ]


def _first_vectors(options: argparse.Namespace) -> list[str]:
    lines = [
        "CPU time from the runtime's import to the first vector, hashes checked, median of three:",
        "",
    ]
    for kind in ("onnx", "aoti"):
        taken = []
        for _ in range(3):
            command = [sys.executable, "-c", FIRST_VECTOR, str(options.artifacts / kind)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken.append(float(done.stdout))
        lines.append(f"- {kind}: {statistics.median(taken):.2f} s")
    return lines


def _with_words(path: Path, text: str) -> str:
    """The new figures under the words that are written by hand above the first fact."""
    if not path.is_file():
        return f"# Exported artifacts\n\n{text}"
    head, mark, _ = path.read_text(encoding="utf-8").partition("- hardware:")
    return head + text if mark else f"# Exported artifacts\n\n{text}"


if __name__ == "__main__":
    raise SystemExit(main())
