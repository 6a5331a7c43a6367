"""The gradient of a whole batch, computed in chunks of tokens.

For a loss over all vectors of a batch: run the chunks without gradients, gather the vectors of
all processes, differentiate the loss with respect to them, and run the chunks again, each with
its share of that gradient (GradCache, Gao et al., arXiv:2101.06983). A batch of one chunk is run
once. Up to rounding, the result does not depend on the number of chunks and processes.

Sharded weights are gathered in every pass, so all processes run the same number of chunks: one
with fewer repeats its last, with a gradient of zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from osa.model.training.data.batch import Example, pack, split_into_chunks
from osa.model.training.distributed import Processes
from osa.model.training.network import synchronized
from osa.model.training.objectives.base import EmbeddingObjective, Loss, Objective, TokenObjective


def batch_gradient(
    network: nn.Module,
    objective: Objective,
    examples: Sequence[Example],
    rows: np.ndarray,
    max_tokens: int,
    processes: Processes,
) -> Loss:
    """Add the gradient of the loss of a whole batch.

    Args:
        network: The network of an update.
        objective: Its objective.
        examples: Examples of this process.
        rows: Rows of the whole batch [n].
        max_tokens: Most tokens of a chunk.
        processes: The processes of the run.

    Returns:
        The loss over all processes.
    """
    chunks = list(split_into_chunks(examples, max_tokens))
    if isinstance(objective, EmbeddingObjective):
        return _embedding_gradient(network, objective, chunks, rows, processes)
    assert isinstance(objective, TokenObjective)
    return _token_gradient(network, objective, chunks, processes)


def _token_gradient(
    network: nn.Module,
    objective: TokenObjective,
    chunks: list[list[Example]],
    processes: Processes,
) -> Loss:
    count = torch.tensor([float(sum(map(objective.terms, chunks)))], dtype=torch.float64)
    terms = max(1.0, processes.sum(count.to(processes.device)).item())
    rounds = processes.max(len(chunks))
    total = torch.zeros(1, device=processes.device)
    for number in range(rounds):
        weight = 1.0 / terms if number < len(chunks) else 0.0
        with synchronized(network, number == rounds - 1):
            packed = pack(chunks[min(number, len(chunks) - 1)], processes.device)
            part = network(packed) * weight
            (part * processes.world_size).backward()  # gradients are averaged over processes
        total += part.detach()
    return Loss(processes.sum(total)[0])


def _embedding_gradient(
    network: nn.Module,
    objective: EmbeddingObjective,
    chunks: list[list[Example]],
    rows: np.ndarray,
    processes: Processes,
) -> Loss:
    packed = [pack(chunk, processes.device) for chunk in chunks]
    rounds = processes.max(len(chunks))
    with torch.set_grad_enabled(rounds == 1):
        outputs = [network(packed[min(n, len(packed) - 1)]) for n in range(rounds)]
    outputs = outputs[: len(packed)]
    keys = torch.tensor([key for chunk in chunks for e in chunk for key in e.keys])
    sizes = torch.cat([part.spans.diff().to(torch.int64) for part in packed])
    vectors, order, own = _gather(torch.cat(outputs).detach(), keys, processes)
    all_keys = processes.gather(keys.to(processes.device)).cpu()[order]
    all_sizes = processes.gather(sizes).cpu()[order]
    vectors.requires_grad_()
    loss = objective.batch_loss(vectors, all_keys.numpy(), all_sizes.numpy(), rows)
    (gradient,) = torch.autograd.grad(loss.total, vectors)
    gradient = gradient[own.to(gradient.device)] * processes.world_size
    loss.total = loss.total.detach()
    for number in range(rounds):
        with synchronized(network, number == rounds - 1):
            output = outputs[0] if rounds == 1 else network(packed[min(number, len(packed) - 1)])
            if number < len(packed):
                share, gradient = gradient[: len(output)], gradient[len(output) :]
            else:
                share = torch.zeros_like(output)
            torch.autograd.backward(output, share)
    return loss


def _gather(vectors: Tensor, keys: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of all processes in the order of their keys, that order, and our indices in it."""
    gathered = processes.gather(vectors)
    everyone = processes.gather(keys.to(processes.device)).cpu()
    order = everyone.argsort(stable=True)
    own = torch.searchsorted(everyone[order], keys)
    return gathered[order.to(gathered.device)], order, own
