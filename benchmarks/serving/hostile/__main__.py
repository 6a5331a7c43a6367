"""Ordinary load beside every hostile client at once: latency, errors, memory, liveness and end.

    python -m benchmarks.serving.hostile [--minutes 20] [--output FILE]

For a quarter of the time ordinary load alone is measured, then hostile clients join, in a process
of their own. The server has keys and quotas, and its log goes into a pipe that nobody reads. At
last it gets SIGTERM while the hostile clients go on. Exit code 1 if a requirement is not met.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, progress
from benchmarks.serving.harness.corpus import MIXED
from benchmarks.serving.harness.launcher import end_on_sigterm
from benchmarks.serving.harness.measurements import Goodput, measure_cost, measure_goodput
from benchmarks.serving.hostile.clients import HostileClients
from benchmarks.serving.hostile.probe import LivenessProbe
from benchmarks.serving.hostile.report import Observed, render, requirements
from benchmarks.serving.hostile.server import DRAIN_S, Attacked, attacked_server
from benchmarks.serving.ours.setup import make_parser, publish
from benchmarks.serving.ours.soak import SAMPLE_S, MemorySampler

ALONE = 0.25
"""Share of the time in which ordinary clients are alone."""


def observe(attacked: Attacked, load: float, minutes: float, deadline_s: float) -> Observed:
    """Measure ordinary load without and with hostile clients, then end the server.

    Args:
        attacked: The server.
        load: Ordinary load over the server's capacity.
        minutes: Time of both together [min].
        deadline_s: Of ordinary clients [s].
    """
    system, seconds = attacked.system, 60 * minutes
    capacity = measure_cost(system, MIXED, 5.0, 20.0).texts_per_s

    def measure(duration_s: float) -> Goodput:
        return measure_goodput(system, capacity, load, duration_s, deadline_s)

    progress(f"{capacity:.1f} texts/s in a closed loop; {load:.0%} of it, alone")
    alone = measure(ALONE * seconds)
    progress("with hostile clients")
    probe = LivenessProbe(attacked.server.port)
    sampler = MemorySampler(attacked.server.tree, min(SAMPLE_S, seconds / 40))
    with HostileClients(attacked.grounds) as clients:
        probe.start()
        sampler.start()
        beside = measure((1 - ALONE) * seconds)
        sampler.end()
        probe.end()
        answers = clients.answers()
        progress("SIGTERM")
        ended_s = attacked.server.end(DRAIN_S + 30)
    return Observed(
        alone, beside, sampler.samples, probe.latencies_s, probe.failures, answers, ended_s
    )


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = make_parser("hostile", __doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--deadline-s", type=float, default=10.0, help="of ordinary clients [s]")
    parser.add_argument("--load", type=float, default=0.3, help="of ordinary clients, of capacity")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="the server's log; default is a pipe nobody reads"
    )
    options = parser.parse_args()
    end_on_sigterm()
    with attacked_server(options.model, options.log) as attacked:
        observed = observe(attacked, options.load, options.minutes, options.deadline_s)
    facts = {**read_machine("cpu"), "minutes": f"{options.minutes:g}"}
    publish(f"{fact_list(facts)}\n\n{render(observed)}\n", options.output)
    return 0 if all(requirements(observed).values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
