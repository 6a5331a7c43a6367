"""The report: Markdown for readers, JSON with every number; pure functions of the results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.common.report import fact_list
from benchmarks.kernels import tables
from benchmarks.kernels.backward import Backward
from benchmarks.kernels.cases import Case
from benchmarks.kernels.encoder_share import Share
from benchmarks.kernels.parity import Parity
from benchmarks.kernels.roofline import bytes_of, operations_of
from benchmarks.kernels.speed import Speed

READING = """\
Ratios are medians of wall time over interleaved rounds, the other's over osa's: above 1 osa is
faster. "Best sdpa" is the fastest backend of torch's scaled_dot_product_attention at that case;
"-" is a backend or implementation that does not run it (the last section says why). Times per token
are for all heads, of this machine on that day: read the ratios. Case names: head width d, tokens of
a sequence n (the longest of `mixed`), layout, type; 12 heads, about 4096 tokens in all unless one
sequence is longer or t says otherwise. Operands: q and k of unit RMS, alpha = 0.25,
scale = "length"; their angles are those of the packaged model."""
ROOFLINE = """\
Bytes are 4 N d numbers per head: q, k, v read, y written. Operations are those of the algorithm: a
sequence and head take 12 N d^2 + 8 t d^3 for N > 2d and (4 + 2 t) N^2 d for N <= 2d, with t the
terms of the series for the largest angle of the case. "Time / floor" is the time over the larger of
the two times that the measured rates allow. Small cases fit in caches, so they may exceed the copy
rate of memory; a kernel that computes float32 products from narrower ones may exceed torch's rate
for float32. Rates are the highest of the run, times are medians."""


@dataclass
class Results:
    """All measurements of a run; rates are per second."""

    machine: Mapping[str, str]
    command: str
    parity: list[Parity] = field(default_factory=list)
    gradient_errors: dict[Case, float] = field(default_factory=dict)
    copy_rate: float = float("nan")
    product_rates: dict[str, float] = field(default_factory=dict)
    speeds: list[Speed] = field(default_factory=list)
    backward: list[Backward] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """File name of the report without its suffix."""
        return f"kernels_{self.machine['hardware']}_{self.machine['date'].replace('-', '')}"

    @property
    def angles(self) -> dict[Case, float]:
        """Largest angle of each case [rad]."""
        return {result.case: result.angle for result in self.parity}


def render_parity(results: Results, kernel: Callable[[Case], str]) -> str:
    """The section on errors, which is printed alone if an error exceeds its tolerance."""
    text = (
        "## Errors\n\nmax |y - y64| / max |y64| against float64, of the first and the last "
        "sequence and head (of the last alone from 512 tokens on).\n\n"
        + tables.parity_table(results.parity, kernel)
    )
    if results.gradient_errors:
        text += "\n\nGradients of query, key and value, the largest of the three errors:\n\n"
        text += tables.gradient_table(results.gradient_errors)
    return text


def render(results: Results, kernel: Callable[[Case], str], plots: bool) -> str:
    """The whole report; ``kernel`` names the kernel of a case, ``plots`` includes the figures."""
    rates = [f"copy {results.copy_rate / 1e9:.1f} GB/s"]
    rates += [
        f"{name} product {rate / 1e9:.0f} GFLOP/s" for name, rate in results.product_rates.items()
    ]
    angles = results.angles
    sections = [
        f"# Kernel speed, {results.machine['hardware']}, {results.machine['date']}",
        f"    {results.command}",
        fact_list(results.machine),
        READING,
        render_parity(results, kernel),
        "## Warm memory\n\n" + tables.warm_table(results.speeds),
    ]
    if plots:
        sections += [f"![{kind}]({results.stem}_{kind}.svg)" for kind in ("time", "ratio")]
    if any(speed.cold for speed in results.speeds):
        sections.append(
            "## Cold memory\n\nBefore every call free memory was returned to the operating system, "
            "so new buffers page-fault.\n\n" + tables.cold_table(results.speeds)
        )
    roofline = tables.roofline_table(
        results.speeds, angles, results.copy_rate, results.product_rates
    )
    measured = "Measured in this run: " + ", ".join(rates) + "."
    sections.append(f"## Roofline\n\n{ROOFLINE}\n\n{measured}\n\n{roofline}")
    if results.backward:
        sections.append(
            '## Backward\n\n"Both" is forward and backward pass with gradients of every operand, '
            '"forward" the pass without.\n\n' + tables.backward_table(results.backward)
        )
    if results.shares:
        layers = results.shares[0].layers
        sections.append(
            "## Short texts in the encoder\n\nThe packaged encoder on packed ids, and interleaved "
            f"with it {layers} calls of the operator, one per layer, at the same shape.\n\n"
            + tables.share_table(results.shares)
        )
    sections.append("## Left out\n\n" + tables.left_out(results.speeds))
    return "\n\n".join(sections) + "\n"


def to_json(results: Results) -> str:
    """Every number as JSON, for later comparison."""
    angles = results.angles

    def case_of(case: Case) -> dict[str, object]:
        return {"name": case.name, **dataclasses.asdict(case), "tokens": case.tokens}

    def speed_of(speed: Speed) -> dict[str, object]:
        raw = dataclasses.asdict(speed)
        case = speed.case
        counted = {"bytes": bytes_of(case), "operations": operations_of(case, angles[case])}
        return {**raw, "case": case_of(case), "peer": speed.peer, **counted}

    content = {
        "machine": results.machine,
        "command": results.command,
        "parity": [
            {
                "case": result.case.name,
                "angle_rad": result.angle,
                "tolerance": result.tolerance,
                "errors": result.errors,
            }
            for result in results.parity
        ],
        "gradient_errors": {case.name: error for case, error in results.gradient_errors.items()},
        "copy_bytes_per_s": results.copy_rate,
        "product_operations_per_s": results.product_rates,
        "speed": [speed_of(speed) for speed in results.speeds],
        "backward": [
            {**dataclasses.asdict(result), "case": result.case.name} for result in results.backward
        ],
        "encoder": [dataclasses.asdict(share) for share in results.shares],
    }
    return json.dumps(content, indent=1) + "\n"
