"""Orthogonal Self-Attention of a sequence whose tokens lie on several processes, with gradients.

Every process has some of the tokens. G = M^T M and T = M^T V are added up over the processes, the
small matrix function is computed by each, and each applies the weights to its own tokens: one sum
of 2d x 3d numbers a head, whatever the length.

Shapes: B batch, H heads, n tokens of this process, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.attention import gram_matrix, j_times, times_j
from osa.model.functional.phi1 import choose_plan, operator_norm_bound, phi1_action


class SequencePart(NamedTuple):
    """This process's share of a sequence.

    Attributes:
        length: Tokens of the whole sequence.
        total: A tensor's sum over the processes; its gradient is summed over them as well.
    """

    length: int
    total: Callable[[Tensor], Tensor]


def osa_part(
    query: Float[Tensor, "B H n D"],
    key: Float[Tensor, "B H n D"],
    value: Float[Tensor, "B H n D"],
    alpha: Float[Tensor, " H"],
    part: SequencePart,
    scale: str = "paper",
    center: bool = False,
) -> Float[Tensor, "B H n D"]:
    """``osa_gram`` of this process's tokens; the small matrix function is in double.

    Args:
        query: Q.
        key: K.
        value: V.
        alpha: Angle of each head.
        part: Of the sequence.
        scale: As in ``osa_gram``.
        center: As in ``osa_gram``.
    """
    if center:
        sums = torch.stack([query.sum(-2, keepdim=True), key.sum(-2, keepdim=True)])
        query_mean, key_mean = part.total(sums) / part.length
        query, key = query - query_mean, key - key_mean
    width = query.shape[-1]
    moment = torch.cat([query.mT @ value, key.mT @ value], dim=-2)
    sums = part.total(torch.cat([gram_matrix(query, key), moment], dim=-1)).double()
    gram, moment = sums.split([2 * width, width], dim=-1)
    factor = alpha.double() / math.sqrt(width)
    if scale == "length":
        factor = factor / part.length
    angle = factor[:, None, None]
    matrix = angle * times_j(gram)
    bound = operator_norm_bound(matrix.detach())
    plan = choose_plan(bound, matrix.dtype)
    weight = angle * j_times(phi1_action(matrix, moment, bound, plan))
    query_weight, key_weight = weight.to(query.dtype).chunk(2, dim=-2)
    return value + query @ query_weight + key @ key_weight
