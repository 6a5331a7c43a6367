"""Documents of any length: memory, time, short requests beside them, and several devices.

    python -m benchmarks.streaming [--quick] [--longest N] [--rounds N] [--output FILE]

Lengths run in processes of their own through the Python API. Short requests are measured in one
server, alone and beside a document, in turns. What several devices send is counted; the time that
they take is modelled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, progress, write_measured
from benchmarks.common.tables import table
from benchmarks.streaming.beside import Latencies, measure
from benchmarks.streaming.devices import messages, osa_s, ring_bytes, ring_s
from osa.model import EmbeddingModel

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
DEVICES = (1, 8, 64)
MODELLED = (131_072, 1_048_576, 10_485_760)
"""Tokens of the sequences whose time on several devices is modelled."""


def length_rows(longest: int, quick: bool) -> list[dict[str, Any]]:
    """Measurements by length."""
    rows = []
    for tokens in LENGTHS:
        if tokens > longest:
            continue
        for _ in range(1 if quick or tokens >= 1_000_000 else 3):
            command = [sys.executable, "-m", "benchmarks.streaming.lengths", str(tokens)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            progress(done.stdout.strip())
    return rows


def length_table(rows: list[dict[str, Any]]) -> str:
    """Medians by length."""
    cells = []
    for tokens in sorted({row["tokens"] for row in rows}):
        own = [row for row in rows if row["tokens"] == tokens]

        def median(name: str, found: list[dict[str, Any]] = own) -> float:
            return float(statistics.median(row[name] for row in found))

        ratio = statistics.median(row["cpu_s"] / row["short_cpu_s"] for row in own)
        cells.append(
            [
                f"{tokens:,}",
                f"{median('above_mb'):.0f}",
                f"{median('cpu_s') * 1e6:.1f}",
                f"{ratio:.2f}",
                f"{median('wall_s') * tokens:.1f}",
            ]
        )
    headers = [
        "tokens",
        "peak above idle [MB]",
        "CPU time [us/token]",
        "over that at 1,000 at once",
    ]
    return table([*headers, "wall time [s]"], cells)


def beside_table(rounds: list[tuple[Latencies, Latencies]]) -> str:
    """Latencies of every round, and medians of the ratios."""
    rows = [
        [
            str(turn),
            *(f"{value * 1e3:.1f}" for value in (*alone, *beside)),
            f"{beside.p99 / alone.p99:.2f}",
        ]
        for turn, (alone, beside) in enumerate(rounds)
    ]
    middle = statistics.median(beside.p99 / alone.p99 for alone, beside in rounds)
    half = statistics.median(beside.median / alone.median for alone, beside in rounds)
    rows.append(["median ratio", "", "", f"{half:.2f} of p50", "", f"{middle:.2f}"])
    headers = ["round", "p50 alone [ms]", "p99 alone", "p50 beside", "p99 beside"]
    return table([*headers, "ratio of p99"], rows)


def device_tables() -> str:
    """What is sent, and the modelled time."""
    model = EmbeddingModel.from_pretrained()
    config = model.config
    counted = [(tokens, messages(model, tokens)) for tokens in (2_500, 10_000, 40_000)]
    sent = table(
        ["tokens", "messages of a pass", "bytes of one layer", "of pooling"],
        [[f"{n:,}", str(len(m)), f"{m[0]:,}", f"{m[-1]:,}"] for n, m in counted],
    )
    rows = []
    for tokens in MODELLED:
        for devices in DEVICES:
            own = osa_s(tokens, devices, config.hidden_size, config.num_heads)
            ring = ring_s(tokens, devices, config.hidden_size)
            rows.append(
                [
                    f"{tokens:,}",
                    str(devices),
                    f"{own * 1e3:.3f}",
                    f"{ring * 1e3:.3f}",
                    f"{ring / own:,.0f}",
                    f"{ring_bytes(tokens, devices, config.hidden_size) / 1e6:,.1f}",
                ]
            )
    headers = ["tokens", "devices", "OSA [ms]", "ring attention [ms]", "ratio", "ring sends [MB]"]
    return f"{sent}\n\n{table(headers, rows)}"


def main() -> int:
    """Measure and print the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="streaming", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="lengths to 100,000, two rounds")
    parser.add_argument("--longest", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, help="of short requests")
    parser.add_argument("--output", type=Path, metavar="FILE", help="report to write")
    options = parser.parse_args()
    longest = min(options.longest, 100_000) if options.quick else options.longest
    rows = length_rows(longest, options.quick)
    rounds = measure(
        2_000_000, 2 if options.quick else options.rounds, 100 if options.quick else 300
    )
    measured = "\n\n".join(
        [
            fact_list(read_machine("cpu")),
            "## Memory and time by length, Python API, bfloat16",
            length_table(rows),
            "## Short requests beside a document of 2,000,000 tokens, one server",
            beside_table(rounds),
            "## Several devices: what one layer sends, counted, and its mixing time, modelled",
            device_tables(),
        ]
    )
    print(measured)
    if options.output is not None:
        write_measured(options.output, "Documents of any length", measured + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
