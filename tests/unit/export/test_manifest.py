"""Manifests: a round trip, and for every kind of damage an error that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from osa.export.errors import ArtifactError
from osa.export.manifest import ARTIFACT, PARITY, REFERENCE, Manifest, load_artifact
from osa.model import EmbeddingModel
from tests.conftest import ArtifactMaker, make_tiny_model


@pytest.fixture
def artifact(make_artifact: ArtifactMaker, tmp_path: Path) -> Path:
    """A copy that a test may modify."""
    return shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")


def edit(artifact: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    path = artifact / ARTIFACT
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_an_artifact_tells_what_it_is(artifact: Path) -> None:
    loaded = load_artifact(artifact)
    assert loaded.manifest.kind == "onnx"
    assert [spec.name for spec in loaded.manifest.inputs] == ["input_ids", "cu_seqlens"]
    assert [spec.shape for spec in loaded.manifest.outputs] == [
        ("sequences", 16),
        ("sequences",),
        ("tokens", 16),
    ]
    assert set(loaded.manifest.files) == {
        "model.onnx", "config.json", "tokenizer.json", PARITY, REFERENCE,
    }  # fmt: skip
    source = EmbeddingModel.from_pretrained(artifact_source(artifact))
    assert loaded.config == source.config
    assert loaded.manifest.versions["torch"].startswith("2.")


def artifact_source(artifact: Path) -> Path:
    """The packaged model stands in for nothing here: the tiny one is saved anew."""
    directory = artifact.parent / "source"
    make_tiny_model().save_pretrained(directory)
    return directory


def test_the_source_is_the_checkpoint_that_was_exported(artifact: Path) -> None:
    source = EmbeddingModel.from_pretrained(artifact_source(artifact))
    assert load_artifact(artifact).manifest.source_sha256 == source.checkpoint_sha256


def test_the_recorded_grid_is_within_the_tolerance(artifact: Path) -> None:
    parity = json.loads((artifact / PARITY).read_text())
    for run in parity["runs"].values():
        names = [case["case"] for case in run["cases"]]
        assert "lengths 1" in names
        assert "lengths 256" in names  # the longest that this model takes
        assert 0 < run["max_abs"] <= parity["tolerance"] == 1e-5


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json", REFERENCE])
def test_a_changed_file_is_refused(artifact: Path, name: str) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} does not match its sha256.*export the model"):
        load_artifact(artifact)


def test_a_truncated_file_is_refused(artifact: Path) -> None:
    content = (artifact / "model.onnx").read_bytes()
    (artifact / "model.onnx").write_bytes(content[:-100])
    with pytest.raises(ArtifactError, match=r"model.onnx has \d+ bytes, the manifest says \d+"):
        load_artifact(artifact)


def test_a_missing_file_is_named(artifact: Path) -> None:
    (artifact / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing: export the model again"):
        load_artifact(artifact)


def test_a_newer_format_asks_for_a_newer_release(artifact: Path) -> None:
    edit(artifact, lambda values: values.update(format_version=2))
    with pytest.raises(ArtifactError, match=r"format version 2, .* install a newer osa-encoder"):
        load_artifact(artifact)


def test_a_tokenizer_of_another_model_is_refused(
    artifact: Path, default_model: EmbeddingModel
) -> None:
    """Even if the manifest was changed to match."""
    assert default_model.tokenizer is not None
    (artifact / "tokenizer.json").write_text(default_model.tokenizer.to_json(), encoding="utf-8")
    import hashlib

    content = (artifact / "tokenizer.json").read_bytes()
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(artifact, lambda values: values["files"].update({"tokenizer.json": entry}))
    with pytest.raises(ArtifactError, match=r"30522 ids, the graph embeds 12: .* another model"):
        load_artifact(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(format="other"), "of format 'other'"),
        (lambda values: values.update(format_version="1"), "of format"),
        (lambda values: values.update(kind="savedmodel"), "kind must be one of onnx, aoti"),
        (lambda values: values.update(layout="ragged"), "layout must be one of packed, padded"),
        (lambda values: values.update(min_tokens=0), "min_tokens must be a positive integer"),
        (lambda values: values.update(tolerance=2), "tolerance must be between 0 and 1"),
        (lambda values: values.update(surplus=1), "is not an artifact's manifest"),
        (lambda values: values.pop("inputs"), "is not an artifact's manifest"),
        (lambda values: values["files"].pop("model.onnx"), "does not list model.onnx"),
        (
            lambda values: values["files"].update({"../x": {"size": 1, "sha256": ""}}),
            "which is not a file name",
        ),
    ],
)
def test_a_manifest_that_means_nothing_is_refused(
    artifact: Path,
    change: Callable[[dict], None],  # type: ignore[type-arg]
    message: str,
) -> None:
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(artifact)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(artifact: Path, content: bytes) -> None:
    (artifact / ARTIFACT).write_bytes(content)
    with pytest.raises(ArtifactError, match="is not an artifact's manifest"):
        load_artifact(artifact)


def test_the_manifest_survives_a_round_trip(artifact: Path) -> None:
    manifest = load_artifact(artifact).manifest
    (artifact / ARTIFACT).write_text(manifest.to_json())
    again: Manifest = load_artifact(artifact).manifest
    assert again == manifest
