"""The CPU kernel: a small C library, built by the install where there is a compiler.

Forward pass only, float32 and bfloat16 (float16 by way of float32), any head width up to 128. A
sequence's result depends on its own tokens alone, bit for bit, on any number of threads. It runs
on torch's own OpenMP threads and without the interpreter lock. Sources and their documentation are
in ``csrc``.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from osa.model import processor
from osa.model.errors import InputError
from osa.model.functional.varlen import check_cu_seqlens
from osa.model.kernels.torch_kernel import attention_backward as attention_backward

ABI_VERSION = 12
MAX_HEAD_DIM = 128
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
SCALES = {"paper": 0, "length": 1}
EXTENSION = "osa.model.kernels._native"
_NAMES = (
    "osa_attention_error",
    "osa_instruction_sets",
    "osa_instruction_set",
    "osa_product_sets",
    "osa_product_set",
)


class Operand(ctypes.Structure):
    """``OsaTensor`` of ``csrc/osa_attention.h``, field by field."""

    _fields_ = (
        ("data", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("token_stride", c_int64),
    )


class CompletionCall(ctypes.Structure):
    """``OsaCompletion`` of ``csrc/osa_attention.h``, field by field."""

    _fields_ = (
        ("sides", c_void_p),
        ("side_stride", c_int64),
        ("identity", c_void_p),
        ("mixed", c_void_p),
        ("pool", c_void_p),
        ("taps", c_void_p),
        ("reach", c_int64),
        ("gated", c_int32),
    )


class Call(ctypes.Structure):
    """``OsaCall`` of ``csrc/osa_attention.h``, field by field."""

    _fields_ = (
        ("abi_version", c_int64),
        ("query", Operand),
        ("key", Operand),
        ("value", Operand),
        ("output", Operand),
        ("alpha", c_void_p),
        ("cu_seqlens", c_void_p),
        ("mask", c_void_p),
        ("batch", c_int64),
        ("heads", c_int64),
        ("length", c_int64),
        ("head_dim", c_int64),
        ("sequences", c_int64),
        ("dtype", c_int32),
        ("scale", c_int32),
        ("center", c_int32),
        ("threads", c_int32),
        ("parallel", c_void_p),
        ("completion", POINTER(CompletionCall)),
    )


@functools.cache
def library() -> ctypes.CDLL | str:
    """The loaded library, or a message that says why there is none."""
    spec = importlib.util.find_spec(EXTENSION)
    if spec is None or spec.origin is None:
        return "is not built: the install found no C++ compiler that could"
    try:
        loaded = ctypes.CDLL(spec.origin)
        loaded.osa_abi_version.restype = c_int64
        version = loaded.osa_abi_version()
    except (OSError, AttributeError) as error:
        return f"cannot be loaded: {error}"
    if version != ABI_VERSION:
        return f"is built for interface {version}, needed is {ABI_VERSION}: install again"
    loaded.osa_attention.argtypes = [POINTER(Call)]
    loaded.osa_attention.restype = c_int
    loaded.osa_attention_error.argtypes = [c_int]
    for name in ("osa_use_instruction_set", "osa_use_product_set"):
        getattr(loaded, name).argtypes = [c_char_p]
    for name in _NAMES:
        getattr(loaded, name).restype = c_char_p
    _use(loaded, _best(_allowed(loaded.osa_instruction_sets())))
    return loaded


def _allowed(built: bytes) -> list[str]:
    """Those of some sets' names that may be used; ``avx512_vnni`` is a variant of avx512."""
    return [name for name in built.decode().split() if _family(name) in processor.allowed()]


def _best(names: list[str]) -> str:
    """The fastest of some sets, which are in order: slow products are passed over."""
    fast = processor.has_bfloat16_products()
    return next(name for name in names if fast or not name.endswith("_bf16"))


def _family(name: str) -> str:
    """The one of ``processor.INSTRUCTION_SETS`` that a set is a variant of."""
    return name.split("_")[0]


def _use(loaded: ctypes.CDLL, name: str) -> None:
    """Compute with an instruction set, and products with the best variant of it."""
    loaded.osa_use_instruction_set(name.encode())
    variants = _allowed(loaded.osa_product_sets())
    products = _best([found for found in variants if _family(found) == _family(name)])
    loaded.osa_use_product_set(products.encode())


