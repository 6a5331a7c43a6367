"""AdamW with decay groups, and the rate of each update."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from osa.model.training.config import OptimizerSection


def build_optimizer(model: nn.Module, config: OptimizerSection) -> AdamW:
    """Group parameters: matrices decay; embeddings, gains and angles do not."""
    groups: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "gain": [], "alpha": []}
    for name, parameter in model.named_parameters():
        if name.endswith(".alpha"):
            groups["alpha"].append(parameter)
        elif name.startswith(("encoder.embed.", "encoder.positions.")):
            groups["embedding"].append(parameter)
        else:
            groups["gain" if parameter.dim() < 2 else "matrix"].append(parameter)
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
