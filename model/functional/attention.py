r"""Orthogonal Self-Attention as pure functions of tensors.

Source: Zhang and Martens, "Orthogonal Self-Attention", arXiv:2602.05996.

    S = c (Q K^T - K Q^T)      skew-symmetric, c = alpha / sqrt(d)  (or alpha / (sqrt(d) N))
    Y = exp(S) V               exp(S) is orthogonal: norms and rank are kept

Three forms of the same function:

* ``osa_dense`` — ``matrix_exp`` of the N x N scores, O(N^3): the reference;
* ``osa_qr``    — the paper: exp(S) = I + B (exp(B^T S B) - I) B^T, B from a QR of [Q K];
* ``osa_gram``  — ours: no QR, any rank, and a gradient everywhere. With M = [Q K],
  J = [[0, I], [-I, 0]] and G = M^T M, Y = V + M W with W = c J phi_1(c G J) M^T V. When N <= 2d
  the same series runs on S itself: Y = V + phi_1(S) S V.

Shapes: B batch, H heads, N tokens, d head width (``D`` in signatures). ``mask`` is True at real
tokens. Padded queries, keys and values count as zero, so every real row is that of the unpadded
sequence; padded rows of the result are zero.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.phi1 import (
    TaylorPlan,
    choose_plan,
    may_read,
    operator_norm_bound,
    phi1_action,
    skew_norm_bound,
)

Regime = Literal["token", "feature"]
SCALES = ("paper", "length")
FLOAT64_BOUND = 8.0
"""Bound of ||c G J|| [rad] beyond which feature space computes in float64."""


def angle_factor(
    query: Float[Tensor, "B H N D"],
    alpha: Float[Tensor, " H"],
    mask: Bool[Tensor, "B N"] | None,
    scale: str,
) -> Float[Tensor, "B H"]:
    """Return c: alpha / sqrt(d) (``paper``), or alpha / (sqrt(d) N_valid) (``length``).

    Args:
        query: Q, for its shape and type.
        alpha: Angle of each head.
        mask: True at real tokens; None where all are.
        scale: ``paper`` or ``length``.

    Raises:
        InputError: ``scale`` is neither.
    """
    if scale not in SCALES:
        raise InputError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    batch, _, length, head_dim = query.shape
    factor = alpha.to(query.dtype)[None, :] / math.sqrt(head_dim)
    if scale == "paper":
        return factor.expand(batch, -1)
    if mask is None:
        return (factor / max(length, 1)).expand(batch, -1)
    return factor / mask.sum(-1, keepdim=True).clamp(min=1).to(query.dtype)


def mask_and_center(
    states: Float[Tensor, "B H N D"], mask: Bool[Tensor, "B N"] | None, center: bool
) -> Float[Tensor, "B H N D"]:
    """Zero padded rows; with ``center`` first subtract the mean over real tokens."""
    if mask is not None:
        states = states.masked_fill(~mask[:, None, :, None], 0.0)
    if not center:
        return states
    if mask is None:
        return states - states.mean(-2, keepdim=True) if states.shape[-2] else states
    count = mask.sum(-1).clamp(min=1).to(states.dtype)[:, None, None, None]
    centered = states - states.sum(-2, keepdim=True) / count
    return centered.masked_fill(~mask[:, None, :, None], 0.0)


def skew_scores(
    query: Float[Tensor, "B H N D"], key: Float[Tensor, "B H N D"], factor: Float[Tensor, "B H"]
) -> Float[Tensor, "B H N N"]:
    """Return S = c (Q K^T - K Q^T)."""
    products = (query * factor[..., None, None]) @ key.mT
    return products - products.mT


def osa_dense(
    query: Float[Tensor, "B H N D"],
    key: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    alpha: Float[Tensor, " H"],
    *,
    mask: Bool[Tensor, "B N"] | None = None,
    scale: str = "paper",
    center: bool = False,
) -> Float[Tensor, "B H N D"]:
    """Reference by ``torch.matrix_exp`` of the N x N scores; arguments as in ``osa_gram``."""
    factor = angle_factor(query, alpha, mask, scale)
    query, key = mask_and_center(query, mask, center), mask_and_center(key, mask, center)
    value = mask_and_center(value, mask, False)
    rotated: Tensor = torch.matrix_exp(skew_scores(query, key, factor)) @ value
    return rotated


def osa_qr(
    query: Float[Tensor, "B H N D"],
    key: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    alpha: Float[Tensor, " H"],
    *,
    mask: Bool[Tensor, "B N"] | None = None,
    scale: str = "paper",
    center: bool = False,
) -> Float[Tensor, "B H N D"]:
    """The paper's form: exponential in an orthonormal basis of [Q K], by reduced QR.

    A reference for the forward pass only: the gradient of reduced QR is NaN where [Q K] has
    dependent columns. Arguments as in ``osa_gram``.
    """
    factor = angle_factor(query, alpha, mask, scale)
    query, key = mask_and_center(query, mask, center), mask_and_center(key, mask, center)
    value = mask_and_center(value, mask, False)
    basis: Tensor = torch.linalg.qr(torch.cat([query, key], dim=-1)).Q
    small = skew_scores(basis.mT @ query, basis.mT @ key, factor)
    identity = torch.eye(small.shape[-1], dtype=small.dtype, device=small.device)
    rotated: Tensor = torch.matrix_exp(small) - identity
    return value + basis @ (rotated @ (basis.mT @ value))


def choose_regime(length: int, head_dim: int) -> Regime:
    """Token space (N x N) while it is the smaller matrix, feature space (2d x 2d) above."""
    return "token" if length <= 2 * head_dim else "feature"


def osa_gram(
    query: Float[Tensor, "B H N D"],
    key: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    alpha: Float[Tensor, " H"],
    *,
    mask: Bool[Tensor, "B N"] | None = None,
    scale: str = "paper",
    center: bool = False,
    regime: Regime | None = None,
    plan: TaylorPlan | None = None,
) -> Float[Tensor, "B H N D"]:
    """Linear-time form.

    Args:
        query: Q.
        key: K.
        value: V.
        alpha: Angle of each head.
        mask: True at real tokens.
        scale: ``paper`` or ``length``, see ``angle_factor``.
        center: Subtract the mean query and key of each sequence.
        regime: Force token or feature space; default by ``choose_regime``.
        plan: Fixed degree and squarings (graphs); default measured from the angle bound.

    Raises:
        InputError: ``scale`` is unknown.
    """
    factor = angle_factor(query, alpha, mask, scale)
    query, key = mask_and_center(query, mask, center), mask_and_center(key, mask, center)
    return gram_action(query, key, mask_and_center(value, mask, False), factor, regime, plan)


def gram_action(
    query: Float[Tensor, "B H N D"],
    key: Float[Tensor, "B H N D"],
    value: Float[Tensor, "B H N D"],
    factor: Float[Tensor, "B H"],
    regime: Regime | None = None,
    plan: TaylorPlan | None = None,
) -> Float[Tensor, "B H N D"]:
    """``osa_gram`` of operands that are masked and centred already.

    Args:
        query: Q.
        key: K.
        value: V.
        factor: c of each sequence and head.
        regime: As in ``osa_gram``.
        plan: As in ``osa_gram``.
    """
    if not query.numel():
        return value.clone()
    if (regime or choose_regime(query.shape[-2], query.shape[-1])) == "token":
        return _token_space(query, key, value, factor, plan)
    output, bound = _feature_space(query, key, value, factor, plan)
    hard = needs_float64(bound, output.dtype)
    if hard is None or plan is not None:
        return output
    precise, _ = _feature_space(query.double(), key.double(), value.double(), factor.double(), None)
    return torch.where(hard, precise.to(output.dtype), output)


def needs_float64(
    bound: Float[Tensor, "B H"], dtype: torch.dtype
) -> Bool[Tensor, "B H 1 1"] | None:
    """Which sequences and heads feature space must compute in float64; None where none.

    Where tokens are strongly correlated, ||c G J|| is far above the angle of S and the series
    cancels. Sequence by sequence: its arithmetic stays its own.
    """
    if dtype == torch.float64 or not may_read(bound):
        return None
    hard = bound > FLOAT64_BOUND
    return hard[..., None, None] if bool(hard.any()) else None


def _token_space(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, plan: TaylorPlan | None
) -> Tensor:
    scores = skew_scores(query, key, factor)
    bound = skew_norm_bound(scores.detach())
    plan = plan or choose_plan(bound, scores.dtype)
    return value + phi1_action(scores, scores @ value, bound, plan)


def _feature_space(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, plan: TaylorPlan | None
) -> tuple[Tensor, Tensor]:
    """The result, and the bound of ||c G J|| [rad] that it was planned for."""
    scale = factor[..., None, None]
    matrix = scale * times_j(gram_matrix(query, key))
    moment = torch.cat([query.mT @ value, key.mT @ value], dim=-2)
    bound = operator_norm_bound(matrix.detach())
    plan = plan or choose_plan(bound, matrix.dtype)
    weight = scale * j_times(phi1_action(matrix, moment, bound, plan))
    query_weight, key_weight = weight.chunk(2, dim=-2)
    return value + query @ query_weight + key @ key_weight, bound


def gram_matrix(
    query: Float[Tensor, "*batch N D"], key: Float[Tensor, "*batch N D"]
) -> Float[Tensor, "*batch D2 D2"]:
    """G = M^T M for M = [Q K], without forming M: its blocks, one of them by symmetry."""
    cross = query.mT @ key
    upper = torch.cat([query.mT @ query, cross], dim=-1)
    return torch.cat([upper, torch.cat([cross.mT, key.mT @ key], dim=-1)], dim=-2)


def j_times(block: Float[Tensor, "*batch n m"]) -> Float[Tensor, "*batch n m"]:
    """J X = [X_2; -X_1] for X = [X_1; X_2]."""
    upper, lower = block.chunk(2, dim=-2)
    return torch.cat([lower, -upper], dim=-2)


def times_j(block: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch m n"]:
    """X J = [-X_2, X_1] for X = [X_1, X_2]."""
    left, right = block.chunk(2, dim=-1)
    return torch.cat([-right, left], dim=-1)
