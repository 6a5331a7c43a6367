"""``osa verify`` and ``osa inspect`` of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from osa.model.checkpoint import write_manifest
from osa.service.cli import main
from tests.conftest import make_tiny_model


@pytest.mark.parametrize(
    "changes",
    [{}, {"mixer": "softmax"}, {"vocab_size": None, "feature_size": 5}, {"max_seq_len": 8}],
    ids=str,
)
def test_a_checkpoint_is_verified_and_inspected(
    changes: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_model(**changes)
    model.save_pretrained(tmp_path / "model", extra={"training.json": b'{"updates": 7}'})
    assert main(["verify", str(tmp_path / "model")]) == 0
    count = sum(parameter.numel() for parameter in model.parameters())
    told = capsys.readouterr()
    assert f"is a checkpoint of {count} parameters" in told.out
    assert "tokens embed to finite unit vectors" in told.out
    assert "every file matches its sha256; every tensor fits" in told.err
    assert main(["inspect", str(tmp_path / "model")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["parameters"]) == ("checkpoint", count)
    assert facts["dimensions"] == [16, 8]
    assert facts["trained"] == {"updates": 7}
    assert facts["limits"]["longest sequence"] == model.config.max_seq_len
    assert facts["bytes"]["model.safetensors"] > 4 * count


def test_a_damaged_checkpoint_is_not_verified(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tiny_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for command in ("verify", "inspect"):
        assert main([command, str(tiny_checkpoint)]) == 1
        assert "does not match its sha256" in capsys.readouterr().err


def test_weights_whose_vectors_overflow_are_not_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_model(norm=False)
    torch.nn.init.constant_(model.get_parameter("encoder.embed.weight"), 3e38)
    model.save_pretrained(tmp_path / "model")
    assert main(["verify", str(tmp_path / "model")]) == 1
    assert "embeds to vectors that are not finite" in capsys.readouterr().err


def test_a_record_that_is_none_is_told(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_checkpoint / "training.json").write_text("[")
    write_manifest(tiny_checkpoint)
    assert main(["inspect", str(tiny_checkpoint)]) == 1
    assert "training.json is not a record of a training" in capsys.readouterr().err
