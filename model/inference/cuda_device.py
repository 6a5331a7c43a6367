"""The CUDA device of this process: its name, and what is wrong where there is none."""

from __future__ import annotations

import re
from pathlib import Path

LEAST_DRIVER = {13: 580, 12: 525}
"""Oldest branch of NVIDIA's driver by major version of CUDA. Source: NVIDIA, *CUDA Toolkit
Release Notes*, "CUDA Toolkit and minimum required driver versions"."""
LEAST_CAPABILITY = (7, 5)
"""Of torch's builds for CUDA 13: Turing."""
DRIVER_FACTS = Path("/proc/driver/nvidia/version")


def driver_version() -> str | None:
    """Version of the loaded driver, such as 580.65.06; None where there is none."""
    try:
        text = DRIVER_FACTS.read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


def cuda_problem() -> str | None:
    """Why torch cannot compute on a CUDA device here, or None where it can."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    driver = driver_version()
    least = LEAST_DRIVER.get(int(torch.version.cuda.partition(".")[0]), 0)
    if driver is not None and int(driver.partition(".")[0]) < least:
        return (
            f"the driver {driver} is too old for CUDA {torch.version.cuda}, which needs {least} or "
            "newer"
        )
    if torch.cuda.is_available():
        found = torch.cuda.get_device_capability()
        if found < LEAST_CAPABILITY:
            return (
                f"{torch.cuda.get_device_name()} has compute capability {found[0]}.{found[1]}, "
                f"needed is {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]}"
            )
        return None
    if driver is None:
        return "torch finds no CUDA device, and no driver is loaded here"
    return f"torch finds no CUDA device, though the driver {driver} is loaded: is one passed in?"


def device_name(device: str) -> str:
    """``device`` as it is, with the name and capability of a CUDA one."""
    if device != "cuda":
        return device
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"cuda ({torch.cuda.get_device_name()}, sm_{major}{minor})"
