"""This project's server at 80 % of its capacity for long: growth of memory, and errors.

    python -m benchmarks.serving.ours.soak [--minutes 30] [--output FILE]

Memory is sampled every ten seconds. The first fifth is warm-up; of the rest, the median of the last
quarter must be within 2 % of that of the first. Exit code 1 if it is not, or if any request had no
right answer in time.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence

from benchmarks.common.machine import read_machine
from benchmarks.common.report import fact_list, progress
from benchmarks.serving.harness.measurements import Goodput, measure_goodput
from benchmarks.serving.harness.process_tree import ProcessTree
from benchmarks.serving.ours.setup import add_load_options, make_parser, publish, run_osa_server

SAMPLE_S, WARM_UP, FLAT, LOAD = 10.0, 0.2, 0.02, 0.8


class MemorySampler(threading.Thread):
    """Samples the resident memory of a process tree at fixed intervals.

    Attributes:
        samples: Resident memory [bytes].
    """

    def __init__(self, tree: ProcessTree, every_s: float) -> None:
        """Sample ``tree`` every ``every_s`` [s]."""
        super().__init__(daemon=True)
        self._tree, self._every_s = tree, every_s
        self._ended = threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        """Sample until ``end`` is called."""
        while not self._ended.wait(self._every_s):
            self.samples.append(self._tree.memory_bytes()[0])

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def growth(samples: Sequence[float]) -> float:
    """Relative growth of memory from the end of the warm-up to the end.

    Raises:
        ValueError: There are too few samples.
    """
    settled = samples[int(WARM_UP * len(samples)) :]
    quarter = len(settled) // 4
    if not quarter:
        raise ValueError(f"{len(samples)} samples are too few to measure growth")
    first, last = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
    return last / first - 1


def errors(load: Goodput) -> int:
    """Number of requests without a right answer in time."""
    return sum(count for verdict, count in load.verdicts.items() if verdict != "right")


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = make_parser("soak", __doc__)
    add_load_options(parser, minutes=30.0, deadline_s=10.0)
    options = parser.parse_args()
    duration_s = 60 * options.minutes
    with run_osa_server(options.model, "soak.log") as (system, capacity):
        progress(f"{LOAD:.0%} of it for {options.minutes:g} minutes")
        sampler = MemorySampler(system.server.tree, min(SAMPLE_S, duration_s / 40))
        sampler.start()
        load = measure_goodput(system, capacity, LOAD, duration_s, options.deadline_s)
        sampler.end()
    grown = growth(sampler.samples)
    facts = {
        **read_machine("cpu"),
        "minutes": f"{options.minutes:g}",
        "offered": f"{load.offered:.1f} texts/s, {LOAD:.0%} of {capacity:.1f}",
        "answers": ", ".join(f"{verdict} {count}" for verdict, count in load.verdicts.items()),
        "latency": f"p50 {load.p50_ms:.0f} ms, p99 {load.p99_ms:.0f} ms",
        "memory": f"{sampler.samples[0] / 1e6:.0f} MB first, {sampler.samples[-1] / 1e6:.0f} MB "
        f"last, {max(sampler.samples) / 1e6:.0f} MB at most",
        "growth after warm-up": f"{grown:+.2%}",
    }
    publish(fact_list(facts) + "\n", options.output)
    return 0 if abs(grown) <= FLAT and not errors(load) else 1


if __name__ == "__main__":
    raise SystemExit(main())
