"""What a training run does, read from TOML; every field can be overridden on the command line."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from osa.model.common.suggestions import explain
from osa.model.errors import ConfigError
from osa.model.training import RECIPES as RECIPES

ObjectiveName = Literal["distill", "contrastive", "mlm", "classify"]


class Section(BaseModel):
    """Base of the sections: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(Section):
    """Which examples, and what to do with bad ones.

    Attributes:
        files: Text (one a line), JSONL, Parquet or Arrow files.
        held_out: The same for evaluation; never trained on.
        limit: Use at most this many examples.
        max_tokens: Cut longer inputs [tokens].
        bucket_batches: Sort this many batches' examples by length, so that a batch holds inputs
            of about one length; 1 leaves the shuffled order.
        columns: Name in the files of each field, where it differs (``text``, ``anchor``, ...).
        on_bad: Leave bad records out (``skip``), or stop at the first (``refuse``).
        max_bad_share: Largest share of bad records that is left out.
        max_record_bytes: Longest line, or value of a table [bytes].
        cache: Where checked examples are kept.
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


class DistillSection(Section):
    """Objective ``distill``: whose vectors the student learns, and how.

    Attributes:
        teacher: A sentence-transformers directory, or ``package:NAME/FOLDER``.
        cache: Where the teacher's vectors are kept.
        start_embeddings: Start the token embeddings from the teacher's.
        rotate: Rotate targets onto their principal axes, so that leading dimensions hold most
            and shorter vectors (``dimensions``) stay meaningful.
        similarity_weight: Weight of the in-batch similarity loss beside the cosine loss.
        segment_tokens: Longer texts are cut into segments of whole sentences up to this length
            [tokens]; the teacher sees them one by one, the student as one sequence.
        crop: Take a random run of a long text's segments, of a random length.
    """

    teacher: str
    cache: Path = Path("data/teacher")
    start_embeddings: bool = True
    rotate: bool = True
    similarity_weight: float = Field(default=10.0, ge=0)
    segment_tokens: int = Field(default=126, ge=8, le=512)
    crop: bool = True


class ContrastiveSection(Section):
    """Objective ``contrastive``: pairs or triples with in-batch negatives.

    Attributes:
        temperature: Of the softmax over similarities.
        symmetric: Also find the anchor of every positive.
    """

    temperature: float = Field(default=0.05, gt=0)
    symmetric: bool = True


class MlmSection(Section):
    """Objective ``mlm``: masked tokens (BERT, arXiv:1810.04805).

    Attributes:
        mask_share: Share of tokens to predict; of these 80 % are masked, 10 % replaced.
        mask_token: Its name in the vocabulary.
    """

    mask_share: float = Field(default=0.15, gt=0, lt=1)
    mask_token: str = "[MASK]"


class ClassifySection(Section):
    """Objective ``classify``: a label for every text or sequence of features.

    Attributes:
        input: What the label is of.
    """

    input: Literal["text", "features"] = "text"


class OptimizerSection(Section):
    """How the weights move: AdamW, linear warm-up, cosine decay.

    Attributes:
        steps: Updates in all.
        batch_size: Examples an update, over all processes.
        chunk_tokens: Run at most this many tokens through the network at once [tokens]; the
            gradient is that of the whole batch, whatever the objective.
        learning_rate: Peak rate of matrices and gains.
        embedding_rate: Peak rate of the token embeddings.
        alpha_rate: Peak rate of the angles.
        final_share: Rate at the end, as a share of the peak.
        warmup: Updates of linear warm-up.
        weight_decay: Of matrices; embeddings, gains and angles have none.
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
    """When to save, to evaluate and to log [updates].

    Attributes:
        save_every: Between checkpoints to resume from.
        evaluate_every: Between evaluations on the held-out examples.
        log_every: Between rows of ``metrics.csv``.
        tensorboard: Also write TensorBoard events (needs the package ``tensorboard``).
    """

    save_every: int = Field(default=250, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    log_every: int = Field(default=10, ge=1)
    tensorboard: bool = False


class TrainConfig(Section):
    """A training run.

    Attributes:
        objective: What is learnt; its section may be given, those of others may not.
        seed: Of initialisation, shuffling, masking and cropping.
        start: Checkpoint directory to start from; the model section must be empty then.
        tokenizer: A ``tokenizer.json`` for a new model of texts.
        model: Fields of ``EncoderConfig`` other than ``vocab_size`` and ``feature_size``.
        bf16: Autocast matrix products to bfloat16.
        parallel: Under ``torchrun``: replicate the weights, or shard them.
    """

    objective: ObjectiveName = "distill"
    seed: int = Field(default=0, ge=0)
    start: Path | None = None
    tokenizer: Path | None = None
    bf16: bool = True
    parallel: Literal["ddp", "fsdp"] = "ddp"
    model: dict[str, Any] = {}
    data: DataSection
    distill: DistillSection | None = None
    contrastive: ContrastiveSection | None = None
    mlm: MlmSection | None = None
    classify: ClassifySection | None = None
    optimizer: OptimizerSection
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _fit(self) -> Self:
        names = ("distill", "contrastive", "mlm", "classify")
        if extra := [n for n in names if n != self.objective and getattr(self, n) is not None]:
            raise ValueError(f"section {extra[0]} does not go with objective {self.objective!r}")
        if self.objective == "distill" and self.distill is None:
            raise ValueError("objective 'distill' needs distill.teacher")
        if self.start is not None and (self.model or self.tokenizer):
            raise ValueError("start brings its own model and tokenizer: leave these sections out")
        return self

    def digest(self) -> str:
        """Identity of everything that decides the weights."""
        text = self.model_dump_json(
            exclude={
                "report": True,
                "data": {"cache", "files", "held_out"},  # their content counts, not their place
                "distill": {"cache"},
            }
        )
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
        raise ConfigError(f"{path}: {explain(error, TrainConfig, 'the file')}") from error


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
