"""``osa embed`` as a process: killed at any time, it keeps all finished windows."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from osa.model import EmbeddingModel
from tests.conftest import PATIENCE_S, wait_until
from tests.server_process import INTERRUPTIBLE

OSA = [*INTERRUPTIBLE, "embed"]
COUNT, SENT, ROWS = 1500, 1400, 50


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    words = ["the", "price", "of", "rice", "rose", "while", "a", "small", "cat", "slept"]
    generator = np.random.default_rng(0)
    file = tmp_path / "texts.jsonl"
    with file.open("w") as out:
        for number in range(COUNT):
            length = int(generator.integers(1, 60))
            text = " ".join(generator.choice(words, length))
            out.write(json.dumps({"id": number, "text": text}) + "\n")
    return file


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [*OSA, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [*OSA, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE_S)


def send(process: subprocess.Popen[bytes], lines: list[bytes]) -> None:
    """Give it these lines; it waits for more, so it cannot end before a signal comes."""
    assert process.stdin is not None
    process.stdin.write(b"".join(lines))
    process.stdin.flush()


def test_a_run_that_is_stopped_and_killed_goes_on_where_it_was(texts: Path, tmp_path: Path) -> None:
    output, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    partial = tmp_path / "out.parquet.partial"
    arguments = ["-", "--format", "jsonl", "--output", output, "--rows-per-group", ROWS]
    lines = texts.read_bytes().splitlines(keepends=True)

    def finished() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in partial.glob("part-*.parquet")}

    stopped = start(*arguments)
    send(stopped, lines[:SENT])
    wait_until(lambda: stopped.poll() is not None or len(finished()) >= 1)
    stopped.send_signal(signal.SIGINT)
    _, errors = stopped.communicate(timeout=PATIENCE_S)
    assert stopped.returncode == 1
    assert b"--resume goes on" in errors
    assert b"Traceback" not in errors
    first = finished()

    killed = start(*arguments, "--resume")
    send(killed, lines[:SENT])
    wait_until(lambda: killed.poll() is not None or len(finished()) >= len(first) + 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    second = finished()
    assert first.items() <= second.items(), "what is finished is not computed again"
    assert len(second) < COUNT // ROWS

    assert run(*arguments, "--resume", stdin=b"".join(lines)).returncode == 0
    assert not partial.exists()
    assert run(texts, "--output", whole, "--batch-tokens", 2000).returncode == 0
    resumed, at_once = pq.read_table(output), pq.read_table(whole)
    assert resumed.equals(at_once), "the same bits, whatever the batches"
    assert resumed.column("id").to_pylist() == list(range(COUNT))


def test_standard_input_is_read_and_resumed_too(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("a cat", "a dog", "rain"))
    arguments = ["-", "--format", "jsonl", "--output", output, "--rows-per-group", 1]
    arguments += ["--set", "model.dtype=float32"]
    bad = run(*arguments, stdin=(lines + "{\n").encode())
    assert bad.returncode == 1
    assert b"/dev/stdin:4: is not JSON" in bad.stderr
    assert len(list((tmp_path / "out.parquet.partial").glob("part-*"))) == 3
    assert run(*arguments, "--resume", stdin=lines.encode()).returncode == 0
    column = pq.read_table(output).column("embedding").combine_chunks()
    found = np.array(column.to_pylist(), np.float32)
    expected = EmbeddingModel.from_pretrained().encode(["a cat", "a dog", "rain"])
    assert np.allclose(found, np.asarray(expected), atol=1e-6)
