"""``osa embed``."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from osa.model.common.progress import Progress, say
from osa.model.common.requirements import require
from osa.model.errors import ConfigError
from osa.service.commands.preflight import (
    brings_prompts,
    check_model,
    fetch_models,
    input_kind,
)
from osa.service.commands.settings_options import add_settings, read_settings
from osa.service.inference.prompts import Prompts

SHOWN = 20
"""Bad records that are named; the rest are counted."""
PARQUET = ".parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa embed``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".txt (one text a line), .jsonl, .csv, each with .gz too; .parquet; - for stdin",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.parquet")
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
    for name in ("batch_tokens", "rows_per_group", "dimensions"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if options.output.suffix.lower() != PARQUET:
        raise ConfigError(
            f"--output is written as Parquet: its name must end with {PARQUET}, got "
            f"{options.output}"
        )


def run(options: argparse.Namespace) -> int:
    """Embed files; returns the exit code."""
    check(options)
    settings = read_settings(options)
    from osa.service.bulk.input_column import InputColumn
    from osa.service.bulk.output_parts import check_untouched
    from osa.service.bulk.sources import open_inputs

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
    inputs = open_inputs(options.inputs, column, options.format)
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
    )
    told = 0

    def report(problem: Problem) -> None:
        nonlocal told
        told += 1
        if told <= SHOWN:
            bar.write(f"skipped {problem}")

    asked = RunOptions(column.name, kind, options.rows_per_group, options.skip_bad, options.resume)
    bar = Progress("embedding", "texts" if kind == "text" else "sequences")
    try:
        with bar:
            summary = BulkRun(inputs, encoder, options.output, asked, report).run(bar.update)
    except KeyboardInterrupt:
        say("osa: stopped; --resume goes on")
        return 1
    print(json.dumps({"output": str(options.output), **summary.to_note()}))
    return 0
