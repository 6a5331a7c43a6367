"""Errors after which a CUDA device computes nothing more in this process.

An illegal access, a failed assertion in a kernel or an uncorrectable memory error breaks the
context of the process: every later call fails with the same error, and a new engine in the same
process would be opened in the same context. Source: NVIDIA, *CUDA Runtime API*, ``cudaError_t``
("the process must be terminated and relaunched").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

CODES = {
    46: "cudaErrorDevicesUnavailable",
    214: "cudaErrorECCUncorrectable",
    220: "cudaErrorNvlinkUncorrectable",
    700: "cudaErrorIllegalAddress",
    702: "cudaErrorLaunchTimeout",
    709: "cudaErrorContextIsDestroyed",
    710: "cudaErrorAssert",
    714: "cudaErrorHardwareStackError",
    715: "cudaErrorIllegalInstruction",
    716: "cudaErrorMisalignedAddress",
    717: "cudaErrorInvalidAddressSpace",
    718: "cudaErrorInvalidPc",
    719: "cudaErrorLaunchFailure",
    721: "cudaErrorContained",
    999: "cudaErrorUnknown",
}
"""Errors that break the context, by number."""
PHRASES = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "uncorrectable ecc error encountered",
    "uncorrectable nvlink error",
    "unspecified launch failure",
    "device-side assert triggered",
    "misaligned address",
    "hardware stack error",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "context is destroyed",
    "invalid device context",
)
"""The same in the messages of torch, Triton, AOTInductor and ONNX Runtime, in lower case."""
LONGEST = 200
"""Of a message that is shown [characters]."""


def device_fault(error: BaseException) -> str | None:
    """What broke the device's context, or None where it computes on.

    An error that says neither, on a process that uses CUDA, is settled by a call that waits for
    the device: in a broken context that fails too.
    """
    for each in _chain(error):
        code = getattr(each, "error_code", None)  # of torch.AcceleratorError
        if isinstance(code, int) and code in CODES:
            return CODES[code]
        text = str(each)
        if any(phrase in text.lower() for phrase in PHRASES):
            return text.partition("\n")[0][:LONGEST]
    return _broken_context()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from or during."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _broken_context() -> str | None:
    """The error of a call that waits for the device, unless that is of memory."""
    if not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as error:
        return str(error).partition("\n")[0][:LONGEST]
    return None
