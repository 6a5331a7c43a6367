"""Manifests: a round trip, and for every kind of damage an error that says what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from osa.export.errors import ArtifactError
from osa.export.manifest import load_artifact
from osa.export.manifest_values import PARITY, REFERENCE, Manifest
from osa.export.runner import open_runner
from osa.model import EmbeddingModel
from osa.model.common.directories import ARTIFACT
from tests.artifact_edits import edit, relist
from tests.conftest import ArtifactMaker, make_tiny_model


@pytest.fixture
def artifact(make_artifact: ArtifactMaker, tmp_path: Path) -> Path:
    """A copy that a test may modify."""
    return shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")


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
    content = (artifact / "tokenizer.json").read_bytes()
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(artifact, lambda values: values["files"].update({"tokenizer.json": entry}))
    with pytest.raises(ArtifactError, match=r"has 30522 ids, the model embeds 12"):
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


def put(values: dict, place: str, value: object) -> None:  # type: ignore[type-arg]
    """Set the value of a place such as ``inputs.0.name``."""
    *way, last = place.split(".")
    for step in way:
        values = values[int(step) if isinstance(values, list) else step]
    values[int(last) if isinstance(values, list) else last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("tolerance", float("inf")),
        ("tolerance", float("nan")),
        ("tolerance", "0.1"),
        ("min_sequences", 10**9),
        ("min_sequences", True),
        ("min_tokens", 10**4000),
        ("max_seq_len", 1e3),
        ("max_seq_len", 2**40),
        ("inputs", []),
        ("inputs", {"a": 1}),
        ("outputs", [{"name": "a", "dtype": "float32", "shape": [1]}] * 4),
        ("inputs.0", 3),
        ("inputs.0.name", "x" * 300),
        ("inputs.0.name", "a\nb"),
        ("inputs.0.dtype", "complex128"),
        ("inputs.0.dtype", ["int64"]),
        ("inputs.0.shape", []),
        ("inputs.0.shape", [-1]),
        ("inputs.0.shape", [10**30]),
        ("inputs.0.shape", [["tokens"]]),
        ("outputs.0.shape", ["sequences", 17]),
        ("outputs.1.name", "embeddings"),
        ("kind", ["onnx"]),
        ("kind", None),
        ("layout", {}),
        ("device", 3),
        ("dtype", float("inf")),
        ("source_sha256", 5),
        ("source_sha256", "x" * 64),
        ("versions", []),
        ("versions", {"torch": 2}),
        ("versions", {"x" * 300: "1"}),
        ("files", []),
        ("files", {str(place): {} for place in range(1000)}),
        ("files.parity\\.json", {"size": 1, "sha256": "0" * 64}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(
    artifact: Path, place: str, value: object
) -> None:
    edit(artifact, lambda values: put(values, place.replace("\\.", "/"), value))
    with pytest.raises(ArtifactError) as caught:
        load_artifact(artifact)
    line = str(caught.value)
    assert place.split(".")[0] in line
    assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("place", "value"),
    [("size", -1), ("size", 1e999), ("size", "5"), ("size", 10**15), ("sha256", 5), ("sha256", "")],
)
def test_facts_of_a_file_that_cannot_be_are_refused(
    artifact: Path, place: str, value: object
) -> None:
    edit(artifact, lambda values: values["files"]["parity.json"].update({place: value}))
    with pytest.raises(ArtifactError, match=rf"files\['parity.json'\].{place}"):
        load_artifact(artifact)


def test_a_manifest_of_a_hundred_megabytes_is_not_read(artifact: Path) -> None:
    edit(artifact, lambda values: values["versions"].update(torch="2" * 100_000_000))
    with pytest.raises(ArtifactError, match="allowed are 1048576"):
        load_artifact(artifact)


def test_outputs_in_another_order_are_noticed(artifact: Path) -> None:
    edit(artifact, lambda values: values["outputs"].reverse())
    with pytest.raises(ArtifactError, match=r"outputs must be embeddings .* by config.json, got"):
        load_artifact(artifact)


def test_a_graph_with_outputs_in_another_order_is_noticed(artifact: Path) -> None:
    model = onnx.load(str(artifact / "model.onnx"))
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])
    onnx.save(model, str(artifact / "model.onnx"))
    relist(artifact, "model.onnx")
    with pytest.raises(ArtifactError, match="has the outputs token_embeddings"):
        open_runner(load_artifact(artifact))


def test_a_file_that_is_exchanged_after_its_check_is_not_loaded(artifact: Path) -> None:
    loaded = load_artifact(artifact)
    content = bytearray((artifact / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its sha256"):
        open_runner(loaded)


def test_links_and_hard_links_are_read_as_what_they_hold(artifact: Path, tmp_path: Path) -> None:
    """Volumes of Kubernetes and caches are made of them; the hash decides."""
    shutil.move(artifact / "model.onnx", tmp_path / "elsewhere")
    (artifact / "model.onnx").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "second").hardlink_to(artifact / "config.json")
    assert open_runner(load_artifact(artifact)).device in ("cpu", "cuda")
