"""The operator in torch alone: on every device, and the gradient of the CPU kernel.

Half-precision operands are computed in float32 and rounded once at the end. The gradient is the
closed form of ``osa.model.functional.gradient``; the forward pass is recomputed, not stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from osa.model.functional.attention import angle_factor, gram_action, mask_and_center, osa_gram
from osa.model.functional.gradient import gram_gradient
from osa.model.functional.varlen import MIN_WIDTH, Bucket, check_cu_seqlens, map_buckets


def unsupported(query: Tensor) -> str | None:
    """Always None: every floating-point type on every device is supported."""
    return None


def _token_major(states: Tensor) -> Tensor:
    """[B, H, N, d] laid out as [B, N, H, d]: heads join without a copy."""
    return states.transpose(1, 2).contiguous().transpose(1, 2)


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> Tensor:
    """``osa::attention`` of checked operands; shapes as in ``osa.model.ops``.

    Raises:
        InputError: ``cu_seqlens`` do not delimit the packed tokens.
    """
    dtype = _accumulation_dtype(query.dtype)
    states = (query.to(dtype), key.to(dtype), value.to(dtype))
    alpha = alpha.to(dtype)
    if cu_seqlens is None:
        output = osa_gram(*states, alpha, mask=mask, scale=scale, center=center)
        return _token_major(output.to(query.dtype))

    def kernel(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
        if bucket.width == MIN_WIDTH:  # MKL's order of sums over so few rows depends on strides
            parts = tuple(part.contiguous() for part in parts)
        part_query, part_key, part_value = parts
        factor = angle_factor(part_query, alpha, bucket.mask, scale)
        if center:
            part_query = mask_and_center(part_query, bucket.mask, True)
            part_key = mask_and_center(part_key, bucket.mask, True)
        return (gram_action(part_query, part_key, part_value, factor),)

    offsets = check_cu_seqlens(cu_seqlens, query.shape[2])
    return _token_major(map_buckets(states, offsets, kernel, 1)[0].to(query.dtype))


def attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to query, key, value and alpha; shapes as in ``osa.model.ops``."""
    dtype = _accumulation_dtype(query.dtype)
    operands = tuple(tensor.to(dtype) for tensor in (query, key, value, grad))
    alpha_grads: list[Tensor] = []

    def gradients(parts: tuple[Tensor, ...], part_mask: Tensor | None) -> tuple[Tensor, ...]:
        """Gradients for operands that are zero where padded."""
        part_query, part_key, part_value, part_grad = parts
        unit = angle_factor(part_query, torch.ones_like(alpha, dtype=dtype), part_mask, scale)
        if center:
            part_query = mask_and_center(part_query, part_mask, True)
            part_key = mask_and_center(part_key, part_mask, True)
        grad_query, grad_key, grad_value, grad_factor = gram_gradient(
            part_query, part_key, part_value, unit * alpha.to(dtype), part_grad
        )
        if center:
            grad_query = mask_and_center(grad_query, part_mask, True)
            grad_key = mask_and_center(grad_key, part_mask, True)
        alpha_grads.append((grad_factor * unit).sum(0))
        return grad_query, grad_key, grad_value

    if cu_seqlens is None:
        masked = tuple(mask_and_center(operand, mask, False) for operand in operands)
        grads = tuple(mask_and_center(grad, mask, False) for grad in gradients(masked, mask))
    else:
        grads = map_buckets(
            operands,
            check_cu_seqlens(cu_seqlens, query.shape[2]),
            lambda parts, bucket: gradients(parts, bucket.mask),
            3,
        )
    grad_alpha = sum(alpha_grads, torch.zeros_like(alpha, dtype=dtype))
    grad_query, grad_key, grad_value = (_token_major(part.to(query.dtype)) for part in grads)
    return grad_query, grad_key, grad_value, grad_alpha.to(alpha.dtype)
