"""Facts about machine, libraries and commit, without host names, user names or paths."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
FAMILIES = ("xeon", "epyc", "ryzen", "core", "threadripper", "graviton", "neoverse", "apple")
GPU_NOISE = ("nvidia", "geforce", "tesla", "pcie", "sxm")


def processor_facts(cpuinfo: str) -> tuple[str, frozenset[str]]:
    """Processor name and feature flags, parsed from ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", platform.machine()), frozenset(flags.split())


def hardware_slug(processor: str, flags: frozenset[str], capability: str, gpu: str = "") -> str:
    """A short hardware name for file names: ``cpu-xeon-amx``, ``gpu-h100``.

    Args:
        processor: Name of the processor.
        flags: Its feature flags.
        capability: Instruction set that torch uses, such as ``AVX512``.
        gpu: Name of the GPU; empty for measurements on the CPU.
    """
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
    """Short commit hash, marked where the working tree differs; ``unknown`` outside git."""
    found = _git("rev-parse", "--short", "HEAD")
    if not found:
        return "unknown"
    return found + (" (dirty)" if _git("status", "--porcelain") else "")


def read_machine(device: str) -> dict[str, str]:
    """Facts for a report by name; ``device`` is ``cpu`` or ``cuda``."""
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


def available_bytes(device: str) -> float:
    """Available memory of the device [bytes]; infinite where it is unknown."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    file = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s+(\d+) kB", file.read_text()) if file.is_file() else None
    return float(match[1]) * 1024 if match else float("inf")
