"""Report of the kernel benchmark: tables, names of files, facts of the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.kernels import tables
from benchmarks.kernels.__main__ import command_of
from benchmarks.kernels.backward import Backward
from benchmarks.kernels.cases import Case
from benchmarks.kernels.encoder_share import Share
from benchmarks.kernels.machine import hardware_slug, processor_facts
from benchmarks.kernels.measure import Timing
from benchmarks.kernels.parity import Parity
from benchmarks.kernels.plots import PlotsMissing, require_matplotlib, series, write_plots
from benchmarks.kernels.report import Results, render, render_parity, to_json
from benchmarks.kernels.speed import Speed

CASE = Case(32, 8, "float32")
LONG = Case(32, 32768, "float32")


def timing(wall_s: float) -> Timing:
    return Timing(wall_s, 2 * wall_s, faults=7.0, spread=0.1, samples=3)


def make_results() -> Results:
    fast = {"osa": timing(1e-3), "osa_gram": timing(4e-3), "sdpa-flash": timing(2e-3)}
    slow = {"osa": timing(1e-2)}
    results = Results({"hardware": "cpu-test", "date": "2026-11"}, "python -m benchmarks.kernels")
    gated = frozenset({"osa"})
    results.parity = [Parity(case, 0.5, {"osa": 1e-7}, gated) for case in (CASE, LONG)]
    results.gradient_errors = {CASE: 1e-7}
    results.copy_rate, results.product_rates = 1e10, {"float32": 1e11}
    results.speeds = [
        Speed(CASE, fast, fast, {"osa_qr": "over 2048 tokens"}),
        Speed(LONG, slow, {}, {"sdpa-flash": "25 s a run, over 20 s"}),
    ]
    both = {"osa": timing(3e-3), "sdpa-flash": timing(9e-3)}
    results.backward = [Backward(CASE, fast, both), Backward(LONG, slow, {"osa": timing(3e-2)})]
    results.shares = [Share(8, 4096, 3, timing(1e-1), timing(5e-3), timing(2e-2))]
    return results


def test_a_table_is_markdown() -> None:
    text = tables.table(["a", "b"], [["1", "2"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert tables.number(float("nan")) == "-"
    assert tables.number(1.234) == "1.23"


def test_the_report_says_ratios_and_why_numbers_are_missing() -> None:
    text = render(make_results(), lambda case: "torch", plots=True)
    assert "| d32-n8-float32 | 2.00 | 2.00 | 4.00 | - | 2.00 | - |" in text
    assert "| d32-n32768-float32 | - | - |" in text
    assert "- osa_qr: over 2048 tokens (d32-n8-float32)" in text
    assert "- sdpa-flash: 25 s a run, over 20 s (d32-n32768-float32)" in text
    assert "| d32-n8-float32 | 3.00 | 2.00 | 4.50 | 3.00 | sdpa-flash |" in text
    assert "| 8 | 5.0% | 5.0% | 0.25 |" in text
    assert "![" not in render(make_results(), lambda case: "torch", plots=False)
    widths = {line.count("|") for line in text.split("## Warm")[1].split("![")[0].splitlines()[2:]}
    assert len(widths - {0}) == 1


def test_red_errors_are_named() -> None:
    results = make_results()
    results.parity = [Parity(CASE, 0.5, {"osa": float("nan"), "osa_qr": 1.0}, frozenset({"osa"}))]
    results.gradient_errors = {CASE: 1.0}
    text = render_parity(results, lambda case: "torch")
    assert "RED: osa |" in text
    assert "osa_qr |" not in text.split("RED")[1]
    assert text.count("RED") == 2


def test_the_numbers_are_json() -> None:
    content = json.loads(to_json(make_results()))
    assert content["speed"][0]["peer"] == "sdpa-flash"
    assert content["speed"][0]["case"]["name"] == "d32-n8-float32"
    assert content["speed"][0]["cold"]["osa"]["faults"] == 7.0
    assert content["encoder"][0]["length"] == 8


@pytest.mark.parametrize(
    ("processor", "flags", "capability", "gpu", "slug"),
    [
        ("Intel(R) Xeon(R) Processor", {"amx_tile"}, "AVX512", "", "cpu-xeon-amx"),
        ("AMD EPYC 9654 96-Core Processor", set(), "AVX512", "", "cpu-epyc-avx512"),
        ("13th Gen Intel(R) Core(TM) i7", set(), "AVX2", "", "cpu-core-avx2"),
        ("aarch64", set(), "DEFAULT", "", "cpu-aarch64-default"),
        ("any", set(), "AVX2", "NVIDIA H100 80GB HBM3", "gpu-h100"),
        ("any", set(), "AVX2", "NVIDIA GeForce RTX 4090", "gpu-rtx-4090"),
    ],
)
def test_hardware_has_a_short_name(
    processor: str, flags: set[str], capability: str, gpu: str, slug: str
) -> None:
    assert hardware_slug(processor, frozenset(flags), capability, gpu) == slug


def test_processor_is_read_from_the_system() -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: avx2 amx_tile\n\nprocessor\t: 1\n"
    assert processor_facts(text) == ("Some CPU", frozenset({"avx2", "amx_tile"}))
    assert processor_facts("")[0]


def test_the_command_hides_where_it_wrote() -> None:
    command = command_of(["--quick", "--output", "/home/me", "--repeats", "3"])
    assert command == "python -m benchmarks.kernels --quick --output DIR --repeats 3"
    assert "/home" not in command_of(["--output=/home/me"])


def test_plots_without_matplotlib_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsMissing, match=r"pip install -e '\.\[bench\]'"):
        require_matplotlib()


def test_a_line_has_the_fuller_batch_of_a_length() -> None:
    full = Case(32, 8, "float32", budget=8192)
    speeds = [Speed(case, {"osa": timing(1.0)}) for case in (full, CASE, LONG)]
    lengths, values = series(speeds, 32, "float32", "osa", lambda speed, _: speed.case.tokens)
    assert (lengths, values) == ([8, 32768], [8192, 32768])


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra 'bench'")
    files = write_plots(make_results().speeds, tmp_path, "kernels")
    assert [file.name for file in files] == ["kernels_time.svg", "kernels_ratio.svg"]
    first = files[0].read_bytes()
    assert b"<svg" in first
    write_plots(make_results().speeds, tmp_path, "kernels")
    assert files[0].read_bytes() == first
