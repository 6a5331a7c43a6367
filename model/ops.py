"""The torch operator ``osa::attention``: schema, checks, fake and gradient, choice of kernel.

    torch.ops.osa.attention(query, key, value, alpha, mask=None, cu_seqlens=None,
                            scale="paper", center=False) -> Tensor
    torch.ops.osa.completed_attention(query, key, value, alpha, identity, mixed, pool, taps, side,
                                      mask=None, cu_seqlens=None, scale="paper", center=False,
                                      gated=False) -> Tensor

``query, key, value`` are [B, H, N, d]; ``alpha`` is [H]. Either ``mask`` [B, N] (True at real
tokens) or ``cu_seqlens`` [S + 1] (then B = 1 and N is the packed token count) may be given.
Results are stored as [B, N, H, d], so that joining heads needs no copy. ``osa.model.kernels``
chooses the kernel. The gradient is a closed form that recomputes the forward pass.
``completed_attention`` adds the terms of ``osa.model.functional.completion`` in the same call; it
has no gradient, for which there is that module.
Source: arXiv:2602.05996.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from osa.model.errors import InputError
from osa.model.functional.attention import SCALES
from osa.model.functional.completion import Terms, complete
from osa.model.kernels import choose, native_completion

SCHEMA = (
    "(Tensor query, Tensor key, Tensor value, Tensor alpha, Tensor? mask=None, "
    'Tensor? cu_seqlens=None, str scale="paper", bool center=False) -> Tensor'
)
BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor alpha, Tensor? mask, "
    "Tensor? cu_seqlens, str scale, bool center) -> (Tensor, Tensor, Tensor, Tensor)"
)


COMPLETED_SCHEMA = (
    "(Tensor query, Tensor key, Tensor value, Tensor alpha, Tensor identity, Tensor mixed, "
    "Tensor? pool, Tensor? taps, Tensor? side, Tensor? mask=None, Tensor? cu_seqlens=None, "
    'str scale="paper", bool center=False, bool gated=False) -> Tensor'
)


def check_operands(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
) -> None:
    """Refuse operands that do not fit together; shapes as in the module's docstring.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        alpha: Angle of each head.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch, or None.
        scale: One of ``SCALES``.

    Raises:
        InputError: What was given and what is allowed.
    """
    if query.dim() != 4 or query.shape != key.shape or query.shape != value.shape:
        raise InputError(
            "query, key and value must share one shape [B, H, N, d], got "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
    dtypes = {query.dtype, key.dtype, value.dtype}
    if len(dtypes) > 1 or not query.is_floating_point():
        names = ", ".join(sorted(map(str, dtypes)))
        raise InputError(f"query, key and value must share one floating-point type, got {names}")
    together = [query, key, value, alpha] if mask is None else [query, key, value, alpha, mask]
    if any(part.device != query.device for part in together):
        names = ", ".join(sorted({str(part.device) for part in together}))
        raise InputError(f"query, key, value, alpha and mask must share one device, got {names}")
    if alpha.shape != (query.shape[1],):
        raise InputError(f"alpha must be [{query.shape[1]}], one a head, got {tuple(alpha.shape)}")
    if scale not in SCALES:
        raise InputError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    if mask is not None and cu_seqlens is not None:
        raise InputError("give mask or cu_seqlens, not both")
    if cu_seqlens is not None and query.shape[0] != 1:
        raise InputError(f"packed operands must have batch size 1, got {query.shape[0]}")
    if mask is not None and (
        mask.dtype != torch.bool or mask.shape != (query.shape[0], query.shape[2])
    ):
        raise InputError(
            f"mask must be bool [{query.shape[0]}, {query.shape[2]}], got {mask.dtype} "
            f"of shape {tuple(mask.shape)}"
        )


def check_completion(value: Tensor, by: Terms, side: Tensor | None) -> None:
    """Refuse weights of terms that do not fit the values [B, H, N, d].

    Raises:
        InputError: What was given and what is allowed.
    """
    heads = value.shape[1]
    for name, weights in (("identity", by.identity), ("mixed", by.mixed), ("pool", by.pool)):
        if weights is not None and weights.shape != (heads,):
            raise InputError(f"{name} must be [{heads}], one a head, got {tuple(weights.shape)}")
    taps = by.taps
    if taps is not None and (taps.dim() != 2 or taps.shape[0] != heads or taps.shape[1] % 2):
        raise InputError(f"taps must be [{heads}, 2 R], got {tuple(taps.shape)}")
    wanted = (value.shape[0], value.shape[2], heads * by.num_sides)
    found = None if side is None else tuple(side.shape)
    if found != (wanted if by.num_sides else None):
        allowed = f"{list(wanted)}" if by.num_sides else "None, without pool and gates"
        raise InputError(f"side must be {allowed}, got {found}")


def _empty_token_major(like: Tensor) -> Tensor:
    batch, heads, length, width = like.shape
    return like.new_empty(batch, length, heads, width).transpose(1, 2)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    scale: str = "paper",
    center: bool = False,
) -> Tensor:
    """Return exp(S) V for every head; see the module's docstring.

    Raises:
        InputError: Operands that do not fit together.
    """
    check_operands(query, key, value, alpha, mask, cu_seqlens, scale)
    kernel = choose(query).implementation
    return kernel.attention_forward(query, key, value, alpha, mask, cu_seqlens, scale, center)


def _attention_fake(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    scale: str = "paper",
    center: bool = False,
) -> Tensor:
    check_operands(query, key, value, alpha, mask, cu_seqlens, scale)
    return _empty_token_major(query)


def _completed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    identity: Tensor,
    mixed: Tensor,
    pool: Tensor | None,
    taps: Tensor | None,
    side: Tensor | None,
    mask: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    scale: str = "paper",
    center: bool = False,
    gated: bool = False,
) -> Tensor:
    """Return exp(S) V with its completion; see the module's docstring.

    Raises:
        InputError: Operands that do not fit together.
    """
    by = Terms(identity, mixed, pool, taps, gated)
    check_operands(query, key, value, alpha, mask, cu_seqlens, scale)
    check_completion(value, by, side)
    kernel = choose(query)
    places = mask, cu_seqlens, scale, center
    if kernel.name == "native":
        return native_completion.attention_forward((query, key, value, alpha), side, by, *places)
    bare = kernel.implementation.attention_forward(query, key, value, alpha, *places)
    total = _empty_token_major(query)
    return total.copy_(complete(bare, value, side, by, mask, cu_seqlens))


def _completed_fake(query: Tensor, *rest: Any, **named: Any) -> Tensor:
    return _empty_token_major(query)


def _attention_backward(
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
    """Gradients of ``osa::attention`` with respect to query, key, value and alpha."""
    backward = choose(query).implementation.attention_backward
    return backward(grad, query, key, value, alpha, mask, cu_seqlens, scale, center)


def _attention_backward_fake(
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
    empty = (_empty_token_major(operand) for operand in (query, key, value))
    grad_query, grad_key, grad_value = empty
    return grad_query, grad_key, grad_value, torch.empty_like(alpha)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, value, alpha, mask, cu_seqlens, ctx.scale, ctx.center = inputs
    ctx.save_for_backward(query, key, value, alpha, mask, cu_seqlens)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = attention_backward(grad.contiguous(), *ctx.saved_tensors, ctx.scale, ctx.center)
    return (*grads, None, None, None, None)


# Not ``torch.library.custom_op``: its wrappers import torch's compiler at the first call, which
# would delay a server's first answer.
_LIBRARY = torch.library.Library("osa", "DEF")
for _name, _schema, _kernel, _fake in (
    ("attention", SCHEMA, _attention, _attention_fake),
    ("completed_attention", COMPLETED_SCHEMA, _completed, _completed_fake),
    ("attention_backward", BACKWARD_SCHEMA, _attention_backward, _attention_backward_fake),
):
    _LIBRARY.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"osa::{_name}", _fake, lib=_LIBRARY)
    for _device in ("cpu", "cuda"):
        # Under autocast the products inside would run in half precision; they must not.
        torch.library.register_autocast(f"osa::{_name}", _device, torch.float32, lib=_LIBRARY)
torch.library.register_autograd(
    "osa::attention", _backward, setup_context=_setup_context, lib=_LIBRARY
)
attention = torch.ops.osa.attention.default
completed_attention = torch.ops.osa.completed_attention.default
attention_backward = torch.ops.osa.attention_backward.default
