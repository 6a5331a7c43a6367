"""ONNX Runtime's C headers, which its Python wheel lacks, from a directory or from Debian.

``ORT_INCLUDE_DIR`` names a directory that holds ``onnxruntime_cxx_api.h``. Without it, on Debian
and its derivatives, apt downloads the package ``libonnxruntime-dev`` with a separate state, and it
is unpacked into the user's cache: nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from osa.export.errors import ExportError
from osa.export.ort_ops.steps import Progress, Step, run_steps, tell_nobody
from osa.model.common.scratch import user_cache

HEADER = "onnxruntime_cxx_api.h"
VARIABLE = "ORT_INCLUDE_DIR"
PACKAGE = "libonnxruntime-dev"
SUITES = ("trixie", "sid")
"""Debian releases that have the package."""
CURE = f"set {VARIABLE} to a directory that holds {HEADER}"


def include_dir(progress: Progress = tell_nobody) -> Path:
    """The directory of the headers, downloaded if needed.

    Args:
        progress: Called with a line for every step.

    Raises:
        ExportError: They cannot be had; the message says what to do.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not (Path(named) / HEADER).is_file():
            raise ExportError(f"{VARIABLE} is {named}, but there is no {HEADER} in it")
        return Path(named)
    cache = user_cache()
    if cache is None:
        raise ExportError(f"this user has no home directory to keep headers in: {CURE}")
    target = cache / "onnxruntime-headers"
    if found := _find(target):
        return found
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise ExportError(f"this machine has no {' and no '.join(missing)}: {CURE}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _fetch(Path(scratch), progress)
        shutil.rmtree(target, ignore_errors=True)
        (Path(scratch) / "root").rename(target)
    if found := _find(target):
        return found
    raise ExportError(f"Debian's {PACKAGE} holds no {HEADER}: {CURE}")


def _find(root: Path) -> Path | None:
    return next((file.parent for file in root.rglob(HEADER)), None)


def _fetch(scratch: Path, progress: Progress) -> None:
    """Download and unpack the package into ``scratch / "root"``."""
    mirrors = _run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"], scratch
    )
    uris = [line.split()[2] for line in mirrors.splitlines() if line.startswith("Debian Debian ")]
    if not uris:
        raise ExportError(f"apt knows no Debian mirror here: {CURE}")
    problems = []
    for suite in SUITES:
        try:
            _download(scratch, uris[0], suite, progress)
        except ExportError as error:
            problems.append(str(error))
            continue
        package = next(scratch.glob("*.deb"))
        unpack = ["dpkg", "-x", str(package), str(scratch / "root")]
        _step(f"unpacking {package.name}", unpack, scratch, progress)
        return
    raise ExportError(f"{PACKAGE} could not be fetched: {CURE}\n" + "\n".join(problems))


def _download(scratch: Path, uri: str, suite: str, progress: Progress) -> None:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (scratch / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} {suite} main\n")
    options = {
        "Dir::State": scratch / "state",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    fetch = ["apt-get", *settings, "-q"]
    _step(f"apt-get update, Debian {suite}", [*fetch, "update"], scratch, progress)
    _step(f"apt-get download {PACKAGE}", [*fetch, "download", PACKAGE], scratch, progress)


def _step(name: str, command: list[str], folder: Path, progress: Progress) -> None:
    run_steps([Step(name, command, folder)], progress)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip()[-400:]
        raise ExportError(f"{' '.join(command[:1])} failed: {tail}")
    return done.stdout
