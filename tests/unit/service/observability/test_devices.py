"""Readings of CUDA devices: numbers of NVML where it has them, NaN where anything fails."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from osa.service.models import gauges
from osa.service.observability.devices import MEASURES, Device, open_devices
from osa.service.observability.metrics import Families, Metrics


class BrokenError(Exception):
    """What NVML raises of a lost device."""


class Nvml:
    """The part of ``pynvml`` that is used; needs no driver."""

    NVMLError_Timeout = type("NVMLError_Timeout", (Exception,), {})
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, nvmlEventTypeXidCriticalError = 1, 0, 8

    def __init__(self) -> None:
        self.lost = False
        self.pending: list[int] = []

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, handle: Any, kind: int, events: Any) -> None:
        assert kind == self.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: Any, timeout: int) -> Any:
        if not self.pending:
            raise self.NVMLError_Timeout
        return SimpleNamespace(eventData=self.pending.pop(0))

    def __getattr__(self, name: str) -> Any:
        values: dict[str, Any] = {
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3, total=4),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50),
            "nvmlDeviceGetPowerUsage": 300_000,
            "nvmlDeviceGetTotalEccErrors": 2,
        }

        def call(*arguments: Any) -> Any:
            if self.lost:
                raise BrokenError
            return values[name]

        return call


def scraped(families: Families) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(families.render().decode())
        for sample in family.samples
        if sample.name.startswith("osa_gpu")
    }


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    found = Nvml()
    monkeypatch.setattr(gauges, "open_devices", lambda: [Device(0, found, "handle")])
    counters = {"allocated_bytes.all.current": 1, "allocated_bytes.all.peak": 7}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda place: counters)
    return found


def export(families: Families) -> None:
    health: Any = SimpleNamespace(
        in_flight=0, ready_problem=lambda: None, body_bytes=0, answer_bytes=0, slow_readers=0,
        unreadable_requests=0,
    )  # fmt: skip
    gauges.export_process_gauges(health, families, Metrics("m", families))


def test_a_scrape_of_a_broken_device_is_nan_and_no_error(nvml: Nvml) -> None:
    families = Families()
    export(families)
    nvml.pending = [31, 79]
    found = scraped(families)
    assert set(found) == {measure.name for measure in MEASURES}
    assert found["osa_gpu_memory_used_bytes"] / found["osa_gpu_memory_total_bytes"] == 0.75
    assert (found["osa_gpu_power_watts"], found["osa_gpu_utilization_ratio"]) == (300, 0.5)
    assert (found["osa_gpu_xid_errors"], found["osa_gpu_xid"]) == (2, 79)
    assert (found["osa_gpu_allocated_bytes"], found["osa_gpu_allocated_peak_bytes"]) == (1, 7)
    nvml.lost = True
    broken = scraped(families)
    assert math.isnan(broken["osa_gpu_memory_used_bytes"])
    assert math.isnan(broken["osa_gpu_ecc_uncorrected"])
    assert broken["osa_gpu_xid"] == 79, "events are kept"


def test_without_nvml_its_numbers_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(0, None, None)
    assert all(
        math.isnan(device.read(measure.reading))
        for measure in MEASURES
        if "allocated" not in measure.name and "reserved" not in measure.name
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_machine_without_a_device_has_zeros() -> None:
    assert open_devices() == []
    families = Families()
    export(families)
    assert set(scraped(families).values()) == {0.0}
