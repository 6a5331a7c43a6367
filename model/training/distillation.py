"""Distillation of a sentence encoder: the student gives the teacher's vectors and similarities.

    loss = mean(1 - cos(s_i, t_i)) + w * mean over widths k of mean((s_i . s_j)_k - t_i . t_j)^2

The similarities of leading widths k are held to the teacher's full ones, which makes shorter
vectors meaningful (Matryoshka, arXiv:2205.13147).

Shapes: S sequences of a batch, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.errors import ConfigError


def principal_rotation(vectors: np.ndarray, sample: int = 50000) -> Float[Tensor, "E E"]:
    """Orthogonal matrix whose columns are the principal axes of ``vectors``, largest first."""
    block = torch.from_numpy(np.asarray(vectors[:sample], dtype=np.float64))
    _, axes = torch.linalg.eigh(block.T @ block)
    axes = axes.flip(-1)
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    rotation: Tensor = (axes * signs).float()
    return rotation


def distillation_loss(
    student: Float[Tensor, "S E"],
    teacher: Float[Tensor, "S E"],
    similarity_weight: float,
    widths: Sequence[int],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss and its cosine part; both inputs hold unit vectors.

    Raises:
        ConfigError: Student and teacher differ in width.
    """
    if student.shape != teacher.shape:
        raise ConfigError(
            f"the student gives {student.shape[1]} dimensions, the teacher {teacher.shape[1]}: "
            "set model.embedding_size"
        )
    cosine = (1.0 - (student * teacher).sum(-1)).mean()
    target = teacher @ teacher.T
    gaps = []
    for width in widths:
        part = F.normalize(student[:, :width], dim=-1)
        gaps.append((part @ part.T - target).square().mean())
    return cosine + similarity_weight * torch.stack(gaps).mean(), cosine
