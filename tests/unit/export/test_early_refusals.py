"""What a format cannot hold or a runtime cannot load is found out before work is done for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from osa.export import exporter
from osa.export.errors import ExportError
from osa.export.exporter import ExportOptions, export_model
from osa.export.formats import FORMATS
from osa.export.onnx_model import build
from tests.conftest import make_tiny_model


def never(*arguments: Any) -> None:
    pytest.fail("work was done for a model that is refused")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_layout_that_a_mixer_lacks_is_refused_before_anything_is_built(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(mixer=("osa", "tssa"))
    monkeypatch.setattr(exporter, "atomic_directory", never)
    with pytest.raises(ExportError, match=r"osa, tssa mixer has no packed graph"):
        export_model(model, tmp_path / "artifact", ExportOptions(kind, "packed"))
    assert not list(tmp_path.iterdir())


def test_a_graph_that_the_runtime_does_not_load_has_no_reference_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One operator that nobody knows: onnx's own checks let it pass, and ONNX Runtime does not."""
    save = build.save_onnx

    def save_broken(proto: onnx.ModelProto, path: Path) -> None:
        proto.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
        name = proto.graph.node[-1].output[0]
        proto.graph.node[-1].output[0] = "before"
        node = onnx.helper.make_node("Unknown", ["before"], [name], domain="nobody")
        proto.graph.node.append(node)
        save(proto, path)

    monkeypatch.setattr(build, "save_onnx", save_broken)
    monkeypatch.setattr(exporter, "make_reference", never)
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot load .*model\.onnx"):
        export_model(make_tiny_model(num_layers=1), tmp_path / "artifact")
    assert not list(tmp_path.iterdir())
