"""A server that speaks HTTP and gRPC, and a client that sends any bytes as a gRPC message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from osa.service.api.kserve.rpc import messages
from osa.service.engines.base import Engine
from osa.service.server.app import create_service
from osa.service.server.uvicorn_server import DrainingServer
from tests.conftest import PATIENCE_S, local_settings, run_server

MODEL = "osa-default"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcClient:
    """Calls methods of ``inference.GRPCInferenceService``."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)]
        )
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def method(self, name: str) -> Any:
        """A method, from bytes to bytes."""
        return self.channel.unary_unary(f"/{messages.SERVICE}/{name}")

    def call(self, name: str, request: Any = None, **options: Any) -> Any:
        """The answer to a request, by default an empty one."""
        raw = b"" if request is None else request.SerializeToString()
        options = {"timeout": PATIENCE_S, **options}
        return messages.decode(f"{name}Response", self.method(name)(raw, **options))

    def infer(self, request: Any, **options: Any) -> Any:
        """The answer of ``ModelInfer``."""
        return self.call("ModelInfer", request, **options)

    def begin(self, request: Any, **options: Any) -> Any:
        """A call of ``ModelInfer`` that has begun."""
        return self.method("ModelInfer").future(request.SerializeToString(), **options)

    def status(self, name: str = "") -> int:
        """What the health service says."""
        asked = health_pb2.HealthCheckRequest(service=name)
        found: int = self.health.Check(asked, timeout=PATIENCE_S).status
        return found

    def refused(self, request: Any, code: grpc.StatusCode, told: str, **options: Any) -> Any:
        """The error that refuses a request of ``ModelInfer``; its code and message are checked."""
        with pytest.raises(grpc.RpcError) as caught:
            self.infer(request, **options)
        error: Any = caught.value
        assert (error.code(), told in error.details()) == (code, True), error.details()
        return error


def ids_request(*rows: list[int], **fields: Any) -> Any:
    """A request of ids in typed contents; rows of one length."""
    request = messages.new("ModelInferRequest")
    request.model_name = fields.pop("model", MODEL)
    tensor = request.inputs.add(name="input_ids", datatype="INT64", shape=[len(rows), len(rows[0])])
    tensor.contents.int64_contents.extend(value for row in rows for value in row)
    for name, value in fields.items():
        setattr(request, name, value)
    return request


class Running(NamedTuple):
    """A running server, and clients of it."""

    server: DrainingServer
    http: httpx.Client
    grpc: GrpcClient


@contextlib.contextmanager
def running(engine: Engine | None = None, **overrides: object) -> Iterator[Running]:
    """Serve on two real sockets; ``section__field`` overrides settings."""
    settings = local_settings(server__grpc_port=0, **overrides)
    service = create_service(settings, engine)
    with run_server(service, settings) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        assert service.grpc is not None
        client = GrpcClient(service.grpc.port)
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http,
            client.channel,
        ):
            yield Running(server, http, client)
