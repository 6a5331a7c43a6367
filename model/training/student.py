"""The student before its first update: configuration, tokenizer, and embeddings of the teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from osa.model.config import EncoderConfig
from osa.model.embedder import EmbeddingModel
from osa.model.errors import CheckpointError, ConfigError
from osa.model.tokenization import TextTokenizer
from osa.model.training.config import TrainConfig


def build_student(config: TrainConfig, teacher: Path) -> EmbeddingModel:
    """Create the student with the teacher's tokenizer.

    Raises:
        ConfigError: The model section cannot be built, or embeddings of another width were to
            be taken over.
    """
    tokenizer = TextTokenizer.from_file(teacher / "tokenizer.json")
    encoder_config = EncoderConfig.from_dict(
        {**config.model, "vocab_size": tokenizer.vocab_size, "feature_size": None}
    )
    generator = torch.Generator().manual_seed(config.seed)
    model = EmbeddingModel(encoder_config, tokenizer, generator)
    if config.teacher.start_embeddings:
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
            f"{tuple(target.shape)}: set teacher.start_embeddings = false"
        )
    target.copy_(source)
