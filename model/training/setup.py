"""From a configuration to checked data, a model and an objective."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from osa.model.config import EncoderConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.layers.monarch import MonarchLinear, as_dense
from osa.model.records.fields import Field
from osa.model.tokenization import TextTokenizer
from osa.model.training.config import TrainConfig
from osa.model.training.data.report import Rules
from osa.model.training.data.store import ExampleStore
from osa.model.training.objectives.base import (
    EmbeddingObjective,
    Objective,
    ObjectiveInputs,
    StartHead,
)


@dataclass(frozen=True)
class Setup:
    """Model, objective and data of a run.

    Attributes:
        model: The model to train.
        objective: Examples and loss.
        store: Training data.
    """

    model: EmbeddingModel
    objective: Objective
    store: ExampleStore


def prepare(config: TrainConfig, progress: bool = True) -> Setup:
    """Check and store the data, build or load the model, create the objective.

    Raises:
        ConfigError: A setting is invalid.
        DataError: The data are unusable.
        CheckpointError: The checkpoint to start from cannot be loaded.
    """
    data = config.data
    fields = _fields(config)
    rules = Rules(data.on_bad, data.max_bad_share, data.limit, data.max_record_bytes)
    store = ExampleStore.build(data.files, fields, data.cache, rules, progress)
    held_out = None
    if data.held_out:
        rules = replace(rules, limit=None)
        held_out = ExampleStore.build(data.held_out, fields, data.cache, rules, progress)
    model = build_model(config, store)
    if data.max_tokens > model.config.max_seq_len:
        raise ConfigError(
            f"data.max_tokens ({data.max_tokens}) must not exceed model.max_seq_len "
            f"({model.config.max_seq_len})"
        )
    torch.manual_seed(config.seed)  # for the initial values of heads
    is_new = config.start is None
    inputs = ObjectiveInputs(
        model,
        is_new,
        store,
        held_out,
        data.max_tokens,
        config.seed,
        progress,
        _take_head(model),
    )
    size, batch = model.config.bottleneck_size, config.optimizer.batch_size
    objective = config.section.load()(config.section, inputs)
    if size is not None and batch < size and isinstance(objective, EmbeddingObjective):
        raise ConfigError(
            f"optimizer.batch_size must be at least model.bottleneck_size ({size}), the directions "
            f"that are found in each batch, got {batch}"
        )
    return Setup(model, objective, store)


def _take_head(model: EmbeddingModel) -> StartHead | None:
    """The head of a model, which is an embedding model afterwards."""
    if model.head is None or model.config.head is None:
        return None
    taken = StartHead(model.config.head, model.head)
    model.config, model.head = replace(model.config, head=None), None
    return taken


def _fields(config: TrainConfig) -> tuple[Field, ...]:
    fields, columns = config.section.example_fields(), config.data.columns
    if unknown := sorted(set(columns) - {field.name for field in fields}):
        allowed = ", ".join(field.name for field in fields)
        raise ConfigError(f"data.columns names {unknown[0]!r}, the fields are {allowed}")
    return tuple(replace(field, column=columns.get(field.name, field.column)) for field in fields)


def build_model(config: TrainConfig, store: ExampleStore) -> EmbeddingModel:
    """The initial model; random weights follow from the seed.

    Raises:
        ConfigError: The model section is invalid, the tokenizer is missing, or the checkpoint
            takes another kind of input than the data have.
        CheckpointError: The checkpoint to start from cannot be loaded.
    """
    features = next((field.name for field in store.fields if field.kind == "features"), None)
    if config.start is not None:
        model = EmbeddingModel.from_pretrained(config.start).train()
        if (features is None) == (model.tokenizer is None):
            expected = "features" if model.tokenizer is None else "texts"
            raise ConfigError(f"the model in {config.start} takes {expected}, the data are others")
        if features is not None:
            width, taken = store.take([0])[features][0].shape[1], model.config.feature_size
            if width != taken:
                raise ConfigError(
                    f"the model in {config.start} takes rows of {taken} numbers, the data have "
                    f"{width}"
                )
        return model if config.linear is None else with_linear(model, config.linear)
    generator = torch.Generator().manual_seed(config.seed)
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


@torch.no_grad()
def with_linear(model: EmbeddingModel, linear: Literal["dense", "monarch"]) -> EmbeddingModel:
    """A model with the same weights, its blocks' linear layers in another form.

    Dense layers become the nearest Monarch matrices, of the best sub-blocks of rank one by singular
    values (arXiv:2204.00595): close enough to train on from, not to use as they are. Monarch
    matrices become dense ones exactly.

    Args:
        model: In float32; not changed.
        linear: Form of the new model's layers.

    Raises:
        ConfigError: Widths that have no Monarch matrix.
    """
    if linear == model.config.linear:
        return model
    made = EmbeddingModel(replace(model.config, linear=linear), model.tokenizer)
    wanted = dict(made.named_modules())
    for name, layer in model.encoder.blocks.named_modules(prefix="encoder.blocks"):
        target = wanted[name]
        if type(layer) is type(target) or not isinstance(layer, torch.nn.Linear | MonarchLinear):
            continue
        if isinstance(target, MonarchLinear):
            target.project(as_dense(layer))
        else:
            target.load_state_dict(as_dense(layer).state_dict())
    others = {name: part for name, part in model.state_dict().items() if name in made.state_dict()}
    made.load_state_dict({**made.state_dict(), **others})
    made.prompts, made.default_prompt_name = model.prompts, model.default_prompt_name
    return made.train(model.training)
