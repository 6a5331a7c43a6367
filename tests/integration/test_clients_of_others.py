"""Other projects' clients, unchanged, against the real server: the files of ``tests/clients``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import SERVER

FOLDER = Path(__file__).parents[1] / "clients"
QUIET = {
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""What keeps these packages from calling home."""


@pytest.mark.parametrize("file", sorted(FOLDER.glob("test_*.py")), ids=lambda file: file.stem)
def test_they_work_unchanged(client: httpx.Client, file: Path) -> None:
    url = str(client.base_url).rstrip("/")
    command = [sys.executable, "-m", "pytest", "-rs", "-n", "0", "-p", "no:cacheprovider"]
    command += [str(file)]
    command += ["--confcutdir", str(FOLDER)]  # the other fixtures would import all of torch
    command += ["-W", "default"]  # of the clients' code, not of ours
    environment = {**os.environ, **QUIET, SERVER: url}
    done = subprocess.run(
        command, cwd=FOLDER.parents[1], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    if "passed" not in summary:
        pytest.skip(next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED")))
