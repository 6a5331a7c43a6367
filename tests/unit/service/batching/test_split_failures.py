"""Only the inputs at fault fail, and batches that do not fit in memory are made smaller."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from osa.export.errors import ExportError
from osa.model.sequences import InputRows
from osa.service.batching.faults.device_faults import device_fault
from osa.service.batching.faults.out_of_memory import (
    RECOVERY_BATCHES,
    MemoryLimit,
    is_out_of_memory,
)
from osa.service.batching.faults.split_failures import NonFiniteError, embed_each
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Details, EngineOutput
from osa.service.engines.eager import EagerEngine
from osa.service.errors import BackendError
from tests.engines import POISON, FaultyEngine, How

ITEMS = [WorkItem([2, 4 + n, 3]) for n in range(4)] + [WorkItem([2, POISON, 3])]


def run(engine: FaultyEngine) -> tuple[list[ItemResult], list[int]]:
    too_large: list[int] = []
    return embed_each(lambda: engine, ITEMS, too_large.append), too_large


@pytest.mark.parametrize(
    ("how", "error", "memory"),
    [
        ("raise", BackendError, []),
        ("memory", BackendError, [15, 9, 6, 3]),
        ("nan", NonFiniteError, []),
    ],
)
def test_one_input_fails_as_it_does_alone(
    how: How, error: type[BackendError], memory: list[int], tiny_checkpoint: Path
) -> None:
    results, too_large = run(FaultyEngine(tiny_checkpoint, how))
    *fine, failed = results
    assert [result.error for result in fine] == [None] * 4
    assert type(failed.error) is error
    assert too_large == memory, "every attempt that ran out of memory is reported"


def test_an_engine_that_was_given_up_is_not_tried_again() -> None:
    calls = []

    def gone() -> FaultyEngine:
        calls.append(1)
        raise BackendError("the engine was given up")

    results = embed_each(gone, ITEMS, lambda tokens: None)
    assert [str(result.error) for result in results] == ["the engine was given up"] * len(ITEMS)
    assert len(calls) == 1


def test_a_limit_is_halved_and_recovers() -> None:
    limit = MemoryLimit(1000)
    limit.exceeded(800)
    assert limit.tokens == 400
    limit.exceeded(3)
    assert limit.tokens == 1
    for _ in range(200 * RECOVERY_BATCHES):
        limit.fitted()
    assert limit.tokens == 1000


MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)


def test_memory_is_told_from_other_failures() -> None:
    assert all(is_out_of_memory(RuntimeError(text)) for text in MEMORY)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("illegal instruction"))


class HoardingEngine(EagerEngine):
    """The real engine; a batch of several raises, with what it has allocated in its frame."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "cpu")
        self.held: list[weakref.ref[torch.Tensor]] = []
        self.alive: list[bool] = []

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        self.alive += [reference() is not None for reference in self.held]
        activations = torch.zeros(8)
        self.held.append(weakref.ref(activations))
        if len(sequences) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().embed(sequences, details, exact)


def test_a_batch_that_did_not_fit_is_let_go_before_its_halves_run(tiny_checkpoint: Path) -> None:
    engine = HoardingEngine(tiny_checkpoint)
    results = embed_each(lambda: engine, ITEMS[:4], lambda tokens: None)
    assert [result.error for result in results] == [None] * 4
    assert len(engine.held) == 7
    assert not any(engine.alive)


FAULTS = (
    "CUDA error: an illegal memory access was encountered\nSearch for cudaErrorIllegalAddress",
    "Triton Error [CUDA]: misaligned address",
    "ONNX Runtime failed: CUDA failure 214: uncorrectable ECC error encountered ; GPU=0",
    "CUDA error: device-side assert triggered",
    "CUDA error: unspecified launch failure",
)


@pytest.mark.parametrize("text", FAULTS)
def test_a_broken_context_is_told_from_bad_inputs(text: str) -> None:
    assert device_fault(RuntimeError(text))
    outer = ExportError("the compiled graph failed")
    outer.__cause__ = RuntimeError(text)
    assert device_fault(outer)


def test_other_failures_do_not_break_the_device() -> None:
    texts = (*MEMORY, "CUDA error: invalid configuration argument", "CUDA error: invalid argument")
    assert not any(device_fault(RuntimeError(text)) for text in texts)
    numbered = RuntimeError("CUDA error")
    numbered.error_code = 719  # type: ignore[attr-defined]  # as torch.AcceleratorError has it
    assert device_fault(numbered) == "cudaErrorLaunchFailure"
