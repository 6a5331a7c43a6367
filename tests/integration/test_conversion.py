"""``osa convert`` end to end with a small teacher: convert, stop, resume, load, refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from osa.service.cli import main
from tests.conftest import wait_until
from tests.transformer_models import make
from tests.unit.model.conversion.conftest import texts

pytestmark = pytest.mark.usefixtures("short_timings")
COMMAND = [sys.executable, "-m", "osa.service.cli"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bert")
    make(directory, "bert", num_hidden_layers=2)
    (directory / "texts.txt").write_text("\n".join(texts(60)))
    return directory


def arguments(bert: Path, output: Path, steps: str = "30,6") -> list[str]:
    return [
        "convert", str(bert), "--output", str(output), "--texts", str(bert / "texts.txt"),
        "--steps", steps, "--batch-tokens", "256", "--max-tokens", "64", "--quiet",
        "--dtype", "float32",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def converted(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("converted") / "model"
    assert main(arguments(bert, output)) == 0
    return output


def test_the_vectors_come_near_the_teachers(bert: Path, converted: Path) -> None:
    student, teacher = (EmbeddingModel.from_pretrained(path) for path in (converted, bert))
    assert student.config.mixer == "osa"
    found, wanted = (model.encode(texts(20)) for model in (student, teacher))
    record = json.loads((converted / "conversion.json").read_text())
    assert record["steps"] == [30, 6, 0]
    assert record["cosine"] > 0.8
    assert float((found * wanted).sum(-1).mean()) > 0.8
    assert "linear in length" in (converted / "README.md").read_text()
    assert not converted.with_name("model.run").exists()


def test_a_stopped_conversion_goes_on_to_the_same_weights(
    bert: Path, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [*COMMAND, *arguments(bert, output)]
    command.remove("--quiet")
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        time.sleep(0.1)
        wait_until(lambda: output.with_name("model.run").is_dir())
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 1, errors
    assert "stopped by signal 15" in errors
    assert main([*arguments(bert, output)]) == 2  # a state is there
    assert main([*arguments(bert, output, "30,7"), "--resume"]) == 1
    assert "was begun with --steps 30,6,0, got --steps 30,7,0" in capsys.readouterr().err
    assert main([*arguments(bert, output), "--resume"]) == 0
    one, other = (EmbeddingModel.from_pretrained(path).state_dict() for path in (output, converted))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--steps", "3"], "--steps takes two or three numbers from 0 on, not all 0"),
        (["--minutes", "0"], "--minutes must be positive"),
        (["--layers", "0,7"], "layers must ascend from 0 to at most 1"),
        (["--texts", "nothing.txt"], "nothing.txt: it does not exist"),
        (["--resume"], "holds no state"),
        (["--max-tokens", "4"], "--max-tokens must be at least 16"),
        (["--matryoshka", "8,16"], "matryoshka_dims must descend"),
        (["--max-tokens", "600"], "--max-tokens must be at most the 512"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    bert: Path, tmp_path: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(bert, tmp_path / "model"), *change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_scores_are_read_before_anything_is_computed(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, told in (
        ("score\tone\tother\n5\ta\tb\n", "pairs.tsv:1 is not score<TAB>text<TAB>text"),
        ("5\ta\tb\n5\tc\td\n", "has 2 pairs, all of one score"),
    ):
        (tmp_path / "pairs.tsv").write_text(content)
        asked = ["--sts", str(tmp_path / "pairs.tsv")]
        assert main([*arguments(bert, tmp_path / "model"), *asked]) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "model.run").exists()


def test_what_was_learnt_outlives_what_ends_the_measurements(
    bert: Path,
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("osa.model.conversion.run.measure", stop)
        assert main(arguments(bert, tmp_path / "model")) == 130
    assert capsys.readouterr().err.endswith("osa: stopped\n")
    with monkeypatch.context() as patch:
        patch.setattr("osa.model.conversion.trainer.Conversion._update", stop)
        assert main([*arguments(bert, tmp_path / "model"), "--resume"]) == 0
    one, other = (
        EmbeddingModel.from_pretrained(path).state_dict()
        for path in (tmp_path / "model", converted)
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_vectors_are_turned_and_stored_as_integers(bert: Path, tmp_path: Path) -> None:
    width = EmbeddingModel.from_pretrained(bert).config.vector_size
    asked = ["--matryoshka", f"{width},8", "--dtype", "int8"]
    assert main([*arguments(bert, tmp_path / "model", "5,2"), *asked]) == 0
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    assert model.config.matryoshka_dims == (width, 8)
    assert model.calibration is not None, "int8 and uint8 vectors can be asked for"
    assert set(model.calibration.bounds) == {width, 8}
    record = json.loads((tmp_path / "model" / "conversion.json").read_text())
    assert record["widths"]["8"]["share"] > 8 / width
    assert "| dimensions |" in (tmp_path / "model" / "README.md").read_text()


def test_long_texts_are_learnt_and_told(bert: Path, tmp_path: Path) -> None:
    """Of texts beyond --max-tokens; a stage of its own, and a table of the card."""
    (tmp_path / "long.txt").write_text("\n".join(" ".join(texts(60)[k:]) for k in range(45)))
    asked = ["--texts", str(tmp_path / "long.txt"), "--max-length", "4096"]
    assert main([*arguments(bert, tmp_path / "model", "5,2,4"), *asked]) == 0
    record = json.loads((tmp_path / "model" / "conversion.json").read_text())
    assert record["steps"] == [5, 2, 4]
    assert all(found["texts"] > 0 for found in record["long"].values())
    assert "segments within the text" in (tmp_path / "model" / "README.md").read_text()
    assert EmbeddingModel.from_pretrained(tmp_path / "model").config.max_seq_len == 4096


def test_long_texts_are_cut_to_what_the_student_reads(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(" ".join(texts(60)[k:]) for k in range(45)))
    asked = ["--texts", str(tmp_path / "long.txt"), "--max-tokens", "16", "--max-length", "48"]
    assert main([*arguments(bert, tmp_path / "model", "2,2,4"), *asked]) == 0
    record = json.loads((tmp_path / "model" / "conversion.json").read_text())
    assert record["steps"] == [2, 2, 4]


def test_layers_are_numbers(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*arguments(bert, bert / "m"), "--layers", "1;2"])
    assert "wanted are whole numbers with commas between them, got '1;2'" in capsys.readouterr().err


def test_only_models_of_transformers_are_converted(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(converted), "--output", str(tmp_path / "m")]) == 2
    assert "takes a model of transformers" in capsys.readouterr().err
