"""One sequence over several processes: each has some of its tokens, and they exchange sums.

A layer exchanges one sum of 2d x 3d numbers a head, whatever the length; pooling one state.
Completed OSA exchanges a pooled value more, and the values of a few tokens at the ends of parts.
By ``torch.distributed``: gloo on CPUs, NCCL on GPUs.

Inference goes chunk by chunk (``encode_part``), training keeps what it needs of its own tokens
(``embed_part``). All processes of a group compute the same vector, and the same loss of it: then
the mean of their gradients, which ``DistributedDataParallel`` takes, is that of one process.

Shapes: n tokens of this process, E embedding width, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.config import Pooling
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

    def largest(self, tensor: Tensor) -> Tensor:
        """A tensor's largest values, without a gradient."""
        found = tensor.detach().clone()
        self.exchange(found, "max")
        return found

    def sequence(self, count: int) -> SequencePart:
        """This process's share of a sequence of ``count`` tokens, for mixers with gradients."""
        return SequencePart(count, self.total, self.largest, self.rank, self.size)

    def total(self, tensor: Tensor) -> Tensor:
        """A tensor's sum, with a gradient that is summed as well."""
        self.messages.append(tensor.nbytes)
        if self.size == 1:
            return tensor
        summed: Tensor = _Total.apply(tensor, self.group)  # type: ignore[no-untyped-call]
        return summed

    def options(
        self, first: int, count: int, options: StreamOptions | None = None
    ) -> StreamOptions:
        """How this process takes its part of a sequence.

        Args:
            first: Place of its first token, as of ``part``.
            count: Tokens of the sequence.
            options: Chunks and disk.
        """
        return replace(
            options or StreamOptions(),
            exchange=self.exchange,
            first=first,
            count=count,
            part=self.rank,
            parts=self.size,
        )

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
    options = group.options(first, count, options)
    return model.encode_stream([ids.cpu().numpy()], options=options)


def embed_part(
    model: EmbeddingModel, ids: Int[Tensor, " n"], first: int, count: int, group: SequenceGroup
) -> EmbeddingOutput:
    """The vector of a sequence [1, E], on every process, with gradients.

    Args:
        model: With plain blocks; the same on all.
        ids: Of this process's tokens; or their features [n, F].
        first: Place of the first of them.
        count: Tokens of the whole sequence.
        group: The processes.

    Raises:
        ConfigError: The mixer needs more than sums, or the head is one of sparse weights.
        InputError: Learned positions are fewer.
    """
    if isinstance(model.head, SparseHead):
        raise ConfigError("sparse heads take the largest values, which are not summed: use others")
    states = states_of_part(model, ids, first, count, group)
    return model.finish_pooled(pool_spans(states, model.config.pooling, first, [count], group))


def states_of_part(
    model: EmbeddingModel, ids: Int[Tensor, " n"], first: int, count: int, group: SequenceGroup
) -> Float[Tensor, "n D"]:
    """Last hidden states of this process's tokens, with gradients; as ``embed_part``.

    Args:
        model: As there.
        ids: As there.
        first: As there.
        count: As there.
        group: As there.

    Raises:
        ConfigError: The mixer needs more than sums.
        InputError: Learned positions are fewer.
    """
    encoder, config = model.encoder, model.config
    chunk_blocks(encoder)  # refuses what needs more than sums
    limited = encoder.positions is not None and config.position_rows is None
    if limited and count > config.max_seq_len:
        raise InputError(f"this model has learned positions for {config.max_seq_len} tokens")
    part = group.sequence(count)
    places = torch.arange(first, first + len(ids), device=ids.device)
    rotary = chunk_rotary(config, first, len(ids), ids.device)
    turn = () if rotary is None else tuple(table[None] for table in rotary)
    hidden = encoder.begin(ids[None], places[None])
    for block in encoder.blocks:
        assert isinstance(block, Block)  # plain ones: others have no gradients
        norm = nn.Identity() if block.post else block.mixer_norm
        found = block.mixer.project(norm(hidden), turn)
        query, key, value = (states.transpose(1, 2) for states in found[:3])
        side = found[3] if block.mixer.side is not None else None
        mixed = block.mixer.mix_part(query, key, value, part, side)
        hidden = block.transform(hidden, block.mixer.out(mixed.transpose(1, 2).flatten(2)))
    states: Tensor = encoder.norm(hidden)[0]
    return states


def pool_spans(
    states: Float[Tensor, "n D"],
    how: Pooling,
    first: int,
    lengths: Sequence[int],
    group: SequenceGroup,
) -> Float[Tensor, "R D"]:
    """One state a span of a sequence, on every process, with gradients.

    Args:
        states: Of this process's tokens.
        how: As the model pools.
        first: Place of the first of them.
        lengths: Of the spans, which follow each other, of at least one token each.
        group: The processes.
    """
    sizes = torch.tensor(lengths, device=states.device)
    starts, ends = sizes.cumsum(0) - sizes, sizes.cumsum(0)
    places = torch.arange(first, first + len(states), device=states.device)[None]
    inside = (places >= starts[:, None]) & (places < ends[:, None])
    own = places - starts[:, None]
    weights = {
        "mean": lambda: 1 / sizes[:, None].double().expand_as(own),
        "weighted": lambda: (own + 1).double() / (sizes * (sizes + 1) / 2)[:, None].double(),
        "cls": lambda: (own == 0).double(),
        "last": lambda: (own == sizes[:, None] - 1).double(),
    }[how]()
    with torch.autocast(states.device.type, enabled=False):
        return group.total((weights * inside).to(states.dtype) @ states)
