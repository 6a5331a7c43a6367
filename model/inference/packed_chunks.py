"""Packed blocks on chunks of one sequence: every step one call of the CPU kernel.

Shapes: n tokens of a chunk, W padded width, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from osa.model.kernels import native_block as kernel
from osa.model.kernels.native_rows import norm_
from osa.model.layers.chunks import Rotary
from osa.model.layers.mixers.base import Mixer


class PackedChunks:
    """See ``osa.model.layers.chunks.ChunkBlocks``."""

    def __init__(
        self,
        shape: kernel.Shape,
        width: int,
        weights: Sequence[kernel.BlockWeights],
        between: Sequence[kernel.Transform],
        mixers: Sequence[Mixer],
        norm: nn.Module,
    ) -> None:
        """Share what ``PackedBlocks`` has.

        Args:
            shape: Of the encoder.
            width: W.
            weights: Of the blocks.
            between: As of ``native_block.transforms``.
            mixers: Of the blocks.
            norm: Of what the last block gives.
        """
        self.count, self.width = len(weights), width
        self.dtype, self.mixers = kernel.STATES[shape.dtype], mixers
        self._features, self._norm = shape.features, norm
        self._between = between
        self._before = [kernel.Transform(shape, None, one) for one in weights]

    def project(self, layer: int, hidden: Tensor, rotary: Rotary | None) -> Tensor:
        """See ``ChunkBlocks``."""
        states = hidden.new_empty(len(hidden), 3, self.width, dtype=self.dtype)
        kernel.compute(self._before[layer].call(hidden, None, states, rotary))
        return states

    def advance(
        self, layer: int, hidden: Tensor, mixed: Tensor, rotary: Rotary | None
    ) -> Tensor | None:
        """See ``ChunkBlocks``."""
        states = hidden.new_empty(len(hidden), 3, self.width, dtype=self.dtype)
        heads = mixed.flatten(1).contiguous()
        kernel.compute(self._between[layer + 1].call(hidden, heads, states, rotary))
        return states if layer + 1 < self.count else None

    def leave(self, hidden: Tensor) -> Tensor:
        """See ``ChunkBlocks``."""
        found = hidden[:, : self._features].contiguous()
        if isinstance(self._norm, nn.RMSNorm | nn.LayerNorm):
            norm_(found, self._norm)
        return found
