"""Directories that would hang, kill or fill a process are refused in one line, quickly."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from osa.model.checkpoint import write_manifest
from osa.model.errors import CheckpointError, ConfigError, OsaError
from osa.service.engines.selection import select_engine
from osa.service.model_settings import ModelSettings
from tests.conftest import ArtifactMaker
from tests.transformer_models import make

PATIENCE_S = 20
ROOM = 8 << 30
"""Memory that a test may take beside what its process has [bytes]."""
SPOILERS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
    "holes": lambda path: (path.touch(), os.truncate(path, 1 << 40))[0],  # type: ignore[func-returns-value]
}


@contextmanager
def bounded() -> Iterator[None]:
    """An alarm against waiting, and a limit against filling the memory."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("the directory was not refused in time")

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def refused(directory: Path, engine: str = "auto") -> str:
    """The line that says why it is not served."""
    with bounded(), pytest.raises(OsaError) as caught:
        select_engine(ModelSettings.model_validate({"path": directory, "engine": engine}))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_no_file_of_any_model_is_read_unseen(
    make_artifact: ArtifactMaker, tiny_checkpoint: Path, tmp_path: Path, spoiler: str
) -> None:
    make(tmp_path / "bert", "bert")
    sources = {"checkpoint": tiny_checkpoint, "artifact": make_artifact("onnx")}
    sources["transformer"] = sources["library"] = tmp_path / "bert"
    for kind, source in sources.items():
        for file in sorted(path.name for path in source.iterdir()):
            if kind in ("transformer", "library") and file not in (
                "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
            ):  # fmt: skip
                continue
            directory = shutil.copytree(source, tmp_path / f"{kind}-{spoiler}-{file}")
            (directory / file).unlink()
            SPOILERS[spoiler](directory / file)
            refused(directory, "sentence-transformers" if kind == "library" else "auto")


@pytest.mark.parametrize(
    "field",
    ["vocab_size", "hidden_size", "num_layers", "num_heads", "ffn_size", "embedding_size",
     "token_types", "position_buckets", "global_every"],
)  # fmt: skip
@pytest.mark.parametrize("value", [4000, 10**9, 10**30])
def test_sizes_that_cannot_be_are_refused_before_anything_is_built(
    tiny_checkpoint: Path, tmp_path: Path, field: str, value: int
) -> None:
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    values = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**values, field: value}))
    write_manifest(directory)
    if field == "global_every" and value == 4000:  # without local layers it means nothing
        return
    assert "config.json" in refused(directory) or "model.safetensors" in refused(directory)


def test_a_model_of_transformers_with_a_billion_layers_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    values = json.loads((tmp_path / "bert/config.json").read_text())
    text = json.dumps({**values, "num_hidden_layers": 10**9})
    (tmp_path / "bert/config.json").write_text(text)
    refused(tmp_path / "bert")


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "vocab_size"])
def test_a_library_model_of_a_billion_is_refused(tmp_path: Path, field: str) -> None:
    make(tmp_path / "bert", "bert")
    values = json.loads((tmp_path / "bert/config.json").read_text())
    (tmp_path / "bert/config.json").write_text(json.dumps({**values, field: 10**9}))
    assert "not refused in time" not in refused(tmp_path / "bert", "sentence-transformers")


def test_a_table_of_embeddings_that_is_mostly_not_finite_stops_a_model(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    weights = load_file(directory / "model.safetensors")
    table = weights["encoder.embed.weight"]
    table[:] = 3e38
    table[1] = 1.0
    save_file(weights, directory / "model.safetensors")
    write_manifest(directory)
    from osa.service.models.loader import ModelLoader
    from osa.service.observability.metrics import Families
    from tests.conftest import local_settings

    settings = local_settings(model__path=directory)
    with pytest.raises((ConfigError, CheckpointError), match="trial input"):
        ModelLoader(settings, Families()).load(settings.named("a"))
