"""The server as a process, over gRPC: SIGTERM under load loses no call, a second one ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc_health", reason="the extra grpc is not installed")
import grpc

from osa.service.api.kserve.rpc import messages
from tests.conftest import PATIENCE_S, free_port, wait_until
from tests.grpc_client import MODEL, SERVING, GrpcClient
from tests.server_process import OSA, is_ready, running_server

PATIENT = {"OSA_SERVER__DRAIN_TIMEOUT_S": "3600"}
"""With this the drain's limit does not end what a test waits for."""


def text_request(count: int, end: str = "") -> Any:
    request = messages.new("ModelInferRequest")
    request.model_name = MODEL
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[count])
    texts = [f"sentence number {place} of a request{end}" for place in range(count)]
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return request


class Load:
    """Clients that call one after the other, each on its own connection, until they are refused."""

    def __init__(self, port: int, clients: int) -> None:
        self.answered, self.refused = 0, 0
        self.lost: list[str] = []
        self._port, self._lock = port, threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=PATIENCE_S)
            assert not thread.is_alive()

    def _run(self) -> None:
        client, request = GrpcClient(self._port), text_request(20)
        with client.channel:
            while True:
                try:
                    answer = client.infer(request)
                except grpc.RpcError as error:
                    with self._lock:
                        if error.details() == "the server is draining":
                            self.refused += 1
                        else:
                            self.lost.append(repr(error))
                    return
                with self._lock:
                    if len(answer.outputs[0].contents.fp32_contents) != 20 * 384:
                        self.lost.append(repr(answer)[:200])
                    self.answered += 1


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    settings = {**PATIENT, "OSA_SERVER__GRPC_PORT": str(port)}
    with running_server(tmp_path / "log", **settings) as (process, _):
        load = Load(port, clients=8)
        wait_until(lambda: load.answered >= 10)
        process.send_signal(signal.SIGTERM)
        load.join()
        assert process.wait(timeout=PATIENCE_S) == 0
    assert (load.lost, load.refused) == ([], 8)
    logged = (tmp_path / "log").read_text()
    assert "Traceback" not in logged
    assert "sentence number" not in logged, "texts must never be logged"
    assert f'"/{messages.SERVICE}/ModelInfer","status":"OK"' in logged


def test_a_second_signal_ends_a_drain_that_hangs(tmp_path: Path) -> None:
    port = free_port()
    settings = {**PATIENT, "OSA_SERVER__GRPC_PORT": str(port), "OSA_ENGINE__HANG_TIMEOUT_S": "3600"}
    with running_server(tmp_path / "log", **settings) as (process, http_port):
        client = GrpcClient(port)
        with client.channel:
            assert client.status() == SERVING
            call = client.begin(text_request(2048, " which is long" * 60))
            open_one = f'osa_in_flight_requests{{model="{MODEL}"}} 1.0'
            metrics = f"http://127.0.0.1:{http_port}/metrics"
            wait_until(lambda: open_one in httpx.get(metrics).text)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_ready(http_port))
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE_S)
            failure = call.exception(PATIENCE_S)
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert failure.details() == "the server has stopped waiting for this request"


def test_a_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "log") as (_, port):
        command = [*OSA, "serve", "--host", "127.0.0.1", "--port", "0"]
        environment = {**os.environ, "OSA_SERVER__GRPC_PORT": str(port)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
