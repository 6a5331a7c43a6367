"""Threads follow a container's CPU quota: cgroups of both versions, as files and for real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from osa.model.common import threads as module
from osa.model.common.threads import Threads, cpu_quota, follow_quota, threads, usable_cores

V2 = "0::{path}\n"
V1 = "9:name=systemd:/\n4:cpu,cpuacct:{path}\n2:memory:{path}\n0::/elsewhere\n"
MOUNT_2 = "30 23 0:26 {root} {top} rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
MOUNT_1 = (
    "25 23 0:24 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 31 0:29 {root} {top} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)
CGROUPS = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of eight cores, without an explicit number of threads."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "_followed", [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in (module.VARIABLE, module.COMPILERS):
        monkeypatch.setenv(name, "")  # remembers what there was
        monkeypatch.delenv(name)
    return tmp_path


def put(machine: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = machine / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def version_2(machine: Path, path: str, root: str = "/", **limits: str) -> None:
    """A process in ``path``; limits by folder below ``/sys/fs/cgroup``, ``_`` for ``/``."""
    put(machine, {
        "proc/self/cgroup": V2.format(path=path),
        "proc/self/mountinfo": MOUNT_2.format(root=root, top="/sys/fs/cgroup"),
        **{f"sys/fs/cgroup/{at.replace('_', '/')}/cpu.max": text for at, text in limits.items()},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("50000 100000\n", 0.5),
        ("100000 100000\n", 1.0),
        ("150000 100000\n", 1.5),
        ("320000 40000\n", 8.0),
        ("max 100000\n", None),
        ("", None),
        ("nonsense", None),
        ("0 100000", None),
        ("5 0", None),
        ("-1 100000", None),
    ],
)
def test_a_quota_is_read(machine: Path, text: str, quota: float | None) -> None:
    version_2(machine, "/", **{"": text})
    assert cpu_quota() == quota


def test_the_tightest_of_nested_cgroups_counts(machine: Path) -> None:
    version_2(machine, "/pods/a/b", pods="300000 100000", pods_a="200000 100000", pods_a_b="max 1")
    assert cpu_quota() == 2
    version_2(machine, "/pods/a/b", pods_a_b="50000 100000", pods_other="1000 100000")
    assert cpu_quota() == 0.5


def test_a_cgroup_that_the_mount_does_not_show_is_the_one_that_it_shows(machine: Path) -> None:
    """Containers with the host's namespace see its paths, and of the tree only their own part."""
    for path, root in (
        ("/docker/abc", "/docker/abc"),
        ("/../../host/abc", "/"),
        ("/docker/abc", "/docker/xyz"),
    ):
        version_2(machine, path, root, **{"": "150000 100000"})
        assert cpu_quota() == 1.5, path
    version_2(machine, "/docker/abc/inner", "/docker/abc", inner="70000 100000")
    assert cpu_quota() == 0.7


def test_the_first_version_and_a_mount_with_a_space(machine: Path) -> None:
    put(machine, {
        "proc/self/cgroup": V1.format(path="/kube/pod"),
        "proc/self/mountinfo": MOUNT_1.format(root="/", top=r"/c\040group/cpu,cpuacct")
        + MOUNT_2.format(root="/", top="/sys/fs/cgroup/unified"),
        "c group/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "c group/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "c group/cpu,cpuacct/kube/pod/cpu.cfs_quota_us": "250000\n",
        "c group/cpu,cpuacct/kube/pod/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert cpu_quota() == 2.5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "garbage\n::\n\n"},
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "1 2 3\n - \nx - cgroup2\n"},
    ],
)  # fmt: skip
def test_what_cannot_be_read_limits_nothing(machine: Path, files: dict[str, str]) -> None:
    put(machine, files)
    assert cpu_quota() is None
    assert threads() == Threads(8, "8 cores", False)


@pytest.mark.parametrize(
    ("quota", "count"),
    [("1000", 1), ("50000", 1), ("100000", 1), ("150000", 1), ("200000", 2), ("790000", 7)],
)
def test_threads_are_whole_cores_of_the_quota(machine: Path, quota: str, count: int) -> None:
    version_2(machine, "/", **{"": f"{quota} 100000"})
    found = threads()
    assert (found.count, found.limited) == (count, True)
    assert found.reason == f"CPU quota of {int(quota) / 100000:.4g} cores"
    follow_quota()
    assert os.environ[module.VARIABLE] == os.environ[module.COMPILERS] == str(count)
    assert threads() == found, "the reason stays, though the variable is set by now"


@pytest.mark.parametrize("quota", ["800000", "1600000", "max"])
def test_a_quota_above_the_cores_sets_nothing(machine: Path, quota: str) -> None:
    version_2(machine, "/", **{"": f"{quota} 100000"})
    follow_quota()
    assert module.VARIABLE not in os.environ
    assert threads() == Threads(8, "8 cores", False)


def test_hardware_threads_of_a_core_are_one(machine: Path) -> None:
    """Torch takes cores: a quota between cores and hardware threads must not raise that."""
    for n in range(8):
        siblings = f"{n // 2 * 2}-{n // 2 * 2 + 1}\n"
        put(machine, {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": siblings})
    assert usable_cores() == 4
    version_2(machine, "/", **{"": "600000 100000"})
    follow_quota()
    assert module.VARIABLE not in os.environ


@pytest.mark.parametrize(("asked", "count"), [("3", 3), (" 6,2", 6), ("16", 16)])
def test_an_explicit_number_wins(
    machine: Path, monkeypatch: pytest.MonkeyPatch, asked: str, count: int
) -> None:
    version_2(machine, "/", **{"": "50000 100000"})
    monkeypatch.setenv(module.VARIABLE, asked)
    follow_quota()
    assert os.environ[module.VARIABLE] == asked
    assert threads() == Threads(count, module.VARIABLE, True)


@pytest.mark.parametrize("asked", ["", "0", "-2", "many", "99999999"])
def test_an_explicit_number_that_is_none_does_not_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    version_2(machine, "/", **{"": "250000 100000"})
    monkeypatch.setenv(module.VARIABLE, asked)
    assert threads().count == 2


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real cgroup with a quota, where this machine lets one be made."""
    if not (CGROUPS / "cpu.cfs_quota_us").is_file() or not os.access(CGROUPS, os.W_OK):
        pytest.skip("no cgroup of the first version can be made here")
    if usable_cores() == 1:
        pytest.skip("one core: no quota changes the number of threads")
    group = CGROUPS / f"osa-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    (group / "cpu.cfs_quota_us").write_text("50000")
    yield group
    group.rmdir()


def test_torch_runs_one_thread_in_half_a_core(half_a_core: Path) -> None:
    code = (
        f"import os; open('{half_a_core}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "import osa.model, torch\n"
        "from osa.model.common.threads import threads\n"
        "print(torch.get_num_threads(), threads().count, threads().reason)"
    )
    environment = {key: value for key, value in os.environ.items() if key != module.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout == "1 1 CPU quota of 0.5 cores\n", done.stderr
