"""The results as Markdown: one table of all servers, the tasks' data, and what was not run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common.report import fact_list
from benchmarks.common.tables import number, table

SERVER_FACTS = (
    "backend", "model_dtype", "kernel", "max_input_length", "batch_invariant", "packed"
)  # fmt: skip
"""Fields of ``/info`` in the table of servers."""


@dataclass
class Result:
    """What one server scored.

    Attributes:
        name: Of the model.
        info: What the server tells about it.
        scores: Main score of every task that was run, times 100.
        failures: Why a task was not run, by its name.
        texts: Texts that were sent.
        blank: Empty ones among them.
        wall_s: Time of all tasks [s].
    """

    name: str
    info: dict[str, object]
    scores: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    blank: int = 0
    wall_s: float = 0.0


def read_results(file: Path | None) -> dict[str, Result]:
    """Results by model that an earlier run has left; none where there is no file."""
    if file is None or not file.is_file():
        return {}
    return {entry["name"]: Result(**entry) for entry in json.loads(file.read_text("utf-8"))}


def write_results(file: Path | None, results: Mapping[str, Result]) -> None:
    """Leave results for a later run, whole or not at all."""
    if file is None:
        return
    made = file.with_suffix(".part")
    made.write_text(json.dumps([asdict(r) for r in results.values()], indent=1) + "\n", "utf-8")
    made.replace(file)


def make_report(
    results: Sequence[Result],
    tasks: Sequence[str],
    data: Mapping[str, str],
    facts: Mapping[str, str],
) -> str:
    """The measured part of a report.

    Args:
        results: Of every server.
        tasks: Names of all tasks that were asked for.
        data: Where a task's data came from, by its name.
        facts: Of machine, libraries and command.
    """
    run = [task for task in tasks if any(task in result.scores for result in results)]
    rows = []
    for result in results:
        scores = [result.scores.get(task) for task in run]
        whole = [score for score in scores if score is not None]
        mean = sum(whole) / len(whole) if len(whole) == len(run) and run else None
        rows.append([result.name, *(number(score, ".2f") for score in (*scores, mean))])
    parts = [fact_list(facts), table(["model", *run, "mean"], rows)]
    parts.append(
        table(
            ["model", "texts sent", "empty", "seconds", *SERVER_FACTS],
            [
                [
                    result.name,
                    str(result.texts),
                    str(result.blank),
                    number(result.wall_s, ".0f"),
                    *(str(result.info.get(fact, "-")) for fact in SERVER_FACTS),
                ]
                for result in results
            ],
        )
    )
    if data:
        lines = [f"- {name}: {source}" for name, source in data.items()]
        parts.append("Data of the tasks:\n\n" + "\n".join(lines))
    missing = [
        f"- {task}, {result.name}: {result.failures[task]}"
        for task in tasks
        for result in results
        if task in result.failures
    ]
    parts.append(
        "Not run:\n\n" + ("\n".join(missing) if missing else "- none of the tasks asked for")
    )
    return "\n\n".join(parts) + "\n"
