"""Steps that measure: time of batches by events, kernels of a batch, peak memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.gpu import peers
from tests.gpu.steps import CannotError, Figures

SIZES = {"3 x 384": (384, 3), "12 x 768": (768, 12)}
BATCHES = {"32 x 50": (32, 50), "64 x 512": (64, 512), "1 x 32768": (1, 32768)}
TARGETS_MS = {
    ("3 x 384", "32 x 50"): 0.45, ("3 x 384", "64 x 512"): 2.5, ("3 x 384", "1 x 32768"): 2.5,
    ("12 x 768", "32 x 50"): 2.5, ("12 x 768", "64 x 512"): 22.0, ("12 x 768", "1 x 32768"): 20.0,
}  # fmt: skip
"""Of an H100 in bfloat16, counted and not measured [ms]."""
LAUNCHES = {"3 x 384": 60, "12 x 768": 220}
"""Most launches of a batch."""
ROUNDS = 15


def median_ms(call: Callable[[], object], device: str, rounds: int = ROUNDS) -> float:
    """Median time of a call [ms]: between events of the device, or by the clock of a CPU."""
    for _ in range(3):
        call()
    found: list[float] = []
    for _ in range(rounds):
        if device == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            call()
            stop.record()
            stop.synchronize()
            found.append(start.elapsed_time(stop))
        else:
            began = time.perf_counter()
            call()
            found.append((time.perf_counter() - began) * 1e3)
    return statistics.median(found)


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """A call as a CUDA graph."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _model(width: int, layers: int, device: str, completed: bool = False) -> Any:
    from osa.model import EmbeddingModel
    from osa.model.config import EncoderConfig

    config = EncoderConfig(
        vocab_size=30522, hidden_size=width, num_layers=layers, num_heads=12, ffn_size=4 * width,
        mixer="osa", scale="length", qk_norm=True, positions="rotary", max_seq_len=32768,
        osa_pool=completed, osa_taps=3 if completed else 0, osa_gate=completed,
    )  # fmt: skip
    return EmbeddingModel(config).to(device).eval()


def _ours(model: Any, batch: int, length: int, graphs: bool, fixed: bool) -> Callable[[], object]:
    """A call that stages a batch and starts it; what it gives is waited for by the event."""
    from osa.model.inference.device_graphs import DeviceOptions, DeviceRunner

    runner = DeviceRunner(model, torch.bfloat16, DeviceOptions(graphs, fixed))
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 30522, length).tolist() for _ in range(batch)]

    def call() -> object:
        with torch.inference_mode():
            return runner.submit(rows)

    return call


def _replay(model: Any, batch: int, length: int) -> Callable[[], object]:
    """The graph of a batch alone: what the device takes, without staging and fetching."""
    from osa.model.inference.device_graphs import DeviceRunner

    runner = DeviceRunner(model, torch.bfloat16)
    with torch.inference_mode():
        for _ in range(3):
            runner.submit([[1] * length] * batch).wait()
    (found,) = runner._graphs.values()
    return found.graph.replay


def _plain(model: Any, batch: int, length: int) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return model.embed_ids([[1] * length] * batch)

    return call


def timing(device: str) -> Figures:
    """Batches of three forms by models of two sizes, beside their peers."""
    for size, (width, layers) in SIZES.items():
        if device == "cpu" and size != "3 x 384":
            continue
        model = _model(width, layers, device)
        for name, (batch, length) in BATCHES.items():
            if device == "cpu":
                if name != "32 x 50":
                    continue
                calls = {"ours": _plain(model, batch, length)}
            else:
                calls = {
                    f"ours {'graph' if graphs else 'eager'}, {'fixed' if fixed else 'library'}":
                    _ours(model, batch, length, graphs, fixed)
                    for graphs in (True, False)
                    for fixed in (True, False)
                }  # fmt: skip
                calls["ours device"] = _replay(model, batch, length)
                completed = _model(width, layers, device, completed=True)
                calls["completed device"] = _replay(completed, batch, length)
            figures: dict[str, Any] = {"name": f"{size}, {batch} x {length}"}
            figures["target_ms"] = TARGETS_MS[size, name]
            for kind, call in calls.items():
                figures[kind] = median_ms(call, device, ROUNDS if device == "cuda" else 3)
            figures |= _peers(width, layers, batch, length, device)
            yield figures


def _peers(width: int, layers: int, batch: int, length: int, device: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for kind, make in (("flash", peers.flash_encoder), ("bert", peers.bert)):
        try:
            call = make(width, layers, batch, length, device)
            figures[f"{kind} eager"] = median_ms(call, device, 5 if device == "cuda" else 1)
            if device == "cuda":
                figures[f"{kind} graph"] = median_ms(captured(call), device, 5)
        except (CannotError, RuntimeError) as error:
            figures[f"{kind} reason"] = str(error).partition("\n")[0][:150]
    return figures


def staging(device: str) -> Figures:
    """Milliseconds a batch, one after the other and with one begun ahead; each from other ids."""
    if device == "cpu":
        raise CannotError("needs a device: the order of copies is recorded in tests/unit instead")
    from osa.model.inference.device_graphs import DeviceRunner

    generator = np.random.default_rng(0)
    for size, (width, layers) in SIZES.items():
        runner = DeviceRunner(_model(width, layers, device), torch.bfloat16)
        for name, (batch, length) in BATCHES.items():
            rows = [
                [generator.integers(0, 30522, length).tolist() for _ in range(batch)]
                for _ in range(2 * ROUNDS)
            ]
            figures: dict[str, Any] = {"name": f"{size}, {name}"}
            with torch.inference_mode():
                for _ in range(3):
                    runner.submit(rows[0]).wait()
                alone = [runner.submit(each).wait()[0] for each in rows]
                began = time.perf_counter()
                for each in rows:
                    runner.submit(each).wait()
                figures["one by one"] = (time.perf_counter() - began) * 1e3 / len(rows)
                began = time.perf_counter()
                ahead, found = runner.submit(rows[0]), []
                for each in rows[1:]:
                    begun = runner.submit(each)
                    found.append(ahead.wait()[0])
                    ahead = begun
                found.append(ahead.wait()[0])
                figures["one ahead"] = (time.perf_counter() - began) * 1e3 / len(rows)
            yield figures
            assert all(map(np.array_equal, alone, found)), "vectors of another batch"


def launches(device: str) -> Figures:
    """Kernels that a profiler sees in one batch without graphs, and its peak memory."""
    if device == "cpu":
        raise CannotError("needs a device: counted with fake tensors in tests/parity instead")
    kind = torch.profiler.ProfilerActivity.CUDA
    for size, (width, layers) in SIZES.items():
        model = _model(width, layers, device)
        for name, (batch, length) in BATCHES.items():
            call = _ours(model, batch, length, graphs=False, fixed=True)
            call()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            base = torch.cuda.memory_allocated()
            with torch.profiler.profile(activities=[kind]) as profile:
                call()
                torch.cuda.synchronize()
            names = [
                event.name
                for event in profile.events() or ()
                if "CUDA" in str(event.device_type)
                and not event.name.startswith(("Memcpy", "Memset"))
            ]
            peak = torch.cuda.max_memory_allocated() - base
            yield {"name": f"{size}, {name}", "launches": len(names), "most": LAUNCHES[size],
                   "peak_bytes": peak}  # fmt: skip
            assert len(names) <= LAUNCHES[size], names
