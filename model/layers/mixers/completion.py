"""The terms that complete Orthogonal Self-Attention, and their weights.

Shapes: B batch, H heads, N tokens, D head width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig
from osa.model.functional.completion import Terms, complete, join
from osa.model.functional.parts import SequencePart, neighbours_part, pool_part
from osa.model.kernels import gpu, native_completion
from osa.model.layers.mixers.base import TokenContext


class Completion(nn.Module):
    """From exp(S) V to the completed mixing; see ``osa.model.functional.completion``.

    At the start it changes nothing: a = s = 1, and all that is added has weight 0.

    Attributes:
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
        self.gated = config.osa_gate
        self.identity, self.mixed = nn.Parameter(torch.ones(heads)), nn.Parameter(torch.ones(heads))
        self.pool = nn.Parameter(torch.zeros(heads)) if config.osa_pool else None
        taps = torch.zeros(heads, 2 * config.osa_taps)
        self.taps = nn.Parameter(taps) if config.osa_taps else None

    @property
    def terms(self) -> Terms:
        """The weights, with gradients."""
        return Terms(self.identity, self.mixed, self.pool, self.taps, self.gated)

    @property
    def num_sides(self) -> int:
        """Numbers that a token gives a head."""
        return self.terms.num_sides

    def weights(self) -> native_completion.Weights:
        """As they are now, for the CPU kernel."""
        return native_completion.weights(self.terms)

    def forward(
        self,
        mixed: Float[Tensor, "B H N D"],
        value: Float[Tensor, "B H N D"],
        side: Float[Tensor, "B N K"] | None,
        context: TokenContext,
    ) -> Float[Tensor, "B H N D"]:
        """Complete a mixing, with gradients; computed in float32 at least, given as it came.

        Args:
            mixed: exp(S) V; changed in place on a GPU where no gradients are recorded.
            value: Values V.
            side: What the tokens say of their own mixing, H numbers each of ``num_sides``.
            context: Sequences of the tokens.
        """
        places = context.mask, context.cu_seqlens
        if gpu.completes(mixed, value):
            return gpu.complete(mixed, value, side, self.terms, *places)
        return complete(mixed, value, side, self.terms, *places)

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
            return join(
                mixed,
                value,
                side,
                self.terms,
                lambda logits: pool_part(value, logits, part),
                lambda taps: neighbours_part(value, taps, part),
            )
