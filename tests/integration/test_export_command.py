"""``osa export``, ``verify`` and ``inspect`` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from osa.service.cli import main
from tests.conftest import ArtifactMaker


def test_export_verify_inspect(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("osa.export.parity.reference.user_cache", lambda: None)
    out = tmp_path / "artifact"
    assert main(["export", "--format", "onnx", "--output", str(out),
                 "--model", str(tiny_checkpoint)]) == 0  # fmt: skip
    told = capsys.readouterr()
    assert "body: " in told.out
    assert "off by at most" in told.out
    for place in (1, 21):
        assert f"float64 reference: case {place} of 21: lengths " in told.err
    assert main(["verify", str(out)]) == 0
    told = capsys.readouterr()
    assert "gives its source's vectors within 1e-05" in told.out
    assert "parity grid, body: case 1 of 21: lengths 1\n" in told.err
    assert "parity grid, body: case 21 of 21: " in told.err
    assert main(["inspect", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inputs"] == {"input_ids": "int64 [tokens]", "cu_seqlens": "int32 [sequences + 1]"}
    assert facts["operators"]["osa::OrthogonalAttention"] == 2
    assert facts["limits"]["longest sequence"] == 256
    assert facts["runs here"].startswith("on cpu: ")


def test_verify_fails_on_a_changed_artifact(
    make_artifact: ArtifactMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    artifact = shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")
    (artifact / "tokenizer.json").write_text("{}")
    assert main(["verify", str(artifact)]) == 1
    assert "tokenizer.json has 2 bytes, the manifest says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "--format", "onnx", "--output", "x", "--model", "nowhere"], 2, "--model must"),
        (["export", "--format", "aoti", "--dtype", "int8", "--output", "x"], 2, "are float32"),
        (["verify", "nowhere"], 2, "nowhere is not a directory (nothing there)"),
        (["inspect", "nowhere"], 2, "nowhere is not a directory (nothing there)"),
    ],
)
def test_wrong_requests_are_told_so(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert message in capsys.readouterr().err


def test_an_unknown_format_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", "--format", "tflite", "--output", "x"])
    assert "'onnx', 'aoti', 'torch-export'" in capsys.readouterr().err


def test_the_build_command_says_what_is_missing(tmp_path: Path) -> None:
    environment = {"PATH": "/nonexistent", "ORT_INCLUDE_DIR": str(tmp_path), "CXX": "/bin/true"}
    done = subprocess.run(
        [sys.executable, "-m", "osa.export.ort_ops.build", "--output", str(tmp_path / "x.so")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"ORT_INCLUDE_DIR is {tmp_path}, but there is no onnxruntime_cxx_api.h" in done.stderr
