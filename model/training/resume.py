"""The state that a run resumes from: weights, averages, moments and counters. Never pickle.

Everything random and the order of the data are functions of the number of updates. Weights of a
sharded run are gathered, so that another number of processes may resume it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from osa.model import processor
from osa.model.checkpoint import atomic_directory
from osa.model.errors import CheckpointError
from osa.model.training.updates.optimizer import AveragedWeights

TENSORS, PROGRESS = "state.safetensors", "progress.json"
ENVIRONMENT = "arithmetic"
FULL = StateDictOptions(full_state_dict=True)


@dataclass
class Counters:
    """Progress of a run.

    Attributes:
        step: Updates done, skipped ones included.
        tokens: Tokens trained on.
        skipped: Updates skipped because the loss or the gradient was not finite.
        skipped_in_a_row: Length of the run of skipped updates that the last update ends.
    """

    step: int = 0
    tokens: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


def collect_state(
    network: nn.Module, optimizer: Optimizer, average: AveragedWeights | None
) -> dict[str, Tensor]:
    """All tensors of a run by name, gathered in every process; called by every process."""
    tensors: dict[str, Any] = {}
    for name, tensor in get_model_state_dict(network, options=FULL).items():
        tensors[f"weight/{name}"] = tensor
    if average is not None:
        average.swap(network)
        averaged: dict[str, Any] = get_model_state_dict(network, options=FULL)
        tensors |= {f"average/{name}": tensor.clone() for name, tensor in averaged.items()}
        average.swap(network)
    moments: dict[str, Any] = get_optimizer_state_dict(network, optimizer, options=FULL)
    for name, fields in moments["state"].items():
        tensors |= {f"moment/{name}.{field}": tensor for field, tensor in fields.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def numerical_environment() -> dict[str, str]:
    """What the bits of an update depend on besides settings, data and number of processes."""
    return {
        **processor.arithmetic(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def environment_differences(directory: Path) -> list[str]:
    """Differences from the environment that saved the state, in words; none if it has no record."""
    try:
        saved = json.loads((directory / PROGRESS).read_text(encoding="utf-8"))[ENVIRONMENT]
    except (OSError, ValueError, KeyError):
        return []
    now = numerical_environment()
    return [
        f"{name} {now[name]}, was {saved[name]}"
        for name in now
        if name in saved and saved[name] != now[name]
    ]


def save_state(
    directory: Path,
    tensors: dict[str, Tensor],
    counters: Counters,
    identity: str,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write the state atomically, replacing the previous one.

    Args:
        directory: Directory of the state.
        tensors: Result of ``collect_state``.
        counters: Progress of the run.
        identity: Digest of settings, data and teacher.
        more: Contents of further files by name.
    """
    with atomic_directory(directory, PROGRESS) as staging:
        for name, content in (more or {}).items():
            (staging / name).write_text(content, encoding="utf-8")
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, staging / TENSORS)
        progress = {**asdict(counters), "identity": identity, ENVIRONMENT: numerical_environment()}
        (staging / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")


def load_state(
    directory: Path,
    network: nn.Module,
    optimizer: Optimizer,
    average: AveragedWeights | None,
    identity: str,
) -> Counters:
    """Restore what ``save_state`` wrote.

    Args:
        directory: Directory of the state.
        network: Receives the weights.
        optimizer: Receives the moments.
        average: Receives the averaged weights; None if the run has none.
        identity: Digest of settings, data and teacher; must equal the saved one.

    Raises:
        CheckpointError: The state is missing, damaged, or that of another run.
    """
    try:
        progress = json.loads((directory / PROGRESS).read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSORS)
        saved = str(progress.pop("identity"))
        progress.pop(ENVIRONMENT, None)
        counters = Counters(**{name: int(value) for name, value in progress.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{directory} holds no training state: {error}") from error
    if saved != identity:
        raise CheckpointError(
            f"{directory} belongs to other settings, data or another teacher (identity "
            f"{saved[:12]}, this run has {identity[:12]}): resume as it was, or choose another "
            "--output"
        )
    parts: dict[str, dict[str, Any]] = {"weight": {}, "average": {}, "moment": {}}
    try:
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = tensor
        if average is not None:
            set_model_state_dict(network, parts["average"], options=FULL)
            average.swap(network)
        set_model_state_dict(network, parts["weight"], options=FULL)
        moments: dict[str, Any] = get_optimizer_state_dict(network, optimizer, options=FULL)
        moments["state"] = {}
        for name, tensor in parts["moment"].items():
            parameter, _, field = name.rpartition(".")
            moments["state"].setdefault(parameter, {})[field] = tensor
        set_optimizer_state_dict(network, optimizer, moments, options=FULL)
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{directory / TENSORS} does not fit the model: {error}") from error
    return counters


@torch.no_grad()
def copy_weights(target: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the weights of ``collect_state``, the averaged ones if there are any, into a network."""
    kind = "average/" if any(name.startswith("average/") for name in tensors) else "weight/"
    state = {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}
    target.load_state_dict(state, strict=True)
