r"""Closed-form gradient of Orthogonal Self-Attention in Gram form.

With Y = V + M W, W = c J phi_1(c G J) T, G = M^T M and T = M^T V (arXiv:2602.05996 in the form of
``osa.model.functional``), given dY:

    dW = M^T dY,   dV = dY + M dT,   dM = dY W^T + M (dG + dG^T) + V dT^T

dG and dT come from the derivative of phi_1 in ``phi1``. In token space the same series runs on S.
The forward pass is recomputed; for N above 2d nothing of size N^2 is stored.

Shapes: B batch, H heads, N tokens, d head width (``D`` in signatures).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.attention import (
    choose_regime,
    gram_matrix,
    j_times,
    needs_float64,
    skew_scores,
    times_j,
)
from osa.model.functional.phi1 import (
    choose_plan,
    operator_norm_bound,
    phi1_action,
    phi1_action_vjp,
    skew_norm_bound,
)

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
"""Gradients of query, key, value and factor."""


def gram_gradient(
    query: Float[Tensor, "B H N D"],
    key: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    factor: Float[Tensor, "B H"],
    grad: Float[Tensor, "B H N D"],
) -> Gradients:
    """Closed-form gradient of ``osa_gram`` for masked and centred operands.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        factor: c of each sequence and head.
        grad: Gradient of the result.

    Returns:
        Gradients of query, key, value and the factor c [B, H].
    """
    if not query.numel():
        return query.clone(), key.clone(), grad.clone(), torch.zeros_like(factor)
    if choose_regime(query.shape[-2], query.shape[-1]) == "token":
        return _token_gradient(query, key, value, factor, grad)
    grads, bound = _feature_gradient(query, key, value, factor, grad)
    hard = needs_float64(bound, query.dtype)
    if hard is None:
        return grads
    precise, _ = _feature_gradient(*(part.double() for part in (query, key, value, factor, grad)))
    chosen = [
        torch.where(hard, exact.to(rough.dtype), rough)
        for exact, rough in zip(precise[:3], grads[:3], strict=True)
    ]
    factor_grad = torch.where(hard[..., 0, 0], precise[3].to(query.dtype), grads[3])
    return chosen[0], chosen[1], chosen[2], factor_grad


def _token_gradient(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, grad: Tensor
) -> Gradients:
    scale = factor[..., None, None]
    plain = skew_scores(query, key, torch.ones_like(factor))
    scores = scale * plain
    bound = skew_norm_bound(scores)
    plan = choose_plan(bound, scores.dtype)
    grad_scores, grad_block = phi1_action_vjp(scores, scores @ value, bound, plan, grad)
    grad_scores = grad_scores + grad_block @ value.mT
    grad_value = grad + scores.mT @ grad_block
    grad_factor = (grad_scores * plain).sum((-2, -1))
    skew = scale * (grad_scores - grad_scores.mT)
    return skew @ key, -(skew @ query), grad_value, grad_factor


def _feature_gradient(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, grad: Tensor
) -> tuple[Gradients, Tensor]:
    """The gradients, and the bound of ||c G J|| [rad] that they were planned for."""
    scale = factor[..., None, None]
    gram_j = times_j(gram_matrix(query, key))
    moment = torch.cat([query.mT @ value, key.mT @ value], dim=-2)
    matrix = scale * gram_j
    bound = operator_norm_bound(matrix)
    plan = choose_plan(bound, matrix.dtype)
    action = j_times(phi1_action(matrix, moment, bound, plan))
    grad_weight = torch.cat([query.mT @ grad, key.mT @ grad], dim=-2)
    grad_action = -j_times(scale * grad_weight)  # J^T = -J
    grad_matrix, grad_moment = phi1_action_vjp(matrix, moment, bound, plan, grad_action)
    grad_factor = (grad_weight * action).sum((-2, -1)) + (grad_matrix * gram_j).sum((-2, -1))
    grad_gram = -times_j(scale * grad_matrix)
    weights = (scale * action).chunk(2, dim=-2)
    moments = grad_moment.chunk(2, dim=-2)
    grams = (grad_gram + grad_gram.mT).chunk(2, dim=-1)
    grad_query, grad_key = (
        grad @ weight.mT + query @ upper + key @ lower + value @ part.mT
        for weight, part, (upper, lower) in zip(
            weights, moments, (block.chunk(2, dim=-2) for block in grams), strict=True
        )
    )
    grad_value = grad + query @ moments[0] + key @ moments[1]
    return (grad_query, grad_key, grad_value, grad_factor), bound
