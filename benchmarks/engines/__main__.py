"""CPU time of encoders by batch: ours in every dtype, and MiniLM in other runtimes.

    python -m benchmarks.engines [--contenders osa-int8,openvino-int8,...] [--rounds 15] [--quick]
        [--output FILE]

Every encoder has a process of its own, loaded once; a round asks each for each batch, in an order
that rotates. The table has medians of CPU time per text, and their ratios to each of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.common.machine import ROOT, read_machine
from benchmarks.common.report import fact_list, progress, write_measured
from benchmarks.common.tables import table
from benchmarks.common.timing import rotated
from benchmarks.engines.contenders import CONTENDERS, Contender
from benchmarks.serving.harness.models import make_osa_model, minilm_directory
from benchmarks.serving.peers.environments import PeerUnavailable, environment_of

BATCHES: dict[str, list[int]] = {
    "16 x 32": [32] * 16,
    "8 x 202": [202] * 8,
    "1 x 32": [32],
    "1 x 202": [202],
    "mixed": [8, 12, 14, 20, 9, 33, 80, 120, 14, 17, 11, 60, 200, 10, 25, 40],
}
"""Batches by name: lengths [tokens]."""
SAMPLE_S = 0.15
"""CPU time of one sample, about [s]."""


class Worker:
    """A running encoder."""

    def __init__(self, contender: Contender, python: Path, model: Path, threads: int) -> None:
        """Start it; see ``wait``."""
        command = [str(python), "-m", "benchmarks.engines.worker"]
        self.contender = contender
        self._process = subprocess.Popen(
            [*command, contender.runtime, contender.dtype, str(model)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            PeerUnavailable: It ended.
        """
        while line := self._read():
            if line == "\n":
                return

    def cpu_s(self, lengths: Sequence[int], calls: int) -> float:
        """CPU time of one call with a batch [s]."""
        assert self._process.stdin is not None  # opened above
        self._process.stdin.write(json.dumps({"lengths": list(lengths), "calls": calls}) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None  # opened above
        line = self._process.stdout.readline()
        if not line:
            raise PeerUnavailable(f"{self.contender.name} ended with {self._process.wait()}")
        return line

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def started(
    contenders: Sequence[Contender], environments: Path, ours: Path, threads: int
) -> Iterator[list[Worker]]:
    """Workers of those that can be installed and started, all ready.

    Args:
        contenders: Which.
        environments: Folder of the peers' environments.
        ours: Folder of the OSA encoder.
        threads: Of each encoder.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for contender in contenders:
            progress(f"starting {contender.name}")
            try:
                peer = contender.peer
                python = environment_of(peer, environments) if peer else Path(sys.executable)
                model = ours / "checkpoint" if contender.runtime == "osa" else minilm_directory()
                worker = Worker(contender, python, model, threads)
                stack.callback(worker.end)
                worker.wait()
                found.append(worker)
            except PeerUnavailable as error:
                progress(f"{contender.name} is not available: {error}")
        yield found


def measure(workers: Sequence[Worker], rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU time per text [ms], by batch and name."""
    found: dict[str, dict[str, float]] = {}
    for batch, lengths in BATCHES.items():
        calls = {
            worker: max(1, round(SAMPLE_S / max(worker.cpu_s(lengths, 1), 1e-4)))
            for worker in workers
        }
        samples: dict[str, list[float]] = {worker.contender.name: [] for worker in workers}
        for turn in range(rounds):
            for worker in rotated(list(workers), turn):
                samples[worker.contender.name].append(worker.cpu_s(lengths, calls[worker]))
        found[batch] = {
            name: statistics.median(values) / len(lengths) * 1e3 for name, values in samples.items()
        }
        progress(", ".join(f"{name} {ms:.2f}" for name, ms in found[batch].items()) + f" ({batch})")
    return found


def render(found: dict[str, dict[str, float]]) -> str:
    """Tables of CPU time per text, and of ours over each other encoder of the same dtype."""

    def row(label: str, values: Iterable[float]) -> list[str]:
        return [label, *(f"{value:.2f}" for value in values)]

    names = list(next(iter(found.values())))
    pairs = [
        (ours, other)
        for ours in names
        for other in names
        if CONTENDERS[ours].is_ours
        and not CONTENDERS[other].is_ours
        and CONTENDERS[ours].dtype == CONTENDERS[other].dtype
    ]
    times = [row(name, (times[name] for times in found.values())) for name in names]
    ratios = [
        row(f"{ours} / {other}", (times[ours] / times[other] for times in found.values()))
        for ours, other in pairs
    ]
    heads = ["texts x tokens", *found]
    parts = ["CPU time per text [ms]:", table(heads, times)]
    if ratios:
        parts += ["Ours over another of the same dtype:", table(heads, ratios)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; returns the exit code."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=summary)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="names, by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of each encoder")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    parser.add_argument(
        "--environments", type=Path, metavar="DIR", default=Path("build/serving-peers")
    )
    options = parser.parse_args(arguments)
    names = options.contenders.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        parser.error(f"contenders are {', '.join(CONTENDERS)}; got {', '.join(unknown)}")
    ours = make_osa_model(options.model).absolute()
    wanted = [CONTENDERS[name] for name in names]
    with started(wanted, options.environments, ours, options.threads) as workers:
        found = measure(workers, 3 if options.quick else options.rounds)
    facts = {**read_machine("cpu"), "threads": str(options.threads)}
    measured = f"{fact_list(facts)}\n\n{render(found)}"
    print(measured)
    if options.output is not None:
        write_measured(options.output, "Encoders alone", measured)
    return 0 if len(workers) == len(wanted) else 1


if __name__ == "__main__":
    raise SystemExit(main())
