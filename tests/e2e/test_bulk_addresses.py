"""``osa embed`` on addresses: objects of a store that speaks S3, files of a web server."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import PATIENCE_S, make_tiny_model
from tests.object_store import open_store, put, running_store

pytest.importorskip("s3fs", reason="no s3fs here: pip install 'osa-encoder[remote]'")
pytest.importorskip("moto", reason="no moto here")


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with running_store() as variables:
        yield variables


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny_model().save_pretrained(directory)
    return directory


def embed(model: Path, variables: dict[str, str], *arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "osa.service.cli", "embed", *map(str, arguments)]
    done = subprocess.run(
        [*command, "--model", str(model)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_objects_are_read_written_and_resumed_as_files_are(
    store: dict[str, str], model: Path, tmp_path: Path
) -> None:
    lines = [json.dumps({"id": n, "text": f"the cat {n}"}) + "\n" for n in range(40)]
    (tmp_path / "a.jsonl").write_text("".join([*lines, "{\n"]))
    address, target = put(store, "in/a.jsonl", tmp_path / "a.jsonl"), "s3://texts/out/v.parquet"
    arguments = [address, "--output", target, "--rows-per-group", 8]
    code, _, errors = embed(model, store, *arguments)
    assert code == 1
    assert "s3://texts/in/a.jsonl:41: is not JSON" in errors
    files = open_store(store)
    parts = files.ls("texts/out/v.parquet.partial", detail=False)
    assert len([one for one in parts if "part-" in one]) == 5
    code, _, errors = embed(model, store, *arguments)
    assert code == 2
    assert "unfinished run: --resume goes on with it" in errors

    (tmp_path / "a.jsonl").write_text("".join(lines))
    put(store, "in/a.jsonl", tmp_path / "a.jsonl")
    assert embed(model, store, *arguments, "--resume")[0] == 0
    assert open_store(store).find("texts/out") == ["texts/out/v.parquet"]
    local = tmp_path / "v.parquet"
    local_run = [tmp_path / "a.jsonl", "--output", local, "--rows-per-group", 8]
    assert embed(model, store, *local_run)[0] == 0
    with open_store(store).open("texts/out/v.parquet") as file:
        assert pq.read_table(file).equals(pq.read_table(local))
    code, _, errors = embed(model, store, *arguments)
    assert code == 2
    assert f"{target} exists" in errors


def test_a_prefix_is_a_directory_and_a_missing_object_is_told(
    store: dict[str, str], model: Path, tmp_path: Path
) -> None:
    for number in range(2):
        pq.write_table(pa.table({"text": [f"a dog {number}"]}), tmp_path / "part.parquet")
        put(store, f"many/day={number}/part-0.parquet", tmp_path / "part.parquet")
    local = tmp_path / "out.parquet"
    assert embed(model, store, "s3://texts/many", "--output", local)[0] == 0
    assert pq.read_table(local).column("day").to_pylist() == ["0", "1"]
    code, _, errors = embed(model, store, "s3://texts/none.txt", "--output", tmp_path / "b.parquet")
    assert code == 2
    assert "cannot read s3://texts/none.txt: No such file or directory" in errors
    code, _, errors = embed(model, store, "s3://none/a.txt", "--output", "s3://none/b.parquet")
    assert code == 2
    assert "Traceback" not in errors


def test_files_of_the_web_are_read_and_not_written(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\nthe dog\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            target = tmp_path / "out.parquet"
            code, _, errors = embed(model, {}, f"{address}/a.txt", "--output", target)
            assert code == 0, errors
            code, _, errors = embed(
                model, {}, f"{address}/a.txt", "--output", f"{address}/o.parquet"
            )
            assert code == 2
            assert "servers of the web are read alone" in errors
        finally:
            server.shutdown()
            thread.join()
    assert pq.read_table(target).column("text").to_pylist() == ["a cat", "the dog"]
