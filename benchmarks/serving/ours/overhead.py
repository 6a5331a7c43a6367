"""CPU time per text of HTTP and batching, beside that of the engine.

    python -m benchmarks.serving.ours.overhead [--rounds 5] [--output FILE]

Three figures per length, interleaved, medians over rounds: a text served; the engine alone, in a
process of its own, on batches as large as the server's average; and a text served by an engine that
only sleeps for as long as the real one computes. The difference of the first two is the cost of
everything else. The third measures the same cost without a difference of two large numbers.
Tokenizing, which every server of texts has to do, is in both, and is also measured separately.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common.machine import ROOT, read_machine
from benchmarks.common.report import fact_list, progress
from benchmarks.common.tables import table
from benchmarks.serving.harness.connection import Connection, Request
from benchmarks.serving.harness.corpus import Corpus, make_corpora
from benchmarks.serving.harness.launcher import end_on_sigterm, free_port, run_server
from benchmarks.serving.harness.measurements import CLIENTS, measure_cost
from benchmarks.serving.harness.models import make_osa_model
from benchmarks.serving.harness.plan import LENGTHS
from benchmarks.serving.harness.system_under_test import SystemUnderTest
from benchmarks.serving.ours.setup import TEXTS, make_parser, publish
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Launch, Peer
from osa.model.checkpoint import TOKENIZER
from osa.model.tokenization import TextTokenizer

BATCH_SIZES = "te_batch_next_size"
"""Metric of the batch sizes."""
COLUMNS = {
    "served": "served",
    "engine_only": "engine alone",
    "batch": "texts per batch",
    "difference": "served - engine",
    "sleeping": "sleeping engine",
    "tokenizing": "of which tokenizing",
}
"""Attributes of ``Sample`` in the table, with their headers."""


@dataclass(frozen=True)
class Sample:
    """One round at one length: CPU time per text [ms], and average texts per batch."""

    served: float
    engine_only: float
    sleeping: float
    tokenizing: float
    batch: float

    @property
    def difference(self) -> float:
        """CPU time of a served text beyond that of the engine [ms]."""
        return self.served - self.engine_only


def histogram(exposition: str, name: str) -> tuple[float, float]:
    """Sum and count of a histogram over all its labels, from Prometheus's text format."""
    total = {"sum": 0.0, "count": 0.0}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            for part in total:
                if sample.name == f"{name}_{part}":
                    total[part] += sample.value
    return total["sum"], total["count"]


def _scrape(port: int) -> str:
    async def read() -> str:
        connection = Connection(port)
        reply = await connection.send(Request("/metrics", method="GET"))
        connection.close()
        return reply.body.decode()

    return asyncio.run(read())


def _engine_only(model: Path, length: int, batch: int) -> dict[str, float]:
    """CPU and wall time per text of the engine without a server [ms]."""
    command = [sys.executable, "-m", "benchmarks.serving.ours.engine_only", f"--model={model}",
               f"--length={length}", f"--batch={batch}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokenizing(model: Path, corpus: Corpus) -> float:
    """CPU time of tokenizing one text at a time, per text [ms]."""
    tokenizer = TextTokenizer.from_file(model / TOKENIZER)
    began = time.process_time()
    for text in corpus.texts:
        tokenizer.encode([text])
    return 1000 * (time.process_time() - began) / len(corpus.texts)


def _sleeping(peer: Peer, model: Path, ms_per_text: float) -> Peer:
    module = "benchmarks.serving.ours.sleeping_engine"

    def command(launch: Launch) -> list[str]:
        options = [f"--model={model}", f"--port={launch.port}", f"--ms-per-text={ms_per_text}"]
        return [sys.executable, "-m", module, *options]

    return replace(peer, name="osa-sleeping", command=command)


def measure(
    peer: Peer, launch: Launch, model: Path, corpora: dict[int, Corpus], log: Path
) -> dict[int, Sample]:
    """Measure one round at every length.

    Args:
        peer: The server.
        launch: Interpreter, model and port.
        model: Its checkpoint, for the engine alone.
        corpora: Texts by length [tokens].
        log: File for the output of the servers.
    """
    served, batches = {}, {}
    with run_server(peer, launch, log) as server:
        system = SystemUnderTest(server, corpora)
        for length in LENGTHS:
            before = histogram(_scrape(launch.port), BATCH_SIZES)
            served[length] = measure_cost(system, length, 2.0, 8.0).cpu_ms
            after = histogram(_scrape(launch.port), BATCH_SIZES)
            batches[length] = (after[0] - before[0]) / (after[1] - before[1])
    found = {}
    for length in LENGTHS:
        engine = _engine_only(model, length, max(1, round(batches[length])))
        stand_in = _sleeping(peer, model, engine["wall_ms"])
        with run_server(stand_in, replace(launch, port=free_port()), log) as server:
            # its vectors are random: only their shapes are checked
            cost = measure_cost(SystemUnderTest(server, corpora, checked=False), length, 2.0, 8.0)
        tokenizing = _tokenizing(model, corpora[length])
        found[length] = Sample(
            served[length], engine["cpu_ms"], cost.cpu_ms, tokenizing, batches[length]
        )
        progress(f"{length}: {found[length]}")
    return found


def render(samples: list[dict[int, Sample]]) -> str:
    """The table: medians over rounds, CPU time per text [ms]."""
    rows = []
    for length in LENGTHS:
        columns = ([getattr(one[length], name) for one in samples] for name in COLUMNS)
        rows.append([str(length), *(f"{statistics.median(column):.2f}" for column in columns)])
    return table(["tokens", *COLUMNS.values()], rows)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = make_parser("overhead", __doc__)
    choices = [name for name, peer in PEERS.items() if peer.family == "osa"]
    parser.add_argument("--peer", choices=choices, default="osa")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    end_on_sigterm()
    formats = ("onnx",) if options.peer == "osa-onnx" else ()
    models = make_osa_model(options.model, formats).absolute()
    corpora = make_corpora("osa", models, LENGTHS, TEXTS)
    samples = []
    for _ in range(options.rounds):
        launch = Launch(Path(sys.executable), {"osa": models}, free_port())
        log = options.model / "overhead.log"
        samples.append(measure(PEERS[options.peer], launch, models / "checkpoint", corpora, log))
    facts = {**read_machine("cpu"), "clients": str(CLIENTS)}
    publish(f"{fact_list(facts)}\n\n{render(samples)}\n", options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
