"""The README's plot: CPU time with softmax attention over that with OSA, by length.

    python -m benchmarks.encoder.plot [FILE ...]

Reads the files that ``benchmarks.encoder.lengths --output`` wrote, one per processor, by default
those in ``benchmarks/reports``, and writes ``benchmarks/reports/encoder_lengths.svg``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.common.plots import save_svg
from benchmarks.common.report import REPORTS

TARGET = REPORTS / "encoder_lengths.svg"
NAMES = {"cpu-xeon-amx": "Intel Xeon (AMX)", "cpu-epyc-avx512": "AMD EPYC (AVX-512)"}
COLORS = ("#1f5fa8", "#c1272d", "#3f9c9c", "#5b3f9c")


def ratios(record: dict[str, dict[str, dict[str, float]]]) -> tuple[list[int], list[float]]:
    """Lengths at which both were measured [tokens], and time with softmax over time with OSA."""
    times = record["seconds_per_token"]
    lengths = [int(length) for length in times["softmax"]]
    return lengths, [times["softmax"][str(n)] / times["osa"][str(n)] for n in lengths]


def draw(files: list[Path], target: Path) -> None:
    """Write the plot of the measurements in ``files`` to ``target``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for index, (file, color) in enumerate(zip(files, COLORS, strict=False)):
        record = json.loads(file.read_text(encoding="utf-8"))
        slug = record["machine"]["hardware"]
        lengths, values = ratios(record)
        axes.plot(lengths, values, "o-", color=color, label=NAMES.get(slug, slug))
        offset, side = ((-8, 4), "right") if index == 0 else ((-8, -12), "left")
        last = (lengths[-1], values[-1])
        axes.annotate(
            f"{values[-1]:.1f}x", last, offset, textcoords="offset points", ha=side, color=color
        )
    axes.axhline(1, color="#777777", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="tokens in a text")
    axes.set_ylim(0.5, 8)
    axes.set_ylabel("CPU time: softmax / OSA")
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_svg(figure, target)


def main() -> int:
    """Draw the plot; returns the exit code."""
    parser = argparse.ArgumentParser(prog="plot", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    options = parser.parse_args()
    draw(options.files or sorted(REPORTS.glob("encoder_cpu-*.json")), TARGET)
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
