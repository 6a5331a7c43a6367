"""``/metrics`` as Prometheus' own tool reads it."""

from __future__ import annotations

import shutil
import subprocess

import httpx
import pytest


def check_metrics(exposition: bytes) -> subprocess.CompletedProcess[bytes]:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return subprocess.run(
        [promtool, "check", "metrics"], input=exposition, capture_output=True, timeout=60
    )


def test_promtool_finds_nothing_after_traffic(client: httpx.Client) -> None:
    assert client.post("/embed", json={"inputs": ["a cat", "dogs"]}).is_success
    assert client.post("/v2/models/none/infer", json={}).status_code == 404
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'te_request_failure{err="model_not_found"' in answer.content
    done = check_metrics(answer.content)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_promtool_would_have_found_something() -> None:
    done = check_metrics(b"# TYPE osa_waiting_total gauge\nosa_waiting_total 1\n")
    assert done.returncode != 0
    assert b"osa_waiting_total" in done.stdout + done.stderr
