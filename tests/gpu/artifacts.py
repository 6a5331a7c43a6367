"""Steps of compiled forms: ONNX Runtime's kernel through its C entry, AOTInductor."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.gpu.steps import CannotError, Figures

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}


def onnx_kernel(device: str) -> Figures:
    """The CUDA source, compiled here and called without ONNX Runtime."""
    from osa.export.ort_ops import build as builder

    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise CannotError("needs nvcc")
    major, minor = torch.cuda.get_device_capability() if device == "cuda" else (9, 0)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "attention.so"
        command = [nvcc, "-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC"]
        command += [f"-arch=sm_{major}{minor}", str(builder.HERE / "csrc" / "attention_cuda.cu")]
        subprocess.run([*command, "-o", str(target)], check=True)
        yield {"name": f"compiled for sm_{major}{minor}"}
        if device == "cpu":
            raise CannotError("compiled; needs a device to run: the source is emulated elsewhere")
        library = ctypes.CDLL(str(target))
        library.osa_attention_cuda.restype = ctypes.c_char_p
        for dtype, tolerance in TOLERANCES.items():
            for completed in (False, True):
                largest, milliseconds = _run_kernel(library, dtype, completed)
                name = f"{str(dtype).removeprefix('torch.')}{', completed' * completed}"
                yield {"name": name, "largest_error": largest, "ms": milliseconds}
                assert largest <= tolerance, name


def _run_kernel(library: ctypes.CDLL, dtype: torch.dtype, completed: bool) -> tuple[float, float]:
    """Largest error against float64, relative to the largest value; time of a call [ms]."""
    from osa.model.functional.attention import osa_gram
    from osa.model.functional.completion import Terms, complete
    from tests.emulated_cuda import DTYPES, Call, CompletionCall

    offsets = np.cumsum([0, 1, 0, 66, 1025, 300, 4096], dtype=np.int32)
    total, heads, width = int(offsets[-1]), 4, 64
    torch.manual_seed(0)
    states = [torch.randn(1, total, heads, width, device="cuda").to(dtype) for _ in range(3)]
    alpha = torch.full([heads], 0.5, device="cuda")
    identity, mixed, pool = torch.randn(3, heads, device="cuda")
    taps, side = torch.randn(heads, 6, device="cuda"), torch.randn(1, total, 4 * heads).cuda()
    output = torch.empty_like(states[0])
    terms = CompletionCall(
        side.data_ptr(), side.shape[2],
        *(part.data_ptr() for part in (identity, mixed, pool, taps)), 3, 1,
    )  # fmt: skip
    call = Call(
        *(part.data_ptr() for part in (*states, output, alpha)),
        cu_seqlens=offsets.ctypes.data, mask=None, batch=1, length=total, heads=heads,
        head_dim=width, sequences=len(offsets) - 1, dtype=DTYPES[dtype], by_length=1, center=1,
        stream=torch.cuda.current_stream().cuda_stream,
    )  # fmt: skip
    if completed:
        call.completion = ctypes.pointer(terms)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(2):  # the second is timed
        begin.record()
        error = library.osa_attention_cuda(ctypes.byref(call))
        end.record()
        assert not error, error
    torch.cuda.synchronize()
    by = Terms(identity.double(), mixed.double(), pool.double(), taps.double(), True)
    largest = 0.0
    for start, stop in itertools.pairwise(offsets.tolist()):
        if stop == start:
            continue
        query, key, value = (part[:, start:stop].transpose(1, 2).double() for part in states)
        truth = osa_gram(query, key, value, alpha.double(), scale="length", center=True)
        if completed:
            truth = complete(truth, value, side[:, start:stop].double(), by, None, None)
        found = output[:, start:stop].transpose(1, 2)
        difference = float((found - truth).abs().max() / truth.abs().max())
        largest = max(largest, difference)
    return largest, begin.elapsed_time(end)


def aoti(device: str) -> Figures:
    """A package compiled for this device, run and compared with its source."""
    from osa.export.exporter import ExportOptions, export_model
    from osa.export.manifest import load_artifact
    from osa.export.runner import open_runner
    from tests.conftest import make_tiny_model

    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise CannotError("needs a C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "artifact"
        options = ExportOptions("aoti", device=device)
        deviations = export_model(make_tiny_model(), target, options)["aoti"]
        artifact = load_artifact(target)
        runner = open_runner(artifact)
        found = runner.run(np.array([1, 2, 3, 4]), np.array([0, 2, 4], dtype=np.int32))
        largest = max(deviation.max_abs for deviation in deviations)
        made_for = artifact.manifest.versions.get("gpu", "")
        yield {"name": runner.device, "largest_error": largest, "made_for": made_for}
        assert np.isfinite(found.embeddings).all()
        assert largest <= 1e-5


def compiled(device: str) -> Figures:
    """The packaged model's kernels compiled ahead, then a process that looks for them."""
    if device == "cpu":
        raise CannotError("needs a device: keys are compared in tests/parity/test_gpu_compiled.py")
    major, minor = torch.cuda.get_device_capability()
    with tempfile.TemporaryDirectory() as scratch:
        folder, began = Path(scratch, "kernels"), time.monotonic()
        command = [sys.executable, "-m", "osa.model.inference.compiled.build"]
        command += ["--capability", f"{major}{minor}", "--output", str(folder)]
        subprocess.run(command, check=True)
        yield {
            "name": f"ahead for sm_{major}{minor}", "seconds": time.monotonic() - began,
            "kernels": len(list(folder.iterdir())),
            "bytes": sum(file.stat().st_size for file in folder.rglob("*.*")),
        }  # fmt: skip
        finished = subprocess.run(
            [sys.executable, "-m", "tests.gpu.artifacts", str(folder)],
            env={**os.environ, "TRITON_CACHE_DIR": str(Path(scratch, "empty"))},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr[-1500:]
        figures = json.loads(finished.stdout.splitlines()[-1])
        yield figures
        assert figures["found"] > 0
        assert not figures["compiled"], "kernels were compiled at the start"


def _find_compiled(folder: Path) -> None:
    """Warm the packaged model up; print which kernels were found in a folder and which not."""
    from triton import knobs

    from osa.model.inference.compiled.cache import CompiledKernels
    from osa.service.engines.eager import EagerEngine

    CompiledKernels.folder = folder
    found: dict[bool, list[str]] = {True: [], False: []}

    def listen(*, src: Any, cache_hit: bool, **facts: Any) -> None:
        found[cache_hit].append(src.name)

    knobs.cache.manager_class, knobs.compilation.listener = CompiledKernels, listen
    began = time.monotonic()
    engine = EagerEngine(None, "cuda", dtype="auto")
    engine.warm_up()
    engine.embed([[1] * 3, [1] * 600], exact=True)
    figures = {"name": "start", "seconds": time.monotonic() - began}
    figures |= {"found": len(found[True]), "compiled": found[False]}
    print(json.dumps(figures))


if __name__ == "__main__":
    _find_compiled(Path(sys.argv[1]))
