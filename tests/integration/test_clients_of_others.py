"""Other projects' clients, unchanged, against the real server: the files of ``tests/clients``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from osa.service.server.app import create_service
from tests.clients.conftest import GRPC_SERVER, SERVER
from tests.conftest import local_settings, run_service
from tests.head_models import make_head_model
from tests.transformer_models import MINILM

FOLDER = Path(__file__).parents[1] / "clients"
QUIET = {
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_ENDPOINT": "http://127.0.0.1:9",  # huggingface_hub looks for a list of its own there
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""What keeps these packages from calling home."""


@pytest.fixture(scope="module", params=[None, MINILM], ids=["packaged", "minilm"])
def addresses(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Of a server with the packaged model, or MiniLM as it lies; over gRPC too if installed."""
    has_grpc = find_spec("grpc_health") is not None
    model: dict[str, Any] = {} if request.param is None else {"model__path": request.param}
    settings = local_settings(server__grpc_port=0 if has_grpc else None, **model)
    service = create_service(settings)
    with run_service(service, settings) as client:
        found = {SERVER: str(client.base_url).rstrip("/")}
        if service.grpc is not None:
            found[GRPC_SERVER] = f"127.0.0.1:{service.grpc.port}"
        yield found


RERANKERS = FOLDER / "test_rerank_clients.py"


@pytest.mark.parametrize(
    "file", sorted({*FOLDER.glob("test_*.py")} - {RERANKERS}), ids=lambda file: file.stem
)
def test_they_work_unchanged(addresses: dict[str, str], file: Path) -> None:
    run_against(addresses, file)


def test_those_that_rerank_work_unchanged(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    client = serve(model__path=make_head_model(tmp_path, "reranker"))
    run_against({SERVER: str(client.base_url).rstrip("/")}, RERANKERS)


def run_against(addresses: dict[str, str], file: Path) -> None:
    """Run a file of tests in a process of its own, against a server at these addresses."""
    command = [sys.executable, "-m", "pytest", "-rs", "-n", "0", "-p", "no:cacheprovider"]
    command += [str(file)]
    command += ["--confcutdir", str(FOLDER)]  # the other fixtures would import all of torch
    command += ["-W", "default"]  # of the clients' code, not of ours
    environment = {**os.environ, **QUIET, **addresses}
    done = subprocess.run(
        command, cwd=FOLDER.parents[1], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    if "passed" not in summary:
        pytest.skip(next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED")))
