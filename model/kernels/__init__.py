"""Implementations of ``osa::attention`` and the choice between them.

One registry: ``triton`` for CUDA tensors, ``native`` (C++) for CPU tensors, ``torch`` for whatever
these do not take. Each says of operands, in words, why it cannot take them; ``choose`` takes the
first that can. An implementation without a gradient of its own leaves it to ``torch``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import gpu, native
from osa.model.kernels import torch_kernel as plain

Forward = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, str, bool], Tensor
]
Backward = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, str, bool],
    tuple[Tensor, Tensor, Tensor, Tensor],
]


@dataclass(frozen=True)
class Kernel:
    """One implementation.

    Attributes:
        name: What ``osa info`` and ``/info`` call it.
        devices: Types of device whose tensors it is chosen for; None for every one.
        unsupported: Why it cannot take operands like this query; None where it can.
        forward: Result of checked operands.
        backward: Gradients.
        detail: What else to tell of it, the instruction set for one; empty where nothing.
    """

    name: str
    devices: tuple[str, ...] | None
    unsupported: Callable[[Tensor], str | None]
    forward: Forward
    backward: Backward
    detail: Callable[[], str] = str


TORCH = Kernel("torch", None, plain.unsupported, plain.attention_forward, plain.attention_backward)
KERNELS = (
    Kernel("triton", ("cuda",), gpu.unsupported, gpu.attention_forward, gpu.attention_backward),
    Kernel(
        "native",
        ("cpu",),
        native.unsupported,
        native.attention_forward,
        plain.attention_backward,
        native.instruction_set,
    ),
    TORCH,
)
_forced: ContextVar[str | None] = ContextVar("forced kernel", default=None)


def choose(query: Tensor) -> Kernel:
    """The implementation that runs operands like ``query``.

    Raises:
        InputError: One was asked for by ``use_kernel``, and it cannot.
    """
    return _find(query.device.type, query)[0]


def _find(device: str, query: Tensor) -> tuple[Kernel, list[str]]:
    """The implementation for operands like ``query`` on a device, and why not earlier ones."""
    forced = _forced.get()
    reasons: list[str] = []
    for kernel in KERNELS:
        here = kernel.devices is None or device in kernel.devices
        if kernel.name != forced and not (forced is None and here):
            continue
        reason = kernel.unsupported(query) if here else f"does not run on {device}"
        if reason is None:
            return kernel, reasons
        if forced is not None:
            raise InputError(f"the {forced} kernel {reason}")
        reasons.append(f"{kernel.name} {reason}")
    return TORCH, reasons


@contextlib.contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Within the block run this implementation or fail: for settings, tests and measurements.

    Raises:
        InputError: There is no implementation of this name.
    """
    names = [kernel.name for kernel in KERNELS]
    if name not in names:
        raise InputError(f"kernel must be one of {', '.join(names)}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def describe(device: str = "cpu", dtype: torch.dtype = torch.float32, width: int = 32) -> str:
    """Name the implementation for such operands, with its instruction set or why not a faster one.

    Args:
        device: Type of device; the tensors need not exist there.
        dtype: Of the operands.
        width: Of a head.

    Raises:
        InputError: One was asked for by ``use_kernel``, and it cannot.
    """
    kernel, reasons = _find(device, torch.empty(0, 0, 0, width, dtype=dtype))
    detail = kernel.detail() or "; ".join(reasons)
    return f"{kernel.name} ({detail})" if detail else kernel.name
