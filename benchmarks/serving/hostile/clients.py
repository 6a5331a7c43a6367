"""The hostile clients' own process, so that they take no time from the load generator's."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from multiprocessing.connection import Connection
from types import TracebackType

from benchmarks.serving.hostile.acts import ACTS, PATIENCE_S, Act
from benchmarks.serving.hostile.connections import Grounds

NICENESS = 15
"""Of the process: clients elsewhere would take no time of the server's processors."""
Answers = dict[str, dict[str, int]]
"""How often the server gave which answer, by act."""


class HostileClients:
    """All hostile clients at once, from ``__enter__`` until ``end``."""

    def __init__(self, grounds: Grounds) -> None:
        """Prepare a process; it starts on ``__enter__``."""
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(grounds, theirs), daemon=True)

    def __enter__(self) -> HostileClients:
        """Start."""
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, whatever its clients do."""
        self._process.kill()
        self._process.join()

    def answers(self) -> Answers:
        """The answers so far.

        Raises:
            TimeoutError: The clients' process does not say.
        """
        self._ours.send("answers")
        if not self._ours.poll(PATIENCE_S):
            raise TimeoutError("the hostile clients do not answer")
        found: Answers = self._ours.recv()
        return found


def _main(grounds: Grounds, wanted: Connection) -> None:
    os.nice(NICENESS)
    asyncio.run(_run(grounds, wanted))


async def _run(grounds: Grounds, wanted: Connection) -> None:
    counts = {act.name: Counter[str]() for act in ACTS}
    clients = [asyncio.create_task(_repeat(act, grounds, counts[act.name])) for act in ACTS]
    while True:
        await asyncio.to_thread(wanted.recv)
        for client in clients:
            if client.done():
                client.result()
        wanted.send({name: dict(found) for name, found in counts.items()})


async def _repeat(act: Act, grounds: Grounds, counts: Counter[str]) -> None:
    """Act for ever; whatever ends an act is counted, by its name, which no act wants."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE_S):
                counts.update(await act.run(grounds))
        except TimeoutError:
            counts["no answer"] += 1
        except Exception as error:
            counts[type(error).__name__] += 1
        await asyncio.sleep(act.every_s)
