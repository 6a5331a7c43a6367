"""Packed blocks on chunks of one sequence: every step one call of the CPU kernel.

Shapes: n tokens of a chunk, W padded width, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from osa.model.inference.packed_linear import PackedLinear
from osa.model.kernels import native_block as kernel
from osa.model.kernels.native_rows import norm_
from osa.model.layers.chunks import Rotary, with_side
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
        sides = [one.side.weight.outputs for one in weights if one.side is not None]
        self._side_width = max(sides, default=0)
        self.parts = 3 + (self._side_width > 0)
        self._before = [kernel.Transform(shape, None, one) for one in weights]

    def project(self, layer: int, hidden: Tensor, rotary: Rotary | None) -> Tensor:
        """See ``ChunkBlocks``."""
        states, sides = self._empty(hidden)
        kernel.compute(self._before[layer].call(hidden, None, states, rotary, sides))
        return self._joined(states, sides, layer)

    def advance(
        self, layer: int, hidden: Tensor, mixed: Tensor, rotary: Rotary | None
    ) -> Tensor | None:
        """See ``ChunkBlocks``."""
        states, sides = self._empty(hidden)
        heads = mixed.flatten(1).contiguous()
        kernel.compute(self._between[layer + 1].call(hidden, heads, states, rotary, sides))
        return self._joined(states, sides, layer + 1) if layer + 1 < self.count else None

    def _empty(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Memory for states [n, 3, W], and for what is said beside them."""
        rows = len(hidden)
        states = hidden.new_empty(rows, 3, self.width, dtype=self.dtype)
        return states, hidden.new_empty(rows, self._side_width) if self._side_width else None

    def _joined(self, states: Tensor, sides: Tensor | None, layer: int) -> Tensor:
        side = self.mixers[layer].side
        if sides is None or side is None:
            return states
        assert isinstance(side, PackedLinear)  # packed before
        return with_side(states, sides[:, : side.out_features])

    def leave(self, hidden: Tensor) -> Tensor:
        """See ``ChunkBlocks``."""
        found = hidden[:, : self._features].contiguous()
        if isinstance(self._norm, nn.RMSNorm | nn.LayerNorm):
            norm_(found, self._norm)
        return found
