"""Rows of an encoder on the device: sums with their norm, heads normed and turned, activations.

Each kernel does in one pass over memory what is several operators in torch. Sums and norms are
float32; what a product reads next is written in its own type. Shapes: T tokens, D hidden, H heads,
d head width, F inner width. Sources: RMS norm, arXiv:1910.07467; rotary positions in the halves
convention, arXiv:2104.09864; GELU, arXiv:1606.08415; gates, arXiv:2002.05202.
"""

from __future__ import annotations

import triton
import triton.language as tl

NO_NORM = tl.constexpr(0)
RMS_NORM = tl.constexpr(1)
LAYER_NORM = tl.constexpr(2)
"""Kinds of norm."""
NO_ACTIVATION = tl.constexpr(0)
GELU = tl.constexpr(1)
GELU_TANH = tl.constexpr(2)
RELU = tl.constexpr(3)
SILU = tl.constexpr(4)
"""Kinds of activation."""


@triton.jit
def activated(values, KIND: tl.constexpr):
    """An activation of float32 numbers."""
    if KIND == GELU:
        values = 0.5 * values * (1.0 + tl.erf(values * 0.7071067811865476))
    elif KIND == GELU_TANH:
        inner = 0.7978845608028654 * (values + 0.044715 * values * values * values)
        values = values * tl.sigmoid(2.0 * inner)  # (1 + tanh y) / 2 = sigmoid(2 y)
    elif KIND == RELU:
        values = tl.where(values > 0, values, tl.where(values == values, 0.0, values))
    elif KIND == SILU:
        values = values * tl.sigmoid(values)
    return values


@triton.jit
def add_and_norm(
    states,
    added,
    weight,
    shift,
    stream,
    output,
    epsilon,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    KIND: tl.constexpr,
    POST: tl.constexpr,
):
    """One row: x = states + added; output = norm(x); stream = x, or norm(x) with POST.

    ``states`` or ``added`` may be None (nothing there), so may ``weight``, ``shift`` and
    ``stream`` (not wanted).
    """
    first = tl.program_id(0).to(tl.int64) * D
    columns = tl.arange(0, BLOCK)
    inside = columns < D
    values = tl.zeros([BLOCK], tl.float32)
    if states is not None:
        values += tl.load(states + first + columns, mask=inside, other=0.0).to(tl.float32)
    if added is not None:
        values += tl.load(added + first + columns, mask=inside, other=0.0).to(tl.float32)
    if stream is not None and not POST:
        tl.store(stream + first + columns, values, mask=inside)
    if KIND == LAYER_NORM:
        mean = tl.sum(values, 0) / D
        values = tl.where(inside, values - mean, 0.0)
    if KIND != NO_NORM:
        square = tl.sum(values * values, 0) / D
        values = values / tl.sqrt(square + epsilon)
        if weight is not None:
            values *= tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
        if shift is not None:
            values += tl.load(shift + columns, mask=inside, other=0.0).to(tl.float32)
    if stream is not None and POST:
        tl.store(stream + first + columns, values, mask=inside)
    tl.store(output + first + columns, values.to(output.dtype.element_ty), mask=inside)


@triton.jit
def turn_heads(
    joint,
    positions,
    cosines,
    sines,
    epsilon,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
    D: tl.constexpr,
    NORM: tl.constexpr,
):
    """Queries and keys of one token, normed over their head and turned by its place, in place.

    ``joint`` is [T, 3, H, d]; ``cosines`` and ``sines`` [places, d / 2], None without rotation.
    """
    HALF: tl.constexpr = D // 2
    token = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, BLOCK)[:, None]  # queries, then keys
    inside = heads < 2 * HEADS
    features = tl.arange(0, HALF)[None, :]
    places = joint + token * 3 * HEADS * D + heads * D + features
    left = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(places + HALF, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        square = (tl.sum(left * left, 1) + tl.sum(right * right, 1)) / D
        scale = 1.0 / tl.sqrt(square + epsilon)
        left *= scale[:, None]
        right *= scale[:, None]
    if cosines is not None:
        place = tl.load(positions + token).to(tl.int64) * HALF
        cosine = tl.load(cosines + place + features)
        sine = tl.load(sines + place + features)
        turned = left * cosine - right * sine
        right = right * cosine + left * sine
        left = turned
    tl.store(places, left.to(joint.dtype.element_ty), mask=inside)
    tl.store(places + HALF, right.to(joint.dtype.element_ty), mask=inside)


@triton.jit
def activate(
    inner,
    output,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
    KIND: tl.constexpr,
    GATED: tl.constexpr,
):
    """BLOCK numbers of one row: f(x), or f(a) * b of [a, b] with GATED."""
    WIDTH: tl.constexpr = 2 * F if GATED else F
    PARTS: tl.constexpr = (F + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // PARTS).to(tl.int64)
    columns = tl.program_id(0) % PARTS * BLOCK + tl.arange(0, BLOCK)
    inside = columns < F
    source = inner + row * WIDTH + columns
    values = activated(tl.load(source, mask=inside, other=0.0).to(tl.float32), KIND)
    if GATED:
        values *= tl.load(source + F, mask=inside, other=0.0).to(tl.float32)
    tl.store(output + row * F + columns, values.to(output.dtype.element_ty), mask=inside)
