"""This project's server at 120 % of its capacity, for minutes.

    python -m benchmarks.serving.ours.overload [--minutes 5] [--output FILE]

Exit code 1 if a requirement is not met: no 5xx and no lost connection, every 429 with Retry-After,
every accepted request in time, and goodput at least 95 % of that at 90 % load.
"""

from __future__ import annotations

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, progress
from benchmarks.common.tables import table
from benchmarks.serving.harness.measurements import Goodput, measure_goodput
from benchmarks.serving.ours.setup import add_load_options, make_parser, publish, run_osa_server

LEAST_GOODPUT = 0.95
"""Required goodput at 120 % over that at 90 %."""


def requirements(normal: Goodput, over: Goodput) -> dict[str, bool]:
    """Requirements under overload by name, and whether they are met."""
    errors = sum(count for status, count in over.statuses.items() if status.startswith("5"))
    return {
        "no 5xx": errors == 0,
        "no wrong, failed or lost answer": not any(
            over.verdicts.get(verdict, 0) for verdict in ("wrong", "failed", "lost")
        ),
        "429 with Retry-After": over.without_retry_after == 0,
        "accepted requests within their deadline": not over.verdicts.get("late", 0),
        f"goodput at least {LEAST_GOODPUT:.0%} of that at 90 %": over.good
        >= LEAST_GOODPUT * normal.good,
    }


def render(normal: Goodput, over: Goodput) -> str:
    """Table of both loads, and list of the requirements."""
    rows = [
        [
            f"{one.fraction:.0%}",
            f"{one.offered:.1f}",
            f"{one.good:.1f}",
            f"{one.p50_ms:.0f}",
            f"{one.p99_ms:.0f}",
            ", ".join(f"{verdict} {count}" for verdict, count in sorted(one.verdicts.items())),
            ", ".join(f"{status}: {count}" for status, count in sorted(one.statuses.items())),
        ]
        for one in (normal, over)
    ]
    heads = ["load", "offered [1/s]", "good [1/s]", "p50 [ms]", "p99 [ms]", "answers", "statuses"]
    met = [
        f"- {name}: {'yes' if held else 'NO'}" for name, held in requirements(normal, over).items()
    ]
    return "\n".join([table(heads, rows), "", *met])


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = make_parser("overload", __doc__)
    add_load_options(parser, minutes=5.0, deadline_s=2.0)
    options = parser.parse_args()
    loads = []
    with run_osa_server(options.model, "overload.log") as (system, capacity):
        for fraction, minutes in ((0.9, min(1.0, options.minutes)), (1.2, options.minutes)):
            progress(f"{fraction:.0%} for {minutes:g} minutes")
            loads.append(
                measure_goodput(system, capacity, fraction, 60 * minutes, options.deadline_s)
            )
            system.wait_until_idle()
    facts = {
        **read_machine("cpu"),
        "capacity": f"{capacity:.1f} texts/s",
        "deadline": f"{options.deadline_s:g} s",
    }
    publish(f"{fact_list(facts)}\n\n{render(*loads)}\n", options.output)
    return 0 if all(requirements(*loads).values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
