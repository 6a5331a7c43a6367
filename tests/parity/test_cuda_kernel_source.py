"""The CUDA kernel for ONNX Runtime, as far as it can be tested without a GPU.

Its source is compiled for the host, where a block is one thread: arithmetic, indices, pieces, masks
and the double-precision way are those of the device; races between threads are not seen. With
``nvcc`` it is compiled for the architectures that the build names.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from osa.export.ort_ops import build as builder
from osa.model.functional.attention import osa_dense, osa_gram

DENSE_UP_TO = 100
"""Tokens."""
SOURCE = builder.HERE / "csrc" / "attention_cuda.cu"


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
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernel's source, compiled for the host."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    target = tmp_path_factory.mktemp("cuda") / "emulated.so"
    command = [compiler, "-O2", "-std=c++17", "-fPIC", "-shared", "-Wall", "-Werror"]
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
) -> np.ndarray:
    """The kernel's result; fails with its message."""
    batch, length, heads, width = states[0].shape
    output = np.full_like(states[0], np.nan)
    call = Call(
        *(part.ctypes.data for part in (*states, output, alpha)),
        cu_seqlens=None if offsets is None else offsets.ctypes.data,
        mask=None if mask is None else mask.ctypes.data,
        batch=batch,
        length=length,
        heads=heads,
        head_dim=width,
        sequences=0 if offsets is None else len(offsets) - 1,
        by_length=int(by_length),
        center=int(center),
    )
    error = library.osa_attention_cuda(ctypes.byref(call))
    if error:
        raise RuntimeError(error.decode())
    return output


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


@pytest.mark.parametrize(("by_length", "center"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("width", [5, 8, 33])
def test_packed_sequences_are_the_truth(
    library: ctypes.CDLL, width: int, by_length: bool, center: bool
) -> None:
    """Across piece boundaries (1024 tokens), empty sequences and widths that fill no tile."""
    generator = np.random.default_rng(0)
    lengths = [1, 2, 0, 17, 66, 1024, 1025, 3]
    offsets = np.cumsum([0, *lengths], dtype=np.int32)
    states = draw(generator, 1, int(offsets[-1]), 2, width)
    alpha = np.array([0.5, -0.1], dtype=np.float32) * (1 if by_length else 1e-3)
    found = run(library, states, alpha, offsets, by_length=by_length, center=center)
    for start, stop in itertools.pairwise(offsets):
        tokens = np.arange(start, stop)
        if len(tokens):
            expected = truth(states, alpha, 0, tokens, by_length, center)
            np.testing.assert_allclose(found[0, tokens], expected, atol=3e-5, rtol=0)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("center", [False, True])
def test_padding_is_not_read_and_comes_out_as_zero(library: ctypes.CDLL, center: bool) -> None:
    generator = np.random.default_rng(1)
    mask = (generator.random((3, 40)) < 0.6).astype(np.uint8)
    mask[2] = 0
    states = draw(generator, 3, 40, 2, 8)
    for part in states:
        part[mask == 0] = np.nan
    alpha = np.array([0.4, 0.2], dtype=np.float32)
    found = run(library, states, alpha, mask=mask, by_length=True, center=center)
    assert not found[mask == 0].any()
    for row in range(2):
        tokens = mask[row].nonzero()[0]
        expected = truth(states, alpha, row, tokens, True, center)
        np.testing.assert_allclose(found[row, tokens], expected, atol=2e-5, rtol=0)


def test_large_angles_are_squared_up_and_correlated_tokens_taken_in_double(
    library: ctypes.CDLL,
) -> None:
    generator = np.random.default_rng(2)
    states = draw(generator, 1, 200, 2, 8)
    states[0][:, 100:] = states[0][:, 100:] * np.float32(0.02) + 1
    states[1][:, 100:] = states[1][:, 100:] * np.float32(0.02) + 1
    alpha = np.array([0.05, 1.0], dtype=np.float32)
    offsets = np.array([0, 100, 200], dtype=np.int32)
    found = run(library, states, alpha, offsets)
    for start, stop in itertools.pairwise(offsets):
        expected = truth(states, alpha, 0, np.arange(start, stop), False, False)
        np.testing.assert_allclose(found[0, start:stop], expected, atol=2e-4, rtol=0)


def test_a_sequence_has_the_same_bits_in_every_batch(library: ctypes.CDLL) -> None:
    generator = np.random.default_rng(3)
    states = draw(generator, 1, 1300, 2, 8)
    alpha = np.array([0.4, 0.2], dtype=np.float32)
    together = run(library, states, alpha, np.array([0, 100, 1300], dtype=np.int32), by_length=True)
    alone = [np.ascontiguousarray(part[:, 100:]) for part in states]
    single = run(library, alone, alpha, np.array([0, 1200], dtype=np.int32), by_length=True)
    np.testing.assert_array_equal(together[:, 100:], single)


def test_many_sequences_run_in_groups_that_fit_the_workspace(library: ctypes.CDLL) -> None:
    generator = np.random.default_rng(4)
    count = 300
    states = draw(generator, 1, 2 * count, 2, 8)
    alpha = np.array([0.4, 0.2], dtype=np.float32)
    found = run(library, states, alpha, np.arange(count + 1, dtype=np.int32) * 2)
    for row in (0, 150, 299):
        tokens = np.arange(2 * row, 2 * row + 2)
        expected = truth(states, alpha, 0, tokens, False, False)
        np.testing.assert_allclose(found[0, tokens], expected, atol=2e-5, rtol=0)


def test_what_is_not_finite_stays_in_its_sequence(library: ctypes.CDLL) -> None:
    states = draw(np.random.default_rng(5), 1, 30, 1, 8)
    states[0][0, 3, 0, 0] = np.inf
    alpha = np.array([0.4], dtype=np.float32)
    found = run(library, states, alpha, np.array([0, 10, 30], dtype=np.int32))
    assert not np.isfinite(found[0, :10]).all()
    assert np.isfinite(found[0, 10:]).all()


@pytest.mark.parametrize("offsets", [[0, 5], [1, 10], [0, 7, 3, 10]])
def test_offsets_that_do_not_fit_are_refused(library: ctypes.CDLL, offsets: list[int]) -> None:
    states = draw(np.random.default_rng(6), 1, 10, 1, 8)
    with pytest.raises(RuntimeError, match="cu_seqlens must rise from 0 to the packed length"):
        run(library, states, np.ones(1, np.float32), np.array(offsets, dtype=np.int32))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the path")
def test_it_compiles_for_the_architectures_of_the_build(tmp_path: Path) -> None:
    kernel = Path(builder.__file__).parents[2] / "model" / "kernels" / "csrc"
    nvcc = shutil.which("nvcc")
    assert nvcc is not None
    command = builder._nvcc(nvcc, kernel, tmp_path / "cuda.o")
    assert all(f"sm_{architecture}" in " ".join(command) for architecture in ("80", "90"))
    subprocess.run(command, check=True)
    assert (tmp_path / "cuda.o").stat().st_size > 10_000
