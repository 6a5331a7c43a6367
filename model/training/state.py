"""What a run needs to go on: weights, moments and the number of updates done. Never pickle."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from osa.model.checkpoint import atomic_directory
from osa.model.errors import CheckpointError

TENSORS, PROGRESS = "state.safetensors", "progress.json"


def save_state(
    directory: Path, model: nn.Module, optimizer: Optimizer, step: int, digest: str
) -> None:
    """Write the state atomically, replacing the previous one.

    Args:
        directory: Where.
        model: Its parameters, in float32.
        optimizer: Its moments.
        step: Updates done.
        digest: Identity of the run: its settings, texts and teacher.
    """
    tensors: dict[str, Tensor] = {
        f"model.{name}": tensor for name, tensor in model.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    with atomic_directory(directory, PROGRESS) as staging:
        contiguous = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(contiguous, staging / TENSORS)
        progress = {"step": step, "config_sha256": digest}
        (staging / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")


def load_state(directory: Path, model: nn.Module, optimizer: Optimizer, digest: str) -> int:
    """Restore what ``save_state`` wrote; returns the number of updates done.

    Raises:
        CheckpointError: The state is missing, damaged, or of another run.
    """
    try:
        progress = json.loads((directory / PROGRESS).read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSORS)
        step, saved = int(progress["step"]), str(progress["config_sha256"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{directory} holds no training state: {error}") from error
    if saved != digest:
        raise CheckpointError(
            f"{directory} belongs to other settings, texts or another teacher (identity "
            f"{saved[:12]}, this run has {digest[:12]}): resume as it was, or choose another "
            "--output"
        )
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
        for name, tensor in parts["optimizer"].items():
            index, _, field = name.partition(".")
            moments.setdefault(int(index), {})[field] = tensor
        model.load_state_dict(parts["model"], strict=True)
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{directory / TENSORS} does not fit the model: {error}") from error
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": moments, "param_groups": current["param_groups"]})
    return step
