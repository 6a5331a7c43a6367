"""The terms that complete Orthogonal Self-Attention, and their weights.

Shapes: B batch, H heads, N tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.completion import add_neighbours, pool_values
from osa.model.functional.parts import SequencePart, neighbours_part, pool_part
from osa.model.kernels import is_allowed, native_completion
from osa.model.layers.mixers.base import TokenContext


class Completion(nn.Module):
    """From exp(S) V to the completed mixing; see ``osa.model.functional.completion``.

    At the start it changes nothing: a = s = 1, and all that is added has weight 0.

    Attributes:
        num_sides: Numbers that a token gives a head: a logit for the pool, and its gates.
        gated: Whether there are gates.
        identity: Weights a of the values [H].
        mixed: Weights s of what exp(S) changes [H].
        pool: Weights m of the pooled values [H], or None.
        taps: Weights of the neighbours [H, 2 R], or None.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """Create the weights."""
        super().__init__()
        heads = config.num_heads
        self.num_heads, self.gated = heads, config.osa_gate
        gates = (3 if config.osa_pool else 2) if config.osa_gate else 0
        self.num_sides = gates + int(config.osa_pool)
        self.identity, self.mixed = nn.Parameter(torch.ones(heads)), nn.Parameter(torch.ones(heads))
        self.pool = nn.Parameter(torch.zeros(heads)) if config.osa_pool else None
        taps = torch.zeros(heads, 2 * config.osa_taps)
        self.taps = nn.Parameter(taps) if config.osa_taps else None

    def weights(self) -> native_completion.Weights:
        """As they are now, for the CPU kernel."""
        return native_completion.weights(
            self.identity, self.mixed, self.pool, self.taps, self.gated
        )

    def forward(
        self,
        mixed: Float[Tensor, "B H N D"],
        value: Float[Tensor, "B H N D"],
        side: Float[Tensor, "B N K"] | None,
        context: TokenContext,
    ) -> Float[Tensor, "B H N D"]:
        """Complete a mixing; computed in float32 at least, given in the dtype of ``mixed``.

        Args:
            mixed: exp(S) V; changed in place where no gradients are recorded.
            value: Values V.
            side: What the tokens say of their own mixing, H numbers each of ``num_sides``.
            context: Sequences of the tokens.
        """
        mask, cu_seqlens = context.mask, context.cu_seqlens
        native = is_allowed("native") and native_completion.supports(mixed, value)
        if cu_seqlens is not None and native:
            by = self.weights()
            return native_completion.complete_packed_(mixed, value, side, by, cu_seqlens)
        dtype = mixed.dtype
        if dtype in (torch.bfloat16, torch.float16):
            mixed, value = mixed.float(), value.float()
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0.0)
        total = self._join(
            mixed,
            value,
            side,
            lambda logits: pool_values(value, logits, mask, cu_seqlens),
            lambda taps: add_neighbours(value, taps, mask, cu_seqlens),
        )
        return total.to(dtype)

    def mix_part(
        self,
        mixed: Float[Tensor, "B H n D"],
        value: Float[Tensor, "B H n D"],
        side: Float[Tensor, "B n K"] | None,
        part: SequencePart,
    ) -> Float[Tensor, "B H n D"]:
        """Complete the mixing of a sequence that lies on several processes; with gradients.

        Args:
            mixed: exp(S) V of this process's tokens, float32 at least.
            value: Their values.
            side: What they say of their own mixing.
            part: Of the sequence.
        """
        with torch.autocast(mixed.device.type, enabled=False):
            return self._join(
                mixed,
                value,
                side,
                lambda logits: pool_part(value, logits, part),
                lambda taps: neighbours_part(value, taps, part),
            )

    def _join(
        self,
        mixed: Tensor,
        value: Tensor,
        side: Tensor | None,
        pooled: Callable[[Tensor], Tensor],
        beside: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """All terms: values pooled by logits, and those of neighbours by their weights."""
        sides: tuple[Tensor, ...] = (
            () if side is None else side.to(mixed.dtype).split(self.num_heads, dim=-1)
        )
        gates = sides[1:] if self.pool is not None else sides
        identity, change = _of_head(self.identity), _of_head(self.mixed)
        share = None if self.pool is None else _of_head(self.pool)
        if self.gated:
            identity = identity + _of_tokens(gates[0])
            change = change * (1.0 + _of_tokens(gates[1]))
            share = None if share is None else share * (1.0 + _of_tokens(gates[2]))
        total = (identity - change) * value + change * mixed
        if share is not None:
            total = total + share * pooled(sides[0])
        if self.taps is not None:
            total = total + beside(self.taps.to(value.dtype))
        return total


def _of_head(weights: Float[Tensor, " H"]) -> Float[Tensor, "1 H 1 1"]:
    return weights[None, :, None, None]


def _of_tokens(gate: Float[Tensor, "B N H"]) -> Float[Tensor, "B H N 1"]:
    return gate.transpose(1, 2)[..., None]
