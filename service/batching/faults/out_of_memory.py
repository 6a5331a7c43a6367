"""Batches that do not fit in memory: recognised, and avoided from then on."""

from __future__ import annotations

import gc
import math

import torch

PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "cublas_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusparse_status_insufficient_resources",
)
"""In lower case; CUDA's libraries allocate workspaces of their own, and have no type for that."""
RECOVERY_BATCHES, RECOVERY = 64, 1.1
"""After this many batches that fitted, the limit grows by this factor."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may succeed where this one failed.

    torch raises a type of its own for CUDA, and a ``RuntimeError`` with a message on CPUs; ONNX
    Runtime and AOTInductor have messages alone.
    """
    if _is_memory(error):
        return True
    text = str(error).lower()
    return _is_memory(error.__cause__) or any(phrase in text for phrase in PHRASES)


def _is_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError)


def release_memory() -> None:
    """Return cached device memory to the driver, and that of exceptions that hold each other."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class MemoryLimit:
    """Largest batch that fits in memory, learned from those that did not.

    Attributes:
        tokens: The limit now [tokens].
    """

    def __init__(self, most: int, recovery_batches: int = RECOVERY_BATCHES) -> None:
        """Start at ``most``, which the limit never exceeds [tokens].

        It grows after every ``recovery_batches`` that fitted.
        """
        self.tokens = self._most = most
        self._recovery_batches, self._fitted = recovery_batches, 0

    def fitted(self) -> None:
        """Note a batch that fitted."""
        self._fitted += 1
        if self._fitted % self._recovery_batches == 0:
            self.tokens = min(math.ceil(self.tokens * RECOVERY), self._most)

    def exceeded(self, tokens: int) -> None:
        """Note a batch of ``tokens`` that did not fit: half of it from now on."""
        self._fitted = 0
        self.tokens = max(1, min(self.tokens, tokens // 2))
