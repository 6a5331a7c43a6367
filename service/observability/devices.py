"""What NVML and torch know of CUDA devices, read at every scrape.

A reading never raises and never waits for the device: it is NaN where a library has no such number
or the device is broken. NVML needs no context of CUDA; torch's counters are the process's own.
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

logger = logging.getLogger(__name__)
Reading = Callable[["Device"], float]


class Device:
    """One CUDA device of this process.

    Attributes:
        nvml: The module ``pynvml``, or None where it is not installed or finds no driver.
        handle: NVML's name of the device, a whole one or a MIG slice.
        place: Its number among torch's devices.
    """

    def __init__(self, place: int, nvml: Any, handle: Any) -> None:
        """Bind a handle, and listen for critical errors where NVML tells of them."""
        self.place, self.nvml, self.handle = place, nvml, handle
        self._lock = threading.Lock()
        self._xids, self._latest_xid = 0, 0
        self._events: Any = None
        if handle is not None:
            try:
                events = nvml.nvmlEventSetCreate()
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
                self._events = events
            except Exception:  # not on MIG slices, nor on every platform
                logger.debug("NVML tells of no Xid here")

    def read(self, reading: Reading) -> float:
        """A reading, NaN where it fails."""
        try:
            return float(reading(self))
        except Exception:  # NVML, torch and ctypes have types of their own
            return math.nan

    def xids(self) -> tuple[int, int]:
        """How many critical errors the driver has told of since the start, and the latest one.

        Raises:
            LookupError: NVML tells of none here.
        """
        if self._events is None:
            raise LookupError("no events")
        with self._lock:
            while True:
                try:
                    event = self.nvml.nvmlEventSetWait_v2(self._events, 0)
                except self.nvml.NVMLError_Timeout:
                    return self._xids, self._latest_xid
                self._xids, self._latest_xid = self._xids + 1, int(event.eventData)


def _memory(name: str) -> Reading:
    return lambda device: getattr(device.nvml.nvmlDeviceGetMemoryInfo(device.handle), name)


def _torch(name: str) -> Reading:
    return lambda device: torch.cuda.memory_stats(device.place).get(name, 0)


def _uncorrected(device: Device) -> float:
    nvml = device.nvml
    errors: float = nvml.nvmlDeviceGetTotalEccErrors(
        device.handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    )
    return errors


@dataclass(frozen=True)
class Measure:
    """One metric of every device.

    Attributes:
        name: Exported name.
        text: Help text.
        reading: Its value now.
    """

    name: str
    text: str
    reading: Reading


MEASURES = (
    Measure("osa_gpu_memory_used_bytes", "Device memory in use, by anyone", _memory("used")),
    Measure("osa_gpu_memory_total_bytes", "Device memory", _memory("total")),
    Measure(
        "osa_gpu_allocated_bytes", "Memory of this process's tensors",
        _torch("allocated_bytes.all.current"),
    ),
    Measure(
        "osa_gpu_reserved_bytes", "Memory that this process keeps for tensors",
        _torch("reserved_bytes.all.current"),
    ),
    Measure(
        "osa_gpu_allocated_peak_bytes", "Most memory of this process's tensors",
        _torch("allocated_bytes.all.peak"),
    ),
    Measure(
        "osa_gpu_utilization_ratio", "Share of the time in which a kernel ran, by anyone",
        lambda device: device.nvml.nvmlDeviceGetUtilizationRates(device.handle).gpu / 100,
    ),
    Measure(
        "osa_gpu_power_watts", "Power drawn [W]",
        lambda device: device.nvml.nvmlDeviceGetPowerUsage(device.handle) / 1000,
    ),
    Measure(
        "osa_gpu_ecc_uncorrected", "Memory errors that were not corrected, since the driver loaded",
        _uncorrected,
    ),
    Measure(
        "osa_gpu_xid_errors", "Critical errors (Xid) since the server started",
        lambda device: device.xids()[0],
    ),
    Measure("osa_gpu_xid", "Number of the latest Xid, 0 for none", lambda device: device.xids()[1]),
)  # fmt: skip


def open_devices() -> list[Device]:
    """The CUDA devices of this process; creates no context on any.

    NVML numbers devices otherwise than CUDA does, so they are found by what torch says of them.
    """
    try:
        places = range(torch.cuda.device_count())
    except RuntimeError:
        return []
    nvml = open_nvml() if places else None
    return [Device(place, nvml, _handle(nvml, place)) for place in places]


def open_nvml() -> Any:
    """The module ``pynvml``, ready for use; None where it is missing or there is no driver."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return None
    return nvml


def _handle(nvml: Any, place: int) -> Any:
    if nvml is None:
        return None
    try:
        identity = str(torch.cuda.get_device_properties(place).uuid)
    except (RuntimeError, AssertionError, AttributeError):
        return None
    for kind in ("GPU", "MIG"):
        try:
            return nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{identity}")
        except Exception:
            continue
    return None
