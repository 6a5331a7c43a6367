"""Servers beside each other under the same load, and the report about it.

    python -m benchmarks.serving --output DIR [--peers osa,mosec,...] [--rounds 3] [--quick]

Makes an environment of its own for every peer (``--environments``), and the models (``--model``).
A peer that cannot be installed or started is told in the report with its error.
``python -m benchmarks.serving.overhead``, ``.overload`` and ``.soak`` measure our server alone.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kernels.machine import read_machine
from benchmarks.serving.models import make_osa_model, minilm_directory
from benchmarks.serving.peers import DEFAULT, PEERS
from benchmarks.serving.peers.base import Family, Launch, Peer
from benchmarks.serving.peers.environments import PeerUnavailable, environment_of, versions_of
from benchmarks.serving.plan import LENGTHS, QUICK, Effort, visit
from benchmarks.serving.report import render
from benchmarks.serving.results import About, Results
from benchmarks.serving.running import free_port, run_server
from benchmarks.serving.subject import Subject, make_corpora

TEXTS = 256
STEM = "serving_cpu"
FACTS = "- hardware:"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=summary)
    parser.add_argument("--peers", default=",".join(DEFAULT), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--ours", default="osa", help="whom the others are compared with")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved visits of each server")
    parser.add_argument("--whole", type=int, default=1, help="rounds that measure everything")
    parser.add_argument("--quick", action="store_true", help="short loads: a trial, no result")
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path("build/serving"))
    parser.add_argument("--report", type=Path, metavar="FILE", help="default DIR/serving_cpu.md")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    parser.add_argument(
        "--environments", type=Path, metavar="DIR", default=Path("build/serving-peers")
    )
    parser.add_argument("--install-only", action="store_true", help="make the environments")
    return parser


def end_on_sigterm() -> None:
    """Make SIGTERM end this process as an exception, so that its servers are ended too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def say(message: str) -> None:
    """Tell how far it is, beside the report."""
    print(message, file=sys.stderr, flush=True)


def install(peers: Sequence[Peer], folder: Path, results: Results) -> dict[str, Path]:
    """Interpreters of the peers that can be installed; the others' errors go to ``results``."""
    found = {}
    for peer in peers:
        try:
            say(f"environment of {peer.name}")
            found[peer.name] = environment_of(peer, folder)
            results.about[peer.name] = About(
                peer.family, peer.dtype, peer.words, versions_of(peer, found[peer.name])
            )
        except PeerUnavailable as error:
            say(f"{peer.name} is not available: {error}")
            results.unavailable[peer.name] = str(error)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = options.peers.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"peers are {', '.join(PEERS)}; got {', '.join(unknown)}")
    end_on_sigterm()
    effort = QUICK if options.quick else Effort()
    command = " ".join(["python -m benchmarks.serving", *arguments])
    results = Results(read_machine("cpu"), command, options.rounds)
    results.machine.pop("threads")  # this process computes nothing; the servers' are their own
    peers = [PEERS[name] for name in names]
    pythons = install(peers, options.environments, results)
    if options.install_only:
        return 1 if results.unavailable else 0
    kinds = ("onnx",) if "osa-onnx" in names else ()
    models: dict[Family, Path] = {
        "minilm": minilm_directory(),
        "osa": make_osa_model(options.model, kinds).absolute(),
    }
    families = {peer.family for peer in peers}
    corpora = {kind: make_corpora(kind, models[kind], LENGTHS, TEXTS) for kind in families}
    for turn in range(options.rounds):
        for peer in peers:
            if peer.name in results.unavailable:
                continue
            say(f"round {turn + 1}: {peer.name}")
            launch = Launch(pythons[peer.name], models, free_port())
            log = options.output / "logs" / f"{peer.name}.log"
            try:
                with run_server(peer, launch, log) as server:
                    found = visit(
                        Subject(server, corpora[peer.family]), effort, turn < options.whole
                    )
            except PeerUnavailable as error:
                say(f"{peer.name} is not available: {error}")
                results.unavailable[peer.name] = str(error)
                continue
            say(
                ", ".join(
                    f"{length}: {cost.cpu_ms:.2f} CPU-ms" for length, cost in found.costs.items()
                )
            )
            results.visits.setdefault(peer.name, []).append(found)
            results.save(options.output / f"{STEM}.json")
            write_report(
                results, effort, options.ours, options.report or options.output / f"{STEM}.md"
            )
    return 0


def write_report(results: Results, effort: Effort, ours: str, path: Path) -> None:
    """The new figures under the words that are written by hand above the first fact."""
    head = "# Servers under load\n\n"
    if path.is_file():
        written, mark, _ = path.read_text(encoding="utf-8").partition(FACTS)
        head = written if mark else head
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + render(results, effort, ours), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
