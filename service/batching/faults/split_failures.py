"""Computing a batch so that only the inputs at fault fail. Used by the server and by bulk runs.

A batch that fails is halved until the failing inputs stand alone. A vector that is not finite is
computed once more, alone and in float32. After an error that breaks the device nothing is tried
again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from osa.model.sequences import InputRows
from osa.service.batching.faults.device_faults import device_fault
from osa.service.batching.faults.out_of_memory import is_out_of_memory, release_memory
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Details, Engine, EngineOutput
from osa.service.engines.streaming import Begun
from osa.service.errors import BackendError, DeviceFaultError, ServiceError

logger = logging.getLogger(__name__)


class NonFiniteError(BackendError):
    """The engine computed a vector that is not finite, even alone and in float32."""


@dataclass(frozen=True)
class _Failure:
    """What an engine raised, without the exception, whose frames hold the batch's tensors."""

    kind: str
    memory: bool
    fault: str | None


def embed_each(
    engine: Callable[[], Engine],
    items: Sequence[WorkItem],
    out_of_memory: Callable[[int], object],
    exact: bool = False,
    begun: Begun | None = None,
) -> list[ItemResult]:
    """Compute a batch; one result for each item, in order.

    Args:
        engine: Called before every attempt; raises ``BackendError`` to give up.
        items: The batch; at least one.
        out_of_memory: Called with the tokens of a batch that did not fit in memory.
        exact: Compute in float32 where the engine can.
        begun: The result of the whole batch, where the engine has begun it.
    """
    results: dict[int, ItemResult] = {}
    waiting = [(list(range(len(items))), exact)]
    while waiting:
        places, exactly = waiting.pop()
        part = [items[place] for place in places]
        outcome = _attempt(engine, part, exactly, begun)
        begun = None
        if isinstance(outcome, ServiceError):
            results |= {place: ItemResult(error=outcome.again()) for place in places}
        elif isinstance(outcome, EngineOutput):
            again = _keep(outcome, part, places, exactly, results)
            waiting += [([place], True) for place in reversed(again)]
        elif outcome.fault is not None:
            logger.critical("the device failed", extra={"reason": outcome.fault})
            fault = DeviceFaultError(f"the device failed: {outcome.fault}")
            rest = [place for place in range(len(items)) if place not in results]
            results |= {place: ItemResult(error=fault.again()) for place in rest}
            break
        else:
            waiting += _smaller(outcome, part, places, exactly, out_of_memory, results)
    return [results[place] for place in range(len(items))]


def _attempt(
    engine: Callable[[], Engine], items: Sequence[WorkItem], exact: bool, begun: Begun | None
) -> EngineOutput | ServiceError | _Failure:
    """One call of the engine, or the result of one that was begun.

    When this returns, what was raised is gone, and with it the tensors of the attempt: what follows
    has the memory that it took.
    """
    try:
        running = engine()
    except BackendError as error:
        return error.again()
    try:
        return _embed(running, items, exact) if begun is None else begun.wait()
    except Exception as error:  # engines raise what their libraries raise
        memory = is_out_of_memory(error)
        fault = None if memory else device_fault(error)
        return _Failure(type(error).__name__, memory, fault)


def _smaller(
    failure: _Failure,
    items: Sequence[WorkItem],
    places: list[int],
    exact: bool,
    out_of_memory: Callable[[int], object],
    results: dict[int, ItemResult],
) -> list[tuple[list[int], bool]]:
    """The halves of a batch that failed, the first one last; of one input its error."""
    if failure.memory:
        tokens = sum(item.tokens for item in items)
        logger.warning("batch did not fit in memory", extra={"tokens": tokens})
        out_of_memory(tokens)
        release_memory()
    if len(items) == 1:
        logger.warning("engine failed on one input", extra={"kind": failure.kind})
        results[places[0]] = ItemResult(error=BackendError("the engine failed on this input"))
        return []
    middle = len(places) // 2
    return [(places[middle:], exact), (places[:middle], exact)]


def _keep(
    output: EngineOutput,
    items: Sequence[WorkItem],
    places: list[int],
    exact: bool,
    results: dict[int, ItemResult],
) -> list[int]:
    """Fill in the results of a batch; returns the places to compute in float32."""
    finite = np.isfinite(output.embeddings).all(axis=1) & np.isfinite(output.norms)
    again = []
    for row, (place, item) in enumerate(zip(places, items, strict=True)):
        if finite[row]:
            results[place] = _result(output, row, item)
        elif exact:
            nonfinite = NonFiniteError("the engine gave a vector that is not finite")
            results[place] = ItemResult(error=nonfinite)
        else:
            again.append(place)
    return again


def inputs_of(items: Sequence[WorkItem]) -> tuple[InputRows, Details | None]:
    """What an engine is given to compute a batch: rows, and what is wanted beside vectors."""
    spans, details = [item.spans for item in items], None
    token_vectors = any(item.token_vectors for item in items)
    spanned = any(part is not None for part in spans)
    if token_vectors or spanned:
        details = Details(token_vectors, spans if spanned else None)
    return [item.ids for item in items], details


def _embed(engine: Engine, items: Sequence[WorkItem], exact: bool) -> EngineOutput:
    rows, details = inputs_of(items)
    return engine.embed(rows, details, exact)


def _result(output: EngineOutput, row: int, item: WorkItem) -> ItemResult:
    tokens = output.token_vectors if item.token_vectors else None
    spans = output.span_vectors if item.spans is not None else None
    return ItemResult(
        output.embeddings[row],
        float(output.norms[row]),
        None if tokens is None else tokens[row].copy(),  # a view would keep the whole batch alive
        None if spans is None else spans[row],
    )
