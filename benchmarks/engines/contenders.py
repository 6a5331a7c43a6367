"""The compared encoders, by name."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.serving.peers import PEERS
from benchmarks.serving.peers.base import Peer

OURS = ("osa", "minilm")
"""Encoders of ours: Orthogonal Self-Attention, and MiniLM's own weights with softmax."""
DTYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Contender:
    """One encoder.

    Attributes:
        runtime: ``osa`` or ``minilm`` for ours, else one of ``programs.minilm.RUNTIMES``.
        dtype: Of its products.
        environment: A server that has what it needs installed; empty for this interpreter.
    """

    runtime: str
    dtype: str
    environment: str = ""

    @property
    def name(self) -> str:
        """Its name in commands and tables."""
        return f"{self.runtime}-{self.dtype}"

    @property
    def is_ours(self) -> bool:
        """Whether this project runs it."""
        return self.runtime in OURS

    @property
    def peer(self) -> Peer | None:
        """The server whose environment it runs in, or None."""
        return PEERS[self.environment] if self.environment else None


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        *(Contender(runtime, dtype) for runtime in OURS for dtype in DTYPES),
        Contender("torch", "float32", "mosec"),
        Contender("torch", "bfloat16", "mosec"),
        Contender("onnx", "float32", "mosec-onnx"),
        Contender("onnx", "int8", "mosec-onnx"),
        *(Contender("openvino", dtype, "mosec-openvino") for dtype in DTYPES),
    )
}
