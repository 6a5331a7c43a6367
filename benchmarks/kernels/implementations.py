"""Implementations of attention that are compared, and why one does not run a case.

``osa`` is the public operator; it takes packed sequences if the case has them. The others take a
padded batch, with a mask if lengths differ; ``sdpa-buckets`` is softmax attention over packed
sequences, as this project's softmax mixer computes it. Implementations of exp(S) V are checked
against float64; softmax attention is only timed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.kernels.cases import SCALE, Case, Operands
from osa.model.functional.attention import osa_gram, osa_qr
from osa.model.functional.varlen import Bucket, map_buckets
from osa.model.ops import attention

QR_LIMIT = 2048
MATH_LIMIT = 16384
BACKENDS = {
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-math": SDPBackend.MATH,
}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Implementation:
    """One implementation of attention.

    Attributes:
        name: Its name in tables.
        compute: From operands to the output, padded [B, H, N, d] or packed [1, H, T, d].
        context: Context manager around each sample; entering it is not timed.
        exact: It computes exp(S) V, so its error is measured.
        gated: The command stops if its error exceeds the tolerance.
    """

    name: str
    compute: Callable[[Operands], Tensor]
    context: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    exact: bool = False
    gated: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it is softmax attention, which ``osa`` is compared with."""
        return self.name.startswith("sdpa")


def compute_osa(operands: Operands) -> Tensor:
    """``osa::attention`` on packed sequences if there are any, else on the padded batch."""
    states = operands.packed or operands.states
    mixed: Tensor = attention(*states, operands.alpha, None, operands.cu_seqlens, SCALE)
    return mixed


def compute_padded(function: Callable[..., Tensor], operands: Operands) -> Tensor:
    """``osa_gram`` or ``osa_qr`` on the padded batch [B, H, N, d]; half precision in float32."""
    half = operands.query.dtype in (torch.bfloat16, torch.float16)
    states = tuple(part.float() if half else part for part in operands.states)
    result = function(*states, operands.alpha, mask=operands.mask, scale=SCALE)
    return result.to(operands.query.dtype)


def compute_softmax(operands: Operands) -> Tensor:
    """Softmax attention on the padded batch [B, H, N, d]."""
    mask = None if operands.mask is None else operands.mask[:, None, None, :]
    return F.scaled_dot_product_attention(*operands.states, attn_mask=mask)


def compute_buckets(operands: Operands) -> Tensor:
    """Softmax attention on packed sequences [1, H, T, d], one bucket of lengths at a time."""

    def attend(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
        mask = None if bucket.mask is None else bucket.mask[:, None, None, :]
        query, key, value = parts
        return (F.scaled_dot_product_attention(query, key, value, attn_mask=mask),)

    offsets = list(itertools.accumulate(operands.lengths, initial=0))
    return map_buckets(operands.packed or operands.states, offsets, attend, 1)[0]


IMPLEMENTATIONS = (
    Implementation("osa", compute_osa, exact=True, gated=True),
    Implementation("osa_gram", functools.partial(compute_padded, osa_gram), exact=True, gated=True),
    Implementation("osa_qr", functools.partial(compute_padded, osa_qr), exact=True),
    *(
        Implementation(name, compute_softmax, functools.partial(sdpa_kernel, [backend]))
        for name, backend in BACKENDS.items()
    ),
    Implementation("sdpa-buckets", compute_buckets),
)


def refusal(
    implementation: Implementation, case: Case, device: str, free_bytes: float = float("inf")
) -> str | None:
    """Why an implementation does not run a case; None if it can be tried.

    Args:
        implementation: What would run.
        case: The case.
        device: ``cpu`` or ``cuda``.
        free_bytes: Available memory of the device [bytes].
    """
    name = implementation.name
    if name == "osa_qr" and case.dtype != "float32":
        return "float32 only"
    if name == "osa_qr" and case.length > QR_LIMIT:
        return f"over {QR_LIMIT} tokens"
    if name in ("sdpa-efficient", "sdpa-cudnn") and device == "cpu":
        return "no such backend here"
    if name == "sdpa-buckets" and case.layout != "mixed":
        return "for mixed lengths"
    if name == "sdpa-math":
        if case.length > MATH_LIMIT:
            return f"over {MATH_LIMIT} tokens"
        scores = 3 * 4 * len(case.lengths) * case.heads * case.length**2
        if scores > free_bytes / 2:
            return f"scores need {scores / 2**30:.0f} GiB"
    return None


def attempt(implementation: Implementation, run: Callable[[], Result]) -> Result | str:
    """Call ``run`` in the implementation's context; returns its result, or why it could not run.

    Raises:
        RuntimeError: An implementation other than softmax attention failed.
    """
    try:
        with warnings.catch_warnings(), implementation.context():
            warnings.simplefilter("ignore")
            return run()
    except torch.OutOfMemoryError:
        return "out of memory"
    except torch.AcceleratorError:
        raise
    except RuntimeError:
        if not implementation.is_peer:
            raise
        return "refused by the backend"
