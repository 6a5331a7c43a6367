"""``osa embed``."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from osa.model.errors import ConfigError
from osa.service.settings import ModelSettings
from osa.service.settings_arguments import add_settings, read_settings

SHOWN = 20
"""Bad records that are named; the rest are counted."""
QUIET_INTERVAL_S = 10.0
"""Between lines of progress where nobody watches [s]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa embed``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".txt (one text a line), .jsonl, .csv, each with .gz too; .parquet; - for stdin",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.parquet")
    parser.add_argument("--column", default="text", help="which column holds the text")
    parser.add_argument(
        "--format", choices=("txt", "jsonl", "csv"), help="what stdin holds; default is txt"
    )
    parser.add_argument(
        "--prompt-name", metavar="NAME", help="of model.prompts; default as for osa serve"
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


def find_prompt(settings: ModelSettings, name: str | None) -> str:
    """The prompt of this name, or of none the default one.

    Raises:
        ConfigError: There is no such prompt.
    """
    name = settings.default_prompt_name if name is None else name
    if name is not None and name not in settings.prompts:
        there_are = ", ".join(sorted(settings.prompts)) or "none"
        raise ConfigError(f"--prompt-name must be one of model.prompts ({there_are}), got {name!r}")
    return "" if name is None else settings.prompts[name]


def run(options: argparse.Namespace) -> int:
    """Embed files; returns the exit code."""
    if find_spec("pyarrow") is None:
        raise ConfigError("osa embed needs pyarrow: pip install 'osa-encoder[embed]'")
    for name in ("batch_tokens", "rows_per_group"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    settings = read_settings(options)
    prompt = find_prompt(settings.model, options.prompt_name)
    from osa.model.processor import limit_instruction_set
    from osa.model.training.data.records import Problem
    from osa.service.bulk.encoder import BatchLimits, BulkEncoder, TextOptions
    from osa.service.bulk.parts import check_untouched
    from osa.service.bulk.run import BulkRun, RunOptions
    from osa.service.bulk.sources import open_sources
    from osa.service.engines import select_engine

    check_untouched(options.output, options.resume)
    sources = open_sources(options.inputs, options.column, options.format)
    limit_instruction_set(settings.model.instruction_set)
    selection = select_engine(settings.model)
    selection.engine.warm_up()
    print(f"{selection.engine.info.backend}: {selection.reason}", file=sys.stderr)
    batching = settings.batching
    limits = BatchLimits(
        options.batch_tokens or batching.max_batch_tokens, batching.max_batch_requests
    )
    encoder = BulkEncoder(
        selection.engine,
        limits,
        options.dimensions,
        options.dtype,
        TextOptions(prompt, settings.model.auto_truncate, settings.model.max_input_length),
    )
    told = 0

    def report(problem: Problem) -> None:
        nonlocal told
        told += 1
        if told <= SHOWN:
            tqdm.write(f"skipped {problem}", file=sys.stderr)

    asked = RunOptions(options.column, options.rows_per_group, options.skip_bad, options.resume)
    interval_s = 0.5 if sys.stderr.isatty() else QUIET_INTERVAL_S
    try:
        with tqdm(unit=" texts", file=sys.stderr, mininterval=interval_s) as bar:
            work = BulkRun(sources, encoder, options.output, asked, report)
            summary = work.run(bar.update)
    except KeyboardInterrupt:
        print("osa: stopped; --resume goes on", file=sys.stderr)
        return 1
    print(json.dumps({"output": str(options.output), **summary.to_note()}))
    return 0
