"""Every mixer compiled ahead of time by AOTInductor: a C++ compiler runs for each, some minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from osa.export.exporter import ExportOptions, export_model
from osa.export.graph import default_layout
from osa.model.layers.mixers import MIXERS
from tests.conftest import make_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler"),
]


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_is_compiled_and_verified(name: str, tmp_path: Path) -> None:
    model = make_tiny_model(mixer=name, num_layers=1, max_seq_len=12)
    options = ExportOptions("aoti", default_layout(model.config))
    deviations = export_model(model, tmp_path / "artifact", options)["aoti"]
    assert len(deviations) >= 5
    assert max(deviation.max_abs for deviation in deviations) <= 1e-5
