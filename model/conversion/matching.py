"""What a student learns from its teacher: attention outputs layer by layer, then vectors.

Stage one: no gradient passes from one layer to the next. A layer's mixing of the states that the
student has is to give what makes of them the teacher's states after its own mixing, so that it
makes good what the layers before it missed. Stage two is end to end: vectors and their
similarities, or what the head gives, and hidden states.

Shapes: T packed tokens, S sequences, D hidden, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.conversion.outputs import output_loss
from osa.model.embedding_model import EmbeddingModel
from osa.model.layers.block import Block

HIDDEN_WEIGHT = 1.0
"""Of hidden states in stage two, beside the outputs."""


class Batch(NamedTuple):
    """Sequences end to end.

    Attributes:
        ids: Token ids [1, T].
        cu_seqlens: Offsets [S + 1].
    """

    ids: Int[Tensor, "1 T"]
    cu_seqlens: Int[Tensor, " S1"]


class Traced(NamedTuple):
    """What a teacher made of a batch.

    Attributes:
        inputs: Of each kept layer [1, T, D].
        mixed: What their mixers gave.
        outputs: Of these layers.
        vectors: Of the sequences, of unit length; or what the head gives [S, E].
    """

    inputs: list[Tensor]
    mixed: list[Tensor]
    outputs: list[Tensor]
    vectors: Tensor


@torch.no_grad()
def trace(teacher: EmbeddingModel, layers: Sequence[int], batch: Batch) -> Traced:
    """Run a teacher on a batch and keep what passes these layers."""
    hidden, context = teacher.encoder.start(batch.ids, None, batch.cu_seqlens)
    inputs, mixings, outputs = [], [], []
    for place, block in enumerate(blocks_of(teacher)):
        mixed = block.mix(hidden, context)
        following = block.transform(hidden, mixed)
        if place in layers:
            inputs.append(hidden.float())
            mixings.append(mixed.float())
            outputs.append(following.float())
        hidden = following
    output = teacher.finish(teacher.encoder.norm(hidden), None, batch.cu_seqlens)
    return Traced(inputs, mixings, outputs, output.embeddings.float())


def match_attention(student: EmbeddingModel, found: Traced, batch: Batch, own: bool) -> list[float]:
    """Add the gradients of stage one.

    Args:
        student: Of ``make_student``.
        found: Of the teacher, on the same batch.
        batch: The batch.
        own: Whether layers are given the student's states; otherwise the teacher's.

    Returns:
        Of each layer the share of its mixing's variance that is not explained.
    """
    with torch.no_grad():
        hidden, context = student.encoder.start(batch.ids, None, batch.cu_seqlens)
    losses = []
    for place, block in enumerate(blocks_of(student)):
        inputs, wanted = found.inputs[place], found.mixed[place]
        states = hidden.float() if own else inputs
        mixed = block.mix(states, context)
        target = wanted + inputs - states if block.residual == "add" else wanted
        loss = (mixed.float() - target).square().sum() / spread([wanted])
        loss.backward()
        losses.append(float(loss.detach()))
        if own:
            with torch.no_grad():
                hidden = block.transform(states, mixed.detach().to(states.dtype))
    return losses


def vector_gradients(
    student: EmbeddingModel,
    teacher: EmbeddingModel,
    layers: Sequence[int],
    batch: Batch,
    chunk_tokens: int,
) -> float:
    """Add the gradients of stage two; returns the agreement with the teacher's vectors or scores.

    Larger batches than ``chunk_tokens`` are computed in chunks: their vectors first, without
    activations, then each chunk again with the gradients of its vectors (GradCache,
    arXiv:2101.06983).

    Args:
        student: Of ``make_student``.
        teacher: The teacher.
        layers: Those of its layers that the student has.
        batch: The batch.
        chunk_tokens: Most tokens whose activations are kept.
    """
    chunks = list(split(batch, chunk_tokens))
    found = [trace(teacher, layers, chunk) for chunk in chunks]
    target = torch.cat([part.vectors for part in found])
    spreads = [spread(list(parts)) for parts in zip(*(part.outputs for part in found), strict=True)]
    if len(chunks) == 1:
        vectors, missed = _forward(student, found[0], chunks[0], spreads)
        loss, agreement = output_loss(student.config, vectors, target)
        (loss + HIDDEN_WEIGHT * missed).backward()
        return float(agreement)
    pairs = list(zip(found, chunks, strict=True))
    with torch.no_grad():
        vectors = torch.cat([_forward(student, *pair, spreads)[0] for pair in pairs])
    loss, agreement = output_loss(student.config, vectors.requires_grad_(), target)
    (gradients,) = torch.autograd.grad(loss, vectors)
    sizes = [len(part.vectors) for part in found]
    for pair, gradient in zip(pairs, gradients.split(sizes), strict=True):
        own, missed = _forward(student, *pair, spreads)
        ((own * gradient).sum() + HIDDEN_WEIGHT * missed).backward()
    return float(agreement)


def split(batch: Batch, most: int) -> Iterator[Batch]:
    """Parts of a batch of at most so many tokens, or of one sequence."""
    offsets: list[int] = batch.cu_seqlens.tolist()
    start = 0
    for place in range(1, len(offsets)):
        full = place + 1 == len(offsets) or offsets[place + 1] - offsets[start] > most
        if full:
            part = batch.cu_seqlens[start : place + 1]
            yield Batch(batch.ids[:, offsets[start] : offsets[place]], part - part[0])
            start = place


def _forward(
    student: EmbeddingModel, found: Traced, batch: Batch, spreads: Sequence[Tensor]
) -> tuple[Float[Tensor, "S E"], Float[Tensor, ""]]:
    """Vectors, and the mean over layers of the squared errors of outputs over these spreads."""
    hidden, context = student.encoder.start(batch.ids, None, batch.cu_seqlens)
    missed = []
    for block, wanted, size in zip(blocks_of(student), found.outputs, spreads, strict=True):
        hidden = block(hidden, context)
        missed.append((hidden.float() - wanted).square().sum() / size)
    output = student.finish(student.encoder.norm(hidden), None, batch.cu_seqlens)
    return output.embeddings.float(), torch.stack(missed).mean()


def spread(parts: Sequence[Float[Tensor, "1 n D"]]) -> Float[Tensor, ""]:
    """Sum of squares of the tokens' states around their mean; not zero."""
    states = torch.cat(list(parts), dim=1)
    return (states - states.mean(1, keepdim=True)).square().sum().clamp_min(1e-6)


def blocks_of(model: EmbeddingModel) -> list[Block]:
    """The blocks of an encoder."""
    blocks = list(model.encoder.blocks)
    assert all(isinstance(block, Block) for block in blocks)
    return blocks  # type: ignore[return-value]  # as has just been asserted
