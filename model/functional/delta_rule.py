"""Recurrences of a matrix that forgets along one key and writes along several (arXiv:2602.10796).

    S_t = a_t S_(t-1) (I - b_t,1 k_t,1 k_t,1^T) + sum over l of b_t,l delta_t,l k_t,l^T
    o_t = S_t q_t

``by_steps`` is that; ``by_chunks`` gives the same from products of matrices. Within a chunk of C
tokens all steps are one triangular system (the WY form of DeltaNet, arXiv:2406.06484, with the
decay of arXiv:2412.06464, and further writes that need no solving); between chunks the state is a
linear recurrence of d x d matrices. Its work is O(N C d + N d^2).

Keys are unit vectors, a and b are from 0 to 1: no product grows.

Shapes: S sequences, H heads, N tokens, d head width, K keys a token, C chunk, n chunks.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.alignment import in_groups, out_of_groups

CHUNK, TRACED_CHUNK = 16, 64
"""Tokens that are solved at once; more where states are combined in levels, each of d^3."""


class Writes(NamedTuple):
    """Steps of the recurrence.

    Attributes:
        query: q [S, H, N, d].
        keys: k, unit vectors [K, S, H, N, d].
        values: delta [K, S, H, N, d].
        rates: b [K, S, H, N], from 0 to 1; where all are zero and a is 1 nothing changes.
        log_decay: log a [S, H, N], at most 0.
    """

    query: Float[Tensor, "S H N D"]
    keys: Float[Tensor, "K S H N D"]
    values: Float[Tensor, "K S H N D"]
    rates: Float[Tensor, "K S H N"]
    log_decay: Float[Tensor, "S H N"]


def by_steps(writes: Writes) -> Float[Tensor, "S H N D"]:
    """Every o_t, token by token."""
    size = writes.query.shape[-1]
    state = writes.query.new_zeros(*writes.query.shape[:2], size, size)
    eye = torch.eye(size, dtype=state.dtype, device=state.device)
    outputs = []
    for token in range(writes.query.shape[2]):
        keys, values = writes.keys[:, :, :, token], writes.values[:, :, :, token]
        rates = writes.rates[:, :, :, token, None, None]
        forget = eye - rates[0] * keys[0, ..., :, None] * keys[0, ..., None, :]
        decay = writes.log_decay[:, :, token, None, None].exp()
        written = (rates * values[..., :, None] * keys[..., None, :]).sum(0)
        state = decay * (state @ forget) + written
        outputs.append((state @ writes.query[:, :, token, :, None])[..., 0])
    return torch.stack(outputs, 2)


def by_chunks(writes: Writes, depth: int | None = None) -> Float[Tensor, "S H N D"]:
    """Every o_t, chunk by chunk.

    Args:
        writes: Of at least one token.
        depth: ``state_depth`` of the largest N, where N is a symbol of a traced graph: the states
            are then combined in as many steps; default is one chunk after another.
    """
    length = writes.query.shape[2]
    chunk = CHUNK if depth is None else TRACED_CHUNK
    query, keys, values, rates, log_decay = _chunked(writes, chunk)
    size = query.shape[-1]
    gained = log_decay.cumsum(-1)  # log of the decay from before the chunk
    gap = gained[..., :, None] - gained[..., None, :]
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=gap.device).tril()
    decay = gap.masked_fill(~causal, -torch.inf).exp()
    grown = gained.exp()[..., None]
    rate = rates[0, ..., None]
    written = values * rates[..., None]
    every_key = torch.cat([*keys], -2)  # one key of all tokens after another
    products = torch.cat([keys[0], query], -2) @ every_key.transpose(-1, -2)
    weights = torch.cat([decay.tril(-1) * rate, decay], -2)
    products = (products.unflatten(-1, (-1, chunk)) * weights[..., None, :]).flatten(-2)
    overlap, seen = products.split(chunk, dim=-2)
    others = torch.cat([*written[1:]], -2)
    pending = written[0] - overlap[..., chunk:] @ others
    solve = invert_unit_lower(overlap[..., :chunk])
    # what is written along the first key is own - faded M, with M the state before the chunk
    own, faded = (solve @ torch.cat([pending, keys[0] * (rate * grown)], -1)).split(size, -1)
    left = (gained[..., -1:] - gained).exp()[..., None]  # decay from a token to the chunk's end
    held = (keys * left).movedim(0, -3).flatten(-3, -2).transpose(-1, -2)
    all_written = torch.cat([own, others], -2)
    pieces = _Chunks(
        gained[..., -1].exp()[..., None, None], held[..., :chunk], faded, held @ all_written
    )
    start = _one_by_one(pieces) if depth is None else _in_levels(pieces, depth)
    result = seen @ all_written + (query * grown) @ start
    result = result - seen[..., :chunk] @ (faded @ start)
    return out_of_groups(result, 2, length)


def state_depth(length: int) -> int:
    """``depth`` of ``by_chunks`` for up to ``length`` tokens."""
    return max(0, -(-length // TRACED_CHUNK) - 1).bit_length()


class _Chunks(NamedTuple):
    """What each chunk makes of the state M before it: keeps M + gives - held (faded M).

    Attributes:
        keeps: Decay over the chunk [S, H, n, 1, 1].
        held: First keys, decayed to the chunk's end [S, H, n, d, C].
        faded: [S, H, n, C, d].
        gives: [S, H, n, d, d].
    """

    keeps: Tensor
    held: Tensor
    faded: Tensor
    gives: Tensor


def _one_by_one(chunks: _Chunks) -> Float[Tensor, "S H n D D"]:
    """The state before each chunk, from zero."""
    state = torch.zeros_like(chunks.gives[:, :, 0])
    states = [state]
    parts = zip(*(part.unbind(2) for part in chunks), strict=True)
    for keeps, held, faded, gives in itertools.islice(parts, chunks.gives.shape[2] - 1):
        state = torch.addcmul(gives, keeps, state) - held @ (faded @ state)
        states.append(state)
    return torch.stack(states, 2)


def _in_levels(chunks: _Chunks, depth: int) -> Float[Tensor, "S H n D D"]:
    """The same in ``depth`` steps, each over twice as many chunks."""
    gives, count = chunks.gives, chunks.gives.shape[2]
    eye = torch.eye(gives.shape[-1], dtype=gives.dtype, device=gives.device)
    keeps = eye * chunks.keeps - chunks.held @ chunks.faded
    for level in range(depth):
        # before the first chunk there is nothing to keep: zeros stand for it
        earlier_keeps, earlier = (
            F.pad(part, (0, 0, 0, 0, 1 << level, 0))[:, :, :count] for part in (keeps, gives)
        )
        gives, keeps = gives + keeps @ earlier, keeps @ earlier_keeps
    return F.pad(gives, (0, 0, 0, 0, 1, 0))[:, :, :count]


def invert_unit_lower(strict: Float[Tensor, "*batch C C"]) -> Float[Tensor, "*batch C C"]:
    """(I + A)^-1 of strictly lower triangular A, by blocks of doubled size.

    Of products alone, and as stable as substitution; a series of powers of A would not be.

    Args:
        strict: A; C is a power of 2. What is on and above its diagonal is not read.
    """
    size = strict.shape[-1]
    found = strict.new_ones(*strict.shape[:-2], size, 1, 1)
    width = 1
    while width < size:
        blocks = strict.unflatten(-2, (-1, 2 * width)).unflatten(-1, (-1, 2 * width))
        lower = blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)[..., width:, :width]
        first, second = found[..., 0::2, :, :], found[..., 1::2, :, :]
        corner = -(second @ lower @ first)
        top = torch.cat([first, torch.zeros_like(corner)], -1)
        found = torch.cat([top, torch.cat([corner, second], -1)], -2)
        width *= 2
    return found[..., 0, :, :]


def _chunked(writes: Writes, chunk: int) -> Writes:
    """Tokens in chunks [..., n, C, ...]; those that fill the last come last."""
    return Writes(
        in_groups(writes.query, 2, chunk),
        in_groups(writes.keys, 3, chunk),
        in_groups(writes.values, 3, chunk),
        in_groups(writes.rates, 3, chunk),
        in_groups(writes.log_decay, 2, chunk),
    )
