"""The objectives behind ``osa train``."""

from __future__ import annotations

from osa.model.training.objectives.base import EmbeddingObjective, Loss, Objective, TokenObjective

__all__ = ["EmbeddingObjective", "Loss", "Objective", "TokenObjective"]
