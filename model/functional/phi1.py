r"""phi_1 of small matrices, applied to a block of vectors.

    phi_1(z) = (e^z - 1) / z = sum_k z^k / (k + 1)!        Z = phi_1(X) T

Horner on the action, never forming phi_1, with scaling and squaring where the angle is large
(N. J. Higham, *Functions of Matrices*, SIAM 2008, ch. 10). With E = e^X - 1:

    phi_1(2X) T = (I + E/2) phi_1(X) T,    e^{2X} - 1 = 2E + E^2

Degree and squarings are chosen **per matrix** from its own angle bound: a matrix that shares a
batch with a larger one gets zero coefficients beyond its own degree and skips the squarings it
does not need, so its result does not depend on the batch.

Shapes: ``*`` batch, ``n`` matrix size, ``m`` number of vectors.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.errors import ConfigError

ANGLE_LIMIT = 2.0
"""Largest angle [rad] taken by Horner alone: above it e^angle amplifies rounding errors."""
MAX_DEGREE = 24


@functools.cache
def degree_angles(dtype: torch.dtype) -> tuple[float, ...]:
    """Largest angle [rad] for which degree k = 0, 1, ... leaves a remainder below half an ulp.

    The remainder of phi_1 after degree k is at most theta^(k+1) / (k+2)! * e^theta.
    """
    tolerance = torch.finfo(dtype).eps / 2
    angles = []
    for degree in range(MAX_DEGREE + 1):
        low, high = 0.0, 8.0
        for _ in range(60):
            middle = (low + high) / 2
            remainder = middle ** (degree + 1) / math.factorial(degree + 2) * math.exp(middle)
            low, high = (middle, high) if remainder <= tolerance else (low, middle)
        angles.append(low)
    return tuple(angles)


def degree_for(angle: float, dtype: torch.dtype) -> int:
    """Smallest Taylor degree for ``angle`` [rad] in ``dtype``."""
    return next(k for k, limit in enumerate(degree_angles(dtype)) if angle <= limit)


@dataclass(frozen=True)
class TaylorPlan:
    """Taylor degree and number of squarings for a batch of matrices.

    Attributes:
        degree: Taylor degree after scaling.
        squarings: Doublings of the argument.

    Raises:
        ConfigError: A number that is not allowed.
    """

    degree: int
    squarings: int

    def __post_init__(self) -> None:
        """Refuse a degree or number of squarings out of range."""
        if not 0 <= self.degree <= MAX_DEGREE or self.squarings < 0:
            raise ConfigError(
                f"degree must be 0 to {MAX_DEGREE} and squarings at least 0, got {self.degree} "
                f"and {self.squarings}"
            )

    @classmethod
    def fixed(cls, max_angle: float, dtype: torch.dtype) -> TaylorPlan:
        """The plan for angles up to ``max_angle`` [rad], independent of the data."""
        squarings = max(0, math.ceil(math.log2(max(max_angle, ANGLE_LIMIT) / ANGLE_LIMIT)))
        return cls(degree_for(min(max_angle, ANGLE_LIMIT), dtype), squarings)

    @classmethod
    def measured(cls, bound: Float[Tensor, "*batch"], dtype: torch.dtype) -> TaylorPlan:
        """The plan for the largest finite bound of a batch; reads one number from the device."""
        finite = bound.nan_to_num(0.0, posinf=0.0)
        return cls.fixed(float(finite.max()) if finite.numel() else 0.0, dtype)

    def max_angle(self, dtype: torch.dtype) -> float:
        """Largest angle [rad] of this plan; results beyond it are NaN."""
        return min(degree_angles(dtype)[self.degree], ANGLE_LIMIT) * 2.0**self.squarings


CAPTURE_PLAN_ANGLE = 128.0
"""While a CUDA graph is captured no bound can be read: plan for angles up to this [rad]."""


def may_read(tensor: Tensor) -> bool:
    """Whether a value may be read from the device now: always, except in CUDA graph capture."""
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def choose_plan(bound: Float[Tensor, "*batch"], dtype: torch.dtype) -> TaylorPlan:
    """Measure the bound where it can be read, else plan for ``CAPTURE_PLAN_ANGLE``."""
    if may_read(bound):
        return TaylorPlan.measured(bound, dtype)
    return TaylorPlan.fixed(CAPTURE_PLAN_ANGLE, dtype)


def operator_norm_bound(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch"]:
    """An upper bound of ||X||_2: the least of Frobenius and sqrt(one-norm * infinity-norm)."""
    magnitude = matrix.abs()
    rows, columns = magnitude.sum(-1).amax(-1), magnitude.sum(-2).amax(-1)
    return torch.minimum((rows * columns).sqrt(), torch.linalg.matrix_norm(matrix))


def skew_norm_bound(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch"]:
    """The same for a skew-symmetric matrix, whose singular values come in pairs."""
    rows = matrix.abs().sum(-1).amax(-1)
    return torch.minimum(rows, torch.linalg.matrix_norm(matrix) / math.sqrt(2.0))


@dataclass(frozen=True)
class _Schedule:
    """Per-matrix scaling 2^-s, degree, squarings to take, and whether it exceeds the plan."""

    scale: Float[Tensor, "*batch 1 1"]
    degree: Int[Tensor, "*batch 1 1"]
    min_degree: int
    active: list[Tensor]
    beyond: Tensor | None


def _schedule(bound: Tensor, plan: TaylorPlan, dtype: torch.dtype) -> _Schedule:
    bound = bound[..., None, None]
    limit = min(degree_angles(dtype)[plan.degree], ANGLE_LIMIT)
    ratio = (bound / limit).clamp(min=1.0) if plan.squarings else torch.ones_like(bound)
    squarings = torch.log2(ratio).ceil().nan_to_num(0.0, posinf=0.0).clamp(max=plan.squarings)
    scale = torch.exp2(-squarings)
    limits = torch.tensor(degree_angles(dtype), dtype=bound.dtype, device=bound.device)
    degree = torch.bucketize((bound * scale).clamp(max=ANGLE_LIMIT), limits)
    beyond = bound > plan.max_angle(dtype) * (1 + 1e-6)
    min_degree, any_beyond = 0, True
    if may_read(bound) and bound.numel():
        min_degree, any_beyond = int(degree.min()), bool(beyond.any())
    active = [squarings > i for i in range(plan.squarings)]
    return _Schedule(scale.to(dtype), degree, min_degree, active, beyond if any_beyond else None)


def _horner(matrix: Tensor, block: Tensor, plan: TaylorPlan, schedule: _Schedule) -> list[Tensor]:
    """Iterates Z_k = T + X Z_{k+1} / (k + 2), from Z_K = T; entry k is Z_k.

    A matrix whose own degree is below k keeps Z_k = T: its series begins later.
    """
    iterates = [block]
    for k in reversed(range(plan.degree)):
        following = _multiply_add(block, matrix, iterates[-1], 1.0 / (k + 2))
        if k >= schedule.min_degree:
            following = torch.where(schedule.degree > k, following, block)
        iterates.append(following)
    return iterates[::-1]


def _multiply_add(block: Tensor, matrix: Tensor, other: Tensor, factor: float) -> Tensor:
    """T + factor X Z as one batched product."""
    parts = (part.flatten(0, -3) if part.dim() > 3 else part for part in (block, matrix, other))
    return torch.baddbmm(*parts, alpha=factor).view_as(block)


def phi1_action(
    matrix: Float[Tensor, "*batch n n"],
    block: Float[Tensor, "*batch n m"],
    bound: Float[Tensor, "*batch"],
    plan: TaylorPlan,
) -> Float[Tensor, "*batch n m"]:
    """Return phi_1(X) T; at least one batch dimension.

    Args:
        matrix: X.
        block: T.
        bound: An upper bound of the angle of each matrix [rad]; not differentiated.
        plan: At least the degree and squarings that the largest bound needs. Matrices whose
            bound is beyond ``plan.max_angle`` give NaN, rather than a wrong result.
    """
    return _forward(matrix, block, bound, plan)[0]


def _forward(
    matrix: Tensor, block: Tensor, bound: Tensor, plan: TaylorPlan
) -> tuple[Tensor, _Schedule, list[Tensor], list[tuple[Tensor, Tensor]]]:
    schedule = _schedule(bound.detach(), plan, matrix.dtype)
    scaled, joint = matrix, block
    if plan.squarings:
        scaled = matrix * schedule.scale
        joint = torch.cat([block, scaled], dim=-1)
    iterates = _horner(scaled, joint, plan, schedule)
    action, doublings = iterates[0], []
    if plan.squarings:
        action, expm1 = iterates[0].split([block.shape[-1], matrix.shape[-1]], dim=-1)
        for active in schedule.active:
            doublings.append((action, expm1))
            action = torch.where(active, action + 0.5 * (expm1 @ action), action)
            expm1 = torch.where(active, 2 * expm1 + expm1 @ expm1, expm1)
    return _poison(action, schedule), schedule, iterates, doublings


def _poison(result: Tensor, schedule: _Schedule) -> Tensor:
    """NaN for matrices that exceed the plan, rather than a wrong result."""
    if schedule.beyond is None:
        return result
    return torch.where(schedule.beyond, torch.nan, result)


def phi1_action_vjp(
    matrix: Float[Tensor, "*batch n n"],
    block: Float[Tensor, "*batch n m"],
    bound: Float[Tensor, "*batch"],
    plan: TaylorPlan,
    grad: Float[Tensor, "*batch n m"],
) -> tuple[Float[Tensor, "*batch n n"], Float[Tensor, "*batch n m"]]:
    """Gradients of <grad, phi_1(X) T> with respect to X and T, the forward pass recomputed.

    Args:
        matrix: X.
        block: T.
        bound: Of the norm of X.
        plan: Degree and squarings.
        grad: Gradient with respect to the result.
    """
    _, schedule, iterates, doublings = _forward(matrix, block, bound, plan)
    grad = _poison(grad, schedule)
    if not plan.squarings:
        return _horner_vjp(matrix, iterates, schedule, grad)
    grad_expm1 = torch.zeros_like(matrix)
    for active, (action, expm1) in zip(reversed(schedule.active), reversed(doublings), strict=True):
        transposed = expm1.mT
        through = 0.5 * (grad @ action.mT) + grad_expm1 @ transposed + transposed @ grad_expm1
        grad_expm1 = torch.where(active, 2 * grad_expm1 + through, grad_expm1)
        grad = torch.where(active, grad + 0.5 * (transposed @ grad), grad)
    scaled = matrix * schedule.scale
    joint = torch.cat([grad, grad_expm1], dim=-1)
    grad_scaled, grad_joint = _horner_vjp(scaled, iterates, schedule, joint)
    grad_block, grad_rhs = grad_joint.split([block.shape[-1], matrix.shape[-1]], dim=-1)
    return (grad_scaled + grad_rhs) * schedule.scale, grad_block


def _horner_vjp(
    matrix: Tensor, iterates: list[Tensor], schedule: _Schedule, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Reverse of ``_horner``: D_{k+1} = X^T D_k / (k + 2), one product for the sum over k."""
    grad_block, scaled_grads = grad, []
    for k in range(len(iterates) - 1):
        scaled = grad * (1.0 / (k + 2))
        if k >= schedule.min_degree:
            scaled = torch.where(schedule.degree > k, scaled, 0.0)
        scaled_grads.append(scaled)
        grad = matrix.mT @ scaled
        grad_block = grad_block + grad
    if not scaled_grads:
        return torch.zeros_like(matrix), grad_block
    return torch.cat(scaled_grads, dim=-1) @ torch.cat(iterates[1:], dim=-1).mT, grad_block
