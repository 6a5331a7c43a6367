"""The report: Markdown tables of a run; pure functions of its results."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.common.report import fact_list
from benchmarks.common.tables import MISSING, number, table
from benchmarks.serving.harness.corpus import MIXED
from benchmarks.serving.harness.measurements import (
    ABANDONED,
    ABANDONED_AFTER_S,
    CLIENTS,
    FRACTIONS,
    Goodput,
)
from benchmarks.serving.harness.plan import LENGTHS, MeasurementPlan, RoundResult
from benchmarks.serving.harness.results import Results

OURS = "osa"
"""What the names of our servers begin with."""
READING = """\
Every server runs alone, on both cores, on 127.0.0.1. In a round each server is measured once;
figures are medians over rounds. CPU time is user and system time of all processes of the server,
without that of the client. Every answer is compared with the float32 vector of its text while the
load runs; wrong answers do not count. Texts are random words of the vocabulary, all different, with
a known number of tokens.

Read the ratios, which are medians of ratios within a round. Absolute times are those of a shared
machine."""


def render(results: Results, plan: MeasurementPlan, ours: str) -> str:
    """The measured part of the report.

    Args:
        results: Results of the run.
        plan: Durations of its measurements.
        ours: Name of the server that the others are compared with.
    """
    sections = [
        fact_list(results.machine),
        f"    {results.command}",
        READING,
        _section("Servers", server_table(results)),
        _section(
            f"CPU time per text, {CLIENTS} clients, one text per request", cost_table(results, ours)
        ),
        _section("Beside the best peer", best_table(results)),
        _section("Latency in the same loops [ms]", latency_table(results)),
        _section(
            "Goodput under open load",
            f"Requests arrive at random times (Poisson), lengths mixed (4 to 256 tokens), at "
            f"fractions of the capacity that the same server had in a closed loop just before; "
            f"clients disconnect after {plan.deadline_s:g} s. Right answers in time over capacity; "
            f"in brackets the 99th percentile of their latency [ms].\n\n" + goodput_table(results),
        ),
        _section(
            "Everything else",
            f"Abandoned: CPU time spent after the clients of {ABANDONED} requests disconnected at "
            f"{ABANDONED_AFTER_S} s, over the CPU time of answering as many. Bits: texts whose "
            f"vector changes with batch composition. Idle: share of one core over "
            f"{plan.idle_s:g} s. Cold start: from start to first answer, files in the page cache. "
            f"Memory after load, of all processes: resident, and with shared pages counted once. "
            f"Error: largest difference of an entry of a unit vector from float32.\n\n"
            + operations_table(results),
        ),
    ]
    if results.unavailable:
        lines = "\n".join(
            f"- {name}: {' '.join(why.split())}" for name, why in results.unavailable.items()
        )
        sections.append(_section("Not measured", lines))
    if notes := _notes(results):
        sections.append(_section("Notes of the run", notes))
    return "\n\n".join(sections) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def server_table(results: Results) -> str:
    """Description of each server."""
    rows = []
    for name, facts in results.servers.items():
        versions = ", ".join(f"{package} {found}" for package, found in facts.versions.items())
        rows.append([name, facts.dtype, facts.settings, versions])
    return table(["", "computes in", "settings", "versions"], rows)


def cost_table(results: Results, ours: str) -> str:
    """CPU time per text, and its ratio to that of each server."""
    heads = [""]
    for length in LENGTHS:
        heads += [f"{length} tokens [CPU-ms]", f"{ours} / it", f"texts/s at {length}"]
    rows = []
    for name in results.by_server:
        cells = [name]
        for length in LENGTHS:
            ratio = results.cost_ratio(ours, name, length) if name != ours else 1.0
            cells += [
                number(results.median(name, _of_cost(length, "cpu_ms")), ".2f"),
                number(ratio, ".2f"),
                number(results.median(name, _of_cost(length, "texts_per_s")), ".0f"),
            ]
        rows.append(cells)
    return table(heads, rows)


def best_table(results: Results) -> str:
    """CPU time of each server of ours over that of the cheapest peer, by type."""
    peers = [name for name in results.by_server if not name.startswith(OURS)]
    rows = []
    for dtype in ("float32", "bfloat16"):
        among = [name for name in peers if results.servers[name].dtype == dtype]
        for ours in (name for name in results.by_server if name not in peers):
            cells = [ours, dtype]
            for length in LENGTHS:
                costs = {name: results.median(name, _of_cost(length, "cpu_ms")) for name in among}
                known = {name: cost for name, cost in costs.items() if not math.isnan(cost)}
                best = min(known, key=known.__getitem__, default=MISSING)
                ratio = results.cost_ratio(ours, best, length)
                cells += [f"{number(ratio, '.2f')} ({best})"]
            rows.append(cells)
    return table(["", "best of the peers in", *(f"{length} tokens" for length in LENGTHS)], rows)


def latency_table(results: Results) -> str:
    """Percentiles of latency in the closed loops."""
    parts = ("p50_ms", "p95_ms", "p99_ms")
    heads = ["", *(f"{length}: {part[:3]}" for length in LENGTHS for part in parts)]
    rows = [
        [
            name,
            *(
                number(results.median(name, _of_cost(length, part)), ".0f")
                for length in LENGTHS
                for part in parts
            ),
        ]
        for name in results.by_server
    ]
    return table(heads, rows)


def goodput_table(results: Results) -> str:
    """Right answers in time over capacity, at each offered load."""
    heads = [
        "",
        "capacity [texts/s]",
        "CPU-ms a text",
        *(f"{fraction:.0%}" for fraction in FRACTIONS),
        "refused at 120 %",
    ]
    rows = []
    for name in results.by_server:
        if all(one.capacity is None for one in results.by_server[name]):
            continue
        cells = [
            name,
            number(results.median(name, lambda one: one.capacity), ".0f"),
            number(results.median(name, _of_cost(MIXED, "cpu_ms")), ".2f"),
        ]
        for fraction in FRACTIONS:
            share = results.median(name, _of_goodput(fraction, _share))
            tail = results.median(name, _of_goodput(fraction, lambda one, _: one.p99_ms))
            cells.append(MISSING if math.isnan(share) else f"{share:.0%} ({number(tail, '.0f')})")
        refused = results.median(
            name,
            _of_goodput(
                FRACTIONS[-1],
                lambda one, _: one.verdicts.get("refused", 0) / sum(one.verdicts.values()),
            ),
        )
        rows.append([*cells, number(refused, ".0%")])
    return table(heads, rows)


def operations_table(results: Results) -> str:
    """Idle usage, cold start, memory, errors, and other operational figures."""
    heads = ["", *(f"abandoned, {length}" for length in LENGTHS), "bits", "idle", "cold start [s]",
             "resident [MB]", "shared once [MB]", "error"]  # fmt: skip
    rows = []
    for name, rounds in results.by_server.items():
        if all(one.idle is None for one in rounds):
            continue
        bits = next((one.changed_bits for one in rounds if one.changed_bits), None)
        rows.append(
            [
                name,
                *(number(results.median(name, _of_abandoned(length)), ".0%") for length in LENGTHS),
                MISSING if bits is None else f"{bits[0]} of {bits[1]}",
                number(results.median(name, lambda one: one.idle), ".1%"),
                number(results.median(name, lambda one: one.cold_start_s), ".1f"),
                number(results.median(name, lambda one: one.resident_mb), ".0f"),
                number(results.median(name, lambda one: one.proportional_mb), ".0f"),
                number(max(one.error for one in rounds), ".0e") if rounds else MISSING,
            ]
        )
    return table(heads, rows)


def _notes(results: Results) -> str:
    lines = []
    for name, rounds in results.by_server.items():
        for turn, one in enumerate(rounds, 1):
            lines += [f"- {name}, round {turn}: {note}" for note in one.notes]
            bad = {
                verdict: count
                for cost in one.costs.values()
                for verdict, count in cost.verdicts.items()
                if verdict != "right"
            }
            if bad:
                lines.append(f"- {name}, round {turn}: in closed loops {bad}")
    return "\n".join(lines)


def _of_cost(length: int, part: str) -> Callable[[RoundResult], float | None]:
    def read(one: RoundResult) -> float | None:
        cost = one.costs.get(length)
        return None if cost is None else float(getattr(cost, part))

    return read


def _of_abandoned(length: int) -> Callable[[RoundResult], float | None]:
    return lambda one: one.abandoned.get(length)


def _of_goodput(
    fraction: float, read: Callable[[Goodput, RoundResult], float]
) -> Callable[[RoundResult], float | None]:
    def find(measured: RoundResult) -> float | None:
        for one in measured.goodputs:
            if one.fraction == fraction:
                return read(one, measured)
        return None

    return find


def _share(one: Goodput, measured: RoundResult) -> float:
    return one.good / measured.capacity if measured.capacity else math.nan
