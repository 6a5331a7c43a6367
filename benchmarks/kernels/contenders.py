"""Who is measured: functions of the operands of a case, as data, with reasons not to run.

``osa`` is the public operator and takes packed sequences where the case has them. Every other one
gets the rectangle, with a mask where sequences differ; ``sdpa-buckets`` is softmax attention over
packed sequences as this project's softmax mixer does it. A contender that computes exp(S) V is
held to its error; softmax attention is only timed.
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
class Contender:
    """One way to compute attention.

    Attributes:
        name: Column of the tables.
        compute: Result for the operands, in either layout.
        context: Entered around the calls, outside the clock.
        exact: It computes exp(S) V, so its error is shown.
        gated: The command stops where its error is over the tolerance.
    """

    name: str
    compute: Callable[[Operands], Tensor]
    context: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    exact: bool = False
    gated: bool = False

    @property
    def is_peer(self) -> bool:
        """Softmax attention, which osa is compared with."""
        return self.name.startswith("sdpa")


def compute_osa(operands: Operands) -> Tensor:
    """The public operator."""
    states = operands.packed or operands.states
    mixed: Tensor = attention(*states, operands.alpha, None, operands.cu_seqlens, SCALE)
    return mixed


def compute_reference(function: Callable[..., Tensor], operands: Operands) -> Tensor:
    """``osa_gram`` or ``osa_qr`` of the rectangle; half precision runs in float32."""
    half = operands.query.dtype in (torch.bfloat16, torch.float16)
    states = tuple(part.float() if half else part for part in operands.states)
    result = function(*states, operands.alpha, mask=operands.mask, scale=SCALE)
    return result.to(operands.query.dtype)


def compute_softmax(operands: Operands) -> Tensor:
    """Softmax attention of the rectangle."""
    mask = None if operands.mask is None else operands.mask[:, None, None, :]
    return F.scaled_dot_product_attention(*operands.states, attn_mask=mask)


def compute_buckets(operands: Operands) -> Tensor:
    """Softmax attention of packed sequences, bucket by bucket."""

    def attend(parts: tuple[Tensor, ...], bucket: Bucket) -> tuple[Tensor, ...]:
        mask = None if bucket.mask is None else bucket.mask[:, None, None, :]
        query, key, value = parts
        return (F.scaled_dot_product_attention(query, key, value, attn_mask=mask),)

    offsets = list(itertools.accumulate(operands.lengths, initial=0))
    return map_buckets(operands.packed or operands.states, offsets, attend, 1)[0]


CONTENDERS = (
    Contender("osa", compute_osa, exact=True, gated=True),
    Contender("osa_gram", functools.partial(compute_reference, osa_gram), exact=True, gated=True),
    Contender("osa_qr", functools.partial(compute_reference, osa_qr), exact=True),
    *(
        Contender(name, compute_softmax, functools.partial(sdpa_kernel, [backend]))
        for name, backend in BACKENDS.items()
    ),
    Contender("sdpa-buckets", compute_buckets),
)


def refusal(
    contender: Contender, case: Case, device: str, free_bytes: float = float("inf")
) -> str | None:
    """Why this contender does not run this case, in words; None where it may try."""
    name = contender.name
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


def attempt(contender: Contender, run: Callable[[], Result]) -> Result | str:
    """What ``run`` returns within the contender's context, or why its backend refuses."""
    try:
        with warnings.catch_warnings(), contender.context():
            warnings.simplefilter("ignore")
            return run()
    except torch.OutOfMemoryError:
        return "out of memory"
    except torch.AcceleratorError:
        raise
    except RuntimeError:
        if not contender.is_peer:
            raise
        return "refused by the backend"
