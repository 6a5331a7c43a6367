"""Linear recurrences whose transition moves each component to one place (arXiv:2509.22284).

    x_t = P_t D_t x_(t-1) + b_t

with P_t column one-hot (component j goes to place ``places``_j, where several are added) and D_t
complex and diagonal. Products of such transitions are of the same kind, so that several steps are
one step of cost d, not d^2: ``scan_states`` combines groups of groups, in O(N d) work and O(log N)
operations one after another. ``step_by_step`` multiplies matrices, and is what it is compared with.

Complex numbers are pairs of real ones: formats for other runtimes have no complex tensors.

Shapes: S sequences, H heads, N steps, d components.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.functional.alignment import in_groups, out_of_groups

RADIX = 8
"""Steps that are combined one after another on each level of the tree."""


class Steps(NamedTuple):
    """Steps of the recurrence.

    Attributes:
        places: Where each component goes [S, H, N, d].
        real: Real part of D's diagonal [S, H, N, d].
        imaginary: Its imaginary part.
        offset_real: Real part of b.
        offset_imaginary: Its imaginary part.
    """

    places: Int[Tensor, "S H N D"]
    real: Float[Tensor, "S H N D"]
    imaginary: Float[Tensor, "S H N D"]
    offset_real: Float[Tensor, "S H N D"]
    offset_imaginary: Float[Tensor, "S H N D"]


States = tuple[Float[Tensor, "S H N D"], Float[Tensor, "S H N D"]]
"""Real and imaginary parts."""


def step_by_step(steps: Steps) -> States:
    """Every x_t, from x_0 = 0, with a matrix product a step."""
    size = steps.places.shape[-1]
    diagonal = torch.complex(steps.real, steps.imaginary)
    offset = torch.complex(steps.offset_real, steps.offset_imaginary)
    state = torch.zeros_like(offset[:, :, 0])
    states = []
    for step in range(offset.shape[2]):
        moves = F.one_hot(steps.places[:, :, step], size).transpose(-1, -2).to(offset.dtype)
        moved = moves @ (diagonal[:, :, step] * state)[..., None]
        state = moved[..., 0] + offset[:, :, step]
        states.append(state)
    whole = torch.stack(states, 2) if states else offset
    return whole.real, whole.imag


def scan_states(steps: Steps) -> States:
    """Every x_t, from x_0 = 0, in O(log N) operations one after another.

    Args:
        steps: Of at least one token.
    """
    length = steps.places.shape[2]
    if length <= 1:
        return steps.offset_real, steps.offset_imaginary
    groups = _grouped(steps)
    whole = groups[0]
    for step in groups[1:]:
        whole = _combined(whole, step)
    ends = scan_states(whole)
    state: States = tuple(F.pad(part, (0, 0, 1, 0))[:, :, :-1] for part in ends)  # type: ignore[assignment]
    states = []
    for step in groups[:-1]:
        state = _applied(step, state)
        states.append(state)
    real, imaginary = (
        out_of_groups(torch.stack(parts, 3), 2, length) for parts in zip(*states, ends, strict=True)
    )
    return real, imaginary


def scan_in_levels(steps: Steps, longest: int) -> States:
    """The same in O(N d log N) work, where N is a symbol of a traced graph.

    Args:
        steps: Of at least one token.
        longest: The largest N.
    """
    length = steps.places.shape[2]
    for level in range(max(0, longest - 1).bit_length()):
        # before the first step there is nothing: zeros stand for it
        earlier = (F.pad(part, (0, 0, 1 << level, 0))[:, :, :length] for part in steps)
        steps = _combined(Steps(*earlier), steps)
    return steps.offset_real, steps.offset_imaginary


def _grouped(steps: Steps) -> list[Steps]:
    """The first, second, ... of every ``RADIX`` steps; those that are added come last."""
    split = [in_groups(part, 2, RADIX).movedim(3, 0).contiguous() for part in steps]
    return [Steps(*parts) for parts in zip(*split, strict=True)]


def _combined(first: Steps, second: Steps) -> Steps:
    """The second step after the first: P2 D2 P1 D1 x + (P2 D2 b1 + b2)."""
    at = first.places
    # floating-point numbers are gathered several times faster than integers, which they hold here
    places = second.places.to(second.real.dtype).gather(-1, at).to(torch.int64)
    scale_real, scale_imaginary = second.real.gather(-1, at), second.imaginary.gather(-1, at)
    real, imaginary = _product(scale_real, scale_imaginary, first.real, first.imaginary)
    offsets = _applied(second, (first.offset_real, first.offset_imaginary))
    return Steps(places, real, imaginary, *offsets)


def _applied(step: Steps, state: States) -> States:
    """P D x + b."""
    real, imaginary = _product(step.real, step.imaginary, *state)
    return (
        step.offset_real.scatter_add(-1, step.places, real),
        step.offset_imaginary.scatter_add(-1, step.places, imaginary),
    )


def _product(
    real: Tensor, imaginary: Tensor, other_real: Tensor, other_imaginary: Tensor
) -> States:
    """Of complex numbers."""
    return (
        torch.addcmul(real * other_real, imaginary, other_imaginary, value=-1.0),
        torch.addcmul(real * other_imaginary, imaginary, other_real),
    )
