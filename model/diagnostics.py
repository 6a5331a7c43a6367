"""Diagnostics of deep encoders: conditioning, gradients, rank of the hidden states.

The paper's argument (arXiv:2602.05996) is about the Jacobian of the hidden states with respect to
the input states. It is measured here on one sequence, by reverse mode in float64, for
the stack of blocks or for one of them. The final norm is left out: it projects out each token's
length, so that every Jacobian through it would be singular. So is one through a block with norms
and without skips.

Shapes: B batch, N tokens, D hidden, F feature width, R = N D rows and columns of a Jacobian.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.errors import InputError
from osa.model.layers.encoder import Encoder
from osa.model.layers.mixers import TokenContext
from osa.model.layers.residual import state_channels

MAX_COLUMNS = 2048
"""Largest N D of a Jacobian, for its memory and the time of its singular values."""
_ROWS_AT_ONCE = 128


class HiddenStatistics(NamedTuple):
    """How much the tokens of a sequence differ; means over the batch.

    Attributes:
        effective_rank: exp of the entropy of the normalised singular values of [N, D], from 1
            (every token on one line) to min(N, D) (Roy and Vetterli, EUSIPCO 2007).
        token_cosine: Mean cosine between different tokens; 1 is rank collapse.
        token_norm: Mean length of a token's state.
    """

    effective_rank: float
    token_cosine: float
    token_norm: float


def token_jacobian(
    encoder: Encoder,
    inputs: Int[Tensor, "1 N"] | Float[Tensor, "1 N F"],
    block: int | None = None,
) -> Float[Tensor, "R R"]:
    """Jacobian of the last block's output with respect to the first block's input, in float64.

    Args:
        encoder: Any encoder; it is copied, not changed.
        inputs: Token ids or features of one sequence.
        block: Index of one block to measure alone, at the states that reach it in the stack.

    Returns:
        The derivative of output (row) by input (column), both flattened token by token.

    Raises:
        InputError: Not one sequence, N D beyond ``MAX_COLUMNS``, or no such block.
    """
    depth = len(encoder.blocks)
    if inputs.shape[0] != 1 or inputs.numel() == 0:
        raise InputError(
            f"a Jacobian is of one sequence [1, N] or [1, N, F], got {tuple(inputs.shape)}"
        )
    width = encoder.config.hidden_size * state_channels(encoder.config)
    columns = inputs.shape[1] * width
    if columns > MAX_COLUMNS:
        raise InputError(
            f"{inputs.shape[1]} tokens of width {width} make a Jacobian of "
            f"{columns} columns, allowed are up to {MAX_COLUMNS}: take a shorter sequence"
        )
    if block is not None and not 0 <= block < depth:
        raise InputError(f"block must be 0 to {depth - 1}, got {block}")
    double = copy.deepcopy(encoder).double().requires_grad_(False)
    first, last = (0, depth) if block is None else (block, block + 1)
    if double.config.vocab_size is None:
        inputs = inputs.double()
    hidden, context = _input_of(double, inputs, first)
    return _jacobian([*double.blocks[first:last]], hidden, context)


def _input_of(encoder: Encoder, inputs: Tensor, place: int) -> tuple[Tensor, TokenContext]:
    """Run the encoder on ``inputs`` and return the input of one block."""
    seen: list[tuple[Tensor, TokenContext]] = []
    handle = encoder.blocks[place].register_forward_pre_hook(lambda _, given: seen.append(given))
    with handle, torch.no_grad():
        encoder(inputs)
    return seen[0]


def _jacobian(blocks: list[nn.Module], start: Tensor, context: TokenContext) -> Tensor:
    """Rows by reverse mode: copies of the sequence as one batch, an output's row for each.

    Copies rather than ``torch.func.vmap``: every kernel has a batch, few have a batching rule.
    """
    columns = start.numel()
    rows = []
    for chosen in torch.eye(columns, dtype=start.dtype, device=start.device).split(_ROWS_AT_ONCE):
        leaf = start.detach().expand(len(chosen), -1, -1).clone().requires_grad_()
        with torch.enable_grad():
            hidden = leaf
            for block in blocks:
                hidden = block(hidden, context)
        (gradient,) = torch.autograd.grad(hidden, leaf, chosen.view_as(hidden))
        rows.append(gradient.flatten(1))
    return torch.cat(rows)


def jacobian_spectrum(
    encoder: Encoder,
    inputs: Int[Tensor, "1 N"] | Float[Tensor, "1 N F"],
    block: int | None = None,
) -> Float[Tensor, " R"]:
    """Singular values of ``token_jacobian``, descending; same arguments and errors.

    Raises:
        InputError: See ``token_jacobian``.
    """
    spectrum: Tensor = torch.linalg.svdvals(token_jacobian(encoder, inputs, block))
    return spectrum


def jacobian_condition(
    encoder: Encoder,
    inputs: Int[Tensor, "1 N"] | Float[Tensor, "1 N F"],
    block: int | None = None,
) -> float:
    """Largest over smallest singular value; inf for a singular one. Reliable up to about 1e15.

    Raises:
        InputError: See ``token_jacobian``.
    """
    spectrum = jacobian_spectrum(encoder, inputs, block)
    return float(spectrum[0] / spectrum[-1]) if spectrum[-1] > 0 else float("inf")


def gradient_norms(encoder: Encoder) -> list[float]:
    """Length of the gradient of all weights of each block, after a backward pass.

    Raises:
        InputError: A block has no gradient.
    """
    norms = []
    for place, block in enumerate(encoder.blocks):
        gradients = [weight.grad for weight in block.parameters() if weight.grad is not None]
        if not gradients:
            raise InputError(f"block {place} has no gradient: call backward first")
        norms.append(float(torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()))
    return norms


@torch.no_grad()
def rank_and_norm(hidden: Float[Tensor, "B N D"]) -> HiddenStatistics:
    """Effective rank, cosine between tokens and token length of unpadded sequences.

    Raises:
        InputError: Not [B, N, D] with at least one sequence of two tokens.
    """
    if hidden.ndim != 3 or hidden.shape[0] < 1 or hidden.shape[1] < 2:
        raise InputError(f"states must be [B, N, D] with N from 2 on, got {tuple(hidden.shape)}")
    states = hidden.double()
    count = states.shape[1]
    weights = torch.linalg.svdvals(states)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    rank = torch.special.entr(weights).sum(-1).exp().mean()
    total = F.normalize(states, dim=-1, eps=1e-300).sum(1).square().sum(-1)
    cosine = ((total - count) / (count * (count - 1))).mean()
    return HiddenStatistics(float(rank), float(cosine), float(states.norm(dim=-1).mean()))


@contextlib.contextmanager
def watch_layers(encoder: Encoder) -> Iterator[list[HiddenStatistics]]:
    """Collect statistics of the states while the encoder runs inside the ``with`` block.

    Yields:
        A list that every forward pass extends by num_layers + 1 entries: what enters the first
        block, and what leaves each.
    """
    found: list[HiddenStatistics] = []
    with contextlib.ExitStack() as hooks:
        hooks.enter_context(
            encoder.blocks[0].register_forward_pre_hook(
                lambda _, given: found.append(rank_and_norm(given[0]))
            )
        )
        for block in encoder.blocks:
            hooks.enter_context(
                block.register_forward_hook(
                    lambda _, __, output: found.append(rank_and_norm(output))
                )
            )
        yield found
