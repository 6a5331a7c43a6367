"""From the results of the steps to a report: targets beside figures, and what did not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TITLE = "# On a GPU"
SIGNS = {"passed": "passed", "failed": "**failed**", "late": "**over its limit**"}


def shown(value: Any) -> str:
    """A figure for a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")[:160]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with any keys as a Markdown table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(shown(row.get(key, "")) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def write_report(results: Path, target: Path) -> None:
    """Write the report of ``results.jsonl``."""
    found = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    device = found[0]["device"] if found else "none"
    parts = [TITLE, ""]
    if device != "cuda":
        parts += [
            "**This run had no device**: it shows that the steps work, and no figure of a GPU.",
            "",
        ]
    parts += [
        "Made by `tests/gpu/check.sh`.",
        "",
        "| step | outcome | seconds | what |",
        "|---|---|---|---|",
    ]
    for result in found:
        outcome = SIGNS.get(result["status"], result["status"])
        reason = f": {result['reason']}" if result.get("reason") else ""
        parts.append(
            f"| {result['step']} | {outcome}{reason} | {result['seconds']:.0f} | {result['what']} |"
        )
    for result in found:
        if result["figures"]:
            parts += ["", f"## {result['step']}", "", table(result["figures"])]
        if result.get("tail"):
            parts += ["", "```", result["tail"], "```"]
    target.write_text("\n".join(parts) + "\n", encoding="utf-8")
