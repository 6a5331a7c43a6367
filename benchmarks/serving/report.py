"""The report: Markdown tables of a run; pure functions of its results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from benchmarks.serving.measures import ABANDONED, ABANDONED_AFTER_S, CLIENTS, FRACTIONS, Goodput
from benchmarks.serving.plan import LENGTHS, Effort, Visit
from benchmarks.serving.results import Results
from benchmarks.serving.subject import MIXED

READING = """\
Every server runs alone, on both cores, on 127.0.0.1; the servers take turns, one visit a round, and
figures are medians over rounds where there are several. CPU time is user and system time of all of
the server's processes; the client's is not in it. Every answer is compared with its own text's
vector in float32 while the load runs; a wrong one never counts. Texts are random words of the
vocabulary, each a different text of a known number of tokens.

Read the ratios: medians of ratios within a round. Absolute times are a shared machine's."""
NAN = "-"


def render(results: Results, effort: Effort, ours: str) -> str:
    """The sections below the words that are written by hand.

    Args:
        results: The run.
        effort: How long its measures took.
        ours: The contender that the others are compared with.
    """
    facts = "\n".join(f"- {name}: {value}" for name, value in results.machine.items())
    sections = [
        facts,
        f"    {results.command}",
        READING,
        _section("Contenders", about_table(results)),
        _section(
            f"CPU time a text, {CLIENTS} clients, one text a request", cost_table(results, ours)
        ),
        _section("Beside the best peer", best_table(results)),
        _section("Latency in the same loops [ms]", latency_table(results)),
        _section(
            "Goodput under open load",
            f"Requests come at random times (Poisson), lengths mixed (4 to 256 tokens), at shares "
            f"of what that very server did in a closed loop just before; callers leave after "
            f"{effort.deadline_s:g} s. Right answers in time, a second, over what the closed loop "
            f"did; in brackets the 99th percentile of their latency [ms].\n\n"
            + goodput_table(results),
        ),
        _section(
            "Everything else",
            f"Abandoned: {ABANDONED} requests at once, all clients gone after "
            f"{ABANDONED_AFTER_S} s: CPU time spent after that over the CPU time of answering as "
            f"many. Bits: texts whose vector ever changed in the last bits with its batch mates. "
            f"Idle: share of one core over {effort.idle_s:g} s. Cold start: from spawn to the "
            f"first answer, files in the page cache. Memory after load, of all processes: "
            f"resident, and with shared pages counted once. Error: largest difference of an "
            f"entry of a unit vector from float32.\n\n" + operations_table(results),
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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return NAN if value is None or math.isnan(value) else format(value, form)


def about_table(results: Results) -> str:
    """What each contender is."""
    rows = []
    for name, about in results.about.items():
        versions = ", ".join(f"{package} {found}" for package, found in about.versions.items())
        rows.append([name, about.dtype, about.words, versions])
    return table(["", "computes in", "settings", "versions"], rows)


def cost_table(results: Results, ours: str) -> str:
    """CPU time a text, and ours over theirs."""
    heads = [""]
    for length in LENGTHS:
        heads += [f"{length} tokens [CPU-ms]", f"{ours} / it", f"texts/s at {length}"]
    rows = []
    for name in results.visits:
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
    """Each of our forms over the cheapest peer, of those in float32 and of those in bfloat16."""
    peers = [name for name in results.visits if results.about[name].family != "osa"]
    rows = []
    for dtype in ("float32", "bfloat16"):
        among = [name for name in peers if results.about[name].dtype == dtype]
        for ours in (name for name in results.visits if name not in peers):
            cells = [ours, dtype]
            for length in LENGTHS:
                costs = {name: results.median(name, _of_cost(length, "cpu_ms")) for name in among}
                known = {name: cost for name, cost in costs.items() if not math.isnan(cost)}
                best = min(known, key=known.__getitem__, default=NAN)
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
        for name in results.visits
    ]
    return table(heads, rows)


def goodput_table(results: Results) -> str:
    """Right answers in time over capacity, at each share of it."""
    heads = [
        "",
        "capacity [texts/s]",
        "CPU-ms a text",
        *(f"{fraction:.0%}" for fraction in FRACTIONS),
        "refused at 120 %",
    ]
    rows = []
    for name in results.visits:
        if all(one.capacity is None for one in results.visits[name]):
            continue
        cells = [
            name,
            number(results.median(name, lambda one: one.capacity), ".0f"),
            number(results.median(name, _of_cost(MIXED, "cpu_ms")), ".2f"),
        ]
        for fraction in FRACTIONS:
            share = results.median(name, _of_goodput(fraction, _share))
            tail = results.median(name, _of_goodput(fraction, lambda one, _: one.p99_ms))
            cells.append(NAN if math.isnan(share) else f"{share:.0%} ({number(tail, '.0f')})")
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
    """What it is to run each."""
    heads = ["", *(f"abandoned, {length}" for length in LENGTHS), "bits", "idle", "cold start [s]",
             "resident [MB]", "shared once [MB]", "error"]  # fmt: skip
    rows = []
    for name, visits in results.visits.items():
        if all(one.idle is None for one in visits):
            continue
        bits = next((one.changed_bits for one in visits if one.changed_bits), None)
        rows.append(
            [
                name,
                *(number(results.median(name, _of_abandoned(length)), ".0%") for length in LENGTHS),
                NAN if bits is None else f"{bits[0]} of {bits[1]}",
                number(results.median(name, lambda one: one.idle), ".1%"),
                number(results.median(name, lambda one: one.cold_start_s), ".1f"),
                number(results.median(name, lambda one: one.resident_mb), ".0f"),
                number(results.median(name, lambda one: one.proportional_mb), ".0f"),
                number(max(one.error for one in visits), ".0e") if visits else NAN,
            ]
        )
    return table(heads, rows)


def _notes(results: Results) -> str:
    lines = []
    for name, visits in results.visits.items():
        for turn, one in enumerate(visits, 1):
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


def _of_cost(length: int, part: str) -> Callable[[Visit], float | None]:
    def read(one: Visit) -> float | None:
        cost = one.costs.get(length)
        return None if cost is None else float(getattr(cost, part))

    return read


def _of_abandoned(length: int) -> Callable[[Visit], float | None]:
    return lambda one: one.abandoned.get(length)


def _of_goodput(
    fraction: float, read: Callable[[Goodput, Visit], float]
) -> Callable[[Visit], float | None]:
    def find(visit: Visit) -> float | None:
        for one in visit.goodputs:
            if one.fraction == fraction:
                return read(one, visit)
        return None

    return find


def _share(one: Goodput, visit: Visit) -> float:
    return one.good / visit.capacity if visit.capacity else math.nan
