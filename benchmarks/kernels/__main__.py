"""Error and speed of ``osa::attention``, compared with softmax attention; writes the report.

    python -m benchmarks.kernels [--quick] [--device cpu|cuda] [--dtypes float32,bfloat16]
                                 [--output DIR] [--repeats N] [--cases 'd32-*' ...]

Errors are measured first. If one exceeds its tolerance, the table of errors is printed, nothing is
timed and the exit code is 1. ``--quick`` runs few cases and writes files only with ``--output``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common.machine import read_machine
from benchmarks.common.plots import PlotsMissing, require_matplotlib
from benchmarks.common.report import REPORTS, progress
from benchmarks.kernels.allocator import keep_freed_memory
from benchmarks.kernels.backward import (
    TOLERANCES,
    backward_cases,
    gradient_error,
    measure_backward,
)
from benchmarks.kernels.cases import DTYPES, Case, make_cases, select
from benchmarks.kernels.encoder_share import measure_shares
from benchmarks.kernels.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.kernels.parity import check
from benchmarks.kernels.plots import write_plots
from benchmarks.kernels.report import Results, render, render_parity, to_json
from benchmarks.kernels.roofline import Roofline
from benchmarks.kernels.speed import TimingLimits, measure_speed
from osa.model import kernels


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=summary)
    parser.add_argument("--quick", action="store_true", help="few cases, 3 rounds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtypes", default="float32,bfloat16", help=", ".join(DTYPES))
    parser.add_argument("--output", type=Path, metavar="DIR", help="default benchmarks/reports")
    parser.add_argument("--repeats", type=int, help="rounds of a case, default 9 (quick: 3)")
    parser.add_argument("--cases", nargs="+", default=[], metavar="PATTERN", help="name of a case")
    parser.add_argument("--limit-s", type=float, default=20.0, help="longest single call [s]")
    parser.add_argument("--budget-s", type=float, default=20.0, help="rounds of a case [s]")
    parser.add_argument("--encoder", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--plots", action=argparse.BooleanOptionalAction, default=True)
    return parser


def command_of(arguments: Sequence[str]) -> str:
    """The command line for the report, without the output folder."""
    kept: list[str] = []
    for index, argument in enumerate(arguments):
        if argument.startswith("--output="):
            kept.append("--output=DIR")
        else:
            kept.append("DIR" if index and arguments[index - 1] == "--output" else argument)
    return " ".join(["python -m benchmarks.kernels", *kept])


def check_all(
    results: Results,
    cases: Sequence[Case],
    with_gradients: Sequence[Case],
    implementations: Sequence[Implementation],
    device: str,
) -> bool:
    """Measure all errors into ``results``.

    Args:
        results: Receives the errors.
        cases: Cases of the forward pass.
        with_gradients: Cases of the backward pass.
        implementations: What is checked.
        device: ``cpu`` or ``cuda``.

    Returns:
        Whether all errors are within their tolerances.
    """
    for case in cases:
        progress(f"error of {case.name}")
        results.parity.append(check(case, implementations, device))
    osa = next(part for part in implementations if part.name == "osa")
    for case in with_gradients:
        progress(f"error of the gradient of {case.name}")
        results.gradient_errors[case] = gradient_error(osa, case, device)
    gradients = (error <= TOLERANCES[case.dtype] for case, error in results.gradient_errors.items())
    return all(gradients) and not any(result.failed for result in results.parity)


def main(
    arguments: Sequence[str] | None = None,
    implementations: Sequence[Implementation] = IMPLEMENTATIONS,
) -> int:
    """Check errors, measure speed, write the report; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    options = parser.parse_args(arguments)
    dtypes, device = options.dtypes.split(","), options.device
    if unknown := set(dtypes) - set(DTYPES):
        parser.error(f"dtypes are {', '.join(DTYPES)}, got {', '.join(sorted(unknown))}")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    known = make_cases(device, dtypes, options.quick)
    cases = select(known, options.cases)
    if not cases:
        parser.error(f"no case of that name; there are {', '.join(case.name for case in known)}")
    output: Path | None = options.output or (None if options.quick else REPORTS)
    try:
        if output is not None and options.plots:
            require_matplotlib()
    except PlotsMissing as error:
        parser.error(f"{error}, or leave them out by --no-plots")

    def kernel(case: Case) -> str:
        return kernels.describe(device, DTYPES[case.dtype], case.head_dim)

    keep_freed_memory()
    torch.manual_seed(0)
    results = Results(read_machine(device), command_of(arguments))
    with_gradients = backward_cases(cases, options.quick)
    if not check_all(results, cases, with_gradients, implementations, device):
        print(render_parity(results, kernel))
        progress("an error exceeds its tolerance: speed is not measured")
        return 1
    repeats = options.repeats or (3 if options.quick else 9)
    limits = TimingLimits(repeats, options.limit_s, options.budget_s)
    progress("roofline")
    roofline = Roofline(device, dtypes)
    for case in cases:
        progress(f"speed of {case.name}")
        roofline.sample()
        results.speeds.append(measure_speed(case, implementations, device, limits))
    results.copy_rate, results.product_rates = roofline.copy_rate, roofline.product_rates
    for case in with_gradients:
        progress(f"backward of {case.name}")
        results.backward.append(measure_backward(case, implementations, device, limits))
    if options.encoder and device == "cpu":
        progress("encoder")
        results.shares = measure_shares(repeats, implementations, options.quick)
    text = render(results, kernel, plots=output is not None and options.plots)
    print(text)
    if output is not None:
        write(results, text, output, options.plots)
    return 0


def write(results: Results, text: str, output: Path, plots: bool) -> None:
    """Write the report, its numbers as JSON, and its plots.

    Args:
        results: All measurements.
        text: The report.
        output: Folder of the files.
        plots: Whether to draw plots.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{results.stem}.md").write_text(text)
    (output / f"{results.stem}.json").write_text(to_json(results))
    if plots:
        write_plots(results.speeds, output, results.stem)


if __name__ == "__main__":
    raise SystemExit(main())
