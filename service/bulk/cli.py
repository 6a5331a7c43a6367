"""``osa embed``."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.progress import Progress, say
from osa.model.common.requirements import require
from osa.model.errors import ConfigError
from osa.model.records.csv_dialect import GivenDialect
from osa.service.commands.preflight import (
    brings_prompts,
    check_model,
    fetch_models,
    input_kind,
)
from osa.service.commands.settings_options import add_settings, read_settings
from osa.service.inference.prompts import Prompts

if TYPE_CHECKING:
    from osa.model.streaming.shared import SharedDocuments
    from osa.service.engines.base import Engine

SHOWN = 20
"""Bad records that are named; the rest are counted."""
PARQUET = ".parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa embed``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".txt (one text a line), .jsonl, .csv, .tsv, each with .gz too; .parquet; a "
        "directory of these, as Spark writes it; - for stdin",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.parquet")
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
    add_settings(parser, "model")


def find_prompt(prompts: Prompts, name: str | None) -> str:
    """The prompt of this name, or of none the default one.

    Raises:
        ConfigError: There is no such prompt.
    """
    try:
        return prompts.find(name)
    except KeyError:
        raise ConfigError(
            f"--prompt-name must be one of the model's prompts ({prompts.known}), got {name!r}"
        ) from None


def check(options: argparse.Namespace) -> None:
    """Refuse, before anything is read, options that cannot be.

    Raises:
        ConfigError: Naming the option, what came and what is allowed.
    """
    require("osa embed", "embed", "pyarrow")
    for name in ("batch_tokens", "rows_per_group", "window_bytes", "dimensions"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if options.output.suffix.lower() != PARQUET:
        raise ConfigError(
            f"--output is written as Parquet: its name must end with {PARQUET}, got "
            f"{options.output}"
        )
    if not options.output_column.strip():
        raise ConfigError("--output-column must be a name, got an empty one")


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


def run(options: argparse.Namespace) -> int:
    """Embed files; returns the exit code. Under ``torchrun`` all processes share long texts."""
    check(options)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _run(options)
    from osa.model.training.distributed import process_group

    with process_group():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    dialect = read_dialect(options)
    settings = read_settings(options)
    from osa.service.bulk.input_column import InputColumn
    from osa.service.bulk.output_parts import check_untouched
    from osa.service.bulk.sources import InputOptions, open_inputs
    from osa.service.bulk.windows import WindowLimits

    check_untouched(options.output, options.resume)
    settings = fetch_models(settings, say)
    own = settings.served()[0]
    check_model(own, options.dimensions, partial(settings.place_of, own.name))
    kind = input_kind(own.path)
    if kind == "features" and options.prompt_name is not None:
        raise ConfigError("--prompt-name goes before texts, this model takes features")
    if kind == "text" and not brings_prompts(own.path):  # otherwise known when the model is open
        find_prompt(Prompts(own.prompts, own.default_prompt_name), options.prompt_name)
    column = InputColumn(options.column or kind, kind)
    reading = InputOptions(column, options.format, dialect, options.output_column)
    inputs = open_inputs(options.inputs, reading)
    say("loading the model")
    from osa.model.processor import limit_instruction_set
    from osa.model.records.record import Problem
    from osa.service.bulk.encoder import BatchLimits, BulkEncoder, TextOptions
    from osa.service.bulk.run import BulkRun, RunOptions
    from osa.service.engines.selection import select_engine
    from osa.service.engines.trial import try_engine
    from osa.service.inference.tasks import check_task

    limit_instruction_set(own.instruction_set)
    selection = select_engine(own)
    check_task(selection.engine.info, ("embedding",))
    prompt = ""
    if kind == "text":
        prompt = find_prompt(Prompts.of(selection.engine.info, own), options.prompt_name)
    selection.engine.warm_up()
    try_engine(selection.engine)
    say(f"{selection.engine.info.backend}: {selection.reason}")
    documents = _documents(selection.engine)
    if documents is not None and documents.group.rank:
        documents.follow()
        return 0
    batching = settings.batching
    limits = BatchLimits(
        options.batch_tokens or batching.max_batch_tokens, batching.max_batch_requests
    )
    encoder = BulkEncoder(
        selection.engine,
        limits,
        options.dimensions,
        options.dtype,
        TextOptions(prompt, own.auto_truncate, own.max_input_length),
        documents,
    )
    told = 0

    def report(problem: Problem) -> None:
        nonlocal told
        told += 1
        if told <= SHOWN:
            bar.write(f"skipped {problem}")

    window = WindowLimits(options.rows_per_group, options.window_bytes)
    asked = RunOptions(
        column.name, kind, options.output_column, window, options.skip_bad, options.resume
    )
    bar = Progress("embedding", "texts" if kind == "text" else "sequences")
    try:
        with bar:
            summary = BulkRun(inputs, encoder, options.output, asked, report).run(bar.update)
        if documents is not None:
            documents.end()
    except KeyboardInterrupt:
        say("osa: stopped; --resume goes on")
        return 1
    if summary.unknown:
        say(
            f"warning: {summary.unknown} of {summary.tokens} tokens stand for what the model's "
            "vocabulary does not have; texts of nothing else have the same vector"
        )
    print(json.dumps({"output": str(options.output), **summary.to_note()}))
    return 0


def _documents(engine: Engine) -> SharedDocuments | None:
    """What computes texts of any length, if the engine can.

    Raises:
        ConfigError: There are several processes, but it cannot.
    """
    from osa.model.streaming.shared import SharedDocuments
    from osa.service.engines.streaming import StreamingEngine

    info = engine.info
    if info.streams and isinstance(engine, StreamingEngine):
        streaming = engine
        return SharedDocuments(lambda ids, options: streaming.stream(ids, (), options))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"several processes share long texts, which the {info.mixer} mixer in the "
            f"{info.backend} engine cannot take in chunks: start one process"
        )
    return None
