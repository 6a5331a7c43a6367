"""Throughput of ``osa embed --on ray`` with several workers against one process.

    python -m benchmarks.bulk [--workers 2] [--texts 20000] [--tokens 200] [--rounds 3]
        [--output FILE]

Both have one thread an engine. Starting Ray, engines and Python is no throughput: every run is made
with a third of the texts too, and what counts is the time that the others take. Needs as many idle
cores as workers, and one more for the driver, the reader and Ray itself if the ratio is to say
something of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, progress, write_measured
from benchmarks.common.tables import table

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "men", "play", "old", "songs")


def write_texts(file: Path, count: int, tokens: int) -> None:
    """JSON lines of texts of about so many tokens each."""
    generator = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(count):
            text = " ".join(generator.choices(WORDS, k=tokens))
            lines.write(json.dumps({"text": text}) + "\n")


def embed_s(source: Path, output: Path, *options: str) -> float:
    """Time of a run of ``osa embed``, whose output is removed [s]."""
    command = [sys.executable, "-m", "osa.service.cli", "embed", str(source)]
    command += ["--output", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    took = time.perf_counter() - began
    output.unlink()
    return took


def rate(folder: Path, texts: int, options: Sequence[str]) -> float:
    """Texts of the larger file that go beyond the smaller one, over the time that they take."""
    few, many = (
        embed_s(folder / name, folder / "out.parquet", *options)
        for name in ("few.jsonl", "many.jsonl")
    )
    return (texts - texts // 3) / max(1e-9, many - few)


def report(rows: Sequence[tuple[float, float]], workers: int) -> str:
    """Rates of each round, and the median of the ratios."""
    cells = [
        [str(place), f"{one:.0f}", f"{several:.0f}", f"{several / (workers * one):.2f}"]
        for place, (one, several) in enumerate(rows)
    ]
    middle = statistics.median(several / (workers * one) for one, several in rows)
    cells.append(["median", "", "", f"{middle:.2f}"])
    return table(
        ["round", "one process [texts/s]", f"{workers} workers", f"over {workers} times one"], cells
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bulk", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=200, help="of a text, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, metavar="FILE", help="report to write")
    parser.add_argument("options", nargs="*", help="of osa embed, after --, as --model DIR")
    options = parser.parse_args(arguments)
    spread = ["--on", "ray", "--workers", str(options.workers), "--piece-bytes", "1000000"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder / "few.jsonl", options.texts // 3, options.tokens)
        write_texts(folder / "many.jsonl", options.texts, options.tokens)
        for place in range(options.rounds):
            one = rate(folder, options.texts, options.options)
            several = rate(folder, options.texts, [*options.options, *spread])
            rows.append((one, several))
            progress(f"round {place}: {one:.0f} and {several:.0f} texts/s")
    title = "## Texts a second, start-up left out"
    measured = "\n\n".join([fact_list(read_machine("cpu")), title, report(rows, options.workers)])
    print(measured)
    if options.output is not None:
        write_measured(options.output, "Workers of Ray against one process", measured + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
