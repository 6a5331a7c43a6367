"""The block between two attentions compiled for arm64, under an emulator, beside this machine's."""

from __future__ import annotations

import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from osa.model.kernels import native
from osa.model.kernels.build import ATTENTION, FLAGS, instruction_sets_of
from osa.model.kernels.native_block import STATES, BlockWeights, Layer, Shape, Transform, compute
from osa.model.kernels.packed_weights import DTYPES
from tests.block_reference import Weights

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", ["qemu-aarch64", "-cpu", "max"]
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which(COMPILER) and shutil.which(EMULATOR[0])),
        reason=f"needs {COMPILER} and {EMULATOR[0]} (g++-aarch64-linux-gnu and qemu-user)",
    ),
    pytest.mark.skipif(isinstance(native.library(), str), reason="needs the CPU kernel"),
]
CSRC = Path(__file__).parents[2] / "model" / "kernels" / "csrc"
SETS = instruction_sets_of("aarch64")
EPSILON = 1e-6
WIDTH, INNER, HEADS = 128, 832, 4
TOLERANCE = {"float32": 2e-5, "bfloat16": 0.02, "int8": 0.06}
"""Of sums that a rounding to the neighbour changes."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library for arm64 with a program that calls it."""
    folder = tmp_path_factory.mktemp("arm64")
    jobs = [
        (source, name, flags, [f"-DOSA_ISA={name}"])
        for name, flags in SETS.items()
        for source in ("kernel", "products")
        if source == "products" or name in ATTENTION
    ]
    built = [f"-DOSA_HAVE_{name}" for name in SETS]
    jobs += [(source, "", (), built) for source in ("dispatch", "pass")]

    def compile_one(job: tuple[str, str, tuple[str, ...], list[str]]) -> str:
        source, name, flags, macros = job
        result = folder / f"{source}{name}.o"
        # as it is written, contracted as in an install; loops unrolled by -O3 take half a minute
        command = [COMPILER, "-c", *FLAGS, "-O1", *flags, *macros, "-o", str(result)]
        subprocess.run([*command, str(CSRC / f"{source}.cpp")], check=True)
        return str(result)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, jobs))
    program = folder / "driver"
    source = Path(__file__).with_name("arm64_driver.cpp")
    link = [COMPILER, "-std=c++17", "-static", "-pthread", f"-I{CSRC}", str(source), *objects]
    subprocess.run([*link, "-o", str(program)], check=True)
    return program


def as_bytes(*arrays: Tensor | None) -> bytes:
    """Arrays, each after its length in bytes."""
    parts = []
    for array in arrays:
        raw = b"" if array is None else array.contiguous().view(torch.uint8).numpy().tobytes()
        parts.append(struct.pack("<q", -1 if array is None else len(raw)) + raw)
    return b"".join(parts)


def layer_bytes(layer: Layer) -> bytes:
    weight = layer.weight
    return as_bytes(weight.data, layer.bias, weight.scale, weight.totals)


def read_results(raw: bytes, dtype: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Hidden states and states, in float32, by product set."""
    parts, place = [], 0
    while place < len(raw):
        (size,) = struct.unpack_from("<q", raw, place)
        parts.append(bytearray(raw[place + 8 : place + 8 + size]))
        place += 8 + size
    return {
        name.decode(): (
            torch.frombuffer(hidden, dtype=torch.float32).view(-1, WIDTH),
            torch.frombuffer(states, dtype=STATES[dtype]).float().view(-1, 3, WIDTH),
        )
        for name, hidden, states in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def run_here(
    block: BlockWeights, dtype: str, hidden: Tensor, mixed: Tensor, rotary: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    shape = Shape(WIDTH, HEADS, dtype, EPSILON, EPSILON)
    own, states = hidden.clone(), torch.zeros(len(hidden), 3, WIDTH, dtype=STATES[dtype])
    compute(Transform(shape, block, block).call(own, mixed, states, rotary))
    return own, states.float()


def run_there(
    driver: Path, folder: Path, block: BlockWeights, dtype: str, hidden: Tensor, mixed: Tensor,
    rotary: tuple[Tensor, Tensor], threads: int = 1,
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    assert block.out is not None
    assert block.up is not None
    assert block.down is not None
    sizes = (len(hidden), WIDTH, block.down.weight.inputs, WIDTH, HEADS, DTYPES[dtype], threads)
    layers = (block.out, block.up, block.down, block.qkv)
    norms = (block.feed_forward_norm.weight, block.mixer_norm.weight)
    inputs = struct.pack("<7q", *sizes) + b"".join(map(layer_bytes, layers))
    inputs += as_bytes(*norms, hidden, mixed, *rotary)
    (folder / "inputs").write_bytes(inputs)
    command = [*EMULATOR, str(driver), str(folder / "inputs"), str(folder / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_results((folder / "outputs").read_bytes(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 7, 33])
def test_every_variant_computes_what_this_machine_does(
    driver: Path, tmp_path: Path, dtype: str, rows: int
) -> None:
    torch.manual_seed(rows)
    block = Weights(dtype, WIDTH, INNER, HEADS).packed
    hidden, mixed = torch.randn(rows, WIDTH), torch.randn(rows, WIDTH).to(STATES[dtype])
    turns = torch.randn(rows, WIDTH // HEADS // 2)
    rotary = (turns.cos(), turns.sin())
    wanted = run_here(block, dtype, hidden, mixed, rotary)
    found = run_there(driver, tmp_path, block, dtype, hidden, mixed, rotary)
    assert list(found) == ["baseline_bf16", "baseline_dot", "baseline"]
    for name, results in found.items():
        for one, here in zip(results, wanted, strict=True):
            scale = max(1.0, here.abs().max().item() / 4)
            np.testing.assert_allclose(one, here, atol=TOLERANCE[dtype] * scale, err_msg=name)
            assert (one - here).abs().mean() < TOLERANCE[dtype] * scale / 20, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_same_bits_alone_and_on_two_threads(
    driver: Path, tmp_path: Path, dtype: str
) -> None:
    torch.manual_seed(1)
    block = Weights(dtype, WIDTH, INNER, HEADS).packed
    hidden, mixed = torch.randn(20, WIDTH), torch.randn(20, WIDTH).to(STATES[dtype])
    turns = torch.randn(20, WIDTH // HEADS // 2)
    rotary = (turns.cos(), turns.sin())
    together = run_there(driver, tmp_path, block, dtype, hidden, mixed, rotary, threads=2)
    one = (turns[4:5].cos(), turns[4:5].sin())
    alone = run_there(driver, tmp_path, block, dtype, hidden[4:5], mixed[4:5], one)
    for name, (states, heads) in together.items():
        assert torch.equal(states[4], alone[name][0][0]), name
        assert torch.equal(heads[4], alone[name][1][0]), name
