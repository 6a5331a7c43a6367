"""Memory of a process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def memory_mb(name: str, process: int | str = "self") -> float:
    """A field of a process's ``/proc/.../status`` [MB]: VmRSS, or its peak, VmHWM."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/{process}/status has no {name}")


def forget_peak(process: int | str = "self") -> None:
    """Let the peak of a process's memory begin with what it has now."""
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="utf-8")
