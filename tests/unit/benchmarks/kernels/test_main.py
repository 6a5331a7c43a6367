"""The command ``python -m benchmarks.kernels``: red errors stop it, green ones give a report."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks.kernels import roofline
from benchmarks.kernels.__main__ import command_of, main
from benchmarks.kernels.cases import Operands
from benchmarks.kernels.implementations import IMPLEMENTATIONS, compute_osa

SMALL = ["--quick", "--no-encoder", "--no-plots", "--repeats", "1", "--dtypes", "float32"]
ONE = [*SMALL, "--cases", "d32-n8-float32"]


@pytest.fixture(autouse=True)
def _small_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(roofline.PRODUCT_SIZE, "cpu", 64)


def nearly_right(operands: Operands) -> Tensor:
    return compute_osa(operands) * (1 + 1e-4)


def test_a_wrong_kernel_exits_1_and_no_speed_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    osa, *others = IMPLEMENTATIONS
    wrong = [dataclasses.replace(osa, compute=nearly_right), *others]
    assert main([*ONE, "--output", str(tmp_path)], wrong) == 1
    printed = capsys.readouterr()
    assert "RED: osa" in printed.out
    assert "ns/token" not in printed.out
    assert "speed is not measured" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_gradient_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    def stretched(operands: Operands) -> Tensor:
        output = compute_osa(operands)
        return output * 2 - output.detach() if output.requires_grad else output

    osa, *others = IMPLEMENTATIONS
    wrong = [dataclasses.replace(osa, compute=stretched), *others]
    assert main([*SMALL, "--cases", "d32-n512-float32"], wrong) == 1
    printed = capsys.readouterr().out
    assert "RED: osa" in printed
    assert "ns/token" not in printed


def test_a_right_kernel_gives_a_report_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ONE, "--output", str(tmp_path)]) == 0
    report, numbers = (next(tmp_path.glob(f"kernels_*.{end}")) for end in ("md", "json"))
    text = report.read_text()
    assert text == capsys.readouterr().out[:-1]
    assert "osa [ns/token]" in text
    for hidden in (str(tmp_path), str(Path.cwd()), platform.node() or "-"):
        assert hidden == "-" or hidden not in text + numbers.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "nothing"], "there are d32-n8-float32"),
        (["--dtypes", "float8"], "got float8"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_a_wrong_request_exits_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_command_hides_where_it_wrote() -> None:
    command = command_of(["--quick", "--output", "/home/me", "--repeats", "3"])
    assert command == "python -m benchmarks.kernels --quick --output DIR --repeats 3"
    assert "/home" not in command_of(["--output=/home/me"])
