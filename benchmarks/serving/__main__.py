"""Compares servers under the same load, and writes the report.

    python -m benchmarks.serving --output DIR [--peers osa,mosec,...] [--rounds 3] [--quick]

Creates a virtual environment for every peer (``--environments``), and the models (``--model``).
A peer that cannot be installed or started is listed in the report with its error. The modules
``overhead``, ``overload`` and ``soak`` of ``benchmarks.serving.ours`` measure our server alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.machine import read_machine
from benchmarks.common.report import progress, write_measured
from benchmarks.serving.harness.corpus import make_corpora
from benchmarks.serving.harness.launcher import end_on_sigterm, free_port, run_server
from benchmarks.serving.harness.models import make_osa_model, minilm_directory
from benchmarks.serving.harness.plan import LENGTHS, QUICK, MeasurementPlan, measure_round
from benchmarks.serving.harness.report import render
from benchmarks.serving.harness.results import Results, ServerFacts
from benchmarks.serving.harness.system_under_test import SystemUnderTest
from benchmarks.serving.peers import DEFAULT, PEERS
from benchmarks.serving.peers.base import Family, Launch, Peer
from benchmarks.serving.peers.environments import PeerUnavailable, environment_of, versions_of

TEXTS = 256
STEM = "serving_cpu"


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=summary)
    parser.add_argument("--peers", default=",".join(DEFAULT), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--ours", default="osa", help="server that the others are compared with")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds over all servers")
    parser.add_argument("--whole", type=int, default=1, help="rounds that measure everything")
    parser.add_argument("--quick", action="store_true", help="short loads, for a trial")
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path("build/serving"))
    parser.add_argument("--report", type=Path, metavar="FILE", help="default DIR/serving_cpu.md")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    parser.add_argument(
        "--environments", type=Path, metavar="DIR", default=Path("build/serving-peers")
    )
    parser.add_argument("--port", type=int, default=0, help="first of three; default any free ones")
    parser.add_argument("--install-only", action="store_true", help="only create the environments")
    return parser


def install(peers: Sequence[Peer], folder: Path, results: Results) -> dict[str, Path]:
    """Interpreters of the peers that can be installed; errors of the others go to ``results``."""
    found = {}
    for peer in peers:
        try:
            progress(f"environment of {peer.name}")
            found[peer.name] = environment_of(peer, folder)
            results.servers[peer.name] = ServerFacts(
                peer.family, peer.dtype, peer.settings, versions_of(peer, found[peer.name])
            )
        except PeerUnavailable as error:
            progress(f"{peer.name} is not available: {error}")
            results.unavailable[peer.name] = str(error)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all servers and write the report; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"peers are {', '.join(PEERS)}; got {', '.join(unknown)}")
    end_on_sigterm()
    plan = QUICK if options.quick else MeasurementPlan()
    command = " ".join(["python -m benchmarks.serving", *arguments])
    results = Results(read_machine("cpu"), command, options.rounds)
    results.machine.pop("threads")  # they are those of the client
    peers = [PEERS[name] for name in names]
    pythons = install(peers, options.environments, results)
    if options.install_only:
        return 1 if results.unavailable else 0
    formats = ("onnx",) if "osa-onnx" in names else ()
    models: dict[Family, Path] = {
        "minilm": minilm_directory(),
        "osa": make_osa_model(options.model, formats).absolute(),
    }
    families = {peer.family for peer in peers}
    corpora = {one: make_corpora(one, models[one], LENGTHS, TEXTS) for one in families}
    for turn in range(options.rounds):
        for peer in peers:
            if peer.name in results.unavailable:
                continue
            progress(f"round {turn + 1}: {peer.name}")
            launch = Launch(pythons[peer.name], models, free_port(options.port))
            log = options.output / "logs" / f"{peer.name}.log"
            try:
                with run_server(peer, launch, log) as server:
                    found = measure_round(
                        SystemUnderTest(server, corpora[peer.family]), plan, turn < options.whole
                    )
            except PeerUnavailable as error:
                progress(f"{peer.name} is not available: {error}")
                results.unavailable[peer.name] = str(error)
                continue
            progress(
                ", ".join(
                    f"{length}: {cost.cpu_ms:.2f} CPU-ms" for length, cost in found.costs.items()
                )
            )
            results.by_server.setdefault(peer.name, []).append(found)
            results.save(options.output / f"{STEM}.json")
            report = options.report or options.output / f"{STEM}.md"
            write_measured(report, "Servers under load", render(results, plan, options.ours))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
