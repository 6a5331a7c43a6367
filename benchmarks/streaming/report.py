"""What came out: tables, and plots of time and memory against length."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.plots import save_svg
from benchmarks.common.tables import table
from benchmarks.streaming.devices import messages, osa_s, ring_bytes, ring_s
from benchmarks.streaming.store import Row
from osa.model import EmbeddingModel

DEVICES = (1, 8, 64)
MODELLED = (131_072, 1_048_576, 10_485_760)
"""Tokens of the sequences whose time on several devices is modelled."""


def medians(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Of each length."""
    found = []
    for tokens in sorted({row["tokens"] for row in rows}):
        own = [row for row in rows if row["tokens"] == tokens]
        names = ("above_mb", "cpu_s", "wall_s")
        one = {name: float(statistics.median(row[name] for row in own)) for name in names}
        one["ratio"] = statistics.median(row["cpu_s"] / row["short_cpu_s"] for row in own)
        found.append({"tokens": tokens, **one})
    return found


def length_table(rows: Sequence[Row]) -> str:
    """Medians by length."""
    headers = [
        "tokens",
        "peak above idle [MB]",
        "CPU time [us/token]",
        "over that at 1,000 at once",
        "wall time [s]",
    ]
    cells = [
        [
            f"{one['tokens']:,}",
            f"{one['above_mb']:.0f}",
            f"{one['cpu_s'] * 1e6:.1f}",
            f"{one['ratio']:.2f}",
            f"{one['wall_s'] * one['tokens']:.1f}",
        ]
        for one in medians(rows)
    ]
    return table(headers, cells)


def write_plot(rows: Sequence[Row], file: Path) -> None:
    """Draw memory, and CPU time a token beside that of short texts, against length."""
    from matplotlib.figure import Figure

    found = medians(rows)
    tokens = [one["tokens"] for one in found]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(tokens, [one["above_mb"] for one in found], marker="o")
    left.set_ylabel("peak memory above idle [MB]")
    right.plot(tokens, [one["ratio"] for one in found], marker="o")
    right.axhline(1.3, linestyle=":", color="grey")
    right.set_ylabel("CPU time a token over that at 1,000")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("tokens of a document")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_svg(figure, file)


def beside_table(rows: Sequence[Row]) -> str:
    """Latencies of every round, and medians of the ratios; a row has those of ``Round``."""
    cells = []
    for place, row in enumerate(rows):
        alone, reading, computing = (row[name] for name in ("alone", "reading", "computing"))
        cells.append(
            [
                str(place),
                *(f"{value * 1e3:.1f}" for value in alone[:2]),
                f"{reading[1] * 1e3:.1f}" if reading else "",
                f"{reading[1] / alone[1]:.2f}" if reading else "",
                *(f"{value * 1e3:.1f}" for value in computing[:2]),
                f"{computing[1] / alone[1]:.2f}",
            ]
        )
    read = [row["reading"][1] / row["alone"][1] for row in rows if row["reading"]]
    middle = statistics.median(row["computing"][1] / row["alone"][1] for row in rows)
    half = statistics.median(row["computing"][0] / row["alone"][0] for row in rows)
    shown = f"{statistics.median(read):.2f}" if read else ""
    cells.append(["median ratio", "", "", "", shown, f"{half:.2f} of p50", "", f"{middle:.2f}"])
    headers = ["round", "p50 alone [ms]", "p99 alone", "p99 while read", "ratio"]
    return table([*headers, "p50 while computed", "p99 while computed", "ratio"], cells)


def route_table(rows: Sequence[Row]) -> str:
    """Documents over HTTP."""
    headers = ["route", "tokens", "peak above idle [MB]", "CPU time [us/token]"]
    headers += ["over that of texts of 1,000", "vectors of chunks", "answer [MB]"]
    cells = [
        [
            row["route"],
            f"{row['tokens']:,}",
            f"{row['above_mb']:.0f}",
            f"{row['cpu_s'] * 1e6:.1f}",
            f"{row['cpu_s'] / row['short_cpu_s']:.2f}",
            f"{row['chunks']:,}",
            f"{row['answer_bytes'] / 1e6:.1f}",
        ]
        for row in rows
    ]
    return table(headers, cells)


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
