"""The settings of a training run, read from TOML; each can be overridden on the command line."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import to_json

from osa.model.common.suggestions import explain
from osa.model.errors import ConfigError
from osa.model.training import RECIPES as RECIPES
from osa.model.training.objectives.registry import REGISTRY, ObjectiveSection


class Section(BaseModel):
    """Base of the sections: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(Section):
    """Training and evaluation data, and the handling of bad records.

    Attributes:
        files: Text (one text per line), JSONL, CSV, Parquet or Arrow files.
        held_out: Files for evaluation; never trained on.
        limit: Use at most this many examples.
        max_tokens: Cut longer inputs [tokens].
        bucket_batches: Sort the examples of this many batches by length, so that the inputs of a
            batch have similar lengths; 1 leaves the shuffled order.
        columns: Column in the files of each field, where its name differs (``text = "body"``).
        on_bad: Leave bad records out (``skip``), or stop at the first (``refuse``).
        max_bad_share: Largest share of bad records that may be left out.
        max_record_bytes: Longest line, or value of a table [bytes].
        cache: Directory of checked examples.
    """

    files: list[Path] = Field(min_length=1)
    held_out: list[Path] = []
    limit: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=128, ge=3)
    bucket_batches: int = Field(default=1, ge=1)
    columns: dict[str, str] = {}
    on_bad: Literal["skip", "refuse"] = "skip"
    max_bad_share: float = Field(default=0.01, ge=0, le=1)
    max_record_bytes: int = Field(default=1 << 20, ge=1024)
    cache: Path = Path("data/cache")


class OptimizerSection(Section):
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        steps: Total number of updates.
        batch_size: Examples per update, over all processes.
        chunk_tokens: Most tokens that run through the network at once [tokens]; the gradient
            is that of the whole batch, for every objective.
        learning_rate: Peak rate of all other weights.
        embedding_rate: Peak rate of the token embeddings.
        alpha_rate: Peak rate of the angles ``alpha``.
        final_share: Rate at the end, as a share of the peak.
        warmup: Updates of linear warm-up.
        weight_decay: Of matrices; embeddings, vectors and angles have none.
        clip_norm: Largest gradient norm.
        ema: Decay of the averaged weights that are evaluated and saved; 0 for none.
        max_skipped: Updates with a loss or gradient that is not finite are skipped; this many in
            a row stop the run.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=2)
    chunk_tokens: int = Field(default=16384, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    embedding_rate: float = Field(default=1e-3, gt=0)
    alpha_rate: float = Field(default=1e-3, gt=0)
    final_share: float = Field(default=0.02, ge=0, le=1)
    warmup: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    max_skipped: int = Field(default=10, ge=1)


class ReportSection(Section):
    """How often a run saves, evaluates and logs [updates].

    Attributes:
        save_every: Updates between saved states.
        evaluate_every: Updates between evaluations on the held-out examples.
        log_every: Updates between rows of ``metrics.csv``.
        tensorboard: Also write TensorBoard events (needs the package ``tensorboard``).
    """

    save_every: int = Field(default=250, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    log_every: int = Field(default=10, ge=1)
    tensorboard: bool = False


class TrainConfig(Section):
    """Settings of a training run; ``load_config`` adds a field for each objective's section.

    Attributes:
        objective: Name of the objective; its section may be given, those of others may not.
        seed: Seed of initialisation, shuffling, masking and cropping.
        start: Checkpoint directory to start from; the model section must be empty then.
        linear: Form that the linear layers of ``start`` are brought into: ``monarch`` takes the
            nearest Monarch matrices of dense layers; ``dense`` the other way, without loss.
        tokenizer: A ``tokenizer.json`` for a new model of texts.
        model: Fields of ``EncoderConfig`` other than ``vocab_size`` and ``feature_size``.
        bf16: Autocast matrix products to bfloat16; without it where the device is fast at them.
        parallel: Under ``torchrun``: replicate the weights, or shard them.
        sequence_parallel: Under ``torchrun``: so many neighbouring processes share the tokens of
            each text, which may be as many times longer in the same memory.
    """

    objective: str = "distill"
    seed: int = Field(default=0, ge=0)
    start: Path | None = None
    linear: Literal["dense", "monarch"] | None = None
    tokenizer: Path | None = None
    bf16: bool | None = None
    parallel: Literal["ddp", "fsdp"] = "ddp"
    sequence_parallel: int = Field(default=1, ge=1)
    model: dict[str, Any] = {}
    data: DataSection
    optimizer: OptimizerSection
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _check_sections(self) -> Self:
        given = [name for name in REGISTRY if getattr(self, name, None) is not None]
        if extra := [name for name in given if name != self.objective]:
            raise ValueError(f"section {extra[0]} does not go with objective {self.objective!r}")
        fields = REGISTRY[self.objective].model_fields.items()
        required = [name for name, field in fields if field.is_required()]
        if required and not given:
            raise ValueError(f"objective {self.objective!r} needs {self.objective}.{required[0]}")
        if self.start is not None and (self.model or self.tokenizer):
            raise ValueError("start brings its own model and tokenizer: leave these sections out")
        if self.sequence_parallel > 1 and self.parallel == "fsdp":
            raise ValueError("sequence_parallel replicates the weights: set parallel to ddp")
        if self.linear is not None and self.start is None:
            raise ValueError("linear is that of a model to start from: set start, or model.linear")
        if reserved := sorted({"vocab_size", "feature_size"} & set(self.model)):
            raise ValueError(f"model.{reserved[0]} follows from the data: leave it out")
        return self

    @property
    def section(self) -> ObjectiveSection:
        """The objective's section; its defaults where the file has none."""
        given: ObjectiveSection | None = getattr(self, self.objective, None)
        return REGISTRY[self.objective]() if given is None else given

    def digest(self) -> str:
        """Digest of everything that decides the weights: only an equal run may resume."""
        locations = {name: set(section.locations) for name, section in REGISTRY.items()}
        data = {"cache", "files", "held_out"}  # the digest of the examples is compared elsewhere
        left_out: dict[str, Any] = {"report": True, "data": data, "sequence_parallel": True}
        left_out |= locations
        values = self.model_dump(mode="json", exclude=left_out)
        if values["linear"] is None:
            del values["linear"]  # as before there was one
        values["optimizer"] = values.pop("optimizer")  # last, as in the states already saved
        return hashlib.sha256(to_json(values)).hexdigest()


def _with_sections() -> type[TrainConfig]:
    """``TrainConfig`` with the sections of all registered objectives, absent by default."""
    sections: dict[str, Any] = {name: (kind | None, None) for name, kind in REGISTRY.items()}
    sections["objective"] = (Literal[*REGISTRY], TrainConfig.model_fields["objective"].default)
    return create_model("TrainConfig", __base__=TrainConfig, **sections)


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply ``section.field=value`` overrides (values in TOML syntax).

    Raises:
        ConfigError: The file or an override is invalid; names the field and the allowed values.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _apply(values, override)
    model = _with_sections()
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, model, 'the file')}") from error


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
