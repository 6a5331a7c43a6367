"""A tiny model of features, and sequences for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.conftest import make_tiny_model

WIDTH, LONGEST = 3, 12
GENERATOR = np.random.default_rng(0)
SEQUENCES = [GENERATOR.standard_normal((n, WIDTH), dtype=np.float32) for n in (1, 5, 12, 3)]
INPUTS = [rows.tolist() for rows in SEQUENCES]


def save_feature_model(directory: Path) -> Path:
    model = make_tiny_model(vocab_size=None, feature_size=WIDTH, max_seq_len=LONGEST)
    model.save_pretrained(directory)
    return directory


def embed(client: httpx.Client, inputs: Any, path: str = "/embed", **fields: Any) -> np.ndarray:
    answer = client.post(path, json={"inputs": inputs, **fields})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), dtype=np.float32)


def tensor(elements: np.ndarray, name: str = "features", **changes: Any) -> dict[str, Any]:
    datatype = "FP32" if name == "features" else "INT64"
    shape, data = list(elements.shape), elements.ravel().tolist()
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **changes}
