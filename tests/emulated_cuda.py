"""ONNX Runtime's CUDA kernel compiled for the host, its calls, and what they must give."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from typing import NamedTuple

import numpy as np
import pytest
import torch

from osa.export.ort_ops import build as builder
from osa.model.functional.attention import osa_dense, osa_gram
from osa.model.functional.completion import Terms

DENSE_UP_TO = 100
"""Tokens."""
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
SOURCE = builder.HERE / "csrc" / "attention_cuda.cu"


class CompletionCall(ctypes.Structure):
    """``OsaCudaCompletion`` of ``attention_cuda.h``."""

    _fields_ = (
        ("sides", ctypes.c_void_p),
        ("side_stride", ctypes.c_int64),
        ("identity", ctypes.c_void_p),
        ("mixed", ctypes.c_void_p),
        ("pool", ctypes.c_void_p),
        ("taps", ctypes.c_void_p),
        ("reach", ctypes.c_int64),
        ("gated", ctypes.c_int32),
    )


class Call(ctypes.Structure):
    """``OsaCudaCall`` of ``attention_cuda.h``."""

    _fields_ = (
        ("query", ctypes.c_void_p),
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("alpha", ctypes.c_void_p),
        ("cu_seqlens", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("sequences", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
        ("by_length", ctypes.c_int32),
        ("center", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
        ("completion", ctypes.POINTER(CompletionCall)),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernel's source, compiled for the host."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    target = tmp_path_factory.mktemp("cuda") / "emulated.so"
    command = [compiler, "-O2", "-std=c++17", "-fPIC", "-shared", "-Wall", "-Werror"]
    command += ["-U_FORTIFY_SOURCE"]  # which takes a jump between fibers for a fault
    command += [
        "-DOSA_HOST_EMULATION",
        "-DOSA_WORKSPACE_MIB=1",
        "-x",
        "c++",
        str(SOURCE),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(target))
    loaded.osa_attention_cuda.restype = ctypes.c_char_p
    loaded.osa_attention_cuda.argtypes = [ctypes.POINTER(Call)]
    return loaded


def run(
    library: ctypes.CDLL,
    states: list[np.ndarray],
    alpha: np.ndarray,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    by_length: bool = False,
    center: bool = False,
    dtype: torch.dtype = torch.float32,
    completion: CompletionCall | None = None,
) -> np.ndarray:
    """The kernel's result, of states that are rounded to ``dtype``; fails with its message."""
    batch, length, heads, width = states[0].shape
    tensors = [torch.from_numpy(part).to(dtype) for part in states]
    output = torch.full_like(tensors[0], torch.nan)
    call = Call(
        *(part.data_ptr() for part in (*tensors, output)),
        alpha.ctypes.data,
        cu_seqlens=None if offsets is None else offsets.ctypes.data,
        mask=None if mask is None else mask.ctypes.data,
        batch=batch,
        length=length,
        heads=heads,
        head_dim=width,
        sequences=0 if offsets is None else len(offsets) - 1,
        by_length=int(by_length),
        center=int(center),
        dtype=DTYPES[dtype],
    )
    if completion is not None:
        call.completion = ctypes.pointer(completion)
    error = library.osa_attention_cuda(ctypes.byref(call))
    if error:
        raise RuntimeError(error.decode())
    return output.float().numpy()


def truth(
    states: list[np.ndarray],
    alpha: np.ndarray,
    row: int,
    tokens: np.ndarray,
    by_length: bool,
    center: bool,
) -> np.ndarray:
    """In float64: the exponential itself, or for long sequences the form that is held to it."""
    query, key, value = (
        torch.from_numpy(part[row][tokens]).double().transpose(0, 1)[None] for part in states
    )
    scale = "length" if by_length else "paper"
    angles = torch.from_numpy(alpha).double()
    form = osa_dense if len(tokens) <= DENSE_UP_TO else osa_gram
    mixed: torch.Tensor = form(query, key, value, angles, scale=scale, center=center)
    return mixed[0].transpose(0, 1).numpy()


def draw(generator: np.random.Generator, *shape: int) -> list[np.ndarray]:
    return [generator.standard_normal(shape).astype(np.float32) for _ in range(3)]


def rounded(states: list[np.ndarray], dtype: torch.dtype) -> list[np.ndarray]:
    return [torch.from_numpy(part).to(dtype).float().numpy() for part in states]


class Weights(NamedTuple):
    """Weights of the terms in float64, and what tokens say; memory of a ``CompletionCall``."""

    terms: Terms
    side: np.ndarray | None
    memory: list[np.ndarray]


def completion_of(
    generator: np.random.Generator, rows: int, length: int, heads: int, options: str
) -> tuple[CompletionCall, Weights]:
    """Random terms, and their call, which has addresses alone."""
    gated = options in ("gates", "all")
    pool = options in ("pool", "all")
    taps = options in ("taps", "all")

    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    identity, mixed, shares, near = draw(heads), draw(heads), draw(heads), draw(heads, 6)
    count = heads * (pool + (3 if pool else 2) * gated)
    side = draw(rows, length, count) if count else None
    call = CompletionCall(
        None if side is None else side.ctypes.data,
        count,
        identity.ctypes.data,
        mixed.ctypes.data,
        shares.ctypes.data if pool else None,
        near.ctypes.data if taps else None,
        3 if taps else 0,
        int(gated),
    )
    doubles = [torch.from_numpy(part).double() for part in (identity, mixed, shares, near)]
    terms = Terms(
        doubles[0], doubles[1], doubles[2] if pool else None, doubles[3] if taps else None, gated
    )
    return call, Weights(terms, side, [identity, mixed, shares, near])
