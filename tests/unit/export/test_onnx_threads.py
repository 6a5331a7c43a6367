"""ONNX Runtime takes as many threads as torch: it reads neither the environment nor a quota."""

from __future__ import annotations

import pytest

from osa.export.manifest import load_artifact
from osa.export.onnx_model.runner import OnnxRunner
from osa.model.common.threads import Threads
from tests.conftest import ArtifactMaker


@pytest.mark.parametrize(
    ("found", "asked", "given"),
    [
        (Threads(1, "CPU quota of 0.5 cores", True), 0, 1),
        (Threads(3, "OMP_NUM_THREADS", True), 0, 3),
        (Threads(3, "OMP_NUM_THREADS", True), 2, 2),
        (Threads(8, "8 cores", False), 0, 0),
    ],
)
def test_threads_follow_the_limit_of_the_process(
    make_artifact: ArtifactMaker,
    monkeypatch: pytest.MonkeyPatch,
    found: Threads,
    asked: int,
    given: int,
) -> None:
    monkeypatch.setattr("osa.export.onnx_model.runner.default_threads", lambda: found)
    runner = OnnxRunner(load_artifact(make_artifact("onnx")), "cpu", "body", asked)
    assert runner._session.get_session_options().intra_op_num_threads == given
