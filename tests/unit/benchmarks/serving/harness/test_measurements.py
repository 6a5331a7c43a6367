"""Load generator and measurements on this project's server, in a real process."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from benchmarks.serving.harness.corpus import MIXED, Corpus, make_texts
from benchmarks.serving.harness.launcher import run_server
from benchmarks.serving.harness.load_generator import closed_loop
from benchmarks.serving.harness.measurements import (
    measure_abandoned,
    measure_batch_invariance,
    measure_goodput,
)
from benchmarks.serving.harness.system_under_test import SystemUnderTest
from benchmarks.serving.peers import PEERS
from tests.conftest import make_tiny_model
from tests.unit.benchmarks.serving.harness.conftest import make_launch

TEXTS = 192
PEER = PEERS["osa-float32"]


def make_corpus(folder: Path) -> Corpus:
    """Texts of 4 to 9 words, and what the model says of them."""
    model = make_tiny_model()
    model.save_pretrained(folder)
    words = ["the", "cat", "dog", "sat", "ran", "mat"]
    lengths = [6 + row % 6 for row in range(TEXTS)]
    # texts of the same words in another order may be too alike to be told apart
    texts = dict.fromkeys(make_texts(words, lengths, seed=0))
    vectors = model.encode(list(texts)).numpy()
    kept: list[int] = []
    for row in range(len(texts)):
        if all(abs(vectors[row] - vectors[other]).max() > 1e-3 for other in kept):
            kept.append(row)
    every = list(texts)
    return Corpus([every[row] for row in kept], [0] * len(kept), vectors[kept])


def test_every_answer_of_our_server_is_checked_and_right(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    corpus = make_corpus(checkpoint)
    assert len(corpus.texts) > 20
    with run_server(PEER, make_launch(tmp_path), tmp_path / "server.log") as server:
        assert server.cold_start_s > 0
        assert server.cold_start_cpu_s > 0
        system = SystemUnderTest(server, {MIXED: corpus})
        load = asyncio.run(closed_loop(system.target(MIXED), system.texts(MIXED), 8, 0.5))
        assert load.count("right") == len(load.outcomes) >= 8
        assert system.largest_error < 1e-4

        moved = dataclasses.replace(corpus, vectors=corpus.vectors[::-1].copy())
        wrong = SystemUnderTest(server, {MIXED: moved})
        load = asyncio.run(closed_loop(wrong.target(MIXED), wrong.texts(MIXED), 8, 0.2))
        assert load.count("wrong") >= len(load.outcomes) - len(load.outcomes) // 10

        good = measure_goodput(system, 40.0, 0.5, 1.0, 10.0)
        assert good.statuses == {"200": good.verdicts["right"]}
        assert measure_batch_invariance(system, 16, 2) == 0
        assert measure_abandoned(system, MIXED) >= 0
        assert server.tree.memory_bytes()[0] > 1e6
    assert server.tree.processes() == []
