"""How many threads a process should run: what its container may use of the processor.

A container's CPU limit is a quota of time, which of our libraries only Rust's look at: with half a
core on a machine of 64, torch starts 64 threads, which use up the quota at once and then stand
still until the next period. So the number is that of whole cores in the quota, at least one
(decision 33); an explicit ``OMP_NUM_THREADS`` wins.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"
COMPILERS = "TORCHINDUCTOR_COMPILE_THREADS"
"""Processes that compile for ``torch.compile``; default is one a core of the machine."""
ROOT = Path("/")
_followed: list[str] = []
"""The reason, once ``follow_quota`` has set the variable."""


@dataclass(frozen=True)
class Threads:
    """A number of threads.

    Attributes:
        count: At least 1.
        reason: Where it comes from, for operators.
        limited: Whether it may be less than libraries would take by themselves.
    """

    count: int
    reason: str
    limited: bool


def threads() -> Threads:
    """Threads for products, and where the number comes from."""
    asked = re.match(r"\s*0*([1-9]\d{0,5})\b", os.environ.get(VARIABLE, ""))
    if asked:
        return Threads(int(asked[1]), (*_followed, VARIABLE)[0], True)
    cores, quota = usable_cores(), cpu_quota()
    if quota is not None and quota < cores:
        return Threads(max(1, int(quota)), f"CPU quota of {quota:.4g} cores", True)
    return Threads(cores, f"{cores} cores", False)


def follow_quota() -> None:
    """Set the libraries' variables where a quota limits this process and they are not set.

    They are read once, when OpenMP is loaded: call this before torch is imported.
    """
    found = threads()
    if found.limited and VARIABLE not in os.environ:
        os.environ[VARIABLE] = str(found.count)
        os.environ.setdefault(COMPILERS, str(found.count))
        _followed[:] = [found.reason]


def usable_cores() -> int:
    """Cores that this process may run on; two hardware threads of a core are one."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    siblings = ROOT / "sys/devices/system/cpu"
    cores = {_read(siblings / f"cpu{n}/topology/thread_siblings_list") or str(n) for n in allowed}
    return max(1, len(cores))


def cpu_quota() -> float | None:
    """Cores' worth of time that the tightest cgroup of this process has; None without a limit."""
    quotas = [_quota(folder) for folder in _cgroups()]
    return min((quota for quota in quotas if quota), default=None)


def _cgroups() -> Iterator[Path]:
    """Folders of the cgroups with this process, of both versions, from its own up to the root."""
    own: dict[str, str] = {}
    for line in _read(ROOT / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    for line in _read(ROOT / "proc/self/mountinfo").splitlines():
        fields, kind = (part.split() for part in line.partition(" - ")[::2])
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in own:
            continue
        if kind[0] == "cgroup" and "cpu" not in kind[2].split(","):
            continue
        top = ROOT / _unescaped(fields[4]).lstrip("/")
        below = _below(own[kind[0]], _unescaped(fields[3]))
        yield from (top.joinpath(*below[:depth]) for depth in range(len(below), -1, -1))


def _below(path: str, mounted: str) -> list[str]:
    """Parts of a cgroup's path below what is mounted; none where the mount does not show it."""
    parts, start = ([part for part in of.split("/") if part] for of in (path, mounted))
    if ".." in parts or parts[: len(start)] != start:
        return []
    return parts[len(start) :]


def _unescaped(path: str) -> str:
    """A path of mountinfo, where spaces are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _quota(folder: Path) -> float | None:
    """Quota of one cgroup [cores]; None without one, or where its files say nothing."""
    text = _read(folder / "cpu.max") or " ".join(
        _read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    found = re.fullmatch(r"(\d+)\s+(\d+)", text.strip())  # not "max", not -1
    if found is None or not int(found[1]) or not int(found[2]):
        return None
    return int(found[1]) / int(found[2])


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
