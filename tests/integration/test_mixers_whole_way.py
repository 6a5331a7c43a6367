"""Every mixer goes the whole way: trained by ``osa train``, saved, served, exported, inspected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.export.manifest import load_artifact
from osa.export.runner import embed_sequences, open_runner
from osa.model import EmbeddingModel
from osa.model.common.directories import PRETRAINED
from osa.model.layers.mixers import MIXERS
from osa.model.layers.mixers.rectangle import RectangleMixer
from osa.service.cli import main
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.eager import EagerEngine
from tests.conftest import make_tiny_model

NEW = [name for name, kind in MIXERS.items() if issubclass(kind, RectangleMixer)]
RECIPE = f"""
objective = "contrastive"
tokenizer = "{PRETRAINED}/tokenizer.json"
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
ffn_size = 64
max_seq_len = 16
[data]
files = ["DIR/pairs.jsonl"]
max_tokens = 16
cache = "DIR/cache"
[optimizer]
steps = 3
batch_size = 8
warmup = 1
"""


def train(directory: Path, *settings: str) -> Path:
    """Train a tiny model as ``osa train`` does; returns its checkpoint."""
    pairs = [{"anchor": f"text {n}", "positive": f"the text {n} again"} for n in range(32)]
    (directory / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (directory / "recipe.toml").write_text(RECIPE.replace("DIR", str(directory)))
    output = directory / "model"
    options = [part for setting in settings for part in ("--set", setting)]
    config = ["--config", str(directory / "recipe.toml"), "--output", str(output), "--quiet"]
    assert main(["train", *config, *options]) == 0
    return output


@pytest.mark.parametrize("name", NEW)
def test_a_mixer_is_trained_and_served(
    name: str, tmp_path: Path, serve: Callable[..., httpx.Client]
) -> None:
    checkpoint = train(tmp_path, f"model.mixer={name}")
    client = serve(model__path=checkpoint, model__engine="eager")
    answer = client.post("/embed", json={"inputs": ["the text 7 again", "text"]})
    assert answer.status_code == 200, answer.text
    expected = EmbeddingModel.from_pretrained(checkpoint).encode(["the text 7 again", "text"])
    np.testing.assert_allclose(answer.json(), expected, atol=0.02)
    assert client.get("/info").json()["mixer"] == name
    assert is_batch_invariant(EagerEngine(checkpoint, "cpu", dtype="float32"), batches=6)


def test_a_hybrid_with_convolutions_and_a_grid_goes_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], serve: Callable[..., httpx.Client]
) -> None:
    changes = ("model.local_conv=3", "model.grid_width=5")
    checkpoint = train(tmp_path, 'model.mixer=["circulant", "osa"]', *changes)
    assert EmbeddingModel.from_pretrained(checkpoint).config.mixers == ("circulant", "osa")
    client = serve(model__path=checkpoint, model__engine="eager")
    assert client.get("/info").json()["mixer"] == "circulant, osa"
    assert client.post("/embed", json={"inputs": "a text"}).status_code == 200
    capsys.readouterr()
    assert main(["inspect", str(checkpoint)]) == 0
    assert '"local_conv": 3' in capsys.readouterr().out


@pytest.mark.parametrize(("name", "grid_width"), [*((name, 0) for name in NEW), ("circulant", 3)])
def test_a_mixer_is_exported_to_standard_operators(
    name: str, grid_width: int, tmp_path: Path
) -> None:
    """With the parity grid that every export runs."""
    sizes = {"num_layers": 1, "max_seq_len": 12, "grid_width": grid_width}
    model = make_tiny_model(mixer=name, **sizes)
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "artifact"
    asked = ["--model", str(tmp_path / "model"), "--format", "onnx", "--output", str(output)]
    assert main(["export", *asked]) == 0
    artifact = load_artifact(output)
    assert artifact.manifest.layout == "padded"
    rows = [np.array([1, 2, 3]), np.array([4]), np.arange(8)]
    vectors, _, _ = embed_sequences(open_runner(artifact), artifact.manifest, rows)
    expected = model.embed_ids([row.tolist() for row in rows]).embeddings.detach()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tssa", "prism"])
def test_what_cannot_be_had_is_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(mixer=(name, "osa")).save_pretrained(tmp_path / "model")
    asked = ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "artifact")]
    assert main(["export", "--format", "onnx", "--layout", "packed", *asked]) != 0
    said = capsys.readouterr().err
    assert f"a {name}, osa mixer has no packed graph" in said
    assert "layout padded" in said
    assert not (tmp_path / "artifact").exists()
