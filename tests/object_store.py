"""An object store that speaks S3, on this machine: moto's server as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import free_port, wait_until

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def running_store() -> Iterator[dict[str, str]]:
    """Start it with a bucket ``texts``; yields the variables that lead to it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return httpx.put(f"{address}/texts", timeout=30).status_code == 200
        except httpx.TransportError:
            assert process.poll() is None
            return False

    try:
        wait_until(answers)
        yield {**KEYS, "AWS_ENDPOINT_URL": address}
    finally:
        process.kill()
        process.wait()


def open_store(variables: dict[str, str]) -> Any:
    """Its file system, as fsspec has it."""
    import s3fs

    return s3fs.S3FileSystem(
        key="testing",
        secret="testing",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
    )


def put(variables: dict[str, str], name: str, file: Path) -> str:
    """Store a file; returns its address."""
    open_store(variables).put_file(str(file), f"texts/{name}")
    return f"s3://texts/{name}"
