"""One sequence over several processes: each has some of its tokens, and they exchange sums.

A layer exchanges one sum of 2d x 3d numbers a head, whatever the length; pooling one state. By
``torch.distributed``: gloo on CPUs, NCCL on GPUs.

Inference goes chunk by chunk (``encode_part``), training keeps what it needs of its own tokens
(``embed_part``). All processes of a group compute the same vector, and the same loss of it: then
the mean of their gradients, which ``DistributedDataParallel`` takes, is that of one process.

Shapes: n tokens of this process, E embedding width, D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.errors import ConfigError, InputError
from osa.model.functional.parts import SequencePart
from osa.model.kernels.native_stream import SUM_TILE
from osa.model.layers.block import Block
from osa.model.layers.chunks import chunk_blocks, chunk_rotary
from osa.model.layers.heads import SparseHead
from osa.model.layers.pooling import EmbeddingOutput
from osa.model.streaming.passes import StreamOptions

if TYPE_CHECKING:
    from osa.model.embedding_model import EmbeddingModel

BLOCK = 4096
"""Parts of long sequences begin at multiples of it: sums within are those of one process."""


@dataclass
class SequenceGroup:
    """The processes that share a sequence.

    Attributes:
        group: Of ``torch.distributed``; None for all processes, or for one alone.
        messages: Sizes of what this process has given to be summed, in order [bytes].
    """

    group: dist.ProcessGroup | None = None
    messages: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size(self.group) if dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        """Number of this process among them."""
        return dist.get_rank(self.group) if dist.is_initialized() else 0

    def exchange(self, tensor: Tensor, how: Literal["sum", "max"]) -> None:
        """Replace a tensor by its sum, or largest values, over the processes."""
        self.messages.append(tensor.nbytes)
        if self.size > 1:
            operation = dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX
            dist.all_reduce(tensor, operation, self.group)

    def total(self, tensor: Tensor) -> Tensor:
        """A tensor's sum, with a gradient that is summed as well."""
        self.messages.append(tensor.nbytes)
        if self.size == 1:
            return tensor
        summed: Tensor = _Total.apply(tensor, self.group)  # type: ignore[no-untyped-call]
        return summed

    def part(self, count: int) -> tuple[int, int]:
        """First token of this process's part of a sequence, and one past its last.

        Args:
            count: Tokens of the sequence.
        """
        size, rank = self.size, self.rank
        step = BLOCK if count >= size * BLOCK else SUM_TILE
        steps = -(-count // step)
        first, stop = (min(count, steps * place // size * step) for place in (rank, rank + 1))
        return first, stop


class _Total(torch.autograd.Function):
    """Sum over processes, forward and backward."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        """Sum the values."""
        context.group = group
        summed = tensor.contiguous().clone()
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Sum the gradients."""
        summed = grads[0].contiguous().clone()
        dist.all_reduce(summed, group=context.group)
        return summed, None


def encode_part(
    model: EmbeddingModel,
    ids: Int[Tensor, " n"],
    first: int,
    count: int,
    group: SequenceGroup,
    options: StreamOptions | None = None,
) -> Float[Tensor, " E"]:
    """The unit vector of a sequence, on every process, chunk by chunk.

    Args:
        model: The same on all.
        ids: Of this process's tokens.
        first: Place of the first of them, as of ``SequenceGroup.part``.
        count: Tokens of the whole sequence.
        group: The processes.
        options: Chunks and disk.

    Raises:
        OsaError: As ``StreamedEncoding.stream``; the other processes then wait in vain.
    """
    options = replace(options or StreamOptions(), exchange=group.exchange, first=first, count=count)
    return model.encode_stream([ids.cpu().numpy()], options=options)


def embed_part(
    model: EmbeddingModel, ids: Int[Tensor, " n"], first: int, count: int, group: SequenceGroup
) -> EmbeddingOutput:
    """The vector of a sequence [1, E], on every process, with gradients.

    Args:
        model: With plain blocks; the same on all.
        ids: Of this process's tokens.
        first: Place of the first of them.
        count: Tokens of the whole sequence.
        group: The processes.

    Raises:
        ConfigError: The mixer needs more than sums, or the head is one of sparse weights.
        InputError: Learned positions are fewer.
    """
    encoder, config = model.encoder, model.config
    chunk_blocks(encoder)  # refuses what needs more than sums
    if isinstance(model.head, SparseHead):
        raise ConfigError("sparse heads take the largest values, which are not summed: use others")
    limited = encoder.positions is not None and config.position_rows is None
    if limited and count > config.max_seq_len:
        raise InputError(f"this model has learned positions for {config.max_seq_len} tokens")
    part = SequencePart(count, group.total)
    places = torch.arange(first, first + len(ids), device=ids.device)
    rotary = chunk_rotary(config, first, len(ids), ids.device)
    turn = () if rotary is None else tuple(table[None] for table in rotary)
    hidden = encoder.begin(ids[None], places[None])
    for block in encoder.blocks:
        assert isinstance(block, Block)  # plain ones: others have no gradients
        norm = nn.Identity() if block.post else block.mixer_norm
        heads = block.mixer.project(norm(hidden), turn)
        query, key, value = (states.transpose(1, 2) for states in heads)
        mixed = block.mixer.mix_part(query, key, value, part)
        hidden = block.transform(hidden, block.mixer.out(mixed.transpose(1, 2).flatten(2)))
    final = encoder.norm(hidden)[0]
    return model.finish_pooled(group.total(_weighted(final, config.pooling, first, count))[None])


def _weighted(states: Float[Tensor, "n D"], how: str, first: int, count: int) -> Tensor:
    """What this process's tokens add to the pooled state [D]."""
    places = torch.arange(first, first + len(states), device=states.device)
    weights = {
        "mean": torch.full_like(places, 1, dtype=torch.float64) / count,
        "weighted": (places + 1).double() / (count * (count + 1) / 2),
        "cls": (places == 0).double(),
        "last": (places == count - 1).double(),
    }[how]
    return weights.to(states.dtype) @ states
