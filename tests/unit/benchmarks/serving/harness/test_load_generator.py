"""The load generator, against a server whose answers each test chooses."""

from __future__ import annotations

import asyncio

import numpy as np

from benchmarks.serving.harness.connection import Request
from benchmarks.serving.harness.load_generator import (
    Target,
    Verdict,
    abandon,
    closed_loop,
    open_loop,
    poisson_arrivals,
)
from tests.unit.benchmarks.serving.harness.conftest import answer, run, serving


def target(port: int) -> Target:
    """Sends a text's place; right is the same place back."""
    return Target(
        port,
        lambda text: Request("/echo", str(text).encode()),
        lambda text, body: body == str(text).encode(),
    )


def test_every_way_to_end_has_its_verdict() -> None:
    verdicts: list[Verdict] = ["right", "wrong", "refused", "failed", "lost", "late"]

    async def test() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            replies = {
                "right": answer(body),
                "wrong": answer(b"another text's"),
                "refused": answer(b"", 429, b"Retry-After: 1"),
                "failed": answer(b"", 500),
            }
            match verdicts[int(body)]:
                case "lost":
                    writer.close()
                case "late":
                    pass
                case verdict:
                    writer.write(replies[verdict])

        async with serving(handle) as server:
            texts = range(len(verdicts))
            load = await open_loop(target(server.port), texts, [0.0] * len(verdicts), 0.5)
        found = {outcome.text: outcome for outcome in load.outcomes}
        assert [found[text].verdict for text in texts] == verdicts
        assert found[2].status == 429
        assert found[2].retry_after
        assert not found[3].retry_after
        assert len(load.latencies_s()) == 1

    run(test())


def test_an_open_loop_does_not_wait_for_answers() -> None:
    async def test() -> None:
        waiting, all_there = 0, asyncio.Event()

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 5:
                all_there.set()
            await all_there.wait()  # nobody is answered before the last has come
            writer.write(answer(body))

        async with serving(handle) as server:
            load = await open_loop(target(server.port), range(5), [0.0, 0.01, 0.02, 0.03, 0.04], 20)
        assert load.count("right") == 5

    run(test())


def test_a_closed_loop_never_has_more_open_than_clients() -> None:
    async def test() -> None:
        open_now = most = 0

        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.005)
            open_now -= 1
            writer.write(answer(body))

        async with serving(handle) as server:
            load = await closed_loop(target(server.port), range(7), 3, 0.2)
        assert most == 3
        assert {outcome.text for outcome in load.outcomes} == set(range(7))
        assert load.count("right") == len(load.outcomes)

    run(test())


def test_abandoning_closes_what_is_open_and_counts_what_was_answered() -> None:
    async def test() -> None:
        async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
            if int(body) < 2:
                writer.write(answer(body))

        async with serving(handle) as server:
            assert await abandon(target(server.port), range(6), 0.3) == 2
            while server.ended < 6:
                await asyncio.sleep(0.005)

    run(test())


def test_arrivals_are_a_seeded_poisson_process() -> None:
    times = poisson_arrivals(50.0, 200.0, seed=3)
    gaps = np.diff(times)
    assert times == poisson_arrivals(50.0, 200.0, seed=3)
    assert times != poisson_arrivals(50.0, 200.0, seed=4)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 200
    assert abs(len(times) - 10_000) < 400  # four standard deviations
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05  # exponential: as wide as its mean
