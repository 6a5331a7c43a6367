"""Packaged models by name, wherever a model is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from osa.model.common.directories import PRETRAINED, packaged_model
from osa.model.download.models import local_path
from osa.model.errors import ConfigError
from osa.service.cli import main


def test_a_name_is_a_directory_of_the_package() -> None:
    assert packaged_model(Path("packaged:default")) == PRETRAINED
    assert local_path(Path("packaged:default")) == PRETRAINED
    assert packaged_model(Path("/models/mine")) == Path("/models/mine")


@pytest.mark.parametrize("name", ["nothing", "", "..", "../pretrained/default", "corpus"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="packaged models are packaged:default"):
        packaged_model(Path(f"packaged:{name}"))


def test_a_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "packaged:best"]) == 2
    assert "packaged models are packaged:default" in capsys.readouterr().err
    assert main(["inspect", "packaged:default"]) == 0


def test_from_python() -> None:
    model = EmbeddingModel.from_pretrained("packaged:default")
    assert model.checkpoint_sha256 == EmbeddingModel.from_pretrained().checkpoint_sha256
