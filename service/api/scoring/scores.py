"""From logits to scores. Pure functions of one input's logits, so that its bits are its own.

Computed in float64 with the functions of ``math``, number by number: vectorised exponentials may
differ in their last bits with the place of an element in an array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0.0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities of labels that exclude each other."""
    largest = max(logits)
    powers = [math.exp(logit - largest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


def label_scores(logits: np.ndarray, rule: str, raw: bool) -> np.ndarray:
    """Scores of one input's labels, float32 [K].

    Args:
        logits: Float32 [K].
        rule: ``sigmoid`` of each, or ``softmax`` over all.
        raw: Return the logits.
    """
    if raw:
        return logits
    values: list[float] = logits.tolist()
    scores = softmax(values) if rule == "softmax" else list(map(sigmoid, values))
    return np.array(scores, dtype=np.float32)


def descending(scores: np.ndarray) -> list[int]:
    """Places of scores [n] from the largest down; of equal ones the first is first."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order
