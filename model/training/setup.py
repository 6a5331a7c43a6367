"""From a configuration to a model and an objective: data checked, teacher asked, heads made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from osa.model.config import EncoderConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import CheckpointError, ConfigError
from osa.model.tokenization import TextTokenizer
from osa.model.training.config import (
    ClassifySection,
    ContrastiveSection,
    DataSection,
    DistillSection,
    MlmSection,
    TrainConfig,
)
from osa.model.training.data import ExampleStore, Field
from osa.model.training.objectives.base import Objective
from osa.model.training.objectives.classification import Classification, classify_fields
from osa.model.training.objectives.contrastive import Contrastive
from osa.model.training.objectives.distillation import Distillation, SegmentTable
from osa.model.training.objectives.masked_tokens import MaskedTokens
from osa.model.training.objectives.teacher import (
    Embed,
    TeacherVectors,
    embed,
    load_teacher,
    locate_teacher,
    teacher_digest,
)

FIELDS: dict[str, tuple[Field, ...]] = {
    "distill": Distillation.fields,
    "contrastive": Contrastive.fields,
    "mlm": MaskedTokens.fields,
}


@dataclass(frozen=True)
class Run:
    """What a trainer needs.

    Attributes:
        model: To be trained.
        objective: What is learnt.
        store: The data.
        held_out: Data for evaluation.
    """

    model: EmbeddingModel
    objective: Objective
    store: ExampleStore
    held_out: ExampleStore | None


def prepare(config: TrainConfig, progress: bool = True) -> Run:
    """Check and store the data, build or load the model, make the objective.

    Raises:
        ConfigError: A setting that cannot be.
        DataError: Bad data.
        CheckpointError: A model to start from that cannot be loaded.
    """
    data = config.data
    fields = _fields(config)
    teacher = locate_teacher(config.distill.teacher) if config.distill is not None else None
    store = _store(data, data.files, fields, data.limit, progress)
    held_out = _store(data, data.held_out, fields, None, progress) if data.held_out else None
    model = build_model(config, teacher, store)
    if data.max_tokens > model.config.max_seq_len:
        raise ConfigError(
            f"data.max_tokens ({data.max_tokens}) must not exceed model.max_seq_len "
            f"({model.config.max_seq_len})"
        )
    torch.manual_seed(config.seed)  # for the first values of heads
    if config.distill is not None:
        assert teacher is not None  # located above
        objective: Objective = _distillation(
            config, config.distill, teacher, model, store, held_out, progress
        )
    elif config.objective == "contrastive":
        section = config.contrastive or ContrastiveSection()
        objective = Contrastive(section, model, store, held_out, data.max_tokens)
    elif config.objective == "mlm":
        mlm = config.mlm or MlmSection()
        objective = MaskedTokens(mlm, model, store, held_out, data.max_tokens, config.seed)
    else:
        classify = config.classify or ClassifySection()
        objective = Classification(classify, model, store, held_out, data.max_tokens)
    return Run(model, objective, store, held_out)


def _fields(config: TrainConfig) -> tuple[Field, ...]:
    fields = FIELDS.get(config.objective) or classify_fields(config.classify or ClassifySection())
    columns = config.data.columns
    if unknown := sorted(set(columns) - {field.name for field in fields}):
        allowed = ", ".join(field.name for field in fields)
        raise ConfigError(f"data.columns names {unknown[0]!r}, the fields are {allowed}")
    return tuple(
        Field(field.name, columns.get(field.name, field.column), field.kind, field.optional)
        for field in fields
    )


def _store(
    data: DataSection,
    files: Sequence[Path],
    fields: tuple[Field, ...],
    limit: int | None,
    progress: bool,
) -> ExampleStore:
    return ExampleStore.build(
        files,
        fields,
        data.cache,
        on_bad=data.on_bad,
        max_bad_share=data.max_bad_share,
        limit=limit,
        max_record_bytes=data.max_record_bytes,
        progress=progress,
    )


def _distillation(
    config: TrainConfig,
    section: DistillSection,
    teacher: Path,
    model: EmbeddingModel,
    store: ExampleStore,
    held_out: ExampleStore | None,
    progress: bool,
) -> Distillation:
    assert model.tokenizer is not None  # build_model gave it one
    digest = teacher_digest(teacher)
    cache = TeacherVectors(section.cache / f"{digest[:16]}-{section.segment_tokens}")
    ask = _lazy_teacher(teacher, section.segment_tokens)

    def table(of: ExampleStore) -> tuple[ExampleStore, SegmentTable]:
        assert model.tokenizer is not None
        budget = section.segment_tokens
        return of, SegmentTable(of, model.tokenizer, budget, cache, ask, progress)

    evaluated = None if held_out is None else table(held_out)
    return Distillation(
        section, model, table(store), evaluated, config.data.max_tokens, config.seed, digest
    )


def _lazy_teacher(directory: Path, segment_tokens: int) -> Embed:
    """The teacher, loaded when a text comes that it has not seen."""
    loaded: list[Any] = []

    def ask(texts: Sequence[str]) -> np.ndarray:
        if not loaded:
            loaded.append(load_teacher(directory, segment_tokens + 2))
        return embed(loaded[0], texts)

    return ask


def build_model(config: TrainConfig, teacher: Path | None, store: ExampleStore) -> EmbeddingModel:
    """The model before its first update, a function of the seed.

    Raises:
        ConfigError: The model section cannot be built, or the tokenizer is missing.
        CheckpointError: A checkpoint to start from that cannot be loaded.
    """
    features = config.classify is not None and config.classify.input == "features"
    if config.start is not None:
        model = EmbeddingModel.from_pretrained(config.start).train()
        if features != (model.tokenizer is None):
            expected = "features" if model.tokenizer is None else "texts"
            raise ConfigError(f"the model in {config.start} takes {expected}, the data are others")
        return model
    generator = torch.Generator().manual_seed(config.seed)
    if reserved := sorted({"vocab_size", "feature_size"} & set(config.model)):
        raise ConfigError(f"model.{reserved[0]} follows from the data: leave it out")
    if features:
        width = store.take([0])["features"][0].shape[1]
        return EmbeddingModel(
            EncoderConfig.from_dict({**config.model, "feature_size": width}), None, generator
        )
    if teacher is not None and config.tokenizer is None:
        tokenizer = TextTokenizer.from_file(teacher / "tokenizer.json")
    elif config.tokenizer is not None:
        tokenizer = TextTokenizer.from_file(config.tokenizer)
    else:
        raise ConfigError(
            "a new model of texts needs a tokenizer: set tokenizer (make one with 'osa tokenizer') "
            "or start from a checkpoint"
        )
    values = {**config.model, "vocab_size": tokenizer.vocab_size}
    model = EmbeddingModel(EncoderConfig.from_dict(values), tokenizer, generator)
    if teacher is not None and config.distill is not None and config.distill.start_embeddings:
        _take_embeddings(model, teacher)
    return model


@torch.no_grad()
def _take_embeddings(model: EmbeddingModel, teacher: Path) -> None:
    weights = load_file(teacher / "model.safetensors")
    names = [name for name in weights if name.endswith("word_embeddings.weight")]
    if len(names) != 1:
        raise CheckpointError(f"{teacher / 'model.safetensors'} holds no word_embeddings.weight")
    source, target = weights[names[0]], model.encoder.embed.weight
    assert isinstance(target, torch.Tensor)  # a token model, by construction
    source = source[: target.shape[0]]  # tables are often padded beyond the vocabulary
    if source.shape != target.shape:
        raise ConfigError(
            f"the teacher's embeddings are {tuple(source.shape)}, the student's "
            f"{tuple(target.shape)}: set distill.start_embeddings = false"
        )
    target.copy_(source)
