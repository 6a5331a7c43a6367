"""AdamW with parameter groups, the learning rate schedule, and averaged weights."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.swa_utils import get_ema_multi_avg_fn

from osa.model.training.config import OptimizerSection

TABLES = ("model.encoder.embed.", "model.encoder.positions.", "model.encoder.token_types.")
"""Beginnings of the names of embeddings."""
PROJECTIONS = (".qkv.weight", ".out.weight")
"""Ends of the names of a mixer's matrices."""


def build_optimizer(network: nn.Module, config: OptimizerSection) -> AdamW:
    """AdamW with weight decay on matrices, not on embeddings, vectors and angles."""
    kinds = ("matrix", "embedding", "vector", "alpha")
    groups = {kind: list[nn.Parameter]() for kind in kinds}
    for name, parameter in network.named_parameters():
        name = name.removeprefix("module.")  # of a replicated network
        if name.endswith(".alpha"):
            groups["alpha"].append(parameter)
        elif name.startswith(TABLES):
            groups["embedding"].append(parameter)
        elif _is_own(name):
            groups["vector"].append(parameter)
        else:
            groups["vector" if parameter.dim() < 2 else "matrix"].append(parameter)
    rates = {"embedding": config.embedding_rate, "alpha": config.alpha_rate}
    return AdamW(
        [
            {
                "params": parameters,
                "peak": rates.get(kind, config.learning_rate),
                "weight_decay": config.weight_decay if kind == "matrix" else 0.0,
            }
            for kind, parameters in groups.items()
            if parameters
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def _is_own(name: str) -> bool:
    """Whether a weight is a mixer's own, beside its projections: kernels, gains and tables."""
    return ".local_conv." in name or (".mixer." in name and not name.endswith(PROJECTIONS))


def rate_share(step: int, config: OptimizerSection) -> float:
    """Rate of update ``step`` (from 0) as a share of the peak."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    low = config.final_share
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rates(optimizer: AdamW, share: float) -> None:
    """Set every group to ``share`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


class AveragedWeights:
    """Exponential moving average of the weights, which is evaluated and saved."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the current weights."""
        self.parameters = [parameter.detach().clone() for parameter in network.parameters()]
        self._update = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Include the current weights in the average."""
        self._update(self.parameters, list(network.parameters()), 1)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange averaged and current weights; a second call undoes it."""
        for average, parameter in zip(self.parameters, network.parameters(), strict=True):
            current = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(current)
