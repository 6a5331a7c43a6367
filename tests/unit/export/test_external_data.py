"""ONNX's external data: only what the manifest lists is read, from memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from osa.export.errors import ArtifactError
from osa.export.manifest import load_artifact
from osa.export.onnx_model.external_data import external_files
from osa.export.runner import embed_sequences, open_runner
from tests.artifact_edits import relist
from tests.conftest import ArtifactMaker


@pytest.fixture
def artifact(make_artifact: ArtifactMaker, tmp_path: Path) -> Path:
    """A copy that a test may modify."""
    return shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")


def move_out(artifact: Path, location: str) -> None:
    """Move the largest weight out of the graph, and name ``location`` for it."""
    model = onnx.load(str(artifact / "model.onnx"))
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    (artifact / "weights.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location, 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    (artifact / "model.onnx").write_bytes(model.SerializeToString())
    relist(artifact, "model.onnx")


@pytest.mark.parametrize(
    "location", ["weights.bin", "/etc/passwd", "../weights.bin", "./weights.bin", ""]
)
def test_what_no_manifest_lists_is_refused(artifact: Path, location: str) -> None:
    move_out(artifact, location)
    with pytest.raises(ArtifactError, match=r"which the manifest does not list"):
        open_runner(load_artifact(artifact))


def test_what_the_manifest_lists_is_loaded_from_memory(
    artifact: Path, make_artifact: ArtifactMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_out(artifact, "weights.bin")
    relist(artifact, "weights.bin")
    (artifact / "elsewhere").mkdir()
    monkeypatch.chdir(artifact / "elsewhere")
    rows = [np.array([2, 4, 5, 3])]
    moved, whole = (
        embed_sequences(open_runner(each), each.manifest, rows)[0]
        for each in map(load_artifact, (artifact, make_artifact("onnx")))
    )
    np.testing.assert_array_equal(moved, whole)


def test_a_tensor_in_an_attribute_is_seen_too() -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], raw_data=bytes(4))
    onnx.external_data_helper.set_external_data(tensor, "deep.bin", 0, 4)
    inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
    outer = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner)
    body = onnx.helper.make_node("Constant", [], ["k"], value=tensor)
    function = onnx.helper.make_function("d", "f", [], ["k"], [body], [])
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "g", [], []))
    assert external_files(model.SerializeToString()) == {"deep.bin"}
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    model.functions.append(function)
    assert external_files(model.SerializeToString()) == {"deep.bin"}


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x3a\xff\x01", b"\x0b", b"\x3a\x7f"])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="not an ONNX model"):
        external_files(content)
