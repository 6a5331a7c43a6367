"""Facts of the machine and the commit, without names of hosts, people or folders."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from osa.model import kernels

ROOT = Path(__file__).parents[2]
FAMILIES = ("xeon", "epyc", "ryzen", "core", "threadripper", "graviton", "neoverse", "apple")
GPU_NOISE = ("nvidia", "geforce", "tesla", "pcie", "sxm")


def processor_facts(cpuinfo: str) -> tuple[str, frozenset[str]]:
    """Name and feature flags from the text of ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", platform.machine()), frozenset(flags.split())


def hardware_slug(processor: str, flags: frozenset[str], capability: str, gpu: str = "") -> str:
    """A short name for files: ``cpu-xeon-amx``, ``gpu-h100``."""
    if gpu:
        words = re.findall(r"[a-z0-9]+", gpu.lower())
        kept = [word for word in words if not word.startswith((*GPU_NOISE, "hbm"))]
        kept = [word for word in kept if not re.fullmatch(r"\d+gb", word)]
        return "gpu-" + "-".join(kept or words)
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)", "", processor.lower()))
    family = next((name for name in FAMILIES if name in words), "-".join(words[:2]))
    feature = "amx" if "amx_tile" in flags else re.sub(r"[^a-z0-9]", "", capability.lower())
    return f"cpu-{family}-{feature}"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def commit() -> str:
    """Short hash, and whether the tree differs from it."""
    found = _git("rev-parse", "--short", "HEAD")
    if not found:
        return "unknown"
    return found + (" (dirty)" if _git("status", "--porcelain") else "")


def kernel_name(device: str, dtype: torch.dtype, head_dim: int) -> str:
    """Which implementation runs such operands, as the package tells it."""
    return kernels.describe(device, dtype, head_dim)


def read_machine(device: str) -> dict[str, str]:
    """Facts for the report, by name."""
    cpuinfo = Path("/proc/cpuinfo")
    name, flags = processor_facts(cpuinfo.read_text() if cpuinfo.is_file() else "")
    capability = torch.backends.cpu.get_cpu_capability()
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "hardware": hardware_slug(name, flags, capability, gpu),
        "processor": name,
        "cores": f"{os.cpu_count()}, usable {usable}",
        "threads": str(torch.get_num_threads()),
        "CPU capability": capability + (" with AMX" if "amx_tile" in flags else ""),
        "device": gpu or "cpu",
        "torch": torch.__version__,
        "float32 products": torch.get_float32_matmul_precision(),
        "commit": commit(),
        "date": datetime.date.today().strftime("%Y-%m"),
    }
    if device == "cuda":
        facts["CUDA"] = str(torch.version.cuda)
    return facts


def free_bytes(device: str) -> float:
    """Memory that a contender may take [bytes]; infinite where it cannot be told."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    found = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s+(\d+) kB", found.read_text()) if found.is_file() else None
    return float(match[1]) * 1024 if match else float("inf")
