"""One sequence over P devices: what is sent, counted, and a model of the time.

What is counted comes from ``SequenceGroup.messages`` of a real pass. The model of the time has two
terms a layer: arithmetic at ``FLOPS`` and messages at ``BANDWIDTH`` with ``LATENCY`` each. Ring
attention passes every device's keys and values around (Liu et al., "Ring Attention with Blockwise
Transformers for Near-Infinite Context", arXiv:2310.01889), and hides them behind the products.
"""

from __future__ import annotations

import math

import numpy as np

from osa.model import EmbeddingModel
from osa.model.streaming.parallel import SequenceGroup
from osa.model.streaming.passes import StreamOptions

FLOPS = 4e14
"""Arithmetic of one device on bfloat16, of an H200's 990e12 [operations/s]."""
BANDWIDTH = 4.5e11
"""Of one device to the others, NVLink 4 in one direction [bytes/s]."""
LATENCY = 2e-5
"""Of one collective operation, or one step of a ring [s]."""


def messages(model: EmbeddingModel, tokens: int) -> list[int]:
    """What a pass over so many tokens gives to be summed, in order [bytes]."""
    group = SequenceGroup()
    ids = np.ones(tokens, dtype=np.int64)
    model.encode_stream([ids], options=StreamOptions(exchange=group.exchange, count=tokens))
    return group.messages


def osa_s(tokens: int, devices: int, width: int, heads: int) -> float:
    """Time of one layer's mixing with OSA [s].

    Args:
        tokens: N.
        devices: P.
        width: D.
        heads: H.
    """
    head = width // heads
    arithmetic = 16 * tokens * head * width / devices / FLOPS
    size = heads * 6 * head * head * 8
    rounds = 2 * math.ceil(math.log2(devices)) if devices > 1 else 0
    sent = 2 * (devices - 1) / devices * size / BANDWIDTH
    return arithmetic + sent + rounds * LATENCY


def ring_s(tokens: int, devices: int, width: int) -> float:
    """Time of one layer's mixing with softmax attention in a ring [s].

    Args:
        tokens: N.
        devices: P.
        width: D.
    """
    arithmetic = 4 * tokens * tokens * width / devices / FLOPS
    step = 2 * tokens / devices * width * 2 / BANDWIDTH + LATENCY
    return max(arithmetic, (devices - 1) * step)


def ring_bytes(tokens: int, devices: int, width: int) -> float:
    """What one device sends in a layer of ring attention [bytes]."""
    return (devices - 1) * 2 * tokens / devices * width * 2
