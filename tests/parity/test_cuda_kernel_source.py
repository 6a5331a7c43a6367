"""The CUDA kernel for ONNX Runtime, as far as it can be tested without a GPU.

Its source is compiled for the host, where the threads of a block are fibers that run from barrier
to barrier, and tiles of tensor cores are loops: arithmetic, indices, pieces, masks and the
double-precision way are those of the device; a race shows where threads run in the opposite order.
With ``nvcc`` it is compiled for every architecture that has users.
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
from osa.model.functional.attention import osa_gram
from osa.model.functional.completion import complete
from tests.emulated_cuda import DTYPES, SOURCE, completion_of, draw, rounded, run, truth
from tests.emulated_cuda import library as library

ARCHITECTURES = ("75", "120")
"""The oldest and the newest beside those of the build."""
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}
"""Relative; those of rounding to the type and little more."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("width", "by_length", "center"), [(5, False, False), (5, True, True), (33, True, True)]
)
def test_packed_sequences_are_the_truth(
    library: ctypes.CDLL, width: int, by_length: bool, center: bool, dtype: torch.dtype
) -> None:
    """Across piece boundaries (1024 tokens), empty sequences and widths that fill no tile."""
    generator = np.random.default_rng(0)
    lengths = [1, 2, 0, 17, 66, 1025, 3]
    offsets = np.cumsum([0, *lengths], dtype=np.int32)
    states = rounded(draw(generator, 1, int(offsets[-1]), 2, width), dtype)
    alpha = np.array([0.5, -0.1], dtype=np.float32) * (1 if by_length else 1e-3)
    found = run(library, states, alpha, offsets, by_length=by_length, center=center, dtype=dtype)
    for start, stop in itertools.pairwise(offsets):
        tokens = np.arange(start, stop)
        if len(tokens):
            expected = truth(states, alpha, 0, tokens, by_length, center)
            np.testing.assert_allclose(
                found[0, tokens], expected, atol=3e-5, rtol=TOLERANCES[dtype]
            )
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_threads_changes_nothing(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    """What one thread reads while another writes shows in the result."""
    generator = np.random.default_rng(7)
    states = draw(generator, 1, 150, 2, 33)
    states[0][:, 100:, 1] = states[1][:, 100:, 1] = 1  # which takes the way in double
    alpha = np.array([0.4, 30.0], dtype=np.float32)
    offsets = np.array([0, 100, 150], dtype=np.int32)
    terms, _kept = completion_of(generator, 1, 150, 2, "all")
    results = []
    for backwards in (0, 1):
        library.osa_emulate_backwards(backwards)
        results.append(
            run(library, states, alpha, offsets, center=True, dtype=dtype, completion=terms)
        )
    library.osa_emulate_backwards(0)
    np.testing.assert_array_equal(results[0], results[1])


def test_moments_that_float16_cannot_hold_are_scaled(library: ctypes.CDLL) -> None:
    """Values of 300 over 2000 tokens: their sums are beyond 65504, and their mixing is not."""
    generator = np.random.default_rng(8)
    states = rounded(draw(generator, 1, 2000, 1, 16), torch.float16)
    states[0] = np.abs(states[0])
    states[2] = np.abs(states[2]) * 0 + 300
    alpha = np.array([0.5], dtype=np.float32)
    offsets = np.array([0, 2000], dtype=np.int32)
    found = run(library, states, alpha, offsets, by_length=True, dtype=torch.float16)
    expected = truth(states, alpha, 0, np.arange(2000), True, False)
    np.testing.assert_allclose(found[0], expected, atol=0, rtol=3e-3)


@pytest.mark.parametrize("options", ["pool", "taps", "gates", "all"])
@pytest.mark.parametrize("form", ["packed", "padded"])
def test_what_completes_the_mixing_is_the_formula(
    library: ctypes.CDLL, form: str, options: str
) -> None:
    generator = np.random.default_rng(9)
    lengths = [1, 2, 17, 1100] if form == "packed" else [40, 1, 0, 9]
    total = sum(lengths) if form == "packed" else 40
    rows = 1 if form == "packed" else len(lengths)
    states = draw(generator, rows, total, 2, 8)
    alpha = np.array([0.5, -0.1], dtype=np.float32)
    terms, weights = completion_of(generator, rows, total, 2, options)
    offsets = mask = None
    if form == "packed":
        offsets = np.cumsum([0, *lengths], dtype=np.int32)
        sequences = [(0, np.arange(*pair)) for pair in itertools.pairwise(offsets)]
    else:
        mask = np.zeros((rows, total), dtype=np.uint8)
        sequences = []
        for row, length in enumerate(lengths):  # anywhere, with padding between
            places = np.sort(generator.permutation(total)[:length])
            mask[row, places] = 1
            sequences.append((row, places))
        for part in (*states, *([weights.side] if weights.side is not None else [])):
            np.asarray(part)[mask == 0] = np.nan
    found = run(library, states, alpha, offsets, mask, by_length=True, completion=terms)
    if mask is not None:
        assert not found[mask == 0].any()
    for row, places in sequences:
        if not len(places):
            continue
        tensors = [torch.from_numpy(part[row][places]).double() for part in states]
        query, key, value = (part.transpose(0, 1)[None] for part in tensors)
        mixing = osa_gram(query, key, value, torch.from_numpy(alpha).double(), scale="length")
        side = None if weights.side is None else torch.from_numpy(weights.side[row][places])[None]
        side = None if side is None else side.double()
        expected = complete(mixing, value, side, weights.terms, None, None)[0].transpose(0, 1)
        np.testing.assert_allclose(found[row, places], expected, atol=3e-5, rtol=1e-5)


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
    count = 80
    states = draw(generator, 1, 2 * count, 2, 8)
    alpha = np.array([0.4, 0.2], dtype=np.float32)
    found = run(library, states, alpha, np.arange(count + 1, dtype=np.int32) * 2)
    for row in (0, 40, 79):
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


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the path")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_compiled_for_other_architectures(tmp_path: Path, architecture: str) -> None:
    """To portable code. Tensor cores multiply float16 everywhere, bfloat16 from sm_80 on."""
    target = tmp_path / "cuda.ptx"
    command = ["nvcc", "-std=c++17", "-ptx", f"-arch=compute_{architecture}", str(SOURCE)]
    subprocess.run([*command, "-o", str(target)], check=True)
    code = target.read_text()
    product = "wmma.mma.sync.aligned.row.row.m16n16k16.f32"
    assert f"{product}.f32" in code
    assert (f"{product}.bf16.bf16.f32" in code) == (int(architecture) >= 80)
