"""The objectives behind ``osa train``, and how each is made of a configuration."""

from __future__ import annotations

from osa.model.training.objectives.base import (
    EmbeddingObjective,
    Example,
    Loss,
    Objective,
    Packed,
    TokenObjective,
)

__all__ = ["EmbeddingObjective", "Example", "Loss", "Objective", "Packed", "TokenObjective"]
