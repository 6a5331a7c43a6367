"""Sequences with all their tokens first, whatever their mask: for mixers that follow the order.

Shapes: B batch, N tokens, S sequences, L width of a rectangle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from osa.model.functional.varlen import count_up


class Alignment(NamedTuple):
    """A permutation of each sequence's tokens, real ones first and in their order.

    Attributes:
        order: Token of each new place [B, N].
        back: New place of each token [B, N].
        mask: True at the new places of real tokens.
    """

    order: Int[Tensor, "B N"]
    back: Int[Tensor, "B N"]
    mask: Bool[Tensor, "B N"]


def align(mask: Bool[Tensor, "B N"]) -> Alignment:
    """Move padding to the end, from the left or from between tokens.

    Args:
        mask: True at real tokens.
    """
    real = mask.to(torch.int64)
    count = real.sum(-1, keepdim=True)
    back = torch.where(mask, real.cumsum(-1) - 1, count + (1 - real).cumsum(-1) - 1)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(back)
    order = torch.zeros_like(back).scatter(1, back, places)
    return Alignment(order, back, places < count)


def take(states: Tensor, index: Int[Tensor, "B N"], dim: int) -> Tensor:
    """``states`` [B, ...] with the tokens of ``index`` along ``dim``."""
    shape = [1] * states.dim()
    shape[0], shape[dim] = index.shape
    return states.gather(dim, index.view(shape).expand_as(states))


def reverse_order(mask: Bool[Tensor, "S L"]) -> Int[Tensor, "S L"]:
    """Places that turn each sequence round and leave its padding, which is at the end."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = mask.to(torch.int64).sum(-1, keepdim=True) - 1
    return torch.where(mask, last - places, places)


def zero_padding(states: Float[Tensor, "S H L *rest"], mask: Tensor | None) -> Tensor:
    """States that are zero where ``mask`` [S, L] is False."""
    if mask is None:
        return states
    shape = (mask.shape[0], 1, mask.shape[1]) + (1,) * (states.dim() - 3)
    return states.masked_fill(~mask.view(shape), 0.0)


def in_groups(states: Tensor, dim: int, size: int) -> Tensor:
    """Tokens along ``dim`` in groups of ``size`` [..., n, size, ...], with zeros after the last."""
    length = states.shape[dim]
    count = (length + size - 1) // size
    fill = (0, 0) * (states.dim() - 1 - dim)
    if not torch.compiler.is_compiling():
        filled = F.pad(states, (*fill, 0, count * size - length))
        return _split(filled, dim, count, size)
    # a number of zeros that is none for some lengths would tie the graph to the others
    places = torch.arange(count * size, device=states.device).clamp(max=length)
    return _split(F.pad(states, (*fill, 0, 1)).index_select(dim, places), dim, count, size)


def _split(states: Tensor, dim: int, count: int | torch.SymInt, size: int) -> Tensor:
    groups: Tensor = states.unflatten(dim, (count, size))
    return groups


def out_of_groups(groups: Tensor, dim: int, length: int | torch.SymInt) -> Tensor:
    """The first ``length`` tokens of groups along ``dim`` and the one after it, end to end."""
    states = groups.flatten(dim, dim + 1)
    if not torch.compiler.is_compiling():
        return states.narrow(dim, 0, int(length))
    return states.index_select(dim, count_up(length, states.device))
