"""What HTTP and batching cost our server beside the engine, in CPU time a text.

    python -m benchmarks.serving.overhead [--rounds 5] [--output FILE]

Three figures a length, interleaved, medians over rounds: a served text; the engine alone, in a
process of its own, on batches as large as the server's were on average; and a served text where
the engine only sleeps for as long as the real one computes. The difference of the first two is the
cost of everything else, and so is the third, which does not hang on two large numbers. Tokenising,
which any server of texts has to do, is in both, and told by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.kernels.machine import read_machine
from benchmarks.serving.__main__ import end_on_sigterm, say
from benchmarks.serving.connection import Connection, Request
from benchmarks.serving.corpus import Corpus
from benchmarks.serving.measures import CLIENTS, measure_cost
from benchmarks.serving.models import make_osa_model
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import ROOT, Launch, Peer
from benchmarks.serving.plan import LENGTHS
from benchmarks.serving.report import table
from benchmarks.serving.running import free_port, run_server
from benchmarks.serving.subject import Subject, make_corpora
from osa.model.checkpoint import TOKENIZER
from osa.model.tokenization import TextTokenizer

BATCH_SIZES = "te_batch_next_size"


@dataclass(frozen=True)
class Sample:
    """One round at one length, CPU time a text [ms]; and texts a batch."""

    served: float
    alone: float
    sleeping: float
    tokenizing: float
    batch: float

    @property
    def difference(self) -> float:
        """What a served text costs more than the engine [ms]."""
        return self.served - self.alone


def histogram(exposition: str, name: str) -> tuple[float, float]:
    """Sum and count of a histogram over all its labels, from Prometheus's text."""
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


def _alone(model: Path, length: int, batch: int) -> dict[str, float]:
    """CPU and wall time a text of the engine without a server [ms]."""
    command = [sys.executable, "-m", "benchmarks.serving.alone", f"--model={model}",
               f"--length={length}", f"--batch={batch}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokenizing(model: Path, corpus: Corpus) -> float:
    """CPU time of tokenising one text, one at a time [ms]."""
    tokenizer = TextTokenizer.from_file(model / TOKENIZER)
    began = time.process_time()
    for text in corpus.texts:
        tokenizer.encode([text])
    return 1000 * (time.process_time() - began) / len(corpus.texts)


def _sleeping(peer: Peer, model: Path, ms_per_text: float) -> Peer:
    def command(launch: Launch) -> list[str]:
        program = [sys.executable, "-m", "benchmarks.serving.sleeping", f"--model={model}"]
        return [*program, f"--port={launch.port}", f"--ms-per-text={ms_per_text}"]

    return replace(peer, name="osa-sleeping", command=command)


def measure(
    peer: Peer, launch: Launch, model: Path, corpora: dict[int, Corpus], log: Path
) -> dict[int, Sample]:
    """One round at every length."""
    served, batches = {}, {}
    with run_server(peer, launch, log) as server:
        subject = Subject(server, corpora)
        for length in LENGTHS:
            before = histogram(_scrape(launch.port), BATCH_SIZES)
            served[length] = measure_cost(subject, length, 2.0, 8.0).cpu_ms
            after = histogram(_scrape(launch.port), BATCH_SIZES)
            batches[length] = (after[0] - before[0]) / (after[1] - before[1])
    found = {}
    for length in LENGTHS:
        alone = _alone(model, length, max(1, round(batches[length])))
        stand_in = _sleeping(peer, model, alone["wall_ms"])
        with run_server(stand_in, replace(launch, port=free_port()), log) as server:
            # its vectors are no text's: what is compared is the time alone
            cost = measure_cost(Subject(server, corpora, checked=False), length, 2.0, 8.0)
        tokenizing = _tokenizing(model, corpora[length])
        found[length] = Sample(
            served[length], alone["cpu_ms"], cost.cpu_ms, tokenizing, batches[length]
        )
        say(f"{length}: {found[length]}")
    return found


def render(samples: list[dict[int, Sample]]) -> str:
    """The table: medians over rounds, CPU time a text [ms]."""
    heads = [
        "tokens",
        "served",
        "engine alone",
        "texts a batch",
        "served - engine",
        "engine asleep",
        "of it tokenizing",
    ]
    rows = []
    for length in LENGTHS:
        found = [one[length] for one in samples]
        values = ([getattr(one, part) for one in found] for part in
                  ("served", "alone", "batch", "difference", "sleeping", "tokenizing"))  # fmt: skip
        rows.append([str(length), *(f"{statistics.median(column):.2f}" for column in values)])
    return table(heads, rows)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", choices=[n for n, p in PEERS.items() if p.family == "osa"],
                        default="osa")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    options = parser.parse_args()
    end_on_sigterm()
    models = make_osa_model(options.model).absolute()
    peer = PEERS[options.peer]
    corpora = make_corpora("osa", models, LENGTHS, 256)
    samples = []
    for _ in range(options.rounds):
        launch = Launch(Path(sys.executable), {"osa": models}, free_port())
        log = options.model / "overhead.log"
        samples.append(measure(peer, launch, models / "checkpoint", corpora, log))
    facts = "\n".join(f"- {name}: {value}" for name, value in read_machine("cpu").items())
    text = f"{facts}\n- clients: {CLIENTS}\n\n{render(samples)}\n"
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
