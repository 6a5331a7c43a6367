"""Machine code is refused where the processor lacks what it was compiled for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osa.export import processor
from osa.export.errors import ExportError
from osa.export.exporter import PACKAGES, _versions
from osa.export.onnx_model.runner import RUNTIMES
from osa.export.processor import check_gpu, check_processor, describe_processor, instructions

HERE = Path("artifact")
SERVER = "avx avx2 avx512_bf16 avx512_vnni avx512f fma"


def cpu_with(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu amx_tile {flags}\n")
    monkeypatch.setattr(processor, "CPU_FACTS", tmp_path / "cpuinfo")


def test_code_made_here_runs_here() -> None:
    check_processor(describe_processor(), HERE)
    check_processor({}, HERE)  # artifacts of the first releases


def test_what_compilers_use_unasked_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(SERVER, tmp_path, monkeypatch)
    assert instructions() == set(SERVER.split())


def test_an_instruction_that_is_missing_is_named_within_one_vector_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AVX-512 of a processor with AMX holds instructions that the first of its kind lack."""
    cpu_with(SERVER, tmp_path, monkeypatch)
    made = describe_processor()
    cpu_with(f"{SERVER} gfni", tmp_path, monkeypatch)
    check_processor(made, HERE)
    cpu_with("avx avx2 avx512f fma", tmp_path, monkeypatch)
    with pytest.raises(ExportError, match=r"with avx512_bf16, avx512_vnni, which this one lacks"):
        check_processor(made, HERE)


def test_what_only_one_vendor_has_and_no_compiler_uses_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact made on AMD's processor runs on Intel's of the same instruction sets."""
    cpu_with(f"{SERVER} sse4a fma4", tmp_path, monkeypatch)
    made = describe_processor()
    cpu_with(SERVER, tmp_path, monkeypatch)
    check_processor(made, HERE)


def test_where_the_system_tells_no_instructions_the_extension_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(SERVER, tmp_path, monkeypatch)
    made = describe_processor()
    monkeypatch.setattr(processor, "CPU_FACTS", tmp_path / "nothing")
    check_processor(made, HERE)
    with pytest.raises(ExportError, match="compiled for sparc AVX2, this processor is"):
        check_processor(made | {"processor": "sparc AVX2"}, HERE)


@pytest.mark.parametrize("installed", [*RUNTIMES, None])
def test_the_runtime_is_named_whichever_distribution_it_is(
    installed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(package: str) -> str:
        if package in RUNTIMES and package != installed:
            raise PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr("osa.export.exporter.version", version)
    found = _versions()
    assert all(found[package] == "1.2.3" for package in PACKAGES)
    assert [found[name] for name in RUNTIMES if name in found] == [
        "1.2.3" if installed else "not installed"
    ]


def test_code_for_another_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    made = _versions("cuda")
    assert made["gpu"] == "sm_90"
    check_gpu(made, HERE)
    check_gpu({}, HERE)  # artifacts of the first releases
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    with pytest.raises(ExportError, match="compiled for GPUs of sm_90, this one is sm_89"):
        check_gpu(made, HERE)
