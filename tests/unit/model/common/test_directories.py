"""Kinds of directories, and the errors for unusable ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from osa.model.common.directories import check_output, check_parent, describe_path, kind_of
from osa.model.errors import CheckpointError, ConfigError
from osa.service.cli import main

FOREIGN = [
    ({"config.json": {"architectures": ["Own"]}, "model.safetensors": ""}, "config.json names Own"),
    ({"pytorch_model.bin": ""}, "a directory of weights without the description of an encoder"),
]


def fill(directory: Path, files: dict[str, object]) -> Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


@pytest.mark.parametrize(("files", "what"), FOREIGN)
def test_a_model_of_other_libraries_is_told_with_what_can_be_done(
    files: dict[str, object], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = fill(tmp_path / "bert", files)
    assert kind_of(directory) == "other"
    (tmp_path / "a.txt").write_text("a cat")
    output = ["--output", str(tmp_path / "out.parquet")]
    for command in (
        ["verify", str(directory)],
        ["inspect", str(directory)],
        ["serve", "--model", str(directory)],
        ["embed", str(tmp_path / "a.txt"), *output, "--model", str(directory)],
        ["export", "--format", "onnx", *output, "--model", str(directory)],
    ):
        assert main(command) == 2, command
        told = capsys.readouterr().err
        assert what in told, command
        assert "and directories of transformers, whose config.json has a model_type" in told
    with pytest.raises(CheckpointError, match="this version runs its own checkpoints") as error:
        EmbeddingModel.from_pretrained(directory)
    assert what in str(error.value)


def test_what_is_no_model_is_told_in_words(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert describe_path(tmp_path / "file") == f"{tmp_path}/file is a file, not a directory"
    hub = describe_path(Path("sentence-transformers/all-MiniLM-L6-v2"))
    assert hub.endswith(
        "(nothing there; hf:sentence-transformers/all-MiniLM-L6-v2 downloads it from the hub)"
    )
    reference = describe_path(Path("hf:acme/small"))
    assert reference == "a local directory is needed here: 'osa download hf:acme/small' makes one"
    assert "is not a directory (nothing there)" in describe_path(tmp_path / "nowhere")
    assert "holds neither a checkpoint" in describe_path(fill(tmp_path / "notes", {"a.md": "x"}))
    assert kind_of(tmp_path) == "collection"
    assert f"holds several models ({tiny_checkpoint.name})" in describe_path(tmp_path)
    artifact = fill(tmp_path / "artifact", {"artifact.json": {}})
    assert kind_of(artifact) == "artifact"
    with pytest.raises(CheckpointError, match="is an artifact: serve, embed, verify and inspect"):
        EmbeddingModel.from_pretrained(artifact)
    half = shutil.copytree(tiny_checkpoint, tmp_path / "half")
    (half / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"misses manifest\.json.*copy it again"):
        EmbeddingModel.from_pretrained(half)


def test_an_output_is_checked_by_what_it_holds(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "new", "manifest.json", force=False)
    fill(tmp_path / "empty", {})
    check_output(tmp_path / "empty", "manifest.json", force=False)
    made = fill(tmp_path / "made", {"manifest.json": "{}"})
    check_output(made, "manifest.json", force=True)
    with pytest.raises(ConfigError, match="exists: pass --force to replace it, or name another"):
        check_output(made, "manifest.json", force=False)
    for force in (False, True):
        with pytest.raises(ConfigError, match="holds other files"):
            check_output(made, "artifact.json", force)
    with pytest.raises(ConfigError, match="is not a directory"):
        check_parent(made / "manifest.json" / "below")


def test_what_may_not_be_looked_into_is_no_model(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume's lost+found beside the models of a collection."""
    collection = tmp_path / "volume"
    shutil.copytree(tiny_checkpoint, collection / "one")
    (collection / "lost+found").mkdir()
    is_file = Path.is_file

    def guarded(path: Path) -> bool:
        if path.parent.name == "lost+found":
            raise PermissionError(path)
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", guarded)
    assert kind_of(collection) == "collection"
    assert "(one)" in describe_path(collection)
