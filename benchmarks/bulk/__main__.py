"""Throughput of ``osa embed --on ray`` with several workers against one process.

    python -m benchmarks.bulk [--workers 2] [--texts 20000] [--tokens 200] [--rounds 3]
        [--output FILE]

All have one thread an engine. Starting Ray, engines and Python is no throughput: every run is made
with a third of the texts too, and what counts is the time that the others take. As many processes
of ``osa embed`` at once, each with all texts, tell what the machine gives: two threads of one core
are not two cores. Needs as many idle cores as workers, and one more for the driver, the reader and
Ray itself if the ratio to one process is to say something of Ray.
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
from typing import NamedTuple

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


class Rates(NamedTuple):
    """Throughput of one round [texts/s].

    Attributes:
        one: Of one process.
        at_once: Of as many processes as workers, all together.
        ray: Of Ray's workers, all together.
    """

    one: float
    at_once: float
    ray: float


def embed_s(source: Path, output: Path, processes: int, *options: str) -> float:
    """Time of runs of ``osa embed`` at once, whose outputs are removed [s].

    Args:
        source: File of texts.
        output: File of vectors of the first; others have their number after its name.
        processes: How many runs.
        *options: Of each of them.

    Raises:
        CalledProcessError: One failed.
    """
    outputs = [output.with_stem(f"{output.stem}{place}") for place in range(processes)]
    command = [sys.executable, "-m", "osa.service.cli", "embed", str(source)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    began = time.perf_counter()
    runs = [
        subprocess.Popen(
            [*command, "--output", str(own), *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for own in outputs
    ]
    for run in runs:
        if code := run.wait():
            raise subprocess.CalledProcessError(code, run.args)
    took = time.perf_counter() - began
    for own in outputs:
        own.unlink()
    return took


def rate(folder: Path, texts: int, processes: int, options: Sequence[str]) -> float:
    """Texts of the larger file that go beyond the smaller one, over the time that they take.

    Args:
        folder: Of both files.
        texts: Of the larger one; a third of them are in the smaller one.
        processes: Runs at once, each over all texts.
        options: Of ``osa embed``.
    """
    few, many = (
        embed_s(folder / name, folder / "out.parquet", processes, *options)
        for name in ("few.jsonl", "many.jsonl")
    )
    return processes * (texts - texts // 3) / max(1e-9, many - few)


def report(rows: Sequence[Rates], workers: int) -> str:
    """Rates of each round, and the medians of the ratios."""
    ratios = [(row.ray / (workers * row.one), row.ray / row.at_once) for row in rows]
    cells = [
        [str(place), *(f"{value:.0f}" for value in row), *(f"{value:.2f}" for value in own)]
        for place, (row, own) in enumerate(zip(rows, ratios, strict=True))
    ]
    middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
    cells.append(["median", "", "", "", *(f"{value:.2f}" for value in middle)])
    rates = ["one process [texts/s]", f"{workers} processes at once", f"{workers} workers of Ray"]
    return table(["round", *rates, f"Ray / {workers} times one", "Ray / at once"], cells)


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
            found = Rates(
                rate(folder, options.texts, 1, options.options),
                rate(folder, options.texts, options.workers, options.options),
                rate(folder, options.texts, 1, [*options.options, *spread]),
            )
            rows.append(found)
            rates = ", ".join(f"{value:.0f}" for value in found)
            progress(f"round {place}: {rates} texts/s of one, at once and by Ray")
    title = "## Texts a second, start-up left out"
    measured = "\n\n".join([fact_list(read_machine("cpu")), title, report(rows, options.workers)])
    print(measured)
    if options.output is not None:
        write_measured(options.output, "Workers of Ray against one process", measured + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
