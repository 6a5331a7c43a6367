"""``hf:`` models served by real processes; and processes without one, which reach nobody."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.model import EmbeddingModel
from tests.conftest import PATIENCE_S
from tests.hub_server import Hub, running_hub
from tests.server_process import running_server

CONFINED = """
import os, sys

HERE = (None, "", "127.0.0.1", "localhost", "::1", "0.0.0.0")

def confine(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        outside = isinstance(address, tuple) and address[0] not in HERE
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
        outside = host not in HERE
    else:
        return
    if outside:
        print("went out:", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)

sys.addaudithook(confine)
from osa.service.cli import main
sys.exit(main())
"""
"""``osa``, which dies where it looks up another host or connects to one."""
TEXT = {"inputs": "the cat sat on a mat"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.mark.parametrize("local", [False, True], ids=["packaged", "directory"])
def test_without_a_reference_nothing_goes_out(
    hub: Hub, tiny_checkpoint: Path, tmp_path: Path, local: bool
) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    if local:
        environment["OSA_MODEL__PATH"] = str(tiny_checkpoint)
    log, osa = tmp_path / "log", [sys.executable, "-c", CONFINED]
    with running_server(log, osa, **environment) as (process, port):
        base = f"http://127.0.0.1:{port}"
        assert httpx.post(f"{base}/embed", json=TEXT).status_code == 200
        assert httpx.post(f"{base}/tokenize", json=TEXT).status_code == 200
        assert httpx.get(f"{base}/info").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0, log.read_text()
    assert hub.asked == []
    assert not (tmp_path / "home").exists()


def test_the_confinement_of_these_tests_holds(tmp_path: Path) -> None:
    """A reference without a hub on this machine makes the process look for another host."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", CONFINED, "download", "hf:acme/small"],
        env={
            "HF_ENDPOINT": "https://hub.example.com",
            "HF_HOME": str(tmp_path),
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 99
    assert "hub.example.com" in done.stderr


def test_a_reference_is_served_and_then_needs_no_hub(
    hub: Hub, tiny_checkpoint: Path, tiny_model: EmbeddingModel, tmp_path: Path
) -> None:
    commit = hub.add("acme/small", token="hf_secret").publish_directory(tiny_checkpoint)
    (tmp_path / "token").write_text("hf_secret\n")
    environment = {
        "OSA_MODEL__PATH": "hf:acme/small",
        "OSA_MODEL__OTHERS": "second=hf:acme/small@main",
        "OSA_MODEL__DTYPE": "float32",
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }
    wanted = tiny_model.encode([TEXT["inputs"]]).numpy()
    log = tmp_path / "log"
    for attempt in ("downloaded", "recorded"):
        with running_server(log, **environment) as (_, port):
            for name in ("osa-default", "second"):
                answer = httpx.post(
                    f"http://127.0.0.1:{port}/v1/embeddings",
                    json={"input": TEXT["inputs"], "model": name},
                )
                found = answer.json()["data"][0]["embedding"]
                np.testing.assert_allclose(np.array([found]), wanted, atol=1e-6)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        verified = [line for line in lines if line["message"] == "model of the hub verified"]
        assert [line["commit"] for line in verified] == [commit, commit]
        assert verified[0]["downloaded"] == (attempt == "downloaded")
        assert "hf_secret" not in log.read_text()
        environment |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert len([path for _, path, _ in hub.asked if "/api/models/" in path]) == 2
