"""Steps of compiled forms: ONNX Runtime's kernel through its C entry, AOTInductor."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.gpu.steps import CannotError, Figures


def onnx_kernel(device: str) -> Figures:
    """The CUDA source, compiled here and called without ONNX Runtime."""
    from osa.export.ort_ops import build as builder
    from osa.model.functional.attention import osa_gram
    from tests.parity.test_cuda_kernel_source import Call

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
        offsets = np.cumsum([0, 1, 0, 66, 1025, 300], dtype=np.int32)
        total, heads, width = int(offsets[-1]), 4, 64
        torch.manual_seed(0)
        states = [torch.randn(1, total, heads, width, device="cuda") for _ in range(3)]
        alpha = torch.full([heads], 0.5, device="cuda")
        output = torch.empty_like(states[0])
        call = Call(
            *(part.data_ptr() for part in (*states, output, alpha)),
            cu_seqlens=offsets.ctypes.data, mask=None, batch=1, length=total, heads=heads,
            head_dim=width, sequences=len(offsets) - 1, by_length=1, center=1,
            stream=torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip
        error = library.osa_attention_cuda(ctypes.byref(call))
        assert not error, error
        torch.cuda.synchronize()
        largest = 0.0
        for start, stop in itertools.pairwise(offsets.tolist()):
            if stop == start:
                continue
            query, key, value = (part[:, start:stop].transpose(1, 2).double() for part in states)
            truth = osa_gram(query, key, value, alpha.double(), scale="length", center=True)
            found = output[:, start:stop].transpose(1, 2)
            difference = float((found - truth).abs().max() / truth.abs().max())
            largest = max(largest, difference)
        yield {"name": "float32", "largest_error": largest}
        assert largest <= 1e-5


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
