"""The descriptor that the server loads is that of the .proto beside it, and the protocol's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", reason="the extra grpc is not installed")
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from osa.service.api.kserve.rpc import messages


def test_the_descriptor_follows_from_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    made = tmp_path / "made.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{messages.PROTO.parent}"]
    command += [f"--descriptor_set_out={made}", messages.PROTO.name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected, there = (
        FileDescriptorSet.FromString(file.read_bytes()) for file in (made, messages.DESCRIPTOR)
    )
    assert there == expected, "compile it again: the command is in the .proto"


def fields(message: Any) -> dict[str, tuple[int, int, bool]]:
    """Number, type and repetition of a message's fields by name, nested messages included."""
    found = {
        field.full_name: (field.number, field.type, field.is_repeated) for field in message.fields
    }
    for nested in message.nested_types:
        found |= fields(nested)
    return found


def test_names_and_numbers_are_those_of_tritons_client() -> None:
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2").DESCRIPTOR
    own = messages.POOL.FindServiceByName(messages.SERVICE).file
    assert own.package == theirs.package
    for name, message in own.message_types_by_name.items():
        known = fields(theirs.message_types_by_name[name])
        ours = fields(message)
        assert ours.items() <= known.items(), name
    service = theirs.services_by_name["GRPCInferenceService"]
    for name, method in messages.METHODS.items():
        other = service.methods_by_name[name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
