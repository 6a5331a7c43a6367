"""How far a student's outputs are from its teacher's: vectors, logits of labels, weights of ids.

Shapes: S sequences, E width of an output: of a vector, labels, or token ids.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.config import EncoderConfig

SIMILARITY_WEIGHT = 10.0
"""Of similarities, beside 1 - cosine."""
LEAST = 1e-6
LEAST_VARIATION = 0.01
"""Of a logit, of its mean square around 0 or 1: where all are nearly equal nothing is explained."""


def output_loss(
    config: EncoderConfig, found: Float[Tensor, "S E"], target: Float[Tensor, "S E"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What is to be made small, and the agreement, at most 1.

    Of vectors the agreement is the mean cosine; of logits the share of their variance that is
    explained; of weights of ids the mean cosine.
    """
    if config.head is None:
        return vector_loss(found, target)
    if config.head.kind == "classifier":
        missed = (found - target).square().sum() / variation(target)
        return missed, 1.0 - missed.detach()
    size = target.square().sum().clamp_min(LEAST)
    cosine = torch.nn.functional.cosine_similarity(found.detach(), target).mean()
    return (found - target).square().sum() / size, cosine


def vector_loss(
    vectors: Float[Tensor, "S E"], target: Float[Tensor, "S E"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Distance of unit vectors and of their similarities; and the mean cosine."""
    cosine = (vectors * target).sum(-1).mean()
    gap = (vectors @ vectors.T - target @ target.T).square().mean()
    return 1.0 - cosine + SIMILARITY_WEIGHT * gap, cosine.detach()


def variation(outputs: Float[Tensor, "S E"]) -> Float[Tensor, ""]:
    """Sum of squares around the mean of each column.

    Of outputs that are nearly equal, or of one sequence, a share of their own squares, or of 1.
    """
    around = (outputs - outputs.mean(0)).square().sum()
    least = outputs.square().sum().clamp_min(float(outputs.numel()))
    return torch.maximum(around, LEAST_VARIATION * least)


def agreement_name(config: EncoderConfig) -> str:
    """What ``output_loss`` calls agreement."""
    return "cosine" if config.head is None or config.head.kind == "sparse" else "explained"
