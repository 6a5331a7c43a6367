"""Steps that compare: vectors with float32 on the CPU, batches with each alone, tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np

from tests.gpu.steps import CannotError, Figures

LENGTHS = (1, 3, 50, 64, 65, 512, 2048)
"""Of the sequences that are compared [tokens]."""
COSINE = {"float32": 1 - 1e-6, "bfloat16": 0.999, "float16": 0.9999}
"""Least cosine with the vector in float32 on the CPU."""


def environment(device: str) -> Figures:
    """What the machine is."""
    import torch

    from osa.model.inference.cuda_device import cuda_problem, driver_version

    facts: dict[str, object] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": driver_version(),
    }
    facts |= {"python": sys.version.split()[0], "cores": os.cpu_count()}
    facts |= {name: shutil.which(name) is not None for name in ("nvcc", "compute-sanitizer")}
    try:
        import triton

        facts["triton"] = triton.__version__
    except ImportError:
        facts["triton"] = None
    if device == "cuda":
        problem = cuda_problem()
        assert problem is None, problem
        facts["device"] = torch.cuda.get_device_name()
        facts["capability"] = "{}.{}".format(*torch.cuda.get_device_capability())
        facts["memory_bytes"] = torch.cuda.get_device_properties(0).total_memory
    yield {"name": "machine", **facts}


def _pytest(*arguments: str, workers: int = 4) -> dict[str, object]:
    """Outcome of tests, which run as they are: warnings of another torch are no errors."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-W", "default"]
    command += ["-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = finished.stdout.strip().splitlines()[-1] if finished.stdout.strip() else ""
    counts = {
        kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", summary)
    }
    if finished.returncode != 0:
        print(finished.stdout[-1500:], finished.stderr[-500:])
        raise AssertionError(f"tests failed: {summary}")
    assert counts.get("passed"), summary
    return {"name": "tests", **counts}


def operators(device: str) -> Figures:
    """Tests of the attention kernels and their gradients."""
    if device == "cpu":  # the interpreter takes minutes: one test shows that it starts
        yield _pytest("tests/parity/test_gpu_batches.py", "-k", "nothing_to_do", workers=0)
        return
    files = ("kernels", "batches", "completion")
    yield _pytest(*(f"tests/parity/test_gpu_{name}.py" for name in files), workers=8)


def encoder(device: str) -> Figures:
    """Tests of the pass, of its graphs and of waiting for nothing; and of launches."""
    if device == "cpu":  # launches are counted with fake tensors of a CUDA device
        yield _pytest("tests/parity/test_gpu_encoder.py", "-k", "does_not_fit", workers=0)
        yield _pytest("tests/parity/test_gpu_launches.py", workers=0)
        return
    yield _pytest("tests/parity/test_gpu_encoder.py", workers=4)
    yield _pytest("tests/parity/test_gpu_launches.py", workers=4)


def precision(device: str) -> Figures:
    """The packaged model in each type against itself in float32 on the CPU."""
    from osa.service.engines.eager import EagerEngine

    generator = np.random.default_rng(0)
    truth_engine = EagerEngine(None, "cpu", "torch")
    ids = truth_engine.info.vocab_size or 1
    lengths = LENGTHS if device == "cuda" else LENGTHS[:5]
    sequences = [generator.integers(1, ids, length).tolist() for length in lengths]
    truth = truth_engine.embed(sequences).embeddings
    for dtype in COSINE:
        if device == "cpu" and dtype == "float16":
            continue
        engine = EagerEngine(None, device, dtype=dtype)
        found = engine.embed(sequences).embeddings
        cosines = (found * truth).sum(1)
        largest = float(np.abs(found - truth).max())
        yield {
            "name": dtype, "least_cosine": float(cosines.min()), "largest_error": largest,
            "kernel": engine.info.kernel, "products": engine.info.products,
        }  # fmt: skip
        assert float(cosines.min()) >= COSINE[dtype], f"{dtype}: {cosines}"


def invariance(device: str) -> Figures:
    """Whether bits depend on the batch, with products of ours and of the library."""
    from osa.model.inference.device_graphs import DeviceOptions
    from osa.service.engines.batch_invariance import is_batch_invariant
    from osa.service.engines.eager import EagerEngine

    dtype = "bfloat16" if device == "cuda" else "float32"
    for fixed in (True, False):
        for graphs in (True, False):
            options = DeviceOptions(graphs, fixed)
            engine = EagerEngine(None, device, dtype=dtype, options=options)
            engine.warm_up()
            found = is_batch_invariant(engine)
            yield {"name": f"fixed_products={fixed} graphs={graphs}", "invariant": found}
            if fixed:
                assert found, "bits depend on the batch"


def sanitizer(device: str) -> Figures:
    """Whether compute-sanitizer finds a wrong access in one small batch."""
    tool = shutil.which("compute-sanitizer")
    if device == "cpu" or tool is None:
        raise CannotError("needs a device and compute-sanitizer")
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9"]
    command += [sys.executable, "-m", "tests.gpu.correctness"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    print(finished.stdout[-1500:])
    assert finished.returncode == 0, finished.stderr[-800:]
    found = re.search(r"ERROR SUMMARY: (\d+) error", finished.stdout)
    yield {"name": "memcheck", "errors": int(found[1]) if found else None}


def _small_batch() -> None:
    """One small batch by every kernel of the pass, without graphs."""
    import torch

    from osa.model import EmbeddingModel
    from osa.model.config import EncoderConfig
    from osa.model.inference.device_graphs import DeviceOptions, DeviceRunner

    config = EncoderConfig(
        vocab_size=50, hidden_size=64, num_layers=1, num_heads=2, ffn_size=128, max_seq_len=700,
        mixer="osa", scale="length", qk_norm=False, center=True, positions="rotary",
        osa_pool=True, osa_taps=2, osa_gate=True,
    )  # fmt: skip
    runner = DeviceRunner(
        EmbeddingModel(config).cuda().eval(), torch.bfloat16, DeviceOptions(graphs=False)
    )
    with torch.inference_mode():
        vectors = runner.submit([[1] * 3, [2] * 600, [3] * 64]).wait()[0]
    assert np.isfinite(vectors).all()


if __name__ == "__main__":
    _small_batch()
