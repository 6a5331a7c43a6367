"""Programs of ``torch.export`` run on another type of device than they were made on."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from osa.export import exporter
from osa.export.errors import ArtifactError, ExportError
from osa.export.formats import FORMATS
from osa.export.manifest import Artifact, load_artifact
from osa.export.runner import open_runner
from osa.export.torch_program import placement
from osa.export.torch_program.archive import CONFIGS, GRAPH, Archive
from osa.export.torch_program.placement import on_device
from tests.conftest import ArtifactMaker

IDS, OFFSETS = np.arange(8) % 12, np.array([0, 3, 8], dtype=np.int32)
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def made(make_artifact: ArtifactMaker) -> Artifact:
    """A program made on a CPU."""
    return load_artifact(make_artifact("torch-export"))


@pytest.fixture
def made_on_cuda(made: Artifact, tmp_path: Path) -> Artifact:
    """The same, as if its tensors had been on a CUDA device when it was made."""
    directory = tmp_path / "artifact"
    shutil.copytree(made.path, directory)
    archive = Archive(made.read_graph(), made.graph)
    named = {
        name: placement._renamed(archive.read(name), name, "cuda") for name in (GRAPH, *CONFIGS)
    }
    (directory / made.graph.name).write_bytes(archive.rewritten(named))
    exporter._write(directory, dataclasses.replace(made.manifest, device="cuda"))
    return load_artifact(directory)


def test_every_tensor_is_moved(made: Artifact) -> None:
    """To the device without memory: an operand that had stayed behind would be refused."""
    content = on_device(Archive(made.read_graph(), made.graph), "meta")
    program = torch.export.load(io.BytesIO(content))
    assert {part.device.type for part in program.state_dict.values()} == {"meta"}
    inputs = torch.from_numpy(IDS).to("meta"), torch.from_numpy(OFFSETS).to("meta")
    found = program.module()(*inputs)
    assert [part.device.type for part in found] == ["meta"] * 3
    assert found[0].shape == (2, made.config.output_size)


@needs_no_gpu
def test_what_was_made_on_a_gpu_runs_on_a_cpu(made: Artifact, made_on_cuda: Artifact) -> None:
    with pytest.raises(Exception, match=r"CUDA|cuda"):  # as it is, torch does not load it
        torch.export.load(io.BytesIO(made_on_cuda.read_graph()))
    expected = open_runner(made).run(IDS, OFFSETS)
    for device in ("auto", "cpu"):
        runner = open_runner(made_on_cuda, device)
        assert runner.device == "cpu"
        found = runner.run(IDS, OFFSETS)
        np.testing.assert_array_equal(found.embeddings, expected.embeddings)
    told = FORMATS["torch-export"].load().runs_here(made_on_cuda)
    assert told.startswith("on cpu, made on cuda: ")


@needs_no_gpu
def test_a_device_that_is_not_there_is_refused(made: Artifact) -> None:
    with pytest.raises(ExportError, match=r"device cuda was asked for, but .*: use device cpu"):
        open_runner(made, "cuda")


def test_tokens_are_read_only_where_they_are_asked_for(made: Artifact) -> None:
    runner = open_runner(made)
    assert runner.run(IDS, OFFSETS, tokens=False).token_embeddings is None
    states = runner.run(IDS, OFFSETS).token_embeddings
    assert states is not None
    assert states.shape == (8, made.config.vector_size)


def test_damaged_members_are_named(made: Artifact) -> None:
    archive = Archive(made.read_graph(), made.graph)
    broken = archive.rewritten({CONFIGS[0]: b"{"})
    with pytest.raises(ArtifactError, match=r"model_weights_config\.json is damaged"):
        on_device(Archive(broken, made.graph), "cpu")