@functools.cache
def parallel() -> int | None:
    """Address of ``GOMP_parallel`` of torch's own OpenMP; None where torch has another."""
    for file in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            function = ctypes.CDLL(str(file)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, c_void_p).value
    return None


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that are built and may be used, best first; none without the library."""
    return _there("osa_instruction_sets")


def product_sets() -> tuple[str, ...]:
    """Likewise of products with packed weights, which come in more variants."""
    return _there("osa_product_sets")


def instruction_set() -> str:
    """The instruction set in use.

    Raises:
        InputError: The library is not built or cannot be loaded.
    """
    return str(_loaded().osa_instruction_set().decode())


def product_set() -> str:
    """The variant of products in use; raises as ``instruction_set``."""
    return str(_loaded().osa_product_set().decode())


def describe_products() -> str:
    """Name what computes products with packed weights, with its variant or why there is none."""
    loaded = library()
    return f"torch (native {loaded})" if isinstance(loaded, str) else f"native ({product_set()})"


def use_instruction_set(name: str) -> None:
    """Compute with another instruction set from now on, for tests and measurements.

    Raises:
        InputError: It is not built, does not run here, or is above the limit.
    """
    _check("instruction set", name, instruction_sets())
    _use(_loaded(), name)


def use_product_set(name: str) -> None:
    """Compute products by another variant; for what, and raises, as ``use_instruction_set``."""
    _check("products", name, product_sets())
    _loaded().osa_use_product_set(name.encode())


def _there(function: str) -> tuple[str, ...]:
    """Names that a function of the library lists, and that may be used."""
    loaded = library()
    return () if isinstance(loaded, str) else tuple(_allowed(getattr(loaded, function)()))


def _check(what: str, name: str, there: tuple[str, ...]) -> None:
    _loaded()  # says why there is none
    if name not in there:
        raise InputError(f"{what} must be one of {', '.join(there)}, got {name!r}")


def _loaded() -> ctypes.CDLL:
    loaded = library()
    if isinstance(loaded, str):
        raise InputError(f"the CPU kernel {loaded}")
    return loaded


def unsupported(query: Tensor) -> str | None:
    """Why this kernel does not support these operands; None where it does."""
    loaded = library()
    if isinstance(loaded, str):
        return loaded
    if query.dtype not in DTYPES and query.dtype != torch.float16:
        return f"takes float32, bfloat16 and float16, not {query.dtype}"
    if query.shape[-1] > MAX_HEAD_DIM:
        return f"takes head widths up to {MAX_HEAD_DIM}, not {query.shape[-1]}"
    return None


def operand(states: Tensor) -> Operand:
    """Address and strides of states [B, H, N, d], whose last stride is 1."""
    batch, head, token, _ = states.stride()
    return Operand(states.data_ptr(), batch, head, token)


def attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: str,
    center: bool,
    completion: CompletionCall | None = None,
) -> Tensor:
    """``osa::attention`` of checked and supported operands; shapes as in ``osa.model.ops``.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        alpha: Angle of each head.
        mask: True at real tokens of a padded batch, or None.
        cu_seqlens: Offsets of a packed batch, or None.
        scale: One of ``SCALES``.
        center: Whether means of queries and keys are subtracted.
        completion: Addresses of the terms that complete it, or None.

    Raises:
        InputError: ``cu_seqlens`` do not delimit the packed tokens, or memory is exhausted.
    """
    if query.dtype == torch.float16:
        states = (query.float(), key.float(), value.float())
        output = attention_forward(*states, alpha, mask, cu_seqlens, scale, center, completion)
        return output.transpose(1, 2).half().transpose(1, 2)
    batch, heads, length, head_dim = query.shape
    output = query.new_empty(batch, length, heads, head_dim).transpose(1, 2)
    # Referenced until the call returns: the library gets addresses only.
    operands = [part if part.stride(-1) == 1 else part.contiguous() for part in (query, key, value)]
    alpha = alpha.detach().to(torch.float32).contiguous()
    call = Call(
        ABI_VERSION,
        *map(operand, (*operands, output)),
        alpha=alpha.data_ptr(),
        batch=batch,
        heads=heads,
        length=length,
        head_dim=head_dim,
        dtype=DTYPES[query.dtype],
        scale=SCALES[scale],
        center=int(center),
        threads=torch.get_num_threads(),
        parallel=parallel(),
        completion=None if completion is None else ctypes.pointer(completion),
    )
    if mask is not None:
        mask = mask.contiguous()
        call.mask = mask.data_ptr()
    if cu_seqlens is not None:
        if cu_seqlens.dtype != torch.int32 or cu_seqlens.dim() != 1 or not len(cu_seqlens):
            check_cu_seqlens(cu_seqlens, length)  # the library checks what it can read
        offsets = cu_seqlens.to("cpu", torch.int32).contiguous()
        call.cu_seqlens, call.sequences = offsets.data_ptr(), len(offsets) - 1
    library = _loaded()
    code = library.osa_attention(ctypes.byref(call))
    if code:
        if cu_seqlens is not None:
            check_cu_seqlens(cu_seqlens, length)
        raise InputError(f"osa::attention: {library.osa_attention_error(code).decode()}")
    return output
