"""Description of a server: how to install it, start it, send requests and read answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from benchmarks.serving.harness.connection import Request

ROOT = Path(__file__).parents[3]
Family = Literal["minilm", "osa"]
"""Encoder that a server runs: MiniLM, or the OSA encoder of the same size."""


@dataclass(frozen=True)
class Launch:
    """Where one server runs.

    Attributes:
        python: Interpreter of its environment.
        models: Folder of the model of each family.
        port: Port to listen on; the next two are free too.
    """

    python: Path
    models: Mapping[Family, Path]
    port: int


@dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        name: Its name in commands and tables.
        family: Encoder that it serves.
        dtype: Data type of its matrix products.
        command: Its command line.
        request: From a text to its request.
        read: From an answer's body to the vector, float32 [E].
        settings: Its settings, for the report.
        venv: Name of its environment; servers may share one.
        whole: Whether everything is measured; otherwise only cold start and costs.
        deadline_header: Header for the client's deadline [ms]; empty if there is none.
        requirements: What pip installs into its environment; empty to use this interpreter.
        removed: What pip uninstalls afterwards.
        packages: Distributions whose versions are reported.
        environment: Additional environment variables.
    """

    name: str
    family: Family
    dtype: str
    command: Callable[[Launch], list[str]]
    request: Callable[[str], Request]
    read: Callable[[bytes], np.ndarray]
    settings: str
    venv: str = ""
    whole: bool = True
    deadline_header: str = ""
    requirements: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda launch: {})


def post(
    path: str, make_body: Callable[[str], Any], *headers: tuple[str, str]
) -> Callable[[str], Request]:
    """A function from a text to a POST request to ``path`` with a JSON body."""
    return lambda text: Request(path, orjson.dumps(make_body(text)), headers)


def read_at(*keys: str | int) -> Callable[[bytes], np.ndarray]:
    """A function from a JSON answer to the vector at ``keys``, float32 [E]."""

    def read(body: bytes) -> np.ndarray:
        value: Any = orjson.loads(body)
        for key in keys:
            value = value[key]
        return np.asarray(value, dtype=np.float32)

    return read
