"""Runs that were stopped go on; what was measured becomes tables and a plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bulk.__main__ import Rates
from benchmarks.bulk.__main__ import report as bulk_report
from benchmarks.streaming.__main__ import main
from benchmarks.streaming.beside import Latencies, Round, summary
from benchmarks.streaming.report import beside_table, length_table, route_table
from benchmarks.streaming.store import Results

LENGTH = {"idle_mb": 300.0, "above_mb": 20.0, "cpu_s": 4e-5, "wall_s": 5e-5, "short_cpu_s": 3.2e-5}


def test_a_line_that_was_not_finished_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "kept.jsonl"
    results = Results(file)
    results.add("lengths", {"tokens": 7})
    with file.open("a") as torn:
        torn.write('{"part": "lengths", "tok')
    results = Results(file)
    assert results.of("lengths") == [{"part": "lengths", "tokens": 7}]
    results.add("beside", {"alone": [1, 2, 3]})
    assert [len(Results(file).of(part)) for part in ("lengths", "beside", "routes")] == [1, 1, 0]


def test_what_is_there_is_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Results(tmp_path / "kept.jsonl")
    for tokens in (1_000, 1_000, 1_000, 10_000, 10_000, 10_000):
        kept.add("lengths", {"tokens": tokens, **LENGTH})
    found = Round(Latencies(0.004, 0.01, 300), None, Latencies(0.005, 0.015, 300))
    for _ in range(2):
        kept.add("beside", found._asdict())
    route = {"route": "/embed", "tokens": 5, "answer_bytes": 9, "chunks": 0}
    kept.add("routes", {**LENGTH, **route})
    arguments = ["--only", "lengths", "beside", "--longest", "10000", "--rounds", "2"]
    arguments += ["--results", str(tmp_path / "kept.jsonl"), "--output", str(tmp_path / "out.md")]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "progress" not in told.err
    written = (tmp_path / "out.md").read_text()
    assert "| 10,000 | 20 | 40.0 | 1.25 |" in written
    assert "| 1.50 |" in written
    assert "/embed" not in written, "not asked for"
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")


def test_nothing_is_begun_after_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--at-most", "-1", "--results", str(tmp_path / "kept.jsonl")]
    assert main([*arguments, "--only", "lengths", "routes", "beside"]) == 0
    left = [
        line for line in capsys.readouterr().err.splitlines() if "left for the next run" in line
    ]
    assert len(left) == 4
    assert not (tmp_path / "kept.jsonl").exists()


def test_tables_have_medians() -> None:
    rows = [{"tokens": 1000, **LENGTH, "above_mb": value} for value in (10.0, 30.0, 90.0)]
    assert "| 1,000 | 30 | 40.0 | 1.25 | 0.1 |" in length_table(rows)
    one = {"alone": [0.001, 0.01], "reading": [0.002, 0.02], "computing": [0.003, 0.03]}
    two = {"alone": [0.001, 0.01], "reading": None, "computing": [0.003, 0.05]}
    assert "| median ratio |  |  |  | 2.00 | 3.00 of p50 |  | 4.00 |" in beside_table([one, two])
    route = {"route": "/embed_chunks", "tokens": 5, "answer_bytes": 3e6, "chunks": 7}
    assert "| /embed_chunks | 5 | 20 | 40.0 | 1.25 | 7 | 3.0 |" in route_table(
        [{**LENGTH, **route}]
    )
    assert "| median |  |  |  | 0.76 | 0.95 |" in bulk_report([Rates(100.0, 160.0, 152.0)], 2)
    assert summary([1.0] * 99 + [3.0]).p99 == pytest.approx(1.02)
    assert json.loads(json.dumps(summary([1.0, 2.0])))[2] == 2
