"""The ``osa`` command: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from osa.model import kernels
from osa.model.common.threads import threads
from osa.model.processor import has_fast_bfloat16
from osa.service.cli import main


def test_config_prints_the_settings_that_serve_would_use(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "osa.toml"
    file.write_text("[server]\nport = 1\n[log]\nlevel = 'debug'\n")
    arguments = ["--config", str(file), "--port", "9000", "--set", "model.name=mine"]
    assert main(["config", *arguments]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert settings["server"]["port"] == 9000
    assert settings["log"]["level"] == "debug"
    assert settings["model"]["name"] == "mine"


def test_config_prints_tables_of_models_with_what_they_take_from_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "osa.toml"
    file.write_text("[model]\ndtype = 'float32'\n[models.law]\npath = '/models/law'\n")
    arguments = ["--config", str(file), "--set", "models.law.max_input_length=256"]
    assert main(["config", *arguments]) == 0
    table = json.loads(capsys.readouterr().out)["models"]["law"]
    assert table["path"] == "/models/law"
    assert (table["max_input_length"], table["dtype"]) == (256, "float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["config", "--set", "port=1"],
            "--set takes SECTION.FIELD=VALUE, got 'port=1'; did you mean server.port?",
        ),
        (["config", "--set", "batchin.max_batch_token=1"], "mean batching.max_batch_tokens?"),
        (["config", "--port", "many"], "server.port"),
        (["train", "--config", "nowhere.toml", "--output", "x"], "cannot read nowhere.toml"),
    ],
)
def test_a_wrong_request_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_command_that_is_interrupted_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("osa.service.cli._info", stop)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "osa: stopped\n"


def test_a_reader_that_has_enough_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "osa.service.cli", "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_unknown_command_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["surf"])
    assert "invalid choice: 'surf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["exprot"], "export"),
        (["calib"], "calibrate"),
        (["export", "--format", "onyx", "--output", "x"], "onnx"),
        (["embed", "a", "--output", "x", "--dtype", "flaot16"], "float16"),
    ],
)
def test_the_closest_choice_is_suggested(
    capsys: pytest.CaptureFixture[str], arguments: list[str], meant: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.rstrip().endswith(f"; did you mean {meant}?")


def test_info_names_the_kernel_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kernel"]["cpu"] == kernels.describe("cpu")
    assert facts["kernel"]["cpu"].startswith(("native (", "torch (native "))
    assert facts["products"].startswith(("native (", "torch (native "))
    assert facts["dtype"] == ("bfloat16" if has_fast_bfloat16("cpu") else "float32")
    assert facts["threads"] >= 1
    assert facts["threads_reason"] == threads().reason
