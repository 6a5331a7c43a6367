"""Report files, and progress messages on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.common.machine import ROOT

REPORTS = ROOT / "benchmarks" / "reports"
FIRST_FACT = "- hardware:"
"""Where the measured part of a report starts."""


def progress(message: str) -> None:
    """Print a progress message to standard error, apart from the report."""
    print(message, file=sys.stderr, flush=True)


def fact_list(facts: Mapping[str, str]) -> str:
    """Facts by name, as a Markdown list."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def write_measured(path: Path, title: str, measured: str) -> None:
    """Write a report; text that people wrote above the measured part of an earlier one is kept.

    Args:
        path: File to write. Its folder is created.
        title: Heading of a new report.
        measured: The measured part; it starts with the machine's facts.
    """
    head = f"# {title}\n\n"
    if path.is_file():
        written, mark, _ = path.read_text(encoding="utf-8").partition(FIRST_FACT)
        head = written if mark else head
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + measured, encoding="utf-8")
