"""Every Triton kernel compiles for its target GPUs; no GPU is needed.

The host code runs as it is, in a process of its own without the interpreter, but launches compile
instead of run: so what is compiled is what a GPU would get. Shared memory and spilled registers
are held to the device's limits.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

SHARED_MEMORY = {
    75: 64 * 1024,
    80: 163 * 1024,
    86: 99 * 1024,
    89: 99 * 1024,
    90: 227 * 1024,
    100: 227 * 1024,
    120: 99 * 1024,
}
"""Most that one block can have [bytes], by compute capability. Source: NVIDIA, *CUDA C++
Programming Guide*, "Technical Specifications per Compute Capability"."""
SPILLED = 512
"""Stack of a thread [bytes] above which registers are spilled in earnest."""
SPILLED_RARELY = 2048
"""The same for ``double_weights``, which runs beyond 16 rad alone."""
CACHE_BYTES = 300_000_000
"""Of compiled kernels that are kept from one run to the next; one version takes 40 MB."""
FORWARD = {
    "sum_rows",
    "divide_sums",
    "reduce_products",
    "combine_slots",
    "solve_weights",
    "double_weights",
    "apply_weights",
    "attend_short",
    "pool_slots",
    "pool_values",
    "complete_rows",
}
GRADIENTS = {
    "solve_gradients",
    "apply_gradients",
    "share_slots",
    "add_slots",
    "complete_gradients",
}
ENCODER = {
    "add_and_norm",
    "turn_heads",
    "activate",
    "multiply_rows",
    "sum_slots",
    "pool_sequences",
    "to_unit",
}
TRAINED_ON = (80, 90)
"""Capabilities whose gradients are compiled too: those of data centres."""


CASES = {  # capability, width, type, whether packed (and centred) rather than masked
    75: [(32, "float16", True), (64, "float16", True)],
    80: [(32, "float32", True), (128, "bfloat16", False)],
    86: [(128, "bfloat16", True)],
    89: [(32, "bfloat16", True)],
    100: [(64, "bfloat16", True)],
    120: [(32, "bfloat16", True)],
    90: [
        (32, "bfloat16", True),
        (64, "float32", False),
        (64, "float16", True),
        (128, "float32", True),
        (128, "bfloat16", True),
    ],
}
"""Every tuning once, the widest of half precision on both: types of one tuning differ in few lines.

