"""Messages of ``open_inference.proto``, made from its descriptor at import.

They live in a pool of their own: a program may hold another project's definition of the same
protocol, and a pool takes each name once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from osa.service.errors import MalformedBodyError

PROTO = Path(__file__).with_name("open_inference.proto")
DESCRIPTOR = PROTO.with_suffix(".binpb")
SERVICE = "inference.GRPCInferenceService"

POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(DESCRIPTOR.read_bytes()).file:
    POOL.Add(_file)
METHODS = {method.name: method for method in POOL.FindServiceByName(SERVICE).methods}
"""The service's methods by name, with the types of their messages."""


def new(name: str) -> Any:
    """An empty message of ``open_inference.proto``."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))()


def decode(name: str, raw: bytes) -> Any:
    """A message of ``open_inference.proto`` from its bytes.

    Raises:
        MalformedBodyError: They are none.
    """
    message = new(name)
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise MalformedBodyError(f"the request is not a valid {name}") from None
    return message
