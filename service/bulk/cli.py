"""``osa embed``."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from typing import TYPE_CHECKING

from osa.model.common.progress import Progress, say
from osa.model.documents.limits import CHUNK_TOKENS
from osa.model.errors import ConfigError
from osa.service.bulk.options import add_arguments, check, read_dialect
from osa.service.commands.preflight import (
    brings_prompts,
    check_model,
    fetch_models,
    input_kind,
)
from osa.service.commands.settings_options import read_settings

if TYPE_CHECKING:
    from osa.model.records.record import Problem
    from osa.service.bulk.inputs.sources import Inputs
    from osa.service.bulk.opening import EncoderRequest
    from osa.service.bulk.run import RunOptions
    from osa.service.bulk.window_work import Summary

__all__ = ["add_arguments", "run"]
SHOWN = 20
"""Bad records that are named; the rest are counted."""


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
    from osa.service.bulk.inputs.input_column import InputColumn
    from osa.service.bulk.inputs.sources import OF_GROUPS, InputOptions, open_inputs
    from osa.service.bulk.opening import EncoderRequest, find_prompt
    from osa.service.bulk.run_directory import check_untouched
    from osa.service.bulk.windows import WindowLimits
    from osa.service.inference.prompts import Prompts

    check_untouched(options.output, options.resume)
    asked, settings = settings, fetch_models(settings, say)
    own = settings.served()[0]
    check_model(own, options.dimensions, partial(settings.place_of, own.name))
    kind = input_kind(own.path)
    if kind == "features" and options.prompt_name is not None:
        raise ConfigError("--prompt-name goes before texts, this model takes features")
    if kind == "text" and not brings_prompts(own.path):  # otherwise known when the model is open
        find_prompt(Prompts(own.prompts, own.default_prompt_name), options.prompt_name)
    if kind == "features" and options.vectors_per_document is not None:
        raise ConfigError("--vectors-per-document cuts texts, this model takes features")
    column = InputColumn(options.column or kind, kind)
    more = () if options.vectors_per_document is None else tuple(OF_GROUPS)
    reading = InputOptions(column, options.format, dialect, options.output_column, more)
    inputs = open_inputs(options.inputs, reading)
    from osa.service.bulk.run import RunOptions  # imports torch
    from osa.service.bulk.window_vectors import Grouping

    grouping = None
    if options.vectors_per_document is not None:
        grouping = Grouping(options.vectors_per_document, options.chunk_tokens or CHUNK_TOKENS)

    window = WindowLimits(options.rows_per_group, options.window_bytes)
    how = RunOptions(
        column.name, kind, options.output_column, window, options.skip_bad, options.resume
    )
    request = EncoderRequest(
        asked if options.on == "ray" else settings,
        kind,
        options.batch_tokens,
        options.dimensions,
        options.dtype,
        options.prompt_name,
        grouping,
    )
    bar = Progress("embedding", "texts" if kind == "text" else "sequences")
    embed = _embed_on_ray if options.on == "ray" else _embed_here
    try:
        summary = embed(options, inputs, request, how, bar)
    except KeyboardInterrupt:
        say("osa: stopped; --resume goes on")
        return 1
    if summary is None:
        return 0
    if summary.unknown:
        say(
            f"warning: {summary.unknown} of {summary.tokens} tokens stand for what the model's "
            "vocabulary does not have; texts of nothing else have the same vector"
        )
    if summary.truncated:
        say(
            f"warning: {summary.truncated} of {summary.texts} inputs were longer than "
            "model.max_input_length and were cut"
        )
    print(json.dumps({"output": str(options.output), **summary.to_note()}))
    return 0


def _embed_here(
    options: argparse.Namespace,
    inputs: Inputs,
    request: EncoderRequest,
    how: RunOptions,
    bar: Progress,
) -> Summary | None:
    """The summary; None in a process that only shares the long texts of another."""
    from osa.service.bulk.opening import open_encoder
    from osa.service.bulk.run import BulkRun

    say("loading the model")
    encoder = open_encoder(request, say)
    documents = encoder.documents
    if documents is not None and documents.group.rank:
        documents.follow()
        return None
    told = 0

    def report(problem: Problem) -> None:
        nonlocal told
        told += 1
        if told <= SHOWN:
            bar.write(f"skipped {problem}")

    with bar:
        summary = BulkRun(inputs, encoder, options.output, how, report).run(bar.update)
    if documents is not None:
        documents.end()
    return summary


def _embed_on_ray(
    options: argparse.Namespace,
    inputs: Inputs,
    request: EncoderRequest,
    how: RunOptions,
    bar: Progress,
) -> Summary:
    from osa.service.bulk.blocks.cluster import Workers
    from osa.service.bulk.blocks.plan import PIECE_BYTES
    from osa.service.bulk.blocks.ray_run import RayOptions, RayRun

    workers = Workers(
        options.workers,
        1 if options.worker_cpus is None else options.worker_cpus,
        options.worker_gpus or 0,
        options.ray_address,
        options.object_store_bytes,
    )
    spread = RayOptions(workers, options.piece_bytes or PIECE_BYTES, SHOWN)
    run = RayRun(inputs, request, options.output, how, spread)
    say("starting workers")
    with bar:
        return run.run(bar.update, lambda problem: bar.write(f"skipped {problem}"), say)