80 and 90 see both precisions, both forms of batch and every kernel; the others the forward pass of
half precision, with the kernels of an encoder.
"""
PROCESSES = (
    ((80, 0), (80, 1), (90, 0), (75, 0), (86, 0)),
    ((75, 1), (90, 1), (90, 2), (90, 3), (90, 4), (89, 0), (100, 0), (120, 0)),
)
"""Two, side by side: capability and place in ``CASES``. The first compiles slower, for imports."""


def compile_kernels(cases: list[tuple[int, int]]) -> None:
    """Print a JSON object for every kernel of every case."""
    import torch
    from triton import knobs
    from triton.runtime import driver

    from osa.model.functional.completion import Terms
    from osa.model.inference.compiled.build import AssumedDevice
    from osa.model.kernels import gpu
    from osa.model.kernels.gpu import backward, forward
    from osa.model.kernels.gpu import launch as launching
    from osa.model.kernels.gpu.completion.launches import complete, complete_backward
    from osa.model.kernels.gpu.encoder import launches

    def stack(cubin: bytes) -> int | None:
        path = Path(knobs.nvidia.cuobjdump.path)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(cubin)
            file.flush()
            usage = subprocess.run(
                [path, "-res-usage", file.name], capture_output=True, text=True, check=True
            )
        found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout)
        report["registers"] = int(found[1]) if found else None
        return int(found[2]) if found else None

    def compile_only(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        compiled = kernel.warmup(*arguments, grid=(programs,), **constants)
        report["kernel"] = kernel.__name__
        report["shared"] = compiled.metadata.shared
        report["stack"] = stack(compiled.asm["cubin"])
        print(json.dumps(report), flush=True)

    report: dict[str, Any] = {}
    for module in (launching, forward, backward):
        vars(module)["launch"] = compile_only
    settings = contextlib.ExitStack()
    mask, offsets = torch.ones(1, 256, dtype=torch.bool), torch.zeros(3, dtype=torch.int32)
    for capability, place in cases:
        width, name, packed = CASES[capability][place]
        report.update(capability=capability, place=place, width=width, dtype=name, packed=packed)
        driver.set_active(AssumedDevice(capability))
        settings.enter_context(gpu.assumed_capability(divmod(capability, 10)))
        dtype = getattr(torch, name)
        states, alpha = torch.empty(1, 4, 256, width, dtype=dtype), torch.empty(4)
        layout = (None, offsets) if packed else (mask, None)
        options = (alpha, *layout, "length", packed)
        gpu.attention_forward(states, states, states, *options)
        if capability in TRAINED_ON:
            gpu.attention_backward(states, states, states, states, *options)
        sides = torch.empty(1, 256, 16)
        by = Terms(alpha, alpha, alpha, torch.empty(4, 6), True)
        _, pool = complete(states, states, sides, by, *layout)
        if capability in TRAINED_ON:
            complete_backward(states, states, states, sides, by, pool, *layout)
        if place == 0:
            half = torch.float16 if name == "float16" else torch.bfloat16
            rows, hidden = torch.empty(256, 384, dtype=half), torch.empty(256, 384)
            norm = launches.Norm(1, torch.empty(384), None, 1e-6)
            launches.add_and_norm(hidden, rows, norm, half)
            table = (torch.empty(8, width // 2),) * 2
            launches.turn_heads(torch.empty(256, 3, 6, width, dtype=half), offsets, table, 1e-6)
            launches.activate(rows, "silu", gated=True)
            if capability >= 80:
                launches.multiply(rows, torch.empty(1536, 384, dtype=half), None, "gelu")
                narrow = torch.empty(48, 384, dtype=half)
                launches.multiply(rows, narrow, None, dtype=torch.float32)
            launches.to_unit(launches.pool_packed(hidden, "mean", offsets))


@pytest.fixture(scope="module")
def reports(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What was compiled. Triton keeps it by content: the next run compiles what has changed."""
    remembered = pytestconfig.cache.mkdir("triton") if pytestconfig.cache else None
    folder = remembered or tmp_path_factory.mktemp("triton")
    if sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) > CACHE_BYTES:
        shutil.rmtree(folder)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder)

    def compile_in_process(cases: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
        finished = subprocess.run(
            [sys.executable, __file__, json.dumps(cases)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=1200,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return [json.loads(line) for line in finished.stdout.splitlines()]

    with concurrent.futures.ThreadPoolExecutor(len(PROCESSES)) as pool:
        return list(itertools.chain.from_iterable(pool.map(compile_in_process, PROCESSES)))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("capability", CASES)
def test_every_kernel_compiles_within_the_devices_limits(
    reports: list[dict[str, Any]], capability: int
) -> None:
    own = [report for report in reports if report["capability"] == capability]
    assert {report["place"] for report in own} == set(range(len(CASES[capability])))
    wanted = FORWARD | ENCODER | (GRADIENTS if capability in TRAINED_ON else set())
    if capability < 80:  # products are the library's there
        wanted = wanted - {"multiply_rows"}
    assert {report["kernel"] for report in own} == wanted
    for report in own:
        assert report["shared"] <= SHARED_MEMORY[capability], report
        limit = SPILLED_RARELY if report["kernel"] == "double_weights" else SPILLED
        assert report["stack"] is None or report["stack"] <= limit, report


def test_every_tuning_is_compiled() -> None:
    from osa.model.kernels.gpu.tuning import TUNINGS

    precisions = {str(dtype).removeprefix("torch."): dtype.itemsize for dtype in TUNINGS}
    tuned = {(width, dtype.itemsize) for dtype, widths in TUNINGS.items() for width in widths}
    cases = list(itertools.chain.from_iterable(CASES.values()))
    assert {(width, precisions[name]) for width, name, _ in cases} == tuned
    assert {name for _, name, _ in cases} == set(precisions)


if __name__ == "__main__":
    compile_kernels(json.loads(sys.argv[1]))
