"""What a training run does, read from TOML; every field can be overridden on the command line."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from osa.model.errors import ConfigError


class Section(BaseModel):
    """Base of the sections: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(Section):
    """Which texts.

    Attributes:
        files: Text files, one text a line.
        held_out: Text files for evaluation; never trained on.
        limit: Use at most this many texts.
        max_tokens: Cut longer texts [tokens].
    """

    files: list[Path] = Field(min_length=1)
    held_out: list[Path] = []
    limit: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=128, ge=3)


class TeacherSection(Section):
    """Whose vectors the student learns.

    Attributes:
        directory: A sentence-transformers directory, or ``package:NAME/FOLDER``.
        cache: Where the teacher's vectors are kept.
        start_embeddings: Start the token embeddings from the teacher's.
        rotate: Rotate targets onto their principal axes, so that leading dimensions hold most
            and shorter vectors (``dimensions``) stay meaningful.
    """

    directory: str
    cache: Path = Path("data/teacher")
    start_embeddings: bool = True
    rotate: bool = True


class OptimizerSection(Section):
    """How the weights move: AdamW, linear warm-up, cosine decay.

    Attributes:
        steps: Updates in all.
        batch_size: Texts an update.
        learning_rate: Peak rate of matrices and gains.
        embedding_rate: Peak rate of the token embeddings.
        alpha_rate: Peak rate of the angles.
        final_share: Rate at the end, as a share of the peak.
        warmup: Updates of linear warm-up.
        weight_decay: Of matrices; embeddings, gains and angles have none.
        clip_norm: Largest gradient norm.
        similarity_weight: Weight of the in-batch similarity loss beside the cosine loss.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    embedding_rate: float = Field(default=1e-3, gt=0)
    alpha_rate: float = Field(default=1e-3, gt=0)
    final_share: float = Field(default=0.02, ge=0, le=1)
    warmup: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    similarity_weight: float = Field(default=10.0, ge=0)


class ReportSection(Section):
    """When to save, to evaluate and to log [updates].

    Attributes:
        save_every: Between checkpoints to resume from.
        evaluate_every: Between evaluations on the held-out texts.
        log_every: Between rows of ``metrics.csv``.
    """

    save_every: int = Field(default=250, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    log_every: int = Field(default=10, ge=1)


class TrainConfig(Section):
    """A training run.

    Attributes:
        seed: Of initialisation and shuffling.
        model: Fields of ``EncoderConfig`` other than ``vocab_size``.
        bf16: Autocast matrix products to bfloat16.
    """

    seed: int = 0
    bf16: bool = True
    model: dict[str, Any] = {}
    data: DataSection
    teacher: TeacherSection
    optimizer: OptimizerSection
    report: ReportSection = ReportSection()

    def digest(self) -> str:
        """Identity of everything that decides the weights."""
        text = self.model_dump_json(exclude={"report": True, "teacher": {"cache"}})
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply ``section.field=value`` overrides (values in TOML syntax).

    Raises:
        ConfigError: Naming the file or field, what came and what is allowed.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _apply(values, override)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error


def _apply(values: dict[str, Any], override: str) -> None:
    name, separator, raw = override.partition("=")
    if not separator or not name:
        raise ConfigError(f"an override must be section.field=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    *sections, field = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{name}: {section} is no section")
    values[field] = value
