"""Long commands in parallel, with progress reports.

The start and the end of each step are reported; between them, at intervals, the running steps.
"""

from __future__ import annotations

import concurrent.futures
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osa.export.errors import ExportError
from osa.model.common.threads import threads

BEAT_S = 10.0
"""Longest time between two reports [s]."""
Progress = Callable[[str], None]


def tell_nobody(line: str) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: What it does, for reports.
        command: The command line.
        folder: Working directory; default is the current one.
    """

    name: str
    command: Sequence[str]
    folder: Path | None = None


def run_steps(
    steps: Sequence[Step], progress: Progress = tell_nobody, beat_s: float = BEAT_S
) -> None:
    """Run commands in parallel, one per core, started in the given order.

    Args:
        steps: The commands.
        progress: Called with a line for every report, from any thread.
        beat_s: Longest time between two reports [s].

    Raises:
        ExportError: A command cannot be started or failed, with the end of its output. The others
            are stopped.
    """
    runs = [_Run(step, progress) for step in steps]
    with concurrent.futures.ThreadPoolExecutor(threads().count) as pool:
        waiting = {pool.submit(run.run) for run in runs}
        try:
            while waiting:
                done, waiting = concurrent.futures.wait(
                    waiting, beat_s, concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    future.result()
                told = ", ".join(filter(None, (run.describe() for run in runs)))
                if not done and told:
                    progress(f"still {told}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for run in runs:
                run.stop()
            raise


class _Run:
    """One running step."""

    def __init__(self, step: Step, progress: Progress) -> None:
        self._step, self._progress = step, progress
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0
        self._stopped = False

    def describe(self) -> str:
        """Its name and its time so far; empty unless it is running."""
        with self._lock:
            if self._process is None:
                return ""
        return f"{self._step.name} ({time.monotonic() - self._began:.0f} s)"

    def stop(self) -> None:
        """Terminate it, or keep it from starting."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def run(self) -> None:
        """Run it to completion."""
        step = self._step
        with self._lock:
            if self._stopped:
                return
            self._began = time.monotonic()
            self._process = self._start()
        self._progress(f"{step.name} ...")
        printed, _ = self._process.communicate()
        with self._lock:
            code = self._process.returncode
            self._process = None
        if code:
            raise ExportError(f"{step.name} failed: {' '.join(step.command)}\n{printed[-4000:]}")
        self._progress(f"{step.name}: {time.monotonic() - self._began:.1f} s")

    def _start(self) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                self._step.command,
                cwd=self._step.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise ExportError(f"{self._step.command[0]} cannot be run: {error.strerror}") from error
