"""Mixers that are functions of rectangles: whole sequences, side by side, padded at the end.

A packed batch is gathered into rectangles whose width follows from a sequence's own length, a
padded batch is one already. So a mixer is written once, and its arithmetic for a sequence is the
same in every batch.

Shapes: B batch, N tokens, S sequences, L width of a rectangle, H heads, d head width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from osa.model.functional.alignment import align, take
from osa.model.functional.varlen import Bucket, check_cu_seqlens, map_buckets
from osa.model.kernels import native_recurrence
from osa.model.kernels.native import instruction_set
from osa.model.layers.mixers.base import Mixer, TokenContext

RESULT_EPS = 1e-3
"""Epsilon of the RMS norm of a head's result: sums that cancel are not blown up by it."""


class RectangleMixer(Mixer):
    """Mixes in float32 or float64, whatever the products around it compute in.

    Attributes:
        follows_order: Whether the order of tokens matters to ``mix_rectangle``; padding between
            tokens is then moved to the end first.
        copies_states: Whether ``mix_rectangle`` makes what it reads contiguous itself.
    """

    follows_order: ClassVar[bool] = True
    copies_states: ClassVar[bool] = False
    accepts_empty_rows: ClassVar[bool] = True

    def mix_states(
        self, states: tuple[Float[Tensor, "B H N _"], ...], context: TokenContext
    ) -> Float[Tensor, "B H N D"]:
        """Mix every sequence by ``mix_rectangle``; the result has the dtype of the states.

        Raises:
            InputError: Offsets that do not fit.
        """
        dtype = states[0].dtype
        if not torch.compiler.is_compiling() and states[0].numel() == 0:
            return torch.zeros_like(states[0])
        if dtype in (torch.bfloat16, torch.float16):
            states = tuple(state.float() for state in states)
        with torch.autocast(states[0].device.type, enabled=False):
            return self._mix(states, context).to(dtype)

    def _mix(self, states: tuple[Tensor, ...], context: TokenContext) -> Tensor:
        if context.cu_seqlens is not None:
            offsets = check_cu_seqlens(context.cu_seqlens, states[0].shape[2])

            def run(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
                if not self.copies_states:
                    # products of views and of copies may differ in their last bits
                    parts = tuple(part.contiguous() for part in parts)
                return (self.mix_rectangle(parts, bucket.mask),)

            return map_buckets(states, offsets, run, 1)[0]
        if context.mask is None or not self.follows_order:
            return self.mix_rectangle(states, context.mask)
        aligned = align(context.mask)
        moved = tuple(take(state, aligned.order, 2) for state in states)
        return take(self.mix_rectangle(moved, aligned.mask), aligned.back, 2)

    @abstractmethod
    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Mix the tokens of whole sequences; what is returned for padding has no meaning.

        Args:
            states: As many as ``parts``, then numbers of heads where there are any.
            mask: True at real tokens, which come first where ``follows_order``; None for all.
        """


class RecurrentMixer(RectangleMixer):
    """One that the CPU kernel computes, of packed batches and where there are no gradients.

    Attributes:
        native_kind: What the kernel calls it.
    """

    native_kind: ClassVar[native_recurrence.Kind]

    def mix_states(
        self, states: tuple[Float[Tensor, "B H N _"], ...], context: TokenContext
    ) -> Float[Tensor, "B H N D"]:
        """By the CPU kernel, or as other mixers of rectangles; raises as these."""
        if context.cu_seqlens is None or not native_recurrence.supports(states[0]):
            return super().mix_states(states, context)
        known = context.cu_seqlens if context.offsets is None else context.offsets
        return native_recurrence.mix_packed(self.native_kind, states, self.native_weights(), known)

    @classmethod
    def name_kernel(cls, device: str, dtype: torch.dtype, head_dim: int) -> str:
        """The CPU kernel, or torch."""
        with torch.no_grad():
            operands = torch.empty(1, 1, 0, head_dim, dtype=dtype)
            native = device == "cpu" and native_recurrence.supports(operands)
        return f"native ({instruction_set()})" if native else "torch"

    @abstractmethod
    def native_weights(self) -> Float[Tensor, "H K"]:
        """Its weights by head, in the order of ``csrc/osa_recurrence.h``."""


def normalize_heads(mixed: Float[Tensor, "S H L D"]) -> Float[Tensor, "S H L D"]:
    """RMS norm of every head's result, without a weight: the projection after it has one."""
    return F.rms_norm(mixed, (mixed.shape[-1],), eps=RESULT_EPS)


def count_tokens(
    states: Float[Tensor, "S H L _"], mask: Bool[Tensor, "S L"] | None
) -> Float[Tensor, "#S 1 1 1"]:
    """Real tokens of each sequence, at least 1, in the dtype of ``states``."""
    if mask is None:
        whole = states.new_ones(1, 1, 1, 1) * states.shape[2]
        return whole.clamp(min=1.0)
    return mask.to(states.dtype).sum(-1).clamp(min=1.0).view(-1, 1, 1, 1)
