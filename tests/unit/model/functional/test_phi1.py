"""phi_1 by Horner, scaling and squaring: accuracy, batch invariance, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from osa.model.errors import ConfigError
from osa.model.functional.phi1 import (
    CAPTURE_PLAN_ANGLE,
    TaylorPlan,
    degree_for,
    operator_norm_bound,
    phi1_action,
    phi1_action_vjp,
)


def skew(angle: float, size: int = 6, batch: int = 1) -> Tensor:
    """Random skew-symmetric matrices whose largest angle is ``angle`` [rad]."""
    raw = torch.randn(batch, size, size, dtype=torch.float64)
    matrix = raw - raw.mT
    norm: Tensor = torch.linalg.matrix_norm(matrix, ord=2)
    return matrix / norm[:, None, None] * angle


def phi1_reference(matrix: Tensor) -> Tensor:
    """phi_1(X) from the exponential of [[X, I], [0, 0]]."""
    size = matrix.shape[-1]
    block = torch.zeros(*matrix.shape[:-2], 2 * size, 2 * size, dtype=matrix.dtype)
    block[..., :size, :size] = matrix
    block[..., :size, size:] = torch.eye(size, dtype=matrix.dtype)
    return torch.matrix_exp(block)[..., :size, size:]


def apply(matrix: Tensor, block: Tensor) -> Tensor:
    bound = operator_norm_bound(matrix)
    return phi1_action(matrix, block, bound, TaylorPlan.measured(bound, matrix.dtype))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, 1.0, 2.0, 2.1, 7.0, 50.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_action_matches_the_matrix_function(
    angle: float, dtype: torch.dtype, tolerance: float
) -> None:
    matrix, block = skew(angle, batch=4), torch.randn(4, 6, 3, dtype=torch.float64)
    found = apply(matrix.to(dtype), block.to(dtype))
    expected = phi1_reference(matrix) @ block
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * (1 + angle))


def test_a_matrix_does_not_feel_its_batch_mates() -> None:
    small, large = skew(0.2).float(), skew(40.0).float()
    block = torch.randn(1, 6, 3)
    together = apply(torch.cat([small, large]), block.expand(2, -1, -1))
    assert torch.equal(together[:1], apply(small, block))


def test_bound_is_never_below_the_norm() -> None:
    matrices = torch.randn(50, 7, 7, dtype=torch.float64)
    norms = torch.linalg.matrix_norm(matrices, ord=2)
    assert bool((operator_norm_bound(matrices) >= norms * (1 - 1e-12)).all())


def test_degree_grows_with_angle_and_precision() -> None:
    degrees = [degree_for(angle, torch.float32) for angle in (0.0, 0.1, 1.0, 2.0)]
    assert degrees == sorted(degrees)
    assert degrees[0] == 0
    assert degree_for(1.0, torch.float64) > degree_for(1.0, torch.float32)


def test_a_plan_that_is_passed_says_so_with_nan() -> None:
    plan = TaylorPlan.fixed(1.0, torch.float64)
    matrix, block = torch.cat([skew(0.5), skew(30.0)]), torch.randn(2, 6, 3, dtype=torch.float64)
    result = phi1_action(matrix, block, operator_norm_bound(matrix), plan)
    assert bool(torch.isfinite(result[0]).all())
    assert bool(torch.isnan(result[1]).all())


def test_a_fixed_plan_serves_the_angle_it_was_made_for() -> None:
    for angle in (0.1, 2.0, 3.0, 128.0):
        assert TaylorPlan.fixed(angle, torch.float32).max_angle(torch.float32) >= angle


def test_nan_stays_in_its_own_matrix() -> None:
    matrix, block = skew(1.0, batch=2), torch.randn(2, 6, 3, dtype=torch.float64)
    poisoned = matrix.clone()
    poisoned[1, 0, 1] = math.nan
    result = apply(poisoned, block)
    assert bool(torch.isfinite(result[0]).all())
    assert bool(torch.isnan(result[1]).any())


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, 9.0])
def test_closed_gradient_is_the_derivative(angle: float) -> None:
    matrix = torch.cat([skew(angle), skew(0.1)]).requires_grad_()
    block = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 6, 3, dtype=torch.float64)
    bound = operator_norm_bound(matrix.detach())
    plan = TaylorPlan.measured(bound, torch.float64)
    expected = torch.autograd.grad(phi1_action(matrix, block, bound, plan), (matrix, block), grad)
    found = phi1_action_vjp(matrix.detach(), block.detach(), bound, plan, grad)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("degree", [3, 8, 12])
def test_a_plan_made_by_hand_is_right_or_nan(degree: int) -> None:
    plan = TaylorPlan(degree, 6)
    for angle in (0.1, 1.0, 5.0, 50.0):
        matrix, block = skew(angle), torch.randn(1, 6, 3, dtype=torch.float64)
        result = phi1_action(matrix, block, operator_norm_bound(matrix), plan)
        if bool(torch.isfinite(result).all()):
            expected = phi1_reference(matrix) @ block
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("degree", "squarings"), [(-1, 0), (25, 0), (3, -1)])
def test_a_plan_that_cannot_be_is_refused(degree: int, squarings: int) -> None:
    with pytest.raises(ConfigError, match="degree must be 0 to 24"):
        TaylorPlan(degree, squarings)


def test_the_plan_of_a_captured_graph_serves_ordinary_angles() -> None:
    plan = TaylorPlan.fixed(CAPTURE_PLAN_ANGLE, torch.float64)
    matrix = torch.cat([skew(angle) for angle in (0.0, 0.1, 2.0, 60.0)])
    block = torch.randn(4, 6, 3, dtype=torch.float64)
    result = phi1_action(matrix, block, operator_norm_bound(matrix), plan)
    torch.testing.assert_close(result, phi1_reference(matrix) @ block, rtol=0, atol=1e-11)
