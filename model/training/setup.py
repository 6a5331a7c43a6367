"""From a configuration to checked data, a model and an objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from osa.model.config import EncoderConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.records.fields import Field
from osa.model.tokenization import TextTokenizer
from osa.model.training.config import DataSection, TrainConfig
from osa.model.training.data.store import ExampleStore
from osa.model.training.objectives.base import Objective, ObjectiveInputs


@dataclass(frozen=True)
class TrainingSetup:
    """What a trainer works on.

    Attributes:
        model: To be trained.
        objective: Its examples and its loss.
        store: Training data.
        held_out: Data for evaluation.
    """

    model: EmbeddingModel
    objective: Objective
    store: ExampleStore
    held_out: ExampleStore | None


def prepare(config: TrainConfig, progress: bool = True) -> TrainingSetup:
    """Check and store the data, build or load the model, create the objective.

    Raises:
        ConfigError: A setting is invalid.
        DataError: Bad data.
        CheckpointError: A model to start from that cannot be loaded.
    """
    data = config.data
    fields = _fields(config)
    store = _store(data, data.files, fields, data.limit, progress)
    held_out = _store(data, data.held_out, fields, None, progress) if data.held_out else None
    model = build_model(config, store)
    if data.max_tokens > model.config.max_seq_len:
        raise ConfigError(
            f"data.max_tokens ({data.max_tokens}) must not exceed model.max_seq_len "
            f"({model.config.max_seq_len})"
        )
    torch.manual_seed(config.seed)  # for the initial values of heads
    is_new = config.start is None
    inputs = ObjectiveInputs(model, is_new, store, held_out, data.max_tokens, config.seed, progress)
    objective = config.section.load()(config.section, inputs)
    return TrainingSetup(model, objective, store, held_out)


def _fields(config: TrainConfig) -> tuple[Field, ...]:
    fields, columns = config.section.example_fields(), config.data.columns
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


def build_model(config: TrainConfig, store: ExampleStore) -> EmbeddingModel:
    """The model before its first update, a function of the seed.

    Raises:
        ConfigError: The model section cannot be built, or the tokenizer is missing.
        CheckpointError: A checkpoint to start from that cannot be loaded.
    """
    features = next((field.name for field in store.fields if field.kind == "features"), None)
    if config.start is not None:
        model = EmbeddingModel.from_pretrained(config.start).train()
        if (features is None) == (model.tokenizer is None):
            expected = "features" if model.tokenizer is None else "texts"
            raise ConfigError(f"the model in {config.start} takes {expected}, the data are others")
        return model
    generator = torch.Generator().manual_seed(config.seed)
    if reserved := sorted({"vocab_size", "feature_size"} & set(config.model)):
        raise ConfigError(f"model.{reserved[0]} follows from the data: leave it out")
    if features is not None:
        width = store.take([0])[features][0].shape[1]
        return EmbeddingModel(
            EncoderConfig.from_dict({**config.model, "feature_size": width}), None, generator
        )
    file = config.tokenizer or config.section.default_tokenizer()
    if file is None:
        raise ConfigError(
            "a new model of texts needs a tokenizer: set tokenizer (make one with 'osa tokenizer') "
            "or start from a checkpoint"
        )
    tokenizer = TextTokenizer.from_file(file)
    values = {**config.model, "vocab_size": tokenizer.vocab_size}
    return EmbeddingModel(EncoderConfig.from_dict(values), tokenizer, generator)
