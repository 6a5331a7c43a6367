"""Programs of ``torch.export`` on another type of device than they were made on.

A ``.pt2`` file names a device at every tensor and at operations that make tensors. torch loads it
where it was made, and fails where that is not: so the names are changed before it is loaded.
"""

from __future__ import annotations

import io
import json
from typing import Any

import torch

from osa.export.errors import ArtifactError
from osa.export.torch_program.archive import CONFIGS, GRAPH, SAMPLES, Archive
from osa.model.common.model_files import parse_json

DEVICES = ("cpu", "cuda")


def on_device(archive: Archive, device: str) -> bytes:
    """The file with every tensor on a device, for ``torch.export.load``.

    Raises:
        ArtifactError: A member is damaged.
    """
    changed = {name: _renamed(archive.read(name), name, device) for name in (GRAPH, *CONFIGS)}
    samples = torch.load(
        io.BytesIO(archive.read(SAMPLES)), weights_only=True, map_location=torch.device(device)
    )
    stored = io.BytesIO()
    torch.save(samples, stored)
    return archive.rewritten({**changed, SAMPLES: stored.getvalue()})


def _renamed(content: bytes, name: str, device: str) -> bytes:
    try:
        values = parse_json(content)
    except ValueError as error:
        raise ArtifactError(f"{name} is damaged: export the model again") from error
    waiting: list[Any] = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict) and set(value) == {"type", "index"}:
            if value["type"] in DEVICES:
                value |= {"type": device, "index": None if device == "cpu" else 0}
        elif isinstance(value, dict):
            waiting += value.values()
    return json.dumps(values).encode("utf-8")
