"""Tasks of MTEB through running servers.

    python -m benchmarks.quality.mteb --url NAME=http://localhost:8080 [--url ...] --tasks eng-v2
    python -m benchmarks.quality.mteb --url NAME=http://localhost:8080 --data DIR

With ``--tasks`` (a benchmark, or names of tasks) data sets come from the Hugging Face hub, or from
``--data`` where that has them; with ``--data`` alone the tasks are those of the directory, and
nothing goes out but requests to the servers. ``--results`` keeps scores as they come: the same
command again runs only what is missing. Any server with ``/embed`` or ``/v1/embeddings``
can be measured; ``MTEB_SERVER_KEY`` is sent as its API key. Data are for evaluation only: nothing
may be trained or chosen on them. Needs ``pip install 'osa-encoder[mteb]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.machine import read_machine
from benchmarks.common.report import progress, write_measured
from benchmarks.quality.mteb.report import Result, make_report, read_results, write_results
from osa.model.common.requirements import require
from osa.model.errors import ConfigError, first_line

if TYPE_CHECKING:
    from benchmarks.quality.mteb.server_encoder import ServerEncoder

TITLE = "MTEB through the server"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.mteb", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--url", action="append", required=True, metavar="NAME=URL")
    parser.add_argument("--route", choices=("native", "openai"), default="native")
    parser.add_argument("--tasks", default="", help="eng-v2, another benchmark, or A,B,C")
    parser.add_argument("--data", type=Path, help="TASK.tsv, or copies of data sets")
    parser.add_argument("--query-prefix", default="", help="put before queries of retrieval")
    parser.add_argument("--document-prefix", default="", help="put before their documents")
    parser.add_argument("--results", type=Path, help="JSON file of scores, to go on from")
    parser.add_argument("--report", type=Path, help="Markdown file to write; default is the screen")
    options = parser.parse_args(arguments)
    if not options.tasks and options.data is None:
        parser.error("--tasks or --data is needed")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data {options.data} is not a directory")
    for pair in options.url:
        if "=" not in pair:
            parser.error(f"--url must be NAME=URL, got {pair}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure every server on every task; returns 1 where a task could not be run."""
    options = parse(arguments)
    try:
        require("benchmarks.quality.mteb", "mteb", "mteb", "httpx")
        offline = not options.tasks
        if offline:  # read at the import of the libraries below
            os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
        from benchmarks.quality.mteb.tasks import choose_tasks

        names = [name.strip() for name in options.tasks.split(",") if name.strip()]
        tasks = choose_tasks(names if "(" not in options.tasks else [options.tasks], options.data)
        for pair in options.url:
            _connect(pair, options).close()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    data: dict[str, str] = {}
    results = read_results(options.results)
    for pair in options.url:
        _measure(pair, options, tasks, data, results)
    facts = {
        **read_machine("cpu"),
        "mteb": version("mteb"),
        "route": options.route,
        "command": "`python -m benchmarks.quality.mteb " + _shown(options) + "`",
    }
    text = make_report([*results.values()], [task.metadata.name for task in tasks], data, facts)
    if options.report is None:
        print(text)
    else:
        write_measured(options.report, TITLE, text)
    return int(any(result.failures for result in results.values()))


def _shown(options: argparse.Namespace) -> str:
    """The arguments without names of machines or paths."""
    urls = " ".join(f"--url {shlex.quote(pair.partition('=')[0] + '=URL')}" for pair in options.url)
    tasks = f" --tasks {shlex.quote(options.tasks)}" if options.tasks else ""
    return urls + tasks + (" --data DIR" if options.data is not None else "")


def _connect(pair: str, options: argparse.Namespace) -> ServerEncoder:
    """A server as a model.

    Raises:
        ConfigError: No server answers there.
    """
    import httpx

    from benchmarks.quality.mteb.server_encoder import ServerEncoder

    name, _, url = pair.partition("=")
    prefixes = {"query": options.query_prefix, "document": options.document_prefix}
    key = os.environ.get("MTEB_SERVER_KEY") or None
    try:
        return ServerEncoder(name, url, options.route, prefixes, key)
    except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
        raise ConfigError(f"--url {pair}: no server answers there: {error}") from error


def _measure(
    pair: str,
    options: argparse.Namespace,
    tasks: list[Any],
    data: dict[str, str],
    results: dict[str, Result],
) -> None:
    """Add a server's scores to ``results``; those that are there are kept."""
    name = pair.partition("=")[0]
    with contextlib.closing(_connect(pair, options)) as encoder:
        result = results.setdefault(name, Result(name, encoder.info))
        for task in tasks:
            title = task.metadata.name
            started, sent, blank = time.monotonic(), encoder.texts, encoder.blank
            try:
                if options.data is not None and title not in data:
                    data[title] = _local(task, options)
                if title in result.scores:
                    continue
                result.failures.pop(title, None)
                result.scores[title] = _score(encoder, task)
                progress(f"{name} {title}: {result.scores[title]:.2f}")
            except Exception as error:  # a task fails alone: data sets, gates, requests
                reason = first_line(error)
                result.failures[title] = f"{type(error).__name__}: {reason[:200]}"
                progress(f"{name} {title} not run: {result.failures[title]}")
            result.texts += encoder.texts - sent
            result.blank += encoder.blank - blank
            result.wall_s += time.monotonic() - started
            write_results(options.results, results)


def _local(task: Any, options: argparse.Namespace) -> str:
    """Data of the directory, or of the hub where tasks are named and it has none."""
    from benchmarks.quality.mteb.tasks import use_local_data

    try:
        return use_local_data(task, options.data)
    except ConfigError:
        if options.tasks:
            return "the hub"
        raise


def _score(encoder: ServerEncoder, task: Any) -> float:
    """Main score of a task, times 100."""
    import mteb

    found = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (result,) = found.task_results
    return 100.0 * float(result.get_score())


if __name__ == "__main__":
    raise SystemExit(main())
