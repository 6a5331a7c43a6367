"""Computing a batch so that only the inputs at fault fail. Used by the server and by bulk runs.

A batch that fails is halved until the failing inputs stand alone. A vector that is not finite is
computed once more, alone and in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from osa.service.batching.item import ItemResult, WorkItem
from osa.service.batching.out_of_memory import is_out_of_memory, release_memory
from osa.service.engines.base import Details, Engine, EngineOutput
from osa.service.errors import BackendError

logger = logging.getLogger(__name__)


class NonFiniteError(BackendError):
    """The engine computed a vector that is not finite, even alone and in float32."""


def embed_each(
    engine: Callable[[], Engine],
    items: Sequence[WorkItem],
    out_of_memory: Callable[[int], object],
    exact: bool = False,
) -> list[ItemResult]:
    """Compute a batch; one result for each item, in order.

    Args:
        engine: Called before every attempt; raises ``BackendError`` to give up.
        items: The batch; at least one.
        out_of_memory: Called with the tokens of a batch that did not fit in memory.
        exact: Compute in float32 where the engine can.
    """
    try:
        running = engine()
    except BackendError as error:
        return [ItemResult(error=error) for _ in items]
    try:
        output = _embed(running, items, exact)
    except Exception as error:  # engines raise what their libraries raise
        if is_out_of_memory(error):
            tokens = sum(item.tokens for item in items)
            logger.warning("batch did not fit in memory", extra={"tokens": tokens})
            out_of_memory(tokens)
            release_memory()
        if len(items) == 1:
            logger.warning("engine failed on one input", extra={"kind": type(error).__name__})
            return [ItemResult(error=BackendError("the engine failed on this input"))]
        middle = len(items) // 2
        return [
            result
            for half in (items[:middle], items[middle:])
            for result in embed_each(engine, half, out_of_memory, exact)
        ]
    finite = np.isfinite(output.embeddings).all(axis=1) & np.isfinite(output.norms)
    results = []
    for row, item in enumerate(items):
        if finite[row]:
            results.append(_result(output, row, item))
        elif exact:
            nonfinite = NonFiniteError("the engine gave a vector that is not finite")
            results.append(ItemResult(error=nonfinite))
        else:
            results += embed_each(engine, [item], out_of_memory, exact=True)
    return results


def _embed(engine: Engine, items: Sequence[WorkItem], exact: bool) -> EngineOutput:
    spans, details = [item.spans for item in items], None
    token_vectors = any(item.token_vectors for item in items)
    spanned = any(part is not None for part in spans)
    if token_vectors or spanned:
        details = Details(token_vectors, spans if spanned else None)
    return engine.embed([item.ids for item in items], details, exact)


def _result(output: EngineOutput, row: int, item: WorkItem) -> ItemResult:
    tokens = output.token_vectors if item.token_vectors else None
    spans = output.span_vectors if item.spans is not None else None
    return ItemResult(
        output.embeddings[row],
        float(output.norms[row]),
        None if tokens is None else tokens[row].copy(),  # a view would keep the whole batch alive
        None if spans is None else spans[row],
    )
