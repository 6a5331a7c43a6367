"""Our server at 80 % of what it can do, for long: is its memory flat, and are there errors?

    python -m benchmarks.serving.soak [--minutes 30] [--output FILE]

Memory is sampled every ten seconds. The first fifth is warm-up; of the rest the median of the last
quarter must lie within 2 % of that of the first. Exit code 1 where it does not, or where any
request was not answered rightly and in time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kernels.machine import read_machine
from benchmarks.serving.__main__ import end_on_sigterm, say
from benchmarks.serving.measures import Goodput, measure_cost, measure_goodput
from benchmarks.serving.models import make_osa_model
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Launch
from benchmarks.serving.process import ProcessTree
from benchmarks.serving.running import free_port, run_server
from benchmarks.serving.subject import MIXED, Subject, make_corpora

SAMPLE_S, WARM_UP, FLAT, LOAD = 10.0, 0.2, 0.02, 0.8


class MemorySampler(threading.Thread):
    """Notes a tree's resident memory again and again.

    Attributes:
        samples: What it saw [bytes].
    """

    def __init__(self, tree: ProcessTree, every_s: float) -> None:
        """Watch ``tree``, once ``every_s``."""
        super().__init__(daemon=True)
        self._tree, self._every_s = tree, every_s
        self._ended = threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        """Sample until ``end``."""
        while not self._ended.wait(self._every_s):
            self.samples.append(self._tree.memory_bytes()[0])

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def growth(samples: Sequence[float]) -> float:
    """How far memory is at the end from where it was after warming up, as a share of that.

    Raises:
        ValueError: Too few samples to tell.
    """
    settled = samples[int(WARM_UP * len(samples)) :]
    quarter = len(settled) // 4
    if not quarter:
        raise ValueError(f"{len(samples)} samples are too few to tell a growth")
    first, last = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
    return last / first - 1


def errors(load: Goodput) -> int:
    """Requests that were not answered rightly and in time."""
    return sum(count for verdict, count in load.verdicts.items() if verdict != "right")


def main() -> int:
    """Load, watch, print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--deadline-s", type=float, default=10.0, help="when callers leave [s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    options = parser.parse_args()
    end_on_sigterm()
    model = make_osa_model(options.model).absolute()
    launch = Launch(Path(sys.executable), {"osa": model}, free_port())
    corpora = make_corpora("osa", model, (), 256)
    with run_server(PEERS["osa"], launch, options.model / "soak.log") as server:
        subject = Subject(server, corpora)
        capacity = measure_cost(subject, MIXED, 5.0, 20.0).texts_per_s
        say(
            f"{capacity:.1f} texts/s in a closed loop; {LOAD:.0%} of it for {options.minutes:g} min"
        )
        sampler = MemorySampler(server.tree, min(SAMPLE_S, 60 * options.minutes / 40))
        sampler.start()
        load = measure_goodput(subject, capacity, LOAD, 60 * options.minutes, options.deadline_s)
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
    text = "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0 if abs(grown) <= FLAT and not errors(load) else 1


if __name__ == "__main__":
    raise SystemExit(main())
