"""Kernels compiled ahead are those that a device looks for, and are found without compiling."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
BATCHES = [[3], [65], [200, 3, 64], [3] * 40, [1, 1030], [300] * 5]
"""Of other sizes than those that were compiled for [tokens]."""


def tiny_model(**options: Any) -> Any:
    from osa.model import EmbeddingModel
    from osa.model.config import EncoderConfig

    config = EncoderConfig(
        vocab_size=50, hidden_size=64, num_layers=1, num_heads=2, ffn_size=128, max_seq_len=2000,
        mixer="osa", scale="length", qk_norm=True, positions="rotary", **options,
    )  # fmt: skip
    return EmbeddingModel(config).eval().requires_grad_(False)


def name_keys(part: str) -> None:
    """Print the keys of the kernels that are compiled ahead, or those that batches look for."""
    import torch
    from triton.compiler import compiler
    from triton.runtime import driver, jit
    from triton.runtime.cache import get_cache_key

    from osa.model.inference.compiled import build
    from osa.model.inference.device_graphs import DeviceOptions, DeviceRunner
    from osa.model.kernels import gpu

    keys = set()

    def compiled(source: Any, target: Any = None, options: Any = None, **more: Any) -> Any:
        backend = compiler.make_backend(target)
        parsed = backend.parse_options({**(options or {}), **source.parse_options()})
        key = get_cache_key(source, backend, parsed, env_vars={})
        keys.add(f"{source.name} {hashlib.sha256(key.encode()).hexdigest()[:16]}")
        return SimpleNamespace(
            run=lambda *rest: None, function=None, packed_metadata=None,
            launch_metadata=lambda *rest: None, metadata=None, result=lambda: None,
        )  # fmt: skip

    binder = jit.JITFunction.create_binder

    def create_binder(self: Any) -> Any:
        found = binder(self)
        self.compile = compiled
        return found

    jit.JITFunction.create_binder = create_binder
    for options in ({}, {"osa_pool": True, "osa_taps": 2, "osa_gate": True, "center": True}):
        model = tiny_model(**options)
        for dtype in build.dtypes_of(90):
            with torch.inference_mode():
                if part == "ahead":
                    build.compile_for(
                        90,
                        lambda: build.run_everything(model, dtype),  # noqa: B023
                    )
                    continue
                driver.set_active(build.AssumedDevice(90))
                with gpu.assumed_capability((9, 0)):
                    runner = DeviceRunner(model, dtype, DeviceOptions(graphs=False))
                    for lengths in BATCHES:
                        runner.submit([[1] * length for length in lengths])
    print(json.dumps(sorted(keys)))


def compile_few(target: str) -> None:
    """Compile three kernels that take no time, and keep them."""
    import torch
    from triton import knobs

    from osa.model.inference.compiled import build

    build.compile_for(90, lambda: launch_few(torch))
    print(build.keep(Path(knobs.cache.dir), Path(target)))


def launch_few(torch: Any) -> None:
    from osa.model.kernels.gpu.encoder import launches

    rows, norm = torch.empty(64, 32), launches.Norm(1, torch.empty(32), None, 1e-6)
    launches.add_and_norm(rows, None, norm, torch.bfloat16)
    launches.to_unit(rows)


def find_few(folder: str) -> None:
    """Look for the same kernels as a device does, and print which were found."""
    import torch
    from triton import knobs
    from triton.compiler import CompiledKernel
    from triton.runtime import driver

    from osa.model.inference.compiled.build import AssumedDevice
    from osa.model.inference.compiled.cache import CompiledKernels

    CompiledKernels.folder = Path(folder)
    knobs.cache.manager_class = CompiledKernels
    found = {}

    def listen(*, src: Any, cache_hit: bool, **facts: Any) -> None:
        found[src.name] = cache_hit

    knobs.compilation.listener = listen
    driver.set_active(AssumedDevice(90))
    CompiledKernel.run = property(lambda self: lambda *rest: None)  # there is no device
    CompiledKernel.launch_metadata = lambda *rest: None
    launch_few(torch)
    print(json.dumps(found))


def in_process(name: str, argument: str, cache: Path) -> Any:
    """What a function of this module prints, in a process without the interpreter."""
    environment = {key: text for key, text in os.environ.items() if key != "TRITON_INTERPRET"}
    finished = subprocess.run(
        [sys.executable, __file__, name, argument],
        env={**environment, "TRITON_CACHE_DIR": str(cache)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.splitlines()[-1])


def test_batches_look_for_what_was_compiled_ahead(tmp_path: Path) -> None:
    ahead = set(in_process("name_keys", "ahead", tmp_path))
    wanted = set(in_process("name_keys", "batches", tmp_path))
    assert len(wanted) > 30
    assert not wanted - ahead


def test_what_was_compiled_ahead_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    kept, cache = tmp_path / "kept", tmp_path / "cache"
    assert in_process("compile_few", str(kept), tmp_path / "first") == 2
    assert {file.suffix for file in kept.rglob("*.*")} == {".cubin", ".json"}
    moved = kept.rename(tmp_path / "moved")
    assert in_process("find_few", str(moved), cache) == {"add_and_norm": True, "to_unit": True}
    assert not list(cache.rglob("*.cubin"))
    assert in_process("find_few", str(tmp_path / "nothing"), cache) == {
        "add_and_norm": False, "to_unit": False,
    }  # fmt: skip


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
