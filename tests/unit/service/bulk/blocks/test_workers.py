"""What workers agree on, and when a block is given up."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from osa.model.errors import ConfigError
from osa.service.bulk import options
from osa.service.bulk.blocks.block_store import BlockStore, BlockWriter
from osa.service.bulk.blocks.cluster import Workers, _room
from osa.service.bulk.blocks.workers import Attempts, check_identity


def test_a_block_is_counted_until_it_is_done() -> None:
    attempts = Attempts()
    assert [attempts.begin("a"), attempts.begin("b"), attempts.begin("a")] == [1, 1, 2]
    attempts.end("a")
    assert attempts.begin("a") == 1


def test_workers_that_compute_otherwise_are_refused() -> None:
    one = {"model_sha256": "a", "backend": "eager, native, cpu, float32"}
    check_identity(one, one)
    check_identity(one, None)
    with pytest.raises(
        ConfigError, match="workers differ in backend: one has eager, native, cpu, "
    ):
        check_identity({**one, "backend": "eager, native, cpu, bfloat16"}, one)


def test_as_many_workers_as_there_is_room_for() -> None:
    resources = {"CPU": 9.0, "GPU": 2.0}
    assert _room(resources, Workers(cpus=2), "local") == 4
    assert _room(resources, Workers(cpus=2, gpus=1), "local") == 2
    with pytest.raises(ConfigError, match="a worker takes 16 CPU and 0 GPU"):
        _room(resources, Workers(cpus=16), "local")


def test_blocks_become_one_file_in_the_order_of_their_names(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    store = BlockStore(output, {"model": "a"}, resume=False)
    names = [f"block-000000-{n:06d}-{'0' * 16}.parquet" for n in range(3)]
    for name in reversed(names):
        writer = BlockWriter(store.directory)
        writer.write(name, pa.table({"name": [name]}), {"texts": 1})
        writer.write(name, pa.table({"name": [name]}), {"texts": 1})  # by two workers, the same
    stale = f"block-000000-000001-{'1' * 16}.parquet"
    BlockWriter(store.directory).write(stale, pa.table({"name": ["old"]}), {"texts": 1})
    store.finish(names, pa.schema([("name", pa.string())]), {})
    store.close()
    assert pa.parquet.read_table(output).column("name").to_pylist() == names
    assert list(tmp_path.iterdir()) == [output]


def test_a_worker_that_does_not_see_the_directory_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a worker does not see"):
        BlockWriter(tmp_path / "out.parquet.partial")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "--workers needs --on ray"),
        (["--on", "ray", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["--on", "ray", "--worker-cpus", "-1"], "--worker-cpus must be at least 0, got -1"),
        (["--on", "ray", "--object-store-bytes", "5"], "--object-store-bytes must be at least"),
    ],
)
def test_options_of_ray_are_checked(arguments: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    with pytest.raises(ConfigError, match=message):
        options.check(parser.parse_args(["a.txt", "--output", "o.parquet", *arguments]))


def test_without_the_extra_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str, package: Any = None) -> None:
        raise ModuleNotFoundError(name)

    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    given = parser.parse_args(["a.txt", "--output", "o.parquet", "--on", "ray"])
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "osa.model.common.requirements.find_spec",
        lambda name: missing(name) if "ray" in name else found(name),
    )
    with pytest.raises(
        ConfigError, match=r"--on ray needs ray.data: pip install 'osa-encoder\[ray"
    ):
        options.check(given)
