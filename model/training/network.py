"""The network of an update: encoder, head and objective behind one ``forward``.

Under ``torchrun`` it is replicated (``DistributedDataParallel``) or sharded (``fully_shard``).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from osa.model.embedding_model import EmbeddingModel
from osa.model.training.data.batch import PackedBatch
from osa.model.training.distributed import Processes
from osa.model.training.objectives.base import Objective

Parallel = Literal["ddp", "fsdp"]


class Network(nn.Module):
    """Encoder and head, with the objective's ``forward`` on packed sequences."""

    def __init__(
        self, model: EmbeddingModel, head: nn.Module, objective: Objective, bf16: bool
    ) -> None:
        """Join encoder and head.

        Args:
            model: The encoder with pooling.
            head: Weights of the objective.
            objective: Computes the output.
            bf16: Autocast matrix products to bfloat16.
        """
        super().__init__()
        self.model, self.head = model, head
        self.objective, self.bf16 = objective, bf16

    def copy(self) -> Network:
        """A copy with weights of its own."""
        model, head = copy.deepcopy(self.model), copy.deepcopy(self.head)
        return Network(model, head, self.objective, self.bf16)

    def forward(self, packed: PackedBatch) -> Tensor:
        """Vectors, or a sum of terms; see ``Objective.forward``."""
        with torch.autocast(packed.inputs.device.type, torch.bfloat16, enabled=self.bf16):
            return self.objective.forward(self.model, self.head, packed)


def parallelize(network: Network, parallel: Parallel, processes: Processes) -> nn.Module:
    """The network replicated or sharded over the processes; unchanged for one process."""
    network.to(processes.device)
    if processes.world_size == 1:
        return network
    if parallel == "fsdp":
        for block in network.model.encoder.blocks:
            fully_shard(block)
        fully_shard(network)
        return network
    on_gpu = [processes.device.index] if processes.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=on_gpu)


@contextlib.contextmanager
def synchronized(network: nn.Module, now: bool) -> Iterator[None]:
    """Whether a backward pass within the block averages gradients over the processes (``now``)."""
    if isinstance(network, DistributedDataParallel):
        with contextlib.nullcontext() if now else network.no_sync():
            yield
    else:
        if isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(now)
        yield
