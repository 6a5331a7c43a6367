"""Compile the GPU kernels of a model before it is served, without a device.

    python -m osa.model.inference.compiled.build --capability 80 90 [--model DIR]

Its pass runs on the CPU with launches that compile instead of run, so what is compiled is what a
device launches. The kernels are written into the package, or to ``--output``; from there
``osa.model.inference.compiled.cache`` reads them. They depend on widths, types and tiles, and on
nothing of a batch but whether it has short and long sequences.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from osa.model.config import EncoderConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError, OsaError
from osa.model.inference.device_graphs import DeviceOptions, DeviceRunner
from osa.model.inference.device_pass import unfit
from osa.model.kernels import gpu

CAPABILITIES = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities times ten: what ``tests/parity/test_gpu_kernels_compile.py`` compiles."""
LENGTHS = ((3,), (65,), (3, 65))
"""Of the sequences of the batches that launch every kernel [tokens]."""


class AssumedDevice:
    """Of Triton's driver the part that compiling asks for, of a device that is not there."""

    def __init__(self, capability: int) -> None:
        """Assume a device of this compute capability, times ten."""
        self._capability = capability

    def get_current_target(self) -> Any:
        """What is compiled for."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        """A number that no other capability has: Triton remembers kernels by device."""
        return self._capability

    def get_current_stream(self, device: int) -> int:
        """None is needed."""
        del device
        return 0


def dtypes_of(capability: int) -> tuple[torch.dtype, ...]:
    """Types that a model is served in on such a device, the usual one first."""
    half = torch.bfloat16 if capability >= 80 else torch.float16
    return half, torch.float32


def run_everything(model: EmbeddingModel, dtype: torch.dtype) -> None:
    """Run batches that launch all kernels of a model's pass; in float32 those of the retry too.

    Args:
        model: On the CPU.
        dtype: Of the pass.
    """
    from osa.model.kernels.gpu import pool_packed

    config = model.config
    for fixed in (True, False):
        runner = DeviceRunner(model, dtype, DeviceOptions(graphs=False, fixed_products=fixed))
        for lengths in LENGTHS:
            runner.submit([_row(config, length) for length in lengths])
    if dtype != torch.float32:
        return
    joint = torch.zeros(1, 68, 3, config.num_heads, config.head_dim)
    query, key, value = (part.transpose(1, 2) for part in joint.unbind(2))
    alpha, offsets = torch.ones(config.num_heads), torch.tensor([0, 3, 68], dtype=torch.int32)
    gpu.attention_forward(query, key, value, alpha, None, offsets, config.scale, config.center)
    pool_packed(torch.zeros(68, config.hidden_size), config.pooling, offsets)


def _row(config: EncoderConfig, length: int) -> list[int] | np.ndarray:
    width = config.feature_size
    if width is None:
        return [0] * length
    return np.zeros((length, width), dtype=np.float32)


def compile_for(capability: int, run: Callable[[], None]) -> None:
    """Compile what ``run`` launches, into Triton's cache.

    Args:
        capability: Of the device that is compiled for, times ten.
        run: Launches kernels on tensors of the CPU.
    """
    from triton.runtime import driver

    from osa.model.kernels.gpu.launch import launching_by

    def compile_only(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        kernel.warmup(*arguments, grid=(programs,), **constants)

    driver.set_active(AssumedDevice(capability))
    with gpu.assumed_capability(divmod(capability, 10)), launching_by(compile_only):
        run()


def keep(cache: Path, target: Path) -> int:
    """Copy what running needs of the kernels of Triton's cache; returns how many are new.

    Args:
        cache: Triton's.
        target: Folder for ``osa.model.inference.compiled.cache``.
    """
    from osa.model.inference.compiled.cache import KEPT

    target.mkdir(parents=True, exist_ok=True)
    added = 0
    for kernel in _kernels(cache):
        if (target / kernel.name).exists():
            continue
        with tempfile.TemporaryDirectory(dir=target) as scratch:
            whole = Path(scratch, kernel.name)
            whole.mkdir(mode=0o755)
            for file in kernel.iterdir():
                if file.suffix in KEPT and not file.name.startswith("__grp__"):
                    shutil.copyfile(file, whole / file.name)
            whole.rename(target / kernel.name)
        added += 1
    return added


def _kernels(cache: Path) -> Iterator[Path]:
    for folder in sorted(cache.iterdir()):
        if folder.is_dir() and any(folder.glob("*.cubin")):
            yield folder


def compile_model(
    model: EmbeddingModel, capabilities: Sequence[int], target: Path
) -> dict[int, int]:
    """Compile a model's kernels for some capabilities; returns how many are new for each.

    Args:
        model: On the CPU.
        capabilities: Times ten.
        target: Folder for ``osa.model.inference.compiled.cache``.

    Raises:
        ConfigError: A model without such a pass.
    """
    from triton import knobs

    found = {}
    model = model.eval().requires_grad_(False)
    for capability in capabilities:
        with tempfile.TemporaryDirectory() as scratch:
            knobs.cache.manager_class, knobs.cache.dir = None, scratch
            for dtype in dtypes_of(capability):
                with gpu.assumed_capability(divmod(capability, 10)):
                    reason = unfit(model, dtype)
                if reason is not None:
                    raise ConfigError(f"this model {reason}: it has no kernels of its own")
                compile_for(capability, lambda: run_everything(model, dtype))  # noqa: B023
            found[capability] = keep(Path(scratch), target)
    return found


def main() -> None:
    """The command."""
    from osa.model.inference.compiled.cache import FOLDER

    parser = argparse.ArgumentParser(prog="python -m osa.model.inference.compiled.build")
    parser.add_argument("--model", type=Path, help="a checkpoint; the packaged one by default")
    parser.add_argument(
        "--capability", type=int, nargs="+", choices=CAPABILITIES, default=CAPABILITIES,
        metavar="CC", help=f"compute capabilities times ten: {', '.join(map(str, CAPABILITIES))}",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    options = parser.parse_args()
    try:
        model = EmbeddingModel.from_pretrained(options.model)
        found = compile_model(model, options.capability, options.output)
    except OsaError as error:
        parser.exit(1, f"{error}\n")
    for capability, count in found.items():
        print(f"sm_{capability}: {count} new kernels in {options.output}")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
