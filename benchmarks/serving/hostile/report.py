"""What was observed under attack, what is required of it, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common.tables import table
from benchmarks.serving.harness.measurements import Goodput
from benchmarks.serving.hostile.acts import ACTS
from benchmarks.serving.hostile.clients import Answers
from benchmarks.serving.hostile.server import DRAIN_S
from benchmarks.serving.ours.soak import growth

SLOWER, GROWN, LIVE_S, END_SLACK_S = 3.0, 0.10, 1.0, 2.0
"""Most: p99 over that without hostile clients; growth of memory; latency of ``/livez`` [s]; time
over the drain's limit until the process has ended [s]."""


@dataclass(frozen=True)
class Observed:
    """One run.

    Attributes:
        alone: Ordinary load without hostile clients.
        beside: With them.
        memory: Samples of resident memory beside them [bytes].
        livez_s: Latencies of the liveness probe beside them [s].
        livez_failures: Its answers other than 200.
        answers: To hostile clients.
        ended_s: From SIGTERM to the end of the process [s]; None where it did not end.
    """

    alone: Goodput
    beside: Goodput
    memory: Sequence[float]
    livez_s: Sequence[float]
    livez_failures: int
    answers: Answers
    ended_s: float | None


def requirements(observed: Observed) -> dict[str, bool]:
    """Requirements by name, and whether they are met."""
    beside = observed.beside
    lost = {verdict: count for verdict, count in beside.verdicts.items() if verdict != "right"}
    return {
        f"ordinary p99 within {SLOWER:g} times that without": beside.p99_ms
        <= SLOWER * observed.alone.p99_ms,
        "every ordinary answer right and in time": not any(lost.values()),
        "no 5xx to ordinary clients": not any(one.startswith("5") for one in beside.statuses),
        "no 500 to anybody": not any("500" in found for found in observed.answers.values()),
        f"memory within {GROWN:.0%}": abs(growth(observed.memory)) <= GROWN,
        f"/livez answers 200 within {LIVE_S:g} s throughout": not observed.livez_failures
        and max(observed.livez_s) < LIVE_S,
        "hostile clients get what they should": not surprises(observed.answers),
        "SIGTERM ends it within the drain's limit": observed.ended_s is not None
        and observed.ended_s <= DRAIN_S + END_SLACK_S,
    }


def surprises(answers: Answers) -> dict[str, dict[str, int]]:
    """Answers to hostile clients that a server which defends itself does not give, by act.

    An act without any answer counts as one surprise: "none".
    """
    found = {}
    for act in ACTS:
        given = answers.get(act.name, {})
        unwanted = {answer: given[answer] for answer in given if answer not in act.wanted}
        if unwanted or not given:
            found[act.name] = unwanted or {"none": 1}
    return found


def render(observed: Observed) -> str:
    """Tables of ordinary load, of answers to hostile clients, and the requirements."""
    loads = [
        [
            name,
            f"{load.offered:.1f}",
            f"{load.p50_ms:.0f}",
            f"{load.p95_ms:.0f}",
            f"{load.p99_ms:.0f}",
            _counted(load.verdicts),
            _counted(load.statuses),
        ]
        for name, load in (("alone", observed.alone), ("beside them", observed.beside))
    ]
    acts = [
        [act.name, f"{act.every_s:g}", _counted(observed.answers.get(act.name, {}))] for act in ACTS
    ]
    heads = ["ordinary", "offered [1/s]", "p50 [ms]", "p95 [ms]", "p99 [ms]", "answers", "statuses"]
    ended = "did not end" if observed.ended_s is None else f"{observed.ended_s:.1f} s"
    memory = [size / 1e6 for size in observed.memory]
    facts = [
        f"- memory: {memory[0]:.0f} MB first, {memory[-1]:.0f} MB last, {max(memory):.0f} MB at "
        f"most; growth after warm-up {growth(observed.memory):+.2%}",
        f"- /livez: {1000 * max(observed.livez_s):.0f} ms at most of {len(observed.livez_s)}, "
        f"{observed.livez_failures} failures",
        f"- from SIGTERM to the end: {ended}",
    ]
    met = [f"- {name}: {'yes' if held else 'NO'}" for name, held in requirements(observed).items()]
    met += [
        f"- unwanted, {name}: {_counted(found)}"
        for name, found in surprises(observed.answers).items()
    ]
    parts = [table(heads, loads), "", *facts, "", table(["hostile", "pause [s]", "answers"], acts)]
    return "\n".join([*parts, "", *met])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"
