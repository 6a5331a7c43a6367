"""Methods of ``inference.GRPCInferenceService``."""

from __future__ import annotations

from typing import Any

import grpc

from osa.service.api import headers
from osa.service.api.job import Arrival, Job, RequestContext
from osa.service.api.kserve.jobs import find_model, infer_job
from osa.service.api.kserve.mapping import describe_model
from osa.service.api.kserve.rpc import messages
from osa.service.api.kserve.rpc.calls import CallGate, Reply
from osa.service.api.kserve.rpc.tensors import read_request, render_response
from osa.service.api.pipeline import InferencePipeline
from osa.service.models.health import Health

FIELDS = {"name", "versions", "platform", "inputs", "outputs"}
"""What gRPC tells of a model."""


class InferenceMethods:
    """The service's methods, bound to the pipeline that all protocols share."""

    def __init__(self, pipeline: InferencePipeline, health: Health, version: str) -> None:
        """Bind a pipeline, the state of the process and the server's version."""
        self._pipeline, self._health, self._version = pipeline, health, version

    def handlers(self, gate: CallGate) -> grpc.GenericRpcHandler:
        """Handlers of all methods, behind the gate."""
        return grpc.method_handlers_generic_handler(
            messages.SERVICE,
            {
                "ServerLive": gate.handler("ServerLive", self.server_live, probe=True),
                "ServerReady": gate.handler("ServerReady", self.server_ready, probe=True),
                "ModelReady": gate.handler("ModelReady", self.model_ready),
                "ServerMetadata": gate.handler("ServerMetadata", self.server_metadata),
                "ModelMetadata": gate.handler("ModelMetadata", self.model_metadata),
                "ModelInfer": gate.handler("ModelInfer", self.model_infer, work=True),
            },
        )

    async def server_live(self, arrival: Arrival) -> Reply:
        """Whether the process lives."""
        return _reply("ServerLiveResponse", live=self._health.live_problem() is None)

    async def server_ready(self, arrival: Arrival) -> Reply:
        """Whether traffic is wanted."""
        return _reply("ServerReadyResponse", ready=self._health.ready_problem() is None)

    async def model_ready(self, arrival: Arrival) -> Reply:
        """Whether a model takes traffic."""
        request = messages.decode("ModelReadyRequest", arrival.raw)
        find_model(self._pipeline.models, request.name, request.version or None)
        return _reply("ModelReadyResponse", ready=self._health.ready_problem() is None)

    async def server_metadata(self, arrival: Arrival) -> Reply:
        """Name and version of the server."""
        return _reply("ServerMetadataResponse", name="osa", version=self._version)

    async def model_metadata(self, arrival: Arrival) -> Reply:
        """Versions and tensors of a model."""
        request = messages.decode("ModelMetadataRequest", arrival.raw)
        model = find_model(self._pipeline.models, request.name, request.version or None)
        return _reply("ModelMetadataResponse", **describe_model(model).model_dump(include=FIELDS))

    async def model_infer(self, arrival: Arrival) -> Reply:
        """Embed texts or token ids."""
        async with self._pipeline.submitted(arrival, self._parse) as running:
            answer, stages = await self._pipeline.answer(running)
            measured = running.job.count_headers()
            return Reply(answer.content, measured | headers.time_headers(stages))

    def _parse(self, context: RequestContext) -> Job:
        message = messages.decode("ModelInferRequest", context.raw)
        model = find_model(self._pipeline.models, message.model_name, message.model_version or None)
        name = context.choose(model.name, strict=True).name
        body, tail = read_request(message)
        binary = bool(message.raw_input_contents)  # an answer has the form of its request
        check = context.cancellation.check
        return infer_job(
            context, body, tail, lambda outputs: render_response(outputs, body, name, check), binary
        )


def _reply(kind: str, /, **fields: Any) -> Reply:
    message = messages.new(kind)
    for field, value in fields.items():
        if isinstance(value, list):
            held = getattr(message, field)
            for item in value:
                held.add(**item) if isinstance(item, dict) else held.append(item)
        else:
            setattr(message, field, value)
    return Reply(message.SerializeToString())
