"""The terms that complete OSA as a function of torch's autograd, for training on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from osa.model.functional.completion import Terms
from osa.model.kernels.gpu.completion.launches import Pool, complete, complete_backward
from osa.model.kernels.native_completion import weights


class Complete(torch.autograd.Function):
    """``launches.complete`` of separate tensors, with its gradients."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Take mixed, value, sides, the five of ``Terms``, mask and offsets."""
        mixed, value, sides, identity, change, share, taps, gated, mask, offsets = inputs
        by = weights(Terms(identity, change, share, taps, gated))
        output, pool = complete(mixed, value, sides, by, mask, offsets)
        kept = (None, None) if pool is None else pool
        ctx.save_for_backward(mixed, value, sides, *by[:4], *kept, mask, offsets)
        own = (identity, change, share, taps)
        ctx.gated, ctx.dtypes = gated, [None if part is None else part.dtype for part in own]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """Gradients of the first seven."""
        saved: tuple[Any, ...] = ctx.saved_tensors
        mixed, value, sides, identity, change, share, taps, pooled, logs, mask, offsets = saved
        by, pool = Terms(identity, change, share, taps, ctx.gated), None
        if pooled is not None:
            pool = Pool(pooled, logs)
        found = complete_backward(grads[0], mixed, value, sides, by, pool, mask, offsets)
        pairs = zip(found[3:], ctx.dtypes, strict=True)
        cast = [None if part is None else part.to(dtype) for part, dtype in pairs]
        return (*found[:3], *cast, None, None, None)


def complete_with_gradients(
    mixed: Tensor,
    value: Tensor,
    sides: Tensor | None,
    by: Terms,
    mask: Tensor | None,
    offsets: Tensor | None,
) -> Tensor:
    """``launches.complete`` in new memory, differentiable; arguments as there.

    Args:
        mixed: exp(S) V.
        value: Values, of the same type.
        sides: What tokens say, of any floating-point type.
        by: Terms, of any.
        mask: Of a padded batch, or None.
        offsets: Of a packed batch, or None.
    """
    sides = None if sides is None else sides.float()
    apply: Callable[..., Tensor] = Complete.apply
    return apply(mixed, value, sides, *by, mask, offsets)


def complete_in_place(
    mixed: Tensor,
    value: Tensor,
    sides: Tensor | None,
    by: Terms,
    mask: Tensor | None,
    offsets: Tensor | None,
) -> Tensor:
    """``launches.complete`` into ``mixed``, without gradients; arguments as there.

    Args:
        mixed: exp(S) V.
        value: Values, of the same type.
        sides: What tokens say, of any floating-point type.
        by: Terms, of any.
        mask: Of a padded batch, or None.
        offsets: Of a packed batch, or None.
    """
    sides = None if sides is None else sides.float()
    return complete(mixed, value, sides, weights(by), mask, offsets, mixed)[0]
