"""Checks of an ``osa train`` request, before torch is imported and any data are read."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from osa.model.common.directories import (
    MANIFEST,
    MODEL_KINDS,
    check_file,
    check_output,
    describe_path,
    kind_of,
    packaged_model,
)
from osa.model.common.requirements import is_installed, require
from osa.model.common.suggestions import did_you_mean
from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.model.processor import instruction_set_limit
from osa.model.training import RECIPES
from osa.model.training.config import TrainConfig, load_config

STATE = "state"
"""Directory of the saved state, within the directory of the run."""
CORPUS = "python -m osa.model.pretrained.corpus --output data/text"
MAX_RESTARTS = "TORCHELASTIC_MAX_RESTARTS"
"""Variable of the processes that ``torchrun`` starts."""


def work_directory(output: Path) -> Path:
    """Directory of the logs and the saved state of a run."""
    named = output if output.name not in ("", "..") else output.resolve()
    return named.with_name(named.name + ".run")


def is_elastic() -> bool:
    """Whether ``torchrun --max-restarts`` starts the processes of this run again when one dies.

    Its count of restarts is not enough: only the machine whose process died counts.
    """
    return int(os.environ.get(MAX_RESTARTS, "0")) > 0


def read_request(options: argparse.Namespace) -> TrainConfig:
    """The configuration that the command line names, checked.

    Raises:
        ConfigError: A package, file or saved state is missing, a setting is invalid, an output
            would be replaced, or the environment asks for an instruction set that the processor
            lacks.
    """
    require("osa train", "train", "pyarrow")
    instruction_set_limit()
    recipe = RECIPES / f"{options.config}.toml"
    if not recipe.is_file() and not options.config.exists():
        recipes = [file.stem for file in RECIPES.glob("*.toml")]
        raise ConfigError(
            f"cannot read {options.config}: it is no file, and no packaged recipe "
            f"({', '.join(sorted(recipes))}){did_you_mean(str(options.config), recipes)}"
        )
    config = load_config(recipe if recipe.is_file() else options.config, options.set)
    _check_places(options)
    _check_model(config)
    _check_files(config, packaged=recipe.is_file())
    if config.report.tensorboard and not is_installed("tensorboard"):
        raise ConfigError("report.tensorboard needs a package: pip install tensorboard")
    config.section.check()
    return config


def _check_places(options: argparse.Namespace) -> None:
    work = work_directory(options.output)
    state = (work / STATE).is_dir()
    if is_elastic():  # nothing tells a first start from a later one but what is there
        options.resume = state
    if options.resume and not state:
        raise ConfigError(f"--resume: {work} holds no training state to go on from")
    if state and not (options.resume or options.force):
        raise ConfigError(
            f"{work} holds a state: pass --resume to go on from it, or --force (or remove it) to "
            "start anew"
        )
    resuming = options.resume and state  # the run was allowed to write there when it began
    check_output(options.output, MANIFEST, options.force or resuming)


def _check_files(config: TrainConfig, packaged: bool) -> None:
    data = config.data
    for file in (*data.files, *data.held_out, *([config.tokenizer] if config.tokenizer else [])):
        try:
            check_file(file)
        except ConfigError as error:
            hint = f": the recipe's texts are made by '{CORPUS}'" if packaged else ""
            raise ConfigError(f"{error}{hint}") from error
    if config.start is not None and kind_of(packaged_model(config.start)) not in MODEL_KINDS:
        raise ConfigError(
            f"start must be a checkpoint or a model of transformers: {describe_path(config.start)}"
        )


def _check_model(config: TrainConfig) -> None:
    """Refuse a ``model`` section that is invalid for all data."""
    if config.start is not None:
        return
    known = [field.name for field in dataclasses.fields(EncoderConfig)]
    for name in config.model:
        if name not in known:
            suggestion = did_you_mean(name, known, "model.{}".format)
            raise ConfigError(
                f"model: unknown field {name}; known are {', '.join(known)}{suggestion}"
            )
    EncoderConfig.from_dict({**config.model, "vocab_size": 1})
