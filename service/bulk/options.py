"""Arguments of ``osa embed``, and what can be said of them before anything is read."""

from __future__ import annotations

import argparse
import math
import os

from osa.model.common.requirements import require
from osa.model.documents.limits import CHUNK_TOKENS, MOST_VECTORS
from osa.model.errors import ConfigError
from osa.model.records.csv_dialect import GivenDialect
from osa.model.records.paths import to_path
from osa.service.commands.settings_options import add_settings

PARQUET = ".parquet"
COUNTS = ("batch_tokens", "rows_per_group", "window_bytes", "dimensions", "chunk_tokens")
RAY = (
    "ray_address",
    "workers",
    "worker_cpus",
    "worker_gpus",
    "piece_bytes",
    "object_store_bytes",
)
LEAST_STORE = 75 << 20
"""Smallest object store that Ray starts with [bytes]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa embed``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".txt (one text a line), .jsonl, .csv, .tsv, each with .gz too; .parquet; a "
        "directory of these, as Spark writes it; each also by address (s3://, gs://, https://); "
        "- for stdin",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE.parquet", help="a path, or an address: s3://..."
    )
    parser.add_argument(
        "--output-column",
        default="embedding",
        metavar="NAME",
        help="the column of vectors that the output adds",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="which column is embedded: by default text, of a feature model features",
    )
    parser.add_argument(
        "--format",
        choices=("txt", "jsonl", "csv"),
        help="what stdin holds; default is txt, of a feature model jsonl",
    )
    parser.add_argument(
        "--delimiter",
        metavar="C",
        help=r"between fields of CSV, \t for tabs; default is found out",
    )
    parser.add_argument(
        "--quote", metavar="C", help="around fields of CSV, or none; default is found out"
    )
    parser.add_argument(
        "--escape", metavar="C", help="before quotes within them, or none; default is found out"
    )
    parser.add_argument(
        "--prompt-name", metavar="NAME", help="one of the prompts; default as for osa serve"
    )
    parser.add_argument(
        "--vectors-per-document",
        type=int,
        metavar="K",
        help="up to K vectors a record, a row each: its chunks in so many groups; default is one "
        "vector a record",
    )
    parser.add_argument(
        "--chunk-tokens",
        type=int,
        metavar="N",
        help=f"most tokens of these chunks; default is {CHUNK_TOKENS}",
    )
    parser.add_argument("--dimensions", type=int, metavar="D", help="leading dimensions to keep")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    parser.add_argument(
        "--batch-tokens", type=int, metavar="N", help="default is batching.max_batch_tokens"
    )
    parser.add_argument(
        "--rows-per-group",
        type=int,
        default=8192,
        metavar="N",
        help="records that are sorted by length together, and written and resumed together",
    )
    parser.add_argument(
        "--window-bytes",
        type=int,
        default=64 << 20,
        metavar="N",
        help="such a group is closed earlier where its columns have so many bytes; memory is a "
        "few times this",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad records out, and count them"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed")
    _add_ray(parser)
    add_settings(parser, "model")


def _add_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on",
        choices=("process", "ray"),
        default="process",
        help="this process alone, or workers of Ray on one machine or many",
    )
    group = parser.add_argument_group("with --on ray")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a cluster; default is RAY_ADDRESS, else one of this machine's own is started",
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="engines; default is as many as there is room for"
    )
    group.add_argument(
        "--worker-cpus", type=float, metavar="N", help="cores of each worker; default is 1"
    )
    group.add_argument(
        "--worker-gpus", type=float, metavar="N", help="GPUs of each worker; default is none"
    )
    group.add_argument(
        "--piece-bytes",
        type=int,
        metavar="N",
        help="files that can be split are read in pieces of so many bytes; default is 64 MiB",
    )
    group.add_argument(
        "--object-store-bytes",
        type=int,
        metavar="N",
        help="of Ray on this machine alone; default is Ray's",
    )


def check(options: argparse.Namespace) -> None:
    """Refuse, before anything is read, options that cannot be.

    Raises:
        ConfigError: Naming the option, what came and what is allowed.
    """
    require("osa embed", "embed", "pyarrow")
    for name in (*COUNTS, "workers", "piece_bytes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    _check_ray(options)
    _check_grouping(options)
    options.output = to_path(options.output)
    if options.output.suffix.lower() != PARQUET:
        raise ConfigError(
            f"--output is written as Parquet: its name must end with {PARQUET}, got "
            f"{options.output}"
        )
    if not options.output_column.strip():
        raise ConfigError("--output-column must be a name, got an empty one")


def _check_grouping(options: argparse.Namespace) -> None:
    most = options.vectors_per_document
    if most is None:
        if options.chunk_tokens is not None:
            raise ConfigError("--chunk-tokens needs --vectors-per-document")
        return
    if not 1 <= most <= MOST_VECTORS:
        raise ConfigError(f"--vectors-per-document must be 1 to {MOST_VECTORS}, got {most}")
    if options.prompt_name is not None:
        raise ConfigError(
            "--prompt-name goes before whole texts, not before the chunks of "
            "--vectors-per-document: leave one of them out"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "several processes share the one vector of a long text: start one process for "
            "--vectors-per-document, or use --on ray"
        )


def _check_ray(options: argparse.Namespace) -> None:
    if options.on == "ray":
        require("--on ray", "ray", "ray.data")
        for name in ("worker_cpus", "worker_gpus"):
            value = getattr(options, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 0, got {value:g}")
        store = options.object_store_bytes
        if store is not None and store < LEAST_STORE:
            raise ConfigError(f"--object-store-bytes must be at least {LEAST_STORE}, got {store}")
        return
    for name in RAY:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} needs --on ray")


def read_dialect(options: argparse.Namespace) -> GivenDialect:
    """What is known of CSV.

    Raises:
        ConfigError: A mark that is not one character.
    """
    marks: dict[str, str | None] = {}
    for name in ("delimiter", "quote", "escape"):
        value = getattr(options, name)
        mark = {"\\t": "\t", None: None}.get(value, value)
        if mark == "none" and name != "delimiter":
            mark = ""
        elif mark is not None and (len(mark) != 1 or mark in "\r\n\0"):
            other = "" if name == "delimiter" else ", or none"
            raise ConfigError(f"--{name} must be one character{other}, got {value!r}")
        marks[name] = mark
    told = [mark for mark in marks.values() if mark]
    if len(set(told)) < len(told):
        raise ConfigError("--delimiter, --quote and --escape must be different characters")
    return GivenDialect(**marks)
