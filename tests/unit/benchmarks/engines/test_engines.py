"""Encoders alone: a worker answers with CPU time, and the tables are those of its answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.engines.__main__ import BATCHES, Worker, main, measure, render
from benchmarks.engines.contenders import CONTENDERS
from benchmarks.serving.peers.environments import PeerUnavailable
from osa.model.common.directories import PRETRAINED

PYTHON = Path(sys.executable)


def test_ours_and_each_runtime_are_compared_in_every_dtype() -> None:
    assert {"osa-int8", "minilm-bfloat16", "openvino-int8", "torch-float32"} <= set(CONTENDERS)
    for contender in CONTENDERS.values():
        assert contender.is_ours == (contender.peer is None)


def test_a_worker_that_fails_is_told_of(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BATCHES, "two", [3, 5])
    for name in [name for name in BATCHES if name != "two"]:
        monkeypatch.delitem(BATCHES, name)
    worker = Worker(CONTENDERS["osa-float32"], PYTHON, tiny_checkpoint, threads=1)
    try:
        worker.wait()
        with pytest.raises(PeerUnavailable, match="osa-float32 ended with 1"):
            worker.cpu_s([3, 5], 2)  # ids beyond a vocabulary of 12 tokens
    finally:
        worker.end()


def test_a_worker_that_cannot_start_is_told_of(tmp_path: Path) -> None:
    worker = Worker(CONTENDERS["osa-float32"], PYTHON, tmp_path / "nothing", threads=1)
    try:
        with pytest.raises(PeerUnavailable, match="osa-float32 ended with 1"):
            worker.wait()
    finally:
        worker.end()


@pytest.mark.parametrize("name", ["osa-int8", "minilm-float32"])
def test_medians_of_rounds_are_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in [batch for batch in BATCHES if batch != "1 x 32"]:
        monkeypatch.delitem(BATCHES, batch)
    worker = Worker(CONTENDERS[name], PYTHON, PRETRAINED, threads=1)
    try:
        worker.wait()
        found = measure([worker], rounds=2)
    finally:
        worker.end()
    assert 0.1 < found["1 x 32"][name] < 1000
    assert f"| {name} | {found['1 x 32'][name]:.2f} |" in render(found)


def test_ratios_are_within_a_dtype() -> None:
    found = {"16 x 32": {"osa-int8": 1.0, "openvino-int8": 2.0, "torch-float32": 8.0}}
    shown = render(found)
    assert "| osa-int8 / openvino-int8 | 0.50 |" in shown
    assert "osa-int8 / torch" not in shown


def test_an_unknown_contender_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--contenders", "osa-int8,tei"])
    assert "got tei" in capsys.readouterr().err
