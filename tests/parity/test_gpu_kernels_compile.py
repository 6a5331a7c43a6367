"""Every Triton kernel compiles for the GPUs that it is meant for; none is needed.

The host code runs as it is, in a process of its own without the interpreter, but launches compile
instead of run: so what is compiled is what a GPU would get. Shared memory and spilled registers
are held to the device's limits.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}
"""Most that one block can have [bytes], by compute capability."""
SPILLED = 512
"""Stack of a thread [bytes] above which registers are spilled in earnest."""
SPILLED_RARELY = 2048
"""The same for ``double_weights``, which runs beyond 16 rad alone."""
KERNELS = {
    "sum_rows",
    "divide_sums",
    "reduce_products",
    "combine_slots",
    "solve_weights",
    "double_weights",
    "apply_weights",
    "solve_gradients",
    "apply_gradients",
}


def compile_kernels(capability: int) -> None:
    """Print a JSON object for every kernel, width, type and form of batch."""
    import torch
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from osa.model.kernels import gpu
    from osa.model.kernels.gpu import backward, forward

    class Target:
        """The part of a driver that compiling asks for."""

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

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
    driver.set_active(Target())
    for module in (forward, backward):
        vars(module)["launch"] = compile_only
    single, bfloat = torch.float32, torch.bfloat16
    cases = {  # width, type, whether packed; the rest is alike
        80: [(32, single, True), (64, bfloat, True), (128, bfloat, False)],
        90: [
            (32, bfloat, True),
            (64, single, False),
            (64, bfloat, True),
            (64, torch.float16, True),
            (128, single, True),
            (128, bfloat, True),
        ],
    }
    mask, offsets = torch.ones(1, 256, dtype=torch.bool), torch.zeros(3, dtype=torch.int32)
    for width, dtype, packed in cases[capability]:
        report.update(width=width, dtype=str(dtype), packed=packed)
        states, alpha = torch.empty(1, 4, 256, width, dtype=dtype), torch.empty(4)
        layout = (None, offsets) if packed else (mask, None)
        options = (alpha, *layout, "length", packed)
        gpu.attention_forward(states, states, states, *options)
        gpu.attention_backward(states, states, states, states, *options)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_kernels_compile(capability: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    finished = subprocess.run(
        [sys.executable, __file__, str(capability)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    reports = [json.loads(line) for line in finished.stdout.splitlines()]
    assert {report["kernel"] for report in reports} == KERNELS
    for report in reports:
        assert report["shared"] <= SHARED_MEMORY[capability], report
        limit = SPILLED_RARELY if report["kernel"] == "double_weights" else SPILLED
        assert report["stack"] is None or report["stack"] <= limit, report


if __name__ == "__main__":
    compile_kernels(int(sys.argv[1]))
