"""What an engine's exception means: too little memory, a bad input, or a broken engine."""

from __future__ import annotations

import torch

MEMORY_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may succeed where this one failed.

    torch has a type for CUDA, and says it in words on CPUs; ONNX Runtime and AOTInductor say it in
    words everywhere.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error.__cause__, MemoryError) or any(
        phrase in text for phrase in MEMORY_PHRASES
    )


def release_memory() -> None:
    """Give cached device memory back after a batch that did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
