"""What an engine computes before it is served: everything that is slow the first time."""

from __future__ import annotations

import logging
import time

from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.faults.out_of_memory import is_out_of_memory, release_memory
from osa.service.engines.base import Engine, trial_batch, warm_up_batch
from osa.service.engines.trial import try_engine

logger = logging.getLogger(__name__)


def warm_up(engine: Engine, queue: BatchQueue) -> tuple[int, float]:
    """Warm up and try, on a device of its own to the largest batch, then measure one.

    Args:
        engine: Just opened.
        queue: Says how large batches may be, and learns which do not fit in memory.

    Returns:
        Tokens of the measured batch, and its duration [s].

    Raises:
        ConfigError: As ``try_engine``.
        OsaError: Not even the smallest batch can be computed.
    """
    engine.warm_up()
    try_engine(engine)
    if engine.info.device != "cpu":
        engine.embed(warm_up_batch(engine.info), exact=True)  # the kernels of a retry in float32
        try_largest(engine, queue)
    batch = warm_up_batch(engine.info)
    started = time.monotonic()
    engine.embed(batch)
    return sum(map(len, batch)), time.monotonic() - started


def try_largest(engine: Engine, queue: BatchQueue) -> None:
    """Compute the largest batches, of long sequences and of short ones, until they fit in memory.

    Args:
        engine: Warmed up.
        queue: Its memory limit is halved until a batch fits.

    Raises:
        OsaError: The engine fails in another way, or on a batch of one token.
    """
    info = engine.info
    for shortest in (info.max_input_length, -(-queue.max_batch_tokens // queue.max_batch_items)):
        while True:
            tokens = queue.memory_limit.tokens
            length = min(tokens, shortest, info.max_input_length)
            batch = trial_batch(info, (length,) * max(1, tokens // length))
            if _fits(engine, batch, tokens):
                break
            release_memory()
            logger.warning("the largest batch does not fit in memory", extra={"tokens": tokens})
            queue.memory_limit.exceeded(tokens)


def _fits(engine: Engine, batch: object, tokens: int) -> bool:
    try:
        engine.embed(batch)  # type: ignore[arg-type]  # of trial_batch
    except Exception as error:  # engines raise what their libraries raise
        if tokens == 1 or not is_out_of_memory(error):
            raise
        return False
    return True
