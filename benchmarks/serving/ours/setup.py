"""What the measurements of this project's server share: options, its start, their output."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common.report import progress
from benchmarks.serving.harness.corpus import MIXED, make_corpora
from benchmarks.serving.harness.launcher import end_on_sigterm, free_port, run_server
from benchmarks.serving.harness.measurements import measure_cost
from benchmarks.serving.harness.models import make_osa_model
from benchmarks.serving.harness.system_under_test import SystemUnderTest
from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Launch

TEXTS = 256
"""Number of texts in each corpus."""


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all commands; the description is the docstring's first line."""
    parser = argparse.ArgumentParser(prog=name, description=(description or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--model", type=Path, metavar="DIR", default=Path("build/serving-model"))
    return parser


def add_load_options(parser: argparse.ArgumentParser, minutes: float, deadline_s: float) -> None:
    """Add the options of a long load, with their defaults: its duration and clients' deadline."""
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--deadline-s", type=float, default=deadline_s, help="of clients [s]")


def launch_of(model: Path, port: int) -> Launch:
    """This project's server on ``port``, by this interpreter."""
    return Launch(Path(sys.executable), {"osa": model}, port)


@contextlib.contextmanager
def run_osa_server(directory: Path, log: str) -> Iterator[tuple[SystemUnderTest, float]]:
    """Start this project's server with texts of mixed lengths, and measure its capacity.

    Args:
        directory: Folder of the model and of the log.
        log: File name of the log.

    Yields:
        The server, and its right answers in a closed loop [1/s].
    """
    end_on_sigterm()
    model = make_osa_model(directory).absolute()
    corpora = make_corpora("osa", model, (), TEXTS)
    launch = launch_of(model, free_port())
    with run_server(PEERS["osa"], launch, directory / log) as server:
        system = SystemUnderTest(server, corpora)
        capacity = measure_cost(system, MIXED, 5.0, 20.0).texts_per_s
        progress(f"{capacity:.1f} texts/s in a closed loop")
        yield system, capacity


def publish(text: str, output: Path | None) -> None:
    """Print a report, and write it to ``output`` if given."""
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
