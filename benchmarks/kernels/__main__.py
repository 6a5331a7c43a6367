"""Error and speed of ``osa::attention`` beside its peers, and the report about it.

    python -m benchmarks.kernels [--quick] [--device cpu|cuda] [--dtypes float32,bfloat16]
                                 [--output DIR] [--repeats N] [--cases 'd32-*' ...]

Errors come first: where one is over its tolerance, its table is printed, nothing is timed, and the
exit code is 1. ``--quick`` runs a few cases and writes files only where ``--output`` is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.kernels.backward import (
    TOLERANCES,
    backward_cases,
    gradient_error,
    measure_backward,
)
from benchmarks.kernels.cases import DTYPES, Case, make_cases, select
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.contenders import CONTENDERS, Contender
from benchmarks.kernels.encoder_share import measure_shares
from benchmarks.kernels.machine import ROOT, kernel_name, read_machine
from benchmarks.kernels.measure import keep_freed_memory
from benchmarks.kernels.parity import check
from benchmarks.kernels.plots import PlotsMissing, require_matplotlib, write_plots
from benchmarks.kernels.report import Results, render, render_parity, to_json
from benchmarks.kernels.speed import Effort, measure_speed

REPORTS = ROOT / "benchmarks" / "reports"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=summary)
    parser.add_argument("--quick", action="store_true", help="few cases, 3 rounds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtypes", default="float32,bfloat16", help=", ".join(DTYPES))
    parser.add_argument("--output", type=Path, metavar="DIR", help="default benchmarks/reports")
    parser.add_argument("--repeats", type=int, help="rounds of a case, default 9 (quick: 3)")
    parser.add_argument("--cases", nargs="+", default=[], metavar="PATTERN", help="by name")
    parser.add_argument("--limit-s", type=float, default=20.0, help="longest single run [s]")
    parser.add_argument("--budget-s", type=float, default=20.0, help="a case's rounds [s]")
    parser.add_argument("--encoder", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--plots", action=argparse.BooleanOptionalAction, default=True)
    return parser


def command_of(arguments: Sequence[str]) -> str:
    """The command line for the report, without the place of the output."""
    kept: list[str] = []
    for place, argument in enumerate(arguments):
        if argument.startswith("--output="):
            kept.append("--output=DIR")
        else:
            kept.append("DIR" if place and arguments[place - 1] == "--output" else argument)
    return " ".join(["python -m benchmarks.kernels", *kept])


def say(message: str) -> None:
    """Tell how far it is, beside the report."""
    print(message, file=sys.stderr, flush=True)


def check_all(
    results: Results,
    cases: Sequence[Case],
    with_gradients: Sequence[Case],
    contenders: Sequence[Contender],
    device: str,
) -> bool:
    """Fill in every error; returns whether all are within their tolerances."""
    for case in cases:
        say(f"error of {case.name}")
        results.parity.append(check(case, contenders, device))
    osa = next(part for part in contenders if part.name == "osa")
    for case in with_gradients:
        results.gradient_errors[case] = gradient_error(osa, case, device)
    gradients = (error <= TOLERANCES[case.dtype] for case, error in results.gradient_errors.items())
    return all(gradients) and not any(result.red for result in results.parity)


def main(
    arguments: Sequence[str] | None = None, contenders: Sequence[Contender] = CONTENDERS
) -> int:
    """Check, measure, report; returns the exit code."""
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
        parser.error(str(error))

    def kernel(case: Case) -> str:
        return kernel_name(device, DTYPES[case.dtype], case.head_dim)

    keep_freed_memory()
    torch.manual_seed(0)
    results = Results(read_machine(device), command_of(arguments))
    with_gradients = backward_cases(cases, options.quick)
    if not check_all(results, cases, with_gradients, contenders, device):
        print(render_parity(results, kernel))
        say("an error is over its tolerance: speed is not measured")
        return 1
    repeats = options.repeats or (3 if options.quick else 9)
    effort = Effort(repeats, options.limit_s, options.budget_s)
    say("ceilings")
    ceilings = Ceilings(device, dtypes)
    for case in cases:
        say(f"speed of {case.name}")
        ceilings.sample()
        results.speeds.append(measure_speed(case, contenders, device, effort))
    results.copy_rate, results.product_rates = ceilings.copy_rate, ceilings.product_rates
    for case in with_gradients:
        say(f"backward of {case.name}")
        results.backward.append(measure_backward(case, contenders, device, effort))
    if options.encoder and device == "cpu":
        say("encoder")
        results.shares = measure_shares(repeats, contenders, options.quick)
    text = render(results, kernel, plots=output is not None and options.plots)
    print(text)
    if output is not None:
        write(results, text, output, options.plots)
    return 0


def write(results: Results, text: str, output: Path, plots: bool) -> None:
    """Write the report, its numbers and its plots."""
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{results.stem}.md").write_text(text)
    (output / f"{results.stem}.json").write_text(to_json(results))
    if plots:
        write_plots(results.speeds, output, results.stem)


if __name__ == "__main__":
    raise SystemExit(main())
