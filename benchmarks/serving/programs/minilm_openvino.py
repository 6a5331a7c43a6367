"""MiniLM in OpenVINO, in 8 bits by NNCF, as their documentation does it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch
from transformers import AutoModel

from benchmarks.serving.programs.minilm import INPUTS, pool

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""Hint of what is not in 8 bits."""
CALIBRATION_BATCHES, SEED = 100, 0


def _file_of(path: str, dtype: str) -> Path:
    name = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]
    kind = "int8" if dtype == "int8" else "float32"
    return Path(tempfile.gettempdir()) / f"minilm-{os.getuid()}-{name}-{kind}.xml"


def _convert(path: str) -> Any:
    load: Any = AutoModel.from_pretrained
    model = load(path, attn_implementation="sdpa").eval()
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in INPUTS}
    return openvino.convert_model(model, example_input=example)


def _examples() -> list[dict[str, np.ndarray]]:
    """Random token ids of many lengths: what matters is the range of the activations."""
    generator = np.random.default_rng(SEED)
    found = []
    for _ in range(CALIBRATION_BATCHES):
        ids = generator.integers(1000, 30000, (1, int(generator.integers(8, 200))))
        ids[:, 0], ids[:, -1] = 101, 102
        values = (ids, np.ones_like(ids), np.zeros_like(ids))
        found.append(dict(zip(INPUTS, values, strict=True)))
    return found


def model_of(path: str, dtype: str) -> Path:
    """OpenVINO's form of the model in ``path``, written at the first call."""
    file = _file_of(path, dtype)
    if file.is_file():
        return file
    model = _convert(path)
    if dtype == "int8":
        model = nncf.quantize(
            model, nncf.Dataset(_examples()), model_type=nncf.ModelType.TRANSFORMER
        )
    openvino.save_model(model, file, compress_to_fp16=False)
    return file


class OpenVinoMiniLM:
    """In OpenVINO, one stream."""

    def __init__(self, path: str, dtype: str) -> None:
        """Compile the model in ``path``; ``dtype`` is ``float32``, ``bfloat16`` or ``int8``."""
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": int(os.environ.get("OMP_NUM_THREADS", "1")),
            "NUM_STREAMS": 1,
        }
        compiled = openvino.Core().compile_model(str(model_of(path, dtype)), "CPU", options)
        self._request = compiled.create_infer_request()

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """See ``Encoder``."""
        hidden = self._request.infer(dict(batch))[0]
        return pool(hidden, batch["attention_mask"])
