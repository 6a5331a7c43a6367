"""The compared servers, by name."""

from __future__ import annotations

from benchmarks.serving.peers.base import Peer
from benchmarks.serving.peers.frameworks import FRAMEWORKS
from benchmarks.serving.peers.ours import OURS
from benchmarks.serving.peers.servers import SERVERS

PEERS: dict[str, Peer] = {peer.name: peer for peer in (*OURS, *FRAMEWORKS, *SERVERS)}
DEFAULT = ("osa", "osa-float32", "mosec", "litserve", "infinity", "vllm", "triton", "fastapi",
           "mosec-bfloat16", "infinity-bfloat16", "vllm-bfloat16")  # fmt: skip
"""Servers of a full run, in the order of a round."""
