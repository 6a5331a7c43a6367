"""``osa embed --on ray``: the file of one process, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import PATIENCE_S, make_tiny_model, wait_until
from tests.ray_cluster import OPEN, Cluster, running_cluster

pytest.importorskip("ray", reason="no Ray here: pip install 'osa-encoder[ray]'")
few_cores = pytest.mark.skipif(
    (os.cpu_count() or 1) < 4 and os.getloadavg()[0] > 1,
    reason="workers that die and start again need four cores, or two that are idle, to be quick",
)
OSA = [sys.executable, "-m", "osa.service.cli", "embed"]
ENVIRONMENT = {**os.environ, **OPEN, "OMP_NUM_THREADS": "1"}
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "a"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny_model().save_pretrained(directory)
    return directory


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 40))) for _ in range(count)]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [*OSA, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*OSA, *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_files_of_every_kind_become_the_file_of_one_process(
    cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    lines = texts(120)
    (tmp_path / "a.jsonl").write_text(
        "".join(
            '{"text": 7}\n' if n % 50 == 49 else json.dumps({"id": n, "text": text}) + "\n"
            for n, text in enumerate(lines)
        )
    )
    (tmp_path / "b.txt").write_bytes("\n".join(lines[:60]).encode() + b"\n\xff\n\nthe cat\n")
    (tmp_path / "c.csv").write_text('text,more\n"a cat\nsat",1\na,b,c\na dog,2\n')
    files = [tmp_path / name for name in ("a.jsonl", "b.txt", "c.csv")]
    common = [*files, "--model", model, "--skip-bad", "--rows-per-group", "16"]
    one = run(*common, "--output", tmp_path / "one.parquet")
    spread = ["--on", "ray", "--ray-address", cluster.address, "--workers", "2"]
    many = run(*common, "--output", tmp_path / "many.parquet", *spread, "--piece-bytes", "2000")
    assert (one.returncode, many.returncode) == (0, 0), many.stderr
    assert pq.read_table(tmp_path / "many.parquet").equals(pq.read_table(tmp_path / "one.parquet"))
    left_out = [
        {line for line in done.stderr.splitlines() if line.startswith("skipped")}
        for done in (one, many)
    ]
    assert left_out[0] == left_out[1]
    assert len(left_out[0]) == 5
    told = [json.loads(done.stdout) | {"output": ""} for done in (one, many)]
    assert told[0] == told[1]
    again = run(*common, "--output", tmp_path / "many.parquet", *spread, "--piece-bytes", "2000",
                "--resume")  # fmt: skip
    assert json.loads(again.stdout) == json.loads(many.stdout), "it is finished: nothing to do"

    strict = run(*common[:3], "--model", model, "--output", tmp_path / "strict.parquet", *spread,
                 "--piece-bytes", "2000")  # fmt: skip
    assert strict.returncode == 1
    assert f"osa: {tmp_path}/" in strict.stderr
    assert "Traceback" not in strict.stderr


def test_several_vectors_a_record_are_those_of_one_process(
    cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n".join(texts(60)) + "\n")
    few = ["--vectors-per-document", "3", "--chunk-tokens", "5", "--rows-per-group", "16"]
    common = [file, "--model", model, *few]
    one = run(*common, "--output", tmp_path / "one.parquet")
    spread = ["--on", "ray", "--ray-address", cluster.address, "--workers", "1"]
    many = run(*common, "--output", tmp_path / "many.parquet", *spread, "--piece-bytes", "2000")
    assert (one.returncode, many.returncode) == (0, 0), many.stderr
    found, wanted = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("many", "one"))
    assert found.equals(wanted)
    assert found.num_rows > 100


@few_cores
def test_a_dead_worker_and_a_dead_driver_cost_what_they_had_begun(
    cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    count = 3000
    rows = pa.table({"id": range(count), "text": texts(count)})
    pq.write_table(rows, tmp_path / "in.parquet", row_group_size=200)
    output, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    partial = tmp_path / "out.parquet.partial"
    common = [tmp_path / "in.parquet", "--model", model, "--rows-per-group", "50"]
    spread: list[object] = ["--on", "ray", "--ray-address", cluster.address, "--workers", "2"]
    spread += ["--piece-bytes", "20000", "--output", output]

    def finished() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in partial.glob("block-*.parquet")}

    driver = start(*common, *spread)
    wait_until(lambda: driver.poll() is not None or len(finished()) >= 3)
    assert len(cluster.workers()) == 2
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=PATIENCE_S)
    assert not output.exists()
    wait_until(lambda: not cluster.workers())  # they end with their driver
    first = finished()
    assert 3 <= len(first) < count // 50

    refused = run(*common, "--output", output, "--resume")
    assert refused.returncode == 2
    assert "was begun with --on ray" in refused.stderr

    driver = start(*common, *spread, "--resume")
    wait_until(lambda: driver.poll() is not None or len(finished()) >= len(first) + 2)
    kept = finished()
    assert first.items() <= kept.items(), "what is finished is not computed again"
    victims = cluster.workers()
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    assert not output.exists(), "the worker died before the end"
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, errors
    assert not partial.exists()
    assert run(*common, "--output", whole).returncode == 0
    assert pq.read_table(output).equals(pq.read_table(whole)), "each record once, the same bits"
    assert pq.read_table(output).column("id").to_pylist() == list(range(count))


@few_cores
def test_readers_wait_for_workers_so_a_store_holds_inputs_of_any_size(
    cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    """Three times the store, in other columns; nothing goes to disk."""
    generator = np.random.default_rng(0)
    blobs = [generator.bytes(1 << 20) for _ in range(240)]
    pq.write_table(
        pa.table({"text": texts(240), "blob": blobs}), tmp_path / "in.parquet", row_group_size=8
    )
    arguments = [tmp_path / "in.parquet", "--model", model, "--window-bytes", 4 << 20]
    arguments += ["--output", tmp_path / "out.parquet", "--piece-bytes", 8 << 20]
    done = run(*arguments, "--on", "ray", "--ray-address", cluster.address, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert cluster.spilled() == []
    assert pq.read_table(tmp_path / "out.parquet", columns=["blob"]).column(0).to_pylist() == blobs
