"""Handwritten digits as patches: trained and served by real processes; exported and served."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from osa.export.formats import FORMATS
from osa.model import EmbeddingModel
from osa.model.common.requirements import has_compiler
from osa.service.cli import main
from tests.docs.feature_examples import documented, documented_config
from tests.server_process import OSA, running_server

HELD_OUT = 400
LEAST_ACCURACY = 0.9
"""Of the nearest neighbour of a digit that was not seen; chance is 0.1."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    """2 x 2 patches of every digit [n, 16, 4], and what it shows [n], in random order."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = np.stack([documented("patches")(image / 16, 2) for image in found.images[order]])
    return images, found.target[order]


def write_lines(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    lines = (
        json.dumps({"features": image.tolist(), "label": int(label)})
        for image, label in zip(images, labels, strict=True)
    )
    file.write_text("\n".join(lines))


def osa(*arguments: str | Path, folder: Path) -> None:
    done = subprocess.run([*OSA, *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def check(client: httpx.Client, backend: str, images: np.ndarray) -> np.ndarray:
    """Vectors of a server that runs this engine."""
    info = client.get("/info").json()
    assert (info["backend"], info["input_kind"]) == (backend, "features")
    assert info["feature_size"] == images.shape[2]
    body: dict[str, Any] = {"inputs": images.tolist(), "encoding_format": "bytes"}
    answer = client.post("/embed", json=body)
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<f4").reshape(len(images), -1)


def accuracy(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Share of the held-out digits whose nearest neighbour among the others shows the same."""
    nearest = (vectors[:HELD_OUT] @ vectors[HELD_OUT:].T).argmax(axis=1)
    return float((labels[HELD_OUT:][nearest] == labels[:HELD_OUT]).mean())


def test_digits_are_trained_exported_and_served(
    tmp_path: Path, serve: Callable[..., httpx.Client]
) -> None:
    images, labels = digits()
    write_lines(tmp_path / "held_out.jsonl", images[:HELD_OUT], labels[:HELD_OUT])
    write_lines(tmp_path / "train.jsonl", images[HELD_OUT:], labels[HELD_OUT:])
    config = documented_config()
    assert tomllib.loads(config)["model"]["max_seq_len"] == images.shape[1]
    (tmp_path / "digits.toml").write_text(config)
    cache = f"data.cache='{tmp_path}/cache'"
    osa("train", "--config", "digits.toml", "--output", "model", "--set", cache,
        "--quiet", folder=tmp_path)  # fmt: skip
    checkpoint = tmp_path / "model"
    assert json.loads((checkpoint / "training.json").read_text())["held_out"]["accuracy"] > 0.9
    expected = EmbeddingModel.from_pretrained(checkpoint).encode_features(list(images)).numpy()
    settings = {"OSA_MODEL__PATH": str(checkpoint), "OSA_MODEL__DTYPE": "float32"}
    with (
        running_server(tmp_path / "eager.log", **settings) as (_, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        found = {"eager": check(client, "eager", images)}
    for kind, entry in FORMATS.items():
        if kind != "aoti" or has_compiler():
            artifact = str(tmp_path / kind)
            asked = ["--format", kind, "--model", str(checkpoint), "--output", artifact]
            assert main(["export", *asked]) == 0
            client = serve(model__path=artifact, model__dtype="float32")
            found[entry.engine] = check(client, entry.engine, images)
    for backend, vectors in found.items():
        np.testing.assert_allclose(vectors, expected, atol=1e-5, err_msg=backend)
        assert accuracy(vectors, labels) > LEAST_ACCURACY
