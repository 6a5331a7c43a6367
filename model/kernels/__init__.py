"""Kernels of ``osa::attention``: one entry each, and the choice between them.

``choose`` takes the first kernel of the operands' device that supports them; ``torch`` supports
all. A kernel's module is imported when it is first needed, and so is torch: settings read the
names alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from osa.model.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Forward = Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, str, bool], Tensor
    ]
    Backward = Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, str, bool],
        tuple[Tensor, Tensor, Tensor, Tensor],
    ]


class KernelModule(Protocol):
    """What the module of a kernel defines; ``instruction_set()``, where it has one, is shown too.

    Attributes:
        unsupported: Why it does not support operands like this query; None where it does.
        attention_forward: Result of checked operands.
        attention_backward: Gradients.
    """

    unsupported: Callable[[Tensor], str | None]
    attention_forward: Forward
    attention_backward: Backward


@dataclass(frozen=True)
class Kernel:
    """One implementation.

    Attributes:
        name: In settings, ``osa info`` and ``/info``.
        devices: Types of device that it runs on; None for every one.
        module: Name of the ``KernelModule``.
    """

    name: str
    devices: tuple[str, ...] | None
    module: str

    @functools.cached_property
    def implementation(self) -> KernelModule:
        """The module, imported at first use."""
        return cast("KernelModule", import_module(self.module))


_ENTRIES = (
    Kernel("triton", ("cuda",), "osa.model.kernels.gpu"),
    Kernel("native", ("cpu",), "osa.model.kernels.native"),
    Kernel("torch", None, "osa.model.kernels.torch_kernel"),
)
KERNELS: dict[str, Kernel] = {entry.name: entry for entry in _ENTRIES}
"""In order of preference; the last supports every operand."""
_forced: ContextVar[str | None] = ContextVar("forced kernel", default=None)


def choose(query: Tensor) -> Kernel:
    """The kernel for operands like ``query`` [B, H, N, d].

    Raises:
        InputError: ``use_kernel`` asks for one that does not support them.
    """
    return _find(query.device.type, query)[0]


def is_allowed(name: str) -> bool:
    """Whether ``use_kernel`` asks for no other kernel than the one of this name."""
    return _forced.get() in (None, name)


def _find(device: str, query: Tensor) -> tuple[Kernel, list[str]]:
    """The kernel for operands like ``query`` on a device, and why not the preferred ones."""
    forced = _forced.get()
    reasons: list[str] = []
    for kernel in KERNELS.values():
        here = kernel.devices is None or device in kernel.devices
        if kernel.name != forced and not (forced is None and here):
            continue
        reason = kernel.implementation.unsupported(query) if here else f"does not run on {device}"
        if reason is None:
            return kernel, reasons
        if forced is not None:
            raise InputError(f"the {forced} kernel {reason}")
        reasons.append(f"{kernel.name} {reason}")
    raise InputError(f"no kernel supports these operands: {'; '.join(reasons)}")


@contextlib.contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Within the block run this kernel, or fail: for settings, tests and measurements.

    Raises:
        InputError: There is no kernel of this name.
    """
    if name not in KERNELS:
        raise InputError(f"kernel must be one of {', '.join(KERNELS)}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def describe(device: str = "cpu", dtype: torch.dtype | None = None, width: int = 32) -> str:
    """Name the kernel for such operands, with its instruction set or why not a preferred one.

    Args:
        device: Type of device; the tensors need not exist there.
        dtype: Of the operands; default is float32.
        width: Of a head.

    Raises:
        InputError: ``use_kernel`` asks for one that does not support them.
    """
    import torch

    query = torch.empty(0, 0, 0, width, dtype=dtype or torch.float32)
    kernel, reasons = _find(device, query)
    detail = getattr(kernel.implementation, "instruction_set", str)() or "; ".join(reasons)
    return f"{kernel.name} ({detail})" if detail else kernel.name
