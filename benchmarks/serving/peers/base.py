"""What a contender is: how it is installed, started, asked and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from benchmarks.serving.connection import Request

ROOT = Path(__file__).parents[3]
Family = Literal["minilm", "osa"]
"""Which encoder: the peers' MiniLM, or ours."""


@dataclass(frozen=True)
class Launch:
    """Where one server is to run.

    Attributes:
        python: Interpreter of the environment that it is installed in.
        models: Folder of each family's model.
        port: Port to listen on; the two after it are free too.
    """

    python: Path
    models: Mapping[Family, Path]
    port: int


@dataclass(frozen=True)
class Peer:
    """One contender.

    Attributes:
        name: Its name in commands and tables.
        family: The encoder that it serves.
        dtype: What its products run in.
        requirements: What pip installs into its environment; empty: this interpreter's own.
        removed: What pip takes out again afterwards.
        packages: Distributions whose versions the report gives.
        command: Its command line.
        environment: Variables that it is started with.
        request: From a text to its request.
        read: From an answer's body to the vector.
        words: Its settings, for the report.
        venv: Name of its environment, which contenders may share.
        whole: Whether more than its costs is measured; not for second forms of a contender.
        deadline_header: Header by which a client tells how long it will wait [ms]; empty: none.
    """

    name: str
    family: Family
    dtype: str
    command: Callable[[Launch], list[str]]
    request: Callable[[str], Request]
    read: Callable[[bytes], np.ndarray]
    words: str
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
    """Requests to ``path`` with JSON made from the text."""
    return lambda text: Request(path, orjson.dumps(make_body(text)), headers)


def read_at(*keys: str | int) -> Callable[[bytes], np.ndarray]:
    """Reads the vector [E] that lies below ``keys`` in a JSON answer, as float32."""

    def read(body: bytes) -> np.ndarray:
        value: Any = orjson.loads(body)
        for key in keys:
            value = value[key]
        return np.asarray(value, dtype=np.float32)

    return read
