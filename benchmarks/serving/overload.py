"""Our server at 120 % of what it can do, for minutes.

    python -m benchmarks.serving.overload [--minutes 5] [--output FILE]

Exit code 1 where a demand is not met: no 5xx but 504 and no lost connection, every 429 with
Retry-After, every accepted request in time, and goodput at least 95 % of that at 90 % load.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.kernels.machine import read_machine
from benchmarks.serving.__main__ import end_on_sigterm, say
from benchmarks.serving.measures import Goodput, measure_cost, measure_goodput
from benchmarks.serving.models import make_osa_model
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Launch
from benchmarks.serving.report import table
from benchmarks.serving.running import free_port, run_server
from benchmarks.serving.subject import MIXED, Subject, make_corpora

KEPT = 0.95
"""Least goodput at 120 % over that at 90 %."""


def demands(normal: Goodput, over: Goodput) -> dict[str, bool]:
    """What must hold under overload, and whether it does."""
    errors = sum(count for status, count in over.statuses.items() if status.startswith("5"))
    accepted_late = over.verdicts.get("late", 0)
    return {
        "no 5xx": errors == 0,
        "no wrong, failed or lost answer": not any(
            over.verdicts.get(verdict, 0) for verdict in ("wrong", "failed", "lost")
        ),
        "429 with Retry-After": over.silent_refusals == 0,
        "accepted requests within their deadline": accepted_late == 0,
        f"goodput at least {KEPT:.0%} of that at 90 %": over.good >= KEPT * normal.good,
    }


def render(normal: Goodput, over: Goodput) -> str:
    """Both loads, and the demands."""
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
    met = [f"- {name}: {'yes' if held else 'NO'}" for name, held in demands(normal, over).items()]
    return "\n".join([table(heads, rows), "", *met])


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="overload", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--deadline-s", type=float, default=2.0, help="when callers leave [s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    options = parser.parse_args()
    end_on_sigterm()
    model = make_osa_model(options.model).absolute()
    launch = Launch(Path(sys.executable), {"osa": model}, free_port())
    corpora = make_corpora("osa", model, (), 256)
    with run_server(PEERS["osa"], launch, options.model / "overload.log") as server:
        subject = Subject(server, corpora)
        capacity = measure_cost(subject, MIXED, 5.0, 20.0).texts_per_s
        say(f"{capacity:.1f} texts/s in a closed loop")
        loads = []
        for fraction, minutes in ((0.9, min(1.0, options.minutes)), (1.2, options.minutes)):
            say(f"{fraction:.0%} for {minutes:g} minutes")
            loads.append(
                measure_goodput(subject, capacity, fraction, 60 * minutes, options.deadline_s)
            )
            subject.rest()
    facts = [f"- {name}: {value}" for name, value in read_machine("cpu").items()]
    facts += [f"- capacity: {capacity:.1f} texts/s", f"- deadline: {options.deadline_s:g} s"]
    text = "\n".join([*facts, "", render(*loads), ""])
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0 if all(demands(*loads).values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
