"""Checks of an ``osa convert`` request, before torch is imported."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from osa.model.common.directories import (
    MANIFEST,
    check_file,
    check_output,
    describe_path,
    kind_of,
)
from osa.model.common.hub_reference import is_reference
from osa.model.common.progress import say
from osa.model.conversion.rank_correlation import read_pairs
from osa.model.download.models import local_path
from osa.model.errors import ConfigError
from osa.model.processor import instruction_set_limit
from osa.model.records.fields import Field
from osa.model.records.readers import check_format
from osa.model.training.objectives.teacher import PACKAGE, locate_teacher

STATE = "state"
"""Directory of the saved state, within the directory of the run."""
LEAST_TOKENS = 16


@dataclass(frozen=True)
class Request:
    """A checked request.

    Attributes:
        model: Directory of the teacher.
        name: The teacher as the command named it.
        output: Checkpoint directory to write.
        texts: Files of texts; none for the packaged ones.
        column: Of the texts in tables.
        pair_column: Of the second texts of pairs; '' for texts alone.
        layers: Layers to keep; None for all.
        minutes: Time to train [min].
        steps: Updates of the three stages; None to plan them by the time.
        max_tokens: Longest text [tokens].
        max_length: Longest text that the result reads [tokens].
        batch_tokens: Of an update [tokens].
        chunk_tokens: Most whose activations are kept [tokens].
        seed: Of the order of the texts.
        sts: Files of pairs to evaluate on.
        matryoshka: Leading widths that vectors are turned for; none leaves them as they are.
        controls: Whether controls are converted as well.
        dtype: Of the stored weights.
        resume: Whether to resume.
        quiet: Whether no progress is shown.
    """

    model: Path
    name: str
    output: Path
    texts: tuple[Path, ...] = ()
    column: str = "text"
    pair_column: str = ""
    layers: tuple[int, ...] | None = None
    minutes: float = 30.0
    steps: tuple[int, int, int] | None = None
    max_tokens: int = 512
    max_length: int = 32768
    batch_tokens: int = 3072
    chunk_tokens: int = 4096
    seed: int = 0
    sts: tuple[Path, ...] = ()
    matryoshka: tuple[int, ...] = ()
    controls: bool = False
    dtype: str = "float16"
    resume: bool = False
    quiet: bool = False

    @property
    def work(self) -> Path:
        """Directory of the saved state and the log."""
        named = self.output if self.output.name not in ("", "..") else self.output.resolve()
        return named.with_name(named.name + ".run")

    def digest(self) -> str:
        """Digest of what decides the weights, but for the plan, the texts and the teacher."""
        decides = [
            self.layers,
            self.max_length,
            self.max_tokens,
            self.batch_tokens,
            self.chunk_tokens,
            self.seed,
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def read_request(options: argparse.Namespace) -> Request:
    """The request of a command line, checked; a model of the hub is downloaded.

    Raises:
        ConfigError: A file or package is missing, a value is out of range, or an output would be
            replaced.
        DownloadError: The model cannot be had.
    """
    instruction_set_limit()
    steps = options.steps
    if steps is not None:
        if not 2 <= len(steps) <= 3 or min(steps) < 0 or sum(steps) == 0:
            raise ConfigError(
                f"--steps takes two or three numbers from 0 on, not all 0, got {list(steps)}"
            )
        steps = (*steps, 0)[:3]
    if not 0.0 < options.minutes < math.inf:
        raise ConfigError(f"--minutes must be positive and finite, got {options.minutes}")
    for name in ("max_tokens", "max_length", "batch_tokens", "chunk_tokens"):
        if getattr(options, name) < LEAST_TOKENS:
            flag = name.replace("_", "-")
            value = getattr(options, name)
            raise ConfigError(f"--{flag} must be at least {LEAST_TOKENS}, got {value}")
    request = Request(
        model=_directory(options.model),
        name=str(options.model),
        output=options.output,
        texts=tuple(options.texts),
        column=options.column,
        pair_column=options.pair_column,
        layers=options.layers,
        minutes=options.minutes,
        steps=steps,
        max_tokens=options.max_tokens,
        max_length=options.max_length,
        batch_tokens=options.batch_tokens,
        chunk_tokens=options.chunk_tokens,
        seed=options.seed,
        sts=tuple(options.sts),
        matryoshka=options.matryoshka,
        controls=options.controls,
        dtype=options.dtype,
        resume=options.resume,
        quiet=options.quiet,
    )
    for file in (*request.texts, *request.sts):
        check_file(file)
    for file in request.sts:
        read_pairs(file)
    if request.pair_column == request.column:
        raise ConfigError(f"--pair-column and --column are both {request.column}: a pair has two")
    if request.pair_column and not request.texts:
        raise ConfigError("--pair-column is of the files of --texts, and there are none")
    fields: tuple[Field, ...] = (text_field(request.column),)
    if request.pair_column:
        fields = pair_fields(request.column, request.pair_column)
    for file in request.texts:
        check_format(file, fields)
    _check_places(request, options.force)
    return request


def text_field(column: str) -> Field:
    """The text of a record."""
    return Field("text", column, "text")


def pair_fields(column: str, pair_column: str) -> tuple[Field, ...]:
    """The texts of a record of a pair."""
    return text_field(column), Field("text_pair", pair_column, "text")


def _directory(model: Path) -> Path:
    """Directory of the teacher.

    Raises:
        ConfigError: It is no model of transformers or sentence-transformers.
        DownloadError: The model of the hub cannot be had.
    """
    if str(model).startswith(PACKAGE):
        return locate_teacher(str(model))
    directory = local_path(model, progress=say) if is_reference(model) else model
    assert directory is not None  # as a path was given
    if kind_of(directory) != "transformer":
        raise ConfigError(
            f"osa convert takes a model of transformers or sentence-transformers: "
            f"{describe_path(directory)}"
        )
    return directory


def _check_places(request: Request, force: bool) -> None:
    state = (request.work / STATE).is_dir()
    if request.resume and not state:
        raise ConfigError(f"--resume: {request.work} holds no state to go on from")
    if state and not (request.resume or force):
        raise ConfigError(
            f"{request.work} holds a state: pass --resume to go on from it, or --force (or remove "
            "it) to start anew"
        )
    check_output(request.output, MANIFEST, force or request.resume)
