"""Runs the steps one after the other, each in a process with a limit; see ``check.sh``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.gpu.report import write_report
from tests.gpu.steps import STEPS, CannotError, Step

TAIL = 2000
"""Of what a failed step printed [characters]."""
CPU_PATIENCE = 4
"""Limits of steps are those of a machine with a device; without one they are longer by this."""


def main() -> int:
    """Run the steps, or one of them with ``--step``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests/gpu/check.sh", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/gpu-check")))
    parser.add_argument("--budget", type=float, default=530.0, metavar="SECONDS")
    parser.add_argument("--only", default="", metavar="STEP,...")
    parser.add_argument("--step", choices=[step.name for step in STEPS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        return run_here(next(step for step in STEPS if step.name == options.step), options.device)
    only = {name for name in options.only.split(",") if name}
    if unknown := only - {step.name for step in STEPS}:
        parser.error(f"no steps {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    results.write_text("")
    write_report(results, options.out / "report.md")
    deadline = time.monotonic() + options.budget
    failed = 0
    for step in STEPS:
        if only and step.name not in only:
            continue
        result = run_apart(step, options.device, deadline - time.monotonic())
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{result['status']:>8}  {step.name}  {result['seconds']:.0f} s", flush=True)
        failed += result["status"] in ("failed", "late")
        write_report(results, options.out / "report.md")
    return min(failed, 1)


def run_here(step: Step, device: str) -> int:
    """Run a step in this process: its figures as JSON lines; 3 where the machine cannot."""
    try:
        for figures in step.load()(device):
            print("FIGURE " + json.dumps(figures), flush=True)
    except CannotError as error:
        print(f"CANNOT {error}", flush=True)
        return 3
    return 0


def run_apart(step: Step, device: str, left_s: float) -> dict[str, Any]:
    """The result of a step in a process of its own, ended with its children at the limit."""
    result: dict[str, Any] = {"step": step.name, "what": step.what, "device": device}
    if left_s < 5:
        return {**result, "status": "no time", "seconds": 0.0, "figures": []}
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.gpu.check", "--step", step.name, "--device", device]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    late = False
    try:
        limit_s = step.limit_s * (1 if device == "cuda" else CPU_PATIENCE)
        output, _ = process.communicate(timeout=min(limit_s, left_s))
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)  # the step's own session
        output, _ = process.communicate()
    lines = output.splitlines()
    figures = [json.loads(line[7:]) for line in lines if line.startswith("FIGURE ")]
    reasons = [line[7:] for line in lines if line.startswith("CANNOT ")]
    status = {0: "passed", 3: "cannot"}.get(process.returncode, "failed")
    result |= {"status": "late" if late else status, "seconds": time.monotonic() - started}
    result |= {"figures": figures, "reason": " ".join(reasons)}
    if result["status"] in ("failed", "late"):
        result["tail"] = output[-TAIL:]
    return result


if __name__ == "__main__":
    raise SystemExit(main())
