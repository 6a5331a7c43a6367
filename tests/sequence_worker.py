"""One of several processes that share a sequence: ``torchrun -m tests.sequence_worker OUTPUT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig
from osa.model.streaming.parallel import SequenceGroup, embed_part, encode_part
from osa.model.training.distributed import process_group

LENGTHS = (3000, 20_001)
TINY = 258
"""Tokens of a sequence of which four processes have none, 256, none and 2."""
COMPLETED: dict[str, Any] = {"osa_pool": True, "osa_taps": 3, "osa_gate": True}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"center": True, "pooling": "last", "embedding_size": 8},
    {**COMPLETED, "pooling": "weighted", "positions": "learned", "position_rows": 100},
)


def make_model(number: int) -> EmbeddingModel:
    config = EncoderConfig.from_dict(
        {
            "vocab_size": 50,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "ffn_size": 48,
            "alpha_init": 0.5,
            "max_seq_len": 1 << 20,
            **OPTIONS[number],
        }
    )
    random = torch.Generator().manual_seed(0)
    model = EmbeddingModel(config, generator=random)
    for name, parameter in model.named_parameters():
        if ".completion." in name or ".side." in name:  # which change nothing at the start
            parameter.data.normal_(0.0, 0.5, generator=random)
    return model


def ids_of(length: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 50, length))


def loss_of(vector: Tensor) -> Tensor:
    return (vector.flatten() * torch.arange(vector.numel(), dtype=vector.dtype)).sum()


class Shared(nn.Module):
    """The model on this process's part, as training has it."""

    def __init__(self, model: EmbeddingModel, group: SequenceGroup) -> None:
        super().__init__()
        self.model, self.group = model, group

    def forward(self, ids: Tensor) -> Tensor:
        first, stop = self.group.part(len(ids))
        return embed_part(self.model, ids[first:stop], first, len(ids), self.group).embeddings


def gradients(model: nn.Module) -> np.ndarray:
    grads = [part.grad for part in model.parameters() if part.grad is not None]
    return np.concatenate([grad.flatten().numpy() for grad in grads])


def main(output: Path) -> None:
    with process_group() as processes:
        found: dict[str, Any] = {}
        for number in range(len(OPTIONS)):
            for length in (*LENGTHS, TINY):
                group, ids = SequenceGroup(), ids_of(length)
                first, stop = group.part(length)
                model = make_model(number).eval()
                vector = encode_part(model, ids[first:stop], first, length, group)
                found[f"vector {number} {length}"] = vector.numpy()
                found[f"messages {number} {length}"] = np.array(group.messages)
            shared = Shared(make_model(number).double(), SequenceGroup())
            network = shared if processes.world_size == 1 else DistributedDataParallel(shared)
            for length in (LENGTHS[0], TINY):
                network.zero_grad()
                loss_of(network(ids_of(length))).backward()
                found[f"gradient {number} {length}"] = gradients(shared.model)
        if processes.is_main:
            np.savez(output, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
