"""Report files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.common.report import fact_list, write_measured


def test_text_above_the_measured_part_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.md"
    write_measured(path, "Title", fact_list({"hardware": "cpu-x", "commit": "abc"}) + "\n")
    assert path.read_text() == "# Title\n\n- hardware: cpu-x\n- commit: abc\n"
    path.write_text(path.read_text().replace("# Title\n", "# Mine\n\nMy words.\n"))
    write_measured(path, "Title", fact_list({"hardware": "cpu-y"}) + "\n")
    assert path.read_text() == "# Mine\n\nMy words.\n\n- hardware: cpu-y\n"
