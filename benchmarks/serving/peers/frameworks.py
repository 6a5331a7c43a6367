"""Serving frameworks around transformers: mosec, LitServe, Triton, and FastAPI alone."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable

import numpy as np

from benchmarks.serving.harness.connection import Request
from benchmarks.serving.peers.base import Launch, Peer, post, read_at

TORCH = ("torch==2.13.0", "transformers>=5")
RUNTIMES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnxruntime", "onnx", "onnxscript", "sympy"),
    "openvino": ("openvino", "nncf"),
}
"""Further packages of what runs the model."""
BATCH, WAIT_MS = 32, 5
"""Largest batch, as in the frameworks' documentation, and longest wait to fill it [ms]."""


def _make(
    name: str,
    program: str,
    requirement: str,
    request: Callable[[str], Request],
    read: Callable[[bytes], np.ndarray],
    description: str,
    dtype: str = "float32",
    workers: int = 2,
    threads: int = 1,
    runtime: str = "torch",
) -> Peer:
    """A framework around MiniLM.

    Args:
        name: In commands and tables.
        program: Module in ``benchmarks.serving.programs``.
        requirement: What pip installs of the framework.
        request: From a text to a request.
        read: From an answer to the vector.
        description: Its settings, for the report.
        dtype: Of the matrix products.
        workers: Processes that run the model.
        threads: Of each of them.
        runtime: One of ``RUNTIMES``.
    """

    def command(launch: Launch) -> list[str]:
        return [
            str(launch.python),
            "-m",
            f"benchmarks.serving.programs.{program}_server",
            f"--model={launch.models['minilm']}",
            f"--port={launch.port}",
            f"--dtype={dtype}",
            f"--runtime={runtime}",
            f"--workers={workers}",
            f"--batch={BATCH}",
            f"--wait-ms={WAIT_MS}",
        ]

    def environment(launch: Launch) -> dict[str, str]:
        found = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        if program == "pytriton":  # its processes link to libpython
            found["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
        return found

    return Peer(
        name=name,
        family="minilm",
        dtype=dtype,
        whole=dtype == "float32",
        command=command,
        request=request,
        read=read,
        settings=f"{description}; {workers} x OMP_NUM_THREADS={threads}",
        venv=program if runtime == "torch" else f"{program}-{runtime}",
        requirements=(*TORCH, requirement, *RUNTIMES[runtime]),
        packages=(requirement, "transformers", "torch", *RUNTIMES[runtime][:1]),
        environment=environment,
    )


def _mosec(name: str, dtype: str, runtime: str = "torch") -> Peer:
    return _make(
        name,
        "mosec",
        "mosec",
        post("/inference", lambda text: {"text": text}),
        read_at("embedding"),
        f"batches of {BATCH}, wait {WAIT_MS} ms",
        dtype,
        runtime=runtime,
    )


def _infer_body(text: str) -> dict[str, object]:
    """Request of the Open Inference Protocol in JSON."""
    tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    return {"inputs": [tensor]}


FRAMEWORKS = (
    _mosec("mosec", "float32"),
    _mosec("mosec-bfloat16", "bfloat16"),
    _mosec("mosec-onnx", "float32", "onnx"),
    _mosec("mosec-onnx-int8", "int8", "onnx"),
    _mosec("mosec-openvino", "float32", "openvino"),
    _mosec("mosec-openvino-bfloat16", "bfloat16", "openvino"),
    _mosec("mosec-openvino-int8", "int8", "openvino"),
    _make(
        "litserve",
        "litserve",
        "litserve",
        post("/predict", lambda text: {"text": text}),
        read_at("embedding"),
        f"batches of {BATCH}, wait {WAIT_MS} ms",
    ),
    _make(
        "triton",
        "pytriton",
        "nvidia-pytriton",
        post("/v2/models/minilm/infer", _infer_body),
        read_at("outputs", 0, "data"),
        f"pytriton, dynamic batcher of {BATCH}, delay {WAIT_MS} ms, HTTP with JSON",
    ),
    _make(
        "fastapi",
        "fastapi",
        "fastapi[standard]",
        post("/embed", lambda text: {"text": text}),
        read_at("embedding"),
        "FastAPI and uvicorn, one thread per request, no batches",
        workers=1,
    ),
)
