"""Heads of transformers' models: sequence classification, and masked language models for SPLADE."""

from __future__ import annotations

import torch
from torch import Tensor

from osa.model.config import HeadConfig
from osa.model.errors import CheckpointError
from osa.model.hub.architectures import Architecture, Values
from osa.model.hub.architectures.values import HeadNames
from osa.model.hub.names import Source


def take_classifier(
    source: Source, architecture: Architecture, values: Values
) -> tuple[HeadConfig, dict[str, Tensor]]:
    """Configuration and weights of a head for sequence classification.

    Args:
        source: Tensors of the directory.
        architecture: Of the encoder.
        values: Of ``config.json``: names of labels, kind of problem.

    Raises:
        CheckpointError: A tensor is missing, or the labels are not as many as the logits.
    """
    names = architecture.classifier
    weights = _transform(source, names)
    weights |= source.layer("head.out", [names.out])
    count = len(weights["head.out.weight"])
    named = values.mapping("id2label")
    labels = tuple(str(named.get(str(number), f"LABEL_{number}")) for number in range(count))
    many = values.get("problem_type", "") == "multi_label_classification"
    if "head.out.bias" not in weights:
        weights["head.out.bias"] = torch.zeros(count)
    config = _config(
        names, weights, architecture, labels, "sigmoid" if many or count == 1 else "softmax"
    )
    return config, weights


def take_sparse(
    source: Source, architecture: Architecture, embeddings: Tensor
) -> tuple[HeadConfig, dict[str, Tensor]]:
    """Configuration and weights of a masked language model's head, for SPLADE.

    Args:
        source: Tensors of the directory.
        architecture: Of the encoder, which has such a head.
        embeddings: Of the tokens, which the last layer mostly shares.

    Raises:
        CheckpointError: A tensor is missing.
    """
    names = architecture.sparse
    assert names is not None  # checked by the caller
    weights = _transform(source, names)
    own = names.bias.rpartition(".")[0]
    for decoder in (f"{own}.decoder", own):
        if source.has(f"{decoder}.weight"):
            embeddings = source.take(f"{decoder}.weight")
    weights["head.decoder.weight"] = embeddings.clone()
    biases = (f"{own}.decoder.bias", names.bias)  # the first is what a layer of its own adds
    found = next(filter(source.has, biases), None)
    if found is None:
        raise CheckpointError(f"the head of the masked language model misses {names.bias}")
    weights["head.decoder.bias"] = source.take(found)
    return _config(names, weights, architecture, (), "sigmoid"), weights


def _transform(source: Source, names: HeadNames) -> dict[str, Tensor]:
    weights = source.layer("head.transform.dense", [names.dense])
    if names.norm:
        weights |= source.layer("head.transform.norm", [names.norm])
    return weights


def _config(
    names: HeadNames,
    weights: dict[str, Tensor],
    architecture: Architecture,
    labels: tuple[str, ...],
    score: str,
) -> HeadConfig:
    """The configuration that fits the weights.

    Args:
        names: Of the head.
        weights: By our names.
        architecture: Of the encoder.
        labels: Of a classifier; empty for a sparse head.
        score: As ``HeadConfig.score``.
    """
    values = {
        "kind": "classifier" if labels else "sparse",
        "labels": labels,
        "dense_bias": "head.transform.dense.bias" in weights,
        "activation": names.activation,
        "norm": bool(names.norm),
        "norm_bias": "head.transform.norm.bias" in weights,
        "norm_eps": architecture.fields["norm_eps"],
        "score": score,
    }
    return HeadConfig(**values)
